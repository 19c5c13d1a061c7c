"""Running the commands as processes, as a shell does."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

COMMAND = (sys.executable, "-m", "microrpc.cli")


def run(*args: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run([*COMMAND, *map(str, args)], capture_output=True, text=True, timeout=30, check=False)


@contextlib.contextmanager
def serve(*args: object) -> Iterator[subprocess.Popen[str]]:
    """Run `microrpc sim`."""
    process = subprocess.Popen([*COMMAND, "sim", *map(str, args)], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


def computed_s(process: subprocess.Popen[bytes]) -> float:
    """How long a process has computed, in seconds."""
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def first_line(process: subprocess.Popen[str]) -> str:
    """Wait for the first line that it prints."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")
