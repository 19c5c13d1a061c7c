"""The demonstration: it shows everything, and it notices everything."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
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
from microrpc.cli.demo import noise
from microrpc.cli.demo.screen import Screen
from microrpc.client.remote import RemoteArray
from microrpc.connecting import blocking
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


def test_the_demonstration_shows_every_part_in_full() -> None:
    result = run("demo", "--full")
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
        *NOISE.splitlines(),
    ):
        assert part in result.out
    assert "--full" not in result.out


NOISE = """\
The same on a bad line, in virtual time: 1 bit in 10,000 flips, one reset
          the line                   921600 baud; 191 of 275708 bytes damaged
  ok      500 calls                  each executed once, and answered
  ok      65536 bytes there, back    every byte as it was sent
  ok      the reset                  BoardResetError in mid-copy; array made again
  ok      lost                       nothing
          repeated                   175 sent again; 76 frames came damaged
          how fast                   64.4 kB/s, 3.01 s in all; clean 90.3 kB/s, 1.98 s
"""


def test_the_demonstration_fits_one_screen_and_ends_with_the_bad_line_which_is_always_the_same() -> None:
    result = run("demo")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert len(lines) < 24
    assert NOISE in result.out
    assert re.fullmatch(
        r"all 28 checks hold; \d+ frames, \d+ bytes in \S+ m?s; --full shows them", result.out.splitlines()[-1]
    )
    assert lines[0].startswith("microrpc demo: a simulated board, loopback, on ")
    for shown in (
        "add(2, 3)                  5",
        "every byte as it was sent",
        "relu_f32(float32[1024])    as numpy has it",
    ):
        assert shown in result.out
    assert not [part for part in ("Handshake", "On the wire", "Statistics", "TERMINATE") if part in result.out]


def test_the_bad_line_is_in_the_figures_and_its_checks_are_among_the_others() -> None:
    shown = run_json("demo", "--baud", "2000000")
    noise = shown["noise"]
    assert (noise["baud"], noise["bit_error_rate"], noise["resets"]) == (2000000, 1e-4, 1)
    assert noise["calls"] == noise["calls_executed"] == 500
    assert noise["bytes_struck"] > 100
    assert noise["sent_again"] >= noise["frames_damaged"] > 10
    assert noise["clean_goodput_bytes_s"] * 10 < 2000000
    assert noise["goodput_bytes_s"] < noise["clean_goodput_bytes_s"]
    assert noise["virtual_s"] > noise["clean_virtual_s"] > 65536 * 2 * 10 / 2000000
    names = [check["name"] for check in shown["checks"]]
    assert names[-4:] == ["500 calls", "65536 bytes there, back", "the reset", "lost"]


def test_a_bad_line_that_is_not_survived_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the link a call that was damaged on its way is an error, and the program of the demonstration ends."""
    monkeypatch.setattr(blocking, "open_board", functools.partial(blocking.open_board, link=False))
    result = run("demo")
    assert result.code == 1
    assert re.search(r"^  DIFFERS on the bad line +(DamagedReplyError|CallTimeoutError): ", result.out, re.MULTILINE)
    assert result.out.splitlines()[-1] == "1 of 25 checks fail: on the bad line"


def test_calls_that_are_executed_twice_and_bytes_that_are_wrong_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    original = noise._run

    def wrong(*args: Any, **options: Any) -> Any:
        outcome = original(*args, **options)
        return dataclasses.replace(outcome, executed=501, answers=outcome.answers[:-1], wrong_bytes=3, resets=2)

    monkeypatch.setattr(noise, "_run", wrong)
    result = run("demo")
    assert result.code == 1
    for shown in ("501 executed, 499 answered", "3 bytes differ", "2 were told", "1 of 500 calls, 3 of 65536 bytes"):
        assert shown in result.out
    assert result.out.splitlines()[-1] == ("4 of 28 checks fail: 500 calls; 65536 bytes there, back; the reset; lost")


def test_a_check_of_no_brief_part_that_fails_is_shown_with_its_title(monkeypatch: pytest.MonkeyPatch) -> None:
    change_board(monkeypatch, replace("adder", lambda n: None))
    result = run("demo")
    assert re.search(r"^  DIFFERS adder\(40\)\(2\) +.*, expected 42$", result.out, re.MULTILINE)
    change_board(monkeypatch, replace("log", no_log))
    assert "\nWhat the board says\n  DIFFERS a line of its log " in run("demo").out


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
    assert (shown["noise"]["calls_executed"], shown["noise"]["resets"]) == (500, 1)  # of a simulated one of its kind


def test_beside_an_emulated_board_the_bad_line_is_said_to_be_of_a_simulated_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = Screen(is_full=False)
    noise.show_noise(profiles()["posix"], 921600, screen, is_other=True)
    said = capsys.readouterr().out
    assert "\nA simulated one on a bad line, in virtual time: 1 bit in 10,000 flips, one reset\n" in said
    assert [check.name for check in screen.checks if check.holds][-1] == "lost"


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
    monkeypatch.setattr(noise, "show_noise", lambda profile, baud, screen, **_: {})  # which is the same each time
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
    assert [(check["name"], check["shown"]) for check in wrong] == [
        ("bytes back", "1 differ, the first is 1234"),
        ("65536 bytes there, back", "1 bytes differ"),
        ("lost", "1 of 65536 bytes"),
    ]


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
