"""Packed sequences: values <-> bytes (docs/protocol.md 3).

Pure: bytes in, values out. A sequence from the peer that is not exactly as the protocol has it raises
`ProtocolError("3", ...)`, which says what is wrong and at which byte; every length in it is compared with the bytes
that are really there before anything is allocated. A value of the caller that cannot be sent raises
`UnsupportedValueError`. `microrpc.wire.packets` makes packets of them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

import numpy as np

from microrpc.errors import ProtocolError, UnsupportedValueError
from microrpc.wire.checks import show
from microrpc.wire.datatypes import DataType, Device, FunctionHandle, ModuleHandle, OpaqueHandle, Tensor, UInt, Value

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes to be read or sent."""
Reader: TypeAlias = Callable[[Buffer, int], tuple[Value, int]]
"""Reads the value at a byte; gives it and where it ends. Raises ProtocolError, struct.error where it breaks off."""
T = TypeVar("T")

_I32 = struct.Struct("<i")
_I64 = struct.Struct("<q")
U64 = struct.Struct("<Q")
"""A u64, as lengths, handles and addresses are."""
_F64 = struct.Struct("<d")
_DEVICE = struct.Struct("<ii")
_DATA_TYPE = struct.Struct("<BBHi")
_TENSOR_HEAD = struct.Struct("<QiiiBBH")

# Many more than anybody has, and few enough for what is made of them (an object each, the product of the extents): a
# peer states them.
_MOST_DIMENSIONS = 1024
MOST_VALUES = 4096
"""How many values a sequence of a peer may have."""

i32_from = _I32.unpack_from
_i64_from = _I64.unpack_from
u64_from = U64.unpack_from


# Bounded, because a peer picks the count.
@lru_cache(maxsize=64)
def _ints(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}i")


@lru_cache(maxsize=64)
def _whole_numbers(count: int) -> tuple[struct.Struct, tuple[int, ...]]:
    """Give what packs a sequence of so many Ints, and what stands before them: their count and their codes."""
    return struct.Struct(f"<{count + 1}i{count}q"), (count, *(0,) * count)


@lru_cache(maxsize=64)
def _longs(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}q")


@lru_cache(maxsize=64)
def _data_type(code: int, bits: int, lanes: int) -> DataType:
    return DataType(code, bits, lanes)


@lru_cache(maxsize=64)
def _tensor_struct(ndim: int) -> struct.Struct:
    return struct.Struct(f"<QiiiBBH{ndim}qQ")


# --- values to bytes --------------------------------------------------------------------------


def _check_device(device: Device) -> None:
    if not isinstance(device.type, int | np.integer):
        raise UnsupportedValueError(f"the type of a device is a number (`DeviceType`), not {show(device.type)}")
    if device.session_mask > 0:
        raise UnsupportedValueError("InternalError: cannot pass RPC device in the channel")


def _pack_null(_: None) -> bytes:
    return b""


def pack_data_type(value: DataType) -> bytes:
    """Give a data type, with its padding."""
    return _DATA_TYPE.pack(value.code, value.bits, value.lanes, 0)


def pack_device(value: Device) -> bytes:
    """Give a device. Raises UnsupportedValueError where it carries a session mask."""
    _check_device(value)
    return _DEVICE.pack(value.type, value.id)


def pack_tensor(value: Tensor) -> bytes:
    """Give a tensor as it stands in packets and sequences. Raises UnsupportedValueError, struct.error out of range."""
    device, dtype, shape = value.device, value.dtype, value.shape
    _check_device(device)
    if shape and min(shape) < 0:
        raise UnsupportedValueError(f"a tensor of shape {shape} cannot be sent: its extents must not be negative")
    return _tensor_struct(len(shape)).pack(
        value.data, device.type, device.id, len(shape), dtype.code, dtype.bits, dtype.lanes, *shape, value.byte_offset
    )


def pack_str(value: str) -> bytes:
    """Give the length of a text in bytes (u64), and its bytes. Raises UnsupportedValueError where it has a NUL."""
    try:
        text = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise UnsupportedValueError(f"a str that is not text cannot be sent: {error}") from None
    if b"\0" in text:
        # The receiver would silently drop the rest.
        raise UnsupportedValueError(
            "a str with a NUL in it cannot be sent, for a Str ends at its first NUL; send bytes"
        )
    return U64.pack(len(text)) + text


def pack_bytes(value: bytes | bytearray) -> bytes:
    """Give the length of bytes (u64), and the bytes."""
    return U64.pack(len(value)) + value


def pack_view(value: memoryview) -> bytes:
    """Give the length of a view in bytes (u64), and its bytes."""
    return U64.pack(value.nbytes) + value.tobytes()


_Packer: TypeAlias = Callable[[Any], bytes]
PACKERS: dict[type, tuple[int, _Packer]] = {
    bool: (0, _I64.pack),
    UInt: (1, U64.pack),
    float: (2, _F64.pack),
    OpaqueHandle: (3, U64.pack),
    type(None): (4, _pack_null),
    DataType: (5, pack_data_type),
    Device: (6, pack_device),
    Tensor: (7, pack_tensor),
    ModuleHandle: (9, U64.pack),
    FunctionHandle: (10, U64.pack),
    str: (11, pack_str),
    bytes: (12, pack_bytes),
    bytearray: (12, pack_bytes),
    memoryview: (12, pack_view),
    np.bool_: (0, lambda value: _I64.pack(int(value))),
    np.integer: (0, _I64.pack),
    np.floating: (2, _F64.pack),
    int: (0, _I64.pack),  # the last, for subclasses: the handles and UInt are ints too
}
"""Type code and encoder of each class of values."""


def find_packer(index: int, value: object) -> tuple[int, _Packer]:
    """Give type code and encoder for argument `index`. Raises UnsupportedValueError."""
    return find_for(PACKERS, index, value)


def find_for(table: Mapping[type, T], index: int, value: object) -> T:
    """Give what `table` has for the class of argument `index`, or for a base of it, in the table's order.

    Raises UnsupportedValueError where it has nothing.
    """
    found = table.get(type(value))
    if found is None and not isinstance(value, np.timedelta64):  # which numpy counts among its integers
        found = next((table[base] for base in table if isinstance(value, base)), None)
    if found is None:
        hint = "; copy it to the board first: board.array(x)" if isinstance(value, np.ndarray) else ""
        raise UnsupportedValueError(
            f"ValueError: Cannot pass argument {index}, type {type(value).__name__} is not supported by RPC{hint}"
        )
    return found


def out_of_range(index: int, value: object, error: Exception) -> UnsupportedValueError:
    """Give the error for argument `index`, whose encoder raised `error`."""
    return UnsupportedValueError(
        f"ValueError: Cannot pass argument {index}, {type(value).__name__} out of range: {error}"
    )


def encode_values(values: Sequence[Value]) -> bytes:
    """A packed sequence: count, type codes, values (docs/protocol.md 3).

    bool and numpy integers travel as Int, numpy floats as Float. Raises UnsupportedValueError for a value of another
    type, an int outside i64 (u64 for UInt and the handles), a str with a NUL or with lone surrogates, a tensor with a
    negative extent, and a device that carries a session mask.
    """
    for value in values:
        if type(value) is not int:
            return encode_each(values)
    whole, before = _whole_numbers(len(values))  # as in most calls
    try:
        return whole.pack(*before, *values)
    except struct.error:
        return encode_each(values)


def encode_each(values: Sequence[Value], packers: Mapping[type, tuple[int, _Packer]] = PACKERS) -> bytes:
    """Do as `encode_values`, with the type codes and encoders of `packers`."""
    head = [len(values)]
    parts = [b""]
    for value in values:
        found = packers.get(type(value)) or find_for(packers, len(head) - 1, value)
        head.append(found[0])
        try:
            parts.append(found[1](value))
        except (struct.error, TypeError) as error:
            raise out_of_range(len(head) - 2, value, error) from None
    parts[0] = _ints(len(head)).pack(*head)
    return b"".join(parts)


# --- bytes to values --------------------------------------------------------------------------


def malformed(message: str, at: int) -> ProtocolError:
    """Give the error for what is wrong at byte `at` of a packet's body."""
    return ProtocolError("3", f"{message}, at byte {at} of the packet's body")


def too_short(what: str, at: int, needed: int, end: int) -> ProtocolError:
    """Give the error for a part that does not fit the bytes that are there."""
    return malformed(f"{what} needs {needed} bytes and {max(end - at, 0)} are there", at)


def _checked_device(device_type: int, device_id: int, at: int) -> Device:
    device = Device(device_type, device_id)
    if device.session_mask > 0:
        raise malformed(f"a device of type {device_type} carries an RPC session mask", at)
    return device


def read_data_type(buf: Buffer, at: int) -> tuple[DataType, int]:
    """Read the data type at byte `at`; give it and where it ends. Raises as `read_tensor`."""
    code, bits, lanes, _ = _DATA_TYPE.unpack_from(buf, at)  # the reference does not look at the padding either
    return _data_type(code, bits, lanes), at + 8


def read_device(buf: Buffer, at: int) -> tuple[Device, int]:
    """Read the device at byte `at`; give it and where it ends. Raises as `read_tensor`."""
    device_type, device_id = _DEVICE.unpack_from(buf, at)
    return _checked_device(device_type, device_id, at), at + 8


def read_tensor(buf: Buffer, at: int) -> tuple[Tensor, int]:
    """Read the tensor at byte `at`; give it and where it ends. Raises ProtocolError, struct.error for a short head."""
    data, device_type, device_id, ndim, code, bits, lanes = _TENSOR_HEAD.unpack_from(buf, at)
    if ndim < 0:
        raise malformed(f"a tensor with {ndim} dimensions", at + 16)
    size = 32 + 8 * ndim
    if size > len(buf) - at:
        raise too_short(f"a tensor of {ndim} dimensions", at, size, len(buf))
    if ndim > _MOST_DIMENSIONS:
        raise malformed(f"a tensor with {ndim} dimensions, and {_MOST_DIMENSIONS} are the most", at + 16)
    tail = _tensor_struct(ndim).unpack_from(buf, at)[7:]
    shape = tail[:-1]
    if shape and min(shape) < 0:
        raise malformed(f"a tensor with the negative extent {min(shape)}", at + 24)
    device = _checked_device(device_type, device_id, at + 8)
    return Tensor(data, device, _data_type(code, bits, lanes), shape, tail[-1]), at + size


def read_blob(buf: Buffer, at: int, what: str) -> tuple[bytes, int]:
    """Read a u64 length and that many bytes; give them and where they end. Raises as `read_tensor`."""
    (size,) = u64_from(buf, at)
    start = at + 8
    if size > len(buf) - start:
        raise too_short(what, start, size, len(buf))
    return bytes(buf[start : start + size]), start + size


def read_str(buf: Buffer, at: int) -> tuple[str, int]:
    """Read the text, up to its first NUL at byte `at`; give it and where it ends. Raises as `read_tensor`."""
    raw, at = read_blob(buf, at, "a Str")
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape"), at


def _read_bytes(buf: Buffer, at: int) -> tuple[bytes, int]:
    return read_blob(buf, at, "a Bytes")


def read_float(buf: Buffer, at: int) -> tuple[float, int]:
    """Read the Float at byte `at`; give it and where it ends. Raises as `read_tensor`."""
    return _F64.unpack_from(buf, at)[0], at + 8


_WORDS: dict[int, Callable[[int], Value]] = {1: UInt, 3: OpaqueHandle, 9: ModuleHandle, 10: FunctionHandle}
READERS: dict[int, Reader] = {
    2: read_float,
    5: read_data_type,
    6: read_device,
    7: read_tensor,
    11: read_str,
    12: _read_bytes,
}
"""What reads the value of each type code, but Int, Null and those that are one u64."""
_REFUSED_NAMES = {8: "Object", 13: "NDArray", 14: "ObjectRValueRef"}


def too_many(count: int, at: int) -> ProtocolError:
    """Give the error for a sequence of more values than are taken, whose count stands at byte `at`."""
    return malformed(f"a sequence of {count} arguments, and {MOST_VALUES} are the most", at)


def decode_values(
    buf: Buffer, offset: int = 0, readers: Mapping[int, Reader] = READERS
) -> tuple[tuple[Value, ...], int]:
    """The packed sequence that starts at `offset`, and the offset of its end (docs/protocol.md 3).

    A Str ends at its first NUL, and bytes in it that are not UTF-8 become surrogates, so that they encode to
    themselves again. `readers` are those of `READERS`, or more. Raises ProtocolError for anything malformed or
    truncated.
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
    codes = _ints(count).unpack_from(buf, at)
    at += 4 * count
    if not any(codes) and at + 8 * count <= end:  # all are Ints, as in most replies
        return _longs(count).unpack_from(buf, at), at + 8 * count
    values: list[Value] = []
    try:
        for code in codes:
            if code == 0:
                values.append(_i64_from(buf, at)[0])
                at += 8
            elif code == 4:
                values.append(None)
            elif code in _WORDS:
                values.append(_WORDS[code](u64_from(buf, at)[0]))
                at += 8
            else:
                value, at = readers[code](buf, at)
                values.append(value)
    except struct.error:
        # Only the parts of a fixed size end here; those of a variable size compare their lengths themselves.
        what = f"argument {len(values)} of type code {code}"
        raise malformed(f"{what} does not fit the {max(end - at, 0)} bytes that are left", at) from None
    except KeyError:
        index = len(values)
        raise malformed(
            f"ValueError: Cannot pass argument {index}, type {_REFUSED_NAMES.get(code, code)} is not supported by RPC",
            offset + 4 + 4 * index,
        ) from None
    return tuple(values), at
