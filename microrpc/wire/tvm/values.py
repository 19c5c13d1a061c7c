"""Packed sequences as TVM has had them since 0.21: values <-> bytes (docs/tvm_wire.md 3).

Pure: bytes in, values out. A sequence from the peer that is not exactly as it must be raises `ProtocolError`, which
says what is wrong and at which byte; every length in it is compared with the bytes that are really there before
anything is allocated. A value of the caller that cannot be sent raises `UnsupportedValueError`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np

from microrpc.errors import UnsupportedValueError
from microrpc.wire.datatypes import (
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
from microrpc.wire.values import (
    MOST_VALUES,
    Buffer,
    Reader,
    find_for,
    i32_from,
    malformed,
    out_of_range,
    pack_bytes,
    pack_data_type,
    pack_device,
    pack_str,
    pack_tensor,
    pack_view,
    read_blob,
    read_data_type,
    read_device,
    read_float,
    read_str,
    read_tensor,
    too_many,
    too_short,
    u64_from,
)


class TypeIndex(IntEnum):
    """The type of one value in a packed sequence (docs/tvm_wire.md 3).

    TENSOR, SHAPE, ARRAY and MAP only announce results; from OBJECT on all are objects of the server's.
    """

    NONE = 0
    INT = 1
    BOOL = 2
    FLOAT = 3
    OPAQUE_POINTER = 4
    DATA_TYPE = 5
    DEVICE = 6
    DL_TENSOR = 7
    RAW_STR = 8
    BYTE_ARRAY = 9
    OBJECT_RVALUE_REF = 10
    SMALL_STR = 11
    SMALL_BYTES = 12
    OBJECT = 64
    STR = 65
    BYTES = 66
    ERROR = 67
    FUNCTION = 68
    SHAPE = 69
    TENSOR = 70
    ARRAY = 71
    MAP = 72
    MODULE = 73
    OBJECT_REFERENCE = 115


LARGEST_SMALL_BYTES = 7
"""Texts and bytes up to this length have the index of the small ones."""


class LongText(str):
    """A text in the form that may have NULs in it, as InitServer has its arguments; a plain `str` ends at one."""

    __slots__ = ()


class ByteArray(bytes):
    """Bytes in the form that only results have; plain `bytes` are the form of arguments."""

    __slots__ = ()


DOCUMENT = "tvm_wire.md"
"""The document that errors refer to."""

_LARGEST_INDEX = 0x7FFFFFFF
_I32 = struct.Struct("<i")
_WITH_I64 = struct.Struct("<iq").pack
_WITH_U64 = struct.Struct("<iQ").pack
_WITH_F64 = struct.Struct("<id").pack
_WITH_SIZE = struct.Struct("<iIQ").pack
_WITH_OBJECT = struct.Struct("<iIQ").pack
_I64_FROM = struct.Struct("<q").unpack_from
_NONE = _I32.pack(TypeIndex.NONE)

_WITH_OWN_FORM = (TypeIndex.STR, TypeIndex.BYTES, TypeIndex.FUNCTION, TypeIndex.MODULE)


def is_object(index: int) -> bool:
    """Whether values of this type index are references to objects of the server's, and have no form of their own."""
    return TypeIndex.OBJECT <= index <= _LARGEST_INDEX and index not in _WITH_OWN_FORM


# --- values to bytes --------------------------------------------------------------------------

Packer: TypeAlias = Callable[[Any], bytes]
"""Gives the index of a value, and the value."""


def _behind(index: TypeIndex, pack: Packer) -> Packer:
    """Give what packs the index, and behind it what `pack` does."""
    head = _I32.pack(index)
    return lambda value: head + pack(value)


def _pack_long_text(value: str) -> bytes:
    try:
        text = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise UnsupportedValueError(f"a str that is not text cannot be sent: {error}") from None
    index = TypeIndex.SMALL_STR if len(text) <= LARGEST_SMALL_BYTES else TypeIndex.STR
    return _WITH_SIZE(index, TypeIndex.STR, len(text)) + text


def _pack_bytes(value: bytes | bytearray) -> bytes:
    index = TypeIndex.SMALL_BYTES if len(value) <= LARGEST_SMALL_BYTES else TypeIndex.BYTES
    return _I32.pack(index) + _I32.pack(TypeIndex.BYTES) + pack_bytes(value)


def _pack_view(value: memoryview) -> bytes:
    index = TypeIndex.SMALL_BYTES if value.nbytes <= LARGEST_SMALL_BYTES else TypeIndex.BYTES
    return _I32.pack(index) + _I32.pack(TypeIndex.BYTES) + pack_view(value)


def _pack_object(value: ObjectHandle) -> bytes:
    if not is_object(value.type_index):
        raise UnsupportedValueError(f"an object with the type index {value.type_index} cannot be sent")
    return _WITH_OBJECT(value.type_index, TypeIndex.OBJECT_REFERENCE, value.handle)


_PACKERS: dict[type, Packer] = {
    bool: lambda value: _WITH_I64(TypeIndex.BOOL, value),
    UInt: lambda value: _WITH_I64(TypeIndex.INT, value),
    float: lambda value: _WITH_F64(TypeIndex.FLOAT, value),
    OpaqueHandle: lambda value: _WITH_U64(TypeIndex.OPAQUE_POINTER, value),
    type(None): lambda _: _NONE,
    DataType: _behind(TypeIndex.DATA_TYPE, pack_data_type),
    Device: _behind(TypeIndex.DEVICE, pack_device),
    Tensor: _behind(TypeIndex.DL_TENSOR, pack_tensor),
    ModuleHandle: lambda value: _WITH_U64(TypeIndex.MODULE, value),
    FunctionHandle: lambda value: _WITH_U64(TypeIndex.FUNCTION, value),
    ObjectHandle: _pack_object,
    LongText: _pack_long_text,
    str: _behind(TypeIndex.RAW_STR, pack_str),
    ByteArray: _behind(TypeIndex.BYTE_ARRAY, pack_bytes),
    bytes: _pack_bytes,
    bytearray: _pack_bytes,
    memoryview: _pack_view,
    np.bool_: lambda value: _WITH_I64(TypeIndex.BOOL, int(value)),
    np.integer: lambda value: _WITH_I64(TypeIndex.INT, value),
    np.floating: lambda value: _WITH_F64(TypeIndex.FLOAT, value),
    int: lambda value: _WITH_I64(TypeIndex.INT, value),  # the last, for subclasses: the handles and UInt are ints too
}


def encode_values(values: Sequence[Value]) -> bytes:
    """A packed sequence: count, then for each value its type index and itself (docs/tvm_wire.md 3).

    bool and numpy's travel as Bool, numpy integers and UInt as Int, numpy floats as Float. Raises UnsupportedValueError
    for a value of another type, an int outside i64 (u64 for the handles), a str with a NUL (LongText may have some) or
    with lone surrogates, a tensor with a negative extent, and a device that carries a session mask.
    """
    parts = [_I32.pack(len(values))]
    for value in values:
        if type(value) is int and -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:  # as most are
            parts.append(_WITH_I64(1, value))
            continue
        pack = _PACKERS.get(type(value)) or find_for(_PACKERS, len(parts) - 1, value)
        try:
            parts.append(pack(value))
        except (struct.error, TypeError) as error:
            raise out_of_range(len(parts) - 1, value, error) from None
    return b"".join(parts)


# --- bytes to values --------------------------------------------------------------------------


def _check_inner(buf: Buffer, at: int, wanted: TypeIndex) -> None:
    inner = i32_from(buf, at)[0]
    if inner != wanted:
        raise malformed(f"an object of type {inner & 0xFFFFFFFF} where one of type {int(wanted)} is announced", at)


def _read_bool(buf: Buffer, at: int) -> tuple[bool, int]:
    number = _I64_FROM(buf, at)[0]
    if number not in (0, 1):
        raise malformed(f"a Bool of {number}", at)
    return number == 1, at + 8


def _read_byte_array(buf: Buffer, at: int) -> tuple[ByteArray, int]:
    data, at = read_blob(buf, at, "a ByteArray")
    return ByteArray(data), at


def _read_long_text(buf: Buffer, at: int) -> tuple[LongText, int]:
    _check_inner(buf, at, TypeIndex.STR)
    data, at = read_blob(buf, at + 4, "a Str")
    return LongText(data.decode("utf-8", "surrogateescape")), at


def _read_bytes(buf: Buffer, at: int) -> tuple[bytes, int]:
    _check_inner(buf, at, TypeIndex.BYTES)
    return read_blob(buf, at + 4, "a Bytes")


def _read_object(buf: Buffer, at: int) -> tuple[int, int]:
    _check_inner(buf, at, TypeIndex.OBJECT_REFERENCE)
    return u64_from(buf, at + 4)[0], at + 12


_WORDS: dict[int, Callable[[int], Value]] = {
    TypeIndex.OPAQUE_POINTER: OpaqueHandle,
    TypeIndex.FUNCTION: FunctionHandle,
    TypeIndex.MODULE: ModuleHandle,
}
_READERS: Mapping[int, Reader] = {
    TypeIndex.BOOL: _read_bool,
    TypeIndex.FLOAT: read_float,
    TypeIndex.DATA_TYPE: read_data_type,
    TypeIndex.DEVICE: read_device,
    TypeIndex.DL_TENSOR: read_tensor,
    TypeIndex.BYTE_ARRAY: _read_byte_array,
    TypeIndex.SMALL_STR: _read_long_text,
    TypeIndex.STR: _read_long_text,
    TypeIndex.SMALL_BYTES: _read_bytes,
    TypeIndex.BYTES: _read_bytes,
}


def decode_values(buf: Buffer, offset: int = 0) -> tuple[tuple[Value, ...], int]:
    """The packed sequence that starts at `offset`, and the offset of its end (docs/tvm_wire.md 3).

    A RawStr (`str`) ends at its first NUL, a Str (`LongText`) does not; bytes in them that are not UTF-8 become
    surrogates, so that they encode to themselves again. Raises ProtocolError for anything malformed or truncated.
    """
    end = len(buf)
    at = offset + 4
    if at > end:
        raise too_short("the number of arguments", offset, 4, end)
    count = i32_from(buf, offset)[0]
    if not 0 <= count <= (end - at) >> 2:
        raise malformed(f"a sequence of {count} arguments with {end - at} bytes after it", offset)
    if count > MOST_VALUES:
        raise too_many(count, offset)
    values: list[Value] = []
    index = None
    try:
        for _ in range(count):
            index = None
            index = i32_from(buf, at)[0]
            at += 4
            if index == 1:
                values.append(_I64_FROM(buf, at)[0])
                at += 8
            elif index == 8:
                text, at = read_str(buf, at)
                values.append(text)
            elif index == 0:
                values.append(None)
            elif index in _WORDS:
                values.append(_WORDS[index](u64_from(buf, at)[0]))
                at += 8
            elif index in _READERS:
                value, at = _READERS[index](buf, at)
                values.append(value)
            elif is_object(index):
                handle, at = _read_object(buf, at)
                values.append(ObjectHandle(handle, index))
            else:
                raise malformed(
                    f"ValueError: Cannot pass argument {len(values)}, type {index} is not supported by RPC", at - 4
                )
    except struct.error:
        # Only the parts of a fixed size end here; those of a variable size compare their lengths themselves.
        what = f"argument {len(values)}" + ("" if index is None else f" of type index {index}")
        raise malformed(f"{what} does not fit the {max(end - at, 0)} bytes that are left", at) from None
    return tuple(values), at
