"""Events of a board, as a task reads them."""

from __future__ import annotations

import asyncio
import copy
import functools
import math
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from microrpc.client.aio.pump import AsyncPump
from microrpc.client.listening import SLICE_S
from microrpc.host.uncopyable import CONNECT_THERE, uncopyable
from microrpc.wire.checks import check_seconds
from microrpc.wire.events import Event

_LONGEST_WAIT_S = 1.0  # the wait goes on then: nothing that could end it is ever missed


class AsyncEvents(AsyncIterator[Event]):
    """The events of a board, one after the other, from when this was made; `AsyncBoard.events` makes it.

    It is as `microrpc.client.events.Events`, but `async for` reads it, and several tasks may. `close` and `with` are
    not awaited.
    """

    def __init__(self, pump: AsyncPump, name: str, timeout_s: float | None) -> None:
        self._pump = pump
        self._timeout_s = math.inf
        if timeout_s is not None:
            self._timeout_s = check_seconds(timeout_s, "timeout_s", may_be_zero=True)
        self._has_arrived = asyncio.Event()
        self._listen = functools.partial(pump.connection.listen, until_event=True)
        self._queue = pump.subscriptions.queue(name, self._has_arrived.set)

    __reduce_ex__ = uncopyable(CONNECT_THERE)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        pump, queue = self._pump, self._queue
        pump.check_process()
        until = pump.now() + self._timeout_s
        while True:
            self._has_arrived.clear()  # before it is looked at what is there
            if (event := queue.read()) is not None:
                return event
            if queue.is_ended:
                if queue.error is not None:
                    raise copy.copy(queue.error)
                raise StopAsyncIteration
            left_s = until - pump.now()
            if left_s <= 0:
                raise StopAsyncIteration
            if pump.is_listening:
                try:
                    async with asyncio.timeout(min(left_s, _LONGEST_WAIT_S)):
                        await self._has_arrived.wait()
                except TimeoutError:
                    pass
            else:
                await pump.run(self._listen, min(left_s, SLICE_S))

    def close(self) -> None:
        """Take no more events, and forget what was not read. Closing twice is fine."""
        self._queue.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
