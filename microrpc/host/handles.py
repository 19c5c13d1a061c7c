"""What every client's handles have in common: what they know of the board, and when they are given back.

The blocking client's are in `microrpc.client.remote`, asyncio's in `microrpc.client.aio.remote`; they add the methods
that do I/O. A handle knows the epoch (the count of the board's resets) that it belongs to, and is refused in any other.
A finalizer must not do I/O, so what is garbage collected is queued and freed with the next request.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from microrpc.errors import CopyRangeError, RequestError, StaleHandleError
from microrpc.host.trust import Trust
from microrpc.wire.datatypes import CPU, DataType, FunctionHandle, ModuleHandle, Tensor, TypeCode, Value


class Owned(NamedTuple):
    """A handle to be given back: `type_code` as FreeHandle wants it, None for memory; `epoch` it belongs to."""

    handle: int
    type_code: TypeCode | None
    epoch: int


class Keeper(Protocol):
    """What a handle needs of its board."""

    garbage: deque[Owned]
    """What is to be given back with the next request."""
    live: weakref.WeakSet[AnyHandle[Any]]
    """What is to be given back when the board is closed."""

    @property
    def trust(self) -> Trust:
        """What is believed of the board: the count of its resets among that."""


BoardT = TypeVar("BoardT", bound=Keeper)


class AnyHandle(Generic[BoardT]):
    """Something on the board. `owned` tells whether it is given back in the end; `epoch` is the one it belongs to."""

    def __init__(self, board: BoardT, handle: int, type_code: TypeCode | None, *, owned: bool = True) -> None:
        self.board = board
        self._handle = handle
        self._trust = trust = board.trust
        self.epoch = trust.reply_epoch if owned else trust.epoch
        self._is_freed = False
        self._release = weakref.finalize(self, board.garbage.append, Owned(handle, type_code, self.epoch))
        self._release.atexit = False
        if owned:
            board.live.add(self)
        else:
            self._release.detach()

    @property
    def is_live(self) -> bool:
        """Whether it can be used: neither freed nor from before a reset or a release of all memory."""
        return not self._is_freed and self.epoch == self._trust.epoch

    @property
    def handle(self) -> int:
        """The handle. Raises StaleHandleError where `is_live` is False."""
        if self._is_freed:
            raise StaleHandleError(f"{self!r} was freed")
        if self.epoch != self._trust.epoch:
            raise StaleHandleError(
                f"{self!r} is from before a reset of the board or a release of its memory; make it again"
            )
        return self._handle

    def as_value(self) -> Value:
        """Give what stands for it among a function's arguments. Raises StaleHandleError."""
        raise NotImplementedError

    def discard(self) -> None:
        """Give it back with the next request."""
        if not self._is_freed:
            self._is_freed = True
            self._release()


class AnyFunction(AnyHandle[BoardT]):
    """A function on the board; `name` is for messages."""

    def __init__(self, board: BoardT, handle: int, name: str) -> None:
        super().__init__(board, handle, TypeCode.FUNCTION)
        self.name = name

    def as_value(self) -> FunctionHandle:
        """Give what stands for it among a function's arguments. Raises StaleHandleError."""
        return FunctionHandle(self.handle)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} 0x{self._handle:x}>"


class AnyModule(AnyHandle[BoardT]):
    """A module on the board; `name` is for messages."""

    def __init__(self, board: BoardT, handle: int, name: str) -> None:
        super().__init__(board, handle, TypeCode.MODULE)
        self.name = name

    def as_value(self) -> ModuleHandle:
        """Give what stands for it among a function's arguments. Raises StaleHandleError."""
        return ModuleHandle(self.handle)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} 0x{self._handle:x}>"


class AnyArray(AnyHandle[BoardT]):
    """An array in the board's memory.

    `result_handle` is that of a function's result, which owns the memory; None where the memory itself was allocated.
    """

    def __init__(self, board: BoardT, tensor: Tensor, *, result_handle: int | None = None, owned: bool = True) -> None:
        if result_handle is None:
            super().__init__(board, tensor.data, None, owned=owned)
        else:
            super().__init__(board, result_handle, TypeCode.NDARRAY, owned=owned)
        self._tensor = tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, in elements."""
        return self._tensor.shape

    @property
    def dtype(self) -> DataType:
        """The type of its elements."""
        return self._tensor.dtype

    @property
    def size_bytes(self) -> int:
        """How much memory it takes, in bytes."""
        return self._tensor.size_bytes

    @property
    def tensor(self) -> Tensor:
        """How it is described on the wire. Raises StaleHandleError."""
        if self.handle:
            return self._tensor
        raise StaleHandleError(f"{self!r} has no memory")

    def as_value(self) -> Tensor:
        """Give what stands for it among a function's arguments. Raises StaleHandleError."""
        return self.tensor

    def detach(self) -> int:
        """Give up ownership: its memory stays allocated when it is freed here or the board is closed.

        Gives its address, for `array_at` of the board. Raises StaleHandleError.
        """
        address = self.tensor.data
        self._release.detach()
        self.board.live.discard(self)
        return address

    def make_room(self) -> npt.NDArray[Any]:
        """Make the numpy array that a copy of it goes into: its shape, with one more dimension where it has lanes."""
        return np.empty(self.shape, dtype=self.dtype.numpy)

    def pack(self, data: npt.ArrayLike) -> memoryview:
        """Give `data` as the bytes that it holds. Raises CopyRangeError where shape or dtype differ."""
        source = np.ascontiguousarray(data)
        expected = np.empty((0, *self.shape), dtype=self.dtype.numpy)
        if source.dtype != expected.dtype or np.shape(data) != expected.shape[1:]:
            raise CopyRangeError(
                f"{self!r} takes data of shape {expected.shape[1:]} and dtype {expected.dtype}, "
                f"not of shape {np.shape(data)} and dtype {source.dtype}"
            )
        return as_bytes(source)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.dtype}{list(self.shape)} at 0x{self._tensor.data:x}>"


@dataclass(frozen=True, slots=True)
class Timing:
    """What a time evaluator measured by the board's own clock. `results`: seconds a run, one figure a repeat."""

    results: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean, in seconds."""
        return sum(self.results) / len(self.results)

    @property
    def min(self) -> float:
        """The least, in seconds."""
        return min(self.results)

    @property
    def max(self) -> float:
        """The greatest, in seconds."""
        return max(self.results)


def as_bytes(compact: npt.NDArray[Any]) -> memoryview:
    """Give the bytes (u8) of a compact array; memoryview itself cannot cast what has no elements or is float16."""
    return memoryview(compact.reshape(-1).view(np.uint8).data)


def describe(address: int, shape: int | Sequence[int], dtype: npt.DTypeLike | DataType | str) -> Tensor:
    """Describe an array at `address`, as `array_at` and `empty` of a board take it. Raises RequestError."""
    if isinstance(dtype, str):
        dtype = DataType.parse(dtype)
    elif not isinstance(dtype, DataType):
        dtype = DataType.from_numpy(np.dtype(dtype))
    sizes = (shape,) if isinstance(shape, int) else tuple(int(size) for size in shape)
    if any(size < 0 for size in sizes):
        raise RequestError(f"a shape has no negative sizes: {sizes}")
    tensor = Tensor(address, CPU, dtype, sizes)
    if not 0 <= address <= address + tensor.size_bytes <= 1 << 64:
        raise RequestError(f"{tensor.size_bytes} bytes at {address} are no memory: addresses are from 0 to 2**64 - 1")
    return tensor
