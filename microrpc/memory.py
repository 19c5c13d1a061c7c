"""A heap of a fixed size, as a device has: addresses are handles, and every access is checked.

Serving sessions allocate tensors from it (docs/protocol.md 3, codes 6, 7, 13, 14, 16, 17).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

DEFAULT_BASE_ADDRESS = 0x2000_0000  # where SRAM begins on a Cortex-M


class MemoryAccessError(Exception):
    """An address or range that is not inside a live allocation; the text says which."""


class OutOfMemoryError(Exception):
    """No free block is large enough; the text says what was asked and what is left."""


class Memory:
    """`size_bytes` of memory at `base_address`, given out first fit.

    A block of 0 bytes has an address of its own, unlike on the C runtime, where it aliases the next block.
    """

    def __init__(self, size_bytes: int, *, base_address: int = DEFAULT_BASE_ADDRESS) -> None:
        self.size_bytes = size_bytes
        self.base_address = base_address
        self._storage = bytearray(size_bytes)
        self._addresses: list[int] = []
        self._sizes: dict[int, int] = {}

    @property
    def used_bytes(self) -> int:
        """How much is allocated."""
        return sum(self._sizes.values())

    @property
    def blocks(self) -> dict[int, int]:
        """The live allocations: address -> size in bytes."""
        return dict(self._sizes)

    def alloc(self, size_bytes: int, alignment_bytes: int = 8) -> int:
        """Allocate; give the address. Raises OutOfMemoryError, or MemoryAccessError for a senseless request."""
        if size_bytes < 0 or alignment_bytes <= 0 or alignment_bytes & (alignment_bytes - 1):
            raise MemoryAccessError(f"cannot allocate {size_bytes} bytes aligned to {alignment_bytes}")
        taken = max(size_bytes, 1)
        start = self.base_address
        largest = 0
        for index in range(len(self._addresses) + 1):
            end = self._addresses[index] if index < len(self._addresses) else self.base_address + self.size_bytes
            aligned = (start + alignment_bytes - 1) & -alignment_bytes
            if aligned + taken <= end:
                self._addresses.insert(index, aligned)
                self._sizes[aligned] = taken
                return aligned
            largest = max(largest, end - aligned)
            if index < len(self._addresses):
                start = end + self._sizes[end]
        raise OutOfMemoryError(
            f"out of memory: {size_bytes} bytes asked for, the largest free block has {largest} "
            f"({self.used_bytes} of {self.size_bytes} are in use)"
        )

    def free(self, address: int) -> None:
        """Free what `alloc` gave. Raises MemoryAccessError for any other address."""
        if address not in self._sizes:
            raise MemoryAccessError(f"cannot free 0x{address:x}: no block begins there")
        del self._sizes[address]
        del self._addresses[bisect_left(self._addresses, address)]

    def view(self, address: int, size_bytes: int) -> memoryview:
        """Give `size_bytes` at `address`, writable. Raises MemoryAccessError unless they lie in one live block."""
        index = bisect_right(self._addresses, address) - 1
        block = self._addresses[index] if index >= 0 else 0
        if index < 0 or size_bytes < 0 or address + size_bytes > block + self._sizes[block]:
            raise MemoryAccessError(f"{size_bytes} bytes at 0x{address:x} are not inside an allocated block")
        offset = address - self.base_address
        return memoryview(self._storage)[offset : offset + size_bytes]

    def clear(self) -> None:
        """Lose everything, as a reset does."""
        self._storage = bytearray(self.size_bytes)
        self._addresses.clear()
        self._sizes.clear()
