"""The demonstration: it shows everything, and it notices everything."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import needs
import numpy as np
import pytest
from commands import Change, change_board, run, run_json
from devices import DEVICES, emulated_boards

from firmware_sim.board.device import Device
from firmware_sim.running.loopback import LoopbackChannel
from microrpc.boards.catalogue import profiles
from microrpc.client.remote import RemoteArray
from microrpc.connecting.blocking import open_board
from microrpc.connecting.wrap import RecordingChannel
from microrpc.serve.local import FunctionError
from microrpc.wire.session import Timeouts


def replace(name: str, function: Callable[..., Any]) -> Change:
    """Give a change that makes `function` the board's function `name`."""

    def change(device: Device) -> None:
        device.system_library[name] = function
        if name in device.functions:
            device.functions[name] = function

    return change


def test_the_demonstration_holds_and_shows_every_part() -> None:
    result = run("demo")
    assert (result.code, result.err) == (0, "")
    assert result.out.isascii()
    assert "\x1b" not in result.out
    assert "DIFFERS" not in result.out
    for part in ("Handshake", "add(2, 3)", "33 chunks of up to 2030 bytes", "every byte as it was sent", "relu_f32"):
        assert part in result.out
    for part in (
        "identity",
        'an event, "sample"',
        "1, 2, 3, 4, 5 of 5",
        "cancelled after a step",
        "EVENT",
        "PROGRESS",
        "CANCEL",
        "time_evaluator",
        "hello from the board",
        'RemoteError "fail',
        "REPLY",
        "WRITE",
        "READ",
        "checks hold",
    ):
        assert part in result.out


@pytest.mark.parametrize("name", sorted(profiles().keys() - emulated_boards()))
def test_the_demonstration_holds_on_every_board(name: str) -> None:
    shown = run_json("demo", "--board", name)
    assert shown["ok"] is True
    assert shown["board"] == name
    assert all(check["ok"] for check in shown["checks"])
    assert shown["heap_used_bytes"] == shown["copy"]["bytes"]


@pytest.mark.parametrize("name", [DEVICES[name].param() for name in emulated_boards()])
def test_the_demonstration_holds_on_every_emulated_board(name: str) -> None:
    needs.emulated(name)
    shown = run_json("demo", "--board", name)
    assert shown["ok"] is True
    assert shown["board"] == name
    assert [check["name"] for check in shown["checks"] if not check["ok"]] == []
    assert shown["heap_free_bytes"] >= profiles()[name].heap_bytes


def test_the_line_can_be_as_slow_as_a_uart() -> None:
    copy = run_json("demo", "--baud", "4000000")["copy"]
    assert copy["to_board_s"] >= copy["bytes"] * 10 / 4e6
    assert copy["from_board_s"] >= copy["bytes"] * 10 / 4e6


def no_log(text: str) -> None:
    """Say nothing."""


def raise_error(*args: object) -> None:
    """Answer with an error."""
    raise FunctionError("out of order")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (replace("add", lambda a, b: a + b + 1), "add(2, 3)"),
        (replace("add", lambda a, b: float(a + b)), "add(2, 3)"),
        (replace("fadd", raise_error), "fadd(0.5, -0.25)"),
        (replace("echo_str", lambda text: text + "!"), "echo_str"),
        (replace("reverse", lambda data: data), "reverse"),
        (replace("adder", lambda n: None), "adder"),
        (replace("relu_f32", lambda x: None), "relu_f32"),
        (replace("relu_f32", raise_error), "Tensors"),
        (replace("matmul_f32", lambda a, b, out: None), "matmul_f32"),
        (replace("log", no_log), "a line of its log"),
        (replace("fail", raise_error), "fail()"),
        (replace("work", lambda steps, step_us: steps), "progress of work"),
        (lambda device: device.functions.pop("microrpc.describe", None), "identity"),
        (replace("fail", lambda: None), "fail()"),
        (lambda device: device.memory.alloc(16), "now"),
        (lambda device: device.system_library.pop("matmul_f32", None), "Tensors"),
    ],
)
def test_a_board_that_is_wrong_is_named_and_exits_with_1(
    change: Change, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_board(monkeypatch, change)
    result = run("demo")
    assert result.code == 1
    assert "DIFFERS" in result.out
    last = result.out.splitlines()[-1]
    assert "checks fail: " in last
    assert named in last


def test_bytes_that_come_back_wrong_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = RemoteArray.numpy

    def damaged(self: RemoteArray, **options: Any) -> np.ndarray[Any, Any]:
        array = original(self, **options)
        if array.dtype == np.uint8:
            array[1234] ^= 1
        return array

    monkeypatch.setattr(RemoteArray, "numpy", damaged)
    result = run("demo", "--json")
    assert result.code == 1
    wrong = [check for check in json.loads(result.out)["checks"] if not check["ok"]]
    assert [(check["name"], check["shown"]) for check in wrong] == [("bytes back", "1 differ, the first is 1234")]


def test_a_board_that_says_nothing_exits_with_4(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "impatient.toml"
    path.write_text(
        'name = "impatient"\ndescription = "d"\nbaud = 115200\npacket_size_bytes = 2048\nheap_bytes = 4096\n'
        "[timeouts]\nstart_retry_s = 0.1\nstart_s = 0.3\n"
    )
    change_board(monkeypatch, lambda device: monkeypatch.setattr(device, "receive", lambda data: None))
    result = run("demo", "--board-file", path)
    assert result.code == 4
    assert "error: no session with the board" in result.err


def test_recorded_frames_are_put_in_words() -> None:
    device = Device()

    @device.function
    def greet(name: str) -> str:
        device.log("greeting")
        return f'"{name}"\n' + "x" * 50

    channel = RecordingChannel(LoopbackChannel(device))
    with open_board(channel, Timeouts(), link=False) as board:
        board.function("greet")("you")
        with board.array(np.zeros((2, 3), np.int8)) as array:
            array.numpy()
    said = [(frame.to_board, frame.kind, frame.meaning) for frame in channel.frames]
    assert (False, "TERMINATE", "I have booted") in said
    assert (True, "CallFunc", 'greet("you")') in said
    assert (False, "LOG", '"greeting"') in said
    assert (False, "Return", '"\\"you\\"\\n' + "x" * 31 + '..."') in said
    assert (True, "DevAllocDataWithScope", "int8[2,3], nothing") in said
    assert (True, "CopyToRemote", "6 bytes to int8[6] at 0x20000000 +0") in said
    assert (False, "CopyAck", "6 bytes") in said
    assert said[-1] == (True, "TERMINATE", "any session there was is over")
