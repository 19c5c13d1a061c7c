"""Why a port could not be opened: the one clear error for each failure, and what to do next."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator

from microrpc.errors import PortBusyError, PortError, PortNotFoundError, PortPermissionError
from microrpc.ports.holders import holders
from microrpc.ports.registry import is_open_here
from microrpc.ports.usb import serial_ports


def open_error(port: str, baud: int, error: BaseException) -> PortError:
    """The one clear error for a failure of pyserial's open: what was wrong, where, and what to do next."""
    port = port or "''"
    number = _errno_of(error)
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR):
        return no_such_port(port)
    if number in (errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH) or _caused_by(error, socket.gaierror):
        return PortNotFoundError(port, f"{port}: nothing answers there: check the address, and start the server")
    if number in (errno.EPIPE, errno.ECONNRESET):
        return PortError(port, f"{port}: the server there hung up: is its port in use by another host, or away?")
    if "does not seem to support RFC2217" in str(error):
        text = f"{port}: whoever answers there does not speak RFC 2217: open a raw port as socket://HOST:PORT"
        return PortError(port, text)
    if "does not accept parameter change" in str(error):
        text = f"{port}: the server there did not confirm {baud} baud, 8N1: allow its clients to set up the port"
        return PortError(port, text)
    if number == errno.EIO:
        return PortNotFoundError(port, f"{port} has no hardware behind it: {_ports_there()}")
    is_busy = number in (errno.EBUSY, errno.EWOULDBLOCK) or (os.name == "nt" and number in (errno.EACCES, errno.EPERM))
    if is_busy and is_open_here(port):
        text = f"{port} is in use by this very program, in which a Board has it open: call that one's close() first"
        return PortBusyError(port, text)
    if number in (errno.EBUSY, errno.EWOULDBLOCK):
        return PortBusyError(port, f"{port} is in use by {holders(port)}")
    if number in (errno.EACCES, errno.EPERM):
        if os.name == "nt":  # Windows has one code for both
            return PortBusyError(port, f"{port} is in use by another program: close it (a serial monitor, an IDE)")
        return PortPermissionError(port, f"{port} may not be opened by this user: {_permission_remedy(port)}")
    if number in (errno.ENOTTY, errno.EISDIR) or (number == errno.EINVAL and not _is_character_device(port)):
        return PortError(port, f"{port} is not a serial port: run `microrpc ports` to see those there are")
    if isinstance(error, OverflowError) or (isinstance(error, ValueError) and "baud" in str(error).lower()):
        return PortError(port, f"{port} does not accept {baud} baud: try the rate of the board's profile, or 115200")
    return PortError(port, f"{port} cannot be opened: {error}")


def no_such_port(port: str) -> PortNotFoundError:
    """Give the error for a port that is not there, which lists those that are."""
    return PortNotFoundError(port, f"there is no port {port}: {_ports_there()}")


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
    names = [info.device for info in serial_ports()]
    there = (
        f"those there are: {', '.join(names)}" if names else "no serial port is there at all; is the board plugged in?"
    )
    return f"{there} (run `microrpc ports`)"


def _permission_remedy(port: str) -> str:
    try:
        import grp

        status = os.stat(port)
        group = grp.getgrgid(status.st_gid).gr_name
    except (ImportError, OSError, KeyError):
        return f"see `ls -l {port}`"
    if os.geteuid() == 0:
        return "not even root may; in a container, pass the device in (for example `docker run --device`)"
    is_roots = status.st_gid == 0  # nobody is to join that group for a port
    if is_roots or status.st_mode & 0o060 != 0o060 or status.st_gid in os.getgroups():
        return f"see `ls -l {port}`; its group {group} does not help, so a udev rule must allow it"
    return f"add yourself to its group with `sudo usermod -aG {group} $USER`, then log in again"
