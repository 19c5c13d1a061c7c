"""Resetting a board over its port, as its profile says, and waiting for its word that it has booted.

The ways to do so stand in `microrpc.boards.strategies`.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable

from microrpc.boards.schema import BoardProfile
from microrpc.boards.strategies import STRATEGIES, ResetTools, Strategy
from microrpc.errors import ProfileError
from microrpc.ports.channel import SerialChannel, monotonic
from microrpc.ports.opening import open_serial
from microrpc.ports.options import PortOptions
from microrpc.ports.usb import serial_ports
from microrpc.wire.checks import check_baud, check_seconds
from microrpc.wire.frames import FrameDecoder, Garbage
from microrpc.wire.session import Log, Session, Terminated
from microrpc.wire.text import TextReader
from microrpc.wire.uart import BITS_PER_BYTE

_log = logging.getLogger("microrpc.connection")
_BOOT_BYTES = 16  # what a TERMINATE takes on the line, 12 where nothing is escaped


def _is_there(port: str) -> bool:
    if os.name != "nt":
        return os.path.exists(port)
    return any(info.device.upper() == port.upper() for info in serial_ports())


TOOLS = ResetTools(now=monotonic, sleep=time.sleep, open_port=open_serial, is_there=_is_there)
"""Those of this computer."""


def open_reset(
    port: str,
    board: BoardProfile,
    *,
    baud: int | None = None,
    options: PortOptions | None = None,
    on_log: Callable[[str], None] = lambda text: None,
    on_text: Callable[[str], None] = lambda text: None,
    tools: ResetTools = TOOLS,
) -> tuple[SerialChannel, float | None]:
    """Open `port`, reset the board behind it, and wait up to its `power_up_s` for its TERMINATE.

    Gives the open channel, and how many seconds the board took to say that it has booted, None where it did not.
    `baud`, in bits a second, and `options` of the port overrule the profile's; `on_log` is called with what the board
    logs meanwhile, `on_text` with what it prints beside its frames.

    Raises ProfileError for a board that cannot be reset, PortError for a port without modem lines, and whatever
    opening a port raises.
    """
    baud = board.baud if baud is None else check_baud(baud)
    strategy, start = _strategy(board), tools.now()
    open_port = functools.partial(
        tools.open_port,
        port,
        baud=baud,
        flow_control=board.flow_control,
        options=board.port_options if options is None else options,
    )
    _log.info("%s: %s is reset: %s, %d baud", port, board.name, board.reset.strategy, baud)
    channel = strategy.open_reset(port, board.reset.sequence, open_port, tools)
    try:
        line_s = _BOOT_BYTES * BITS_PER_BYTE / baud
        has_booted = wait_for_boot(channel, board.power_up_s + line_s, on_log, on_text)
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


def wait_for_boot(
    channel: SerialChannel,
    timeout_s: float,
    on_log: Callable[[str], None] = lambda text: None,
    on_text: Callable[[str], None] = lambda text: None,
) -> bool:
    """Read until the board's TERMINATE, which says that it has booted; give whether it came within `timeout_s`.

    Log lines go to `on_log`, lines of text beside the frames to `on_text`; all else that the board sent is dropped, for
    it is no answer to anything.
    """
    decoder, session, text = FrameDecoder(), Session(0), TextReader(on_text)
    deadline = channel.now() + check_seconds(timeout_s, "timeout_s")
    has_booted, frames = False, 0
    while not has_booted and (data := channel.read(deadline)):
        for payload in decoder.feed(data):
            if isinstance(payload, Garbage):
                text.feed(payload.data, channel.now(), frames)
                continue
            frames += 1
            event = session.receive(payload) if isinstance(payload, bytes) else None
            if isinstance(event, Terminated):
                has_booted = True
            elif isinstance(event, Log):
                text.flush()  # it was printed before
                on_log(event.text)
        if channel.now() >= deadline:  # a board that never stops talking gives each read something
            break
    text.flush()
    return has_booted
