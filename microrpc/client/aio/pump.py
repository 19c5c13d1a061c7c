"""asyncio's pump: it drives operations over a channel that is awaited, one at a time."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from microrpc.errors import (
    BoardError,
    CallTimeoutError,
    ClosedError,
    MicroRpcError,
    PortLostError,
    RequestError,
)
from microrpc.host.operation import AT_ONCE, Operation, after
from microrpc.host.requests import AnyConnection
from microrpc.ports.aio import AsyncChannel

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
        on_reconnect: Callable[[bool], None] = lambda memory_is_lost: None,
    ) -> None:
        self.name = channel.name
        self.closed = ""
        self._channel = channel
        self._connection = connection
        self._on_close = on_close
        self._reopen = reopen
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
            if self.closed:
                await self._reconnect()
                operation = after(self._connection.begin(None), make, *args, **kwargs)
            else:
                operation = make(*args, **kwargs)
            channel, output, trust = self._channel, self._connection.output, self._connection.trust
            try:
                try:
                    deadline = operation.send(None)  # type: ignore[arg-type]  # a generator starts with None
                    while True:
                        data = await channel.read(deadline)
                        now = channel.now()
                        deadline = operation.send((data, now))
                        if output.pieces:
                            await channel.write(*output.take(deadline, now))
                            trust.is_out = trust.is_asking
                except StopIteration as stop:
                    if output.pieces:
                        await channel.write(*output.take(AT_ONCE, channel.now()))
                    result: T = stop.value
                    return result
            except CallTimeoutError as error:
                raise trust.judge_write(error) from error.__cause__
            except BoardError as error:
                trust.note_told(error)
                raise
            except PortLostError as error:
                self.closed = self.closed or "the port went away"
                text = str(error)
                if self._reopen is not None:
                    self._channel.close()  # held open, its name would not be free for the port that comes back
                    text += " (the next request looks for it)"
                raise PortLostError(error.port, text, may_have_run=trust.is_out) from error
            finally:
                operation.close()
                trust.is_asking = trust.is_out = False

    async def _reconnect(self) -> None:
        """Open the port that went away; a session comes before any operation, so that it knows of a reset."""
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
