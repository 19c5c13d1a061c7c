"""The figures of a monitor: how much crosses a line, how long answers take, what was damaged and said again."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

_BITS_A_BYTE = 10  # on a UART: with start and stop
_STEP_S, _STEPS = 0.25, 8
_MOST_TIMES = 1000


@dataclass(frozen=True, slots=True)
class Rate:
    """What crosses the line in a second, each way: frames, and bytes with all that is around them."""

    frames_to_board: float
    """How many went to the board."""
    frames_to_host: float
    """And came from it."""
    bytes_to_board: float
    """The same of bytes."""
    bytes_to_host: float
    """Those of the board."""

    def shares(self, baud: int) -> tuple[float, float]:
        """Give how much of a line of so many bits a second it takes, to the board and from it: 1.0 is all."""
        return self.bytes_to_board * _BITS_A_BYTE / baud, self.bytes_to_host * _BITS_A_BYTE / baud


class Rates:
    """Counts frames and bytes by the time at which they passed; times are in seconds and may go back a little."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Count from 0."""
        self._totals = [0, 0, 0, 0]
        self._steps: deque[tuple[int, list[int]]] = deque(maxlen=_STEPS + 1)
        self._first_s: float | None = None
        self._last_s = 0.0

    @property
    def frames(self) -> tuple[int, int]:
        """How many frames went to the board, and how many came from it."""
        return self._totals[0], self._totals[1]

    @property
    def size_bytes(self) -> tuple[int, int]:
        """How many bytes went to the board, and how many came from it."""
        return self._totals[2], self._totals[3]

    def note(self, time_s: float, size_bytes: int, frames: int, *, to_board: bool) -> None:
        """Take what passed at once."""
        step = int(time_s / _STEP_S)
        if self._first_s is None:
            self._first_s = time_s
        if not self._steps or step > self._steps[-1][0]:
            self._steps.append((step, [0, 0, 0, 0]))
        self._last_s = max(self._last_s, time_s)
        way = 0 if to_board else 1
        for counts in (self._steps[-1][1], self._totals):
            counts[way] += frames
            counts[2 + way] += size_bytes

    def lately(self, now_s: float) -> Rate:
        """Give what crossed the line in the last two seconds, for one second."""
        now = int(now_s / _STEP_S)
        counted = [counts for step, counts in self._steps if now - _STEPS <= step < now]
        return self._rate([sum(column) for column in zip(*counted, strict=True)] or [0] * 4, _STEP_S * _STEPS)

    def overall(self) -> Rate:
        """Give what crossed the line from the first to the last, for one second; 0 where there is no time between."""
        lasted_s = self._last_s - (self._first_s or 0.0)
        return self._rate(self._totals, lasted_s) if lasted_s > 0 else Rate(0.0, 0.0, 0.0, 0.0)

    def _rate(self, counts: list[int], lasted_s: float) -> Rate:
        return Rate(*(count / lasted_s for count in counts))


class RoundTrips:
    """How long the board took to answer: the last thousand times, in seconds, and how many there were in all."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_MOST_TIMES)
        self.count = 0
        """How many there were in all."""

    def clear(self) -> None:
        """Forget them."""
        self._times.clear()
        self.count = 0

    def note(self, time_s: float) -> None:
        """Take one."""
        self._times.append(time_s)
        self.count += 1

    def median_and_worst(self) -> tuple[float, float] | None:
        """Give both, of the last thousand; None before the first."""
        if not self._times:
            return None
        ordered = sorted(self._times)
        return ordered[len(ordered) // 2], ordered[-1]
