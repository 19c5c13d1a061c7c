"""What an operation is: a generator that yields deadlines and is sent what arrived.

Everything in `microrpc.host` is sans I/O. An operation yields a deadline (a time of the caller's clock) whenever it
needs bytes, and is sent `(data, now)`: what arrived, b"" where the deadline passed. Before it waits, the caller sends
what the connection's `output` has.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
Arrival = tuple[bytes, float]
"""What arrived, and when: a time in seconds of the caller's clock."""
Operation = Generator[float, Arrival, T]
"""A generator that yields deadlines, is sent arrivals, and returns its result."""

AT_ONCE = -math.inf
"""A deadline: give what is there and do not wait."""
