"""What a board tells of the models in its firmware, and how long each layer took (docs/models.md 1).

A table is the same bytes whatever runtime made the model; the library in C writes it (`firmware/src/model.c`).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Final

from microrpc.errors import ProtocolError, UnsupportedValueError
from microrpc.wire.checks import check_whole, show
from microrpc.wire.datatypes import DataType
from microrpc.wire.names import MODEL_PROFILE_FUNCTION, MODELS_FUNCTION

MODEL_VERSION: Final = 1
"""The first byte of a table."""
MOST_TABLE_BYTES: Final = 1 << 20
"""A host reads no more of a table than this: more is no model of a microcontroller."""

_HEAD = struct.Struct("<QIIIHHH")
_TYPE = struct.Struct("<BBHB")
_QUANTISED = struct.Struct("<fi")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_MOST_U16, _MOST_U32, _MOST_U64 = (1 << 16) - 1, (1 << 32) - 1, (1 << 64) - 1
_MOST_DIMENSIONS = 255


@dataclass(frozen=True, slots=True)
class ModelTensor:
    """An input, an output or the output of a layer.

    name: what it is called. dtype: the type of an element. shape: its dimensions, in elements. scale, zero_point: a
    number q of a quantised one stands for (q - zero_point) * scale; scale is None where it is not quantised, else
    rounded to an f32. Raises UnsupportedValueError for what a table cannot say: an extent that is no u32, a scale that
    is not positive and finite, more than 255 dimensions.
    """

    name: str
    dtype: DataType
    shape: tuple[int, ...]
    scale: float | None = None
    zero_point: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if len(self.shape) > _MOST_DIMENSIONS:
            raise UnsupportedValueError(f"{self.name}: {len(self.shape)} dimensions are more than {_MOST_DIMENSIONS}")
        for extent in self.shape:
            check_whole(extent, f"an extent of {self.name}", 0, _MOST_U32, error=UnsupportedValueError)
        low, high = -(1 << 31), (1 << 31) - 1
        check_whole(self.zero_point, f"the zero point of {self.name}", low, high, error=UnsupportedValueError)
        if self.scale is not None:
            scale = _as_f32(self.scale)
            if not 0 < scale < math.inf:
                raise UnsupportedValueError(f"{self.name}: a scale is a positive f32, not {show(self.scale)}")
            object.__setattr__(self, "scale", scale)

    @property
    def count(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of all elements. Exact however large: a peer's shape cannot overflow it."""
        return self.dtype.itemsize_bytes * self.count

    def __str__(self) -> str:
        """As boards write it where another tensor came: `x: float32[1, 4]`."""
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class ModelLayer:
    """A step of a model, whose time is told by itself.

    name: what it is called; others may be called so, too. output: what it gives, None where the board cannot tell.
    """

    name: str
    output: ModelTensor | None = None


@dataclass(frozen=True, slots=True)
class ModelTable:
    """A model.

    name: what it is called. inputs, outputs: what it takes and gives, in the order of the arguments. layers: its steps,
    in the order of their numbers. hash: u64, another one for other weights or another structure, so that a host knows
    what it speaks to. weights_bytes: constants, in flash. arena_bytes: where intermediate tensors live;
    workspace_bytes: what its kernels need besides. Raises UnsupportedValueError for a number that is out of its range.
    """

    name: str
    hash: int
    inputs: tuple[ModelTensor, ...]
    outputs: tuple[ModelTensor, ...]
    layers: tuple[ModelLayer, ...] = ()
    weights_bytes: int = 0
    arena_bytes: int = 0
    workspace_bytes: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_whole(self.hash, "the hash of a model", 0, _MOST_U64, error=UnsupportedValueError)
        for what in ("weights_bytes", "arena_bytes", "workspace_bytes"):
            check_whole(getattr(self, what), f"{what} of a model", 0, _MOST_U32, error=UnsupportedValueError)
        for what in ("inputs", "outputs", "layers"):
            check_whole(len(getattr(self, what)), f"the number of {what}", 0, _MOST_U16, error=UnsupportedValueError)


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """How long a run took by the board's clock, in microseconds.

    total_us: all of it. layers_us: each layer; what they leave of the total is the runtime's own.
    """

    total_us: int
    layers_us: tuple[int, ...]

    def __add__(self, other: ModelProfile) -> ModelProfile:
        """Give how long both runs took."""
        layers = zip(self.layers_us, other.layers_us, strict=True)
        return ModelProfile(self.total_us + other.total_us, tuple(one + more for one, more in layers))


def untrue(reason: str) -> ProtocolError:
    """Give the error for what no board may tell of its models."""
    return ProtocolError("1", reason, document="models.md")


# --- bytes ------------------------------------------------------------------------------------


def encode_model(table: ModelTable) -> bytes:
    """Give the bytes of a table. Raises UnsupportedValueError for a name of more than 65,535 bytes."""
    counts = (len(table.inputs), len(table.outputs), len(table.layers))
    head = _HEAD.pack(table.hash, table.weights_bytes, table.arena_bytes, table.workspace_bytes, *counts)
    parts = [bytes((MODEL_VERSION,)), _encode_text(table.name), head]
    parts += map(_encode_tensor, (*table.inputs, *table.outputs))
    for layer in table.layers:
        output = layer.output or _NO_OUTPUT
        parts += [_encode_text(layer.name), _encode_tensor(output)]
    return b"".join(parts)


def decode_model(data: object) -> ModelTable:
    """Read the bytes of a table, as a board told them. Raises ProtocolError."""
    if not isinstance(data, bytes) or not data:
        raise _unreadable(f"it is {show(data)}, not bytes")
    if data[0] != MODEL_VERSION:
        raise _unreadable(f"it is of version {data[0]}, and this microrpc reads version {MODEL_VERSION}")
    reader = _Reader(data, 1)
    try:
        table = _decode_table(reader)
    except UnsupportedValueError as error:
        raise _unreadable(str(error)) from None
    if reader.at != len(data):
        raise _unreadable(f"{len(data) - reader.at} bytes are left over")
    return table


def decode_profile(data: object, layer_count: int) -> ModelProfile:
    """Read what a board returned of a run. Raises ProtocolError."""
    size_bytes = _U32.size * (1 + layer_count)
    if not isinstance(data, bytes) or len(data) != size_bytes:
        raise untrue(f"{MODEL_PROFILE_FUNCTION} returned {show(data)}, not {size_bytes} bytes")
    total_us, *layers_us = (us for (us,) in _U32.iter_unpack(data))
    return ModelProfile(total_us, tuple(layers_us))


def encode_profile(profile: ModelProfile) -> bytes:
    """Give what a board returns of a run; each number has 32 bits."""
    return b"".join(map(_U32.pack, (profile.total_us, *profile.layers_us)))


_NO_OUTPUT = ModelTensor("", DataType(0, 0, 0), ())


def _as_f32(number: float) -> float:
    """Round to an f32; too large a number gives infinity."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", number))[0])
    except OverflowError:
        return math.inf


def _encode_text(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    check_whole(len(data), "the bytes of a name", 0, _MOST_U16, error=UnsupportedValueError)
    return _U16.pack(len(data)) + data


def _encode_tensor(tensor: ModelTensor) -> bytes:
    dtype = tensor.dtype
    head = _TYPE.pack(dtype.code, dtype.bits, dtype.lanes, len(tensor.shape))
    extents = b"".join(map(_U32.pack, tensor.shape))
    return _encode_text(tensor.name) + head + extents + _QUANTISED.pack(tensor.scale or 0.0, tensor.zero_point)


class _Reader:
    """Goes over a table; whatever its lengths and counts say, nothing is made that has no bytes behind it."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.at = at

    def take(self, size_bytes: int) -> bytes:
        end = self.at + size_bytes
        if end > len(self._data):
            raise _unreadable(f"it ends at byte {len(self._data)}, within what begins at byte {self.at}")
        taken, self.at = self._data[self.at : end], end
        return taken

    def text(self) -> str:
        (size_bytes,) = _U16.unpack(self.take(_U16.size))
        return self.take(size_bytes).decode("utf-8", "surrogateescape")

    def tensor(self) -> ModelTensor:
        name = self.text()
        code, bits, lanes, ndim = _TYPE.unpack(self.take(_TYPE.size))
        shape = tuple(extent for (extent,) in _U32.iter_unpack(self.take(_U32.size * ndim)))
        scale, zero_point = _QUANTISED.unpack(self.take(_QUANTISED.size))
        # A negative zero is none, too.
        return ModelTensor(name, DataType(code, bits, lanes), shape, None if scale == 0 else scale, zero_point)

    def layer(self) -> ModelLayer:
        name, output = self.text(), self.tensor()
        return ModelLayer(name, output if output.dtype.bits else None)


def _decode_table(reader: _Reader) -> ModelTable:
    name = reader.text()
    number, weights, arena, workspace, inputs, outputs, layers = _HEAD.unpack(reader.take(_HEAD.size))
    return ModelTable(
        name,
        number,
        tuple(reader.tensor() for _ in range(inputs)),
        tuple(reader.tensor() for _ in range(outputs)),
        tuple(reader.layer() for _ in range(layers)),
        weights,
        arena,
        workspace,
    )


def _unreadable(reason: str) -> ProtocolError:
    return untrue(f"the table of a model, from {MODELS_FUNCTION}, cannot be read: {reason}")
