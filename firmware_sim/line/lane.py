"""One direction of a serial line: what is queued, and when each byte of it has crossed."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

# A byte whose last bit is in by less than a millionth of its time has crossed: times are sums of floats.
_ROUNDING = 1e-6
_XON, _XOFF = 0x11, 0x13


class Crossing(NamedTuple):
    """Bytes that have crossed one after the other without a pause, and when the last one had."""

    data: bytes
    end: float


class Lane:
    """Carries bytes, one every `byte_s` seconds, in order. Flow control opens and closes its gate.

    A closed gate lets no byte begin; the one on its way is finished. Bytes handed over together are a run. When a byte
    has crossed does not depend on when, or how often, anybody asks.
    """

    def __init__(self, byte_s: float) -> None:
        self.byte_s = byte_s
        self.bytes_carried = 0
        """How many have crossed."""
        self.queued_bytes = 0
        """How many are to cross still."""
        self._runs: deque[tuple[float, bytes]] = deque()
        self._is_open = True
        self._gates: deque[tuple[float, bool]] = deque()
        self._origin = -math.inf  # when the last byte began that did not follow another one at once,
        self._count = 0  # and how many have crossed since then
        self._slack_s = byte_s * _ROUNDING
        self._look()

    @property
    def busy_s(self) -> float:
        """How long bytes were on their way, in all, in seconds."""
        return self.bytes_carried * self.byte_s

    def put(self, data: bytes, at: float) -> None:
        """Queue a run at the time `at`, before those of a later time."""
        if data:
            index = len(self._runs)
            while index and self._runs[index - 1][0] > at:
                index -= 1
            self._runs.insert(index, (at, data))
            self.queued_bytes += len(data)
            if not index:
                self._look()

    def set_gate(self, at: float, *, is_open: bool) -> None:
        """Open or close the gate at the time `at`, after all earlier changes."""
        self._gates.append((max(at, self._gates[-1][0]) if self._gates else at, is_open))
        self._look()

    def obey_xon_xoff(self, data: bytes, at: float) -> bytes:
        """Open or close the gate as the last XON or XOFF of `data` has it, and give the rest of `data`."""
        last = max(data.rfind(_XON), data.rfind(_XOFF))
        if last < 0:
            return data
        self.set_gate(at, is_open=data[last] == _XON)
        return data.translate(None, bytes((_XON, _XOFF)))

    # --- when ------------------------------------------------------------------------------------

    def next_end(self, most_bytes: float = math.inf) -> float:
        """When the next run will have crossed, or what of it the gate lets pass, but no more than `most_bytes` of it.

        Infinity where nothing is to come.
        """
        return self._passing_end if most_bytes >= self._passing_bytes else self._end(self._start, int(most_bytes))

    def has_crossed(self, until: float) -> bool:
        """Whether `take` would give something."""
        return self._byte_end <= until + self._slack_s

    def idle_at(self) -> float:
        """When all that is queued will have crossed, as far as no gate closes; -inf before the first byte."""
        at = self._free_at
        for ready, data in self._runs:
            at = max(at, ready) + len(data) * self.byte_s
        return at

    def is_busy(self, at: float) -> bool:
        """Whether a byte is on its way at the time `at`, as far as no gate closes."""
        end = self._free_at
        for ready, data in self._runs:
            start = max(end, ready)
            end = start + len(data) * self.byte_s
            if start <= at < end - self.byte_s * _ROUNDING:
                return True
        return False

    def waiting_bytes(self, at: float) -> int:
        """How many bytes of the queue have not crossed by the time `at`."""
        return self.queued_bytes - self._crossed_bytes(at)

    # --- what ------------------------------------------------------------------------------------

    def take(self, until: float, most_bytes: float = math.inf) -> Crossing | None:
        """Give what of the next run has crossed by `until`, None where nothing has."""
        crossed = self._crossed_bytes(until)
        if not crossed:
            return None
        crossed = int(min(crossed, most_bytes))
        start, end = self._start, self._end(self._start, crossed)
        while self._gates and self._gates[0][0] <= start:
            self._is_open = self._gates.popleft()[1]
        if start > self._free_at:
            self._origin, self._count = start, 0
        self._count += crossed
        self.bytes_carried += crossed
        self.queued_bytes -= crossed
        ready, data = self._runs.popleft()
        if crossed < len(data):
            self._runs.appendleft((ready, data[crossed:]))
            data = data[:crossed]
        self._look()
        return Crossing(data, end)

    def clear(self) -> None:
        """Lose what has not crossed, and open the gate."""
        self._runs.clear()
        self.queued_bytes = 0
        self._gates.clear()
        self._is_open = True
        self._look()

    def cut(self, at: float) -> None:
        """Lose what will not have crossed at the time `at`, as far as no gate closes."""
        runs, self._runs = self._runs, deque()
        self.queued_bytes = 0
        self._look()
        end = self._free_at
        for ready, data in runs:
            start = max(end, ready)
            crossed = math.floor((at - start) / self.byte_s + _ROUNDING) if start < at else 0
            self.put(data[:crossed], ready)
            if crossed < len(data):
                return
            end = start + len(data) * self.byte_s

    def withdraw(self, at: float) -> None:
        """Lose the runs that come after the time `at`."""
        self._runs = deque(run for run in self._runs if run[0] <= at)
        self.queued_bytes = sum(len(data) for _, data in self._runs)
        self._look()

    # --- inside ----------------------------------------------------------------------------------

    @property
    def _free_at(self) -> float:
        return self._origin + self._count * self.byte_s

    def _end(self, start: float, count: int) -> float:
        """When the `count`th byte from `start` on will have crossed."""
        free_at = self._free_at
        return start + count * self.byte_s if start > free_at else self._origin + (self._count + count) * self.byte_s

    def _look(self) -> None:
        """Note when the next byte begins, and how far the gate lets its run pass: asked far more often than changed."""
        self._start = start = self._find_start()
        if start < math.inf:
            self._passing_bytes = self._find_passing_bytes(start)
            self._byte_end, self._passing_end = self._end(start, 1), self._end(start, self._passing_bytes)
        else:
            self._passing_bytes = 0
            self._byte_end = self._passing_end = math.inf

    def _find_start(self) -> float:
        """When the next byte begins; infinity where none is to come, or the gate is closed and nobody opens it."""
        if not self._runs:
            return math.inf
        start = max(self._free_at, self._runs[0][0])
        is_open = self._is_open
        for at, opens in self._gates:
            if at > start and is_open:
                break
            is_open = opens
            if is_open:
                start = max(start, at)
        return start if is_open else math.inf

    def _find_passing_bytes(self, start: float) -> int:
        """How many bytes of the next run begin before the gate closes."""
        size_bytes = len(self._runs[0][1])
        for at, opens in self._gates:
            if at > start and not opens:
                return max(1, min(size_bytes, math.ceil((at - start) / self.byte_s - _ROUNDING)))
        return size_bytes

    def _crossed_bytes(self, until: float) -> int:
        """How many bytes of the next run have crossed by `until`, of those that the gate lets pass."""
        until += self._slack_s
        if self._passing_end <= until:
            return self._passing_bytes
        if self._byte_end > until:
            return 0
        crossed = int((until - self._start) / self.byte_s) + 1
        while self._end(self._start, crossed) > until:
            crossed -= 1
        return crossed
