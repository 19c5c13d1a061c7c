"""The same as `microrpc`, for asyncio: what asks the board something is awaited, and no board has a thread.

    async with microrpc.aio.connect("/dev/ttyACM0") as board:
        add = await board.function("add")
        assert await add(2, 3) == 5

See docs/asyncio.md.
"""

from __future__ import annotations

from microrpc.aio.channel import AsyncChannel, InMemoryChannel
from microrpc.aio.client import AsyncBoard
from microrpc.aio.opening import Opening, connect, open_board
from microrpc.aio.remote import AsyncRemoteArray, AsyncRemoteFunction, AsyncRemoteModule, AsyncRemoteStream

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
