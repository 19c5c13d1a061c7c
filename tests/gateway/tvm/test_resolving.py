"""Looking a host up: what a name server that hangs holds up is nothing but the look-up."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

import pytest

from microrpc.gateway.tvm.registration import Registration
from microrpc.gateway.tvm.resolving import Resolver

LIMIT_S = 20.0
ENTRIES: list[Any] = [
    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
]


def test_the_addresses_of_a_host_are_each_given_once_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: ENTRIES)
    assert asyncio.run(Resolver("tracker").resolve()) == ["::1", "127.0.0.1"]


@pytest.mark.parametrize("error", [socket.gaierror(-2, "unknown"), UnicodeError("no name")])
def test_what_is_wrong_with_a_name_is_raised_and_it_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    asked: list[object] = []

    def answer(*args: object, **options: object) -> Any:
        asked.append(args)
        if len(asked) == 1:
            raise error
        return ENTRIES

    monkeypatch.setattr(socket, "getaddrinfo", answer)

    async def main() -> None:
        resolver = Resolver("tracker")
        with pytest.raises(type(error)):
            await resolver.resolve()
        assert await resolver.resolve() == ["::1", "127.0.0.1"]

    asyncio.run(main())


def test_a_name_server_that_hangs_is_asked_once_at_a_time_and_holds_up_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    released, asked = threading.Event(), threading.Semaphore(0)

    def hang(*args: object, **options: object) -> Any:
        asked.release()
        released.wait(LIMIT_S)
        return ENTRIES

    monkeypatch.setattr(socket, "getaddrinfo", hang)

    async def main() -> None:
        resolver = Resolver("tracker")
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(resolver.resolve(), 0.02)
        assert asked.acquire(timeout=LIMIT_S)
        assert not asked.acquire(blocking=False)

    began_at = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began_at < LIMIT_S / 2
    released.set()


def test_a_registration_ends_at_once_while_the_name_of_its_tracker_is_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released, asked = threading.Event(), threading.Event()

    def hang(*args: object, **options: object) -> Any:
        asked.set()
        released.wait(LIMIT_S)
        return ENTRIES

    monkeypatch.setattr(socket, "getaddrinfo", hang)

    async def main() -> None:
        one = Registration(("tracker", 9190), key="board", port=9090, address=None, on_note=print)
        task = asyncio.create_task(one.run())
        while not asked.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    began_at = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began_at < LIMIT_S / 2
    released.set()
