"""Who has a port open, as far as this user may see, and this system tells (Linux does)."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator

_LONGEST_LOOK_S = 0.1  # of processor time: a computer may have very many processes, or a process files
_LONGEST_WAIT_S = 10.0
_INFO_BYTES = 4096  # more than is told of an open file
_TTY_INDEX = re.compile(rb"^tty-index:\s*(\d+)$", re.MULTILINE)
_MASTERS = ("/dev/ptmx", "/dev/pts/ptmx")
_MASTER = 5 << 8 | 2  # the device that both are


def holders(port: str) -> str:
    """Tell who has the port open, as far as this user may see, and the remedy: the end of a sentence."""
    pids = list(_find(port))
    if len(pids) > 1 and (number := _pty_number(port)) is not None:  # one may be the board, which is not to be closed
        pids = _without(pids, _looks.share().other_ends.get(number, ())) or pids
    found = [_describe(pid) for pid in pids]
    who = "" if found else f" (`fuser {port}` names it)"
    modem = " If it is ModemManager, which probes new ports, wait some seconds, or stop it."
    may_be_modem = not found or any(name.startswith("ModemManager ") for name in found)
    is_ours = any(name.startswith("microrpc ") for name in found)
    share = f" `microrpc share {port}` lets several programs use one board." if is_ours else ""
    return f"{', '.join(found) or 'another program'}: close it{who}.{modem if may_be_modem else ''}{share}"


def others(port: str) -> str:
    """Name the other programs that have the port open; "" where there is none to be seen.

    Whoever has the other end of a pty is none of them, nor who has started it: they keep the line from hanging up.
    """
    look = _looks.share()
    found = list(_of_port(port, look.files.get(os.path.realpath(port), ())))
    number = _pty_number(port)
    if found and number is not None:
        found = _without(found, look.other_ends.get(number, ()))
    if found and is_our_pty(port):
        found = _without(found, [os.getpid()])
    return ", ".join(map(_describe, found))


def is_pty(port: str) -> bool:
    """Whether a port is a pty, and no serial line of any hardware."""
    path = os.path.realpath(port)
    return path.startswith("/dev/pts/") or re.fullmatch(r"/dev/ttys\d+", path) is not None


def is_our_pty(port: str) -> bool:
    """Whether a port is a pty whose other end this very program has, so that it ends with the program."""
    number = _pty_number(port)
    if number is None:
        return False
    # It may have a thousand ports open: this asks the system for each as little as can be.
    with contextlib.suppress(OSError):
        for fd in map(int, os.listdir("/proc/self/fd")):
            with contextlib.suppress(OSError):
                if os.fstat(fd).st_rdev == _MASTER and _other_end(f"/proc/self/fdinfo/{fd}") == number:
                    return True
    return False


class _Look:
    """What the other programs have open. What this one has is left out: that may be very much."""

    def __init__(self) -> None:
        self.files: dict[str, list[tuple[int, str]]] = {}
        """By its path: in which process a file is open, and where that is described."""
        self.is_done = threading.Event()

    def take(self) -> None:
        for pid in _processes():
            for described, path in _files_of(pid) if pid != os.getpid() else ():
                self.files.setdefault(path, []).append((pid, described))

    @functools.cached_property
    def other_ends(self) -> dict[int, list[int]]:
        """By the number of a pty: the processes that have its other end. Few ask: it takes as long as all else."""
        found: dict[int, list[int]] = {}
        for pid, described in (file for path in _MASTERS for file in self.files.get(path, ())):
            found.setdefault(_other_end(described.replace("/fd/", "/fdinfo/")), []).append(pid)
        return found


class _Looks:
    """Lets those share a look who ask at the same time. None gets one that was begun before it asked."""

    def __init__(self) -> None:
        self._lock, self._looking = threading.Lock(), threading.Lock()
        self._next: _Look | None = None

    def share(self) -> _Look:
        with self._lock:
            is_mine = self._next is None
            look = self._next = self._next or _Look()
        if not is_mine:
            look.is_done.wait(_LONGEST_WAIT_S)
            return look
        try:
            with self._looking:
                self._begin(look)
                look.take()
        finally:
            self._begin(look)
            look.is_done.set()
        return look

    def _begin(self, look: _Look) -> None:
        """Have who asks from now on wait for another one."""
        with self._lock:
            if self._next is look:
                self._next = None


_looks = _Looks()


def _look_anew() -> None:
    """In a fork: the threads that looked are gone, and what locks they held stays locked."""
    global _looks
    _looks = _Looks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_look_anew)


def _pty_number(port: str) -> int | None:
    number = os.path.realpath(port).removeprefix("/dev/pts/")
    return int(number) if number.isascii() and number.isdigit() else None


def _find(port: str) -> Iterator[int]:
    """Give the processes that have the port open, the youngest first."""
    name = os.path.realpath(port)
    yield from _of_port(port, ((pid, fd) for pid in _processes() for fd, path in _files_of(pid) if path == name))


def _of_port(port: str, files: Iterable[tuple[int, str]]) -> Iterator[int]:
    """Give the processes, each once, of those files that are the port itself: they have its path."""
    is_numbered, last = _pty_number(port) is not None, -1
    with contextlib.suppress(OSError):
        ours = os.stat(port)
        for pid, described in files:
            with contextlib.suppress(OSError):
                theirs = os.stat(described)
                # A container has ptys of its own, of the same names and numbers.
                is_same = theirs.st_rdev == ours.st_rdev and (not is_numbered or theirs.st_dev == ours.st_dev)
                if is_same and pid != last:
                    last = pid
                    yield pid


def _processes() -> Iterator[int]:
    """Give all processes, the youngest first, as long as looking at them does not take too long."""
    give_up_at = time.thread_time() + _LONGEST_LOOK_S
    with contextlib.suppress(OSError):
        for pid in sorted(map(int, filter(str.isdigit, os.listdir("/proc"))), reverse=True):
            yield pid
            if time.thread_time() > give_up_at:
                return


def _without(found: list[int], pids: Iterable[int]) -> list[int]:
    """Leave out what these processes are, and who has started them."""
    left_out = {one for pid in pids for one in (pid, *_ancestors(pid))}
    return [pid for pid in found if pid not in left_out]


def _ancestors(pid: int) -> Iterator[int]:
    """Give who has started a process, who has started that, and so on."""
    with contextlib.suppress(OSError):
        while pid:
            with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as status:
                parent = re.search(r"^PPid:\s*(\d+)$", status.read(), re.MULTILINE)
            pid = int(parent[1]) if parent else 0
            yield pid


def _files_of(pid: int) -> Iterator[tuple[str, str]]:
    """Give where each open file of a process is described, and its path."""
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for fd in os.listdir(folder):
            with contextlib.suppress(OSError):
                yield f"{folder}/{fd}", os.readlink(f"{folder}/{fd}")


def _other_end(described: str) -> int:
    """Give the number of the pty whose other end a file is, by its description; -1 where that is not told."""
    with contextlib.suppress(OSError):
        fd = os.open(described, os.O_RDONLY)  # there may be thousands: a file of Python's takes three times as long
        try:
            told = _TTY_INDEX.search(os.read(fd, _INFO_BYTES))
        finally:
            os.close(fd)
        if told:
            return int(told[1])
    return -1


def _describe(pid: int) -> str:
    name = "this program" if pid == os.getpid() else "a program"
    if pid != os.getpid():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
            name = comm.read().strip()
    return f"{name} (process {pid})"
