"""What a server waits with: `select.poll`, and where there is none (Windows) `select.select`, for sockets alone."""

from __future__ import annotations

import select
import socket
from typing import Protocol

POLLIN: int = getattr(select, "POLLIN", 1)
"""The event that something can be read."""
POLLOUT: int = getattr(select, "POLLOUT", 4)
"""The event that something can be written."""

_LONGEST_WAIT_S = 0.2  # Ctrl-C does not end a select of Windows


class Poller(Protocol):
    """What is used of `select.poll`."""

    def register(self, fd: int, events: int, /) -> None:
        """Wait for `events` of a file descriptor, and for no others of it."""

    def unregister(self, fd: int, /) -> None:
        """Wait for it no more."""

    def poll(self, timeout_ms: float | None = None, /) -> list[tuple[int, int]]:
        """Give the descriptors that are ready, and what for; none when the time is over."""


class SelectPoller:
    """A `Poller` by `select.select`. A wait without a bound may end early, with nothing."""

    def __init__(self) -> None:
        self._events: dict[int, int] = {}

    def register(self, fd: int, events: int, /) -> None:
        """See `Poller`."""
        self._events[fd] = events

    def unregister(self, fd: int, /) -> None:
        """See `Poller`."""
        del self._events[fd]

    def poll(self, timeout_ms: float | None = None, /) -> list[tuple[int, int]]:
        """See `Poller`."""
        reads, writes = ([fd for fd, events in self._events.items() if events & one] for one in (POLLIN, POLLOUT))
        wait_s = _LONGEST_WAIT_S if timeout_ms is None else timeout_ms / 1e3
        can_read, can_write, _ = select.select(reads, writes, [], wait_s)
        return [*((fd, POLLIN) for fd in can_read), *((fd, POLLOUT) for fd in can_write)]


def make_poller() -> Poller:
    """Give the poller of this system."""
    return select.poll() if hasattr(select, "poll") else SelectPoller()


def make_wakers() -> tuple[socket.socket, socket.socket]:
    """Give two connected sockets: what is sent into the second wakes whoever waits for the first."""
    if hasattr(select, "poll"):
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        waker = socket.create_connection(listener.getsockname())
        return listener.accept()[0], waker
