"""What a program gives and gets for the tensors of a model: checked, quantised, dequantised (docs/using_models.md).

A number q of a quantised tensor stands for (q - zero_point) * scale. As in ONNX, halves go to the even number, what is
out of range to the nearest that is in it, and all is computed in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from microrpc.errors import ArgumentError, RequestError
from microrpc.host.handles import as_bytes, as_source
from microrpc.wire.datatypes import DataTypeCode
from microrpc.wire.model import ModelTensor

_MOST_QUANTISED_BITS = 32
_ALIGNMENT_BYTES = 16  # of each tensor in a block, as far as the block itself has it


def is_quantised(tensor: ModelTensor) -> bool:
    """Whether a tensor's numbers stand for real ones: integers of up to 32 bits, with a scale."""
    is_integer = tensor.dtype.code in (DataTypeCode.INT, DataTypeCode.UINT)
    return tensor.scale is not None and is_integer and 1 < tensor.dtype.bits <= _MOST_QUANTISED_BITS


def numpy_shape(tensor: ModelTensor) -> tuple[int, ...]:
    """Give the shape of the numpy array of a tensor: one more dimension where its elements have lanes."""
    return tensor.shape + tensor.dtype.numpy.shape


def to_board(
    tensor: ModelTensor, data: npt.ArrayLike, what: str, *, is_literal: bool | None = None
) -> npt.NDArray[Any]:
    """Give what is copied to the board for `data`, which messages call `what`: compact, little-endian.

    Floats are quantised where the tensor is; an array of the tensor's own dtype is taken as it is. Else it is converted
    where nothing is lost: numpy's safe casts, and numbers of Python that the dtype can have. is_literal: whether they
    are Python's; None where that is to be seen. Raises ArgumentError for another shape, for other types, and for NaN
    where it is to be quantised.
    """
    source, expected = as_source(data), tensor.dtype.numpy
    shape, base = numpy_shape(tensor), expected.base
    if source.shape != shape:
        is_size = source.size == math.prod(shape)
        hint = f": reshape({', '.join(map(str, shape))}) makes it one" if is_size else ""
        raise ArgumentError(f"{what} has the shape {shape}, not {source.shape}{hint}; nothing was sent")
    if source.dtype == base:
        return np.ascontiguousarray(source).reshape(shape)
    if is_quantised(tensor):
        if source.dtype.kind != "f":
            raise ArgumentError(
                f"{what} takes floats, which are quantised, or an array of {base} as it is, not {source.dtype}; "
                f"nothing was sent"
            )
        return _quantised(tensor, source, what)
    is_number = tensor.dtype.code != DataTypeCode.BFLOAT  # whose raw bits are had here
    is_literal = not hasattr(data, "dtype") if is_literal is None else is_literal
    if is_number and (np.can_cast(source.dtype, base, "safe") or (is_literal and _can_have(base, source))):
        return np.ascontiguousarray(source, dtype=base).reshape(shape)
    if source.dtype.kind not in "biuf":
        raise ArgumentError(f"{what} is numbers of the type {tensor.dtype}, not {source.dtype}; nothing was sent")
    raise ArgumentError(
        f"{what} has the type {tensor.dtype}, and {source.dtype} cannot become that without a loss: "
        f"astype(np.{base}) says that it may; nothing was sent"
    )


def from_board(tensor: ModelTensor, numbers: npt.NDArray[Any], *, raw: bool) -> npt.NDArray[Any]:
    """Give what a program gets for what is on the board: float32 where the tensor is quantised, and not `raw`."""
    if raw or not is_quantised(tensor):
        return numbers
    offset = numbers.astype(np.int64) - tensor.zero_point
    return np.asarray(offset.astype(np.float32) * np.float32(tensor.scale))


def _quantised(tensor: ModelTensor, values: npt.NDArray[Any], what: str) -> npt.NDArray[Any]:
    is_nan = np.isnan(values)
    if is_nan.any():
        where = [int(index) for index in np.argwhere(is_nan)[0]]
        raise ArgumentError(f"{what} has NaN at {where}, which no quantised number stands for; nothing was sent")
    range_ = np.iinfo(tensor.dtype.numpy.base)
    with np.errstate(over="ignore"):
        scaled = np.rint(values.astype(np.float32) / np.float32(tensor.scale)).astype(np.float64)
    return np.asarray(np.clip(scaled + tensor.zero_point, range_.min, range_.max), dtype=range_.dtype)


def _can_have(dtype: np.dtype[Any], source: npt.NDArray[Any]) -> bool:
    """Whether a dtype has all of these numbers of Python; floats are rounded, but not to infinity."""
    if dtype.kind == "f":
        if source.dtype.kind not in "iuf":
            return False
        with np.errstate(over="ignore"):
            return bool((np.isfinite(source.astype(dtype)) | ~np.isfinite(source)).all())
    if dtype.kind not in "iu" or source.dtype.kind not in "iu":
        return False
    range_ = np.iinfo(dtype)
    return not source.size or (int(source.min()) >= range_.min and int(source.max()) <= range_.max)


class Block:
    """Several tensors in one piece of the board's memory, so that one copy moves them all.

    size_bytes: of the whole. offsets: where each begins, in bytes.
    """

    def __init__(self, tensors: Sequence[ModelTensor]) -> None:
        self._tensors = tuple(tensors)
        self.offsets: list[int] = []
        self.size_bytes = 0
        for tensor in self._tensors:
            offset = -(-self.size_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
            self.offsets.append(offset)
            self.size_bytes = offset + tensor.size_bytes

    def pack(self, arrays: Sequence[npt.NDArray[Any]]) -> memoryview:
        """Give the bytes of the whole, of what `to_board` gave."""
        if len(arrays) == 1:
            return as_bytes(arrays[0])
        data = bytearray(self.size_bytes)
        for offset, array in zip(self.offsets, arrays, strict=True):
            data[offset : offset + array.nbytes] = as_bytes(array)
        return memoryview(data)

    def make_room(self) -> memoryview:
        """Make what a copy of the whole goes into. Raises RequestError where there is no room for it here."""
        try:
            return memoryview(bytearray(self.size_bytes))
        except (MemoryError, OverflowError) as error:
            text = f"{self.size_bytes} bytes of a model cannot be copied to this computer: {error}"
            raise RequestError(text) from error

    def unpack(self, data: memoryview) -> list[npt.NDArray[Any]]:
        """Give the arrays that are in the bytes of the whole; they share its memory."""
        return [
            np.frombuffer(data[offset : offset + tensor.size_bytes], tensor.dtype.numpy.base).reshape(
                numpy_shape(tensor)
            )
            for offset, tensor in zip(self.offsets, self._tensors, strict=True)
        ]
