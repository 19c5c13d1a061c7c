"""What Windows and macOS do not have is taken away: all goes on without a board, but what needs a pty says so."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# What is only on POSIX systems, or only on Linux, fails here as it does where it is not. That holds for pyserial too,
# which has other modules on Windows, and must therefore not be needed for what is no serial port.
TAKE_AWAY = """
import os, select, signal, socket, sys

class Gone:
    names = {"termios", "fcntl", "pty", "tty", "grp", "pwd", "resource"}

    def find_spec(self, name, path=None, target=None):
        if name in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in Gone.names:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Gone())
for owner, names in (
    (os, "openpty forkpty ttyname fork".split()),
    (select, "poll epoll POLLIN POLLOUT".split()),
    (socket, ["AF_UNIX"]),
    (signal, ["SIGHUP"]),
):
    for name in names:
        delattr(owner, name)

def socketpair():  # as Windows makes one
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        return near, server.accept()[0]

socket.socketpair = socketpair
"""
COMMAND = TAKE_AWAY + "from microrpc.cli import main; main()"
# Runs several commands, and a program of a user's; says what came of each.
COMMANDS = (
    TAKE_AWAY
    + """
import contextlib, io, json
import numpy as np
import microrpc
from microrpc.cli import main

def run(args):
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["microrpc", *args]
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as error:
            code = error.code
    return [code, out.getvalue(), err.getvalue()]

url, *rest = json.loads(sys.argv[1])
ran = [run([url if arg == "URL" else arg for arg in args]) for args in rest]
with microrpc.connect(url) as board:
    data = np.arange(50_000, dtype="uint16")
    same = bool(np.array_equal(board.array(data).numpy(), data))
print(json.dumps([same, *ran]))
"""
)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, tuple[int, str, str]]:
    """What came of each of these commands; the board at URL is served by `microrpc sim --tcp`, under the same lack."""
    commands = [
        "demo",
        "call sim:// add 2 3",
        "call sim:// sleep_ms 5",
        "call URL add 2 3",
        "sim",
        "share sim://",
        "info unix:///tmp/x",
        "info emulated://posix",
        "info COM3",
        "ports",
    ]
    served = [sys.executable, "-c", COMMAND, "sim", "--tcp", "0"]
    with subprocess.Popen(served, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        order = json.dumps([url, *(command.split() for command in commands)])
        ran = subprocess.run([sys.executable, "-c", COMMANDS, order], capture_output=True, text=True, timeout=100)
        server.terminate()
    assert url.startswith("socket://127.0.0.1:")
    assert ran.stderr == ""
    same, *each = json.loads(ran.stdout)
    assert same, "what was copied over TCP"
    return dict(zip(commands, map(tuple, each), strict=True))


def test_the_demonstration_holds(outcomes: dict[str, tuple[int, str, str]]) -> None:
    code, out, err = outcomes["demo"]
    assert (code, err) == (0, "")
    assert "all 28 checks hold" in out


@pytest.mark.parametrize("command", ["call sim:// add 2 3", "call sim:// sleep_ms 5", "call URL add 2 3"])
def test_a_simulated_board_is_called_in_memory_and_over_tcp(
    outcomes: dict[str, tuple[int, str, str]], command: str
) -> None:
    assert outcomes[command] == (0, "5\n", "")


def test_a_system_that_pyserial_does_not_know_has_no_serial_port(outcomes: dict[str, tuple[int, str, str]]) -> None:
    code, out, err = outcomes["ports"]
    assert (code, err) == (0, "")
    assert out.startswith("There is no serial port here.")


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("sim", "this system has no ptys: serve the board on a TCP port (`microrpc sim --tcp 127.0.0.1:0`)"),
        ("share sim://", "this system has no Unix sockets, so no board can be shared"),
        ("info unix:///tmp/x", "unix:///tmp/x: this system has no Unix sockets, so no board can be shared"),
        ("info emulated://posix", "posix cannot be emulated on this system, which has no ptys"),
        ("info COM3", "COM3 cannot be opened: No module named 'fcntl'"),
    ],
)
def test_what_needs_more_says_so(outcomes: dict[str, tuple[int, str, str]], command: str, text: str) -> None:
    code, out, err = outcomes[command]
    assert code in (3, 5)
    assert (out, err) == ("", f"error: {text}\n")


def test_the_file_for_three_systems_names_only_what_there_is() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "This file was never run" in workflow
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    made = set(re.findall(r"run: make ([a-z-]+)", workflow))
    assert made == {"lint", "demo", "test"}
    assert made <= set(targets)
    paths = re.findall(r"(?<![\w/])(?:tests/[\w./]+|\.ci/\w+)", workflow)
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []
