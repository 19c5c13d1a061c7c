"""What an `AsyncBoard` hands out: functions, modules, arrays and streams that live on the board.

Each holds a handle, which is given back when it is freed, when it is garbage collected (with the next requests, since a
finalizer must not do I/O), or when the board is closed. After a reset of the board they refuse to be used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy.typing as npt

from microrpc.client.aio.calls import AsyncCall
from microrpc.client.aio.pump import AsyncPump
from microrpc.host.board import BoardOperations
from microrpc.host.handles import AnyArray, AnyFunction, AnyHandle, AnyModule, Keeper, Timing, as_bytes
from microrpc.host.job import Progress
from microrpc.host.uncopyable import LOOK_UP_THERE, uncopyable
from microrpc.wire.checks import check_callable, check_seconds
from microrpc.wire.datatypes import CPU, OpaqueHandle
from microrpc.wire.packets import PacketCode

__all__ = [
    "AsyncRemoteArray",
    "AsyncRemoteFunction",
    "AsyncRemoteHandle",
    "AsyncRemoteModule",
    "AsyncRemoteStream",
    "Timing",
]


class Owner(Keeper, Protocol):
    """What a remote needs of its `AsyncBoard`."""

    pump: AsyncPump
    operations: BoardOperations[Any, Any, Any]

    async def collect(self, *, portion: bool = False) -> None:
        """Free on the board what was freed here; `portion`: a little of it."""


class AsyncRemoteHandle(AnyHandle[Owner]):
    """Something on the board. `owned` tells whether it is given back in the end."""

    async def free(self) -> None:
        """Give it back now; freeing twice does nothing."""
        self.discard(first=True)
        await self.board.collect(portion=True)


class AsyncRemoteFunction(AsyncRemoteHandle, AnyFunction[Owner]):
    """A function on the board: call it."""

    async def __call__(self, *args: Any, timeout_s: float | None = None, on_progress: Progress | None = None) -> Any:
        """Call it with values as docs/protocol.md 3 has them, and arrays, functions and modules of this board.

        `timeout_s` bounds the wait for this call's reply, in seconds. `on_progress` is called with (done, total) where
        the function tells how far it has come (docs/events.md). Gives None, int, float, str, bytes, DataType,
        Device, AsyncRemoteArray, AsyncRemoteFunction or AsyncRemoteModule. Raises RemoteError, CallTimeoutError,
        DamagedReplyError, BoardResetError, RequestTooLargeError, UnsupportedValueError, StaleHandleError, RequestError,
        PortLostError.
        """
        board = self.board
        if timeout_s is not None:
            check_seconds(timeout_s, "timeout_s")
        if on_progress is not None:
            check_callable(on_progress, "on_progress")
        return await board.pump.run(board.operations.call, self, args, timeout_s=timeout_s, on_progress=on_progress)

    def start(self, *args: Any, timeout_s: float | None = None, on_progress: Progress | None = None) -> AsyncCall:
        """Begin a call as this does when it is called, and give it at once: its end can be waited for, or hastened.

        `on_progress` is called wherever the call runs. Raises RequestError, ClosedError in a fork.
        """
        board = self.board
        board.pump.check_process()
        if timeout_s is not None:
            check_seconds(timeout_s, "timeout_s")
        check_callable(on_progress, "on_progress")
        return AsyncCall(board.pump, board.operations, self, args, timeout_s=timeout_s, on_progress=on_progress)


class AsyncRemoteModule(AsyncRemoteHandle, AnyModule[Owner]):
    """A module on the board: a set of functions, such as the system library."""

    async def find(self, name: str) -> AsyncRemoteFunction | None:
        """Give the function of that name, None where the module has none. Raises as a call does."""
        found: AsyncRemoteFunction | None = await self.board.pump.run(self.board.operations.find_in_module, self, name)
        return found


class AsyncRemoteArray(AsyncRemoteHandle, AnyArray[Owner]):
    """An array in the board's memory: `shape`, `dtype` (a `DataType`), row by row without gaps.

    `len(x)` is its first dimension; `x[2:5]` and `x[3]` are views of a part of it, which keep its memory.
    `result_handle` is that of a function's result, which owns the memory; None where the memory itself was allocated.
    `base` is the array that a view is a part of.
    """

    async def numpy(self, *, on_progress: Progress | None = None, verify: bool = False) -> npt.NDArray[Any]:
        """Copy it back: an array of the same shape, with one more dimension where `dtype` has lanes.

        bfloat16 comes as its raw bits, uint16. `on_progress` is called with (bytes done, bytes in all).
        `verify` compares what came with what is in the array, and raises VerifyError (docs/copies.md). Raises else as
        a call does.
        """
        result = self.make_room()
        operations = self.board.operations
        await self.board.pump.run(operations.read, self, as_bytes(result), on_progress=on_progress, verify=verify)
        return result

    async def write(self, data: npt.ArrayLike, *, on_progress: Progress | None = None, verify: bool = False) -> None:
        """Copy `data` into it. It must have this shape and a dtype of this name; where it has gaps it is made compact,
        and what is big-endian is converted.

        `on_progress` is called with (bytes done, bytes in all). `verify` compares what is in it then with `data`, and
        raises VerifyError (docs/copies.md). Raises CopyRangeError where shape or dtype differ, else as a call does.
        Cancelled, a part may have been written.
        """
        operations, packed = self.board.operations, self.pack(data)
        await self.board.pump.run(operations.write, packed, self, on_progress=on_progress, verify=verify)

    async def copy_to(self, target: AsyncRemoteArray) -> None:
        """Copy it into another array of this board, on the board.

        Raises CopyRangeError where shape or dtype differ, else as a call does.
        """
        await self.board.pump.run(self.board.operations.copy, self, target)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Refuse: copying it back must be awaited. Raises TypeError."""
        raise TypeError(f"{self!r} lies on the board: `await x.numpy()` copies it back")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.free()


@dataclass(frozen=True, slots=True)
class AsyncRemoteStream:
    """A stream (queue of work) of the board, its `handle` there; most boards have the default one only."""

    board: Owner
    handle: OpaqueHandle

    __reduce_ex__ = uncopyable(LOOK_UP_THERE)

    async def sync(self) -> None:
        """Wait until everything in it is done. Raises as a call does."""
        await self._syscall(PacketCode.DEV_STREAM_SYNC)

    async def use(self) -> None:
        """Make it the one that what follows goes into. Raises as a call does."""
        await self._syscall(PacketCode.DEV_SET_STREAM)

    async def free(self) -> None:
        """Give it back. Raises as a call does."""
        await self._syscall(PacketCode.DEV_FREE_STREAM)

    async def _syscall(self, code: PacketCode) -> None:
        await self.board.pump.run(self.board.operations.syscall, code, CPU, self.handle)
