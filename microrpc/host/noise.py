"""How noisy the line is, and how large a block wastes least (docs/link.md 4)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from microrpc.wire.frames import FRAME_OVERHEAD_BYTES
from microrpc.wire.link import WRITE_OVERHEAD_BYTES

_LEAST_BLOCK_BYTES = 32


_NOISE_WINDOW_BYTES = 128 * 1024


_FEW_LOSSES = 0.1  # one, long ago


@dataclass(slots=True)
class Noise:
    """How often something is lost, over about the last 128 KiB."""

    bytes_passed: float = 0.0
    losses: float = 0.0

    def note_success(self, wire_bytes: int) -> None:
        """Take note of a request and its reply that have passed."""
        self.bytes_passed += wire_bytes
        if self.bytes_passed > _NOISE_WINDOW_BYTES:
            self.bytes_passed /= 2
            self.losses /= 2

    def note_loss(self, wire_bytes: int) -> None:
        """Take note of a request that was lost, or whose reply was; its bytes count all the same."""
        self.losses += 1
        self.note_success(wire_bytes)

    def best_block_bytes(self, most_bytes: int) -> int:
        """Give the size of a block that wastes least: for its header where it is small, for its losses where not."""
        if self.losses < _FEW_LOSSES:
            return most_bytes
        best = math.sqrt((WRITE_OVERHEAD_BYTES + FRAME_OVERHEAD_BYTES) * self.bytes_passed / self.losses)
        return min(max(int(best), _LEAST_BLOCK_BYTES), most_bytes)
