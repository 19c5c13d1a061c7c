"""The time that a simulated board lives in: real, or virtual so that a test is exact and instant."""

from __future__ import annotations

import math
import time
from typing import Protocol


class Clock(Protocol):
    """Seconds that only grow, from an arbitrary start."""

    def now(self) -> float:
        """Give the time in seconds."""

    def sleep(self, seconds: float) -> None:
        """Let `seconds` go by; none where they are not positive."""


class RealClock:
    """The time of the machine."""

    def now(self) -> float:
        """Give the time in seconds."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        if seconds > 0:
            time.sleep(seconds)


class VirtualClock:
    """A time that passes only where someone sleeps, and then at once."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        """Give the time in seconds."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Move the time on. Raises ValueError for a sleep that would never end."""
        if seconds > 0:
            self.move_to(self._now + seconds)

    def move_to(self, time: float) -> None:
        """Let the time be `time`, unless it is later already. Raises ValueError where that would never be."""
        if time == math.inf:
            raise ValueError("a sleep without an end: the deadline must be finite")
        self._now = max(self._now, time)

    def set_to(self, time: float) -> None:
        """Let the time be `time` even if it is later already: what was foreseen until then does not come about."""
        self._now = time
