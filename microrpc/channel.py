"""A port with deadlines: bytes out, bytes in, and nothing that waits for longer than it was told.

This is the only module that waits. A `Channel` is a serial port or a TCP connection; every wait ends at a
deadline on the clock `monotonic`, which everything that hands deadlines to a channel must use.

Where the operating system can poll file descriptors, pyserial only opens and configures the port. Reading and writing
then go straight to the descriptor, because a call through pyserial costs about a third more (BENCHMARKS.md).
Elsewhere (Windows, macOS, rfc2217://) `PyserialChannel` does the same with pyserial alone, at a coarser deadline.

One thread may read while another writes; two readers, or two writers, must take turns.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import NoReturn, Protocol

import serial

from microrpc.boards import FlowControl
from microrpc.errors import (
    CallTimeoutError,
    PortBusyError,
    PortError,
    PortLostError,
    PortNotFoundError,
    PortPermissionError,
)

__all__ = ["Channel", "FdChannel", "PyserialChannel", "SerialChannel", "monotonic", "open_serial", "open_tcp"]

monotonic = time.monotonic
"""The clock of every deadline, in seconds."""

READ_BYTES = 65536
"""The most that one `read` returns."""

# Sleeping until a reply comes costs a wake-up: 10 to 60 us, depending on how idle the processor went, as much as
# all the rest of a call to a simulated board. So a read first asks again and again for a moment. When that was in
# vain (a real UART is slower), the next reads that wait sleep at once: it costs a slow line 3 us a read on average.
_SPIN_S = 400e-6
_READS_BETWEEN_VAIN_SPINS = 128

# poll() takes its timeout as a C int of milliseconds, so a longer wait is done in parts.
_LONGEST_WAIT_MS = 1e9

# What a port without modem lines answers when one is set: a pty, a socket, some drivers.
_NO_SUCH_LINES = (errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP)

_Poll = Callable[[float], list[tuple[int, int]]]

# select.poll does not serve serial ports on macOS.
_CAN_POLL = hasattr(select, "poll") and sys.platform != "darwin"


class Channel(Protocol):
    """What a connection needs of a port. All deadlines are times of its own clock, `now`."""

    name: str
    """The port as the user gave it, for messages."""

    def now(self) -> float:
        """Give the time in seconds: `monotonic`, but for a channel that lives in virtual time."""

    def read(self, deadline: float) -> bytes:
        """Return what has arrived: at least 1 byte, at most 64 KiB, or b"" when the deadline passed first.

        A deadline in the past never blocks, and still returns what is already there.
        Raises PortLostError when the port went away.
        """

    def write(self, data: bytes, deadline: float) -> None:
        """Hand all of `data` to the port.

        Raises CallTimeoutError, with `may_have_run` False, when the port did not take all of it in time: the peer
        may have got a part. Raises PortLostError when the port went away.
        """

    def close(self) -> None:
        """Release the port. Closing twice is fine; reading or writing afterwards raises PortLostError."""


class SerialChannel(Channel, Protocol):
    """A channel that may have the modem lines of a serial port."""

    def set_modem_lines(self, *, dtr: bool | None = None, rts: bool | None = None) -> bool:
        """Drive DTR and RTS: True asserts a line (the low level), None leaves it as it is.

        Gives False where the port has no such lines: a pty, a TCP connection. Raises PortLostError.
        """


# --- a file descriptor ----------------------------------------------------------------------------


class FdChannel:
    """A channel over a file descriptor that can be polled: a tty, a pty or a socket.

    The channel owns `fd`, makes it non-blocking, and calls `close_fd` once to release it (os.close by default).
    A tty must have VMIN 1, so that an empty read means "gone" and never "nothing yet".
    """

    def __init__(self, name: str, fd: int, close_fd: Callable[[], None] | None = None) -> None:
        self.name = name
        self._fd = fd
        self._close_fd = close_fd if close_fd is not None else lambda: os.close(fd)
        self._reads_to_spin = 0  # reads until one spins again
        self._stuck = False  # the port did not take all of the last write
        os.set_blocking(fd, False)
        readable, writable = select.poll(), select.poll()
        readable.register(fd, select.POLLIN)
        writable.register(fd, select.POLLOUT)
        self._poll_readable: _Poll = readable.poll
        self._poll_writable: _Poll = writable.poll

    def now(self) -> float:
        """See `Channel.now`."""
        return monotonic()

    def __repr__(self) -> str:
        return f"<FdChannel {self.name}{' closed' if self._fd < 0 else ''}>"

    def read(self, deadline: float) -> bytes:
        """See `Channel.read`. The deadline is kept to about a millisecond."""
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
                ready = poll(_wait_ms(deadline))
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
            if self._fd < 0:
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
            if monotonic() >= deadline:
                raise self.write_timeout(done, len(data))
            if not self._poll_writable(_wait_ms(deadline)):
                continue
            taken = self.write_some(view[done:])
            if not taken:  # a tty may report room and take nothing: do not spin on it
                time.sleep(0.001)
            done += taken

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
                    if error.errno in _NO_SUCH_LINES:
                        return False
                    self._raise_lost(error)
        return True

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

    def write_timeout(self, done: int, size: int) -> CallTimeoutError:
        """Give the error for a port that took only `done` of `size` bytes in time."""
        return _write_timeout(self.name, done, size)

    def close(self) -> None:
        """Release the port; a read in another thread ends at its deadline at the latest."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        # The number may soon belong to another file: never poll it again.
        self._poll_readable = self._poll_writable = lambda _timeout_ms: [(-1, select.POLLNVAL)]
        if self._stuck and os.isatty(fd):
            # Closing a tty waits (up to 30 s) for output that a dead board will never take. Throw it away.
            _discard_output(fd)
        with contextlib.suppress(OSError, serial.SerialException):
            self._close_fd()

    def _raise_lost(self, error: OSError | None) -> NoReturn:
        if self._fd < 0:
            raise PortLostError(self.name, f"{self.name} was closed by this program") from None
        raise _lost(self.name, error.strerror if error else None) from error


def _wait_ms(deadline: float) -> float:
    """The timeout for poll(), which rounds it up to a whole millisecond. Negative would mean for ever."""
    wait_s = deadline - monotonic()
    return min(wait_s * 1e3, _LONGEST_WAIT_MS) if wait_s > 0 else 0


def _discard_output(fd: int) -> None:
    import termios

    with contextlib.suppress(OSError, termios.error):
        termios.tcflush(fd, termios.TCOFLUSH)


def _lost(name: str, reason: str | None) -> PortLostError:
    detail = f" ({reason})" if reason else ""
    return PortLostError(
        name,
        f"{name} went away: unplugged, or the other end closed it{detail}. "
        "Check the cable and the power, run `microrpc ports`, and connect again.",
    )


def _write_timeout(name: str, done: int, size: int) -> CallTimeoutError:
    return CallTimeoutError(
        f"{name} took only {done} of {size} bytes before the deadline: the board does not read its port. "
        "The request is incomplete, so it was not executed. Reset the board, or allow more time.",
        may_have_run=False,
    )


# --- pyserial alone -------------------------------------------------------------------------------


class PyserialChannel:
    """A channel through pyserial's own read and write, where no file descriptor can be polled.

    Reads keep their deadline to about 10 ms, writes to about 100 ms. pyserial gives rfc2217:// no write timeout:
    there a write that the server does not take ends after the 5 s of its socket, as PortLostError.
    """

    # Changing a timeout of an open port reconfigures the whole port on Windows, so it is set once for reading, and for
    # writing only when it changes by a step.
    _READ_STEP_S = 0.01
    _WRITE_STEP_S = 0.1

    def __init__(self, name: str, port: serial.Serial) -> None:
        self.name = name
        self._port = port
        self._times_writes = not name.startswith("rfc2217://")
        port.timeout = self._READ_STEP_S

    def now(self) -> float:
        """See `Channel.now`."""
        return monotonic()

    def __repr__(self) -> str:
        return f"<PyserialChannel {self.name}{'' if self._port.is_open else ' closed'}>"

    def read(self, deadline: float) -> bytes:
        """See `Channel.read`."""
        with self._losses():
            while True:
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
            if self._times_writes and self._port.write_timeout != timeout_s:
                self._port.write_timeout = timeout_s
            try:
                self._port.write(data)
            except serial.SerialTimeoutException:
                raise _write_timeout(self.name, 0, len(data)) from None

    def set_modem_lines(self, *, dtr: bool | None = None, rts: bool | None = None) -> bool:
        """See `SerialChannel.set_modem_lines`."""
        with self._losses():
            if not self._port.is_open:  # pyserial would note the state for the next time
                raise serial.PortNotOpenError
            if self.name.startswith("socket://"):  # pyserial would do nothing, silently
                return False
            try:
                if dtr is not None:
                    self._port.dtr = dtr
                if rts is not None:
                    self._port.rts = rts
            except ValueError:  # the other end of rfc2217:// has none
                return False
            except OSError as error:
                if error.errno in _NO_SUCH_LINES:
                    return False
                raise
        return True

    def close(self) -> None:
        """Release the port."""
        with contextlib.suppress(OSError, serial.SerialException):
            self._port.close()

    @contextlib.contextmanager
    def _losses(self) -> Iterator[None]:
        try:
            yield
        except (OSError, TypeError) as error:  # TypeError: what pyserial makes of a port closed by another thread
            if not self._port.is_open:
                raise PortLostError(self.name, f"{self.name} was closed by this program") from None
            raise _lost(self.name, str(error)) from error


# --- opening --------------------------------------------------------------------------------------


class _Tty(serial.Serial):
    """pyserial's port, but what arrived before it was opened is kept: it may be the boot message of the board."""

    def _reset_input_buffer(self) -> None:
        """Do nothing; called by open()."""


def open_serial(
    port: str, *, baud: int, timeout_s: float = 5.0, flow_control: FlowControl = FlowControl.NONE
) -> SerialChannel:
    """Open a serial port: 8N1, raw, locked against a second opener, its input kept.

    `port` is a device ("/dev/ttyACM0", "COM3") or a URL that pyserial knows ("rfc2217://host:port");
    "socket://host:port" goes to `open_tcp` with `timeout_s`, which nothing else uses. `baud` is in bits a second.

    Raises PortNotFoundError, PortBusyError, PortPermissionError, or PortError for everything else, such as
    a file that is no serial port or a baud rate that it does not have.
    """
    if (address := socket_address(port)) is not None:
        return open_tcp(*address, timeout_s)
    try:
        if baud <= 0:  # 0 means "hang up" to the system
            raise ValueError(f"not a baud rate: {baud}")
        hard, soft = flow_control is FlowControl.RTS_CTS, flow_control is FlowControl.XON_XOFF
        if "://" in port:
            return PyserialChannel(port, serial.serial_for_url(port, baudrate=baud, rtscts=hard, xonxoff=soft))
        if not _CAN_POLL:
            return PyserialChannel(port, _Tty(port, baudrate=baud, exclusive=True, rtscts=hard, xonxoff=soft))
        # inter_byte_timeout=0 is how to tell pyserial VMIN 1, VTIME 0: see FdChannel.
        tty = _Tty(port, baudrate=baud, exclusive=True, inter_byte_timeout=0, rtscts=hard, xonxoff=soft)
    except Exception as error:  # pyserial: SerialException, ValueError; termios.error derives from Exception only
        raise _open_error(port, baud, error) from error
    return FdChannel(port, tty.fileno(), tty.close)


def open_tcp(host: str, port: int, timeout_s: float) -> SerialChannel:
    """Connect to a plain byte stream over TCP, within `timeout_s` seconds.

    Raises PortNotFoundError when the host is unknown or nothing answers there, PortError for everything else.
    """
    with tcp_errors(host, port, timeout_s) as name:
        if not _CAN_POLL:
            return PyserialChannel(name, serial.serial_for_url(name))
        return tcp_channel(name, socket.create_connection((host, port), timeout=timeout_s))


def open_unix(path: str, timeout_s: float) -> FdChannel:
    """Connect to the Unix socket `path`, on which a board is shared (docs/sharing.md), within `timeout_s` seconds.

    Raises PortNotFoundError when nothing listens there, PortPermissionError, PortError for everything else.
    """
    name = f"unix://{path}"
    if not hasattr(socket, "AF_UNIX"):
        raise PortError(name, f"{name}: this system has no Unix sockets, so no board can be shared")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        connection.close()
        text = f"{name}: no board is shared there: start `microrpc share PORT --socket {path}`, or check the path"
        raise PortNotFoundError(name, text) from error
    except PermissionError as error:
        connection.close()
        text = f"{name} may not be opened by this user: only the one who shares the board may use it"
        raise PortPermissionError(name, text) from error
    except OSError as error:
        connection.close()
        raise PortError(name, f"{name} cannot be opened: {error}") from error
    return socket_channel(name, connection)


def open_stream(address: tuple[str, int] | str, timeout_s: float) -> SerialChannel:
    """Connect to host and port over TCP as `open_tcp` does, or to a path as `open_unix` does."""
    return open_unix(address, timeout_s) if isinstance(address, str) else open_tcp(*address, timeout_s)


def socket_address(port: str) -> tuple[str, int] | None:
    """Give host and port of "socket://HOST:PORT", None for every other port. Raises PortError where one is missing."""
    if not port.startswith("socket://"):
        return None
    host, _, number = port.removeprefix("socket://").rstrip("/").rpartition(":")
    if not host or not number.isascii() or not number.isdigit():
        raise PortError(port, f"{port}: write socket://HOST:PORT, for example socket://localhost:9190")
    return host.strip("[]"), int(number)


@contextlib.contextmanager
def tcp_errors(host: str, port: int, timeout_s: float) -> Iterator[str]:
    """Give the connection's name; turn what connecting raises into the one clear error that `open_tcp` documents."""
    name = f"socket://{f'[{host}]' if ':' in host else host}:{port}"
    try:
        yield name
    except socket.gaierror as error:
        raise PortNotFoundError(name, f"{name}: the host {host!r} is not known: check its name") from error
    except ConnectionRefusedError as error:
        raise PortNotFoundError(name, f"{name}: nothing listens there: start the server, or check the port") from error
    except TimeoutError as error:
        text = f"{name}: no answer within {timeout_s:g} s: check the address, and that no firewall is between"
        raise PortNotFoundError(name, text) from error
    except (OSError, OverflowError, UnicodeError, serial.SerialException) as error:
        raise PortError(name, f"{name} cannot be opened: {error}") from error


def tcp_channel(name: str, connection: socket.socket) -> FdChannel:
    """Make a channel of a connected socket, which it closes."""
    with contextlib.suppress(OSError):  # a connection that is gone already shows in the first read
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return socket_channel(name, connection)


def socket_channel(name: str, connection: socket.socket) -> FdChannel:
    """Make a channel of a connected socket of any kind, which it closes."""

    def close() -> None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)  # wakes a reader in another thread
        connection.close()

    return FdChannel(name, connection.fileno(), close)


def _open_error(port: str, baud: int, error: BaseException) -> PortError:
    """The one clear error for a failure of pyserial's open: what was wrong, where, and what to do next."""
    port = port or "''"
    number = _errno_of(error)
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR):
        return PortNotFoundError(port, f"there is no port {port}: {_ports_there()}")
    if number in (errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH) or _caused_by(error, socket.gaierror):
        return PortNotFoundError(port, f"{port}: nothing answers there: check the address, and start the server")
    if number == errno.EIO:
        return PortNotFoundError(port, f"{port} has no hardware behind it: {_ports_there()}")
    if number in (errno.EBUSY, errno.EWOULDBLOCK):
        return PortBusyError(port, f"{port} is in use by {_holders(port)}")
    if number in (errno.EACCES, errno.EPERM):
        if os.name == "nt":  # Windows has one code for both
            return PortBusyError(port, f"{port} is in use by another program: close it (a serial monitor, an IDE)")
        return PortPermissionError(port, f"{port} may not be opened by this user: {_permission_remedy(port)}")
    if number in (errno.ENOTTY, errno.EISDIR) or (number == errno.EINVAL and not _is_character_device(port)):
        return PortError(port, f"{port} is not a serial port: run `microrpc ports` to see those there are")
    if isinstance(error, OverflowError) or (isinstance(error, ValueError) and "baud" in str(error).lower()):
        return PortError(port, f"{port} does not accept {baud} baud: try the rate of the board's profile, or 115200")
    return PortError(port, f"{port} cannot be opened: {error}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _caused_by(error: BaseException, kind: type[BaseException]) -> bool:
    return any(isinstance(cause, kind) for cause in _causes(error))


def _errno_of(error: BaseException) -> int | None:
    """The errno, which pyserial often leaves in the exception that caused its own."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and isinstance(cause.errno, int):
            return cause.errno
        if type(cause).__module__ == "termios" and cause.args and isinstance(cause.args[0], int):
            return cause.args[0]
    if os.name == "nt":  # pyserial has only the repr of the exception in its text
        text = str(error)
        return errno.ENOENT if "FileNotFoundError" in text else errno.EACCES if "PermissionError" in text else None
    return None


def _is_character_device(port: str) -> bool:
    try:
        return stat.S_ISCHR(os.stat(port).st_mode)
    except OSError:
        return False


def _ports_there() -> str:
    from serial.tools import list_ports

    names = sorted(info.device for info in list_ports.comports())
    there = (
        f"those there are: {', '.join(names)}" if names else "no serial port is there at all; is the board plugged in?"
    )
    return f"{there} (run `microrpc ports`)"


def _holders(port: str) -> str:
    """Who has the port open, as far as this user may see, and the remedy."""
    target = os.path.realpath(port)
    found = []
    with contextlib.suppress(OSError):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                fds = f"/proc/{pid}/fd"
                if any(os.path.realpath(f"{fds}/{fd}") == target for fd in os.listdir(fds)):
                    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
                        name = "this program" if int(pid) == os.getpid() else comm.read().strip()
                        found.append(f"{name} (process {pid})")
    return (
        f"{', '.join(found) or 'another program'}: close it (`fuser {port}` names it). "
        "If it is ModemManager, which probes new ports, wait some seconds, or stop it."
    )


def _permission_remedy(port: str) -> str:
    try:
        import grp

        status = os.stat(port)
        group = grp.getgrgid(status.st_gid).gr_name
    except (ImportError, OSError, KeyError):
        return f"see `ls -l {port}`"
    if os.geteuid() == 0:
        return "not even root may; in a container, pass the device in (for example `docker run --device`)"
    if status.st_mode & 0o060 != 0o060 or status.st_gid in os.getgroups():
        return f"see `ls -l {port}`; its group {group} does not help, so a udev rule must allow it"
    return f"add yourself to its group with `sudo usermod -aG {group} $USER`, then log in again"
