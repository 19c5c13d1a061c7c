"""Commands that end at Ctrl-C, SIGTERM and SIGHUP, and clean up."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any


def _signals() -> list[signal.Signals]:
    """Give those that ask for the end; a SIGHUP that is ignored, as under `nohup`, stays so."""
    found = [signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    return [each for each in found if each.name != "SIGHUP" or signal.getsignal(each) != signal.SIG_IGN]


class StoppedError(BaseException):
    """A signal asked for the end: `number`. No handler of errors is to take it for one."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def until_signal(ask: Callable[[], None] | None = None) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP raise StoppedError, once, so that the clean-up is not interrupted too.

    ask: called at the first of them instead; it has what is within end by itself. Only a second one raises.
    """
    asked = ask is None

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if ask is not None and not asked:
            asked = True
            ask()
            return
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise StoppedError(number)

    before: dict[signal.Signals, Any] = {each: signal.getsignal(each) for each in _signals()}
    for each in before:
        signal.signal(each, stop)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt within, where it is not ignored."""
    before = signal.getsignal(signal.SIGINT)
    try:
        if before != signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
    finally:
        signal.signal(signal.SIGINT, before)


async def finish_at_signal(serving: Coroutine[Any, Any, None]) -> None:
    """Await `serving`; Ctrl-C, SIGTERM and SIGHUP end it, once, so that the clean-up is not interrupted too."""
    import asyncio

    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(serving)
    signals: list[int] = []

    def stop(number: int) -> None:
        if not signals:
            task.cancel()
        signals.append(number)

    for each in _signals():
        loop.add_signal_handler(each, stop, each)
    try:
        await task
    except asyncio.CancelledError:
        if not signals:
            raise
