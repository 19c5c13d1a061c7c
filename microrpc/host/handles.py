"""What every client's handles have in common: what they know of the board, and when they are given back.

The blocking client's are in `microrpc.client.remote`, asyncio's in `microrpc.client.aio.remote`; they add the methods
that do I/O. A handle knows the epoch (the count of the board's resets) that it belongs to, and is refused in any other.
A finalizer must not do I/O, so what is garbage collected is queued, and freed with the next requests, a little each.
"""

from __future__ import annotations

import math
import operator
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, NoReturn, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from microrpc.errors import CopyRangeError, RequestError, StaleHandleError
from microrpc.host.trust import Trust
from microrpc.host.uncopyable import LOOK_UP_THERE, uncopyable
from microrpc.wire.checks import check_whole, show
from microrpc.wire.datatypes import CPU, DataType, FunctionHandle, ModuleHandle, Tensor, TypeCode, Value

_ADDRESSES = 1 << 64
_NO_SHAPES = (str, bytes, bytearray, memoryview, dict, set, frozenset)  # of which each has something to iterate over


class Owned(NamedTuple):
    """A handle to be given back: `type_code` as FreeHandle wants it, None for memory; `epoch` it belongs to."""

    handle: int
    type_code: TypeCode | None
    epoch: int


class Keeper(Protocol):
    """What a handle needs of its board."""

    garbage: deque[Owned]
    """What is to be given back with the next requests."""
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

    __reduce_ex__ = uncopyable(LOOK_UP_THERE)

    @property
    def is_live(self) -> bool:
        """Whether it can be used: neither freed nor from before a reset or a release of all memory."""
        return not self._is_freed and self.epoch == self._trust.epoch

    @property
    def handle(self) -> int:
        """The handle. Raises StaleHandleError where `is_live` is False, BoardResetError where that is news."""
        if self._is_freed:
            raise StaleHandleError(f"<{self._label}> was freed")
        if self.epoch != self._trust.epoch:
            self._trust.check_handle()
            text = f"<{self._label}> is from before a reset of the board or a release of its memory; make it again"
            raise StaleHandleError(text)
        return self._handle

    def as_value(self) -> Value:
        """Give what stands for it among a function's arguments. Raises StaleHandleError."""
        raise NotImplementedError

    @property
    def _label(self) -> str:
        """What it is, for messages."""
        return f"{type(self).__name__} 0x{self._handle:x}"

    def __repr__(self) -> str:
        fate = "" if self.is_live else ", freed" if self._is_freed else ", of no use any more"
        return f"<{self._label}{fate}>"

    def discard(self, *, first: bool = False) -> None:
        """Give it back with the next requests; `first`: before all else that waits for that."""
        if self._is_freed:
            return
        self._is_freed = True
        released = self._release.detach()  # and not called: at the end of a program that does nothing any more
        if released is not None:
            _, give_back, args, _ = released
            if first:
                self.board.garbage.appendleft(*args)
            else:
                give_back(*args)


class AnyFunction(AnyHandle[BoardT]):
    """A function on the board; `name` is for messages, described_as: by which the board tells of it, if it does."""

    def __init__(self, board: BoardT, handle: int, name: str) -> None:
        super().__init__(board, handle, TypeCode.FUNCTION)
        self.name = self.described_as = name

    def as_value(self) -> FunctionHandle:
        """Give what stands for it among a function's arguments. Raises StaleHandleError."""
        return FunctionHandle(self.handle)

    @property
    def _label(self) -> str:
        return f"{type(self).__name__} {self.name!r} 0x{self._handle:x}"


class AnyModule(AnyHandle[BoardT]):
    """A module on the board; `name` is for messages."""

    def __init__(self, board: BoardT, handle: int, name: str, *, owned: bool = True) -> None:
        super().__init__(board, handle, TypeCode.MODULE, owned=owned)
        self.name = name

    def as_value(self) -> ModuleHandle:
        """Give what stands for it among a function's arguments. Raises StaleHandleError."""
        return ModuleHandle(self.handle)

    @property
    def _label(self) -> str:
        return f"{type(self).__name__} {self.name!r} 0x{self._handle:x}"


class AnyArray(AnyHandle[BoardT]):
    """An array in the board's memory.

    `result_handle` is that of a function's result, which owns the memory; None where the memory itself was allocated.
    `base` is the array that it is a view of, whose memory it keeps; None for one of its own.
    """

    def __init__(
        self,
        board: BoardT,
        tensor: Tensor,
        *,
        result_handle: int | None = None,
        owned: bool = True,
        base: AnyArray[BoardT] | None = None,
    ) -> None:
        if result_handle is None:
            super().__init__(board, tensor.data, None, owned=owned)
        else:
            super().__init__(board, result_handle, TypeCode.NDARRAY, owned=owned)
        self._tensor = tensor
        self._base = base

    @property
    def base(self) -> AnyArray[BoardT] | None:
        """The array that it is a view of; None for one of its own."""
        return self._base

    @property
    def is_live(self) -> bool:
        """Whether it can be used: neither freed, nor the array that it is a view of, nor from before a reset."""
        return super().is_live and (self._base is None or self._base.is_live)

    __reduce_ex__ = uncopyable(
        "it is memory of the board. x.numpy() copies what is in it here; on the board board.empty(x.shape, x.dtype) "
        "makes another, and x.copy_to(y) copies it there"
    )

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
        if self._base is not None:
            _ = self._base.tensor
        _ = self.handle
        return self._tensor

    def as_value(self) -> Tensor:
        """Give what stands for it among a function's arguments. Raises StaleHandleError."""
        return self.tensor

    def detach(self) -> int:
        """Give up ownership: its memory stays allocated when it is freed here or the board is closed.

        Gives its address, for `array_at` of the board. Raises StaleHandleError, RequestError for a view.
        """
        if self._base is not None:
            raise RequestError(f"{self!r} is a part of {self._base!r}, which owns its memory: detach that")
        address = self.tensor.data
        self._release.detach()
        self.board.live.discard(self)
        return address

    def make_room(self) -> npt.NDArray[Any]:
        """Make the numpy array that a copy of it goes into: its shape, with one more dimension where it has lanes.

        Raises RequestError where there is no room for it here, or numpy has no such array.
        """
        try:
            return np.empty(self.shape, dtype=self.dtype.numpy)
        except (MemoryError, ValueError) as error:
            raise RequestError(f"{self!r} cannot be copied to this computer: {error}") from error

    def pack(self, data: npt.ArrayLike) -> memoryview:
        """Give `data` as the bytes that it holds. Raises CopyRangeError where shape or dtype differ."""
        source, expected = as_source(data), self.dtype.numpy
        shape = self.shape + expected.shape
        if source.dtype != expected.base or source.shape != shape:
            raise CopyRangeError(
                f"{self!r} takes data of shape {shape} and dtype {expected.base}, "
                f"not of shape {source.shape} and dtype {source.dtype}"
            )
        return as_bytes(np.ascontiguousarray(source))

    # --- as numpy's are -------------------------------------------------------------------------

    def __len__(self) -> int:
        """Its first dimension, in elements. Raises TypeError for a scalar, which has none."""
        if not self.shape:
            raise TypeError(f"{self!r} is a scalar, which has no len()")
        return self.shape[0]

    def __iter__(self) -> Iterator[Self]:
        """Its rows, each a view. Raises TypeError for a scalar, which has none."""
        return map(self.__getitem__, range(len(self)))

    def __bool__(self) -> bool:
        """True: it is there. What is in it is not looked at."""
        return True

    def __getitem__(self, key: int | slice) -> Self:
        """Give a part along the first dimension, `x[2:5]` or `x[3]`: a view of the same memory, nothing is copied.

        Raises RequestError for a step other than 1, IndexError, StaleHandleError; TypeError for any other index.
        """
        tensor = self.tensor
        if not tensor.shape:
            raise IndexError(f"{self!r} is a scalar, which has no parts")
        length, rows = tensor.shape[0], tensor.shape[1:]
        if isinstance(key, slice):
            start, stop, step = key.indices(length)
            if step != 1:
                raise RequestError(f"a part of an array on the board has no gaps: step 1, not {show(key.step)}")
            shape = (max(stop - start, 0), *rows)
        else:
            try:
                if isinstance(key, bool):  # which is a mask for numpy
                    raise TypeError
                index = operator.index(key)
            except TypeError:
                text = f"x[2:5] and x[3] are parts of an array on the board, x[{show(key)}] is none: x.numpy() has all"
                raise TypeError(text) from None
            start, shape = index + length if index < 0 else index, rows
            if not 0 <= start < length:
                raise IndexError(f"{self!r} has no row {show(index)}")
        row_bytes = tensor.dtype.itemsize_bytes * math.prod(rows)
        offset = tensor.byte_offset + start * row_bytes
        view = Tensor(tensor.data, tensor.device, tensor.dtype, shape, offset)
        return type(self)(self.board, view, owned=False, base=self)

    def __eq__(self, other: object) -> bool:
        """Refuse: what is in it is on the board. Raises TypeError, but for itself.

        An array of numpy is compared by numpy, which copies this one back.
        """
        if self is other:
            return True
        if isinstance(other, np.ndarray | np.generic):
            return NotImplemented
        raise TypeError(f"{self!r} is compared by what is in it: x.numpy() == y.numpy(), or `x is y`")

    __hash__ = AnyHandle.__hash__

    def __setitem__(self, key: object, value: object) -> NoReturn:
        """Refuse: nothing is written in passing. Raises TypeError."""
        raise TypeError(f"{self!r} is on the board: x[{show(key)}].write(...) or x.write(...) writes into it")

    def _refuse_in_place(self, other: object) -> NoReturn:
        """Refuse `x += y`, of which numpy would make an array here, and leave the board's as it was."""
        raise TypeError(f"{self!r} is on the board, where numpy does not compute: x.write(x.numpy() + ...)")

    __iadd__ = __isub__ = __imul__ = __imatmul__ = __itruediv__ = __ifloordiv__ = __imod__ = _refuse_in_place
    __ipow__ = __ilshift__ = __irshift__ = __iand__ = __ixor__ = __ior__ = _refuse_in_place

    @property
    def _label(self) -> str:
        address = self._tensor.data + self._tensor.byte_offset
        return f"{type(self).__name__} {self.dtype}{list(self.shape)} at 0x{address:x}"


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


def as_source(data: npt.ArrayLike) -> npt.NDArray[Any]:
    """Give `data` as an array of numpy, in the board's byte order. Raises RequestError for what is none."""
    try:
        source = np.asarray(data)
    except ValueError as error:  # rows of different lengths
        raise RequestError(f"what is to be copied is no array: {error}") from error
    return source.astype(source.dtype.newbyteorder("<"), copy=False)


def describe(address: int, shape: int | Sequence[int], dtype: npt.DTypeLike | DataType | str) -> Tensor:
    """Describe an array at `address`, as `array_at` and `empty` of a board take it. Raises RequestError."""
    if isinstance(dtype, str):
        dtype = DataType.parse(dtype)
    elif not isinstance(dtype, DataType):
        dtype = DataType.from_numpy(dtype)
    tensor = Tensor(check_whole(address, "an address", 0, _ADDRESSES - 1), CPU, dtype, _sizes(shape))
    check_address(tensor)
    return tensor


def _sizes(shape: int | Sequence[int]) -> tuple[int, ...]:
    try:
        operator.index(shape)  # type: ignore[arg-type]  # or a TypeError
    except TypeError:
        pass
    else:
        return (check_whole(shape, "a shape", 0),)
    try:
        if isinstance(shape, _NO_SHAPES):
            raise TypeError
        return tuple(check_whole(size, "a size in a shape", 0) for size in shape)  # type: ignore[union-attr]
    except TypeError:
        raise RequestError(f"a shape is one size or several, not {show(shape)}") from None


def check_address(tensor: Tensor) -> int:
    """Give the address of a tensor's first byte. Raises RequestError where it reaches past the last address."""
    address = tensor.data + tensor.byte_offset
    if address + tensor.size_bytes > _ADDRESSES:
        text = f"{show(tensor.size_bytes)} bytes at 0x{address:x} are no memory: addresses are from 0 to 2**64 - 1"
        raise RequestError(text)
    return address
