from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrpc.errors import CopyRangeError
from microrpc.host.blocks import UNLIMITED, Block, Budget, batch_blocks, copy_overhead_bytes, plan_copy
from microrpc.wire.datatypes import CPU, DataType, Tensor
from microrpc.wire.packets import CopyFromRemote, CopyToRemote, encode_packet

UINT8 = DataType(1, 8)


def _tensor(*shape: int, byte_offset: int = 0, dtype: DataType = UINT8) -> Tensor:
    return Tensor(0x1000, CPU, dtype, shape, byte_offset)


def _reference(nbytes: int, ndim: int, limit: int) -> list[tuple[int, int]]:
    """RPCClientSession::CopyToRemote of the C++ host, line by line."""
    overhead = 4 + 8 + 8 + 4 + 4 + 8 + ndim * 8 + 8
    assert limit > overhead
    block_size = limit - overhead
    done, blocks = 0, []
    for i in range(nbytes // block_size):
        blocks.append((i * block_size, block_size))
        done = i + 1
    if nbytes % block_size:
        blocks.append((done * block_size, nbytes % block_size))
    return blocks


@pytest.mark.parametrize(("ndim", "overhead"), [(0, 44), (1, 52), (2, 60), (4, 76)])
def test_the_overhead_is_that_of_the_packet_that_is_really_sent(ndim: int, overhead: int) -> None:
    assert copy_overhead_bytes(ndim) == overhead
    tensor = _tensor(*[2] * ndim)
    assert len(encode_packet(CopyToRemote(tensor, b"abc"))) == 8 + overhead + 3
    (packet_nbytes,) = struct.unpack_from("<Q", encode_packet(CopyToRemote(tensor, b"")))
    assert packet_nbytes == overhead
    assert len(encode_packet(CopyFromRemote(tensor, 1))) == 8 + overhead


def test_a_full_block_fills_the_receive_buffer_exactly() -> None:
    limit_bytes = 2048 - 11
    block = next(plan_copy(_tensor(5000), 5000, limit_bytes))
    packet = encode_packet(CopyToRemote(_tensor(5000), bytes(block.size_bytes)))
    assert len(packet) + 3 == 2048  # 3 of session header


def test_5000_bytes_to_a_2_kib_board_go_as_the_recording_has_them() -> None:
    assert list(plan_copy(_tensor(5000), 5000, 2037)) == [Block(0, 1985), Block(1985, 1985), Block(3970, 1030)]


@pytest.mark.parametrize(
    ("size_bytes", "blocks"),
    [
        (0, []),
        (1, [Block(0, 1)]),
        (7, [Block(0, 7)]),
        (8, [Block(0, 8)]),
        (9, [Block(0, 8), Block(8, 1)]),
        (16, [Block(0, 8), Block(8, 8)]),
        (20, [Block(0, 8), Block(8, 8), Block(16, 4)]),
    ],
)
def test_a_copy_is_full_blocks_and_a_remainder_if_any(size_bytes: int, blocks: list[Block]) -> None:
    assert list(plan_copy(_tensor(20), size_bytes, 52 + 8)) == blocks


@given(size_bytes=st.integers(0, 3000), limit_bytes=st.integers(53, 4000), ndim=st.integers(1, 4))
def test_the_plan_is_that_of_the_reference(size_bytes: int, limit_bytes: int, ndim: int) -> None:
    limit_bytes += 8 * (ndim - 1)
    tensor = _tensor(3000, *[1] * (ndim - 1))
    plan = [(block.byte_offset, block.size_bytes) for block in plan_copy(tensor, size_bytes, limit_bytes)]
    assert plan == _reference(size_bytes, ndim, limit_bytes)


@given(base=st.integers(0, 500), size_bytes=st.integers(0, 500), block_bytes=st.integers(1, 600))
def test_the_blocks_cover_the_range_once_and_in_order(base: int, size_bytes: int, block_bytes: int) -> None:
    at = base
    for block in plan_copy(_tensor(1000, byte_offset=base), size_bytes, 52 + block_bytes):
        assert block.byte_offset == at
        assert 0 < block.size_bytes <= block_bytes
        at += block.size_bytes
    assert at == base + size_bytes


def test_a_tensor_at_an_offset_is_copied_from_its_own_offset() -> None:
    assert list(plan_copy(_tensor(20, byte_offset=10), 10, 52 + 8)) == [Block(10, 8), Block(18, 2)]


def test_without_a_limit_there_is_one_block() -> None:
    assert list(plan_copy(_tensor(10**9), 10**9, UNLIMITED)) == [Block(0, 10**9)]


def test_the_plan_is_lazy() -> None:
    plan = plan_copy(_tensor(2**50), 2**50, 53)
    assert [next(plan), next(plan)] == [Block(0, 1), Block(1, 1)]


@pytest.mark.parametrize("limit_bytes", [52, 51, 0, -1])
def test_a_limit_with_no_room_for_data_is_refused_at_the_call(limit_bytes: int) -> None:
    text = (
        f"Invalid block size {limit_bytes - 52}: the board takes packets of {limit_bytes} bytes, and a copy of a "
        "tensor of 1 dimensions has 52 bytes of overhead"
    )
    with pytest.raises(CopyRangeError) as caught:
        plan_copy(_tensor(4), 4, limit_bytes)
    assert str(caught.value) == text
    with pytest.raises(CopyRangeError, match="Invalid block size"):
        plan_copy(_tensor(4), 0, limit_bytes)  # the reference checks it even for an empty copy


def test_a_limit_with_room_for_one_byte_is_enough() -> None:
    assert list(plan_copy(_tensor(2), 2, 53)) == [Block(0, 1), Block(1, 1)]


@pytest.mark.parametrize(
    ("tensor", "size_bytes", "text"),
    [
        (_tensor(4), 5, "(byte_offset=0, nbytes=5, tensor_total_size=4)"),
        (_tensor(4, byte_offset=1), 4, "(byte_offset=1, nbytes=4, tensor_total_size=4)"),
        (_tensor(3, 0), 1, "(byte_offset=0, nbytes=1, tensor_total_size=0)"),
        (_tensor(4), -1, "(byte_offset=0, nbytes=-1, tensor_total_size=4)"),
        (_tensor(4, byte_offset=2**64 - 1), 2, f"(byte_offset={2**64 - 1}, nbytes=2, tensor_total_size=4)"),
    ],
)
def test_a_copy_past_the_end_is_refused_at_the_call(tensor: Tensor, size_bytes: int, text: str) -> None:
    with pytest.raises(CopyRangeError) as caught:
        plan_copy(tensor, size_bytes, UNLIMITED)
    assert str(caught.value) == f"overflow in tensor size: {text}"


def test_a_copy_may_end_at_the_last_byte() -> None:
    assert list(plan_copy(_tensor(4, dtype=DataType(2, 32)), 16, UNLIMITED)) == [Block(0, 16)]
    assert list(plan_copy(_tensor(4, byte_offset=1), 3, UNLIMITED)) == [Block(1, 3)]


# --- what may be in flight ------------------------------------------------------------------------


def test_a_single_frame_is_always_allowed_however_large() -> None:
    assert Budget(0).has_room([], 10_000, 0)


@pytest.mark.parametrize(
    ("in_flight", "size_bytes", "has_room"),
    [
        ([60], 40, True),  # 40 may be the one that is read
        ([60], 60, True),
        ([61], 61, False),
        ([100], 60, False),  # the small one is read, and 100 do not fit
        ([60], 100, False),
        ([30, 30], 30, True),
        ([20, 30, 30], 30, False),  # 90 besides the least
        ([20, 20, 20], 20, True),
        ([20, 20, 20], 21, False),
        ([10, 50], 30, False),  # the least may be any of them, so 80 do not fit
    ],
)
def test_all_but_the_smallest_frame_must_fit_the_window(in_flight: list[int], size_bytes: int, has_room: bool) -> None:
    assert Budget(60).has_room(in_flight, size_bytes, len(in_flight)) is has_room


def test_a_request_is_not_further_ahead_of_the_oldest_than_the_window_allows() -> None:
    budget = Budget(10_000, 4)
    assert budget.has_room([10, 10], 10, 3)
    assert not budget.has_room([10, 10], 10, 4)


@pytest.mark.parametrize(
    ("ring_bytes", "packet_bytes", "blocks"),
    [
        (0, 245, 1),
        (256, 237, 1),  # 256 bytes on the line, and the escapes that random bytes have
        (258, 237, 16),
        (356, 245, 16),
    ],
)
def test_blocks_are_exchanged_together_where_the_ring_takes_a_frame_besides_another(
    ring_bytes: int, packet_bytes: int, blocks: int
) -> None:
    assert batch_blocks(ring_bytes, packet_bytes) == blocks
