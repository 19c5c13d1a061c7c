"""A channel over a file descriptor that the operating system can poll.

pyserial only opens and configures the port here. Reading and writing go straight to the descriptor, because a call
through pyserial costs about a third more (BENCHMARKS.md). Elsewhere `microrpc.ports.pyserial` does the same.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from microrpc.errors import PortLostError
from microrpc.host.uncopyable import CONNECT_THERE, uncopyable
from microrpc.ports.bell import Bell, wait_any
from microrpc.ports.channel import (
    MOST_KEPT_BYTES,
    NO_SUCH_LINES,
    READ_BYTES,
    lost_error,
    monotonic,
    nothing_known,
    take_kept,
    write_timeout_error,
)
from microrpc.ports.holders import others
from microrpc.ports.registry import register

if TYPE_CHECKING:
    from microrpc.ports.tty import Tty

# Sleeping until a reply comes costs a wake-up: 10 to 60 us, depending on how idle the processor went, as much as
# all the rest of a call to a simulated board. So a read first asks again and again for a moment. When that was in
# vain (a real UART is slower), the next reads that wait sleep at once: it costs a slow line 3 us a read on average.
_SPIN_S = 400e-6
_READS_BETWEEN_VAIN_SPINS = 128

# A longer wait is done in parts, so that it ends soon after `interrupt`.
_LONGEST_WAIT_S = 0.1

_Poll = Callable[[float], list[tuple[int, int]]]


class FdChannel:
    """A channel over a file descriptor that can be polled: a tty, a pty or a socket.

    The channel owns `fd`, makes it non-blocking, and calls `close_fd` once to release it (os.close by default), in a
    fork too, where it must do no more than close. `end` is called before it, but in no fork: what is to be done to the
    port itself, or to a connection. A tty must have VMIN 1, so that an empty read means "gone" and never "nothing yet".
    `tty` is what has set it up, where it is a serial port.
    """

    def __init__(
        self,
        name: str,
        fd: int,
        close_fd: Callable[[], None] | None = None,
        *,
        end: Callable[[], None] = lambda: None,
        tty: Tty | None = None,
    ) -> None:
        self.name = name
        """See `Channel.name`."""
        self.explain_loss: Callable[[], str] = nothing_known
        """Says in words why the port went away, where something knows that."""
        self._fd = fd
        self._close_fd = close_fd if close_fd is not None else lambda: os.close(fd)
        self._end = end
        self._is_interrupted = False
        self._tty = tty
        self._reads_to_spin = 0  # reads until one spins again
        self._vain_reads = 0  # how many shall not spin after the last that did in vain, of those that cannot wait
        self._stuck = False  # the port did not take all of the last write
        self._kept = bytearray()  # what arrived while a write waited
        os.set_blocking(fd, False)
        readable, writable, either = select.poll(), select.poll(), select.poll()
        readable.register(fd, select.POLLIN)
        writable.register(fd, select.POLLOUT)
        either.register(fd, select.POLLIN | select.POLLOUT)
        self._poll_readable: _Poll = readable.poll
        self._poll_writable: _Poll = writable.poll
        self._poll_either: _Poll = either.poll
        register(self)

    now = staticmethod(monotonic)
    __reduce_ex__ = uncopyable(CONNECT_THERE)

    def __repr__(self) -> str:
        return f"<FdChannel {self.name}{' closed' if self._fd < 0 else ''}>"

    def read(self, deadline: float) -> bytes:
        """See `Channel.read`. The deadline is kept to about a millisecond."""
        if self._kept:
            return take_kept(self._kept)
        poll = self._poll_readable
        # Polling first and reading then is cheaper than trying to read first: the reply is seldom there already.
        ready = poll(0)
        if not ready:
            now = monotonic()
            if now >= deadline:
                return b""
            if self._reads_to_spin:
                self._reads_to_spin -= 1
            else:
                ready = self._spin(now + _SPIN_S, deadline)
        while True:
            if not ready:
                wait_s = deadline - monotonic()  # inline: a step less for every call
                ready = poll(min(wait_s, _LONGEST_WAIT_S) * 1e3 if wait_s > 0 else 0)
            if ready:
                try:
                    data = os.read(self._fd, READ_BYTES)
                except BlockingIOError:  # somebody else took it
                    data, ready = None, []
                except OSError as error:
                    self._raise_lost(error)
                if data:
                    return data
                if data is not None:
                    self._raise_lost(None)
            if self._fd < 0 or self._is_interrupted:
                self._raise_lost(None)
            if monotonic() >= deadline:
                return b""

    def _spin(self, spin_end: float, deadline: float) -> list[tuple[int, int]]:
        poll = self._poll_readable
        while not (ready := poll(0)):
            now = monotonic()
            if now >= deadline:
                break
            if now >= spin_end:
                self._reads_to_spin = _READS_BETWEEN_VAIN_SPINS
                break
        return ready

    def read_soon(self, deadline: float, moment_s: float) -> bytes:
        """Give what has arrived, or does while it is asked for again and again for `moment_s`; else b"".

        It does not ask again where that was in vain lately. Raises PortLostError.
        """
        if self._reads_to_spin:
            self._reads_to_spin -= 1
            return b""
        now = monotonic()
        if self._spin(now + moment_s, deadline):
            self._vain_reads = 0
            return self.read(now)
        self._vain_reads = min(2 * self._vain_reads + 1, _READS_BETWEEN_VAIN_SPINS)
        self._reads_to_spin = self._vain_reads
        return b""

    def write(self, data: bytes, deadline: float) -> None:
        """See `Channel.write`. The deadline is kept to about a millisecond."""
        try:
            done = os.write(self._fd, data)
        except BlockingIOError:
            done = 0
        except OSError as error:
            self._raise_lost(error)
        if done < len(data):
            self._write_rest(data, done, deadline)

    def _write_rest(self, data: bytes, done: int, deadline: float) -> None:
        view = memoryview(data)
        self._stuck = True
        while done < len(data):
            if self._is_interrupted:
                self._raise_lost(None)
            if monotonic() >= deadline:
                raise write_timeout_error(self.name, done, len(data))
            # A board may be stopped in the middle of its answer, and read again when that was taken.
            poll = self._poll_either if len(self._kept) < MOST_KEPT_BYTES else self._poll_writable
            ready = poll(_wait_ms(deadline))
            if not ready:
                continue
            was_kept = bool(ready[0][1] & select.POLLIN) and self._keep()
            taken = self.write_some(view[done:])
            if not taken and not was_kept:  # a tty may report room and take nothing: do not spin on it
                time.sleep(0.001)
            done += taken

    def _keep(self) -> bool:
        """Take what has arrived for the next read; tell whether that was anything."""
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            self._raise_lost(error)
        if not data:
            self._raise_lost(None)
        self._kept += data
        return True

    def set_modem_lines(self, *, dtr: bool | None = None, rts: bool | None = None) -> bool:
        """See `SerialChannel.set_modem_lines`."""
        import fcntl
        import termios

        if self._fd < 0:
            self._raise_lost(None)
        lines = ((dtr, termios.TIOCM_DTR), (rts, termios.TIOCM_RTS))
        for request, wanted in ((termios.TIOCMBIS, True), (termios.TIOCMBIC, False)):
            bits = sum(bit for state, bit in lines if state is wanted)
            if bits:
                try:
                    fcntl.ioctl(self._fd, request, struct.pack("I", bits))
                except OSError as error:
                    if error.errno in NO_SUCH_LINES:
                        return False
                    self._raise_lost(error)
        return True

    def renew(self) -> None:
        """Set the port as it was when it was opened: another program may have changed its settings."""
        if self._tty is not None and self._fd >= 0:
            self._tty.renew()

    def others(self) -> str:
        """Name the other programs that have the port open; "" where none is seen, or it is no serial port."""
        return others(self.name) if self._tty is not None else ""

    def wait_readable(self, timeout_s: float, bell: Bell) -> bool:
        """See `microrpc.ports.channel.WaitingChannel.wait_readable`."""
        fd = self._fd
        return bool(self._kept) or fd in wait_any([fd, bell.fileno()], timeout_s)

    # What an event loop needs that waits by itself (microrpc.aio).

    def fileno(self) -> int:
        """Give the descriptor, -1 once it is closed."""
        return self._fd

    def write_some(self, data: bytes | memoryview) -> int:
        """Hand over what the port takes at once, and give how many bytes that was. Raises PortLostError."""
        try:
            done = os.write(self._fd, data)
        except BlockingIOError:
            done = 0
        except OSError as error:
            self._raise_lost(error)
        self._stuck = done < len(data)
        return done

    @property
    def is_open(self) -> bool:
        """Whether the port is held."""
        return self._fd >= 0

    def interrupt(self) -> None:
        """End a read or write that waits in another thread, in a moment, with PortLostError, and all that come."""
        self._is_interrupted = True

    def close(self) -> None:
        """Release the port; a read in another thread ends in a moment."""
        fd = self._let_go()
        if fd < 0:
            return
        if self._stuck and os.isatty(fd):
            # Closing a tty waits (up to 30 s) for output that a dead board will never take. Throw it away.
            _discard_output(fd)
        with contextlib.suppress(OSError):
            self._end()
        with contextlib.suppress(OSError):
            self._close_fd()

    def on_fork(self) -> None:
        """Close the fork's copy of the descriptor: see `Inherited.on_fork`."""
        if self._let_go() >= 0:
            with contextlib.suppress(OSError):
                self._close_fd()

    def _let_go(self) -> int:
        # The number may soon belong to another file: never poll it again.
        self._poll_readable = self._poll_writable = self._poll_either = lambda _timeout_ms: [(-1, select.POLLNVAL)]
        self._kept.clear()
        fd, self._fd = self._fd, -1
        return fd

    def _raise_lost(self, error: OSError | None) -> NoReturn:
        if self._fd < 0 or self._is_interrupted:
            raise PortLostError(self.name, f"{self.name} was closed by this program") from None
        raise lost_error(self.name, error.strerror if error else None, self.explain_loss) from error


def _wait_ms(deadline: float) -> float:
    """The timeout for poll(), which rounds it up to a whole millisecond. Negative would mean for ever."""
    return min(max(deadline - monotonic(), 0), _LONGEST_WAIT_S) * 1e3


def _discard_output(fd: int) -> None:
    import termios

    with contextlib.suppress(OSError, termios.error):
        termios.tcflush(fd, termios.TCOFLUSH)
