"""asyncio's client: an `AsyncBoard` has its operations pumped over a channel that is awaited.

`microrpc.aio.connect` opens one; what it hands out is in `microrpc.client.aio.remote`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self

import numpy.typing as npt

from microrpc.client.aio.events import AsyncEventsOf
from microrpc.client.aio.functions import AsyncFunctionsOf
from microrpc.client.aio.model import AsyncModelsOf
from microrpc.client.aio.pump import AsyncPump
from microrpc.client.aio.remote import AsyncRemoteArray, AsyncRemoteFunction, AsyncRemoteModule, AsyncRemoteStream
from microrpc.errors import ClosedError, RequestError
from microrpc.host.board import BoardOperations
from microrpc.host.handles import Timing, as_source, describe
from microrpc.host.job import Progress
from microrpc.host.requests import AnyConnection
from microrpc.host.stats import Stats
from microrpc.host.trust import Trust
from microrpc.host.uncopyable import CONNECT_THERE, uncopyable
from microrpc.ports.aio import AsyncChannel
from microrpc.wire.checks import check_callable, check_seconds, show
from microrpc.wire.datatypes import CPU, DataType, Device, Value
from microrpc.wire.description import FunctionDescription, Identity
from microrpc.wire.link import LinkParameters
from microrpc.wire.memory import BoardMemory
from microrpc.wire.packets import PacketCode, Reply, Request

# What is public for the sake of what a board hands out; its users have other ways to it.
_INNER = {
    *("pump", "operations", "garbage", "live", "trust", "reply_epoch"),
    *("open", "find_in_module", "call", "write_bytes", "read_bytes", "collect"),
}


class AsyncBoard(AsyncEventsOf, AsyncModelsOf):
    """A connection to one board. All methods that ask it something are awaited, and all waits end.

    It belongs to the event loop that it was made in, and raises RequestError in any other. Tasks take turns, in the
    order in which they asked. Each may be cancelled: what it asked the board for may have been done, and the next
    request begins with a new session.

    `call_s` is how long a reply is waited for where nothing else is said, in seconds. `on_close` is called last, when
    the board is closed. `reopen` is awaited for a port that went away and opens it, within so many seconds as it is
    given, raising PortError where it does not come back; without it a lost port is the end. Where no session comes
    about over it then, it is opened again, until `reconnect_s` seconds are over in all. `on_reconnect` is told whether
    the board lost its memory; it must not use the board.

    What it hands out uses the rest: `pump` drives its `operations`, whose `garbage` and `live` it has too; `trust` is
    what is believed of the board, the count of its resets among that.
    """

    def __init__(
        self,
        channel: AsyncChannel,
        connection: AnyConnection,
        *,
        call_s: float,
        on_close: Callable[[], None] = lambda: None,
        reopen: Callable[[float], Awaitable[AsyncChannel]] | None = None,
        reconnect_s: float = 0.0,
        on_reconnect: Callable[[bool], None] = lambda memory_is_lost: None,
    ) -> None:
        self.pump = AsyncPump(
            channel,
            connection,
            on_close=on_close,
            reopen=reopen,
            reconnect_s=reconnect_s,
            on_reconnect=on_reconnect,
        )
        self.operations = BoardOperations(
            self,
            connection,
            call_s=call_s,
            function=AsyncRemoteFunction,
            module=AsyncRemoteModule,
            array=AsyncRemoteArray,
        )
        self.pump.goodbye = self.operations.close
        self.garbage = self.operations.garbage
        self.live = self.operations.live
        self.trust: Trust = connection.trust
        self._connection = connection

    __reduce_ex__ = uncopyable(CONNECT_THERE)

    @property
    def name(self) -> str:
        """The port as the user gave it, for messages."""
        return self.pump.name

    async def open(self) -> None:
        """Open the session; `connect` does it. Raises HandshakeTimeoutError."""
        await self.pump.run(self._connection.open)

    # --- functions -----------------------------------------------------------------------------

    async def function(self, name: str) -> AsyncRemoteFunction:
        """Look a function up: in the global registry first, then in the system library.

        Raises FunctionNotFoundError, else as a call does.
        """
        return await self.pump.run(self.operations.function, name)

    async def global_function(self, name: str) -> AsyncRemoteFunction | None:
        """Look a function up in the global registry alone; None where it is not there. Raises as a call does."""
        return await self.pump.run(self.operations.global_function, name)

    async def system_library(self) -> AsyncRemoteModule | None:
        """Give the board's system library, None where it has none. Raises as a call does."""
        return await self.pump.run(self.operations.system_library)

    async def find_in_module(self, module: AsyncRemoteModule, name: str) -> AsyncRemoteFunction | None:
        """Look a function up in a module; `AsyncRemoteModule.find` does it."""
        return await self.pump.run(self.operations.find_in_module, module, name)

    async def call(
        self,
        function: AsyncRemoteFunction,
        args: Sequence[Any],
        *,
        timeout_s: float | None = None,
        on_progress: Progress | None = None,
    ) -> Any:
        """Call a function; `AsyncRemoteFunction` does it, and tells of `timeout_s` and `on_progress`."""
        if not isinstance(function, AsyncRemoteFunction):
            raise RequestError(f"{show(function)} is no function of the board: look one up with `function(name)`")
        if timeout_s is not None:
            check_seconds(timeout_s, "timeout_s")
        try:
            values = tuple(args)
        except TypeError:
            raise RequestError(f"the arguments of a call are a list of values, not {show(args)}") from None
        check_callable(on_progress, "on_progress")
        call = self.operations.call
        return await self.pump.run(call, function, values, timeout_s=timeout_s, on_progress=on_progress)

    async def time_evaluator(
        self,
        name: str,
        *,
        number: int = 10,
        repeat: int = 1,
        min_repeat_ms: int = 0,
        timeout_s: float | None = None,
    ) -> Callable[..., Awaitable[Timing]]:
        """Give a function that times the board's function `name` by the board's own clock.

        Called with that function's arguments, it runs it `number` times for each of `repeat` figures, and with more
        runs until those of a figure took `min_repeat_ms` together (docs/protocol.md 6). `timeout_s` must cover all of
        it, in seconds. Raises FunctionNotFoundError where it is not in the system library, RequestError for a
        number that cannot be, else as a call does.
        """
        if timeout_s is not None:
            check_seconds(timeout_s, "timeout_s")
        timed = await self.pump.run(
            self.operations.time_evaluator, name, number=number, repeat=repeat, min_repeat_ms=min_repeat_ms
        )

        async def evaluate(*args: Any) -> Timing:
            return await self.pump.run(self.operations.timing, timed, args, repeat=repeat, timeout_s=timeout_s)

        return evaluate

    # --- what the board tells of itself ----------------------------------------------------------

    async def functions(self) -> list[FunctionDescription]:
        """Give the functions that the board tells of, each with `name`, `signature` and `doc` (docs/functions.md).

        It is asked once, and not at all where it is known from before. A board that tells nothing, as stock firmware,
        gives an empty list. Raises ProtocolError where what it tells is not as it must be, else as a look-up does.
        """
        return list((await self.pump.run(self.operations.described.read)).functions)

    @property
    async def identity(self) -> Identity | None:
        """Who the board is: names of board and firmware, version, and a hash of all that it tells (docs/functions.md).

        None where it tells nothing. It is asked as by `functions`, and raises the same.
        """
        return (await self.pump.run(self.operations.described.read)).identity

    f = AsyncFunctionsOf()
    """The functions that the board tells of, by their names: `await board.f.scale(x, 2.0)` (docs/functions.md)."""

    # --- memory --------------------------------------------------------------------------------

    async def array(
        self, data: npt.ArrayLike, *, on_progress: Progress | None = None, verify: bool = False
    ) -> AsyncRemoteArray:
        """Allocate an array on the board and copy `data` into it, of any shape and any dtype that a board can have.

        What is big-endian is converted.

        `on_progress` is called with (bytes done, bytes in all) after each block. `verify` compares what is in the array
        then with what was sent (docs/copies.md), and raises VerifyError. Raises else as a call does.
        """
        return await self.pump.run(self.operations.array, as_source(data), on_progress=on_progress, verify=verify)

    async def empty(
        self, shape: int | Sequence[int], dtype: npt.DTypeLike | DataType | str, *, scope: str | None = None
    ) -> AsyncRemoteArray:
        """Allocate an array on the board, its contents undefined; `scope` names a memory scope that the board has.

        `dtype` is a numpy dtype, or a `DataType` or its name ("float32x4", "bfloat16") where numpy has none. Raises
        RequestError, RemoteError where the board has no room, else as a call does. Cancelled, the memory may stay
        taken until the board's reset.
        """
        return await self.pump.run(self.operations.empty, shape, dtype, scope=scope)

    def array_at(
        self, address: int, shape: int | Sequence[int], dtype: npt.DTypeLike | DataType | str
    ) -> AsyncRemoteArray:
        """Give access to memory of the board by its address; it is not freed. It asks the board nothing.

        `dtype` is as in `empty`. Raises RequestError.
        """
        self.pump.check_process()
        return AsyncRemoteArray(self, describe(address, shape, dtype), owned=False)

    async def copy(self, source: AsyncRemoteArray, target: AsyncRemoteArray) -> None:
        """Copy one array of the board into another, on the board.

        Raises CopyRangeError where shape or dtype differ, else as a call does.
        """
        await self.pump.run(self.operations.copy, source, target)

    async def write_bytes(
        self, data: memoryview, array: AsyncRemoteArray, *, on_progress: Progress | None, verify: bool = False
    ) -> None:
        """Copy bytes into an array; `AsyncRemoteArray.write` does it."""
        await self.pump.run(self.operations.write, data, array, on_progress=on_progress, verify=verify)

    async def read_bytes(
        self, array: AsyncRemoteArray, into: memoryview, *, on_progress: Progress | None, verify: bool = False
    ) -> None:
        """Copy bytes out of an array; `AsyncRemoteArray.numpy` does it."""
        await self.pump.run(self.operations.read, array, into, on_progress=on_progress, verify=verify)

    # --- the rest ------------------------------------------------------------------------------

    async def max_packet_bytes(self) -> int:
        """Give the largest packet that the board takes, in bytes; 2**64 - 1 where it knows none. Raises as a call does.

        The 8 bytes of packet_nbytes are not counted (docs/protocol.md 4).
        """
        return await self.pump.run(self.operations.max_packet_bytes)

    async def release_all(self) -> int:
        """Free all that was allocated on the board over the wire, by this program and by earlier ones; give the bytes.

        Leftovers of a program that was killed, for instance. Buffers of the firmware's own stay. Every handle that the
        board has given out, a function's too, is stale then: look up and allocate again. Raises FunctionNotFoundError
        where the firmware cannot do it (the robust simulator and the library in C can), RemoteError where the board is
        shared with other programs, else as a call does.
        """
        return await self.pump.run(self.operations.release_all)

    async def memory(self) -> BoardMemory:
        """Ask what is used of the board's memory: of its heap, and of its stack where the firmware knows.

        Raises FunctionNotFoundError where the firmware does not tell (the robust simulator does, and the library in C
        that was built with it), else as a call does.
        """
        return await self.pump.run(self.operations.memory)

    async def create_stream(self) -> AsyncRemoteStream:
        """Create a stream on the board. Raises RemoteError where it cannot, else as a call does."""
        return AsyncRemoteStream(self, await self.pump.run(self.operations.create_stream))

    async def set_device(self, device: Device = CPU) -> None:
        """Choose the device for what follows. Raises RemoteError on a stock board, else as a call does."""
        await self.syscall(PacketCode.DEV_SET_DEVICE, device)

    async def attribute(self, kind: int, device: Device = CPU) -> Value:
        """Give an attribute of a device, of the `kind` that TVM counts so (docs/protocol.md 3, DevGetAttr).

        Raises RemoteError on a stock board, else as a call does.
        """
        return await self.syscall(PacketCode.DEV_GET_ATTR, device, kind)

    async def syscall(self, code: PacketCode, *args: Value, epoch: int | None = None) -> Value:
        """Send a syscall and give the value that it returns (docs/protocol.md 3).

        `epoch` is the one that its handles come from, None where it has none. Raises as a call does.
        """
        return await self.pump.run(self.operations.syscall, code, *args, epoch=epoch)

    async def request(self, request: Request) -> Reply:
        """Send any request and give the reply as it is; a proxy serves a board to others with it.

        An exception of the board is such a reply. Raises else as a call does.
        """
        return await self.pump.run(self.operations.request, request)

    @property
    def session_id(self) -> int:
        """The id of the session, both nonces in it; 0 where there is none, as over TCP."""
        return self._connection.session_id

    @property
    def link(self) -> LinkParameters | None:
        """What the board told of its reliable link (docs/link.md); None without one, and before the first request."""
        return self._connection.link

    @property
    def stats(self) -> Stats:
        """What crossed the line since the connection was opened, and how fast (docs/copies.md). It asks nothing."""
        return self._connection.stats

    @property
    def epoch(self) -> int:
        """How often it was seen to reset, or all of its memory was freed; what it handed out belongs to one epoch."""
        return self.trust.epoch

    @property
    def reply_epoch(self) -> int:
        """The epoch in which the last request was sent."""
        return self.trust.reply_epoch

    # --- handles -------------------------------------------------------------------------------

    async def collect(self, *, portion: bool = False) -> None:
        """Free on the board what was freed or garbage collected here; stop at the first sign of trouble.

        Requests do so too, each a portion of it: up to 8 things in about 50 ms. `portion`: no more than that. Requests
        of others may come between two portions. Trouble is not raised here, where it would be blamed on another
        request: the next one meets it again. Raises ClosedError in a fork of the process that opened the board.
        """
        self.pump.check_process()
        with contextlib.suppress(ClosedError):
            while self.garbage and not self.pump.closed:  # nothing is worth freeing that a port must come back for
                trouble = await self.pump.run(self.operations.collect)
                if portion or trouble is not None:
                    return

    async def close(self, *, shutdown: bool = False) -> None:
        """Free everything on the board, leave the session and release the port; closing twice is fine.

        A request of another task that is under way for longer ends with ClosedError, and then the board is told
        nothing, and what it gave stays taken until its reset. `shutdown` sends Shutdown too, as TVM's host does: a
        stock board is deaf from then on, until it is reset.
        The port is released even if this is cancelled.
        """
        await self.pump.close(shutdown)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __dir__(self) -> list[str]:
        """Give what users use, which completion shows: the rest is there for what the board hands out."""
        return [name for name in super().__dir__() if name not in _INNER and (name[0] != "_" or name[:2] == "__")]

    def __repr__(self) -> str:
        return f"<AsyncBoard {self.name}{' closed' if self.pump.closed else ''}>"
