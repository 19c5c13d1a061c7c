"""What the parts of a simulated board know of each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from microrpc.wire.frames import FRAME_START


@dataclass(slots=True)
class Stats:
    """What arrived at a board since it was made; resets do not clear it."""

    frames_received: int = 0
    """Whole, and with a good crc."""
    frames_damaged: int = 0
    """With a bad crc, a bad escape, or cut short."""
    messages_dropped: int = 0
    """Whole, but of no session, or not for a device."""
    resets: int = 0
    """How often it was reset."""
    events_unsent: int = 0
    """Events of its firmware that it neither sent nor kept: for want of credit, or of room."""


class Port(Protocol):
    """A receive side, `robust.py` or `stock.py`: takes bytes, and sends payloads by the function it was made with."""

    @property
    def is_dead(self) -> bool:
        """Whether nothing but a reset will make it answer again."""

    @property
    def is_busy(self) -> bool:
        """Whether a long function is under way, which stands still until `go_on` is called."""

    @property
    def listens(self) -> bool:
        """Whether `receive` may be called now: what a board with a long function under way cannot read must wait."""

    def boot(self, seed: int) -> None:
        """Start from nothing: no session, nonces drawn from `seed`; say TERMINATE."""

    def go_on(self) -> None:
        """Let the long function that is under way run to its next yield, or its end."""

    def receive(self, data: bytes) -> None:
        """Take bytes from the line."""


class Monitor(Protocol):
    """Learns what a device does while it does it; may make it take longer, by its clock, or reset it."""

    def before_packet(self) -> None:
        """A packet has arrived, and is about to be served."""

    def before_call(self, name: str) -> None:
        """A function is about to run. Raises FunctionError where it must not."""

    def send(self, payload: bytes, frame: bytes) -> None:
        """Take what the device sends, as `payload` and as the `frame` that carries it."""

    def on_reset(self) -> None:
        """The device is about to boot."""


def split_frames(data: bytes) -> Iterator[bytes]:
    """Cut before each start of a frame, so that a piece holds the end of one frame at most, and that at its end."""
    start = 0
    while (at := data.find(FRAME_START, start + 1)) > 0:
        yield data[start:at]
        start = at
    if start < len(data):
        yield data[start:]
