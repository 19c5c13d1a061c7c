from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from microrpc.serve.memory import DEFAULT_BASE_ADDRESS, BlockKind, Memory, MemoryAccessError, OutOfMemoryError

SIZE = 512
ALIGNMENTS = st.sampled_from([1, 2, 8, 16, 64, 128])


class MemoryMachine(RuleBasedStateMachine):
    """Memory against a model that knows each block's contents and no addresses."""

    blocks = Bundle("blocks")

    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory(SIZE, base_address=0x1000)
        self.contents: dict[int, bytes] = {}
        self.most_bytes = 0

    @rule(target=blocks, size=st.integers(0, SIZE // 3), alignment=ALIGNMENTS, filler=st.integers(0, 255))
    def alloc(self, size: int, alignment: int, filler: int) -> int | None:
        try:
            address = self.memory.alloc(size, alignment)
        except OutOfMemoryError:
            assert self.largest_gap(alignment) < max(size, 1)
            return None
        assert address % alignment == 0
        assert max(block + len(data) for block, data in [*self.contents.items(), (address, bytes(size))]) <= (
            0x1000 + SIZE - 8 * (len(self.contents) + 1)
        )
        self.memory.view(address, size)[:] = bytes([filler]) * size
        self.contents[address] = bytes([filler]) * size
        return address

    @rule(address=consumes(blocks))
    def free(self, address: int | None) -> None:
        if address in self.contents:
            self.memory.free(address)
            del self.contents[address]
            with pytest.raises(MemoryAccessError):
                self.memory.free(address)

    @rule(start=st.integers(0x0FF0, 0x1000 + SIZE + 16), size=st.integers(0, SIZE))
    def view(self, start: int, size: int) -> None:
        end = start + size
        inside = any(block <= start and end <= block + max(len(data), 1) for block, data in self.contents.items())
        if inside:
            assert len(self.memory.view(start, size)) == size
        else:
            with pytest.raises(MemoryAccessError):
                self.memory.view(start, size)

    @rule()
    def clear(self) -> None:
        if len(self.contents) > 5:
            self.memory.clear()
            self.contents.clear()
            self.most_bytes = 0

    @invariant()
    def what_is_occupied_and_free_is_told(self) -> None:
        occupied_bytes = sum(8 + max(len(data), 1) for data in self.contents.values())
        self.most_bytes = max(self.most_bytes, occupied_bytes)
        assert (self.memory.occupied_bytes, self.memory.most_occupied_bytes) == (occupied_bytes, self.most_bytes)
        assert self.memory.largest_free_bytes == max(self.largest_gap(8), 0)

    @invariant()
    def every_block_has_its_contents_and_none_overlap(self) -> None:
        for address, data in self.contents.items():
            assert bytes(self.memory.view(address, len(data))) == data
        sizes = {address: max(len(data), 1) for address, data in self.contents.items()}
        assert self.memory.blocks == sizes
        assert self.memory.used_bytes == sum(sizes.values())
        ends = sorted((address, address + size) for address, size in sizes.items())
        assert all(start >= 0x1000 and end <= 0x1000 + SIZE for start, end in ends)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ends))

    def largest_gap(self, alignment: int) -> int:
        ends = sorted((address, address + max(len(data), 1)) for address, data in self.contents.items())
        starts = [0x1000, *(end for _, end in ends)]
        stops = [*(start for start, _ in ends), 0x1000 + SIZE - 8 * (len(ends) + 1)]
        if starts[-1] > stops[-1]:
            return 0
        return max(stop - -(-start // alignment) * alignment for start, stop in zip(starts, stops, strict=True))


TestMemoryAgainstAModel = MemoryMachine.TestCase
TestMemoryAgainstAModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_memory_begins_where_sram_does_and_is_given_out_first_fit() -> None:
    memory = Memory(150)
    first, second, third = (memory.alloc(20, 1) for _ in range(3))
    assert [first, second, third] == [DEFAULT_BASE_ADDRESS + 20 * i for i in range(3)]
    memory.free(second)
    assert memory.alloc(30, 1) == third + 20
    assert memory.alloc(20, 1) == second


def test_alignment_is_that_of_the_address() -> None:
    memory = Memory(100, base_address=0x1001)
    assert memory.alloc(1, 16) == 0x1010


def test_empty_blocks_have_addresses_of_their_own() -> None:
    memory = Memory(100)
    first, second = memory.alloc(0), memory.alloc(0)
    assert first != second
    assert len(memory.view(first, 0)) == 0
    memory.free(first)
    memory.free(second)


def test_the_largest_free_block_is_one_that_can_be_allocated() -> None:
    memory = Memory(64)
    memory.alloc(20)
    assert memory.largest_free_bytes == 64 - 2 * 8 - 24
    memory.alloc(memory.largest_free_bytes)
    assert memory.largest_free_bytes == 0  # the table has no room
    assert Memory(8, base_address=0x1001).largest_free_bytes == 0  # aligned there is nothing
    assert Memory(0).largest_free_bytes == 0


def test_running_out_of_memory_says_what_is_left() -> None:
    memory = Memory(100)
    memory.alloc(30)
    with pytest.raises(OutOfMemoryError) as caught:
        memory.alloc(80)
    assert str(caught.value) == "out of memory: 80 bytes asked for, the largest free block has 52"


@pytest.mark.parametrize(
    ("sizes", "freed", "size", "alignment", "largest"),
    [
        ([], [], 93, 8, 92),
        ([], [], 1, 128, 0),  # aligned in this heap there is nothing
        ([92], [], 0, 1, 0),  # the block ends where the table begins, and a second entry needs room
        ([84], [], 1, 8, 0),
        ([76], [], 9, 1, 8),
        ([76], [], 5, 8, 4),
        ([40, 30], [0], 41, 1, 40),  # a gap before a block; behind it are 6
        ([40, 36], [0], 41, 1, 40),  # behind it is nothing
        ([40, 30], [1], 45, 1, 44),  # a freed block gives its entry back
    ],
)
def test_the_table_of_blocks_takes_room_at_the_end(
    sizes: list[int], freed: list[int], size: int, alignment: int, largest: int
) -> None:
    memory = Memory(100, base_address=0x1008)
    addresses = [memory.alloc(size, 1) for size in sizes]
    for index in freed:
        memory.free(addresses[index])
    with pytest.raises(OutOfMemoryError) as caught:
        memory.alloc(size, alignment)
    assert str(caught.value) == f"out of memory: {size} bytes asked for, the largest free block has {largest}"
    if largest:
        assert memory.alloc(largest, alignment)


def test_a_heap_without_room_for_the_first_entry_gives_nothing() -> None:
    for size in (0, 7, 8):
        with pytest.raises(OutOfMemoryError, match=r"the largest free block has 0$"):
            Memory(size).alloc(0)
    assert Memory(9).alloc(0) == DEFAULT_BASE_ADDRESS


def test_a_new_block_is_filled_with_zeros() -> None:
    memory = Memory(64)
    address = memory.alloc(20, 1)
    memory.view(address, 20)[:] = b"x" * 20
    memory.free(address)
    assert bytes(memory.view(memory.alloc(0), 1)) == b"\0"
    assert bytes(memory.view(memory.alloc(12, 1), 12)) == bytes(12)


def test_a_block_is_freed_as_what_it_is_and_an_object_is_never_seen() -> None:
    memory = Memory(200)
    blocks = {kind: memory.alloc(16, kind=kind) for kind in BlockKind}
    for kind, address in blocks.items():
        assert [other for other in BlockKind if memory.holds(address, other)] == [kind]
        if kind is BlockKind.OBJECT:
            with pytest.raises(MemoryAccessError, match=f"0 bytes at 0x{address:x} are not inside an allocated block"):
                memory.view(address, 0)
        else:
            assert len(memory.view(address, 16)) == 16
        for other in set(BlockKind) - {kind}:
            with pytest.raises(MemoryAccessError, match=f"cannot free 0x{address:x}: no block begins there"):
                memory.free(address, other)
        memory.free(address, kind)
    assert memory.used_bytes == 0


@pytest.mark.parametrize(("size", "alignment"), [(-1, 8), (8, 0), (8, -8), (8, 12)])
def test_a_senseless_request_is_refused(size: int, alignment: int) -> None:
    with pytest.raises(MemoryAccessError, match=f"cannot allocate {size} bytes aligned to {alignment}"):
        Memory(100).alloc(size, alignment)


def test_only_what_was_given_out_can_be_freed_and_seen() -> None:
    memory = Memory(100)
    address = memory.alloc(10)
    with pytest.raises(MemoryAccessError, match=f"cannot free 0x{address + 1:x}: no block begins there"):
        memory.free(address + 1)
    with pytest.raises(MemoryAccessError, match=f"-1 bytes at 0x{address:x} are not inside an allocated block"):
        memory.view(address, -1)
    with pytest.raises(MemoryAccessError):
        memory.view(0, 0)


def test_a_view_ends_with_its_block_at_the_latest() -> None:
    memory = Memory(100)
    address = memory.alloc(10)
    memory.alloc(10)
    for at, most_bytes in ((0, 10), (9, 1), (10, 0)):
        assert len(memory.view(address + at, most_bytes)) == most_bytes
        text = f"{most_bytes + 1} bytes at 0x{address + at:x} are not inside an allocated block"
        with pytest.raises(MemoryAccessError, match=text):
            memory.view(address + at, most_bytes + 1)


@given(st.integers(0, 40), st.integers(0, 40))
def test_a_view_writes_through(at: int, size: int) -> None:
    memory = Memory(100)
    address = memory.alloc(80)
    memory.view(address + at, size)[:] = b"\x5a" * size
    assert bytes(memory.view(address, 80)) == bytes(at) + b"\x5a" * size + bytes(80 - at - size)


def test_clearing_loses_blocks_and_contents() -> None:
    memory = Memory(16)
    memory.view(memory.alloc(8), 8)[:] = b"contents"
    memory.clear()
    assert (memory.blocks, memory.used_bytes) == ({}, 0)
    assert bytes(memory.view(memory.alloc(8), 8)) == bytes(8)
