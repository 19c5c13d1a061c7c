"""Every size of a copy: its plan of blocks, the bytes in flight, and what noise makes of both. Pure.

docs/protocol.md 4 and 6 for boards that take frames, docs/link.md 4 for the link.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from microrpc.errors import CopyRangeError
from microrpc.wire.datatypes import Tensor
from microrpc.wire.frames import FRAME_OVERHEAD_BYTES
from microrpc.wire.link import WRITE_OVERHEAD_BYTES
from microrpc.wire.names import MESSAGE_OVERHEAD_BYTES

UNLIMITED = 2**64 - 1
"""The limit, in bytes, of a board that has no function to ask for one."""

_ESCAPES = 1.005  # what random bytes grow by in a frame; the real length is looked at when it is sent
_BATCH_BLOCKS = 16  # after damage a batch is exchanged anew as a whole, so it must not be long

_LEAST_BLOCK_BYTES = 32
_NOISE_WINDOW_BYTES = 128 * 1024
_FEW_LOSSES = 0.1  # one, long ago


@dataclass(frozen=True, slots=True)
class Block:
    """One CopyToRemote or CopyFromRemote: `size_bytes` at `byte_offset` (the tensor's, as it goes on the wire)."""

    byte_offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be in flight to a board besides the request that it reads: `window_bytes` of frames.

    That is what its ring takes (docs/protocol.md 6), or the window of its link (docs/link.md 4), which also bounds how
    many requests a new one may be ahead of the oldest that is unanswered: `window_requests` at most.
    """

    window_bytes: int
    window_requests: float = math.inf

    def has_room(self, sizes_bytes: Collection[int], size_bytes: int, ahead: int) -> bool:
        """Whether a frame of `size_bytes` may follow those in flight, of `sizes_bytes`.

        `ahead`: how many requests it is ahead of the oldest. Nobody knows which frame is being read and so takes no
        room: it may be the smallest. One frame is always allowed.
        """
        if not sizes_bytes:
            return True
        if ahead >= self.window_requests:
            return False
        return sum(sizes_bytes) + size_bytes - min(min(sizes_bytes), size_bytes) <= self.window_bytes


@dataclass(slots=True)
class Noise:
    """How often something is lost, over about the last 128 KiB: `losses` in `bytes_passed` on the wire."""

    bytes_passed: float = 0.0
    losses: float = 0.0

    def note_success(self, wire_bytes: int) -> None:
        """Take note of a request and its reply that have passed, in `wire_bytes`."""
        self.bytes_passed += wire_bytes
        if self.bytes_passed > _NOISE_WINDOW_BYTES:
            self.bytes_passed /= 2
            self.losses /= 2

    def note_loss(self, wire_bytes: int) -> None:
        """Take note of a request that was lost, or whose reply was; its bytes count all the same."""
        self.losses += 1
        self.note_success(wire_bytes)

    def best_block_bytes(self, packet_bytes: int) -> int:
        """Give the size of a block of a copy over the link, of a board that takes `packet_bytes` (docs/link.md 4).

        It wastes least: for its header where it is small, for its losses where it is not.
        """
        most_bytes = packet_bytes - WRITE_OVERHEAD_BYTES
        if self.losses < _FEW_LOSSES:
            return most_bytes
        best = math.sqrt((WRITE_OVERHEAD_BYTES + FRAME_OVERHEAD_BYTES) * self.bytes_passed / self.losses)
        return min(max(int(best), _LEAST_BLOCK_BYTES), most_bytes)


def copy_overhead_bytes(ndim: int) -> int:
    """Bytes of a copy packet that are not data, for a tensor of `ndim` dimensions (docs/protocol.md 4).

    From the packet's code on: code, data, device, ndim, dtype, byte_offset, nbytes and the shape.
    """
    return 4 + 8 + 8 + 4 + 4 + 8 + 8 + 8 * ndim


def batch_blocks(ring_bytes: int, packet_bytes: int) -> int:
    """How many blocks of a copy are exchanged together: one, or several where a ring takes a frame besides another.

    `packet_bytes`: of a block's request, without its packet_nbytes.
    """
    return (
        _BATCH_BLOCKS if ring_bytes >= (packet_bytes + MESSAGE_OVERHEAD_BYTES + FRAME_OVERHEAD_BYTES) * _ESCAPES else 1
    )


def plan_copy(tensor: Tensor, size_bytes: int, limit_bytes: int) -> Iterator[Block]:
    """The blocks, in order, of a copy of `size_bytes` to or from `tensor`; made lazily (docs/protocol.md 4).

    `limit_bytes` is what the board said, or UNLIMITED. Blocks of `limit_bytes - overhead` and a smaller last one; a
    copy of 0 bytes has none. Raises CopyRangeError at the call, before there is any block: where no byte of data fits
    beside the overhead, and where the copy would reach past the end of the tensor.

    The reference sets the tensor's byte_offset to i * block_size, and so copies a tensor that starts at an offset
    from the wrong place. Here the blocks start at the tensor's own byte_offset; for byte_offset 0 it is the same.
    """
    overhead = copy_overhead_bytes(len(tensor.shape))
    block_bytes = limit_bytes - overhead
    if block_bytes <= 0:
        raise CopyRangeError(
            f"Invalid block size {block_bytes}: the board takes packets of {limit_bytes} bytes, and a copy of a tensor "
            f"of {len(tensor.shape)} dimensions has {overhead} bytes of overhead"
        )
    check_range(tensor, size_bytes)
    # range() and not a loop here: the checks above must run at the call.
    return (
        Block(tensor.byte_offset + start, min(block_bytes, size_bytes - start))
        for start in range(0, size_bytes, block_bytes)
    )


def check_range(tensor: Tensor, size_bytes: int) -> None:
    """Raise CopyRangeError where a copy of `size_bytes` would reach past the end of the tensor (docs/protocol.md 4)."""
    if size_bytes < 0 or tensor.byte_offset + size_bytes > tensor.size_bytes:
        raise CopyRangeError(
            f"overflow in tensor size: (byte_offset={tensor.byte_offset}, nbytes={size_bytes}, "
            f"tensor_total_size={tensor.size_bytes})"
        )
