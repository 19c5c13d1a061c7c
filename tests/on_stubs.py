"""Programs of ports that a computer can run, on stubs of what a board has: compiled strictly, and connected."""

from __future__ import annotations

import os
import pathlib
import pty
import subprocess
import tty
from collections.abc import Iterator
from contextlib import contextmanager

import microrpc

FIRMWARE = pathlib.Path(__file__).parent.parent / "firmware"
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")


def compile_strictly(*command: str | pathlib.Path) -> None:
    """Run a compiler in firmware/: it has nothing to say, and any warning is an error."""
    words = [*map(str, command), *WARNINGS]
    run = subprocess.run(words, capture_output=True, text=True, timeout=100, cwd=FIRMWARE)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@contextmanager
def running(program: pathlib.Path) -> Iterator[tuple[str, int]]:
    """Run `program`, whose serial port is its standard input and output; give the path of its other end, and its id."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    process = subprocess.Popen([program], stdin=master, stdout=master)
    try:
        yield os.ttyname(slave), process.pid
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)


@contextmanager
def serving(program: pathlib.Path) -> Iterator[microrpc.Client]:
    """Run `program`, and connect to it."""
    with running(program) as (port, _), microrpc.connect(port) as client:
        yield client
