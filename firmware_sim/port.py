"""What the receive sides of a simulated board have in common: `robust.py` and `stock.py` implement `Port`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class Stats:
    """What arrived at a board since it was made; resets do not clear it."""

    frames_received: int = 0
    frames_damaged: int = 0
    messages_dropped: int = 0
    resets: int = 0


class Port(Protocol):
    """Takes the bytes from the line, and sends frame payloads through the function it was made with."""

    @property
    def is_dead(self) -> bool:
        """Whether nothing but a reset will make it answer again."""

    def boot(self, seed: int) -> None:
        """Start from nothing: no session, nonces drawn from `seed`; say TERMINATE."""

    def receive(self, data: bytes) -> None:
        """Take bytes from the line."""
