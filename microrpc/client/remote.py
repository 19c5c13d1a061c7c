# Generated from microrpc/client/aio/remote.py by `make generate`; edit that.
"""What an `Board` hands out: functions, modules, arrays and streams that live on the board.

Each holds a handle, which is given back when it is freed, when it is garbage collected (with the next requests, since a
finalizer must not do I/O), or when the board is closed. After a reset of the board they refuse to be used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy.typing as npt

from microrpc.client.calls import Call
from microrpc.client.pump import Pump
from microrpc.host.board import BoardOperations
from microrpc.host.handles import AnyArray, AnyFunction, AnyHandle, AnyModule, Keeper, Timing, as_bytes
from microrpc.host.job import Progress
from microrpc.host.uncopyable import LOOK_UP_THERE, uncopyable
from microrpc.wire.checks import check_callable, check_seconds
from microrpc.wire.datatypes import CPU, DataTypeCode, OpaqueHandle
from microrpc.wire.packets import PacketCode

__all__ = [
    "RemoteArray",
    "RemoteFunction",
    "RemoteHandle",
    "RemoteModule",
    "RemoteStream",
    "Timing",
]


class Owner(Keeper, Protocol):
    """What a remote needs of its `Board`."""

    pump: Pump
    operations: BoardOperations[Any, Any, Any]

    def collect(self, *, portion: bool = False) -> None:
        """Free on the board what was freed here; `portion`: a little of it."""


class RemoteHandle(AnyHandle[Owner]):
    """Something on the board. `owned` tells whether it is given back in the end."""

    def free(self) -> None:
        """Give it back now; freeing twice does nothing."""
        self.discard(first=True)
        self.board.collect(portion=True)


class RemoteFunction(RemoteHandle, AnyFunction[Owner]):
    """A function on the board: call it."""

    def __call__(self, *args: Any, timeout_s: float | None = None, on_progress: Progress | None = None) -> Any:
        """Call it with values as docs/protocol.md 3 has them, and arrays, functions and modules of this board.

        `timeout_s` bounds the wait for this call's reply, in seconds. `on_progress` is called with (done, total) where
        the function tells how far it has come (docs/events.md). Gives None, int, float, str, bytes, DataType,
        Device, RemoteArray, RemoteFunction or RemoteModule. Raises RemoteError, CallTimeoutError,
        DamagedReplyError, BoardResetError, RequestTooLargeError, UnsupportedValueError, StaleHandleError, RequestError,
        PortLostError.
        """
        board = self.board
        if timeout_s is not None:
            check_seconds(timeout_s, "timeout_s")
        if on_progress is not None:
            check_callable(on_progress, "on_progress")
        return board.pump.run(board.operations.call, self, args, timeout_s=timeout_s, on_progress=on_progress)

    def start(self, *args: Any, timeout_s: float | None = None, on_progress: Progress | None = None) -> Call:
        """Begin a call as this does when it is called, and give it at once: its end can be waited for, or hastened.

        `on_progress` is called wherever the call runs. Raises RequestError, ClosedError in a fork.
        """
        board = self.board
        board.pump.check_process()
        if timeout_s is not None:
            check_seconds(timeout_s, "timeout_s")
        check_callable(on_progress, "on_progress")
        return Call(board.pump, board.operations, self, args, timeout_s=timeout_s, on_progress=on_progress)


class RemoteModule(RemoteHandle, AnyModule[Owner]):
    """A module on the board: a set of functions, such as the system library."""

    def find(self, name: str) -> RemoteFunction | None:
        """Give the function of that name, None where the module has none. Raises as a call does."""
        found: RemoteFunction | None = self.board.pump.run(self.board.operations.find_in_module, self, name)
        return found


class RemoteArray(RemoteHandle, AnyArray[Owner]):
    """An array in the board's memory: `shape`, `dtype` (a `DataType`), row by row without gaps.

    `len(x)` is its first dimension; `x[2:5]` and `x[3]` are views of a part of it, which keep its memory.
    `result_handle` is that of a function's result, which owns the memory; None where the memory itself was allocated.
    `base` is the array that a view is a part of.
    """

    def numpy(self, *, on_progress: Progress | None = None, verify: bool = False) -> npt.NDArray[Any]:
        """Copy it back: an array of the same shape, with one more dimension where `dtype` has lanes.

        bfloat16 comes as its raw bits, uint16. `on_progress` is called with (bytes done, bytes in all).
        `verify` compares what came with what is in the array, and raises VerifyError (docs/copies.md). Raises else as
        a call does.
        """
        result = self.make_room()
        operations = self.board.operations
        self.board.pump.run(operations.read, self, as_bytes(result), on_progress=on_progress, verify=verify)
        return result

    def write(self, data: npt.ArrayLike, *, on_progress: Progress | None = None, verify: bool = False) -> None:
        """Copy `data` into it. It must have this shape and a dtype of this name; where it has gaps it is made compact,
        and what is big-endian is converted.

        `on_progress` is called with (bytes done, bytes in all). `verify` compares what is in it then with `data`, and
        raises VerifyError (docs/copies.md). Raises CopyRangeError where shape or dtype differ, else as a call does.
        """
        operations, packed = self.board.operations, self.pack(data)
        self.board.pump.run(operations.write, packed, self, on_progress=on_progress, verify=verify)

    def copy_to(self, target: RemoteArray) -> None:
        """Copy it into another array of this board, on the board.

        Raises CopyRangeError where shape or dtype differ, else as a call does.
        """
        self.board.pump.run(self.board.operations.copy, self, target)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Copy it back for numpy, as in `np.asarray(x)`; `dtype` is what numpy asks for.

        Raises ValueError where `copy` is False, for it lies on the board; TypeError for bfloat16; else as `numpy`
        does.
        """
        if copy is False:
            raise ValueError(f"{self!r} lies on the board: numpy gets a copy of it, or nothing")
        if self.dtype.code == DataTypeCode.BFLOAT:
            raise TypeError(f"numpy has no {self.dtype}: x.numpy() gives its raw bits, as uint16")
        contents = self.numpy()
        return contents if dtype is None else contents.astype(dtype, copy=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.free()


@dataclass(frozen=True, slots=True)
class RemoteStream:
    """A stream (queue of work) of the board, its `handle` there; most boards have the default one only."""

    board: Owner
    handle: OpaqueHandle

    __reduce_ex__ = uncopyable(LOOK_UP_THERE)

    def sync(self) -> None:
        """Wait until everything in it is done. Raises as a call does."""
        self._syscall(PacketCode.DEV_STREAM_SYNC)

    def use(self) -> None:
        """Make it the one that what follows goes into. Raises as a call does."""
        self._syscall(PacketCode.DEV_SET_STREAM)

    def free(self) -> None:
        """Give it back. Raises as a call does."""
        self._syscall(PacketCode.DEV_FREE_STREAM)

    def _syscall(self, code: PacketCode) -> None:
        self.board.pump.run(self.board.operations.syscall, code, CPU, self.handle)
