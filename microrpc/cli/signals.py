"""Commands that go on until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterator
from types import FrameType
from typing import Any

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class StoppedError(Exception):
    """A signal asked for the end."""


@contextlib.contextmanager
def until_signal() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP raise StoppedError, once, so that the clean-up is not interrupted too."""

    def stop(number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise StoppedError

    before = {each: signal.signal(each, stop) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


async def finish_at_signal(serving: Coroutine[Any, Any, None]) -> None:
    """Await `serving`; Ctrl-C, SIGTERM and SIGHUP end it, once, so that the clean-up is not interrupted too."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(serving)
    signals: list[int] = []

    def stop(number: int) -> None:
        if not signals:
            task.cancel()
        signals.append(number)

    for each in _SIGNALS:
        loop.add_signal_handler(each, stop, each)
    try:
        await task
    except asyncio.CancelledError:
        if not signals:
            raise
