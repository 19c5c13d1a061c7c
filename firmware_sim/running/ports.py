"""The ports that a simulated board is served on: a pty, and a TCP socket. `serve.py` lets time go on."""

from __future__ import annotations

import contextlib
import math
import os
import socket
from pathlib import Path
from typing import Protocol, TypeAlias

from firmware_sim.board.device import Device
from firmware_sim.running.polling import POLLIN, POLLOUT
from microrpc.errors import PortBusyError, PortError
from microrpc.ports.pty import HeldPty
from microrpc.ports.sockets import keep_alive

_READ_BYTES = 65536
# What a host may leave unread of a board that never stops talking, as one in a brown-out does.
_MOST_UNREAD_BYTES = 1 << 22


class Line(Protocol):
    """What connects a host to a board, its `device`, while `is_plugged`; `UartLine` is one."""

    device: Device
    is_plugged: bool

    def write(self, data: bytes, now: float) -> int:
        """Take bytes from the host; give how many there was room for."""

    def read(self, now: float) -> bytes:
        """Give what has reached the host by `now`."""

    def next_event(self) -> float | None:
        """When something happens next that may concern the host."""

    def reset(self, now: float) -> None:
        """Press the board's reset button."""


SimulatedBoard: TypeAlias = Device | Line
"""A board that answers as fast as it can, or one behind its line."""


class DirectLine:
    """A line without length: bytes are there at once. The device should live in real time (`RealClock`)."""

    is_plugged = True
    """It always is."""

    def __init__(self, device: Device) -> None:
        self.device = device
        device.interleaves = True
        self._now = 0.0

    def write(self, data: bytes, now: float) -> int:
        """See `Line`."""
        if not self.device.listens:
            return 0
        self.device.receive(data)
        return len(data)

    def read(self, now: float) -> bytes:
        """See `Line`. A long function goes on here, when all that it has said was taken."""
        self._now = now
        output = self.device.take_output()
        if output:
            return output
        self.device.go_on()
        self.device.on_time()
        return self.device.take_output()

    def next_event(self) -> float | None:
        """See `Line`."""
        if self.device.is_busy:
            return self._now
        due_s = self.device.due - self.device.clock.now()
        return self._now + max(due_s, 0.0) if due_s < math.inf else None

    def reset(self, now: float) -> None:
        """See `Line`."""
        self.device.reset()


class HostPort:
    """One end that a host can open, with the line behind it. What the host does not read holds the board up.

    Not thread-safe: from the moment it is served it belongs to the server's thread.
    """

    def __init__(self, board: SimulatedBoard) -> None:
        self.line: Line = DirectLine(board) if isinstance(board, Device) else board
        self.due = -math.inf
        """When it wants to be pumped."""
        self._unread = b""
        self._untaken = b""

    @property
    def device(self) -> Device:
        """The board."""
        return self.line.device

    @property
    def path(self) -> str:
        """What a host opens: a path, or a URL."""
        raise NotImplementedError

    @property
    def interests(self) -> dict[int, int]:
        """The file descriptors that it waits for, and their events (`polling`)."""
        raise NotImplementedError

    def serve(self, fd: int, now: float) -> None:
        """Do what one of its file descriptors is ready for."""
        raise NotImplementedError

    def close(self) -> None:
        """Release everything."""
        raise NotImplementedError

    def reset(self, now: float) -> None:
        """Press the board's reset button; what the host has not read is lost, as on a real board."""
        self._unread = b""
        self.line.reset(now)
        self.pump(now)

    def pump(self, now: float) -> None:
        """Let the line come to `now`, and send what has reached the host."""
        line = self.line
        if self._untaken:
            self._untaken = self._untaken[line.write(self._untaken, now) :]
        if output := line.read(now):
            self._send(output)
        event = line.next_event()
        self.due = math.inf if event is None else event
        if self._untaken and event is None:
            self.due = now + 0.01  # a board that stopped the host for good: ask again, at leisure

    # --- what both kinds share ---------------------------------------------------------------------

    def _events(self, fd: int) -> dict[int, int]:
        """Wait to write while something is unread, else to read, unless the line has no room."""
        if fd < 0 or (self._untaken and not self._unread):
            return {}
        return {fd: POLLOUT if self._unread else POLLIN}

    def _take(self, data: bytes, now: float) -> None:
        taken = self.line.write(data, now)
        if taken < len(data):
            self._untaken = data[taken:]
        self.pump(now)

    def _send(self, output: bytes) -> None:
        """Send, and keep what the host has no room for."""
        if self._unread:
            if len(self._unread) < _MOST_UNREAD_BYTES:
                self._unread += output
            return
        try:
            sent = self._write(output)
        except BlockingIOError:
            sent = 0
        self._unread = output[sent:] if sent < len(output) else b""

    def _send_unread(self) -> None:
        unread, self._unread = self._unread, b""
        self._send(unread)

    def _write(self, output: bytes) -> int:
        raise NotImplementedError


class PtyPort(HostPort):
    """A pty, which any program can open as a serial port. It goes away while the line's cable is pulled.

    link: as `microrpc.ports.pty.HeldPty` has it. Raises PortError as that does.
    """

    def __init__(self, board: SimulatedBoard, *, link: str | os.PathLike[str] | None = None) -> None:
        super().__init__(board)
        self.link = Path(link) if link is not None else None
        self.port = ""
        """The pty itself; another one after the cable was pulled."""
        self._pty: HeldPty | None = None
        self._open()

    @property
    def path(self) -> str:
        """What a host opens: the link where there is one, else the pty."""
        return str(self.link or self.port)

    @property
    def interests(self) -> dict[int, int]:
        """See `HostPort`."""
        return self._events(self._pty.fd if self._pty is not None else -1)

    def serve(self, fd: int, now: float) -> None:
        """See `HostPort`."""
        if self._unread:
            self._send_unread()
            return
        with contextlib.suppress(BlockingIOError):  # it was ready to be written to, and has since been reset
            self._take(os.read(fd, _READ_BYTES), now)

    def pump(self, now: float) -> None:
        """See `HostPort`."""
        super().pump(now)
        if self.line.is_plugged != (self._pty is not None):
            if self.line.is_plugged:
                self._open()
                super().pump(now)
            else:
                self.close()

    def close(self) -> None:
        """Remove the link and the pty; a host that has it open sees it go."""
        self._unread = self._untaken = b""
        if self._pty is not None:
            self._pty.close()
        self._pty = None

    def _open(self) -> None:
        text = ": serve the board on a TCP port (`microrpc sim --tcp 127.0.0.1:0`)"
        self._pty = HeldPty(self.link, no_ptys=text)
        self.port = self._pty.name

    def _write(self, output: bytes) -> int:
        return os.write(self._pty.fd, output) if self._pty is not None else len(output)


class TcpPort(HostPort):
    """A TCP socket that carries the line's bytes to one host at a time, as serial servers do; a second one is refused.

    number: of the TCP port, 0 for any that is free. Without a host what the board sends is lost. While the line's
    cable is pulled nobody is let in. Raises PortError, PortBusyError.
    """

    def __init__(self, board: SimulatedBoard, *, host: str = "127.0.0.1", number: int = 0) -> None:
        super().__init__(board)
        self.host = host
        name = f"{host}:{number}"
        if not 0 <= number <= 65535:
            raise PortError(name, f"{name}: a TCP port is a number from 0 to 65535")
        try:
            family, _, _, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
            self._listener = socket.create_server(address[:2], family=family, backlog=1)
        except socket.gaierror as error:
            raise PortError(name, f"{name}: the host {host!r} is not known: use an address of this computer") from error
        except PermissionError as error:
            raise PortError(name, f"{name}: this user may not listen there: take a port above 1023") from error
        except OSError as error:
            kind = PortBusyError if "in use" in str(error) else PortError
            raise kind(name, f"{name}: cannot listen there: {error}; take another port, or 0 for any") from error
        self._listener.setblocking(False)
        self.number: int = self._listener.getsockname()[1]
        self._client: socket.socket | None = None

    @property
    def path(self) -> str:
        """What a host opens: socket://HOST:PORT."""
        return f"socket://{f'[{self.host}]' if ':' in self.host else self.host}:{self.number}"

    @property
    def interests(self) -> dict[int, int]:
        """See `HostPort`."""
        client_fd = self._client.fileno() if self._client is not None else -1
        return {self._listener.fileno(): POLLIN, **self._events(client_fd)}

    def serve(self, fd: int, now: float) -> None:
        """See `HostPort`."""
        if fd == self._listener.fileno():
            self._accept(now)
        elif self._unread:
            self._send_unread()
        else:
            self._receive(now)

    def pump(self, now: float) -> None:
        """See `HostPort`."""
        super().pump(now)
        if not self.line.is_plugged:
            self._hang_up()

    def close(self) -> None:
        """Hang up, and listen no more."""
        self._hang_up()
        self._listener.close()

    def _receive(self, now: float) -> bool:
        """Take what the client has sent; tell whether there was something, or its end."""
        if self._client is None or self._unread or self._untaken:
            return False
        try:
            data = self._client.recv(_READ_BYTES)
        except BlockingIOError:  # as on a pty
            return False
        except OSError:
            data = b""
        if data:
            self._take(data, now)
        else:
            self._hang_up()
        return True

    def _accept(self, now: float) -> None:
        while self._receive(now):  # it may have gone already, and this be its successor
            pass
        with contextlib.suppress(OSError):  # it may be gone again
            client, _ = self._listener.accept()
            if self._client is not None or not self.line.is_plugged:
                client.close()
                return
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            keep_alive(client)  # a host that went silently would keep others out for ever
            self.line.read(now)  # what nobody was there to hear
            self._client = client

    def _hang_up(self) -> None:
        self._unread = self._untaken = b""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _write(self, output: bytes) -> int:
        if self._client is None:
            return len(output)
        try:
            return self._client.send(output)
        except BlockingIOError:
            raise
        except OSError:
            self._hang_up()
            return len(output)
