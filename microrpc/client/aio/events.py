"""Events of a board, as a task reads them."""

from __future__ import annotations

import asyncio
import copy
import functools
import math
from collections.abc import AsyncIterator
from typing import Self

from microrpc.client.aio.pump import AsyncPump
from microrpc.client.aio.remote import Owner
from microrpc.client.listening import SLICE_S, check_event_name, check_handler
from microrpc.host.subscriptions import Handler, Subscription
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

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncEventsOf:
    """What gives a board its events."""

    def on_event(self: Owner, name: str | None, handler: Handler) -> Subscription:
        """Have `handler` called with each event of that name, None for all, until what this gives is closed.

        It is called in the middle of a request, or by what listens meanwhile (docs/events.md), must not wait, and
        cannot use the board; what it raises is logged by "microrpc.events". Nothing is asked of the board here: where
        its firmware has no events, that log says so. Raises RequestError, ClosedError.
        """
        self.pump.check_open()
        return self.pump.subscriptions.call(check_event_name(name), check_handler(handler))

    def events(self: Owner, name: str | None = None, *, timeout_s: float | None = None) -> AsyncEvents:
        """Give the events of that name, None for all, that come from now on, one after the other (docs/events.md).

        `timeout_s`: where none comes for so long, the loop over them ends. Raises RequestError, ClosedError; the loop
        raises FeatureMissingError where the board's firmware has no events, PortLostError where the port is lost.
        """
        self.pump.check_open()
        return AsyncEvents(self.pump, check_event_name(name), timeout_s)

    async def poll(self: Owner, timeout_s: float = 0.0) -> int:
        """Handle what comes within `timeout_s`: events, logs, a reset; give how many events that were, gaps included.

        Needed only where nothing listens meanwhile (docs/events.md). Raises FeatureMissingError where events are wanted
        and the board's firmware has none, else as a call does.
        """
        check_seconds(timeout_s, "timeout_s", may_be_zero=True)
        return await self.pump.run(self.pump.connection.listen, timeout_s)
