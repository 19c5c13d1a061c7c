"""A port as a loop wants it that waits for descriptors, whatever kind of port it is."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Final, Protocol

from microrpc.ports.channel import READ_BYTES, Channel, interrupt
from microrpc.ports.fd import FdChannel

LAST_S: Final = 0.5
"""How long a board may take for what it is sent at the end, in seconds."""
_WRITE_S = 10.0
_STEP_S = 0.1  # how soon a thread that reads notices that it is wanted no more


class Line(Protocol):
    """The port, as a loop sees it that waits for descriptors."""

    def fileno(self) -> int:
        """Give what can be read when something has arrived."""

    def read(self, deadline: float) -> bytes:
        """Give what has arrived, and do not wait where the deadline is over. Raises PortLostError."""

    def write_some(self, data: bytes | memoryview) -> int:
        """Hand over what is taken at once. Raises PortLostError."""

    def close(self) -> None:
        """Release the port."""


def line_of(channel: Channel) -> Line:
    """Give the channel as a line: itself, or with threads at it where it has no descriptor."""
    return channel if isinstance(channel, FdChannel) else LineByThreads(channel)


class LineByThreads:
    """A channel that no descriptor tells of: one thread reads it, and one writes to it.

    They have the far end of a pair of sockets, whose near end can be waited for.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)
        self._near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, READ_BYTES)  # who writes is held up soon
        self._lost: Exception | None = None
        self._is_open = True
        self._reader, self._writer = (
            threading.Thread(target=self._run, args=(pass_on,), name=f"microrpc {what}", daemon=True)
            for pass_on, what in ((self._read_on, "reading"), (self._write_on, "writing"))
        )
        self._reader.start()
        self._writer.start()

    def fileno(self) -> int:
        """See `Line`."""
        return self._near.fileno()

    def _run(self, pass_on: Callable[[], None]) -> None:
        try:
            pass_on()
        except Exception as error:  # whoever waits is to know of it, whatever it is
            self._lost = self._lost or error
            with contextlib.suppress(OSError):
                self._far.shutdown(socket.SHUT_WR)

    def _read_on(self) -> None:
        while self._is_open:
            if data := self._channel.read(self._channel.now() + _STEP_S):
                self._far.sendall(data)

    def _write_on(self) -> None:
        while data := self._far.recv(READ_BYTES):
            self._channel.write(data, self._channel.now() + _WRITE_S)

    def read(self, deadline: float) -> bytes:
        """See `Line`."""
        try:
            data = self._near.recv(READ_BYTES)
        except BlockingIOError:
            return b""
        if not data and self._lost is not None:
            raise self._lost
        return data

    def write_some(self, data: bytes | memoryview) -> int:
        """See `Line`."""
        try:
            return self._near.send(data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """See `Line`; what was handed over still goes to the board, as far as it takes it within `LAST_S`.

        Closing twice is fine.
        """
        if not self._is_open:
            return
        self._near.shutdown(socket.SHUT_WR)
        self._writer.join(LAST_S)
        self._is_open = False
        self._near.close()
        interrupt(self._channel)
        self._reader.join()
        self._channel.close()
        self._writer.join(LAST_S)  # one that its port never lets go of ends with the program
        self._far.close()
