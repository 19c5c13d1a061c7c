"""Our registration at TVM's own tracker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import needs
import pytest
from stock_tvm import Tracker, free_of, kill, servers_of, stock_tracker, summary_of

from microrpc.gateway.tvm.registration import GONE_S, Registration

pytestmark = pytest.mark.tvm


@pytest.fixture
def port() -> Iterator[int]:
    needs.tvm()
    with stock_tracker() as (port, _):
        yield port


@contextlib.asynccontextmanager
async def registered(port: int, key: str, *, address: str | None = None) -> AsyncIterator[Registration]:
    one = Registration(("127.0.0.1", port), key=key, port=4321, address=address, on_note=print)
    task = asyncio.create_task(one.run())
    try:
        await until(lambda: one.is_registered and free_of(port, key))
        yield one
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(is_so: Callable[[], object]) -> None:
    while not await asyncio.to_thread(is_so):
        await asyncio.sleep(0.02)


def run(test: Callable[[], Coroutine[Any, Any, None]], timeout_s: float = 60.0) -> None:
    asyncio.run(asyncio.wait_for(test(), timeout_s))


def request(port: int, key: str) -> Any:
    with Tracker(port) as tracker:
        return tracker.ask([4, key, "", 1])


def test_a_board_is_listed_requested_offered_again_and_withdrawn(port: int) -> None:
    async def test() -> None:
        async with registered(port, "board") as one:
            summary = summary_of(port)
            assert summary["server_info"] == [{"key": "server:board", "addr": ["127.0.0.1", 4321]}]
            assert summary["queue_info"] == {"board": {"free": 1, "pending": 0}}
            first = one.matchkey
            assert request(port, "board") == [0, ["127.0.0.1", 4321, first]]
            one.taken()
            assert (free_of(port, "board"), one.matchkey) == (0, "")
            one.released()
            await until(lambda: free_of(port, "board"))
            assert request(port, "board") == [0, ["127.0.0.1", 4321, one.matchkey]]
            assert one.matchkey != first
        await until(lambda: servers_of(port) == [])
        assert free_of(port, "board") == 0

    run(test)


def test_clients_are_sent_to_the_address_that_was_given(port: int) -> None:
    async def test() -> None:
        async with registered(port, "far", address="192.0.2.7"):
            assert request(port, "far")[1][0] == "192.0.2.7"

    run(test)


def test_a_board_that_nobody_comes_for_is_offered_anew(port: int) -> None:
    async def test() -> None:
        async with registered(port, "board") as one:
            first = request(port, "board")[1][2]
            assert first == one.matchkey
            begun = asyncio.get_running_loop().time()
            await until(lambda: free_of(port, "board"))
            assert asyncio.get_running_loop().time() - begun > GONE_S
            assert request(port, "board")[1][2] == one.matchkey != first

    run(test)


def test_boards_of_one_key_are_handed_out_one_by_one(port: int) -> None:
    async def test() -> None:
        async with registered(port, "same") as one, registered(port, "same") as other:
            await until(lambda: free_of(port, "same") == 2)
            assert servers_of(port) == ["same", "same"]
            assert {request(port, "same")[1][2] for _ in range(2)} == {one.matchkey, other.matchkey}

    run(test)


def test_a_tracker_that_is_killed_and_started_again_lists_the_board_again() -> None:
    needs.tvm()

    async def test() -> None:
        with contextlib.ExitStack() as stack:
            port, process = stack.enter_context(stock_tracker())
            async with registered(port, "board") as one:
                first = one.matchkey
                await asyncio.to_thread(kill, process)
                await until(lambda: not one.is_registered)
                await asyncio.to_thread(stack.enter_context, stock_tracker(port))
                await until(lambda: servers_of(port) == ["board"] and free_of(port, "board") == 1)
                assert request(port, "board")[1][2] == one.matchkey != first

    run(test)
