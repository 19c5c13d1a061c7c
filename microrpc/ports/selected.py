"""A channel over a socket where there is no `select.poll`: Windows."""

from __future__ import annotations

import contextlib
import select
import socket
from typing import NoReturn

from microrpc.errors import PortLostError
from microrpc.host.uncopyable import CONNECT_THERE, uncopyable
from microrpc.ports.bell import Bell, wait_any
from microrpc.ports.channel import (
    MOST_KEPT_BYTES,
    READ_BYTES,
    lost_error,
    monotonic,
    take_kept,
    write_timeout_error,
)

_LONGEST_WAIT_S = 1e6


class SocketChannel:
    """A channel over a connected socket, which it closes. Deadlines are kept to about 16 ms, the clock of Windows."""

    can_be_polled = True
    """See `microrpc.ports.aio.PolledChannel`."""
    now = staticmethod(monotonic)

    def __init__(self, name: str, connection: socket.socket) -> None:
        self.name = name
        """See `Channel.name`."""
        self._connection = connection
        self._kept = bytearray()  # what arrived while a write waited
        connection.setblocking(False)

    __reduce_ex__ = uncopyable(CONNECT_THERE)

    @property
    def is_open(self) -> bool:
        """Whether the port is held."""
        return self._connection.fileno() >= 0

    def __repr__(self) -> str:
        return f"<SocketChannel {self.name}{' closed' if self._connection.fileno() < 0 else ''}>"

    def read(self, deadline: float) -> bytes:
        """See `Channel.read`."""
        if self._kept:
            return take_kept(self._kept)
        while True:
            if self._wait([], deadline) and (data := self._receive()):
                return data
            if monotonic() >= deadline:
                return b""

    def _wait(self, to_write: list[socket.socket], deadline: float) -> bool:
        """Wait until something can be read, or written where that is asked; give whether something can be read."""
        to_read = [self._connection] if len(self._kept) < MOST_KEPT_BYTES else []
        try:
            return bool(select.select(to_read, to_write, [], _wait_s(deadline))[0])
        except (OSError, ValueError) as error:  # ValueError: it was closed by another thread
            self._raise_lost(error)

    def _receive(self) -> bytes:
        try:
            data = self._connection.recv(READ_BYTES)
        except BlockingIOError:  # somebody else took it
            return b""
        except OSError as error:
            self._raise_lost(error)
        if not data:
            self._raise_lost(None)
        return data

    def write(self, data: bytes, deadline: float) -> None:
        """See `Channel.write`."""
        done, view = 0, memoryview(data)
        while (done := done + self.write_some(view[done:])) < len(data):
            if monotonic() >= deadline:
                raise write_timeout_error(self.name, done, len(data))
            if self._wait([self._connection], deadline):
                self._kept += self._receive()

    def write_some(self, data: bytes | memoryview) -> int:
        """Hand over what the system takes at once, and give how many bytes that was. Raises PortLostError."""
        try:
            return self._connection.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._raise_lost(error)

    def wait_readable(self, timeout_s: float, bell: Bell) -> bool:
        """See `microrpc.ports.channel.WaitingChannel.wait_readable`."""
        fd = self._connection.fileno()
        return bool(self._kept) or fd in wait_any([fd, bell.fileno()], timeout_s)

    def set_modem_lines(self, *, dtr: bool | None = None, rts: bool | None = None) -> bool:
        """See `SerialChannel.set_modem_lines`: a socket has none."""
        if self._connection.fileno() < 0:
            self._raise_lost(None)
        return False

    def close(self) -> None:
        """Release the port."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _raise_lost(self, error: Exception | None) -> NoReturn:
        if self._connection.fileno() < 0:
            raise PortLostError(self.name, f"{self.name} was closed by this program") from None
        raise lost_error(self.name, str(error) if error else None) from error


def _wait_s(deadline: float) -> float:
    return min(max(deadline - monotonic(), 0), _LONGEST_WAIT_S)
