"""Resetting a board over its port, as its profile says, and waiting for its word that it has booted.

The ways to do so stand in `microrpc.boards.strategies`.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable

from microrpc.boards.schema import BoardProfile
from microrpc.boards.strategies import STRATEGIES, ResetTools, Strategy
from microrpc.errors import ProfileError
from microrpc.ports.channel import SerialChannel, monotonic
from microrpc.ports.opening import open_serial
from microrpc.wire.frames import FrameDecoder
from microrpc.wire.session import Log, Session, Terminated


def _is_there(port: str) -> bool:
    if os.name != "nt":
        return os.path.exists(port)
    from serial.tools import list_ports

    return any(info.device.upper() == port.upper() for info in list_ports.comports())


TOOLS = ResetTools(now=monotonic, sleep=time.sleep, open_port=open_serial, is_there=_is_there)
"""Those of this computer."""


def open_reset(
    port: str,
    board: BoardProfile,
    *,
    baud: int | None = None,
    on_log: Callable[[str], None] = lambda text: None,
    tools: ResetTools = TOOLS,
) -> tuple[SerialChannel, float | None]:
    """Open `port`, reset the board behind it, and wait up to its `power_up_s` for its TERMINATE.

    Gives the open channel, and how many seconds the board took to say that it has booted, None where it did not.
    `baud`, in bits a second, overrules the profile's; `on_log` is called with what the board logs meanwhile.

    Raises ProfileError for a board that cannot be reset, PortError for a port without modem lines, and whatever
    opening a port raises.
    """
    strategy, start = _strategy(board), tools.now()
    open_port = functools.partial(tools.open_port, port, baud=baud or board.baud, flow_control=board.flow_control)
    channel = strategy.open_reset(port, board.reset.sequence, open_port, tools)
    try:
        has_booted = wait_for_boot(channel, board.power_up_s, on_log)
        return channel, tools.now() - start if has_booted else None
    except BaseException:
        channel.close()
        raise


def check_can_be_reset(board: BoardProfile) -> None:
    """Raise ProfileError for a board that cannot be reset over its port."""
    _strategy(board)


def _strategy(board: BoardProfile) -> Strategy:
    name = board.reset.strategy
    if (strategy := STRATEGIES.get(name)) is None:
        text = f"{board.name} cannot be reset over its port (the reset strategy in its profile is {str(name)!r})"
        raise ProfileError(f"{text}: press its reset button, or unplug it")
    return strategy


def wait_for_boot(channel: SerialChannel, timeout_s: float, on_log: Callable[[str], None] = lambda text: None) -> bool:
    """Read until the board's TERMINATE, which says that it has booted; give whether it came within `timeout_s`.

    Log lines go to `on_log`; all else that the board sent is dropped, for it is no answer to anything.
    """
    decoder, session = FrameDecoder(), Session(0)
    deadline = channel.now() + timeout_s
    has_booted = False
    while not has_booted and (data := channel.read(deadline)):
        for payload in decoder.feed(data):
            event = session.receive(payload) if isinstance(payload, bytes) else None
            if isinstance(event, Terminated):
                has_booted = True
            elif isinstance(event, Log):
                on_log(event.text)
    return has_booted
