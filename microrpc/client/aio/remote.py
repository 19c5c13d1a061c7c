"""What an `AsyncBoard` hands out; see `microrpc.client.remote`, of which these are the awaitable twins."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy.typing as npt

from microrpc.host.handles import AnyArray, AnyFunction, AnyHandle, AnyModule, as_bytes
from microrpc.host.requests import Progress
from microrpc.wire.datatypes import CPU, OpaqueHandle
from microrpc.wire.packets import PacketCode

if TYPE_CHECKING:
    from microrpc.client.aio.board import AsyncBoard


class AsyncRemoteHandle(AnyHandle["AsyncBoard"]):
    """Something on the board. `owned` tells whether it is given back in the end."""

    async def free(self) -> None:
        """Give it back now; freeing twice does nothing."""
        self.discard()
        await self.board.collect()


class AsyncRemoteFunction(AsyncRemoteHandle, AnyFunction["AsyncBoard"]):
    """A function on the board: await a call of it."""

    async def __call__(self, *args: Any, timeout_s: float | None = None) -> Any:
        """See `microrpc.RemoteFunction`. Cancelled, the function may have run."""
        return await self.board.call(self, args, timeout_s=timeout_s)


class AsyncRemoteModule(AsyncRemoteHandle, AnyModule["AsyncBoard"]):
    """A module on the board: a set of functions, such as the system library."""

    async def find(self, name: str) -> AsyncRemoteFunction | None:
        """Give the function of that name, None where the module has none."""
        return await self.board.find_in_module(self, name)


class AsyncRemoteArray(AsyncRemoteHandle, AnyArray["AsyncBoard"]):
    """An array in the board's memory; see `microrpc.RemoteArray`."""

    async def numpy(self, *, on_progress: Progress | None = None, verify: bool = False) -> npt.NDArray[Any]:
        """See `microrpc.RemoteArray.numpy`."""
        result = self.make_room()
        await self.board.read_bytes(self, as_bytes(result), on_progress=on_progress, verify=verify)
        return result

    async def write(self, data: npt.ArrayLike, *, on_progress: Progress | None = None, verify: bool = False) -> None:
        """See `microrpc.RemoteArray.write`. Cancelled, a part may have been written."""
        await self.board.write_bytes(self.pack(data), self, on_progress=on_progress, verify=verify)

    async def copy_to(self, target: AsyncRemoteArray) -> None:
        """Copy it into another array of this board, on the board."""
        await self.board.copy(self, target)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.free()


@dataclass(frozen=True, slots=True)
class AsyncRemoteStream:
    """A stream (queue of work) of the board; see `microrpc.RemoteStream`."""

    board: AsyncBoard
    handle: OpaqueHandle

    async def sync(self) -> None:
        """Wait until everything in it is done."""
        await self.board.syscall(PacketCode.DEV_STREAM_SYNC, CPU, self.handle)

    async def use(self) -> None:
        """Make it the one that what follows goes into."""
        await self.board.syscall(PacketCode.DEV_SET_STREAM, CPU, self.handle)

    async def free(self) -> None:
        """Give it back."""
        await self.board.syscall(PacketCode.DEV_FREE_STREAM, CPU, self.handle)
