"""What a board tells of its memory (docs/device.md 4)."""

from __future__ import annotations

import pytest

from microrpc.errors import ProtocolError
from microrpc.wire.memory import BoardMemory, decode_memory, encode_memory

REPORT = bytes.fromhex("00040000 75000000 78030000 80010000 00100000 BC020000")


def test_six_numbers_are_read_and_what_is_free_is_the_rest_of_the_heap() -> None:
    assert decode_memory(REPORT) == BoardMemory(1024, 117, 907, 888, 384, 4096, 700)
    assert decode_memory(REPORT + b"more of newer firmware") == decode_memory(REPORT)


def test_a_stack_that_is_not_known_is_none() -> None:
    memory = decode_memory(REPORT[:16] + bytes(8))
    assert (memory.stack_bytes, memory.most_stack_bytes) == (None, None)


def test_more_used_than_there_is_leaves_nothing_free() -> None:
    assert decode_memory(b"\x01\0\0\0\xff\xff\xff\xff" + bytes(16)).free_bytes == 0


def test_a_board_without_a_stack_tells_16_bytes_and_zeros() -> None:
    assert encode_memory(1024, 117, 888, 384) == REPORT[:16] + bytes(8)


@pytest.mark.parametrize("report", [b"", REPORT[:23], 7, None, "text"])
def test_anything_else_is_a_protocol_error(report: object) -> None:
    with pytest.raises(ProtocolError, match=r"microrpc\.memory returned .*, not 24 bytes"):
        decode_memory(report)
