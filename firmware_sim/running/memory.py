"""A simulated board in memory and in real time, as a channel: what `sim://` is where there are no ptys."""

from __future__ import annotations

import threading
import time

from firmware_sim.running.ports import HostPort, SimulatedBoard
from microrpc.errors import PortLostError
from microrpc.ports.bell import Bell
from microrpc.ports.channel import READ_BYTES, monotonic, write_timeout_error

# What a pty of Linux holds, so that a host that does not read holds the board up here, too.
_MOST_WAITING_BYTES = 65536
_LONGEST_WAIT_S = 1e6
_LOOK_S = 0.01
_LONGEST_CLOSE_S = 1.0  # a function of the board may sleep for longer; its thread holds nothing up


class _MemoryPort(HostPort):
    """The board's end: what it has sent is in `arrived` until the host takes it. `changed` guards that."""

    def __init__(self, board: SimulatedBoard, changed: threading.Condition) -> None:
        super().__init__(board)
        self.arrived = bytearray()
        self._changed = changed

    @property
    def takes(self) -> bool:
        """Whether it takes what a host sends; see `HostPort`."""
        return not self._unread and not self._untaken

    @property
    def can_send(self) -> bool:
        """Whether there is room for what the host has not read yet."""
        return bool(self._unread) and len(self.arrived) < _MOST_WAITING_BYTES

    def work(self, data: bytes, now: float) -> None:
        """Take what the host has sent, and let the line come to `now`."""
        if self._unread:
            self._send_unread()
        if data:
            self._take(data, now)
        else:
            self.pump(now)

    def _write(self, output: bytes) -> int:
        with self._changed:
            taken = output[: _MOST_WAITING_BYTES - len(self.arrived)]
            self.arrived += taken
            self._changed.notify_all()
        return len(taken)


class MemoryChannel:
    """The host's end of a simulated board (`microrpc.ports.channel.Channel`), whose thread ends when it is closed."""

    can_be_polled = True
    """See `microrpc.ports.aio.PolledChannel`."""
    now = staticmethod(monotonic)

    def __init__(self, board: SimulatedBoard, *, name: str) -> None:
        self.name = name
        """See `Channel.name`."""
        self._changed = threading.Condition()
        self._port = _MemoryPort(board, self._changed)
        self._sent = bytearray()
        self._is_open = True
        self._epoch = time.monotonic()
        self._thread = threading.Thread(target=self._serve, name=f"board {name}", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<MemoryChannel {self.name}{'' if self._is_open else ' closed'}>"

    # --- the host's ------------------------------------------------------------------------------

    def read(self, deadline: float) -> bytes:
        """See `Channel.read`."""
        arrived = self._port.arrived
        with self._changed:
            while not arrived:
                if not self._wait(deadline):
                    return b""
            data = bytes(arrived[:READ_BYTES])
            del arrived[:READ_BYTES]
            self._changed.notify_all()
            return data

    def write(self, data: bytes, deadline: float) -> None:
        """See `Channel.write`."""
        done = 0
        with self._changed:
            while (done := done + self.write_some(data[done:])) < len(data):
                if not self._wait(deadline):
                    raise write_timeout_error(self.name, done, len(data))

    def write_some(self, data: bytes | memoryview) -> int:
        """Hand over what there is room for, and give how many bytes that was. Raises PortLostError."""
        with self._changed:
            self._check_open()
            taken = data[: max(_MOST_WAITING_BYTES - len(self._sent), 0)]
            self._sent += taken
            self._changed.notify_all()
            return len(taken)

    def wait_readable(self, timeout_s: float, bell: Bell) -> bool:
        """See `microrpc.ports.channel.WaitingChannel.wait_readable`. It looks every 10 ms."""
        until = monotonic() + timeout_s
        while self._is_open and not self._port.arrived:
            left_s = until - monotonic()
            if left_s <= 0 or bell.wait(min(left_s, _LOOK_S)):
                return False
        return True

    def close(self) -> None:
        """See `Channel.close`."""
        with self._changed:
            self._is_open = False
            self._changed.notify_all()
        if self._thread is not threading.current_thread():  # garbage is collected in any thread
            self._thread.join(_LONGEST_CLOSE_S)

    def _wait(self, deadline: float) -> bool:
        """Wait until something changed; give whether there was time for it."""
        self._check_open()
        wait_s = deadline - monotonic()
        if wait_s <= 0:
            return False
        self._changed.wait(min(wait_s, _LONGEST_WAIT_S))
        return True

    def _check_open(self) -> None:
        if not self._is_open:
            raise PortLostError(self.name, f"{self.name} was closed by this program")

    # --- the board's -----------------------------------------------------------------------------

    def _serve(self) -> None:
        port, changed = self._port, self._changed
        while True:
            with changed:
                while self._is_open and not ((self._sent and port.takes) or port.can_send):
                    wait_s = port.due - (time.monotonic() - self._epoch)
                    if wait_s <= 0:
                        break
                    changed.wait(min(wait_s, _LONGEST_WAIT_S))
                if not self._is_open:
                    return
                data = bytes(self._sent) if port.takes else b""
                del self._sent[: len(data)]
                changed.notify_all()
            port.work(data, time.monotonic() - self._epoch)
