"""The same as `microrpc`, for asyncio: what asks the board something is awaited, and no board has a thread.

    async with microrpc.aio.connect("/dev/ttyACM0") as board:
        add = await board.function("add")
        assert await add(2, 3) == 5

See docs/asyncio.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from microrpc._lazy import lazy

if TYPE_CHECKING:
    from microrpc.client.aio.board import AsyncBoard
    from microrpc.client.aio.remote import AsyncRemoteArray, AsyncRemoteFunction, AsyncRemoteModule, AsyncRemoteStream
    from microrpc.connecting.aio import Opening, connect, open_board
    from microrpc.ports.aio import AsyncChannel, InMemoryChannel

__all__ = [
    "AsyncBoard",
    "AsyncChannel",
    "AsyncRemoteArray",
    "AsyncRemoteFunction",
    "AsyncRemoteModule",
    "AsyncRemoteStream",
    "InMemoryChannel",
    "Opening",
    "connect",
    "open_board",
]

_PLACES = {
    "AsyncBoard": "microrpc.client.aio.board",
    "AsyncRemoteArray": "microrpc.client.aio.remote",
    "AsyncRemoteFunction": "microrpc.client.aio.remote",
    "AsyncRemoteModule": "microrpc.client.aio.remote",
    "AsyncRemoteStream": "microrpc.client.aio.remote",
    "Opening": "microrpc.connecting.aio",
    "connect": "microrpc.connecting.aio",
    "open_board": "microrpc.connecting.aio",
    "AsyncChannel": "microrpc.ports.aio",
    "InMemoryChannel": "microrpc.ports.aio",
}

__getattr__, __dir__ = lazy(__name__, _PLACES)
