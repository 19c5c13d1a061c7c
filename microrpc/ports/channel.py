"""What a connection needs of a port: bytes out, bytes in, and nothing that waits for longer than it was told.

Every wait ends at a deadline on the clock `monotonic`, which everything that hands deadlines to a channel must use.
One thread reads and writes at a time, because a write that waits reads too: a board that is stopped in the middle of a
long answer takes nothing before that is taken from it.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

from microrpc.errors import (
    CallTimeoutError,
    PortLostError,
    RequestError,
)
from microrpc.wire.checks import show

if TYPE_CHECKING:
    from microrpc.ports.bell import Bell

monotonic = time.monotonic
"""The clock of every deadline, in seconds."""

READ_BYTES = 65536
"""The most that one `read` returns."""

MOST_KEPT_BYTES = 256 * 1024
"""What arrives while nobody reads is kept up to here; then the port is left alone until it was read."""

NO_SUCH_LINES = (errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP)
"""What a port without modem lines answers when one is set: a pty, a socket, some drivers."""


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

        What arrives while it waits is kept for `read`. Raises CallTimeoutError, with `may_have_run` False, when the
        port did not take all of it in time: the peer may have got a part. Raises PortLostError when the port went away.
        """

    def close(self) -> None:
        """Release the port. Closing twice is fine; reading or writing afterwards raises PortLostError."""


class SerialChannel(Channel, Protocol):
    """A channel that may have the modem lines of a serial port."""

    def set_modem_lines(self, *, dtr: bool | None = None, rts: bool | None = None) -> bool:
        """Drive DTR and RTS: True asserts a line (the low level), None leaves it as it is.

        Gives False where the port has no such lines: a pty, a TCP connection. Raises PortLostError.
        """


class WaitingChannel(Channel, Protocol):
    """A channel that can be waited for beside the thread that reads and writes: something listens while nobody asks.

    One without this, as in virtual time, has its events delivered with requests and polls.
    """

    def wait_readable(self, timeout_s: float, bell: Bell) -> bool:
        """Wait until something can be read, or the port is gone, or `bell` rings; but no longer than `timeout_s`.

        It takes nothing, raises nothing, and tells whether a read is worth while. One thread waits at a time.
        """


def waiting(channel: object) -> WaitingChannel | None:
    """Give a channel that can be waited for, None where it cannot."""
    return cast("WaitingChannel", channel) if getattr(channel, "wait_readable", None) is not None else None


def port_name(port: object) -> str:
    """Give the name of a port as a text. Raises RequestError for what is neither a text nor a path of one."""
    name = os.fspath(port) if isinstance(port, os.PathLike) else port
    if not isinstance(name, str):
        example = "'/dev/ttyACM0' or Path('/dev/ttyACM0')"
        raise RequestError(f"a port is a text or a path, such as {example}, not {show(port)}")
    if "\0" in name:
        raise RequestError(f"the name of a port has no NUL, and {show(name)} has")
    return name


def interrupt(thing: object) -> None:
    """End what waits in another thread, on a channel or for one: by its `interrupt`, else by closing it, or not."""
    end = getattr(thing, "interrupt", None) or getattr(thing, "close", None)
    if end is not None:
        end()


def renew(channel: object) -> None:
    """Set the port of a channel as it was when it was opened, where the channel can (`FdChannel.renew`)."""
    set_again = getattr(channel, "renew", None)
    if set_again is not None:
        set_again()


def others_on(channel: object) -> str:
    """Name the other programs that have the port of a channel open, where it can tell (`FdChannel.others`); else ""."""
    name_them = getattr(channel, "others", None)
    return str(name_them()) if name_them is not None else ""


def take_kept(kept: bytearray) -> bytes:
    """Take what a read returns out of what arrived while a write waited."""
    data = bytes(kept[:READ_BYTES])
    del kept[:READ_BYTES]
    return data


def explain_losses(channel: object, explain: Callable[[], str]) -> None:
    """Let `explain` say why the port of a channel went away, where the channel asks (`FdChannel.explain_loss`)."""
    if hasattr(channel, "explain_loss"):
        channel.explain_loss = explain


def nothing_known() -> str:
    """Say why a port went away, where nobody knows more than the system does."""
    return ""


def lost_error(name: str, reason: str | None, explain: Callable[[], str] = nothing_known) -> PortLostError:
    """Give the error for a port that went away.

    `reason` is the system's, where it gave one. `explain` says it in words, where something knows more.
    """
    if words := explain():
        return PortLostError(name, f"{name} went away: {words}")
    detail = f" ({reason})" if reason else ""
    return PortLostError(
        name,
        f"{name} went away: unplugged, or the other end closed it{detail}. "
        "Check the cable and the power, run `microrpc ports`, and connect again.",
    )


def write_timeout_error(name: str, done: int, size: int) -> CallTimeoutError:
    """Give the error for a port that took only `done` of `size` bytes in time."""
    return CallTimeoutError(
        f"{name} took only {done} of {size} bytes before the deadline: the board does not read its port, or "
        "the line is slower than it was said to be. What it got is incomplete, and is not executed. "
        "Reset the board, or allow more time.",
        may_have_run=False,
    )
