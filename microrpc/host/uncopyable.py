"""What stands for something outside of this process: a copy of it would be a second owner of one thing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, SupportsIndex


def uncopyable(advice: str) -> Callable[[Any, SupportsIndex], NoReturn]:
    """Give the `__reduce_ex__` of a class whose objects refuse copy, deepcopy and pickle with a TypeError.

    All three ask it, before they make anything. `advice` says what to do instead.
    """

    def refuse(self: Any, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(f"{self!r} cannot be copied or pickled: {advice}")

    return refuse


CONNECT_THERE = "it is the one end of a port. Hand it on as it is; another process connects by itself"
"""The advice for what holds a port."""
LOOK_UP_THERE = "it is a thing of the board behind this connection. Another process connects and looks it up by itself"
"""The advice for what a board gave out."""
