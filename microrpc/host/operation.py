"""What an operation is: a generator that yields deadlines and is sent what arrived.

Everything in `microrpc.host` is sans I/O. An operation yields a deadline (a time of the caller's clock) whenever it
needs bytes, and is sent `(data, now)`: what arrived, b"" where the deadline passed. Before it waits, the caller sends
what the connection's `output` has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
Arrival = tuple[bytes, float]
"""What arrived, and when: a time in seconds of the caller's clock."""
Operation = Generator[float, Arrival, T]
"""A generator that yields deadlines, is sent arrivals, and returns its result."""

AT_ONCE = -math.inf
"""A deadline: give what is there and do not wait."""


def after(first: Operation[object], make: Callable[P, Operation[T]], *args: P.args, **kwargs: P.kwargs) -> Operation[T]:
    """Give an operation that is made when `first` is done; its result is that of the second."""
    yield from first
    return (yield from make(*args, **kwargs))
