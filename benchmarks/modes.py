"""Whom and how ours is measured with: a firmware, and how the host connects to it. One line of MODES is one mode."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from benchmarks.ceilings import Ceiling, Direction, back_to_back, over_the_link, stop_and_wait
from microrpc.boards.catalogue import profile
from microrpc.boards.schema import BoardProfile

PROFILE = "loopback"
HEAP_BYTES = 1 << 21


@dataclass(frozen=True)
class Mode:
    """`connecting` goes to `microrpc.connect` and `open_board`; `ceiling` is that of a copy on a line."""

    name: str
    firmware: Literal["robust", "stock"]
    connecting: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    ceiling: Callable[[int, Direction], Ceiling] = stop_and_wait
    repeats_losses: bool = False
    """Whether the link itself repeats what is lost, so that a program sees nothing of it."""
    knows_ring: bool = False
    """Whether the host is told how large the ring of the board is."""


MODES = {
    mode.name: mode
    for mode in (
        Mode("stock", "stock"),
        Mode("robust", "robust", {"link": False}),
        Mode("link", "robust", ceiling=over_the_link, repeats_losses=True),
    )
}

LINE_MODES = (
    MODES["stock"],
    Mode("stock, ring known", "stock", ceiling=back_to_back, knows_ring=True),
    MODES["link"],
)
"""Those that differ on the wire of a copy."""


def board_profile(packet_bytes: int, *, baud: int | None = None, heap_bytes: int = HEAP_BYTES) -> BoardProfile:
    """Give a board with packets of that size, and a heap for what is measured."""
    board = profile(PROFILE)
    return dataclasses.replace(
        board,
        packet_size_bytes=packet_bytes,
        receive_ring_bytes=packet_bytes + 100,
        heap_bytes=heap_bytes,
        baud=baud or board.baud,
    )
