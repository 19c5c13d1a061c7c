# Generated from microrpc/client/aio/events.py by `make generate`; edit that.
"""Events of a board, as a blocking program reads them."""

from __future__ import annotations

import copy
import functools
import math
import threading
from collections.abc import Iterator
from typing import Self

from microrpc.client.listening import SLICE_S, check_event_name, check_handler
from microrpc.client.pump import Pump
from microrpc.client.remote import Owner
from microrpc.host.subscriptions import Handler, Subscription
from microrpc.host.uncopyable import CONNECT_THERE, uncopyable
from microrpc.wire.checks import check_seconds
from microrpc.wire.events import Event

_LONGEST_WAIT_S = 1.0  # the wait goes on then: nothing that could end it is ever missed


class Events(Iterator[Event]):
    """The events of a board, one after the other, from when this was made; `Board.events` makes it.

    The loop over it ends where none comes for so long as it was told, and when the board is closed; another loop goes
    on then. Up to 1024 events wait to be read: then the board is asked for no more. It raises PortLostError where the
    port went away for good. `close`, the end of `with` and whoever drops it end it. Any thread may read it, but not
    within a request.
    """

    def __init__(self, pump: Pump, name: str, timeout_s: float | None) -> None:
        self._pump = pump
        self._timeout_s = math.inf
        if timeout_s is not None:
            self._timeout_s = check_seconds(timeout_s, "timeout_s", may_be_zero=True)
        self._has_arrived = threading.Event()
        self._listen = functools.partial(pump.connection.listen, until_event=True)
        self._queue = pump.subscriptions.queue(name, self._has_arrived.set)

    __reduce_ex__ = uncopyable(CONNECT_THERE)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        pump, queue = self._pump, self._queue
        pump.check_process()
        pump.check_turn()
        until = pump.now() + self._timeout_s
        while True:
            self._has_arrived.clear()  # before it is looked at what is there
            if (event := queue.read()) is not None:
                return event
            if queue.is_ended:
                if queue.error is not None:
                    raise copy.copy(queue.error)
                raise StopIteration
            left_s = until - pump.now()
            if left_s <= 0:
                raise StopIteration
            if pump.is_listening:
                self._has_arrived.wait(min(left_s, _LONGEST_WAIT_S))
            else:
                pump.run(self._listen, min(left_s, SLICE_S))

    def close(self) -> None:
        """Take no more events, and forget what was not read. Closing twice is fine."""
        self._queue.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class EventsOf:
    """What gives a board its events."""

    def on_event(self: Owner, name: str | None, handler: Handler) -> Subscription:
        """Have `handler` called with each event of that name, None for all, until what this gives is closed.

        It is called in the middle of a request, or by what listens meanwhile (docs/events.md), must not wait, and
        cannot use the board; what it raises is logged by "microrpc.events". Nothing is asked of the board here: where
        its firmware has no events, that log says so. Raises RequestError, ClosedError.
        """
        self.pump.check_open()
        return self.pump.subscriptions.call(check_event_name(name), check_handler(handler))

    def events(self: Owner, name: str | None = None, *, timeout_s: float | None = None) -> Events:
        """Give the events of that name, None for all, that come from now on, one after the other (docs/events.md).

        `timeout_s`: where none comes for so long, the loop over them ends. Raises RequestError, ClosedError; the loop
        raises FeatureMissingError where the board's firmware has no events, PortLostError where the port is lost.
        """
        self.pump.check_open()
        return Events(self.pump, check_event_name(name), timeout_s)

    def poll(self: Owner, timeout_s: float = 0.0) -> int:
        """Handle what comes within `timeout_s`: events, logs, a reset; give how many events that were, gaps included.

        Needed only where nothing listens meanwhile (docs/events.md). Raises FeatureMissingError where events are wanted
        and the board's firmware has none, else as a call does.
        """
        check_seconds(timeout_s, "timeout_s", may_be_zero=True)
        return self.pump.run(self.pump.connection.listen, timeout_s)
