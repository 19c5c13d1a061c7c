"""How both clients hear what a board says while nobody asks it anything (docs/events.md).

A pump's listener waits, without the turn, until there is something to read or something is due; then it takes the turn
if it is free, and listens for as long as nobody else wants it. It has but a weak reference to the pump while it waits.
"""

from __future__ import annotations

import inspect
import logging
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from microrpc.errors import BoardError, RequestError
from microrpc.host.operation import AT_ONCE, Operation
from microrpc.host.subscriptions import Handler
from microrpc.wire.checks import show

_log = logging.getLogger("microrpc.events")

BUSY_S = 0.02
"""How long a listener leaves a board alone that others use, and how soon it makes way for them, in seconds."""
LOOK_S = 0.5
"""How often it looks whether a port that went away is back, in seconds."""
LONGEST_PAUSE_S = 10.0
"""How long a listener leaves a board alone at most that is in trouble, in seconds."""
SLICE_S = 0.05
"""How long whoever waits for an event listens in one turn, where nothing else listens."""
LONGEST_WAIT_S = 3600.0
"""How long one wait of a listener takes at most; nothing depends on it."""

_LEAST_WAIT_S = 0.002
_FIRST_PAUSE_S = 0.5

ChannelT = TypeVar("ChannelT")


@dataclass(frozen=True, slots=True)
class Wait(Generic[ChannelT]):
    """What a listener waits for next: for `wait_s`, or until `channel`, if there is one, has something to read."""

    channel: ChannelT | None
    wait_s: float


def politely(operation: Operation[object], is_waited_for: Callable[[], bool]) -> Operation[BoardError | None]:
    """Drive an operation to its end, or until somebody waits for the board; give what it could not do, if anything.

    That is not raised: a request will meet it again, and tell the program.
    """
    now = AT_ONCE
    try:
        deadline = operation.send(None)  # type: ignore[arg-type]  # a generator starts with None
        while True:
            data, now = yield min(deadline, now + BUSY_S)
            deadline = operation.send((data, now))
            if is_waited_for():
                return None
    except StopIteration:
        return None
    except BoardError as error:
        return error
    finally:
        operation.close()


class Patience:
    """How long a listener leaves a board alone that is in trouble: longer each time."""

    def __init__(self) -> None:
        self._pause_s = 0.0

    def after(self, is_in_trouble: bool) -> float:
        """Give for how long, in seconds; 0 where there is no trouble."""
        longer_s = max(2 * self._pause_s, _FIRST_PAUSE_S)
        self._pause_s = min(longer_s, LONGEST_PAUSE_S) if is_in_trouble else 0.0
        return self._pause_s


def wait_until(at: float, channel: ChannelT, now: float, *, hears_all: bool) -> Wait[ChannelT]:
    """Give what to wait for where the next thing is due `at` that time, at infinity where there is none.

    Then the port is left alone, but for those who are to hear all.
    """
    if at - now > LONGEST_WAIT_S:
        return Wait(channel if hears_all else None, LONGEST_WAIT_S)
    return Wait(channel, max(at - now, _LEAST_WAIT_S))


def weakly(method: Callable[[], None]) -> Callable[[], None]:
    """Give what calls a method as long as its object lives, and does not keep it alive."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        found = reference()
        if found is not None:
            found()

    return call


def warn_of(name: str, error: Exception) -> None:
    """Log why handlers get no events from the board on port `name`."""
    _log.warning("%s: %s", name, error)


def log_raised(name: str, error: BaseException) -> None:
    """Log what a callback raised that the listener of the board on port `name` called."""
    text = "%s: what listens to the board met this in a callback, and goes on"
    _log.error(text, name, exc_info=error)


def failure_log(name: str) -> Callable[[str], None]:
    """Give what logs that a handler of an event of the board on port `name` raised."""
    return lambda event: _log.exception("%s: a handler of the event %r raised", name, event)


def check_event_name(name: object) -> str:
    """Give the name of an event, "" for all, which None stands for. Raises RequestError for what is no name."""
    if name is None:
        return ""
    if not isinstance(name, str):
        raise RequestError(f"the name of an event is a text, or None for all of them, not {show(name)}")
    return name


def check_handler(handler: object) -> Handler:
    """Give a function that is called with events. Raises RequestError for none, and for one that must be awaited."""
    if not callable(handler):
        raise RequestError(f"what is called with events is a function, not {show(handler)}")
    if inspect.iscoroutinefunction(handler):
        raise RequestError(
            f"{show(handler)} must be awaited, and what is called with events is not: let it start a task, or read the "
            "events with `async for event in board.events(name)`"
        )
    return handler
