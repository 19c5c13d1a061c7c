"""What a round trip takes, smoothed, and how patient that makes the host (docs/link.md 4)."""

from __future__ import annotations

from dataclasses import dataclass

_FIRST_ROUND_TRIP_S = 0.05  # before anything was measured
_LEAST_PATIENCE_S = 0.02
_MOST_PATIENCE_S = 1.0
_MOST_BACK_OFFS = 8


@dataclass(slots=True)
class RoundTrip:
    """What a round trip takes besides the bytes themselves, smoothed as TCP does it (RFC 6298).

    `smoothed_s` and `deviation_s` are guesses until it `is_measured`; `back_offs`: how often the patience is doubled.
    """

    smoothed_s: float = _FIRST_ROUND_TRIP_S
    deviation_s: float = _FIRST_ROUND_TRIP_S / 2
    is_measured: bool = False
    back_offs: int = 0
    base_s: float = 3 * _FIRST_ROUND_TRIP_S
    """What the measurements make of the patience, before any doubling of it."""
    patience_s: float = 3 * _FIRST_ROUND_TRIP_S
    """How long a reply is waited for, past the time of its bytes, before the request is sent again."""

    def measure(self, sample_s: float) -> None:
        """Take note of how long an answer took, past the time of its bytes."""
        self.back_offs = 0
        if self.is_measured:
            self.deviation_s += (abs(self.smoothed_s - sample_s) - self.deviation_s) / 4
            self.smoothed_s += (sample_s - self.smoothed_s) / 8
        else:
            self.is_measured = True
            self.smoothed_s, self.deviation_s = sample_s, sample_s / 2
        margin_s = 4 * self.deviation_s
        self.base_s = base_s = self.smoothed_s + (max(_LEAST_PATIENCE_S, margin_s))
        self.patience_s = min(_MOST_PATIENCE_S, base_s)

    def back_off(self) -> None:
        """Wait for twice as long, until something is measured."""
        self.back_offs = min(self.back_offs + 1, _MOST_BACK_OFFS)
        self.patience_s = min(self.base_s * (1 << self.back_offs), _MOST_PATIENCE_S)
