"""Lock files of boards: each belongs to one process at a time, of this test run or of any other of this user.

A file for each port is in `microrpc/locks` of the user's cache. The system frees what a killed process held.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from microrpc.boards.places import cache_directory
from microrpc.errors import PortBusyError, PortError, reason_of

POLL_S = 0.05
"""How often it is looked whether somebody has freed a board, in seconds."""
TURN_S = 1.0
"""How long a turn is waited for at least, in seconds: those who wait for no board have it for a moment only."""

if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> bool:
        os.lseek(fd, 2**30, os.SEEK_SET)  # behind what is written there, which others could not read
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(fd: int) -> None:
        pass  # closing it does
else:
    import fcntl

    def _lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(fd: int) -> None:
        """Closing it is not enough where a test has forked: the child has it open, too."""
        fcntl.flock(fd, fcntl.LOCK_UN)


@dataclass(frozen=True, slots=True)
class Run:
    """What this process is of a test run: `key` tells the run from others, `command` does so to people.

    `processes`: how many there are of it. `most_boards`: as many as any of its tests wants.
    """

    key: str
    command: str
    processes: int = 1
    most_boards: int = 1


class Lock:
    """The lock file of `what`: a port, or another text that says what is to have one user at a time.

    What is noted in it outlives whoever held it. Raises PortError where the file cannot be had.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        key = f"{platform.node()}\0{real_name(what)}"
        try:
            where = directory()
        except FileNotFoundError as error:
            raise PortError(what, f"{reason_of(error)}. Who uses a board is noted in a cache there") from error
        self._path = where / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
        self._fd: int | None = None

    def take(self, command: str) -> bool:
        """Take it, and note that `command` has done so; tell whether nobody else had it."""
        if self._fd is not None:
            return True
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._error("cannot be written", error) from error
        try:
            if not (_lock(fd) and self._is_file(fd)):
                os.close(fd)
                return False
        except OSError as error:  # such as a file system that has no locks
            os.close(fd)
            raise self._error("cannot be locked", error) from error
        self._fd = fd
        try:
            self.note(pid=os.getpid(), command=command)
        except PortError:
            self.free()
            raise
        return True

    def _is_file(self, fd: int) -> bool:
        """Tell whether it is the file that others find, too: somebody may have emptied the cache."""
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self._path))
        except FileNotFoundError:
            return False

    def _error(self, what: str, error: OSError) -> PortError:
        text = f"{self._path}: {what}: {reason_of(error)}. Who uses a board is noted there"
        return PortError(self.what, f"{text}: make it writable, or name another cache in XDG_CACHE_HOME")

    def free(self) -> None:
        """Let others have it. Freeing twice is fine."""
        fd, self._fd = self._fd, None
        if fd is not None:
            with contextlib.suppress(OSError):
                _unlock(fd)
            os.close(fd)

    def note(self, **values: object) -> None:
        """Write values into the file, for whoever reads them, and whoever has it next. Raises PortError."""
        assert self._fd is not None
        data = json.dumps(self.noted() | values).encode()
        os.lseek(self._fd, 0, os.SEEK_SET)
        try:
            os.write(self._fd, data)
            os.ftruncate(self._fd, len(data))
        except OSError as error:  # such as a full disk
            raise self._error("cannot be written", error) from error

    def noted(self) -> dict[str, Any]:
        """Give what is written there; nothing where that cannot be read."""
        with contextlib.suppress(OSError, ValueError):
            noted = json.loads(self._path.read_bytes())
            return noted if isinstance(noted, dict) else {}
        return {}

    @property
    def holder(self) -> str:
        """Who has it, in words."""
        noted = self.noted()
        return f"process {noted.get('pid', 'unknown')}: {noted.get('command', 'unknown')}"


def real_name(what: str) -> str:
    """Give the one name of a port that has several: links to it, and on Windows large and small letters."""
    if "://" in what or "\0" in what:
        return what
    return what.upper() if os.name == "nt" else os.path.realpath(what)


def directory() -> pathlib.Path:
    """Where lock files are, `~/.cache/microrpc/locks` on Linux. Raises FileNotFoundError where no home is known."""
    return cache_directory("locks")


@contextlib.contextmanager
def holding(lock: Lock, command: str, wait_s: float) -> Iterator[bool]:
    """Hold a lock for as long as this is open; gives whether it was had within `wait_s` seconds."""
    deadline = time.monotonic() + wait_s
    while not (has := lock.take(command)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    try:
        yield has
    finally:
        lock.free()


def turn_of(locks: Sequence[Lock]) -> Lock:
    """Give the lock of those who choose among `locks`."""
    return Lock(f"turn\0{chr(0).join(sorted(lock.what for lock in locks))}")


def take_free(locks: Sequence[Lock], count: int, command: str, wait_s: float) -> list[Lock] | None:
    """Take the first `count` of the `locks` that are free: all of them at once, or none; None after `wait_s` seconds.

    Nobody holds one and waits for more, so that nobody waits for another for ever. Who is first takes what becomes free
    first, whoever wants fewer: the others wait for their turn, at least `TURN_S` seconds: also who waits for no board
    has it only after those who look at the boards just then.
    """
    deadline = time.monotonic() + wait_s
    with holding(turn_of(locks), command, max(wait_s, TURN_S)) as has_turn:
        while has_turn:
            taken: list[Lock] = []
            for lock in locks:
                if len(taken) < count and lock.take(command):
                    taken.append(lock)
            if len(taken) == count:
                return taken
            for lock in taken:
                lock.free()
            if time.monotonic() >= deadline:
                break
            time.sleep(POLL_S)
    return None


def busy_error(locks: Sequence[Lock], count: int, command: str, wait_s: float) -> PortBusyError:
    """Give the error of who wanted `count` of the `locks`, and did not get them for `wait_s` seconds."""
    busy = [lock for lock in locks if not lock.take(command)]
    held = "; ".join(f"{lock.what} is held by {lock.holder}" for lock in busy) or "others wait for them, too"
    for lock in locks:
        lock.free()
    what = "a board" if count == 1 else f"{count} boards"
    return PortBusyError(
        locks[0].what, f"other tests did not free {what} within {wait_s:g} s (--microrpc-wait): {held}"
    )
