"""asyncio's client: an `AsyncBoard` pumps the operations of `microrpc.host.board` over a channel that is awaited."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy.typing as npt

from microrpc.client.aio.remote import AsyncRemoteArray, AsyncRemoteFunction, AsyncRemoteModule, AsyncRemoteStream
from microrpc.errors import ClosedError, MicroRpcError, PortLostError, RequestError
from microrpc.host.board import BoardOperations, PumpedConversation
from microrpc.host.handles import Timing, describe
from microrpc.host.operation import AT_ONCE, Operation
from microrpc.host.requests import Progress
from microrpc.host.stats import Stats
from microrpc.ports.aio import AsyncChannel
from microrpc.wire.datatypes import CPU, DataType, Device, Value
from microrpc.wire.link import LinkParameters
from microrpc.wire.packets import PacketCode, Reply, Request

T = TypeVar("T")


class AsyncBoard:
    """A connection to one board: `microrpc.Board`, but what asks the board something is awaited.

    It belongs to the event loop that it was made in, and raises RequestError in any other. Tasks take turns, in the
    order in which they asked. Each may be cancelled: what it asked the board for may have been done, and the next
    request begins with a new session. `reopen` and `on_reconnect` are those of `microrpc.Board`, `reopen` awaited.
    """

    def __init__(
        self,
        channel: AsyncChannel,
        conversation: PumpedConversation,
        *,
        call_s: float,
        on_close: Callable[[], None] = lambda: None,
        reopen: Callable[[], Awaitable[AsyncChannel]] | None = None,
        on_reconnect: Callable[[bool], None] = lambda memory_is_lost: None,
    ) -> None:
        self.name = channel.name
        self._channel = channel
        self._conversation = conversation
        self._operations = BoardOperations(
            self,
            conversation,
            call_s=call_s,
            function=AsyncRemoteFunction,
            module=AsyncRemoteModule,
            array=AsyncRemoteArray,
        )
        self.garbage = self._operations.garbage
        self.live = self._operations.live
        self._on_close = on_close
        self._reopen = reopen
        self._on_reconnect = on_reconnect
        self._loop = asyncio.get_running_loop()
        self._lock = asyncio.Lock()

    # --- the pump ------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the session; `connect` does it. Raises HandshakeTimeoutError."""
        await self._run(self._conversation.open())

    async def _run(self, operation: Operation[T]) -> T:
        """Drive one operation to its end: send what it wants sent, wait for what it waits for."""
        self._check_loop()
        conversation = self._conversation
        async with self._lock:
            try:
                if self._operations.closed:
                    operation = await self._reconnect(operation)
                channel = self._channel
                deadline = operation.send(None)  # type: ignore[arg-type]  # a generator starts with None
                while True:
                    data = await channel.read(deadline)
                    now = channel.now()
                    deadline = operation.send((data, now))
                    output = conversation.take_output()
                    if output:
                        await channel.write(output, conversation.write_by(deadline, now))
            except StopIteration as stop:
                output = conversation.take_output()
                if output:
                    await channel.write(output, conversation.write_by(AT_ONCE, channel.now()))
                result: T = stop.value
                return result
            except PortLostError as error:
                self._operations.closed = self._operations.closed or "the port went away"
                text = str(error)
                if self._reopen is not None:
                    self._channel.close()  # held open, its name would not be free for the port that comes back
                    text += " (the next request looks for it)"
                raise PortLostError(error.port, text, may_have_run=True) from error
            finally:
                operation.close()

    async def _reconnect(self, operation: Operation[T]) -> Operation[T]:
        """Open the port that went away, and give `operation` with a new session before it."""
        if self._reopen is None:
            raise self._operations.closed_error()
        channel = await self._reopen()
        if self._reopen is None:  # closed meanwhile, by a task that did not wait for this one
            channel.close()
            raise self._operations.closed_error()
        self._channel, self.name = channel, channel.name
        return self._operations.resume(operation, self._on_reconnect)

    def _check_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise RequestError(f"{self!r} belongs to another event loop: use it in the one that it was connected in")

    # --- functions -----------------------------------------------------------------------------

    async def function(self, name: str) -> AsyncRemoteFunction:
        """See `microrpc.Board.function`."""
        return await self._run(self._operations.function(name))

    async def global_function(self, name: str) -> AsyncRemoteFunction | None:
        """See `microrpc.Board.global_function`."""
        return await self._run(self._operations.global_function(name))

    async def system_library(self) -> AsyncRemoteModule | None:
        """See `microrpc.Board.system_library`."""
        return await self._run(self._operations.system_library())

    async def find_in_module(self, module: AsyncRemoteModule, name: str) -> AsyncRemoteFunction | None:
        """See `microrpc.Board.find_in_module`."""
        return await self._run(self._operations.find_in_module(module, name))

    async def call(self, function: AsyncRemoteFunction, args: Sequence[Any], *, timeout_s: float | None = None) -> Any:
        """See `microrpc.Board.call`."""
        return await self._run(self._operations.call(function, args, timeout_s=timeout_s))

    async def time_evaluator(
        self,
        name: str,
        *,
        number: int = 10,
        repeat: int = 1,
        min_repeat_ms: int = 0,
        timeout_s: float | None = None,
    ) -> Callable[..., Awaitable[Timing]]:
        """See `microrpc.Board.time_evaluator`; what it gives is awaited too."""
        timed = await self._run(
            self._operations.time_evaluator(name, number=number, repeat=repeat, min_repeat_ms=min_repeat_ms)
        )

        async def evaluate(*args: Any) -> Timing:
            return await self._run(self._operations.timing(timed, args, repeat=repeat, timeout_s=timeout_s))

        return evaluate

    # --- memory --------------------------------------------------------------------------------

    async def array(
        self, data: npt.ArrayLike, *, on_progress: Progress | None = None, verify: bool = False
    ) -> AsyncRemoteArray:
        """See `microrpc.Board.array`."""
        return await self._run(self._operations.array(data, on_progress=on_progress, verify=verify))

    async def empty(
        self, shape: int | Sequence[int], dtype: npt.DTypeLike | DataType | str, *, scope: str | None = None
    ) -> AsyncRemoteArray:
        """See `microrpc.Board.empty`. Cancelled, the memory may stay taken until the board's reset."""
        return await self._run(self._operations.empty(shape, dtype, scope=scope))

    def array_at(
        self, address: int, shape: int | Sequence[int], dtype: npt.DTypeLike | DataType | str
    ) -> AsyncRemoteArray:
        """See `microrpc.Board.array_at`. It asks the board nothing, so it is not awaited."""
        return AsyncRemoteArray(self, describe(address, shape, dtype), owned=False)

    async def copy(self, source: AsyncRemoteArray, target: AsyncRemoteArray) -> None:
        """See `microrpc.Board.copy`."""
        await self._run(self._operations.copy(source, target))

    async def write_bytes(
        self, data: memoryview, array: AsyncRemoteArray, *, on_progress: Progress | None, verify: bool = False
    ) -> None:
        """See `microrpc.Board.write_bytes`."""
        await self._run(self._operations.write(data, array, on_progress=on_progress, verify=verify))

    async def read_bytes(
        self, array: AsyncRemoteArray, into: memoryview, *, on_progress: Progress | None, verify: bool = False
    ) -> None:
        """See `microrpc.Board.read_bytes`."""
        await self._run(self._operations.read(array, into, on_progress=on_progress, verify=verify))

    # --- the rest ------------------------------------------------------------------------------

    async def max_packet_bytes(self) -> int:
        """See `microrpc.Board.max_packet_bytes`."""
        return await self._run(self._operations.max_packet_bytes())

    async def create_stream(self) -> AsyncRemoteStream:
        """See `microrpc.Board.create_stream`."""
        return AsyncRemoteStream(self, await self._run(self._operations.create_stream()))

    async def set_device(self, device: Device = CPU) -> None:
        """See `microrpc.Board.set_device`."""
        await self.syscall(PacketCode.DEV_SET_DEVICE, device)

    async def attribute(self, kind: int, device: Device = CPU) -> Value:
        """See `microrpc.Board.attribute`."""
        return await self.syscall(PacketCode.DEV_GET_ATTR, device, kind)

    async def syscall(self, code: PacketCode, *args: Value, epoch: int | None = None) -> Value:
        """See `microrpc.Board.syscall`."""
        return await self._run(self._operations.syscall(code, *args, epoch=epoch))

    async def request(self, request: Request) -> Reply:
        """See `microrpc.Board.request`."""
        return await self._run(self._operations.request(request))

    @property
    def session_id(self) -> int:
        """See `microrpc.Board.session_id`."""
        return self._conversation.session_id

    @property
    def link(self) -> LinkParameters | None:
        """See `microrpc.Board.link`."""
        linked = self._conversation.linked
        return linked.parameters if linked is not None else None

    @property
    def stats(self) -> Stats:
        """See `microrpc.Board.stats`."""
        return self._conversation.stats

    @property
    def epoch(self) -> int:
        """See `microrpc.Board.epoch`."""
        return self._conversation.epoch

    @property
    def reply_epoch(self) -> int:
        """See `microrpc.Board.reply_epoch`."""
        return self._conversation.reply_epoch

    # --- handles -------------------------------------------------------------------------------

    async def collect(self) -> None:
        """See `microrpc.Board.collect`."""
        if self.garbage and not self._operations.closed:
            with contextlib.suppress(ClosedError):
                await self._run(self._operations.collect())

    async def close(self, *, shutdown: bool = False) -> None:
        """See `microrpc.Board.close`. The port is released even if this is cancelled."""
        is_reachable = not self._loop.is_closed()
        if is_reachable:
            self._check_loop()
        self._reopen = None
        try:
            with contextlib.suppress(MicroRpcError, OSError):
                if is_reachable:
                    await self._run(self._operations.close(shutdown))
        finally:
            self._operations.closed = self._operations.closed or "it was closed here"
            self._channel.close()
            on_close, self._on_close = self._on_close, lambda: None
            on_close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncBoard {self.name}{' closed' if self._operations.closed else ''}>"
