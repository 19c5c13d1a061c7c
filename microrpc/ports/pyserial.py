"""Ports through pyserial alone, where no file descriptor can be polled: Windows, macOS, rfc2217:// and other URLs."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import queue
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import serial
from serial import rfc2217

from microrpc.errors import (
    PortError,
    PortLostError,
)
from microrpc.host.uncopyable import CONNECT_THERE, uncopyable
from microrpc.ports.bell import Bell
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
from microrpc.ports.options import PortOptions
from microrpc.ports.registry import register
from microrpc.ports.sockets import keep_alive
from microrpc.ports.tty import Tty
from microrpc.wire.checks import check_seconds
from microrpc.wire.uart import FlowControl

log = logging.getLogger("microrpc.ports")
"""Told what a server of RFC 2217 does not confirm."""

READ_STEP_S = 0.01
"""How long one read of a port waits, in seconds."""

LEAST_PATIENCE_S = 1.0
"""So long a server of RFC 2217 has for modem lines at opening, or as long as all else took: some never answer."""


class _Rfc2217(rfc2217.Serial):
    """pyserial's client of RFC 2217, but it asks for no purge, which some servers never acknowledge.

    So what arrived before is kept, as on every other kind of port; so is what came before the server hung up. Modem
    lines and flow control that it does not confirm at opening are a warning; a server that goes silently is noticed.
    """

    _is_opening = _is_warned = _has_hung_up = False
    _began_at = 0.0

    def open(self) -> None:
        """Open it. Raises what pyserial does, and ConnectionResetError where the server hangs up meanwhile."""
        self._is_opening, self._began_at = True, monotonic()
        # pyserial still calls them, which is nothing to tell a user, or to fail of.
        for name in ("setDaemon", "setName"):
            warnings.filterwarnings("ignore", rf"{name}\(\) is deprecated", DeprecationWarning, r"serial\.rfc2217")
        try:
            super().open()
        except serial.SerialException as error:
            if self._has_hung_up:
                raise ConnectionResetError(errno.ECONNRESET, "the server hung up") from error
            raise
        finally:
            self._is_opening = False
        keep_alive(self._connection)

    def _telnet_read_loop(self) -> None:
        try:
            super()._telnet_read_loop()  # type: ignore[misc]
        except (OSError, TypeError) as error:  # it answered a server that has gone; or what came is no telnet
            vars(self)["_read_buffer"].put(None)
            if isinstance(error, TypeError):
                return
        self._has_hung_up = self.is_open  # else it was closed here

    def rfc2217_set_control(self, value: bytes) -> None:
        """Set a modem line, or flow control. Raises ValueError for what the server rejects later than at opening."""
        patience_s: float = vars(self)["_network_timeout"]
        if self._is_opening:
            so_far_s = monotonic() - self._began_at
            vars(self)["_network_timeout"] = min(patience_s, max(LEAST_PATIENCE_S, so_far_s))
        try:
            super().rfc2217_set_control(value)
        except (ValueError, serial.SerialException) as error:
            if not self._is_opening:
                raise
            if not isinstance(error, ValueError):  # it said nothing: it is not waited for again
                vars(self)["_ignore_set_control_answer"] = True
            if not self._is_warned:
                log.warning("%s: the server does not confirm modem lines or flow control (%s)", self.port, error)
            self._is_warned = True
        finally:
            vars(self)["_network_timeout"] = patience_s

    def read(self, size: int = 1) -> bytes:
        """Give up to `size` bytes that have arrived, within `timeout`. Raises SerialException when the server hung up.

        pyserial's own throws away what it has read when its thread ends meanwhile.
        """
        if not self.is_open:
            raise serial.PortNotOpenError
        buffer, data = vars(self)["_read_buffer"], bytearray()
        with contextlib.suppress(queue.Empty):
            byte = buffer.get(timeout=self.timeout)
            while byte is not None:  # the last thing is
                data += byte
                if len(data) >= size:
                    break
                byte = buffer.get(block=False)
        thread = vars(self)["_thread"]
        if not data and (thread is None or not thread.is_alive()):
            raise serial.SerialException("the server hung up")
        return bytes(data)

    def close(self) -> None:
        """Close it; pyserial leaves the socket to the garbage collector where the server hung up first."""
        connection = self._connection
        super().close()
        if connection is not None:
            connection.close()

    @property
    def _connection(self) -> Any:
        return vars(self)["_socket"]  # types-pyserial has no private names

    def reset_input_buffer(self) -> None:
        """Do nothing; called by open()."""

    def reset_output_buffer(self) -> None:
        """Do nothing; called by open()."""


def open_url(url: str, baud: int, flow_control: FlowControl, options: PortOptions) -> serial.Serial | rfc2217.Serial:
    """Open a URL of pyserial, `baud` in bits a second; of `options`, the modem lines.

    Raises what pyserial does, and PortError for an address that is none.
    """
    hard, soft = flow_control is FlowControl.RTS_CTS, flow_control is FlowControl.XON_XOFF
    if url.lower().startswith("rfc2217://"):
        _check_address(url)
        port: serial.Serial | rfc2217.Serial = _Rfc2217(
            None, baudrate=baud, timeout=READ_STEP_S, rtscts=hard, xonxoff=soft
        )
        port.port = url
    else:
        port = serial.serial_for_url(url, do_not_open=True, baudrate=baud, rtscts=hard, xonxoff=soft)
    if options.dtr is not None:
        port.dtr = options.dtr
    if options.rts is not None:
        port.rts = options.rts
    port.open()
    return port


def _check_address(url: str) -> None:
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        if parts.hostname and parts.port is not None:
            _check_timeout(url, parts.query)
            return
    raise PortError(url, f"{url}: write rfc2217://HOST:PORT, for example rfc2217://localhost:2217")


def _check_timeout(url: str, query: str) -> None:
    """Raise PortError for a time in which no server can answer: pyserial would say that it speaks no RFC 2217."""
    for stated in parse_qs(query, keep_blank_values=True).get("timeout", ()):
        try:
            seconds = float(stated)
        except ValueError:
            seconds = math.nan
        check_seconds(seconds, f"{url}: timeout", error=lambda text: PortError(url, text))


class PyserialChannel:
    """A channel through pyserial's own read and write, where no file descriptor can be polled.

    Reads keep their deadline to about 10 ms, writes to about 100 ms. What arrives while a write waits is taken by a
    thread, since nothing here waits for both. rfc2217:// reads in a thread of its own anyway, and pyserial gives it no
    write timeout: there a write that the server does not take ends after the 5 s of its socket, as PortLostError.
    """

    # Changing a timeout of an open port reconfigures the whole port on Windows, so it is set once for reading, and for
    # writing only when it changes by a step.
    _WRITE_STEP_S = 0.1
    _QUICK_WRITE_S = 0.02  # a write that takes no longer does not wait for the board
    _KEEP_STEP_S = 0.005

    def __init__(self, name: str, port: serial.Serial | rfc2217.Serial) -> None:
        self.name = name
        """See `Channel.name`."""
        self.explain_loss: Callable[[], str] = nothing_known
        """Says in words why the port went away, where something knows that."""
        self._port = port
        self._is_interrupted = False
        self._is_rfc2217 = isinstance(port, rfc2217.Serial)
        self._kept = bytearray()  # what arrived while a write waited
        if port.timeout != READ_STEP_S:  # else the port would be set up once more
            port.timeout = READ_STEP_S
        register(self)

    __reduce_ex__ = uncopyable(CONNECT_THERE)

    def now(self) -> float:
        """See `Channel.now`."""
        return monotonic()

    def __repr__(self) -> str:
        return f"<PyserialChannel {self.name}{'' if self._port.is_open else ' closed'}>"

    def read(self, deadline: float) -> bytes:
        """See `Channel.read`."""
        if self._kept and self._port.is_open:
            return take_kept(self._kept)
        with self._losses():
            while True:
                if self._is_interrupted:
                    raise serial.PortNotOpenError
                waiting = self._port.in_waiting
                if not waiting and monotonic() >= deadline:
                    return b""
                data = bytes(self._port.read(min(max(waiting, 1), READ_BYTES)))
                if data:
                    return data

    def write(self, data: bytes, deadline: float) -> None:
        """See `Channel.write`. How much was taken in time is not known here; the message says none."""
        step = self._WRITE_STEP_S
        timeout_s = max(math.ceil(min(deadline - monotonic(), 1e6) / step), 1) * step
        with self._losses():
            if self._is_rfc2217:
                self._port.write(data)
                return
            if self._port.write_timeout != timeout_s:
                self._port.write_timeout = timeout_s
            is_written = threading.Event()
            keeper = threading.Thread(target=self._keep_until, args=(is_written,), name="microrpc reading")
            with contextlib.suppress(RuntimeError):  # from 3.12 on no thread begins when the program ends
                keeper.start()
            try:
                self._port.write(data)
            except serial.SerialTimeoutException:
                raise write_timeout_error(self.name, 0, len(data)) from None
            finally:
                is_written.set()
                if keeper.ident is not None:
                    keeper.join()

    def _keep_until(self, is_written: threading.Event) -> None:
        """Take what arrives while a write waits: a board may take nothing before its answer was taken."""
        wait_s = self._QUICK_WRITE_S
        with contextlib.suppress(OSError, TypeError):  # the next read meets it again
            while not is_written.wait(wait_s) and len(self._kept) < MOST_KEPT_BYTES:
                wait_s = self._KEEP_STEP_S
                if waiting := self._port.in_waiting:
                    self._kept += self._port.read(min(waiting, READ_BYTES))

    def wait_readable(self, timeout_s: float, bell: Bell) -> bool:
        """See `microrpc.ports.channel.WaitingChannel.wait_readable`. It looks every 10 ms."""
        until = monotonic() + timeout_s
        with contextlib.suppress(OSError, TypeError):  # it went away, or was closed: the next read tells
            while not self._kept and not self._port.in_waiting:
                left_s = until - monotonic()
                if left_s <= 0 or bell.wait(min(left_s, READ_STEP_S)):
                    return False
        return True

    def set_modem_lines(self, *, dtr: bool | None = None, rts: bool | None = None) -> bool:
        """See `SerialChannel.set_modem_lines`."""
        with self._losses():
            if not self._port.is_open:  # pyserial would note the state for the next time
                raise serial.PortNotOpenError
            try:
                if dtr is not None:
                    self._port.dtr = dtr
                if rts is not None:
                    self._port.rts = rts
            except ValueError:  # the other end of rfc2217:// has none
                return False
            except OSError as error:
                if error.errno in NO_SUCH_LINES:
                    return False
                raise
        return True

    @property
    def is_open(self) -> bool:
        """Whether the port is held."""
        return bool(self._port.is_open)

    def interrupt(self) -> None:
        """End a read that waits in another thread, in a moment, with PortLostError, and all that come."""
        self._is_interrupted = True

    def renew(self) -> None:
        """See `FdChannel.renew`."""
        if isinstance(self._port, Tty) and self._port.is_open:
            self._port.renew()

    def others(self) -> str:
        """See `FdChannel.others`."""
        return others(self.name) if isinstance(self._port, Tty) else ""

    def close(self) -> None:
        """Release the port."""
        with contextlib.suppress(OSError, serial.SerialException):
            self._port.close()

    def on_fork(self) -> None:
        """Close the fork's copies of descriptors: see `Inherited.on_fork`."""
        port: Any = self._port
        connection = vars(port).get("_socket")
        if connection is None:
            with contextlib.suppress(OSError):
                port.drop() if isinstance(port, Tty) else port.close()
            return
        # pyserial would shut the connection down, which is the parent's, and wait for a thread that is the parent's.
        connection.close()
        port._socket = port._thread = None
        port.is_open = False

    @contextlib.contextmanager
    def _losses(self) -> Iterator[None]:
        try:
            yield
        except (OSError, TypeError) as error:  # TypeError: what pyserial makes of a port closed by another thread
            if not self._port.is_open or self._is_interrupted:
                raise PortLostError(self.name, f"{self.name} was closed by this program") from None
            raise lost_error(self.name, str(error), self.explain_loss) from error
