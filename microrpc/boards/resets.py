"""Resetting a board over its port, as its profile says, and waiting for its word that it has booted.

"dtr-rts" drives the modem lines of the open port. "touch-1200" opens the port at 1200 baud and drops DTR, upon
which some firmware restarts and its USB port goes away for a moment. A board may also have no such way at all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from microrpc.boards.schema import BoardProfile, ResetStep, ResetStrategy
from microrpc.errors import PortBusyError, PortError, PortNotFoundError, PortPermissionError, ProfileError
from microrpc.ports.channel import SerialChannel, monotonic
from microrpc.ports.opening import open_serial
from microrpc.wire.frames import FrameDecoder
from microrpc.wire.session import HEADER_SIZE_BYTES, MessageType
from microrpc.wire.uart import FlowControl

TOUCH_BAUD = 1200
VANISH_S = 2.0
"""How long a port that was touched may take to go away; after that it is taken to stay."""
RETURN_S = 10.0
"""How long it may take to come back, and then to let itself be opened."""

_POLL_S = 0.05
_TOUCH_S = 0.1  # a USB stack must see the lines change, and the Arduino tools leave it about as long
_MESSAGE_TYPE = 2  # where it stands in a message: after the session's id


def _is_there(port: str) -> bool:
    if os.name != "nt":
        return os.path.exists(port)
    from serial.tools import list_ports

    return any(info.device.upper() == port.upper() for info in list_ports.comports())


@dataclass(frozen=True, slots=True)
class System:
    """What a reset needs of the computer: a clock in seconds, a sleep, its ports. Tests put a virtual one in."""

    now: Callable[[], float] = monotonic
    sleep: Callable[[float], None] = time.sleep
    open_port: Callable[..., SerialChannel] = open_serial
    is_there: Callable[[str], bool] = _is_there


_SYSTEM = System()


def open_reset(
    port: str,
    board: BoardProfile,
    *,
    baud: int | None = None,
    on_log: Callable[[str], None] = lambda text: None,
    system: System = _SYSTEM,
) -> tuple[SerialChannel, float | None]:
    """Open `port`, reset the board behind it, and wait up to its `power_up_s` for its TERMINATE.

    Gives the open channel, and how many seconds the board took to say that it has booted, None where it did not.
    `baud`, in bits a second, overrules the profile's; `on_log` is called with what the board logs meanwhile.

    Raises ProfileError for a board that cannot be reset, PortError for a port without modem lines, and whatever
    opening a port raises.
    """
    check_can_be_reset(board)
    rate, is_touched = baud or board.baud, board.reset.strategy is ResetStrategy.TOUCH_1200
    start = system.now()
    if is_touched:
        touch(port, system)
        channel = _open_when_ready(port, rate, board.flow_control, system)
    else:
        channel = system.open_port(port, baud=rate, flow_control=board.flow_control)
    try:
        if not is_touched:
            _discard_input(channel)
            drive_lines(channel, board.reset.sequence, system)
        has_booted = wait_for_boot(channel, board.power_up_s, on_log)
        return channel, system.now() - start if has_booted else None
    except BaseException:
        channel.close()
        raise


def check_can_be_reset(board: BoardProfile) -> None:
    """Raise ProfileError for a board that cannot be reset over its port."""
    if board.reset.strategy is ResetStrategy.NONE:
        text = f"{board.name} cannot be reset over its port (the reset strategy in its profile is 'none')"
        raise ProfileError(f"{text}: press its reset button, or unplug it")


def drive_lines(channel: SerialChannel, sequence: Sequence[ResetStep], system: System = _SYSTEM) -> None:
    """Go through the steps of a DTR/RTS sequence. Raises PortError where the port has no modem lines."""
    for step in sequence:
        if not channel.set_modem_lines(dtr=step.dtr, rts=step.rts):
            raise no_modem_lines(channel.name)
        if step.wait_s:
            system.sleep(step.wait_s)


def touch(port: str, system: System = _SYSTEM) -> None:
    """Open `port` at 1200 baud, drop DTR, close it, and wait until it went away and came back, or stayed.

    Raises PortError where the port has no modem lines, PortNotFoundError where it did not come back.
    """
    channel = system.open_port(port, baud=TOUCH_BAUD)
    try:
        if not channel.set_modem_lines(dtr=False):
            raise no_modem_lines(port)
        system.sleep(_TOUCH_S)
    finally:
        channel.close()
    if not _wait_until(lambda: not system.is_there(port), VANISH_S, system):
        return
    if not _wait_until(lambda: system.is_there(port), RETURN_S, system):
        text = f"{port} went away after the {TOUCH_BAUD}-baud touch and did not come back within {RETURN_S:g} s"
        raise PortNotFoundError(port, f"{text}: `microrpc ports` shows whether it has another name now")


def wait_for_boot(channel: SerialChannel, timeout_s: float, on_log: Callable[[str], None] = lambda text: None) -> bool:
    """Read until the board's TERMINATE, which says that it has booted; give whether it came within `timeout_s`.

    Log lines go to `on_log`; all else that the board sent is dropped, for it is no answer to anything.
    """
    decoder = FrameDecoder()
    deadline = channel.now() + timeout_s
    has_booted = False
    while not has_booted and (data := channel.read(deadline)):
        for payload in decoder.feed(data):
            if not isinstance(payload, bytes) or len(payload) < HEADER_SIZE_BYTES:
                continue
            if payload[_MESSAGE_TYPE] == MessageType.TERMINATE_SESSION:
                has_booted = True
            elif payload[_MESSAGE_TYPE] == MessageType.LOG:
                on_log(payload[HEADER_SIZE_BYTES:].decode(errors="backslashreplace"))
    return has_booted


def no_modem_lines(port: str) -> PortError:
    """Give the error for a port that cannot reset a board."""
    text = f"{port} has no modem lines (DTR, RTS), so the board cannot be reset over it"
    return PortError(port, f"{text}: reset it by hand, or connect without a reset")


def _discard_input(channel: SerialChannel) -> None:
    """Throw away what came before the reset: there may be an older TERMINATE in it."""
    limit = channel.now() + 1.0  # a board that never stops talking
    while channel.read(channel.now()) and channel.now() < limit:
        pass


def _open_when_ready(port: str, baud: int, flow_control: FlowControl, system: System) -> SerialChannel:
    """Open a port that just came back: the system may still be setting its name and permissions."""
    deadline = system.now() + RETURN_S
    while True:
        try:
            return system.open_port(port, baud=baud, flow_control=flow_control)
        except (PortNotFoundError, PortPermissionError, PortBusyError):
            if system.now() >= deadline:
                raise
        system.sleep(_POLL_S)


def _wait_until(holds: Callable[[], bool], timeout_s: float, system: System) -> bool:
    deadline = system.now() + timeout_s
    while not holds():
        if system.now() >= deadline:
            return False
        system.sleep(_POLL_S)
    return True
