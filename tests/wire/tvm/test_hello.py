"""The hello of a TVM connection: docs/tvm_wire.md 1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrpc.errors import ProtocolError, UnsupportedValueError
from microrpc.wire.tvm.hello import (
    DUPLICATE,
    LARGEST_KEY_BYTES,
    MAGIC,
    MISMATCH,
    ClientHello,
    HelloReader,
    decode_server_hello,
    encode_hello,
    encode_refusal,
)


def read(key: str) -> ClientHello | None:
    return HelloReader().feed(encode_hello(key))


def test_a_hello_has_the_bytes_of_the_document() -> None:
    assert encode_hello("client:") == b"\x71\xf2\x0f\0\x07\0\0\0client:"
    assert encode_hello("server:board") == b"\x71\xf2\x0f\0\x0c\0\0\0server:board"
    assert encode_refusal() == encode_refusal(MISMATCH) == b"\x73\xf2\x0f\0"
    assert encode_refusal(DUPLICATE) == b"\x72\xf2\x0f\0"
    assert MAGIC == 0xFF271


@pytest.mark.parametrize(
    ("key", "matchkey", "timeout_s"),
    [
        ("client:", "", None),
        ("client:board", "board", None),
        ("client:board:0.2593350671188236", "board:0.2593350671188236", None),
        ("client:board -timeout=1.5", "board", 1.5),
        ("client: -timeout=20", "", 20.0),
        ("client:board -x=1 -timeout=1e-3 -y", "board", 0.001),
        ("client:a -timeout=1 -timeout=2", "a", 2.0),
        ("client:é", "é", None),
        ("server:board", None, None),
        ("", None, None),
        (" ", None, None),
    ],
)
def test_the_key_tells_whom_the_client_wants_and_for_how_long(
    key: str, matchkey: str | None, timeout_s: float | None
) -> None:
    assert read(key) == ClientHello(key, matchkey, timeout_s, b"")


@pytest.mark.parametrize("timeout", ["", "x", "nan", "inf", "-inf", "0", "-1", "1e999", "1,5"])
def test_a_timeout_that_is_no_time_is_refused(timeout: str) -> None:
    with pytest.raises(ProtocolError, match=f"a number of seconds above 0, not '-timeout={timeout}'"):
        read(f"client:board -timeout={timeout}")


@pytest.mark.parametrize("wrong", [b"\0", b"GET / HTTP/1.1", b"\x71\xf2\x02\0", b"\x72\xf2\x0f\0", b"\x71\xf2\x0f\1"])
def test_another_magic_is_refused_at_its_first_wrong_byte(wrong: bytes) -> None:
    reader = HelloReader()
    right = b"\x71\xf2\x0f\0"
    first = next(index for index in range(len(wrong)) if wrong[index] != right[index])
    for index in range(first):
        assert reader.feed(wrong[index : index + 1]) is None
    with pytest.raises(ProtocolError, match=r"arrived where a client of TVM begins with 71f20f00 \(docs/tvm_wire.md"):
        reader.feed(wrong[first : first + 1])


@pytest.mark.parametrize("size", [-1, LARGEST_KEY_BYTES + 1, 2**31 - 1, -(2**31)])
def test_a_key_of_an_impossible_length_is_refused_before_it_comes(size: int) -> None:
    with pytest.raises(ProtocolError, match=f"a key of {size} bytes is announced; at most 4096 are taken"):
        HelloReader().feed(MAGIC.to_bytes(4, "little") + size.to_bytes(4, "little", signed=True))


def test_the_longest_key_is_taken_and_no_longer_one_is_sent() -> None:
    key = "client:" + "k" * (LARGEST_KEY_BYTES - 7)
    hello = read(key)
    assert hello is not None
    assert hello.key == key
    with pytest.raises(UnsupportedValueError, match="a key of 4097 bytes cannot be sent"):
        encode_hello(key + "k")


def test_a_key_that_is_no_text_is_shown_as_it_is() -> None:
    hello = HelloReader().feed(MAGIC.to_bytes(4, "little") + b"\x09\0\0\0client:\xff\xfe")
    assert hello is not None
    assert hello.matchkey == "\\xff\\xfe"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.binary(max_size=20), st.integers(0, 60))
def test_a_hello_is_whole_wherever_it_is_cut(key: str, rest: bytes, cut: int) -> None:
    data = encode_hello("client:" + key.replace("-timeout=", "")) + rest
    reader = HelloReader()
    first = reader.feed(data[:cut])
    found = first or reader.feed(data[cut:])
    assert found is not None
    assert found.key == "client:" + key.replace("-timeout=", "")
    assert found.rest == (data[len(data) - len(rest) : cut] if first else rest)


def test_the_hello_of_a_server_is_read_once_it_is_whole() -> None:
    whole = bytes.fromhex("71f20f00 07000000") + b"server:"
    assert [decode_server_hello(whole[:size]) for size in range(len(whole))] == [None] * len(whole)
    assert decode_server_hello(whole) == "server:"


@pytest.mark.parametrize("refusal", ["72f20f00", "73f20f00"])
def test_a_refusal_of_a_server_is_told(refusal: str) -> None:
    with pytest.raises(ProtocolError, match="there is no board with this key"):
        decode_server_hello(bytes.fromhex(refusal))
