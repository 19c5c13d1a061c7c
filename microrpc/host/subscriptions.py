"""Who wants which events: functions that are called, and queues that a program reads at its own pace (docs/events.md).

`Subscriptions` is where a connection delivers events, in whatever thread drives it; others subscribe, read and leave
meanwhile. So every change here is one step of Python: no lock is held while a program's function runs.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Protocol

from microrpc.host.uncopyable import CONNECT_THERE, uncopyable
from microrpc.wire.events import Event

Handler = Callable[[Event], object]
"""Called with each event, in the middle of a request: it must not use the board."""

QUEUE_EVENTS = 1024
"""A queue that holds so many events has no room: no more are asked for until half of them were read."""

_MOST_EVENTS = QUEUE_EVENTS + 4096  # more than credit that is out brings: only a board that breaks the rules comes here


class Subscriber(Protocol):
    """One who wants events: those called `name`, or all where that is empty."""

    name: str

    def take(self, event: Event, missed: int) -> None:
        """Take an event; `missed` counts all that any subscriber missed, from the beginning on."""


class Subscriptions:
    """The subscribers of one board.

    `on_failure` is called with the name of an event whose handler raised, while that is handled. `on_wish` is called
    when something else may be to be done than before: somebody came, left, or has room again, or a board wants to hear
    of its host. missed: how many events never came. is_wanted: whether anybody wants events.
    """

    def __init__(self, on_failure: Callable[[str], None], on_wish: Callable[[], None] = lambda: None) -> None:
        self.on_failure = on_failure
        self.on_wish = on_wish
        self.missed = 0
        self.is_wanted = False
        self._subscribers: dict[int, Callable[[], Subscriber | None]] = {}  # in the order in which they came
        self._keys = count()

    @property
    def has_handlers(self) -> bool:
        """Whether any function is to be called."""
        return any(isinstance(each, Subscription) for each in self._all())

    @property
    def has_room(self) -> bool:
        """Whether every queue has room for more."""
        return not any(isinstance(each, EventQueue) and each.is_full for each in self._all())

    def deliver(self, event: Event) -> None:
        """Give an event to those who want it, in the order in which they came; a gap to all who missed something."""
        self.missed += event.missed
        for subscriber in self._all():
            if event.is_gap or subscriber.name in ("", event.name):
                subscriber.take(event, self.missed)

    def wake(self) -> None:
        """See `EventSink.wake`."""
        self.on_wish()

    def call(self, name: str, handler: Handler) -> Subscription:
        """Have `handler` called with events of that `name`, "" for all, until what this gives is closed."""
        subscription = Subscription(self, name, handler)
        self._add(next(self._keys), lambda: subscription)
        return subscription

    def queue(self, name: str, on_arrival: Callable[[], None]) -> EventQueue:
        """Give a queue of events of that `name`, "" for all; `on_arrival` is called when something was put into it.

        It is closed when nobody has it any more.
        """
        queue, key, reference = EventQueue(self, name, on_arrival), next(self._keys), weakref.ref(self)

        def forget(_: object) -> None:
            if (subscriptions := reference()) is not None:
                subscriptions._drop(key)
                subscriptions.on_wish()  # it may have been what had no room

        self._add(key, weakref.ref(queue, forget))
        return queue

    def end(self, error: Exception | None) -> None:
        """Let nobody wait any more: what a queue still has can be read, and then `error` is to be raised, if any."""
        for subscriber in self._all():
            if isinstance(subscriber, EventQueue):
                subscriber.end(error)

    def close(self) -> None:
        """Deliver nothing more to anybody: not what is left of an arrival, either, of which a handler is called now."""
        self.end(None)
        self._subscribers.clear()
        self._note()

    def remove(self, subscriber: Subscriber) -> None:
        """Give no more to a subscriber. Doing it twice is fine."""
        for key, found in list(self._subscribers.items()):
            if found() is subscriber:
                self._drop(key)
                self.on_wish()

    def _add(self, key: int, find: Callable[[], Subscriber | None]) -> None:
        self._subscribers[key] = find
        self._note()
        self.on_wish()

    def _drop(self, key: int) -> None:
        self._subscribers.pop(key, None)
        self._note()

    def _note(self) -> None:
        """Note whether anybody wants events, however many threads do so at once: the last one looks again."""
        while self.is_wanted != bool(self._subscribers):
            self.is_wanted = bool(self._subscribers)

    def _all(self) -> list[Subscriber]:
        found = (find() for find in list(self._subscribers.values()))
        return [subscriber for subscriber in found if subscriber is not None]


class _Counted:
    """A subscriber that is told what was missed since it was told last, be it by an event or by a gap."""

    def __init__(self, subscriptions: Subscriptions, name: str) -> None:
        self.name = name
        self._subscriptions = subscriptions
        self._missed_before = subscriptions.missed

    __reduce_ex__ = uncopyable(CONNECT_THERE)

    def _counted(self, event: Event, missed: int) -> Event:
        """Give the event with this subscriber's count."""
        own, self._missed_before = missed - self._missed_before, missed
        return event if event.missed == own else replace(event, missed=own)


class Subscription(_Counted):
    """A function that is called with events of a `name`, "" for all, until this is closed; `with` closes it."""

    def __init__(self, subscriptions: Subscriptions, name: str, handler: Handler) -> None:
        super().__init__(subscriptions, name)
        self._handler = handler
        self._is_closed = False

    def take(self, event: Event, missed: int) -> None:
        """Call the function. What it raises is told, and breaks nothing."""
        if self._is_closed:  # by a handler of this very event, or by another thread meanwhile
            return
        counted = self._counted(event, missed)
        try:
            self._handler(counted)
        except Exception:
            self._subscriptions.on_failure(event.name)

    def close(self) -> None:
        """Call it no more. Closing twice is fine."""
        self._is_closed = True
        self._subscriptions.remove(self)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {f'event {self.name!r}' if self.name else 'all events'}>"


class EventQueue(_Counted):
    """Events of a `name`, "" for all, that wait to be read.

    `on_arrival` is called when there is something to be read, or nothing more will come: `is_ended` then, and `error`
    is what is to be raised when it is empty, if any.
    """

    def __init__(self, subscriptions: Subscriptions, name: str, on_arrival: Callable[[], None]) -> None:
        super().__init__(subscriptions, name)
        self.on_arrival = on_arrival
        self.is_full = self.is_ended = False
        self.error: Exception | None = None
        self._events: deque[Event] = deque()

    def take(self, event: Event, missed: int) -> None:
        """Keep an event until it is read; beyond all that was asked for it is dropped, and counts as missed."""
        if len(self._events) >= _MOST_EVENTS:
            self._missed_before -= not event.is_gap
            return
        self._events.append(self._counted(event, missed))
        self.is_full = self.is_full or len(self._events) >= QUEUE_EVENTS
        self.on_arrival()

    def read(self) -> Event | None:
        """Give the next event, None where there is none."""
        event = None
        with contextlib.suppress(IndexError):
            event = self._events.popleft()
        if self.is_full and len(self._events) <= QUEUE_EVENTS // 2:  # an empty one, too: see `take`, in another thread
            self.is_full = False
            self._subscriptions.on_wish()
        return event

    def end(self, error: Exception | None) -> None:
        """Let nobody wait for more, but read what is there."""
        if not self.is_ended:
            self.error, self.is_ended = error, True
            self.on_arrival()

    def close(self) -> None:
        """Take no more, and forget what was not read. Closing twice is fine."""
        self._subscriptions.remove(self)
        self._events.clear()
        self.end(None)
