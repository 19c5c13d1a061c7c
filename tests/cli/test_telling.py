"""What commands tell of a line: --capture, --trace and --verbose, on each of those that open a board."""

from __future__ import annotations

import logging
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import run, run_json

from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.capture.pcapng import Packet, read_blocks
from microrpc.capture.trace import Trace
from microrpc.cli.telling import with_trace_values

BOARD = profile("loopback")


def read(file: Path) -> list[Packet]:
    with file.open("rb") as stream:
        return list(read_blocks(stream))


def kinds(file: Path) -> list[str]:
    trace = Trace()
    for one in read(file):
        trace.note(one.time_ns / 1e9, one.data, to_board=bool(one.to_board))
    return [frame.kind for frame in trace.frames]


def help_of(*command: str) -> str:
    return str(run(*command, "--help").out)


@pytest.mark.parametrize(
    "command",
    [
        *("info", "functions", "call", "events", "get", "put", "stubs", "log", "reset", "share", "demo", "sim"),
        *("model info", "model run", "model profile", "model validate", "tvm serve", "firmware flash"),
    ],
)
def test_every_command_that_opens_a_board_can_tell_of_its_line(command: str) -> None:
    text = help_of(*command.split())
    for option in ("--capture FILE", "--trace [=FILE]", "--verbose"):
        assert option in text
    assert re.search(r"(?<!-)-v\b", text)


@pytest.mark.parametrize(
    "command", ["ports", "boards", "firmware list", "firmware build", "tvm build", "capture", "monitor"]
)
def test_a_command_that_opens_none_does_not_say_that_it_could(command: str) -> None:
    text = help_of(*command.split())
    assert "Usage" in text
    assert "--capture FILE" not in text


def test_what_writes_a_capture_anyhow_shows_frames_and_says_what_it_does_too() -> None:
    text = help_of("capture")
    for option in ("--write", "--trace [=FILE]", "--verbose"):
        assert option in text


# --- --capture --------------------------------------------------------------------------------


def test_a_command_is_captured(tmp_path: Path) -> None:
    file = tmp_path / "x.pcapng"
    assert run("call", "sim://", "add", 2, 3, "--capture", file).out == "5\n"
    assert kinds(file)[0] == "TERMINATE"
    assert "CALL" in kinds(file)
    assert {one.interface for one in read(file)} == {"sim://"}


@pytest.mark.parametrize("command", [("info", "sim://"), ("functions", "sim://"), ("model", "info", "sim://")])
def test_it_is_so_whatever_the_command_does(tmp_path: Path, command: tuple[str, ...]) -> None:
    file = tmp_path / "x.pcapng"
    run(*command, "--capture", file)
    assert "REPLY" in kinds(file)


def test_the_demonstration_has_its_noisy_line_in_the_capture(tmp_path: Path) -> None:
    file = tmp_path / "x.pcapng"
    assert run("demo", "--capture", file).code == 0
    comments = {text.partition(" at byte ")[0] for one in read(file) for text in one.comments}
    assert {"fault: flip", "fault: reset", "sent again by the link"} <= comments
    assert len({one.interface for one in read(file)}) == 2


def test_a_capture_that_cannot_be_written_is_told_before_the_port_is_opened(tmp_path: Path) -> None:
    ran = run("info", "/dev/there-is-none", "--capture", tmp_path)
    assert (ran.code, ran.err) == (6, f"error: cannot write the capture {tmp_path}: it is a directory\n")
    ran = run("info", "sim://", "--capture", "-")
    assert (ran.code, ran.out) == (2, "")
    assert "what this command prints goes there; name a file, or >(PROGRAM)" in ran.err
    ran = run("info", "unix:///tmp/none.sock", "--capture", tmp_path / "x")
    assert ran.code == 5
    assert "capture where the board is (`microrpc share --capture FILE`" in ran.err


@pytest.mark.parametrize("command", ["share", "tvm serve"])
def test_a_board_that_many_use_is_captured_where_it_is(tmp_path: Path, command: str) -> None:
    file = tmp_path / "x.pcapng"
    where = ["--socket", str(tmp_path / "s")] if command == "share" else ["--listen", "127.0.0.1:0"]
    with PtyServer(simulate(BOARD)) as server:
        args = [sys.executable, "-m", "microrpc.cli", *command.split(), server.path, *where, "--capture", str(file)]
        child = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert child.stdout is not None
            url = child.stdout.readline().strip()
            if command == "share":
                assert run("call", url, "add", 2, 3).out == "5\n"
            child.send_signal(signal.SIGTERM)
            child.communicate(timeout=30)
        finally:
            child.kill()
            child.communicate()
    assert {one.interface for one in read(file)} == {server.path}
    assert ("CALL" if command == "share" else "REPLY") in kinds(file)


@pytest.mark.parametrize("where", ["pty", "tcp"])
def test_a_simulated_board_that_is_served_is_captured_and_shown(tmp_path: Path, where: str) -> None:
    file, trace = tmp_path / "x.pcapng", tmp_path / "trace"
    args = [sys.executable, "-m", "microrpc.cli", "sim", "--capture", str(file), f"--trace={trace}", "-v"]
    args += ["--tcp", "0"] if where == "tcp" else ["--fault", 'kind = "flip", at = [60], direction = "to-host"']
    child = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        path = child.stdout.readline().strip()
        assert run("call", path, "add", 2, 3).out == "5\n"
        child.send_signal(signal.SIGTERM)
        _, err = child.communicate(timeout=30)
    finally:
        child.kill()
        child.communicate()
    assert child.returncode == 0
    packets = read(file)
    assert {one.interface for one in packets} == {path}
    assert [one.to_board for one in packets].count(True) > 5
    assert "CALL" in kinds(file)
    assert "add(2, 3)" in trace.read_text()
    speed = "as slow as its line, 115200 baud" if where == "pty" else "as fast as it can answer"
    assert f"{path}: a simulated loopback, {speed}\n" in err
    assert re.search(rf"{path}: closed; it received \d+ frames\n", err)
    comments = {text for one in packets for text in one.comments}
    assert ("fault: flip at byte 60 to the host" in comments) is (where == "pty")


# --- --trace ----------------------------------------------------------------------------------


def test_a_trace_shows_each_frame_in_words() -> None:
    ran = run("call", "sim://", "add", "--trace", -2, 5)
    assert ran.out == "3\n"
    assert any(
        line.startswith("sim:// ") and " CALL  " in line and "add(-2, 5)" in line for line in ran.err.splitlines()
    )


def test_a_trace_goes_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "t.txt"
    assert run_json("call", "sim://", "add", 2, 3, f"--trace={file}")["result"] == 5
    assert "add(2, 3)" in file.read_text()
    ran = run("info", "sim://", f"--trace={tmp_path}/none/x")
    assert ran.code == 6
    assert "--trace: cannot write" in ran.err


def test_one_file_is_not_both_a_trace_and_a_capture(tmp_path: Path) -> None:
    file, link = tmp_path / "x", tmp_path / "link"
    link.symlink_to(file)
    for other in (file, link):
        result = run("call", "sim://", "noop", f"--trace={file}", "--capture", other)
        assert (result.code, result.err) == (2, f"error: --trace={file} and --capture {other}: it cannot be both\n")
        assert not file.exists()


def test_a_trace_takes_nothing_else_for_its_file() -> None:
    assert with_trace_values(["info", "--trace", "sim://"]) == ["info", "--trace=-", "sim://"]
    assert with_trace_values(["call", "--", "--trace"]) == ["call", "--", "--trace"]
    assert run("call", "--trace", "sim://", "add", 2, 3).out == "5\n"


def test_a_trace_that_finds_no_room_ends_and_the_command_goes_on() -> None:
    ran = run("call", "sim://", "add", 2, 3, "--trace=/dev/full")
    assert (ran.code, ran.out) == (0, "5\n")
    assert ran.err == "warning: --trace: it ends here: No space left on device\n"


# --- --verbose --------------------------------------------------------------------------------


def test_what_is_done_is_said() -> None:
    ran = run("call", "-v", "sim://", "add", 2, 3)
    first, second, last = ran.err.splitlines()
    assert first.startswith("sim://: open; board profile loopback")
    assert second.startswith("sim://: session 0x")
    assert last.startswith("sim://: closed; link of 8 requests; answered: ")
    assert ran.out == "5\n"


def test_what_a_board_logs_is_not_said_twice() -> None:
    ran = run("call", "sim://", "log", "hello", "--verbose")
    assert ran.err.count("hello") == 1


@pytest.mark.parametrize(
    ("args", "out"),
    [
        (["sim://", "add", "-2", "5"], "3\n"),
        (["sim://", "echo_str", "-v"], "-v\n"),
        (["-v", "sim://", "echo_str", "-v"], "-v\n"),
        (["--board", "loopback", "-v", "sim://", "add", "-2", "5"], "3\n"),
        (["sim://", "-v", "echo_str", "-h"], "-h\n"),
    ],
)
def test_arguments_of_a_function_may_look_like_options(args: list[Any], out: str) -> None:
    ran = run("call", *args)
    assert ran.out == out
    assert bool(ran.err) == ("-v" in args[:-1])


def test_nothing_is_left_of_it_when_the_command_is_over(tmp_path: Path) -> None:
    loggers = [logging.getLogger(name) for name in ("microrpc", "microrpc.wire")]
    before = [(one.level, list(one.handlers)) for one in loggers]
    run("call", "sim://", "add", 2, 3, "-v", "--trace", "--capture", tmp_path / "x")
    run("call", "/dev/there-is-none", "add", 2, 3, "--verbose", "--trace", "--capture", tmp_path / "x")
    assert [(one.level, list(one.handlers)) for one in loggers] == before
    assert run("call", "sim://", "add", 2, 3).err == ""


def test_the_commands_of_the_document_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parent.parent.parent / "docs" / "capture.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    microrpc ((?:call|info) sim://.*)$", text, flags=re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        assert run(*command.split()).code == 0
    assert "CALL" in kinds(tmp_path / "x.pcapng")
    assert "REPLY" in (tmp_path / "frames.txt").read_text(encoding="utf-8")
