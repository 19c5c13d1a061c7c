"""Sizes and parts of the messages of the link, and the arithmetic of its sequence numbers (docs/link.md 2)."""

from __future__ import annotations

import zlib

import pytest

from microrpc.wire.frames import encode_frame
from microrpc.wire.link import (
    DATA_OVERHEAD_BYTES,
    WRITE_OVERHEAD_BYTES,
    ReplyKind,
    RequestKind,
    decode_link_message,
    encode_with_kind,
    seq_distance,
    unpack_read,
    unpack_write,
)
from microrpc.wire.session import MessageType

SESSION_ID = 0x1234
WRITE = bytes.fromhex("3412 20 0201 01 0010002000000000 616263")  # seq 0x0102, 3 bytes to 0x20001000


def with_crc(message: bytes) -> bytes:
    return message + zlib.crc32(message).to_bytes(4, "little")


# --- messages ---------------------------------------------------------------------------------------


def test_a_write_is_its_head_address_and_data_with_a_crc32() -> None:
    address = (0x2000_1000).to_bytes(8, "little")
    message = encode_with_kind(SESSION_ID, MessageType.LINK_REQUEST, 0x0102, RequestKind.WRITE, address, b"abc")
    assert message == with_crc(WRITE)
    assert len(message) == WRITE_OVERHEAD_BYTES + 3
    assert len(encode_frame(message)) == 8 + len(message)


def test_a_data_reply_has_its_overhead_besides_the_data() -> None:
    message = encode_with_kind(SESSION_ID, MessageType.LINK_REPLY, 7, ReplyKind.DATA, b"abc")
    assert message == with_crc(bytes.fromhex("3412 21 0700 02 616263"))
    assert len(message) == DATA_OVERHEAD_BYTES + 3


def test_the_kinds_have_the_numbers_of_the_specification() -> None:
    assert [(kind.name, kind.value) for kind in RequestKind] == [("PACKET", 0), ("WRITE", 1), ("READ", 2), ("CALL", 3)]
    replies = [("PACKET", 0), ("DONE", 1), ("DATA", 2), ("FORGOTTEN", 3)]
    assert [(kind.name, kind.value) for kind in ReplyKind] == replies


def test_a_message_is_read_back() -> None:
    message = decode_link_message(with_crc(WRITE))
    assert message is not None
    message_type, seq, content = message
    assert (message_type, seq, content) == (MessageType.LINK_REQUEST, 0x0102, WRITE[5:])
    assert unpack_write(content[1:]) == (0x2000_1000, b"abc")


def test_a_read_names_its_address_and_size() -> None:
    assert unpack_read(bytes.fromhex("0010002000000000 00020000")) == (0x2000_1000, 512)


# --- sequence numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seq", "base", "distance"),
    [
        (5, 5, 0),
        (8, 5, 3),
        (5, 8, -3),
        (1, 0xFFFF, 2),
        (0xFFFF, 1, -2),
        (0x4001, 0, 0x4001),
        (0x7FFF, 0, 0x7FFF),
        (0x8000, 0, -0x8000),
        (0, 0x8001, 0x7FFF),
    ],
)
def test_the_distance_of_seqs_goes_the_shorter_way_around(seq: int, base: int, distance: int) -> None:
    assert seq_distance(seq, base) == distance
