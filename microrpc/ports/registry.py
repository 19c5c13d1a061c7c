"""What this process has open: what a fork of it must let go of, what its end closes, what a second opener is told.

A fork has copies of all descriptors, and of all objects that would use them. They are for the process that opened them:
the fork closes its copies, which does nothing to the port, and whoever asks it for one gets an error.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
import weakref
from collections.abc import Callable
from typing import Protocol

_LISTENS_S = 0.1


class Inherited(Protocol):
    """What a fork finds as a copy."""

    def on_fork(self) -> None:
        """In the fork, right after it was made: let go of what is the parent's, without a word to the port.

        Other threads are gone, and what locks they held stays locked. Descriptors may be closed, and no more.
        """


_things: weakref.WeakValueDictionary[tuple[int, str], Inherited] = weakref.WeakValueDictionary()


def register(thing: Inherited) -> None:
    """Have `thing` told in every fork of this process, as long as it lives. What has `is_open` is the port `name`."""
    # Once for each: whoever opens one of a thousand ports looks at the names of all of them.
    name = _real(getattr(thing, "name", "")) if hasattr(type(thing), "is_open") else ""
    _things[id(thing), name] = thing


def registered() -> list[Inherited]:
    """Give what is registered and lives. Other threads may register more meanwhile: their list is taken in one step."""
    return [thing for reference in _things.valuerefs() if (thing := reference()) is not None]


def is_open_here(port: str) -> bool:
    """Whether this very program has a port open."""
    name = _real(port)
    return any(reference.key[1] == name and getattr(reference(), "is_open", False) for reference in _things.valuerefs())


def _real(port: str) -> str:
    """Give the one name of a port that links lead to; a URL is no path, whatever the working directory."""
    return port if "://" in port else os.path.realpath(port)


_FOR_MANY = ("sim://", "unix://")  # which nobody keeps busy: a collection takes as long as a program is large


def collect_dropped(port: str) -> None:
    """Have a port given back that only garbage has: a Board in a circle of references, by its `on_log` for instance."""
    if not port.startswith(_FOR_MANY) and is_open_here(port):
        gc.collect()


def await_dropped(port: str) -> None:
    """Wait a moment for a port that only what listens has: it does so each time that something comes."""
    until = time.monotonic() + _LISTENS_S
    while is_open_here(port) and time.monotonic() < until:
        time.sleep(_LISTENS_S / 100)


_endings: list[Callable[[], None]] = []


def at_end(ending: Callable[[], None]) -> None:
    """Have `ending` called by `end_all`."""
    _endings.append(ending)


def end_all() -> None:
    """End what is open; `microrpc` has it called when the program ends."""
    with contextlib.ExitStack() as stack:  # what goes wrong with one stops no other
        for ending in _endings:
            stack.callback(ending)


def _tell_all() -> None:
    for thing in registered():
        thing.on_fork()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_tell_all)
