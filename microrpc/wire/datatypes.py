"""What an RPC packet can carry: type codes, data types, devices, tensors and handles (docs/protocol.md 3).

Plain values without behaviour on the wire; `packets.py` and `values.py` turn them into bytes and back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from microrpc.errors import UnsupportedValueError
from microrpc.wire.checks import check_whole, show


class TypeCode(IntEnum):
    """The type of one value in a packed sequence (docs/protocol.md 3).

    OBJECT and OBJECT_RVALUE_REF are refused; NDARRAY only announces a result.
    """

    INT = 0
    UINT = 1
    FLOAT = 2
    OPAQUE_HANDLE = 3
    NULL = 4
    DATA_TYPE = 5
    DEVICE = 6
    TENSOR = 7
    OBJECT = 8
    MODULE = 9
    FUNCTION = 10
    STR = 11
    BYTES = 12
    NDARRAY = 13
    OBJECT_RVALUE_REF = 14


class DataTypeCode(IntEnum):
    """The kind of number in a `DataType` (docs/protocol.md 3)."""

    INT = 0
    UINT = 1
    FLOAT = 2
    HANDLE = 3
    BFLOAT = 4
    BOOL = 6
    """A bool that fills a byte, as TVM has them since 0.21; elsewhere bool is UINT of 1 bit."""


NUMBER_BITS: dict[int, tuple[int, ...]] = {
    DataTypeCode.INT: (8, 16, 32, 64),
    DataTypeCode.UINT: (1, 8, 16, 32, 64),
    DataTypeCode.FLOAT: (16, 32, 64),
    DataTypeCode.BFLOAT: (16,),
}
"""How many bits the numbers in a board's tensors have, by their kind; BOOL is no number."""

_CODE_NAMES = {code.value: code.name.lower() for code in DataTypeCode}
_NAME_CODES = {name: code for code, name in _CODE_NAMES.items()}
_SPELLING = re.compile(r"(?:(u?int|b?float|handle|bool)|custom\[([0-9]{1,3})\])([0-9]{1,3})?(?:x([0-9]{1,5}))?")

# Keyed by dtype.str, which names the byte order.
_FROM_NUMPY: dict[str, tuple[int, int]] = {
    "|b1": (DataTypeCode.UINT, 1),
    "|i1": (DataTypeCode.INT, 8),
    "<i2": (DataTypeCode.INT, 16),
    "<i4": (DataTypeCode.INT, 32),
    "<i8": (DataTypeCode.INT, 64),
    "|u1": (DataTypeCode.UINT, 8),
    "<u2": (DataTypeCode.UINT, 16),
    "<u4": (DataTypeCode.UINT, 32),
    "<u8": (DataTypeCode.UINT, 64),
    "<f2": (DataTypeCode.FLOAT, 16),
    "<f4": (DataTypeCode.FLOAT, 32),
    "<f8": (DataTypeCode.FLOAT, 64),
}
# numpy has no bfloat16: its raw bits are handed out as uint16.
_TO_NUMPY = {(int(code), bits): np.dtype(name) for name, (code, bits) in _FROM_NUMPY.items()}
_NUMPY_HASHES = {key: hash(dtype) for key, dtype in _TO_NUMPY.items()}
_TO_NUMPY[DataTypeCode.BFLOAT, 16] = np.dtype("<u2")
_TO_NUMPY[DataTypeCode.BOOL, 8] = np.dtype("?")


@dataclass(frozen=True, slots=True)
class DataType:
    """The type of a tensor's elements: `code` (a `DataTypeCode`; u8), `bits` of one lane (u8), `lanes` (u16).

    It equals the numpy dtype that `from_numpy` makes it from, and the name that `parse` does: `x.dtype == np.float32`.
    Its hash is that of the little-endian `np.dtype` where there is one, so that either is found in a dict of the other;
    as with `np.dtype` itself, that of a type or a name is another.
    Raises UnsupportedValueError where a field does not fit its width on the wire (docs/protocol.md 3).
    """

    code: int
    bits: int
    lanes: int = 1

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, most in (("code", 0xFF), ("bits", 0xFF), ("lanes", 0xFFFF)):
            number = check_whole(getattr(self, name), f"{name} of a data type", 0, most, error=UnsupportedValueError)
            object.__setattr__(self, name, number)

    @property
    def itemsize_bytes(self) -> int:
        """Bytes of one element with all its lanes, rounded up to whole bytes."""
        return (self.bits * self.lanes + 7) // 8

    @classmethod
    def from_numpy(cls, dtype: npt.DTypeLike) -> DataType:
        """The data type of a numpy dtype (or anything `np.dtype` takes but None).

        bool is uint1; a one-dimensional subarray dtype `(base, (n,))` has n lanes. The byte order does not count: on
        the wire all is little-endian. Raises UnsupportedValueError for every other dtype: structured, object, complex,
        text, time.
        """
        try:
            given = None if dtype is None else np.dtype(dtype)
        except (TypeError, ValueError, SyntaxError):
            given = None
        if given is None:
            raise UnsupportedValueError(f"{show(dtype)} is not a numpy dtype")
        base, shape = given.subdtype or (given, ())
        found = _FROM_NUMPY.get(base.newbyteorder("<").str)
        lanes = shape[0] if len(shape) == 1 else 1
        # Lanes of bool are packed eight to a byte on the board and not in numpy.
        if found is None or len(shape) > 1 or not 1 <= lanes <= 0xFFFF or (found[1] == 1 and lanes != 1):
            raise UnsupportedValueError(f"numpy dtype {given!r} has no counterpart on the board")
        return cls(int(found[0]), found[1], lanes)

    @property
    def numpy(self) -> np.dtype[Any]:
        """The little-endian numpy dtype of one element; with lanes > 1 a subarray dtype `(base, (lanes,))`.

        bfloat16 comes as its raw bits, uint16. Raises UnsupportedValueError where numpy has no such type (int4,
        handle, lanes of bool).
        """
        base = _TO_NUMPY.get((self.code, self.bits))
        if base is None or self.lanes < 1 or (self.bits == 1 and self.lanes != 1):
            raise UnsupportedValueError(f"numpy has no dtype for {self}")
        return base if self.lanes == 1 else np.dtype((base, (self.lanes,)))

    @property
    def dtype(self) -> np.dtype[Any]:
        """What numpy takes it for, as in `np.zeros(x.shape, x.dtype)`. Raises AttributeError where numpy has none."""
        if self.code == DataTypeCode.BFLOAT:
            raise AttributeError(f"numpy has no dtype for {self}: its raw bits are uint16")
        try:
            return self.numpy
        except UnsupportedValueError as error:
            raise AttributeError(str(error)) from None

    @classmethod
    def parse(cls, text: str) -> DataType:
        """The data type that TVM spells `text`: "int32", "uint8", "float32x4", "bfloat16", "bool", "handle", "void".

        The bits must be spelt out except for a handle ("int" is 32 bits in TVM and 64 in numpy). Raises
        UnsupportedValueError for anything else.
        """
        spelling = text if isinstance(text, str) else ""
        if spelling == "bool":
            return cls(DataTypeCode.UINT.value, 1)
        if spelling == "void":
            return cls(DataTypeCode.HANDLE.value, 0, 0)
        match = _SPELLING.fullmatch(spelling)
        bits = match and (match[3] or ("64" if match[1] == "handle" else None))
        if not match or not bits:
            raise UnsupportedValueError(f"{show(text)} is not a data type; write for example int32, float32x4 or bool")
        return cls(_NAME_CODES[match[1]] if match[1] else int(match[2]), int(bits), int(match[4] or 1))

    def __eq__(self, other: object) -> bool:
        """Whether `other` is the same data type, or the numpy dtype or the name of it."""
        if not isinstance(other, DataType):
            if not isinstance(other, str | type | np.dtype):
                return NotImplemented
            try:
                other = DataType.parse(other) if isinstance(other, str) else DataType.from_numpy(other)
            except UnsupportedValueError:
                return False
        return (self.code, self.bits, self.lanes) == (other.code, other.bits, other.lanes)

    def __hash__(self) -> int:
        found = _NUMPY_HASHES.get((self.code, self.bits)) if self.lanes == 1 else None
        return hash((self.code, self.bits, self.lanes)) if found is None else found

    def __repr__(self) -> str:
        """Its name, as `str` gives it."""
        return str(self)

    def __str__(self) -> str:
        """TVM's spelling, which `parse` reads back."""
        if (self.code, self.bits, self.lanes) == (DataTypeCode.UINT, 1, 1):
            return "bool"
        if (self.code, self.bits, self.lanes) == (DataTypeCode.HANDLE, 0, 0):
            return "void"
        name = _CODE_NAMES.get(self.code, f"custom[{self.code}]")
        return f"{name}{self.bits}" if self.lanes == 1 else f"{name}{self.bits}x{self.lanes}"


class DeviceType(IntEnum):
    """Device types as in DLPack (docs/protocol.md 3)."""

    CPU = 1
    CUDA = 2
    CUDA_HOST = 3
    OPENCL = 4
    VULKAN = 7
    METAL = 8
    VPI = 9
    ROCM = 10
    ROCM_HOST = 11
    EXT_DEV = 12
    CUDA_MANAGED = 13
    ONE_API = 14
    WEBGPU = 15
    HEXAGON = 16


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the board: `type` (a `DeviceType`; i32) and `id` (i32), docs/protocol.md 3."""

    type: int
    id: int = 0

    @property
    def session_mask(self) -> int:
        """The RPC session that the device belongs to, 0 on the wire; a device with another one cannot be sent."""
        return self.type // 128


CPU = Device(1, 0)
"""The board's own memory."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A compact tensor in the board's memory, never its contents (docs/protocol.md 3).

    `data` is its address (u64) in the memory of `device`, `dtype` what an element is, `shape` its dimensions in
    elements (each i64, none negative; `()` is a scalar), and `byte_offset` (u64) the bytes from `data` to its first
    element. Ranges are checked where it is encoded.
    """

    data: int
    device: Device
    dtype: DataType
    shape: tuple[int, ...]
    byte_offset: int = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of all elements. Exact however large: a peer's shape cannot overflow it."""
        size = self.dtype.itemsize_bytes
        for extent in self.shape:
            size *= int(extent)  # a numpy integer would wrap around
        return size


class OpaqueHandle(int):
    """A u64 that only the board can interpret: an address, a stream, an object it keeps."""

    __slots__ = ()

    def __repr__(self) -> str:
        """The handle in hex."""
        return f"{type(self).__name__}({int(self):#x})"


class ModuleHandle(int):
    """The u64 handle of a module on the board; as such it goes from client to server only (docs/protocol.md 3)."""

    __slots__ = ()
    __repr__ = OpaqueHandle.__repr__


class FunctionHandle(int):
    """The u64 handle of a function on the board; as such it goes from client to server only (docs/protocol.md 3)."""

    __slots__ = ()
    __repr__ = OpaqueHandle.__repr__


@dataclass(frozen=True, slots=True)
class ObjectHandle:
    """An object of the peer's that is none of the above: its u64 `handle`, and the `type_index` that the peer gave it.

    Only the clients of today's TVM send them, as what a server gave them before (docs/tvm_wire.md); no board has any.
    """

    handle: int
    type_index: int = 115


class UInt(int):
    """An int that travels as UInt instead of Int: 0 .. 2**64 - 1."""

    __slots__ = ()

    def __repr__(self) -> str:
        """The number."""
        return f"UInt({int(self)})"


@dataclass(frozen=True, slots=True)
class ArrayResult:
    """The result of a function that returns an NDArray: the tensor, and the handle that owns it until it is freed."""

    tensor: Tensor
    handle: OpaqueHandle


Value: TypeAlias = (
    bool
    | int
    | float
    | str
    | bytes
    | bytearray
    | memoryview
    | DataType
    | Device
    | Tensor
    | OpaqueHandle
    | ModuleHandle
    | FunctionHandle
    | ObjectHandle
    | UInt
    | np.integer[Any]
    | np.floating[Any]
    | np.bool_
    | None
)
"""What can stand in a packed sequence. Decoding gives int, UInt, float, str, bytes, None and the classes above."""
