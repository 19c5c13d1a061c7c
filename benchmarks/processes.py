"""The other processes of a measurement: each prints the path of its pty, and ends with its standard input.

This must run wherever a peer does: nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_START_S = 60.0


@contextlib.contextmanager
def child(module: str, *args: str, python: str = sys.executable) -> Iterator[str]:
    """Run a module of ours in a process of its own; give the path of its pty."""
    command = [python, "-m", module, *args]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            ready, _, _ = select.select([process.stdout], [], [], _START_S)
            path = process.stdout.readline().decode().strip() if ready else ""
            if not path:
                raise RuntimeError(f"{module} {' '.join(args)} did not start")
            yield path
        finally:
            process.stdin.close()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()


def exit_with_stdin(end: Callable[[], None] = lambda: os._exit(0)) -> None:
    """Call `end` from a thread when the standard input ends."""

    def wait() -> None:
        sys.stdin.buffer.read()
        end()

    threading.Thread(target=wait, daemon=True).start()
