"""`ports`, `boards`, `reset`, and how a board is chosen with --board and --board-file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from serial.tools.list_ports_common import ListPortInfo
from typer.testing import CliRunner

import microrpc
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards import catalogue as boards_module
from microrpc.boards.catalogue import profile
from microrpc.capture.pcapng import read_blocks
from microrpc.cli.commands import app
from microrpc.firmware.project import port_names
from microrpc.ports.fd import FdChannel

OWN = """
name = "own"
description = "My board"
baud = 921600
packet_size_bytes = 1024
heap_bytes = 4096
usb = ["1234:abcd"]
power_up_s = 0.2
[reset]
strategy = "dtr-rts"
sequence = [{ dtr = false }, { dtr = true }]
"""


def run(*args: object) -> SimpleNamespace:
    """Run a command; give its exit code, its stdout and its stderr."""
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return SimpleNamespace(code=result.exit_code, out=result.stdout, err=result.stderr)


def run_json(*args: object) -> Any:
    """Run a command with --json that must succeed; give what it prints."""
    result = run(*args, "--json")
    assert (result.code, result.err) == (0, "")
    return json.loads(result.out)


@pytest.fixture(autouse=True)
def user_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user directory in the place of the developer's own."""
    directory = tmp_path / "user_boards"
    directory.mkdir()
    monkeypatch.setattr(boards_module, "user_directory", lambda: directory)
    return directory


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A profile that lies anywhere."""
    path = tmp_path / "anything.toml"
    path.write_text(OWN)
    return path


@pytest.fixture
def server() -> Iterator[PtyServer]:
    with PtyServer(simulate(profile("loopback"))) as served:
        yield served


def plug_in(monkeypatch: pytest.MonkeyPatch, device: str, vendor_id: int, product_id: int) -> None:
    """Let the system have this port only."""
    info = ListPortInfo(device)
    info.vid, info.pid = vendor_id, product_id
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: [info])


# --- boards -------------------------------------------------------------------------------------


def test_a_board_is_shown_in_full() -> None:
    result = run("boards", "arduino_due")
    assert (result.code, result.err) == (0, "")
    for line in (
        "name             arduino_due",
        "kind             hardware",
        "maker            Arduino",
        "microcontroller  SAM3X8E (Cortex-M3)",
        "RAM              98304 bytes",
        "USB ids          2341:003d, 2a03:003d",
        "flow control     none",
        "receive ring     128 bytes",
        "timeouts         start retry 2 s, start 5 s, call 5 s, cancel 1 s",
        "reset            dtr-rts: DTR off for 0.1 s, DTR on for 0.25 s",
        "power-up         2 s at most",
        "  power_up_s is a generous guess, not measured.",
    ):
        assert line in result.out.splitlines()


def test_what_a_board_does_not_have_is_a_dash() -> None:
    lines = run("boards", "loopback").out.splitlines()
    for line in ("maker            -", "RAM              -", "USB ids          -", "reset            none"):
        assert line in lines


def test_a_board_as_json() -> None:
    shown = run_json("boards", "arduino_due")
    assert (shown["kind"], shown["usb"], shown["flow_control"]) == ("hardware", ["2341:003d", "2a03:003d"], "none")
    assert shown["timeouts"] == {"retry_s": 2.0, "start_s": 5.0, "call_s": 5.0, "cancel_s": 1.0}
    assert shown["reset"] == {
        "strategy": "dtr-rts",
        "sequence": [{"dtr": False, "rts": None, "wait_s": 0.1}, {"dtr": True, "rts": None, "wait_s": 0.25}],
    }


def test_the_list_has_the_users_own_boards_and_says_where_they_lie(user_directory: Path) -> None:
    (user_directory / "own.toml").write_text(OWN)
    listed = run_json("boards")
    assert listed["user_directory"] == str(user_directory)
    (own,) = [board for board in listed["boards"] if board["name"] == "own"]
    assert own["usb"] == ["1234:abcd"]
    assert ["own", "921600", "1024", "4096", "-", "My", "board"] in [
        line.split() for line in run("boards").out.splitlines()
    ]


def test_the_list_says_which_boards_have_firmware() -> None:
    listed = {board["name"]: board["has_firmware"] for board in run_json("boards")["boards"]}
    assert {name for name, has in listed.items() if has} == set(port_names()) & listed.keys()
    rows = [line.split() for line in run("boards").out.splitlines()[1:]]
    assert {name: cell == "yes" for name, _, _, _, cell, *_ in rows} == listed
    assert (
        "firmware         yes: `microrpc firmware new DIR --board qemu_mps2_an385`"
        in run("boards", "qemu_mps2_an385").out
    )


def test_a_board_is_shown_with_how_it_is_flashed(own: Path) -> None:
    assert "flashed by       openocd or st-flash or drive, 60 s at most\n" in run("boards", "nucleo_f746zg").out
    assert "flashed by       -\n" in run("boards", "spresense").out
    own.write_text('flash = ["mine", "a b", "{elf}"]\nflash_s = 5\n' + OWN + "\n[flashers.picotool]\n")
    assert "flashed by       mine 'a b' '{elf}' or picotool, 5 s at most\n" in run("boards", "--board-file", own).out
    shown = run_json("boards", "nucleo_f746zg")["flashers"]
    assert [(way["tool"], way.get("name")) for way in shown] == [
        *(("openocd", None), ("st-flash", None), ("drive", "NODE_F746ZG"))
    ]


def test_a_profile_of_ones_own_is_checked_and_shown(own: Path) -> None:
    assert run_json("boards", "--board-file", own)["receive_ring_bytes"] is None
    assert "not stated: one request at a time" in run("boards", "--board-file", own).out
    own.write_text(OWN.replace("921600", '"fast"'))
    result = run("boards", "--board-file", own)
    assert (result.code, result.out) == (5, "")
    assert result.err == f"error: {own}: baud: must be a whole number, not a text ('fast')\n"


def test_an_unknown_board_lists_the_known() -> None:
    result = run("boards", "arduino_duee")
    assert (result.code, result.out) == (5, "")
    assert "did you mean 'arduino_due'?" in result.err


# --- ports --------------------------------------------------------------------------------------


def test_a_users_own_board_is_named_by_its_ids(user_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (user_directory / "own.toml").write_text(OWN)
    plug_in(monkeypatch, "/dev/ttyUSB7", 0x1234, 0xABCD)
    assert run_json("ports")["ports"][0]["boards"] == ["own"]
    plug_in(monkeypatch, "/dev/ttyUSB7", 0x1234, 0xABCE)
    assert run_json("ports")["ports"][0]["boards"] == []


# --- choosing a board ---------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("info",), ("call", "noop"), ("put", "file")])
def test_a_board_file_is_taken_by_every_command(command: tuple[str, ...], own: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"123")
    name, *rest = (str(tmp_path / arg) if arg == "file" else arg for arg in command)
    assert run(name, "sim://", *rest, "--board-file", own).code == 0


def test_a_board_file_says_what_is_simulated(own: Path) -> None:
    shown = run_json("info", "sim://", "--board-file", own)
    assert (shown["profile"], shown["receive_buffer_bytes"], shown["baud"]) == ("own", 1024, 921600)
    assert run_json("demo", "--board-file", own)["board"] == "own"


def test_a_board_without_a_port_is_found(server: PtyServer, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, server.path, 0x1234, 0xABCD)
    shown = run_json("info", "--board-file", own)
    assert (shown["port"], shown["profile"]) == (server.path, "own")
    assert run_json("info", "--board", "loopback")["port"] == "sim://loopback"


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("info",), 2, "name a PORT (`microrpc ports` lists them), or the --board to look for"),
        (("info", "sim://", "--board", "loopback", "--board-file", "OWN"), 2, "--board and --board-file: give one"),
        (
            ("info", "sim://", "--board", "own.toml"),
            2,
            "--board own.toml: takes a name; a file is given with --board-file",
        ),
        (("boards", "loopback", "--board-file", "OWN"), 2, "give one of them"),
        (("info", "--board", "arduino_due"), 3, "no arduino_due is plugged in"),
        (("info", "--board-file", "EMULATED"), 3, "start the emulator"),
        (("info", "qemu://x"), 5, "there is no board profile 'qemu_x'"),
        (("info", "emulated://loopback"), 3, "microrpc has no firmware of that name to emulate"),
        (("reset", "qemu://mps2_an385"), 2, "an emulated board begins anew with every command: nothing to reset"),
        (("reset", "--board", "qemu_mps2_an385"), 2, "an emulated board begins anew with every command"),
        (("demo", "--board", "qemu_mps2_an385", "--baud", "9600"), 2, "qemu_mps2_an385 is emulated"),
        (("demo", "--board", "qemu_mps2_an385", "--real-time"), 2, "qemu_mps2_an385 is emulated"),
        (("reset",), 2, "say which board it is with --board or --board-file"),
        (("reset", "/dev/ttyACM0"), 2, "say which board it is with --board or --board-file"),
        (("reset", "unix:///run/b", "--board", "arduino_due"), 2, "unix:///run/b is a server without frames"),
        (("reset", "sim://", "--board", "arduino_due"), 2, "nothing to reset"),
        (("reset", "sim://", "--memory"), 2, "nothing to reset"),
        (("reset", "--memory"), 2, "name a PORT"),
        (("reset", "--board", "nucleo_f746zg"), 5, "nucleo_f746zg cannot be reset over its port"),
        (("reset", "--board", "arduino_due"), 3, "no arduino_due is plugged in"),
        (("reset", "/dev/no-such-port", "--board", "arduino_due"), 3, "there is no port /dev/no-such-port"),
    ],
)
def test_what_cannot_be_is_one_message(
    args: tuple[str, ...], code: int, message: str, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serial.tools.list_ports.comports", list)
    emulated = own.with_name("emulated.toml")
    emulated.write_text(OWN.replace("baud", 'kind = "emulated"\nbaud'))
    files = {"OWN": str(own), "EMULATED": str(emulated)}
    result = run(*(files.get(arg, arg) for arg in args))
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert message in result.err


# --- reset --------------------------------------------------------------------------------------


def test_reset_says_when_the_board_had_booted(server: PtyServer, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reset_on_dtr(self: FdChannel, *, dtr: bool | None = None, rts: bool | None = None) -> bool:
        if dtr:
            server.reset()
        return True

    monkeypatch.setattr(FdChannel, "set_modem_lines", reset_on_dtr)
    start = time.monotonic()
    shown = run_json("reset", server.path, "--board-file", own)
    assert 0 < shown.pop("boot_s") < time.monotonic() - start
    assert shown == {"port": server.path, "profile": "own", "strategy": "dtr-rts"}
    result = run("reset", server.path, "--board-file", own)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"own on {server.path} was reset, and had booted after ")


def test_what_the_board_says_after_its_reset_is_shown_and_captured(
    server: PtyServer, own: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def reset_on_dtr(self: FdChannel, *, dtr: bool | None = None, rts: bool | None = None) -> bool:
        if dtr:
            server.reset()
        return True

    monkeypatch.setattr(FdChannel, "set_modem_lines", reset_on_dtr)
    file = tmp_path / "x.pcapng"
    result = run("reset", server.path, "--board-file", own, "--trace", "-v", "--capture", file)
    assert result.code == 0
    first, second, *frames = result.err.splitlines()
    assert first == f"{server.path} the board is reset"
    assert second == f"{server.path}: own is reset: dtr-rts, 921600 baud"
    assert frames[0].split()[:5] == [server.path, "0.0", "ms", "<-", "board"]
    assert frames[-1].endswith("TERMINATE       I have booted")
    with file.open("rb") as stream:
        first_packet, *others = read_blocks(stream)
    assert (first_packet.comments, first_packet.to_board) == (("the board is reset",), False)
    assert len(others) == len(frames) - 1


def test_reset_says_when_the_board_kept_silent(server: PtyServer, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FdChannel, "set_modem_lines", lambda self, *, dtr=None, rts=None: True)
    plug_in(monkeypatch, server.path, 0x1234, 0xABCD)
    assert run_json("reset", "--board-file", own)["boot_s"] is None
    result = run("reset", "--board-file", own)
    assert result.code == 0
    assert result.out == f"own on {server.path} was reset, but did not say within 0.2 s that it has booted\n"


def test_reset_over_a_port_without_modem_lines_is_a_port_error(server: PtyServer, own: Path) -> None:
    result = run("reset", server.path, "--board-file", own)
    assert (result.code, result.out) == (3, "")
    assert result.err.startswith(f"error: {server.path} has no modem lines")


def test_reset_memory_frees_what_a_killed_program_left(server: PtyServer) -> None:
    with microrpc.connect(server.path) as board:
        board.array(np.zeros(1000, "uint8")).detach()
        board.array(np.zeros(200, "uint8")).detach()
    assert run_json("reset", "--memory", server.path) == {
        "port": server.path,
        "profile": "loopback",
        "freed_bytes": 1200,
    }
    result = run("reset", "--memory", server.path)
    assert (result.code, result.out, result.err) == (0, f"loopback on {server.path} has freed 0 bytes\n", "")


def test_reset_memory_of_a_board_that_cannot_says_so() -> None:
    with PtyServer(simulate(profile("loopback"), firmware="stock")) as server:
        result = run("reset", "--memory", server.path)
    assert (result.code, result.out) == (5, "")
    assert "has no function 'microrpc.release_all'" in result.err
