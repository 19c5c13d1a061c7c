"""The blocking and the asyncio client behind one face, so that a test is written once and run with both.

The fixture `api` is the one, then the other. The asyncio client is driven from outside: whatever it gives to await is
awaited at once, on a private event loop.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any, Self

import pytest

import microrpc
from microrpc.client.aio.calls import AsyncCall
from microrpc.host.handles import AnyHandle
from microrpc.ports.channel import Channel
from microrpc.wire.session import Timeouts

_ASYNCIO_MODULES = ("microrpc.client.aio.", "microrpc.connecting.aio")


class BlockingApi:
    """microrpc itself."""

    def open_board(self, channel: Channel, timeouts: Timeouts, **options: Any) -> Any:
        return microrpc.open_board(channel, timeouts, **options)

    def connect(self, port: str, **options: Any) -> Any:
        return microrpc.connect(port, **options)

    def close(self) -> None:
        pass


class AsyncioApi:
    """microrpc.aio, looking as if it blocked."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def open_board(self, channel: Channel, timeouts: Timeouts, **options: Any) -> Any:
        return self.wait(microrpc.aio.open_board(microrpc.aio.InMemoryChannel(channel), timeouts, **options))

    def connect(self, port: str, **options: Any) -> Any:
        return self.wait(microrpc.aio.connect(port, **options))

    def wait(self, value: Any) -> Any:
        """Await what can be awaited, and let the result look as if it blocked too."""
        if inspect.isawaitable(value) and not isinstance(value, AsyncCall):

            async def result() -> Any:
                return await value

            value = self.loop.run_until_complete(result())
        is_ours = isinstance(value, AnyHandle) or type(value).__module__.startswith(
            ("microrpc.client.aio.", "microrpc.connecting.aio")
        )
        return Waiting(self, value) if is_ours or inspect.iscoroutinefunction(value) else value

    def close(self) -> None:
        self.loop.close()


class Waiting:
    """Something of microrpc.aio whose methods wait."""

    def __init__(self, api: AsyncioApi, target: Any) -> None:
        self.api = api
        self.target = target

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.target, name)
        return Waiting(self.api, value) if inspect.ismethod(value) else self.api.wait(value)

    def __call__(self, *args: Any, **options: Any) -> Any:
        plain = [arg.target if isinstance(arg, Waiting) else arg for arg in args]
        return self.api.wait(self.target(*plain, **options))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self.api.wait(self.target.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self) -> Self:
        self.api.wait(self.target.__aenter__())
        return self

    def __exit__(self, *how: object) -> None:
        self.api.wait(self.target.__aexit__(*how))

    def __repr__(self) -> str:
        return repr(self.target)


def by_name(board: Any, name: str) -> Any:
    """Give a function of `board.f`, which waits."""
    return Waiting(board.api, board.target.f[name]) if isinstance(board, Waiting) else board.f[name]


Api = BlockingApi | AsyncioApi


@pytest.fixture(params=[BlockingApi, AsyncioApi], ids=["blocking", "asyncio"])
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    made: Api = request.param()
    yield made
    made.close()
