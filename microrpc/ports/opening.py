"""Opening serial ports, TCP connections and Unix sockets as channels."""

from __future__ import annotations

import contextlib
import select
import socket
import sys
from collections.abc import Iterator

import serial

from microrpc.errors import (
    PortError,
    PortNotFoundError,
    PortPermissionError,
)
from microrpc.ports.channel import SerialChannel
from microrpc.ports.fd import FdChannel
from microrpc.ports.pyserial import PyserialChannel
from microrpc.ports.refusal import open_error
from microrpc.wire.checks import check_baud, check_seconds
from microrpc.wire.uart import FlowControl

# select.poll does not serve serial ports on macOS.
_CAN_POLL = hasattr(select, "poll") and sys.platform != "darwin"


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
    a file that is no serial port or a baud rate that it does not have; RequestError for what is no baud rate.
    """
    baud = check_baud(baud)
    if (address := _socket_address(port)) is not None:
        return open_tcp(*address, timeout_s)
    try:
        hard, soft = flow_control is FlowControl.RTS_CTS, flow_control is FlowControl.XON_XOFF
        if "://" in port:
            return PyserialChannel(port, serial.serial_for_url(port, baudrate=baud, rtscts=hard, xonxoff=soft))
        if not _CAN_POLL:
            return PyserialChannel(port, _Tty(port, baudrate=baud, exclusive=True, rtscts=hard, xonxoff=soft))
        # inter_byte_timeout=0 is how to tell pyserial VMIN 1, VTIME 0: see FdChannel.
        tty = _Tty(port, baudrate=baud, exclusive=True, inter_byte_timeout=0, rtscts=hard, xonxoff=soft)
    except Exception as error:  # pyserial: SerialException, ValueError; termios.error derives from Exception only
        raise open_error(port, baud, error) from error
    return FdChannel(port, tty.fileno(), tty.close)


def open_tcp(host: str, port: int, timeout_s: float) -> SerialChannel:
    """Connect to a plain byte stream over TCP, within `timeout_s` seconds.

    Raises PortNotFoundError when the host is unknown or nothing answers there, PortError for everything else, and
    RequestError for a duration that cannot be.
    """
    timeout_s = check_seconds(timeout_s, "timeout_s")
    with _tcp_errors(host, port, timeout_s) as name:
        if not _CAN_POLL:
            return PyserialChannel(name, serial.serial_for_url(name))
        connection = socket.create_connection((host, port), timeout=timeout_s)
        with contextlib.suppress(OSError):  # a connection that is gone already shows in the first read
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return socket_channel(name, connection)


def open_unix(path: str, timeout_s: float) -> FdChannel:
    """Connect to the Unix socket `path`, on which a board is shared (docs/sharing.md), within `timeout_s` seconds.

    Raises PortNotFoundError when nothing listens there, PortPermissionError, PortError for everything else, and
    RequestError for a duration that cannot be.
    """
    timeout_s = check_seconds(timeout_s, "timeout_s")
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


def _socket_address(port: str) -> tuple[str, int] | None:
    """Give host and port of "socket://HOST:PORT", None for every other port. Raises PortError where one is missing."""
    if not port.startswith("socket://"):
        return None
    host, _, number = port.removeprefix("socket://").rstrip("/").rpartition(":")
    if not host or not number.isascii() or not number.isdigit() or len(number) > 5:
        raise PortError(port, f"{port}: write socket://HOST:PORT, for example socket://localhost:9190")
    return host.strip("[]"), int(number)


@contextlib.contextmanager
def _tcp_errors(host: str, port: int, timeout_s: float) -> Iterator[str]:
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


def socket_channel(name: str, connection: socket.socket) -> FdChannel:
    """Make a channel of a connected socket of any kind, which it closes."""

    def shut_down() -> None:
        connection.shutdown(socket.SHUT_RDWR)  # wakes a reader in another thread

    return FdChannel(name, connection.fileno(), connection.close, end=shut_down)
