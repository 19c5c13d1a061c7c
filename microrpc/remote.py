"""What a `Board` hands out: functions, modules, arrays and streams that live on the board.

Each holds a handle, which is given back when it is freed, when it is garbage collected (with the next request, since a
finalizer must not do I/O), or when the board is closed. After a reset of the board they refuse to be used.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from microrpc.codec import PacketCode
from microrpc.datatypes import CPU, DataType, FunctionHandle, ModuleHandle, OpaqueHandle, Tensor, TypeCode, Value
from microrpc.errors import CopyRangeError, StaleHandleError
from microrpc.host import Progress

if TYPE_CHECKING:
    from microrpc.client import Board


class Owned(NamedTuple):
    """A handle to be given back: `type_code` as FreeHandle wants it, None for memory; `epoch` it belongs to."""

    handle: int
    type_code: TypeCode | None
    epoch: int


class RemoteHandle:
    """Something on the board. `owned` tells whether it is given back in the end."""

    def __init__(self, board: Board, handle: int, type_code: TypeCode | None, *, owned: bool = True) -> None:
        self.board = board
        self._handle = handle
        self._epoch = board.reply_epoch if owned else board.epoch
        self._is_freed = False
        self._release = weakref.finalize(self, board.garbage.append, Owned(handle, type_code, self._epoch))
        self._release.atexit = False
        if owned:
            board.live.add(self)
        else:
            self._release.detach()

    @property
    def is_live(self) -> bool:
        """Whether it can be used: neither freed nor from before a reset."""
        return not self._is_freed and self._epoch == self.board.epoch

    @property
    def handle(self) -> int:
        """The handle. Raises StaleHandleError where `is_live` is False."""
        if self._is_freed:
            raise StaleHandleError(f"{self!r} was freed")
        if self._epoch != self.board.epoch:
            raise StaleHandleError(f"{self!r} is from before a reset of the board, whose memory is gone; make it again")
        return self._handle

    @property
    def epoch(self) -> int:
        """The board's epoch that it belongs to."""
        return self._epoch

    def as_value(self) -> Value:
        """Give what stands for it among a function's arguments. Raises StaleHandleError."""
        raise NotImplementedError

    def free(self) -> None:
        """Give it back now; freeing twice does nothing."""
        self.discard()
        self.board.collect()

    def discard(self) -> None:
        """Give it back with the next request."""
        if not self._is_freed:
            self._is_freed = True
            self._release()


class RemoteFunction(RemoteHandle):
    """A function on the board: call it."""

    def __init__(self, board: Board, handle: int, name: str) -> None:
        super().__init__(board, handle, TypeCode.FUNCTION)
        self.name = name

    def __call__(self, *args: Any, timeout_s: float | None = None) -> Any:
        """Call it with values as docs/protocol.md 3 has them, and arrays, functions and modules of this board.

        `timeout_s` bounds the wait for this call's reply, in seconds. Gives None, int, float, str, bytes, DataType,
        Device, RemoteArray, RemoteFunction or RemoteModule. Raises RemoteError, CallTimeoutError, DamagedReplyError,
        BoardResetError, RequestTooLargeError, UnsupportedValueError, StaleHandleError, PortLostError.
        """
        return self.board.call(self, args, timeout_s=timeout_s)

    def as_value(self) -> FunctionHandle:
        """Give what stands for it among a function's arguments. Raises StaleHandleError."""
        return FunctionHandle(self.handle)

    def __repr__(self) -> str:
        return f"<RemoteFunction {self.name!r} 0x{self._handle:x}>"


class RemoteModule(RemoteHandle):
    """A module on the board: a set of functions, such as the system library."""

    def __init__(self, board: Board, handle: int, name: str) -> None:
        super().__init__(board, handle, TypeCode.MODULE)
        self.name = name

    def find(self, name: str) -> RemoteFunction | None:
        """Give the function of that name, None where the module has none."""
        return self.board.find_in_module(self, name)

    def as_value(self) -> ModuleHandle:
        """Give what stands for it among a function's arguments. Raises StaleHandleError."""
        return ModuleHandle(self.handle)

    def __repr__(self) -> str:
        return f"<RemoteModule {self.name!r} 0x{self._handle:x}>"


class RemoteArray(RemoteHandle):
    """An array in the board's memory: `shape`, `dtype` (a `DataType`), row by row without gaps.

    `result_handle` is that of a function's result, which owns the memory; None where the memory itself was allocated.
    """

    def __init__(self, board: Board, tensor: Tensor, *, result_handle: int | None = None, owned: bool = True) -> None:
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
        """How much memory it takes."""
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

    def numpy(self, *, on_progress: Progress | None = None) -> npt.NDArray[Any]:
        """Copy it back: an array of the same shape, with one more dimension where `dtype` has lanes.

        bfloat16 comes as its raw bits, uint16. `on_progress` is called with (bytes done, bytes in all). Raises as a
        call does.
        """
        result = np.empty(self.shape, dtype=self.dtype.numpy)
        self.board.read_bytes(self, _as_bytes(result), on_progress=on_progress)
        return result

    def write(self, data: npt.ArrayLike, *, on_progress: Progress | None = None) -> None:
        """Copy `data` into it. It must have this shape and a dtype of this name; where it has gaps it is made compact.

        Raises CopyRangeError where shape or dtype differ, else as a call does.
        """
        source = np.ascontiguousarray(data)
        expected = np.empty((0, *self.shape), dtype=self.dtype.numpy)
        if source.dtype != expected.dtype or np.shape(data) != expected.shape[1:]:
            raise CopyRangeError(
                f"{self!r} takes data of shape {expected.shape[1:]} and dtype {expected.dtype}, "
                f"not of shape {np.shape(data)} and dtype {source.dtype}"
            )
        self.board.write_bytes(_as_bytes(source), self, on_progress=on_progress)

    def detach(self) -> int:
        """Give up ownership: its memory stays allocated when it is freed here or the board is closed.

        Gives its address, for `Board.array_at`. Raises StaleHandleError.
        """
        address = self.tensor.data
        self._release.detach()
        self.board.live.discard(self)
        return address

    def copy_to(self, target: RemoteArray) -> None:
        """Copy it into another array of this board, on the board."""
        self.board.copy(self, target)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.free()

    def __repr__(self) -> str:
        return f"<RemoteArray {self.dtype}{list(self.shape)} at 0x{self._tensor.data:x}>"


@dataclass(frozen=True, slots=True)
class RemoteStream:
    """A stream (queue of work) of the board; most boards have the default one only."""

    board: Board
    handle: OpaqueHandle

    def sync(self) -> None:
        """Wait until everything in it is done."""
        self.board.syscall(PacketCode.DEV_STREAM_SYNC, CPU, self.handle)

    def use(self) -> None:
        """Make it the one that what follows goes into."""
        self.board.syscall(PacketCode.DEV_SET_STREAM, CPU, self.handle)

    def free(self) -> None:
        """Give it back."""
        self.board.syscall(PacketCode.DEV_FREE_STREAM, CPU, self.handle)


@dataclass(frozen=True, slots=True)
class Timing:
    """What a time evaluator measured by the board's own clock: seconds a run, one figure a repeat."""

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


def _as_bytes(compact: npt.NDArray[Any]) -> memoryview:
    """Give the bytes of a compact array; memoryview itself cannot cast what has no elements or is float16."""
    return memoryview(compact.reshape(-1).view(np.uint8).data)
