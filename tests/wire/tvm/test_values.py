"""Packed sequences of today's TVM: bytes by hand from docs/tvm_wire.md 3, and every value there and back."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrpc.errors import ProtocolError, UnsupportedValueError
from microrpc.wire.datatypes import (
    CPU,
    DataType,
    Device,
    FunctionHandle,
    ModuleHandle,
    ObjectHandle,
    OpaqueHandle,
    Tensor,
    UInt,
    Value,
)
from microrpc.wire.tvm.values import ByteArray, LongText, TypeIndex, decode_values, encode_values

TENSOR = Tensor(0x1000, Device(1, 0), DataType(2, 32), (2, 3), 8)
TENSOR_BYTES = (
    "0010000000000000 01000000 00000000 02000000 02 20 0100 0200000000000000 0300000000000000 0800000000000000"
)
GOLDEN: list[tuple[Value, str]] = [
    (None, "00000000"),
    (5, "01000000 0500000000000000"),
    (-1, "01000000 ffffffffffffffff"),
    (2**62, "01000000 0000000000000040"),
    (False, "02000000 0000000000000000"),
    (True, "02000000 0100000000000000"),
    (0.5, "03000000 000000000000e03f"),
    (OpaqueHandle(0x558B39AEDDB0), "04000000 b0ddae398b550000"),
    (DataType(2, 32, 4), "05000000 02200400 00000000"),
    (DataType(6, 8), "05000000 06080100 00000000"),
    (Device(1, 2), "06000000 01000000 02000000"),
    (TENSOR, "07000000" + TENSOR_BYTES),
    (Tensor(0, CPU, DataType(0, 8), ()), "07000000 0000000000000000 01000000 00000000 00000000 00080100" + "00" * 8),
    ("t.add", "08000000 0500000000000000 742e616464"),
    ("", "08000000 0000000000000000"),
    ("é", "08000000 0200000000000000 c3a9"),
    (ByteArray(b"\0\1"), "09000000 0200000000000000 0001"),
    (LongText("no.such"), "0b000000 41000000 0700000000000000 6e6f2e73756368"),
    (LongText(""), "0b000000 41000000 0000000000000000"),
    (LongText("ab\0cdefg"), "41000000 41000000 0800000000000000 6162006364656667"),
    (b"1234567", "0c000000 42000000 0700000000000000 31323334353637"),
    (b"12345678", "42000000 42000000 0800000000000000 3132333435363738"),
    (FunctionHandle(7), "44000000 0700000000000000"),
    (ModuleHandle(8), "49000000 0800000000000000"),
    (ObjectHandle(9), "73000000 73000000 0900000000000000"),
    (ObjectHandle(9, 71), "47000000 73000000 0900000000000000"),
]
IDS = [repr(value)[:40] for value, _ in GOLDEN]


def decode(data: bytes) -> tuple[Value, ...]:
    values, end = decode_values(data)
    assert end == len(data)
    return values


def one(hex_bytes: str) -> bytes:
    return b"\1\0\0\0" + bytes.fromhex(hex_bytes)


def reason(data: bytes) -> str:
    with pytest.raises(ProtocolError) as caught:
        decode_values(data)
    return caught.value.reason


@pytest.mark.parametrize(("value", "wire"), GOLDEN, ids=IDS)
def test_a_value_has_the_bytes_of_the_document(value: Value, wire: str) -> None:
    assert encode_values((value,)) == one(wire)


@pytest.mark.parametrize(("value", "wire"), GOLDEN, ids=IDS)
def test_the_bytes_of_the_document_have_that_value(value: Value, wire: str) -> None:
    (found,) = decode(one(wire))
    assert found == value
    assert type(found) is type(value)


def test_a_sequence_is_its_values_one_behind_the_other() -> None:
    values = tuple(value for value, _ in GOLDEN)
    data = len(GOLDEN).to_bytes(4, "little") + b"".join(bytes.fromhex(wire) for _, wire in GOLDEN)
    assert encode_values(values) == data
    assert decode(data) == values
    assert decode_values(b"12345" + data, 5) == (values, 5 + len(data))
    assert encode_values(()) == bytes(4)
    assert decode(bytes(4)) == ()


@pytest.mark.parametrize(
    ("value", "same"),
    [
        (np.int8(-3), -3),
        (np.uint64(3), 3),
        (UInt(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (bytearray(b"ab"), b"ab"),
        (memoryview(np.arange(2, dtype="<u2")), b"\0\0\1\0"),
        (memoryview(np.arange(8, dtype="<u2")), np.arange(8, dtype="<u2").tobytes()),
        (TypeIndex.FLOAT, 3),
    ],
)
def test_what_means_the_same_has_the_same_bytes(value: Value, same: Value) -> None:
    assert encode_values((value,)) == encode_values((same,))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (2**63, "out of range"),
        (-(2**63) - 1, "out of range"),
        (UInt(2**63), "out of range"),
        (OpaqueHandle(-1), "out of range"),
        (ObjectHandle(2**64), "out of range"),
        (ObjectHandle(1, 65), "type index 65 cannot be sent"),
        (ObjectHandle(1, 8), "type index 8 cannot be sent"),
        ("a\0b", "a Str ends at its first NUL"),
        ("\ud800", "not text"),
        (LongText("\ud800"), "not text"),
        (Device(129), "RPC device"),
        (Tensor(0, CPU, DataType(0, 8), (-1,)), "must not be negative"),
    ],
)
def test_what_does_not_fit_is_refused(value: Value, why: str) -> None:
    with pytest.raises(UnsupportedValueError, match=why):
        encode_values((1, value))


@pytest.mark.parametrize("value", [[1], {}, object(), 1j, np.arange(3), np.timedelta64(1, "s")])
def test_other_types_are_refused(value: object) -> None:
    with pytest.raises(UnsupportedValueError, match=r"Cannot pass argument 1, type \w+ is not supported by RPC"):
        encode_values((1, value))  # type: ignore[arg-type]


# --- what is wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize("wire", [wire for _, wire in GOLDEN], ids=IDS)
def test_a_value_that_breaks_off_is_refused_at_each_of_its_bytes(wire: str) -> None:
    data = one(wire)
    for end in range(len(data)):
        assert "byte" in reason(data[:end])


@pytest.mark.parametrize("index", [10, 13, 14, 63, -1, -(2**31)])
def test_what_cannot_be_passed_is_refused_and_named(index: int) -> None:
    wire = (5).to_bytes(8, "little") + index.to_bytes(4, "little", signed=True) + bytes(40)
    assert reason(b"\2\0\0\0\1\0\0\0" + wire) == (
        f"ValueError: Cannot pass argument 1, type {index} is not supported by RPC, at byte 16 of the packet's body"
    )


@pytest.mark.parametrize(
    ("wire", "told"),
    [
        ("02000000 0200000000000000", "a Bool of 2, at byte 8"),
        ("41000000 42000000 0000000000000000", "an object of type 66 where one of type 65 is announced, at byte 8"),
        ("0b000000 0b000000 0000000000000000", "an object of type 11 where one of type 65 is announced, at byte 8"),
        ("42000000 41000000 0000000000000000", "an object of type 65 where one of type 66 is announced, at byte 8"),
        ("47000000 47000000 0000000000000000", "an object of type 71 where one of type 115 is announced, at byte 8"),
        ("06000000 81000000 00000000", "a device of type 129 carries an RPC session mask, at byte 8"),
        ("08000000 0500000000000000 61", "a Str needs 5 bytes and 1 are there, at byte 16"),
        ("42000000 42000000 ffffffffffffffff 61", "a Bytes needs 18446744073709551615 bytes and 1 are there"),
        ("04000000 01000000", "argument 0 of type index 4 does not fit the 4 bytes that are left, at byte 8"),
    ],
)
def test_an_error_says_what_is_wrong_and_where(wire: str, told: str) -> None:
    assert told in reason(one(wire))


@pytest.mark.parametrize("count", [-1, 2, 2**31 - 1])
def test_a_count_is_compared_with_what_is_there(count: int) -> None:
    data = count.to_bytes(4, "little", signed=True) + bytes(7)
    assert reason(data) == f"a sequence of {count} arguments with 7 bytes after it, at byte 0 of the packet's body"


def test_more_values_than_anybody_has_are_refused() -> None:
    nothing = bytes(4)
    assert decode_values((4096).to_bytes(4, "little") + nothing * 4096)[0] == (None,) * 4096
    assert reason((4097).to_bytes(4, "little") + nothing * 4097).startswith(
        "a sequence of 4097 arguments, and 4096 are the most, at byte 0"
    )


def test_a_claimed_length_takes_no_memory() -> None:
    hostile = [one(f"{index:02x}000000" + inner + "ffffffffffffff7f") for index, inner in
               ((8, ""), (9, ""), (65, "41000000"), (66, "42000000"))]  # fmt: skip
    hostile.append(one("07000000" + TENSOR_BYTES.replace(" ", "")[:32] + "ffffff7f" + "02200100" + "00" * 24))
    tracemalloc.start()
    try:
        for data in hostile:
            reason(data)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def test_text_that_is_not_utf_8_encodes_to_itself_again() -> None:
    for wire in ("08000000 0300000000000000 61ff62", "0b000000 41000000 0300000000000000 61ff62"):
        (text,) = decode(one(wire))
        assert text == "a\udcffb"
        assert encode_values((text,)) == one(wire)


def test_a_raw_str_ends_at_its_first_nul_and_a_str_does_not() -> None:
    assert decode(one("08000000 0300000000000000 610062")) == ("a",)
    assert decode(one("0b000000 41000000 0300000000000000 610062")) == ("a\0b",)


# --- every value, there and back --------------------------------------------------------------

U64 = st.integers(0, 2**64 - 1)
I32 = st.integers(-(2**31), 2**31 - 1)
DEVICES = st.builds(Device, st.integers(-(2**31), 127), I32)
DATA_TYPES = st.builds(DataType, st.integers(0, 255), st.integers(0, 255), st.integers(0, 65535))
TENSORS = st.builds(Tensor, U64, DEVICES, DATA_TYPES, st.lists(st.integers(0, 2**63 - 1), max_size=5).map(tuple), U64)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
OBJECT_INDICES = st.integers(64, 2**31 - 1).filter(lambda index: index not in (65, 66, 68, 73))
VALUES: st.SearchStrategy[Value] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    U64.map(OpaqueHandle),
    DATA_TYPES,
    DEVICES,
    TENSORS,
    TEXTS,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map(LongText),
    st.binary(max_size=20),
    st.binary(max_size=20).map(ByteArray),
    U64.map(FunctionHandle),
    U64.map(ModuleHandle),
    st.builds(ObjectHandle, U64, OBJECT_INDICES),
)


def are_same(value: Value, other: Value) -> bool:
    if isinstance(value, float) and isinstance(other, float) and math.isnan(value):
        return math.isnan(other)
    return type(value) is type(other) and value == other


@given(st.lists(VALUES, max_size=12))
def test_values_come_back_as_they_went(values: list[Value]) -> None:
    data = encode_values(values)
    found = decode(data)
    assert len(found) == len(values)
    assert all(are_same(value, other) for value, other in zip(values, found, strict=True))
    assert encode_values(found) == data


@given(st.binary(max_size=80))
def test_any_bytes_are_values_or_one_error(data: bytes) -> None:
    try:
        values, end = decode_values(data)
    except ProtocolError:
        return
    assert end <= len(data)
    assert len(values) == int.from_bytes(data[:4], "little")
