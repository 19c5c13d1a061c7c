"""The messages of events (docs/link.md 8), with bytes written by hand."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrpc.wire.events import (
    EventAck,
    EventMessage,
    EventState,
    UnreadableEvent,
    decode_event_ack,
    decode_event_news,
    encode_event,
    encode_event_ack,
    encode_event_body,
    encode_event_state,
)

VALUES = (-2, 1.5, "hé", b"\0\xff")
EVENT = bytes.fromhex(
    "6627 23"  # session, EVENT
    "04030201 01 0d0c0b0a"  # number, reliable, time
    "04 74656d70"  # "temp"
    "00 feffffffffffffff"  # Int
    "02 000000000000f83f"  # Float
    "0b 0300 68c3a9"  # Str
    "0c 0200 00ff"  # Bytes
)


def with_crc(message: bytes) -> bytes:
    return message + struct.pack("<I", zlib.crc32(message))


def test_an_event_is_as_the_specification_has_it() -> None:
    event = EventMessage(0x01020304, True, 0x0A0B0C0D, "temp", VALUES)
    assert encode_event(0x2766, encode_event_body(event)) == with_crc(EVENT)
    assert decode_event_news(with_crc(EVENT)) == event


def test_an_event_may_be_plain_and_have_neither_name_nor_values() -> None:
    message = with_crc(bytes.fromhex("6627 23 00000000 00 00000000 00"))
    assert decode_event_news(message) == EventMessage(0, False, 0, "", ())
    assert encode_event(0x2766, encode_event_body(EventMessage(0, False, 0, "", ()))) == message


def test_flags_that_nobody_knows_yet_make_no_other_event() -> None:
    assert decode_event_news(with_crc(bytes.fromhex("6627 23 00000000 fe 00000000 00"))) == EventMessage(
        0, False, 0, "", ()
    )


def test_a_name_that_is_no_text_is_one_all_the_same() -> None:
    event = decode_event_news(with_crc(bytes.fromhex("6627 23 00000000 00 00000000 02 61ff")))
    assert isinstance(event, EventMessage)
    assert event.name == "a\N{REPLACEMENT CHARACTER}"


def test_an_acknowledgement_is_as_the_specification_has_it() -> None:
    message = with_crc(bytes.fromhex("6627 24 04030201 0010 01"))
    assert encode_event_ack(0x2766, EventAck(0x01020304, 4096, True)) == message
    assert decode_event_ack(message) == EventAck(0x01020304, 4096, True)
    assert decode_event_ack(with_crc(bytes.fromhex("6627 24 04030201 0010 02"))) == EventAck(0x01020304, 4096, False)


def test_a_state_is_as_the_specification_has_it() -> None:
    message = with_crc(bytes.fromhex("6627 25 04030201 05000000 06000000"))
    assert encode_event_state(0x2766, EventState(0x01020304, 5, 6)) == message
    assert decode_event_news(message) == EventState(0x01020304, 5, 6)


@pytest.mark.parametrize(
    "message",
    [
        "6627 23 00000000 00 00000000",  # no size of the name
        "6627 25 04030201 05000000 060000",
        "6627 25 04030201 05000000 06000000 00",
        "6627 24 04030201 0010 01",  # which only a host sends
        "6627",
        "",
    ],
)
def test_what_does_not_add_up_is_nothing(message: str) -> None:
    assert decode_event_news(with_crc(bytes.fromhex(message))) is None


@pytest.mark.parametrize(
    "rest",
    [
        "02 61",  # a name that is too short
        "00 00 010203",  # an Int
        "00 02 010203",  # a Float
        "00 0b 01",  # a size
        "00 0b 0200 61",  # a Str
        "00 0c ffff 61",  # Bytes
        "00 03 0000",  # a type that no value has
    ],
)
def test_an_event_whose_lengths_do_not_add_up_has_a_number_all_the_same(rest: str) -> None:
    message = with_crc(bytes.fromhex("6627 23 04030201 01 05000000" + rest))
    assert decode_event_news(message) == UnreadableEvent(0x01020304, True, 5)


@pytest.mark.parametrize("message", ["6627 24 04030201 0010", "6627 24 04030201 0010 01 00", "6627 24", ""])
def test_an_acknowledgement_of_another_length_is_nothing(message: str) -> None:
    assert decode_event_ack(with_crc(bytes.fromhex(message))) is None


@pytest.mark.parametrize("at", range(len(EVENT) + 4))
def test_a_damaged_event_is_nothing(at: int) -> None:
    message = bytearray(with_crc(EVENT))
    message[at] ^= 0x10
    assert decode_event_news(bytes(message)) is None


def test_a_damaged_acknowledgement_is_nothing() -> None:
    message = bytearray(with_crc(bytes.fromhex("6627 24 04030201 0010 01")))
    for at in range(len(message)):
        message[at] ^= 1
        assert decode_event_ack(bytes(message)) is None
        message[at] ^= 1


def test_an_event_that_is_longer_than_any_is_nothing_so_that_those_that_wait_are_bounded() -> None:
    def message(size_bytes: int) -> bytes:
        values = b"\x0c" + struct.pack("<H", size_bytes - 13) + bytes(size_bytes - 13)
        return with_crc(b"\x66\x27\x23" + bytes(10) + values)

    event = decode_event_news(message(4096 + 255))
    assert isinstance(event, EventMessage)
    assert event.values == (bytes(4096 + 255 - 13),)
    assert decode_event_news(message(4096 + 256)) == UnreadableEvent(0, False, 0)


@given(st.binary(max_size=64))
def test_no_bytes_raise(content: bytes) -> None:
    decode_event_news(with_crc(b"\x66\x27\x23" + content))
    decode_event_ack(with_crc(b"\x66\x27\x24" + content))
    decode_event_news(content)


@given(
    st.lists(
        st.one_of(
            st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(max_size=9), st.binary(max_size=9)
        )
    )
)
def test_values_are_read_back(values: list[int | float | str | bytes]) -> None:
    event = EventMessage(1, False, 2, "n", tuple(values))
    assert decode_event_news(encode_event(1, encode_event_body(event))) == event


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, b"\0" * 65536])
def test_a_value_that_does_not_fit_is_refused(value: int | bytes) -> None:
    with pytest.raises(struct.error):
        encode_event_body(EventMessage(0, False, 0, "", (value,)))
