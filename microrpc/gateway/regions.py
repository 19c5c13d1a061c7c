"""Who owns which memory, for a board that several clients share: ranges of addresses, found by what lies in them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Regions(Generic[T]):
    """Ranges of addresses that do not overlap, and something that is known of each."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._found: dict[int, tuple[int, T]] = {}

    def __len__(self) -> int:
        return len(self._starts)

    def __contains__(self, start: int) -> bool:
        return start in self._found

    def add(self, start: int, size_bytes: int, thing: T) -> None:
        """Add a range; one that begins there already is replaced. An empty one still has its first byte."""
        if start not in self._found:
            insort(self._starts, start)
        self._found[start] = start + max(size_bytes, 1), thing

    def remove(self, start: int) -> None:
        """Remove the range that begins there, if there is one."""
        if self._found.pop(start, None) is not None:
            del self._starts[bisect_left(self._starts, start)]

    def overlapping(self, start: int, size_bytes: int) -> Iterator[T]:
        """Give what is known of each range that has a byte of these; of no bytes, of the one at their place."""
        end = start + max(size_bytes, 1)
        for index in range(max(bisect_right(self._starts, start) - 1, 0), len(self._starts)):
            first = self._starts[index]
            if first >= end:
                return
            last, thing = self._found[first]
            if last > start:
                yield thing
