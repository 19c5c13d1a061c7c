"""The command line as a shell runs it: processes, pipes and signals."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import needs
import pytest
import typer.main
from processes import COMMAND, first_line, run, serve

from firmware_sim.board.clock import VirtualClock
from firmware_sim.line.uart import UartLine
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate, uart_of
from microrpc.boards.catalogue import profile
from microrpc.cli.commands import app
from microrpc.cli.signals import StoppedError, until_signal


def test_the_demonstration_in_a_pipe_is_plain_text_and_exits_with_0() -> None:
    result = run("demo")
    assert (result.returncode, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    assert "\r" not in result.stdout
    assert not any(line != line.rstrip() for line in result.stdout.splitlines())
    assert result.stdout.splitlines()[-1].startswith("all ")


def test_a_simulated_board_serves_one_process_after_another(tmp_path: Path) -> None:
    link, data = tmp_path / "board", tmp_path / "data"
    data.write_bytes(bytes(range(256)) * 20)
    with serve("--link", link, "--board", "nucleo_f746zg") as server:
        assert first_line(server) == str(link)
        info = run("info", link)
        assert (info.returncode, info.stderr) == (0, "")
        assert run("call", link, "add", "-2", "3").stdout == "1\n"
        put = run("put", link, data)
        address, size, _ = put.stdout.split()
        get = run("get", link, address, size, tmp_path / "back")
        assert get.returncode == 0
        assert (tmp_path / "back").read_bytes() == data.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_simulated_board_and_removes_its_link(tmp_path: Path, number: signal.Signals) -> None:
    link = tmp_path / "board"
    with serve("--link", link) as server:
        assert first_line(server) == str(link)
        assert link.is_symlink()
        server.send_signal(number)
        assert server.wait(timeout=10) == 0
        assert not link.is_symlink()


ENDLESS = ("sim", "share", "log", "events", "capture", "firmware run")


def commands_of(group: Any) -> dict[str, Any]:
    found: dict[str, Any] = group.commands
    return found


def test_the_endless_commands_are_those_whose_help_says_so() -> None:
    commands = dict(commands_of(typer.main.get_command(app)))
    commands.update({f"firmware {name}": each for name, each in commands_of(commands.pop("firmware")).items()})
    saying = {name for name, each in commands.items() if "until ctrl-c" in " ".join((each.help or "").lower().split())}
    assert saying == set(ENDLESS)
    said = " ".join((Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8").split())
    listed = ", ".join(f"`{name}`" for name in ENDLESS)
    assert f"A command that goes on until it is ended ({listed}) is done then" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", ENDLESS)
def test_a_command_that_goes_on_until_it_is_ended_is_done_then(
    tmp_path: Path, command: str, number: signal.Signals
) -> None:
    needs.zig()
    device = simulate(profile("loopback"))
    device.log("for `log` to print")
    with PtyServer(device) as server:
        args: dict[str, list[object]] = {
            "sim": ["--link", tmp_path / "board"],
            "share": [server.path, "--socket", tmp_path / "socket"],
            "capture": [server.path, "--write", tmp_path / "x.pcapng"],
            "firmware run": ["posix"],
        }
        with subprocess.Popen(
            [*COMMAND, *command.split(), *map(str, args.get(command, [server.path]))],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if command in ("capture", "events") else subprocess.DEVNULL,
            text=True,
        ) as process:
            try:
                if command == "events":
                    wait_for(lambda: device._events._credit_bytes > 0 or process.poll() is not None)
                    assert process.poll() is None, process.communicate()[0]
                else:
                    assert first_line(process)
                process.send_signal(number)
                assert process.wait(timeout=20) == 0
            finally:
                process.kill()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_file_in_the_place_of_the_link_is_left_alone(tmp_path: Path) -> None:
    link = tmp_path / "board"
    link.write_text("precious")
    result = run("sim", "--link", link)
    assert (result.returncode, result.stdout) == (3, "")
    assert "is no link" in result.stderr
    assert link.read_text() == "precious"


def test_an_error_is_one_line_on_stderr() -> None:
    result = run("call", "sim://", "fail")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: fail: this function always fails\n"


def copied(server: PtyServer) -> bool:
    """Whether the board has got some of a copy: then its allocation was answered, too."""
    memory = server.device.memory
    return any(memory.view(address, 1)[0] == ord("x") for address in list(memory.blocks))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_middle_of_a_copy_gives_the_boards_memory_back(tmp_path: Path, number: signal.Signals) -> None:
    loopback = dataclasses.replace(profile("loopback"), baud=230400)
    line = UartLine(simulate(loopback, clock=VirtualClock()), uart_of(loopback))
    data = tmp_path / "data"
    data.write_bytes(b"x" * 60_000)  # 2.6 s
    with PtyServer(line) as server:
        process = subprocess.Popen([*COMMAND, "put", server.path, data], stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 20
        while not copied(server) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        assert process.communicate(timeout=20)[1] == ""
        assert process.returncode == 128 + number
        assert not server.device.memory.blocks


def raise_signals() -> None:
    signal.raise_signal(signal.SIGHUP)
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_that_is_ignored_stays_ignored_and_the_others_stop_once() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(StoppedError) as caught, until_signal():
            raise_signals()
        assert caught.value.number == signal.SIGTERM
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, before)
