"""Serial lines: devices of this computer, pyserial's URLs, and lines that are carried over TCP."""

from __future__ import annotations

import dataclasses
from typing import Any

from microrpc.boards.resets import TOOLS, open_reset
from microrpc.boards.strategies import ResetTools
from microrpc.connecting.address import Target
from microrpc.connecting.openers import Opened, ResetFirst
from microrpc.connecting.wrap import Tap, TappedChannel
from microrpc.ports.channel import Channel, SerialChannel
from microrpc.ports.opening import open_serial
from microrpc.ports.registry import await_dropped


def open_line(target: Target, reset: ResetFirst | None) -> Opened[Channel]:
    """Open a serial line, a device or socket://HOST:PORT, with the target's baud rate and flow control.

    Raises what `microrpc.ports.opening.open_serial` and `microrpc.boards.resets.open_reset` raise.
    """

    def open_named(name: str, timeout_s: float) -> SerialChannel:
        return open_serial(
            name,
            baud=target.baud,
            timeout_s=timeout_s,
            flow_control=target.profile.flow_control,
            options=target.options,
        )

    if "://" not in target.port:
        await_dropped(target.port)
    channel = open_named(target.port, target.timeouts.start_s) if reset is None else _reset(target, reset)
    return Opened(channel, baud=target.baud, ring_bytes=target.ring_bytes, reopen=open_named)


def open_url(target: Target, reset: ResetFirst | None) -> Opened[Channel]:
    """Open a URL of pyserial, such as rfc2217://HOST:PORT: as `open_line`, but no event loop can wait for it."""
    return open_line(target, reset)


class _TappedPort(TappedChannel):
    """A port whose modem lines can be driven while a tap sees its bytes."""

    def __init__(self, port: SerialChannel, tap: Tap) -> None:
        super().__init__(port, tap)
        self.port = port

    def set_modem_lines(self, *, dtr: bool | None = None, rts: bool | None = None) -> bool:
        """See `SerialChannel.set_modem_lines`."""
        return self.port.set_modem_lines(dtr=dtr, rts=rts)


def reset_tools(tap: Tap | None) -> ResetTools:
    """Give those of this computer; what they open is seen by `tap`, where there is one."""
    if tap is None:
        return TOOLS

    def open_tapped(port: str, **settings: Any) -> SerialChannel:
        return _TappedPort(open_serial(port, **settings), tap)

    return dataclasses.replace(TOOLS, open_port=open_tapped)


def _reset(target: Target, reset: ResetFirst) -> SerialChannel:
    """Open the port and reset the board; the port itself is given, for the connection is tapped by the client."""
    channel, _ = open_reset(
        target.port,
        target.profile,
        baud=target.baud,
        options=target.options,
        on_log=reset.on_log,
        on_text=reset.on_text,
        tools=reset_tools(reset.tap),
    )
    return channel.port if isinstance(channel, _TappedPort) else channel
