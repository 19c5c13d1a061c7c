"""A simulated board on a pty, which any program can open as a serial port.

    with PtyServer(simulate(profile("loopback")), link="/tmp/board") as server:
        board = microrpc.connect(server.path)

The device should live in real time (`RealClock`), as `firmware_sim.simulate` makes it.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import tty
from pathlib import Path
from types import TracebackType

from firmware_sim.device import Device
from microrpc.errors import PortError

_READ_BYTES = 65536
_CLOSE, _RESET = b"c", b"r"


class _ClosedError(Exception):
    """The server was closed."""


class PtyServer:
    """Serves `device` on a pty until it is closed; hosts may come and go.

    link: a symbolic link to make to the pty, so that its path is the same each time; it replaces an older link, and
    is removed at the end. Raises PortError where something that is no link is in its place.

    Use it as a context manager or with `start` and `close` to serve from a thread, or call `run` to serve from
    this one. While it serves, the device belongs to it: everything but `reset` and `close` is for its own thread.
    What the host does not read holds the device up, and no bytes are lost.
    """

    def __init__(self, device: Device, *, link: str | os.PathLike[str] | None = None) -> None:
        self.device = device
        self.link = Path(link) if link is not None else None
        self._thread: threading.Thread | None = None
        self._is_open = True
        self._serving = threading.Lock()  # held while it serves
        # The host's end stays open here too, so that the line does not hang up when a host goes.
        self._board_fd, self._host_fd = os.openpty()
        self._wake_fd, self._waker_fd = os.pipe()
        tty.setraw(self._host_fd)
        os.set_blocking(self._board_fd, False)
        self.port = os.ttyname(self._host_fd)
        try:
            self._make_link()
        except PortError:
            self.close()
            raise

    @property
    def path(self) -> str:
        """What a host opens: the link where there is one, else the pty."""
        return str(self.link or self.port)

    # --- from any thread ------------------------------------------------------------------------

    def start(self) -> None:
        """Serve from a thread."""
        self._thread = threading.Thread(target=self.run, name=f"PtyServer {self.path}", daemon=True)
        self._thread.start()

    def reset(self) -> None:
        """Press the device's reset button, as soon as what it is executing is done."""
        if self._is_open:
            os.write(self._waker_fd, _RESET)

    def close(self) -> None:
        """Stop serving, and remove the link and the pty. Closing twice is fine."""
        if not self._is_open:
            return
        self._is_open = False
        os.write(self._waker_fd, _CLOSE)
        if self._thread is not None:
            self._thread.join()
        with self._serving:
            self._remove_link()
            for fd in (self._board_fd, self._host_fd, self._wake_fd, self._waker_fd):
                os.close(fd)

    def __enter__(self) -> PtyServer:
        """Serve from a thread."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    # --- serving --------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until `close` is called from another thread, or until an exception such as KeyboardInterrupt."""
        with self._serving, contextlib.suppress(_ClosedError):
            if self._is_open:
                self._run()

    def _run(self) -> None:
        device, board_fd, wake_fd = self.device, self._board_fd, self._wake_fd
        poller = select.poll()
        poller.register(board_fd, select.POLLIN)
        poller.register(wake_fd, select.POLLIN)
        poll, read, write = poller.poll, os.read, os.write
        self._write_rest(device.take_output())
        while True:
            for fd, _ in poll():
                if fd == wake_fd:
                    self._obey()
                else:
                    device.receive(read(board_fd, _READ_BYTES))
                if output := device.take_output():
                    try:
                        written = write(board_fd, output)
                    except BlockingIOError:
                        written = 0
                    if written < len(output):
                        self._write_rest(output[written:])

    def _write_rest(self, output: bytes) -> None:
        """Write all of `output`, however long the host takes. A reset loses what is left of it, as on a real board."""
        poller = select.poll()
        poller.register(self._board_fd, select.POLLOUT)
        poller.register(self._wake_fd, select.POLLIN)
        while output:
            for fd, _ in poller.poll():
                if fd == self._wake_fd:
                    self._obey()
                    output = self.device.take_output() or output
                else:
                    with contextlib.suppress(BlockingIOError):
                        output = output[os.write(fd, output) :]

    def _obey(self) -> None:
        """Do what another thread asked for."""
        if os.read(self._wake_fd, 1) == _CLOSE:
            raise _ClosedError
        self.device.reset()

    # --- the link -------------------------------------------------------------------------------

    def _make_link(self) -> None:
        if self.link is None:
            return
        if os.path.lexists(self.link) and not self.link.is_symlink():
            raise PortError(str(self.link), f"{self.link} exists and is no link: choose another path")
        fresh = self.link.with_name(f".{self.link.name}.{os.getpid()}")
        try:
            fresh.symlink_to(self.port)
            fresh.replace(self.link)
        except OSError as error:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise PortError(str(self.link), f"cannot make the link {self.link}: {error.strerror}") from error

    def _remove_link(self) -> None:
        if self.link is not None:
            with contextlib.suppress(OSError):
                if os.readlink(self.link) == self.port:
                    self.link.unlink()
