"""What the command line prints to: full, closed, gone, or of few characters; and no traceback for any of it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run
from processes import COMMAND

from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.cli import commands, common, literals, streams
from microrpc.errors import RemoteError

NO_SPACE = "error: cannot write to stdout: No space left on device\n"
needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
needs_shell = pytest.mark.skipif(os.name != "posix", reason="needs a shell that closes streams")


def shell(redirected: str, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command with its streams as a shell redirects them."""
    line = f'exec "$@" {redirected}'
    return subprocess.run(
        ["/bin/sh", "-c", line, "sh", *COMMAND, *args],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **environment},
        encoding="utf-8",
    )


@needs_full
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_full_output_is_one_message(option: str) -> None:
    result = shell(">/dev/full", option)
    assert (result.returncode, result.stderr) == (6, NO_SPACE)


@needs_shell
def test_a_closed_output_is_one_message_and_no_port_takes_its_number() -> None:
    result = shell(">&-", "call", "sim://", "add", "2", "3")
    assert (result.returncode, result.stderr) == (6, "error: cannot write to stdout: Bad file descriptor\n")


@needs_shell
@pytest.mark.parametrize("redirected", ["<&- 2>&-", "2>/dev/full"])
def test_messages_that_nobody_can_read_change_nothing(redirected: str) -> None:
    result = shell(redirected, "call", "sim://", "log", "x")
    assert (result.returncode, result.stdout, result.stderr) == (0, "none\n", "")


@needs_shell
def test_with_all_streams_closed_the_exit_code_is_left() -> None:
    assert shell("<&- >&- 2>&-", "call", "sim://", "fail").returncode == 1


@needs_shell
@pytest.mark.parametrize("command", ["boards", "--help"])
def test_a_reader_that_has_gone_ends_a_command_silently(command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        result = subprocess.run([*COMMAND, command], stdout=writing, stderr=subprocess.PIPE, timeout=30, check=False)
    finally:
        os.close(writing)
    assert (result.returncode, result.stderr) == (141, b"")


def test_a_terminal_without_the_characters_is_shown_escapes() -> None:
    text = "\N{GREEK SMALL LETTER MU}C"
    result = shell("", "call", "sim://", "echo_str", text, PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stdout, result.stderr) == (0, "\\u03bcC\n", "")
    as_json = shell("", "call", "sim://", "echo_str", text, "--json", PYTHONIOENCODING="latin-1")
    assert json.loads(as_json.stdout)["result"] == text


# --- Ctrl-C ---------------------------------------------------------------------------------------


@needs_shell
@pytest.mark.parametrize("module", ["typer", "microrpc.connecting.blocking"])
def test_ctrl_c_while_modules_load_ends_it_silently(module: str) -> None:
    program = f"""
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.argv = ["microrpc", "call", "sim://", "add", "2", "3"]
from microrpc.cli import main
main()
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


@needs_shell
def test_the_command_line_begins_with_little_so_that_ctrl_c_is_seen_to_early() -> None:
    program = "import sys, microrpc.cli; print(sorted(name for name in sys.modules if name in sys.argv))"
    slow = ["asyncio", "contextlib", "numpy", "rich", "serial", "typer", "typing"]
    # -S: what others start with Python is not ours.
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run(
        [sys.executable, "-S", "-c", program, *slow],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env=environment,
    )
    assert ran.stdout == "[]\n"


@needs_shell
@pytest.mark.parametrize("where", ["settle", "prepare"])
def test_ctrl_c_before_and_after_a_command_ends_it_silently(where: str) -> None:
    program = f"""
import os, signal, sys
from microrpc.cli import main, streams

original = streams.{where}
def interrupted():
    original()
    os.kill(os.getpid(), signal.SIGINT)

streams.{where} = interrupted
sys.argv = ["microrpc", "--version"]
main()
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stdout != "", result.stderr) == (130, where == "settle", "")


# --- a wrong command line -------------------------------------------------------------------------


def as_program(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    """Run the command line as the installed program does, but in this process; give its exit code."""
    monkeypatch.setattr(sys, "argv", ["microrpc", *args])
    return commands.run()


def test_a_wrong_command_line_is_told_as_json_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for args, message in (
        (("info", "sim://", "--json", "--zzz"), "No such option: --zzz"),
        (("call", "--json"), "Missing argument 'PORT'."),
        (("share", "sim://", "--json"), "No such option: --json"),
    ):
        assert as_program(monkeypatch, *args) == 2
        out, err = capsys.readouterr()
        assert (json.loads(out), err) == ({"error": {"type": "UsageError", "message": message}}, "")


def test_a_wrong_command_line_is_told_how_the_command_is_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert as_program(monkeypatch, "call", "--", "--json") == 2  # which is an argument there
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Usage: ")
    assert err.endswith("\n\nError: Missing argument 'NAME'.\n")


@needs_full
def test_a_wrong_command_line_that_cannot_be_told_has_its_exit_code() -> None:
    assert shell("2>/dev/full", "bogus").returncode == 2


# --- what the computer cannot do ------------------------------------------------------------------


def no_memory(*args: object) -> None:
    raise MemoryError("Unable to allocate 36.4 TiB")


def no_thread(*args: object) -> None:
    raise RuntimeError("can't start new thread")


def no_permission(*args: object) -> None:
    raise PermissionError(13, "Permission denied", "locked/x.npy")


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        (no_memory, "this computer's memory does not suffice: Unable to allocate 36.4 TiB"),
        (no_thread, "this computer's memory does not suffice: can't start new thread"),
        (no_permission, "locked/x.npy: Permission denied"),
    ],
)
def test_what_the_computer_cannot_do_is_one_message(fail: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(literals, "parse_literal", fail)
    result = run("call", "sim://", "add", "2")
    assert (result.code, result.out, result.err) == (6, "", f"error: {message}\n")
    as_json = run("call", "sim://", "add", "2", "--json")
    assert (as_json.code, json.loads(as_json.out)["error"]["message"]) == (6, message)


@pytest.mark.parametrize("name", ["out.npy", "out.bin"])
def test_get_leaves_the_old_file_when_the_disk_is_full(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_that_old_files_stay(tmp_path / name, ("get", "{port}", "{address}", "16", tmp_path / name), monkeypatch)


def test_call_leaves_the_old_file_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.npy"
    check_that_old_files_stay(path, ("call", "sim://", "iota", "4", "--out", f"result={path}"), monkeypatch)
    check_that_old_files_stay(path, ("call", "sim://", "iota", "4", "--save", tmp_path), monkeypatch)


def check_that_old_files_stay(path: Path, args: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    (path.parent / "data").write_bytes(bytes(16))
    path.write_bytes(b"old")
    with PtyServer(simulate(profile("loopback"))) as server:
        address = run("put", server.path, path.parent / "data").out.split()[0]
        args = tuple(str(arg).format(port=server.path, address=address) for arg in args)
        assert run(*args).code == 0
        path.write_bytes(b"old")
        written: list[Any] = []

        def fail(descriptor: int) -> None:
            written.append(os.fstat(descriptor).st_size)
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            result = run(*args)
    assert written >= [16]
    assert (result.code, result.err) == (6, f"error: cannot write {path}: No space left on device\n")
    assert path.read_bytes() == b"old"
    assert sorted(each.name for each in path.parent.iterdir()) == sorted(["data", path.name])


@needs_full
def test_numpy_names_the_reason_too() -> None:
    result = run("call", "sim://", "iota", "4", "--out", "result=/dev/full")
    assert (result.code, result.err) == (6, "error: cannot write /dev/full: No space left on device\n")


@needs_shell
def test_get_to_stdout_is_the_bytes_alone(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"all of it")
    with PtyServer(simulate(profile("loopback"))) as server:
        address = run("put", server.path, tmp_path / "data").out.split()[0]
        command = [*COMMAND, "get", server.path, address, "9", "/dev/stdout"]
        result = subprocess.run(command, capture_output=True, timeout=30, check=True)
    assert result.stdout == b"all of it"
    assert result.stderr.startswith(b"/dev/stdout 9 uint8[9]\n")


@needs_shell
def test_an_array_saved_to_stdout_is_there_alone() -> None:
    command = [*COMMAND, "call", "sim://", "relu_f32", "tensor:float32[2]", "--out", "1=/dev/stdout"]
    result = subprocess.run(command, capture_output=True, timeout=30, check=True)
    assert np.load(io.BytesIO(result.stdout)).tolist() == [0, 0]
    assert result.stderr == b"none\nargument 1: float32[2] 0 0  (min 0, max 0, mean 0)\n"


@needs_shell
def test_what_is_saved_to_a_pipe_that_nobody_reads_ends_silently() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [*COMMAND, "call", "sim://", "relu_f32", "tensor:float32[2]", "--out", "1=/dev/stdout"]
    try:
        result = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=30, check=False)
    finally:
        os.close(writing)
    assert (result.returncode, result.stderr) == (141, b"")


@needs_shell
@pytest.mark.parametrize(
    "args",
    [
        ("get", "no such port", "0x20000000", "4", "/dev/stdout"),
        ("call", "no such port", "iota", "1", "--out", "result=/dev/stdout"),
        ("firmware", "build", "posix", "--out", "/dev/stdout"),
    ],
)
def test_json_and_a_file_are_not_mixed_on_stdout(args: tuple[str, ...]) -> None:
    result = shell("", *args, "--json")
    told = "/dev/stdout is what --json prints to: leave one of them out"
    assert (result.returncode, result.stderr) == (2, "")
    assert json.loads(result.stdout) == {"error": {"type": "UsageError", "message": told}}


# --- what a board says ----------------------------------------------------------------------------


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


NASTY = "a\x1b[2Jb\x07\x9b\N{RIGHT-TO-LEFT OVERRIDE}\tc"
SHOWN = "a\\x1b[2Jb\\x07\\x9b\\u202e\tc"


def test_json_on_a_terminal_is_valid_and_has_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, value = Terminal(), {"result": "\x1b[2J\x9b\u202e\U000e0001\tµ"}
    monkeypatch.setattr(sys, "stdout", terminal)
    common.print_json(value)
    shown = terminal.getvalue()
    assert shown == '{\n  "result": "\\u001b[2J\\u009b\\u202e\\udb40\\udc01\\tµ"\n}\n'
    assert json.loads(shown) == value


def test_a_terminal_is_shown_escapes_and_a_program_gets_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, expected in ((Terminal(), SHOWN), (io.StringIO(), NASTY)):
        monkeypatch.setattr(sys, "stdout", stream)
        streams.say(f"{NASTY}\nmore")
        assert stream.getvalue() == f"{expected}\nmore\n"


def test_the_log_of_a_board_is_lines_of_its_own() -> None:
    text = f"{NASTY}\r\nerror: not of this program\r\n"
    result = run("call", "sim://", "log", f"str:{text}")
    shown = SHOWN.replace("\t", "\\t")
    assert result.err == f"board: {shown}\nboard: error: not of this program\n"


def test_an_error_shows_what_the_board_said_with_escapes() -> None:
    error = RemoteError(NASTY, function="f")
    assert str(error) == f"f: {SHOWN}"
    assert error.message == NASTY
    result = run("call", "sim://", f"str{NASTY}")
    assert "\x1b" not in result.err
    assert "\\x1b[2J" in result.err
