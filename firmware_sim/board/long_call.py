"""Long functions: those that tell how far they have come, and notice that their host has cancelled (docs/link.md 9).

A Python generator function is one. Each of its `yield done, total` tells the host how far it is, a bare `yield` tells
nothing; where the host has cancelled, either raises `Cancelled`. What it returns is the result.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from types import GeneratorType
from typing import Any, TypeAlias

import numpy as np

from microrpc.serve.endpoint import ENDINGS
from microrpc.serve.local import FunctionError, LocalSession
from microrpc.wire.packets import RemoteException, Reply

Progress: TypeAlias = tuple[int, int]
"""How much is done, and of how much: two numbers of 32 bits."""
Steps: TypeAlias = Generator[Progress | None, None, Any]
"""A long function that runs."""

_MOST = (1 << 32) - 1


class Cancelled(FunctionError):  # noqa: N818  it is no error of the function's
    """Raised by the `yield` of a long function that the host has cancelled."""

    def __init__(self) -> None:
        super().__init__("cancelled")


class LongCall:
    """A call of a long function, which stands at one of its yields, or before its beginning.

    `progress` is what it told there, None for nothing.
    """

    def __init__(self, session: LocalSession, steps: Steps) -> None:
        self.progress: Progress | None = None
        self._session = session
        self._steps = steps
        self._is_running = False
        self._is_abandoned = False

    def go_on(self, *, is_cancelled: bool = False) -> Reply | None:
        """Let it run to its next yield; give the reply where it has ended instead."""
        self._is_running = True
        try:
            reply = self._session.answer(lambda: self._step(is_cancelled))
        finally:  # Ctrl-C goes on to the program
            self._is_running = False
        if self._is_abandoned:
            reply = RemoteException("the board was reset")  # nobody is left to hear it
        if reply is not None:
            self._close()
        return reply

    def abandon(self) -> None:
        """End it wherever it stands, as its processor has lost it."""
        self._is_abandoned = True
        if not self._is_running:
            self._close()

    def _step(self, is_cancelled: bool) -> Reply | None:
        try:
            with np.errstate(all="ignore"):
                told = self._steps.throw(Cancelled()) if is_cancelled else next(self._steps)
        except StopIteration as end:
            return self._session.conclude(end.value)
        self.progress = None if told is None else _check_progress(told)
        return None

    def _close(self) -> None:
        with contextlib.suppress(Exception, *ENDINGS):  # whatever its `finally` does, it has ended
            self._steps.close()


def is_long(result: object) -> bool:
    """Whether what a function gave is a long one that is to run."""
    return isinstance(result, GeneratorType)


def run_within(result: Any) -> Generator[None, None, Any]:
    """Run what a function gave as a part of another long one, and give its result: its progress is not told."""
    if not is_long(result):
        return result
    steps: Steps = result
    try:
        next(steps)
        while True:
            try:
                yield
            except Cancelled as cancelled:
                steps.throw(cancelled)
            else:
                next(steps)
    except StopIteration as end:
        return end.value
    finally:
        steps.close()


def _check_progress(told: object) -> Progress:
    if not isinstance(told, tuple) or len(told) != 2 or not all(isinstance(number, int) for number in told):
        raise FunctionError(f"a long function yields done and total, two whole numbers, or nothing; not {told!r:.60}")
    done, total = (min(max(number, 0), _MOST) for number in told)
    return done, total
