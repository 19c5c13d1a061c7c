"""What an operation is: a generator that yields deadlines and is sent what arrived.

Everything in `microrpc.host` is sans I/O. An operation yields a deadline (a time of the caller's clock) whenever it
needs bytes, and is sent `(data, now)`: what arrived, b"" where the deadline passed. Before it waits, the caller sends
what `take_output` of the connection gives.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
Arrival = tuple[bytes, float]
Operation = Generator[float, Arrival, T]

AT_ONCE = -math.inf
"""A deadline: give what is there and do not wait."""

_FLUSH_S = 1.0  # how long the port may take for what is sent without waiting for an answer


def write_by(deadline: float, now: float) -> float:
    """Until when a port may take what is sent before a wait until `deadline`."""
    return deadline if deadline != AT_ONCE else now + _FLUSH_S
