"""What one client of a shared board says takes turns with the others (docs/sharing.md)."""

from __future__ import annotations

import asyncio
import struct
from types import SimpleNamespace
from typing import Any

import pytest

from microrpc.errors import PortLostError
from microrpc.gateway.client import SharedClient
from microrpc.wire.asides import Want

WANT_BYTES = 13


def want(flags: int) -> bytes:
    return struct.pack("<QiB", 5, 0x4D520001, flags)


class Hub:
    """Notes what is wanted."""

    def __init__(self) -> None:
        self.wants: list[Want] = []

    def want(self, outbox: object, wants: Want) -> None:
        self.wants.append(wants)

    def leave(self, outbox: object) -> None:
        pass


class Channel:
    """A client that has said all of it at once, and then goes."""

    name = "client"

    def __init__(self, said: bytes) -> None:
        self._said = [said]

    async def read(self, deadline: float) -> bytes:
        if not self._said:
            raise PortLostError(self.name, "it went")
        return self._said.pop()

    def close(self) -> None:
        pass


def serve(said: bytes) -> tuple[Hub, int]:
    """Serve a client; give what was noted of it, and how many turns another task had meanwhile."""
    hub, turns = Hub(), 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> None:
        board = SimpleNamespace(
            epoch=0, operations=SimpleNamespace(disposal=SimpleNamespace(set_apart=lambda let_go: let_go()))
        )
        shared: Any = SimpleNamespace(board=board, limit_bytes=2048)
        other = asyncio.create_task(others())
        client = SharedClient(shared, hub, Channel(said), take_s=1.0, on_served=lambda: None)  # type: ignore[arg-type]
        await asyncio.wait_for(client.serve(), 20.0)
        other.cancel()

    asyncio.run(main())
    return hub, turns


def test_a_client_that_says_a_thousand_things_at_once_leaves_the_others_their_turns() -> None:
    count = 65536 // WANT_BYTES
    hub, turns = serve(b"".join(want(number % 2) for number in range(count - 1)) + want(3))
    assert len(hub.wants) == 16
    assert hub.wants[-1] == Want.EVENTS | Want.PROGRESS
    assert turns >= 16


@pytest.mark.parametrize("count", [1, 300])
def test_of_what_was_wanted_in_one_piece_the_last_counts(count: int) -> None:
    hub, _ = serve(want(1) * count + want(2))
    assert hub.wants == [Want.PROGRESS]
