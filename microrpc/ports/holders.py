"""Who has a port open, as far as this user may see, and this system tells (Linux does)."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator

_LONGEST_LOOK_S = 0.1  # of processor time: a computer may have very many processes, or a process files
_MASTERS = ("/dev/ptmx", "/dev/pts/ptmx")


def holders(port: str) -> str:
    """Tell who has the port open, as far as this user may see, and the remedy: the end of a sentence."""
    found = [_describe(pid) for pid in _find(port)]
    is_ours = any(name.startswith("microrpc ") for name in found)
    share = f" `microrpc share {port}` lets several programs use one board." if is_ours else ""
    return (
        f"{', '.join(found) or 'another program'}: close it (`fuser {port}` names it). "
        f"If it is ModemManager, which probes new ports, wait some seconds, or stop it.{share}"
    )


def others(port: str) -> str:
    """Name the other programs that have the port open; "" where there is none to be seen.

    Whoever has the other end of a pty is none of them, nor who has started it: they keep the line from hanging up.
    """
    found = [pid for pid in _find(port) if pid != os.getpid()]
    number = _pty_number(port)
    if found and number is not None:
        lenders = {one for pid in _processes() if _has_other_end(pid, number) for one in (pid, *_ancestors(pid))}
        found = [pid for pid in found if pid not in lenders]
    return ", ".join(map(_describe, found))


def is_pty(port: str) -> bool:
    """Whether a port is a pty, and no serial line of any hardware."""
    path = os.path.realpath(port)
    return path.startswith("/dev/pts/") or re.fullmatch(r"/dev/ttys\d+", path) is not None


def is_our_pty(port: str) -> bool:
    """Whether a port is a pty whose other end this very program has, so that it ends with the program."""
    number = _pty_number(port)
    return number is not None and _has_other_end(os.getpid(), number)


def _pty_number(port: str) -> int | None:
    number = os.path.realpath(port).removeprefix("/dev/pts/")
    return int(number) if number.isascii() and number.isdigit() else None


def _find(port: str) -> Iterator[int]:
    """Give the processes that have the port open, the youngest first."""
    path = os.path.realpath(port)
    is_numbered = _pty_number(port) is not None
    with contextlib.suppress(OSError):
        ours = os.stat(path)
        for pid in _processes():
            for fd in _files_of(pid, path):
                with contextlib.suppress(OSError):
                    theirs = os.stat(fd)
                    # A container has ptys of its own, of the same names and numbers.
                    if theirs.st_rdev == ours.st_rdev and (not is_numbered or theirs.st_dev == ours.st_dev):
                        yield pid
                        break


def _processes() -> Iterator[int]:
    """Give all processes, the youngest first, as long as looking at them does not take too long."""
    give_up_at = time.thread_time() + _LONGEST_LOOK_S
    with contextlib.suppress(OSError):
        for pid in sorted(map(int, filter(str.isdigit, os.listdir("/proc"))), reverse=True):
            yield pid
            if time.thread_time() > give_up_at:
                return


def _ancestors(pid: int) -> Iterator[int]:
    """Give who has started a process, who has started that, and so on."""
    with contextlib.suppress(OSError):
        while pid:
            with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as status:
                parent = re.search(r"^PPid:\s*(\d+)$", status.read(), re.MULTILINE)
            pid = int(parent[1]) if parent else 0
            yield pid


def _files_of(pid: int, *paths: str) -> Iterator[str]:
    """Give where the open files of a process that have one of these paths are described."""
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for fd in os.listdir(folder):
            with contextlib.suppress(OSError):
                if os.readlink(f"{folder}/{fd}") in paths:
                    yield f"{folder}/{fd}"


def _has_other_end(pid: int, number: int) -> bool:
    for fd in _files_of(pid, *_MASTERS):
        with contextlib.suppress(OSError), open(fd.replace("/fd/", "/fdinfo/"), encoding="utf-8") as info:
            if re.search(rf"^tty-index:\s*{number}$", info.read(), re.MULTILINE):
                return True
    return False


def _describe(pid: int) -> str:
    name = "this program" if pid == os.getpid() else "a program"
    if pid != os.getpid():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
            name = comm.read().strip()
    return f"{name} (process {pid})"
