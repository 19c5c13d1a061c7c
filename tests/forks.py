"""Running something in a fork of this process, and hearing what came of it."""

from __future__ import annotations

import os
import select
import signal
import warnings
from collections.abc import Callable

LIMIT_S = 20.0


class Fork:
    """A fork that runs `work`, says what that gives or raises, and stays until `end`."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._reader, writer = os.pipe()
        stay, self._end = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork where there are threads
            self.pid = os.fork()
        if not self.pid:
            try:
                os.close(self._end)
                try:
                    said = str(work())
                except BaseException as error:
                    said = f"{type(error).__name__}: {error}"
                os.write(writer, said.encode())
                os.read(stay, 1)
            finally:
                os._exit(0)
        os.close(writer)
        os.close(stay)
        self.said = self._hear()

    def _hear(self) -> str:
        readable, _, _ = select.select([self._reader], [], [], LIMIT_S)
        if not readable:
            os.kill(self.pid, signal.SIGKILL)
        return os.read(self._reader, 1 << 16).decode() if readable else "it hangs"

    def end(self) -> None:
        """End it, and wait for it."""
        os.close(self._end)
        os.close(self._reader)
        os.waitpid(self.pid, 0)


def in_fork(work: Callable[[], object]) -> str:
    """Run `work` in a fork; give what it gave, or the error that it raised, as text."""
    fork = Fork(work)
    fork.end()
    return fork.said


def outcome(work: Callable[[], object]) -> str:
    """Give the text of what `work` gives, or of the error that it raises."""
    try:
        return str(work())
    except Exception as error:
        return f"{type(error).__name__}: {error}"
