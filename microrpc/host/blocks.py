"""A copy as a plan of blocks that the board's receive buffer can take (docs/protocol.md 4). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from microrpc.errors import CopyRangeError
from microrpc.wire.datatypes import Tensor

UNLIMITED = 2**64 - 1
"""The limit, in bytes, of a board that has no function to ask for one."""


@dataclass(frozen=True, slots=True)
class Block:
    """One CopyToRemote or CopyFromRemote: `size_bytes` at `byte_offset` (the tensor's, as it goes on the wire)."""

    byte_offset: int
    size_bytes: int


def copy_overhead_bytes(ndim: int) -> int:
    """Bytes of a copy packet that are not data, for a tensor of `ndim` dimensions (docs/protocol.md 4).

    From the packet's code on: code, data, device, ndim, dtype, byte_offset, nbytes and the shape.
    """
    return 4 + 8 + 8 + 4 + 4 + 8 + 8 + 8 * ndim


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
    """Raise CopyRangeError where a copy of `size_bytes` would reach past the end of the tensor."""
    if size_bytes < 0 or tensor.byte_offset + size_bytes > tensor.size_bytes:
        raise CopyRangeError(
            f"overflow in tensor size: (byte_offset={tensor.byte_offset}, nbytes={size_bytes}, "
            f"tensor_total_size={tensor.size_bytes})"
        )
