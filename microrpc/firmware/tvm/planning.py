"""Where the intermediate tensors of a model lie in one arena: those that are not alive together share their bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

ALIGNMENT_BYTES = 16
"""Every buffer begins at a multiple of it, as vector instructions of the larger cores want it."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A buffer of `size_bytes`, alive from the `first_step`, which writes it, through the `last_step` that reads it."""

    size_bytes: int
    first_step: int
    last_step: int

    def meets(self, other: Lifetime) -> bool:
        """Whether there is a step in which both are alive."""
        return self.first_step <= other.last_step and other.first_step <= self.last_step


@dataclass(frozen=True, slots=True)
class Arena:
    """`offsets`: where each buffer begins, in the order in which they were given; `size_bytes`: of the whole arena."""

    offsets: tuple[int, ...]
    size_bytes: int


def plan_arena(buffers: Sequence[Lifetime]) -> Arena:
    """Lay the buffers out so that two which are alive in the same step share no byte.

    The best arena is hard to find; here buffers are placed one after another, each in the smallest gap that takes it.
    That depends on the order, so a few are tried, and the smallest arena is taken.
    """
    orders: tuple[Callable[[Lifetime], tuple[int, ...]], ...] = (
        lambda buffer: (-buffer.size_bytes, buffer.first_step),
        lambda buffer: (-buffer.size_bytes * (buffer.last_step - buffer.first_step + 1), buffer.first_step),
        lambda buffer: (buffer.first_step, -buffer.last_step, -buffer.size_bytes),
        lambda buffer: (-buffer.last_step, buffer.first_step, -buffer.size_bytes),
    )
    arenas = [_place(buffers, sorted(range(len(buffers)), key=lambda i: order(buffers[i]))) for order in orders]
    return min(arenas, key=lambda arena: arena.size_bytes)


def _place(buffers: Sequence[Lifetime], order: Sequence[int]) -> Arena:
    offsets = [0] * len(buffers)
    placed: list[int] = []  # by their offsets
    end = 0
    for i in order:
        size = _rounded_up(buffers[i].size_bytes)
        offsets[i] = _smallest_gap(size, [(offsets[j], buffers[j]) for j in placed if buffers[j].meets(buffers[i])])
        end = max(end, offsets[i] + size)
        placed.append(i)
        placed.sort(key=lambda j: offsets[j])
    return Arena(tuple(offsets), end)


def _smallest_gap(size: int, neighbours: Sequence[tuple[int, Lifetime]]) -> int:
    """Give the offset of the tightest gap between the neighbours, which are in the order of their offsets."""
    best: tuple[int, int] | None = None  # its room, its offset
    free_from = 0
    for offset, neighbour in neighbours:
        room = offset - free_from
        if room >= size and (best is None or room < best[0]):
            best = (room, free_from)
        free_from = max(free_from, offset + _rounded_up(neighbour.size_bytes))
    return best[1] if best is not None else free_from


def _rounded_up(size_bytes: int) -> int:
    """Round up to the alignment; a buffer without bytes takes some all the same, so that it has a place of its own."""
    return max(-(-size_bytes // ALIGNMENT_BYTES), 1) * ALIGNMENT_BYTES
