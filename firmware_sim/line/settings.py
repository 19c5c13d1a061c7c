"""What a simulated line is made of (rates, buffers, flow control, how fast the firmware is), and what it tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from firmware_sim.line.adapter import HostAdapter
from microrpc.errors import RequestError
from microrpc.wire.checks import check_baud, check_seconds, check_whole, show
from microrpc.wire.uart import FlowControl

_MOST_RING_BYTES = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast one direction is: `baud` in bits a second; `frame_format` as "8N1", "7E1", "8N2".

    Raises RequestError for what is no baud rate, ValueError for what is no such format.
    """

    baud: int = 115200
    frame_format: str = "8N1"

    def __post_init__(self) -> None:
        check_baud(self.baud)
        data, parity, stop = self.frame_format[:1], self.frame_format[1:2].upper(), self.frame_format[2:]
        if data not in ("5", "6", "7", "8") or parity not in ("N", "E", "O", "M", "S") or stop not in ("1", "1.5", "2"):
            raise ValueError(f"a frame format is written as 8N1 or 7E2, not {self.frame_format!r}")

    @property
    def bits_per_byte(self) -> float:
        """A start bit, the data, perhaps a parity bit, and the stop bits: 10 at 8N1."""
        return 1 + int(self.frame_format[0]) + (self.frame_format[1].upper() != "N") + float(self.frame_format[2:])

    @property
    def byte_s(self) -> float:
        """How long a byte takes, in seconds."""
        return self.bits_per_byte / self.baud


@dataclass(frozen=True, slots=True)
class FirmwareTime:
    """How long the board's processor takes: `byte_s`, `packet_s` and `function_s` (a call), in seconds.

    functions: the times of those calls, by the function's name, that take another time than `function_s`. Raises
    RequestError for a time that cannot be.
    """

    byte_s: float = 0.0
    packet_s: float = 0.0
    function_s: float = 0.0
    functions: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        for name in ("byte_s", "packet_s", "function_s"):
            check_seconds(getattr(self, name), name, may_be_zero=True)
        for name, seconds in self.functions.items():
            check_seconds(seconds, f"the time of {name!r}", may_be_zero=True)


@dataclass(frozen=True, slots=True)
class Uart:
    """What a line is made of.

    receive_ring_bytes: where the board keeps what arrives while it is busy; what does not fit is lost.
    transmit_ring_bytes: what of a frame may wait to be sent while the board goes on; with 0 it waits for the last byte,
    as firmware that polls its UART does. power_up_s: from a reset until it listens and says so.
    flow_control: XON/XOFF eats the bytes 0x11 and 0x13 from whatever crosses, and so damages this protocol's frames,
    on the simulated line as on a real one. Raises RequestError for a size or a time that cannot be.
    """

    to_board: Rate = field(default_factory=Rate)
    """From the host to the board."""
    to_host: Rate = field(default_factory=Rate)
    """From the board to the host."""
    receive_ring_bytes: int = 2148
    transmit_ring_bytes: int = 0
    flow_control: FlowControl = FlowControl.NONE
    adapter: HostAdapter = field(default_factory=HostAdapter)
    """What the host's end of the line is."""
    firmware: FirmwareTime = field(default_factory=FirmwareTime)
    """What the board's processor takes."""
    power_up_s: float = 0.0

    def __post_init__(self) -> None:
        check_whole(self.receive_ring_bytes, "receive_ring_bytes", 1, _MOST_RING_BYTES)
        check_whole(self.transmit_ring_bytes, "transmit_ring_bytes", 0, _MOST_RING_BYTES)
        if self.flow_control not in list(FlowControl):
            raise RequestError(f"flow_control is one of {', '.join(FlowControl)}, not {show(self.flow_control)}")
        check_seconds(self.power_up_s, "power_up_s", may_be_zero=True)


@dataclass(frozen=True, slots=True)
class LineState:
    """What happened on a line until now. `damaged` counts by kind of fault how often it struck."""

    bytes_to_board: int
    """That crossed to the board."""
    bytes_to_host: int
    """That crossed to the host."""
    to_board_busy_s: float
    """How long bytes were on their way to the board, in seconds."""
    to_host_busy_s: float
    """And to the host."""
    bytes_overrun: int
    """Lost because the receive ring was full."""
    bytes_unheard: int
    """Lost because the board was booting, or was reset before it had read them."""
    ring_bytes: int
    """What waits in the receive ring now."""
    ring_high_water_bytes: int
    """The most that ever waited there."""
    is_plugged: bool
    """Whether the cable is there."""
    damaged: Mapping[str, int]
