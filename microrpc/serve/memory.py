"""A heap of a fixed size, as a device has: addresses are handles, and every access is checked (docs/device.md 3).

Serving sessions allocate tensors from it (docs/protocol.md 3, codes 6, 7, 13, 14, 16, 17).
"""

from __future__ import annotations

import enum
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

DEFAULT_BASE_ADDRESS = 0x2000_0000  # where SRAM begins on a Cortex-M
"""Where SRAM begins on a Cortex-M."""
_MOST_ALIGNMENT = 1 << 30


class MemoryAccessError(Exception):
    """An address or range that is not inside a live allocation; the text says which."""


class OutOfMemoryError(Exception):
    """No free block is large enough; the text says what was asked and what is left."""


class BlockKind(enum.Enum):
    """What a block holds, and so who may free it, and whether its bytes may be seen."""

    DATA = "data"  # that the client allocated
    """That the client allocated."""
    ARRAY = "array"  # that a function returned
    """That a function returned."""
    OBJECT = "object"  # a function that a function returned; its bytes are nobody's business
    """A function that a function returned; its bytes are nobody's business."""


class Memory:
    """`size_bytes` of memory at `base_address`, given out first fit; a table of the blocks lies at its end.

    A block of 0 bytes has an address of its own, unlike on the C runtime, where it aliases the next block.
    """

    table_entry_bytes = 8
    """What each block takes at the end of the memory, besides its own bytes."""

    def __init__(self, size_bytes: int, *, base_address: int = DEFAULT_BASE_ADDRESS) -> None:
        self.size_bytes = size_bytes
        self.base_address = base_address
        self.most_occupied_bytes = 0
        """The most that `occupied_bytes` ever was since the boot."""
        self._storage = bytearray(size_bytes)
        self._addresses: list[int] = []
        self._blocks: dict[int, tuple[int, BlockKind]] = {}

    @property
    def used_bytes(self) -> int:
        """How many bytes are allocated, without the table."""
        return sum(self.blocks.values())

    @property
    def occupied_bytes(self) -> int:
        """How many bytes are allocated, and what the table takes of the memory."""
        return self.used_bytes + self.table_entry_bytes * len(self._blocks)

    @property
    def largest_free_bytes(self) -> int:
        """The most that can be allocated at once, aligned to 8 bytes."""
        return max([0, *(stop - start for _, start, stop in self._gaps(8))])

    @property
    def blocks(self) -> dict[int, int]:
        """The live allocations: address -> size in bytes."""
        return {address: size_bytes for address, (size_bytes, _) in self._blocks.items()}

    def alloc(self, size_bytes: int, alignment_bytes: int = 8, kind: BlockKind = BlockKind.DATA) -> int:
        """Give the address of a new block of zeros.

        Raises OutOfMemoryError, or MemoryAccessError for a senseless request.
        """
        if size_bytes < 0 or not 0 < alignment_bytes <= _MOST_ALIGNMENT or alignment_bytes & (alignment_bytes - 1):
            raise MemoryAccessError(f"cannot allocate {size_bytes} bytes aligned to {alignment_bytes}")
        taken = max(size_bytes, 1)
        largest = 0
        for index, aligned, stop in self._gaps(alignment_bytes):
            if aligned + taken <= stop:
                self._addresses.insert(index, aligned)
                self._blocks[aligned] = (taken, kind)
                self.most_occupied_bytes = max(self.most_occupied_bytes, self.occupied_bytes)
                offset = aligned - self.base_address
                self._storage[offset : offset + taken] = bytes(taken)
                return aligned
            largest = max(largest, stop - aligned)
        raise OutOfMemoryError(f"out of memory: {size_bytes} bytes asked for, the largest free block has {largest}")

    def _gaps(self, alignment_bytes: int) -> Iterator[tuple[int, int, int]]:
        """Give where a block could go: its index, the first aligned address of the gap, and the end of it.

        There is none where the table has no room for one more.
        """
        table = self.base_address + self.size_bytes - self.table_entry_bytes * (len(self._addresses) + 1)
        starts = [self.base_address, *map(self._end, self._addresses)]
        if starts[-1] <= table:
            for index, (start, stop) in enumerate(zip(starts, [*self._addresses, table], strict=True)):
                yield index, (start + alignment_bytes - 1) & -alignment_bytes, stop

    def holds(self, address: int, kind: BlockKind) -> bool:
        """Whether a block of this kind begins at `address`."""
        return address in self._blocks and self._blocks[address][1] is kind

    def free(self, address: int, kind: BlockKind = BlockKind.DATA) -> None:
        """Free what `alloc` gave. Raises MemoryAccessError where no block of this kind begins."""
        if not self.holds(address, kind):
            raise MemoryAccessError(f"cannot free 0x{address:x}: no block begins there")
        del self._blocks[address]
        del self._addresses[bisect_left(self._addresses, address)]

    def view(self, address: int, size_bytes: int) -> memoryview:
        """Give `size_bytes` at `address`, writable. Raises MemoryAccessError unless they lie in data or in an array."""
        index = bisect_right(self._addresses, address) - 1
        block = self._addresses[index] if index >= 0 else 0
        is_inside = index >= 0 and 0 <= size_bytes <= self._end(block) - address
        if not is_inside or self._blocks[block][1] is BlockKind.OBJECT:
            raise MemoryAccessError(f"{size_bytes} bytes at 0x{address:x} are not inside an allocated block")
        offset = address - self.base_address
        return memoryview(self._storage)[offset : offset + size_bytes]

    def clear(self) -> None:
        """Lose everything, as a reset does."""
        self._storage = bytearray(self.size_bytes)
        self._addresses.clear()
        self._blocks.clear()
        self.most_occupied_bytes = 0

    def _end(self, block: int) -> int:
        return block + self._blocks[block][0]
