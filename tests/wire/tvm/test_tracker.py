"""The messages of the tracker: docs/tvm_wire.md 6."""

from __future__ import annotations

import math
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrpc.errors import ProtocolError, UnsupportedValueError
from microrpc.wire.tvm import tracker
from microrpc.wire.tvm.tracker import LARGEST_MESSAGE_BYTES, JsonValue, MessageReader, encode_magic, encode_message

MAGIC = b"\x71\xf2\x02\0"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (tracker.ping(), b"[1]"),
        (tracker.stop("k"), b'[2, "k"]'),
        (tracker.put("board", 9090, "board:0.5", None), b'[3, "board", [9090, "board:0.5"], null]'),
        (tracker.put("board", 9090, "board:0.5", "10.0.0.1"), b'[3, "board", [9090, "board:0.5"], "10.0.0.1"]'),
        (tracker.request("board"), b'[4, "board", "", 1]'),
        (tracker.request("board", 5), b'[4, "board", "", 5]'),
        (tracker.update_info("board", None, 9090), b'[5, {"key": "server:board", "addr": [null, 9090]}]'),
        (tracker.update_info("b", "h", 1), b'[5, {"key": "server:b", "addr": ["h", 1]}]'),
        (tracker.summary(), b"[6]"),
        (tracker.get_pending_matchkeys(), b"[7]"),
        (encode_message(0), b"0"),
        (encode_message("é"), b'"\\u00e9"'),
    ],
)
def test_a_message_has_the_bytes_that_tvms_own_have(message: bytes, text: bytes) -> None:
    assert message == len(text).to_bytes(4, "little") + text


def test_a_connection_begins_with_the_magic_in_both_directions() -> None:
    assert encode_magic() == MAGIC
    reader = MessageReader()
    assert not reader.has_magic
    for byte in MAGIC:
        assert not reader.has_magic
        assert reader.feed(bytes([byte])) == []
    assert reader.has_magic
    assert reader.feed(b"\1\0\0\x000") == [0]


@pytest.mark.parametrize("wrong", [b"\0", b"\x71\xf2\x0f", b"\x71\xf2\x02\1", b"HTTP/1.1 400"])
def test_another_magic_is_refused(wrong: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"begins with 71f20200 \(docs/tvm_wire.md, section 6\)"):
        MessageReader().feed(wrong)


@pytest.mark.parametrize("size", [0, -1, LARGEST_MESSAGE_BYTES + 1, 2**31 - 1])
def test_a_message_of_an_impossible_length_is_refused_before_it_comes(size: int) -> None:
    with pytest.raises(ProtocolError, match=f"a message of {size} bytes is announced; 1 .. 1048576 are taken"):
        MessageReader().feed(MAGIC + size.to_bytes(4, "little", signed=True))


@pytest.mark.parametrize(
    "text",
    [b"[", b"x", b"\xff", b"[1] 2", b"NaN", b"[Infinity]", b"-Infinity", b"[" * 100_000, b"9" * 5000, b'{"a":' * 5000],
)
def test_what_is_no_json_is_one_error(text: bytes) -> None:
    with pytest.raises(ProtocolError, match="a message that is no JSON: "):
        MessageReader().feed(MAGIC + len(text).to_bytes(4, "little") + text)


def test_the_longest_message_is_taken_and_no_longer_one_is_sent() -> None:
    longest = "a" * (LARGEST_MESSAGE_BYTES - 2)
    assert MessageReader().feed(MAGIC + encode_message(longest)) == [longest]
    with pytest.raises(UnsupportedValueError, match="a message of 1048577 bytes is more than a tracker takes"):
        encode_message(longest + "a")


@pytest.mark.parametrize("value", [math.nan, [math.inf], b"bytes", {1, 2}])
def test_what_is_no_json_is_not_sent(value: JsonValue) -> None:
    with pytest.raises(UnsupportedValueError, match="what is no JSON cannot be sent to a tracker"):
        encode_message(value)


def test_no_more_than_one_message_is_held() -> None:
    reader = MessageReader()
    piece = MAGIC + encode_message("a" * 100_000)[:60_000]
    tracemalloc.start()
    try:
        reader.feed(piece)
        rest = encode_message("a" * 100_000)[60_000:]
        for _ in range(50):
            assert len(reader.feed(rest + piece[4:])) == 1
        assert tracemalloc.get_traced_memory()[0] < 400_000
    finally:
        tracemalloc.stop()


JSON: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=5), st.integers(1, 40))
def test_messages_come_back_as_they_went_however_they_are_cut(values: list[JsonValue], size: int) -> None:
    data = MAGIC + b"".join(map(encode_message, values))
    reader = MessageReader()
    found = [value for at in range(0, len(data), size) for value in reader.feed(data[at : at + size])]
    assert found == values
