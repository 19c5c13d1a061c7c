"""asyncio's pump: it drives operations over a channel that is awaited, one at a time."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from microrpc.client.losses import loss_of, retold
from microrpc.errors import ClosedError, MicroRpcError, RequestError
from microrpc.host.operation import AT_ONCE, Operation
from microrpc.host.requests import AnyConnection
from microrpc.ports.aio import AsyncChannel
from microrpc.ports.channel import renew
from microrpc.ports.lost import POLL_S

P = ParamSpec("P")
T = TypeVar("T")


class AsyncPump:
    """Drives the operations of one connection, in the event loop that it was made in. Tasks take turns.

    Its arguments, and `name` and `closed`, are those of `microrpc.client.pump.Pump`; `reopen` is awaited.
    """

    def __init__(
        self,
        channel: AsyncChannel,
        connection: AnyConnection,
        *,
        on_close: Callable[[], None] = lambda: None,
        reopen: Callable[[], Awaitable[AsyncChannel]] | None = None,
        reconnect_s: float = 0.0,
        on_reconnect: Callable[[bool], None] = lambda memory_is_lost: None,
    ) -> None:
        self.name = channel.name
        self.closed = ""
        self._channel = channel
        self._connection = connection
        self._on_close = on_close
        self._reopen = reopen
        self._reconnect_s = reconnect_s
        self._on_reconnect = on_reconnect
        self._loop = get_running_loop()
        self._lock = asyncio.Lock()

    async def run(self, make: Callable[P, Operation[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make an operation when it is its turn, and drive it to its end: send what it wants sent, wait for the rest.

        Raises what the operation raises, what the channel does, and RequestError in another event loop.
        """
        if get_running_loop() is not self._loop:
            raise self._other_loop_error()
        async with self._lock:
            comes_back = bool(self.closed)  # a session comes before any operation then, so that it knows of a reset
            give_up_at = self._channel.now() + self._reconnect_s if comes_back else AT_ONCE
            while True:
                operation: Operation[Any]
                if comes_back:
                    await self._reconnect()
                    operation = self._connection.begin(None)
                else:
                    operation = make(*args, **kwargs)
                channel, output = self._channel, self._connection.output
                try:
                    try:
                        deadline = operation.send(None)  # type: ignore[arg-type]  # a generator starts with None
                        while True:
                            data = await channel.read(deadline)
                            now = channel.now()
                            deadline = operation.send((data, now))
                            if output.pieces:
                                if output.port_is_doubtful:
                                    output.port_is_doubtful = False
                                    renew(channel)
                                await channel.write(*output.take(deadline, now))
                    except StopIteration as stop:
                        if output.pieces:
                            await channel.write(*output.take(AT_ONCE, channel.now()))
                        if not comes_back:
                            result: T = stop.value
                            return result
                        comes_back = False
                except MicroRpcError as error:
                    more = self._note_failure(error, comes_back)
                    if not (self.closed and comes_back and channel.now() < give_up_at):
                        if more is None:
                            raise
                        raise retold(error, more, comes_back=comes_back) from error
                    await asyncio.sleep(POLL_S)
                finally:
                    operation.close()

    def _note_failure(self, error: MicroRpcError, comes_back: bool) -> str | None:
        """Let go of the port where `error` means that it is lost; give what else is to be told, see `Loss`."""
        loss = loss_of(error, self._channel, can_reopen=self._reopen is not None, comes_back=comes_back)
        self.closed = self.closed or loss.closed
        if loss.closed and self._reopen is not None:
            self._channel.close()  # held open, its name would not be free for the port that comes back
        return loss.more

    async def _reconnect(self) -> None:
        """Open the port that went away, with nothing under way over it."""
        if self._reopen is None:
            raise self._closed_error()
        channel = await self._reopen()
        if self._reopen is None:  # closed meanwhile, by a task that did not wait for this one
            channel.close()
            raise self._closed_error()
        self._channel, self.name = channel, channel.name
        self.closed = ""
        self._connection.on_port_reopened(self._on_reconnect)

    async def close(self, say_goodbye: Callable[[], Operation[None]]) -> None:
        """Drive a last operation, whatever comes of it, and release the port, even if this is cancelled.

        Closing twice is fine. Raises RequestError in another event loop.
        """
        is_reachable = not self._loop.is_closed()
        if is_reachable and get_running_loop() is not self._loop:
            raise self._other_loop_error()
        self._reopen = None
        try:
            with contextlib.suppress(MicroRpcError, OSError):
                if is_reachable:
                    await self.run(say_goodbye)
        finally:
            self.closed = self.closed or "it was closed here"
            self._channel.close()
            on_close, self._on_close = self._on_close, lambda: None
            on_close()

    def _closed_error(self) -> ClosedError:
        return ClosedError(f"the connection to {self.name} is closed ({self.closed}); connect again")

    def _other_loop_error(self) -> RequestError:
        what = f"<AsyncBoard {self.name}{' closed' if self.closed else ''}>"
        return RequestError(f"{what} belongs to another event loop: use it in the one that it was connected in")
