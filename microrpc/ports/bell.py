"""What wakes a thread that waits for a port: its descriptor is waited for beside the port's."""

from __future__ import annotations

import contextlib
import select
import socket


def wait_any(fds: list[int], timeout_s: float) -> list[int]:
    """Wait until some of the descriptors can be read, for so many seconds at most; give those, all if one is closed."""
    if min(fds) < 0:  # it was closed
        return fds
    if not hasattr(select, "poll"):  # Windows
        try:
            return select.select(fds, [], [], max(timeout_s, 0.0))[0]
        except (OSError, ValueError):  # closed by another thread
            return fds
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(max(timeout_s, 0.0) * 1e3)]


class Bell:
    """Rung from any thread, heard by one that waits; it goes on ringing until it is cleared."""

    def __init__(self) -> None:
        self._heard, self._rung = socket.socketpair()
        self._heard.setblocking(False)
        self._rung.setblocking(False)

    def fileno(self) -> int:
        """Give what can be read while it rings; -1 once it is closed."""
        return self._heard.fileno()

    def ring(self) -> None:
        """Wake who waits, or who will."""
        with contextlib.suppress(OSError):  # it is closed, or rings as much as it can
            self._rung.send(b"\0")

    def clear(self) -> None:
        """Be silent again."""
        with contextlib.suppress(OSError):
            while self._heard.recv(4096):
                pass

    def wait(self, timeout_s: float) -> bool:
        """Wait until it rings, but no longer than so many seconds; tell whether it does."""
        return wait_any([self._heard.fileno()], timeout_s) != []

    def close(self) -> None:
        """Give its descriptors back. Closing twice is fine."""
        self._heard.close()
        self._rung.close()
