"""Running a program, as a compiler or a flasher: it, and what it starts, never outlives who waits for it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from microrpc.errors import FirmwareError, reason_of

_LOOK_S = 0.1  # between two looks at whether it is still wanted
_GONE_S = 5.0  # how long what was killed may take to be gone
_MOST_SAID_BYTES = 2**20  # of what it said: the end
_MOST_KEPT_BYTES = 2**28  # of what it said, on the disk


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a program: what it said on stdout and on stderr, its end where that is very much.

    `code` is its exit code; where it did not end by itself, `code` is None, and `reason` says why in words.
    """

    stdout: str = ""
    stderr: str = ""
    code: int | None = None
    reason: str = ""

    @property
    def failure(self) -> str:
        """How it failed, in words that follow its name; "" where it ended with 0."""
        if self.reason or not self.code:
            return self.reason
        if self.code > 0:
            return f"ended with {self.code}"
        try:
            return f"was killed by {signal.Signals(-self.code).name}"
        except ValueError:
            return f"was killed by the signal {-self.code}"


def run(
    command: Sequence[str],
    directory: pathlib.Path | None,
    timeout_s: float,
    stop: threading.Event | None = None,
) -> Ran:
    """Run `command` to its end, and give what it said; set `stop` in another thread to have it ended.

    Raises FirmwareError where it cannot be started, takes longer than `timeout_s` seconds, or was stopped. Then, and
    where this is interrupted, all that it has started is killed.
    """
    ran = try_to_run(command, directory, timeout_s, stop)
    if ran.reason:
        is_started = ran.reason.startswith("was ended")
        shown = f"{' '.join(command[:4])} ..." if is_started else command[0]
        raise FirmwareError(f"{shown} {ran.reason}")
    return ran


def try_to_run(
    command: Sequence[str],
    directory: pathlib.Path | None,
    timeout_s: float,
    stop: threading.Event | None = None,
) -> Ran:
    """Do as `run` does, but give what was said where it fails, too, and why it did."""
    # What it says goes to files: a program that it leaves running would keep a pipe open.
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        try:
            process = subprocess.Popen(
                command,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,  # it has processes of its own, which one signal then reaches
            )
        except OSError as error:
            return Ran(reason=f"cannot be started: {reason_of(error)}")
        reason = ""
        try:
            reason = _wait(process, timeout_s, stop, (stdout, stderr))
        finally:
            if process.returncode is None:
                _kill(process)
        return Ran(_end_of(stdout), _end_of(stderr), None if reason else process.returncode, reason)


def _wait(
    process: subprocess.Popen[bytes], timeout_s: float, stop: threading.Event | None, said: Sequence[IO[bytes]]
) -> str:
    """Wait for the end; give why it was not waited for, "" where it ended."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            process.wait(max(min(_LOOK_S, deadline - time.monotonic()), 0))
        except subprocess.TimeoutExpired:
            if stop is not None and stop.is_set():
                return "was ended: nobody waits for it"
            if time.monotonic() >= deadline:
                return f"was ended: it took longer than {timeout_s:g} s"
            if sum(os.fstat(file.fileno()).st_size for file in said) > _MOST_KEPT_BYTES:
                return f"was ended: it said more than {_MOST_KEPT_BYTES >> 20} MiB"
        else:
            return ""


def _end_of(said: IO[bytes]) -> str:
    size_bytes = said.seek(0, os.SEEK_END)
    said.seek(max(size_bytes - _MOST_SAID_BYTES, 0))
    return said.read(_MOST_SAID_BYTES).decode("utf-8", "replace")


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GONE_S)
