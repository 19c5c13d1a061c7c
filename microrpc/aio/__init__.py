"""The same as `microrpc`, for asyncio: what asks the board something is awaited, and no board has a thread.

    async with microrpc.aio.connect("/dev/ttyACM0") as board:
        add = await board.function("add")
        assert await add(2, 3) == 5

See docs/asyncio.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from microrpc._names import lazy

if TYPE_CHECKING:
    from microrpc.client.aio.board import AsyncBoard as AsyncBoard
    from microrpc.client.aio.calls import AsyncCall as AsyncCall
    from microrpc.client.aio.events import AsyncEvents as AsyncEvents
    from microrpc.client.aio.model import AsyncModel as AsyncModel
    from microrpc.client.aio.remote import AsyncRemoteArray as AsyncRemoteArray
    from microrpc.client.aio.remote import AsyncRemoteFunction as AsyncRemoteFunction
    from microrpc.client.aio.remote import AsyncRemoteModule as AsyncRemoteModule
    from microrpc.client.aio.remote import AsyncRemoteStream as AsyncRemoteStream
    from microrpc.connecting.aio import Opening as Opening
    from microrpc.connecting.aio import connect as connect
    from microrpc.connecting.aio import open_board as open_board
    from microrpc.ports.aio import AsyncChannel as AsyncChannel
    from microrpc.ports.aio import InMemoryChannel as InMemoryChannel
else:
    __all__, __getattr__, __dir__ = lazy(
        __name__,
        {
            "microrpc.client.aio.board": "AsyncBoard",
            "microrpc.client.aio.calls": "AsyncCall",
            "microrpc.client.aio.events": "AsyncEvents",
            "microrpc.client.aio.model": "AsyncModel",
            "microrpc.client.aio.remote": "AsyncRemoteArray AsyncRemoteFunction AsyncRemoteModule AsyncRemoteStream",
            "microrpc.connecting.aio": "Opening connect open_board",
            "microrpc.ports.aio": "AsyncChannel InMemoryChannel",
        },
    )
