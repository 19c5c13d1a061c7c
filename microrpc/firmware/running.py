"""Running a compiler: it, and what it starts, never outlives who waits for it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import threading
import time
from collections.abc import Sequence

from microrpc.errors import FirmwareError

_LOOK_S = 0.1  # between two looks at whether it is still wanted
_GONE_S = 5.0  # how long what was killed may take to be gone


def run(
    command: Sequence[str],
    directory: pathlib.Path | None,
    timeout_s: float,
    stop: threading.Event | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `command` to its end, and give what it said; set `stop` in another thread to have it ended.

    Raises FirmwareError where it cannot be started, takes longer than `timeout_s` seconds, or was stopped. Then, and
    where this is interrupted, all that it has started is killed.
    """
    end = time.monotonic() + timeout_s
    try:
        process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # it has processes of its own, which one signal then reaches
        )
    except OSError as error:
        raise FirmwareError(f"{command[0]} cannot be started: {error.strerror}") from error
    is_done = False
    try:
        while True:
            try:
                said, errors = process.communicate(timeout=max(min(_LOOK_S, end - time.monotonic()), 0))
            except subprocess.TimeoutExpired:
                if stop is not None and stop.is_set():
                    raise FirmwareError(f"{' '.join(command[:4])} ... was ended: nobody waits for it") from None
                if time.monotonic() >= end:
                    raise FirmwareError(
                        f"{' '.join(command[:4])} ... was ended: it took longer than {timeout_s:g} s"
                    ) from None
                continue
            is_done = True
            return subprocess.CompletedProcess(command, process.returncode, said, errors)
    finally:
        if not is_done:
            _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_GONE_S)
