"""What a server over a stream and its client say beside requests and replies, to the byte (docs/link.md 11)."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from microrpc.errors import ProtocolError
from microrpc.wire.asides import (
    FROM_CLIENT,
    FROM_SERVER,
    Want,
    check_cancel,
    decode_event_aside,
    decode_gone,
    decode_progress,
    decode_want,
    encode_cancel,
    encode_event_aside,
    encode_event_values,
    encode_gone,
    encode_progress,
    encode_want,
    is_aside,
)
from microrpc.wire.events import Event

WANT, CANCEL, EVENT, PROGRESS, GONE = (bytes((number, 0, 0x52, 0x4D)) for number in range(1, 6))


def packet(body: bytes) -> bytes:
    return struct.pack("<Q", len(body)) + body


def test_what_a_client_says_is_a_packet_of_its_code_and_its_flags() -> None:
    assert encode_want(Want.EVENTS) == packet(WANT + b"\x01")
    assert encode_want(Want.EVENTS | Want.PROGRESS | Want.HOLD) == packet(WANT + b"\x07")
    assert encode_cancel() == packet(CANCEL)
    assert decode_want(WANT + b"\x00") == Want(0)
    assert decode_want(WANT + b"\x06") == Want.PROGRESS | Want.HOLD
    check_cancel(CANCEL)


def test_an_event_has_its_boot_its_missed_ones_and_the_high_half_of_its_time_before_what_the_line_has() -> None:
    event = Event(7, "ab", (-1, "x"), time_us=(3 << 32) + 5, missed=2, reliable=True, boot=0x01020304)
    values = b"\x07\0\0\0\x01\x05\0\0\0\x02ab" + b"\0" + b"\xff" * 8 + b"\x0b\x01\0x"
    body = EVENT + b"\x04\x03\x02\x01" + b"\x09\0\0\0" + b"\x03\0\0\0" + values
    assert encode_event_values(event) == values
    assert encode_event_aside(event, 9, values) == packet(body)
    assert decode_event_aside(body) == replace(event, missed=9)


def test_the_time_of_an_event_may_be_before_the_first_and_its_count_beyond_what_fits() -> None:
    event = Event(0, "a", time_us=-1)
    data = encode_event_aside(event, 1 << 40, encode_event_values(event))
    assert data[8:] == EVENT + b"\0" * 4 + b"\xff" * 8 + b"\0\0\0\0\0" + b"\xff" * 4 + b"\x01a"
    assert decode_event_aside(data[8:]) == Event(0, "a", time_us=-1, missed=0xFFFFFFFF)


@pytest.mark.parametrize(
    ("name", "kept"), [("a" * 255, "a" * 255), ("\ufffd" * 255, "\ufffd" * 85), ("é" * 128, "é" * 127)]
)
def test_a_name_that_has_become_longer_than_a_name_may_be_is_cut(name: str, kept: str) -> None:
    event = Event(0, name)
    assert decode_event_aside(encode_event_aside(event, 0, encode_event_values(event))[8:]).name == kept


def test_progress_and_the_end_are_to_the_byte() -> None:
    assert encode_progress(1, 0xFFFFFFFF) == packet(PROGRESS + b"\x01\0\0\0" + b"\xff" * 4)
    assert decode_progress(PROGRESS + b"\x02\0\0\0\x03\0\0\0") == (2, 3)
    assert encode_gone("é") == packet(GONE + b"\xc3\xa9")
    assert decode_gone(GONE + b"too slow \xff") == "too slow \ufffd"


def test_each_side_takes_its_own_codes_and_no_others() -> None:
    assert [is_aside(code, FROM_CLIENT) for code in (WANT, CANCEL, EVENT, PROGRESS, GONE)] == [True, True] + [False] * 3
    assert [is_aside(code, FROM_SERVER) for code in (WANT, CANCEL, EVENT, PROGRESS, GONE)] == [False, False] + [
        True
    ] * 3
    for body in (b"", b"\x01\0\x52", b"\0\0\x52\x4d", b"\x06\0\x52\x4d", b"\x04\0\0\0"):
        assert not is_aside(body, FROM_CLIENT | FROM_SERVER)


@pytest.mark.parametrize(
    ("decode", "body", "text"),
    [
        (decode_want, WANT, "WANT has 0 bytes, not 1"),
        (decode_want, WANT + b"\x08", "WANT has the flags 0x08, which nobody knows"),
        (check_cancel, CANCEL + b"\0", "CANCEL has 1 bytes, not 0"),
        (decode_progress, PROGRESS + b"\0" * 7, "PROGRESS has 7 bytes, not 8"),
        (decode_event_aside, EVENT + b"\0" * 11, "EVENT has 11 bytes, not 12"),
        (decode_event_aside, EVENT + b"\0" * 12 + b"\0" * 9 + b"\x05ab", "EVENT: the name is longer than the message"),
        (decode_event_aside, EVENT + b"\0" * 12 + b"\0" * 10 + b"\x63\0\0", "EVENT: no value begins with 99"),
        (decode_event_aside, EVENT + b"\0" * 12 + b"\0" * 5, "EVENT: unpack_from requires"),
    ],
)
def test_what_is_not_as_it_must_be_is_a_protocol_error(decode: object, body: bytes, text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(body)  # type: ignore[operator]
    assert str(caught.value).startswith(text)
