"""Opening TCP connections and Unix sockets as channels."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator

from microrpc.errors import PortError, PortNotFoundError, PortPermissionError, reason_of
from microrpc.ports.channel import SerialChannel
from microrpc.ports.fd import FdChannel
from microrpc.ports.selected import SocketChannel
from microrpc.wire.checks import check_seconds

# A peer that lost its power, or a cable between, says nothing: it is asked after so many seconds without a byte, then
# again and again, and has so many times. What is sent must be acknowledged within the last of these.
_IDLE_S, _INTERVAL_S, _PROBES = 5, 3, 3
_MOST_UNACKNOWLEDGED_S = 20


def keep_alive(connection: socket.socket) -> None:
    """Have the system find out within some 20 s that the peer of a TCP connection is gone, as far as it can."""
    wishes = {
        "TCP_KEEPIDLE": _IDLE_S,
        "TCP_KEEPALIVE": _IDLE_S,  # what macOS calls it
        "TCP_KEEPINTVL": _INTERVAL_S,
        "TCP_KEEPCNT": _PROBES,
        "TCP_USER_TIMEOUT": _MOST_UNACKNOWLEDGED_S * 1000,
    }
    with contextlib.suppress(OSError):  # a connection that is gone already shows in the first read
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in wishes.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def open_tcp(host: str, port: int, timeout_s: float, *, scheme: str = "socket") -> SerialChannel:
    """Connect to a plain byte stream over TCP, within `timeout_s` seconds. A peer that goes silently is noticed.

    `scheme` is that of the URL by which the user knows it.
    Raises PortNotFoundError when the host is unknown or nothing answers there, PortError for everything else, and
    RequestError for a duration that cannot be.
    """
    timeout_s = check_seconds(timeout_s, "timeout_s")
    name = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    with _tcp_errors(name, host, timeout_s):
        connection = socket.create_connection((host, port), timeout=timeout_s)
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(connection)
        return socket_channel(name, connection) if hasattr(select, "poll") else SocketChannel(name, connection)


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
        if not path:
            raise PortError(name, f"{name}: the address of a shared board is unix:///PATH") from error
        raise PortError(name, f"{name} cannot be opened: {reason_of(error)}") from error
    return socket_channel(name, connection)


@contextlib.contextmanager
def _tcp_errors(name: str, host: str, timeout_s: float) -> Iterator[None]:
    """Turn what connecting raises into the one clear error that `open_tcp` documents."""
    try:
        yield
    except socket.gaierror as error:
        raise PortNotFoundError(name, f"{name}: the host {host!r} is not known: check its name") from error
    except ConnectionRefusedError as error:
        raise PortNotFoundError(name, f"{name}: nothing listens there: start the server, or check the port") from error
    except TimeoutError as error:
        text = f"{name}: no answer within {timeout_s:g} s: check the address, and that no firewall is between"
        raise PortNotFoundError(name, text) from error
    except OSError as error:
        raise PortError(name, f"{name} cannot be opened: {reason_of(error)}") from error
    except (OverflowError, UnicodeError) as error:
        raise PortError(name, f"{name} cannot be opened: {error}") from error


def socket_channel(name: str, connection: socket.socket) -> FdChannel:
    """Make a channel of a connected socket of any kind, which it closes, where the system has `select.poll`."""

    def shut_down() -> None:
        connection.shutdown(socket.SHUT_RDWR)  # wakes a reader in another thread

    return FdChannel(name, connection.fileno(), connection.close, end=shut_down)
