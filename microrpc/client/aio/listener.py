"""The task that listens to one board while nobody asks it anything."""

from __future__ import annotations

import asyncio
import weakref
from typing import Protocol

from microrpc.client.listening import Wait
from microrpc.ports.aio import WaitingAsyncChannel


class ListeningPump(Protocol):
    """What the task needs of an `AsyncPump`."""

    async def listen_once(self) -> Wait[WaitingAsyncChannel] | None:
        """Listen, if the board is free; give what to wait for next, None at the end."""


class AsyncListener:
    """Listens for a pump, which it does not keep alive, until it is told to end or the pump has no use for it."""

    def __init__(self, pump: ListeningPump, loop: asyncio.AbstractEventLoop) -> None:
        self._pump = weakref.ref(pump)
        self._loop = loop
        self._bell: asyncio.Future[None] = loop.create_future()
        self._is_ended = False
        self._task = loop.create_task(self._listen())

    @property
    def is_listening(self) -> bool:
        """Whether it has not ended."""
        return not (self._is_ended or self._task.done())

    def wake(self) -> None:
        """Have it look at once whether there is something to be done."""
        if not self._bell.done():
            self._bell.set_result(None)

    def end(self) -> None:
        """End it, when the loop comes to that."""
        self._is_ended = True
        if not self._loop.is_closed():
            self.wake()

    async def wait_ended(self) -> None:
        """Wait until it has ended, which it does soon."""
        if self._task is not asyncio.current_task():
            await asyncio.wait([self._task])

    async def _listen(self) -> None:
        try:
            while not self._is_ended:
                self._bell = self._loop.create_future()  # before it is looked at what is wanted
                pump = self._pump()
                wait = await pump.listen_once() if pump is not None else None
                pump = None  # which may be the end of it
                if wait is None or self._is_ended:
                    return
                if wait.channel is not None:
                    await wait.channel.wait_readable(wait.channel.now() + wait.wait_s, self._bell)
                else:
                    timer = self._loop.call_later(wait.wait_s, self.wake)
                    try:
                        await self._bell
                    finally:
                        timer.cancel()
        finally:
            self._is_ended = True
