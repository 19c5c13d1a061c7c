"""The ways to reset a board over its port: a class for each, and a row of `STRATEGIES`.

"dtr-rts" drives the modem lines of the open port. "touch-1200" opens the port at 1200 baud and drops DTR, upon
which some firmware restarts and its USB port goes away for a moment. A board may also have no such way at all.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from microrpc.errors import PortBusyError, PortError, PortNotFoundError, PortPermissionError, ProfileError
from microrpc.wire.checks import check_seconds

if TYPE_CHECKING:
    from microrpc.ports.channel import SerialChannel

VANISH_S = 2.0
"""How long a port that was touched may take to go away; after that it is taken to stay."""
RETURN_S = 10.0
"""How long it may take to come back, and then to let itself be opened."""

_POLL_S = 0.05
_TOUCH_BAUD = 1200
_TOUCH_S = 0.1  # a USB stack must see the lines change, and the Arduino tools leave it about as long


class ResetStrategy(enum.StrEnum):
    """How a board is reset over its port (docs/boards.md, "How a board is reset")."""

    NONE = "none"
    DTR_RTS = "dtr-rts"
    TOUCH_1200 = "touch-1200"


@dataclass(frozen=True, slots=True)
class ResetStep:
    """One step of a DTR/RTS sequence: `dtr` and `rts`, then a wait of `wait_s` seconds.

    True asserts a line (the low level), None leaves it. Raises ProfileError for a wait that cannot be.
    """

    dtr: bool | None = None
    rts: bool | None = None
    wait_s: float = 0.0

    def __post_init__(self) -> None:
        check_seconds(self.wait_s, "wait_s", may_be_zero=True, error=ProfileError)


@dataclass(frozen=True, slots=True)
class ResetTools:
    """What a reset needs of the computer. Tests put virtual ones in.

    `now`: a clock in seconds. `sleep`: waits for so many of them. `open_port`: called as
    `microrpc.ports.opening.open_serial` is. `is_there`: whether there is a port of that name.
    """

    now: Callable[[], float]
    sleep: Callable[[float], None]
    open_port: Callable[..., SerialChannel]
    is_there: Callable[[str], bool]


class Strategy(Protocol):
    """One way to reset a board over its port."""

    has_sequence: bool
    """Whether it goes through the steps of `reset.sequence` in the profile, which may have none otherwise."""

    def open_reset(
        self, port: str, sequence: Sequence[ResetStep], open_port: Callable[[], SerialChannel], tools: ResetTools
    ) -> SerialChannel:
        """Reset the board behind `port`, and give the open channel: `open_port` opens it as the profile says.

        Raises PortError for a port without modem lines, and whatever opening a port raises.
        """


class ModemLines:
    """Goes through a sequence of the modem lines DTR and RTS, on the open port."""

    has_sequence = True
    """See `Strategy.has_sequence`."""

    def open_reset(
        self, port: str, sequence: Sequence[ResetStep], open_port: Callable[[], SerialChannel], tools: ResetTools
    ) -> SerialChannel:
        """Open the port, and go through the sequence."""
        channel = open_port()
        try:
            _discard_input(channel)
            drive_lines(channel, sequence, tools)
        except BaseException:
            channel.close()
            raise
        return channel


class Touch:
    """Opens the port at 1200 baud and drops DTR, before the port is opened for good."""

    has_sequence = False
    """See `Strategy.has_sequence`."""

    def open_reset(
        self, port: str, sequence: Sequence[ResetStep], open_port: Callable[[], SerialChannel], tools: ResetTools
    ) -> SerialChannel:
        """Touch the port, and open it as soon as it lets itself be opened."""
        touch(port, tools)
        deadline = tools.now() + RETURN_S
        while True:  # the system may still be setting the port's name and permissions
            try:
                return open_port()
            except (PortNotFoundError, PortPermissionError, PortBusyError):
                if tools.now() >= deadline:
                    raise
            tools.sleep(_POLL_S)


STRATEGIES: dict[str, Strategy | None] = {
    ResetStrategy.NONE: None,
    ResetStrategy.DTR_RTS: ModemLines(),
    ResetStrategy.TOUCH_1200: Touch(),
}
"""All strategies, by the names that they have in profiles; None is that of a board that cannot be reset."""


def drive_lines(channel: SerialChannel, sequence: Sequence[ResetStep], tools: ResetTools) -> None:
    """Go through the steps of a DTR/RTS sequence. Raises PortError where the port has no modem lines."""
    for step in sequence:
        if not channel.set_modem_lines(dtr=step.dtr, rts=step.rts):
            raise _no_modem_lines(channel.name)
        if step.wait_s:
            tools.sleep(step.wait_s)


def touch(port: str, tools: ResetTools) -> None:
    """Do as `touch_only` does, and wait until the port went away and came back, or stayed.

    Raises PortError where the port has no modem lines, PortNotFoundError where it did not come back.
    """
    touch_only(port, tools)
    if not _wait_until(lambda: not tools.is_there(port), VANISH_S, tools):
        return
    if not _wait_until(lambda: tools.is_there(port), RETURN_S, tools):
        text = f"{port} went away after the {_TOUCH_BAUD}-baud touch and did not come back within {RETURN_S:g} s"
        raise PortNotFoundError(port, f"{text}: `microrpc ports` shows whether it has another name now")


def touch_only(port: str, tools: ResetTools) -> None:
    """Open `port` at 1200 baud, drop DTR, and close it. Raises PortError where the port has no modem lines."""
    channel = tools.open_port(port, baud=_TOUCH_BAUD)
    try:
        if not channel.set_modem_lines(dtr=False):
            raise _no_modem_lines(port)
        tools.sleep(_TOUCH_S)
    finally:
        channel.close()


def _no_modem_lines(port: str) -> PortError:
    text = f"{port} has no modem lines (DTR, RTS), so the board cannot be reset over it"
    return PortError(port, f"{text}: reset it by hand, or connect without a reset")


def _discard_input(channel: SerialChannel) -> None:
    """Throw away what came before the reset: there may be an older TERMINATE in it."""
    limit = channel.now() + 1.0  # a board that never stops talking
    while channel.read(channel.now()) and channel.now() < limit:
        pass


def _wait_until(holds: Callable[[], bool], timeout_s: float, tools: ResetTools) -> bool:
    deadline = tools.now() + timeout_s
    while not holds():
        if tools.now() >= deadline:
            return False
        tools.sleep(_POLL_S)
    return True
