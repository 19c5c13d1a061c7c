"""`microrpc log`: what a board says of its own accord, line by line."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
from collections.abc import Callable

import pytest
from commands import change_board, run
from processes import COMMAND, first_line

from firmware_sim.board.clock import VirtualClock
from firmware_sim.board.device import Device
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.cli.signals import StoppedError
from microrpc.errors import HandshakeTimeoutError
from microrpc.host.connection import Connection
from microrpc.host.operation import Operation


def speak(device: Device) -> None:
    """Say something of everything, as a board does when it has booted."""
    device.clock = VirtualClock(12.5)
    device.log("plain\nin two lines\r\n")
    device.log("cold", logging.DEBUG)
    device.log("\x1b[2Jhot", logging.WARNING)
    device._output += b"printed beside\n"
    device.log("[E ----.------] no clock")


def stop_after(
    monkeypatch: pytest.MonkeyPatch,
    rounds: int,
    *,
    trouble: Exception | None = None,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Press Ctrl-C when the board was listened to so often; do something `before` the first time, or have it fail."""
    listened: list[float] = []

    def listen(connection: Connection, timeout_s: float) -> Operation[object]:
        if trouble is not None and not listened:
            listened.append(timeout_s)
            raise trouble
        if len(listened) == rounds:
            raise StoppedError(signal.SIGINT)
        if not listened:
            before()
        listened.append(timeout_s)
        return original(connection, 0.05)

    original = Connection.listen
    monkeypatch.setattr(Connection, "listen", listen)


def test_each_line_has_the_boards_time_its_level_and_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    change_board(monkeypatch, speak)
    stop_after(monkeypatch, 1)
    result = run("log", "sim://")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "          -  info     plain",
        "          -  info     in two lines",
        "  12.500000  debug    cold",
        "  12.500000  warning  \\x1b[2Jhot",
        "          -  text     printed beside",
        "          -  error    no clock",
    ]
    assert logging.getLogger("microrpc.board").handlers == []


def test_lines_below_a_level_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    change_board(monkeypatch, speak)
    stop_after(monkeypatch, 1)
    result = run("log", "sim://", "--level", "warning")
    assert [line.split()[1] for line in result.out.splitlines()] == ["warning", "error"]


def test_json_is_an_object_a_line_with_the_text_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    change_board(monkeypatch, speak)
    stop_after(monkeypatch, 1)
    result = run("log", "sim://", "--json", "--level", "info")
    assert [json.loads(line) for line in result.out.splitlines()] == [
        {"board_time_us": None, "level": "info", "text": "plain"},
        {"board_time_us": None, "level": "info", "text": "in two lines"},
        {"board_time_us": 12_500_000, "level": "warning", "text": "\x1b[2Jhot"},
        {"board_time_us": None, "level": "text", "text": "printed beside"},
        {"board_time_us": None, "level": "error", "text": "no clock"},
    ]


def test_a_board_in_trouble_is_listened_to_further(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(monkeypatch, 2, trouble=HandshakeTimeoutError("no session was opened"))
    result = run("log", "sim://")
    assert (result.code, result.out) == (0, "")
    assert result.err == "no session was opened; still listening\n"


def test_a_reset_is_told_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    with PtyServer(simulate(profile("loopback"))) as server:
        stop_after(monkeypatch, 3, before=server.reset)
        result = run("log", server.path)
    assert (result.code, result.out) == (0, "")
    assert result.err == f"{server.path}: the board was reset\n"


@pytest.mark.parametrize("firmware", ["robust", "stock"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_lines_that_came_at_once(number: signal.Signals, firmware: str) -> None:
    device = simulate(profile("loopback"), firmware=firmware)  # type: ignore[arg-type]
    speak(device)
    with PtyServer(device) as server:
        command = [*COMMAND, "log", server.path, "--level", "info"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert first_line(process).split() == ["-", "info", "plain"]
            finally:
                process.send_signal(number)
            assert process.communicate(timeout=10)[1] == ""
            assert process.returncode == 0
