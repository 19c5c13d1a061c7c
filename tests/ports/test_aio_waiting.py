"""Ports that a task waits for beside the one that reads: it takes nothing, and a bell ends it."""

from __future__ import annotations

import asyncio
import os
import socket
import tty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import microrpc
from firmware_sim.running.memory import MemoryChannel
from firmware_sim.running.ports import SimulatedBoard
from firmware_sim.running.simulate import simulate
from microrpc.errors import PortLostError
from microrpc.ports.aio import AsyncFdChannel, PolledChannel, WaitingAsyncChannel, adopt, waiting
from microrpc.ports.bell import Bell
from microrpc.ports.channel import monotonic
from microrpc.ports.opening import open_serial
from microrpc.ports.sockets import socket_channel

LIMIT_S = 20.0


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[WaitingAsyncChannel, int]]:
    """A pty as a channel of asyncio, and the descriptor of its peer."""
    master, slave = os.openpty()
    tty.setraw(slave)
    name = os.ttyname(slave)
    channel = adopt(open_serial(name, baud=115200))
    os.close(slave)
    found = waiting(channel)
    assert found is not None
    try:
        yield found, master
    finally:
        channel.close()
        os.close(master)


async def wait(channel: WaitingAsyncChannel, timeout_s: float) -> float:
    """Wait for so long at most; give how long it was."""
    began_at = channel.now()
    await channel.wait_readable(began_at + timeout_s, asyncio.get_running_loop().create_future())
    return channel.now() - began_at


def test_a_read_in_a_hurry_takes_what_comes_but_nothing_before_what_is_kept() -> None:
    async def test() -> None:
        async with opened() as (channel, peer):
            assert isinstance(channel, AsyncFdChannel)
            os.write(peer, b"1")
            assert channel.read_soon(LIMIT_S + channel.now()) == b"1"
            os.write(peer, b"2")
            await wait(channel, LIMIT_S)  # the loop has taken it
            os.write(peer, b"3")
            assert channel.read_soon(LIMIT_S + channel.now()) == b""
            data = await channel.read(channel.now() + LIMIT_S)
            while len(data) < 2:
                data += await channel.read(channel.now() + LIMIT_S)
            assert data == b"23"

    asyncio.run(test())


def test_a_read_in_a_hurry_says_no_more_once_the_port_is_gone() -> None:
    async def test() -> None:
        ours, theirs = socket.socketpair()
        channel = adopt(socket_channel("pair", ours))
        assert isinstance(channel, AsyncFdChannel)
        theirs.close()
        await wait(channel, LIMIT_S)  # the loop has seen it
        assert channel.read_soon(LIMIT_S + channel.now()) == b""
        with pytest.raises(PortLostError):
            await channel.read(channel.now() + LIMIT_S)
        channel.close()

    asyncio.run(test())


def test_a_task_waits_for_a_port_and_takes_nothing_of_what_comes() -> None:
    async def test() -> None:
        async with opened() as (channel, peer):
            assert await wait(channel, 0.02) >= 0.02
            os.write(peer, b"here")
            assert await wait(channel, LIMIT_S) < LIMIT_S / 2
            assert await wait(channel, LIMIT_S) < LIMIT_S / 2
            assert await channel.read(channel.now() + LIMIT_S) == b"here"

    asyncio.run(test())


def test_a_bell_and_the_end_of_the_port_end_the_waiting() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with opened() as (channel, _):
            bell = loop.create_future()
            loop.call_soon(bell.set_result, None)
            await asyncio.wait_for(channel.wait_readable(channel.now() + LIMIT_S, bell), LIMIT_S / 2)
            loop.call_soon(channel.close)
            assert await wait(channel, LIMIT_S) < LIMIT_S / 2
            assert await wait(channel, LIMIT_S) < LIMIT_S / 2

    asyncio.run(test())


def test_a_reader_and_who_waits_are_both_told_of_what_comes() -> None:
    async def test() -> None:
        async with opened() as (channel, peer):
            reading = asyncio.ensure_future(channel.read(channel.now() + LIMIT_S))
            waiting_too = asyncio.ensure_future(wait(channel, LIMIT_S))
            await asyncio.sleep(0)
            os.write(peer, b"here")
            assert await reading == b"here"
            assert await waiting_too < LIMIT_S / 2

    asyncio.run(test())


@pytest.fixture
def board() -> SimulatedBoard:
    return simulate(microrpc.profile("loopback"))


def test_a_board_in_memory_can_be_waited_for_by_a_thread(board: SimulatedBoard) -> None:
    channel, bell = MemoryChannel(board, name="sim://"), Bell()
    assert channel.read(monotonic() + LIMIT_S), "it says that it booted"
    assert not channel.wait_readable(0.02, bell)
    channel.write(b"\xff\xfd\x05\x00\x00\x00\x01\x00\x00\x01\x00", monotonic() + LIMIT_S)
    bell.ring()
    assert not channel.wait_readable(LIMIT_S, bell)
    channel.close()
    assert channel.wait_readable(LIMIT_S, bell)
    bell.close()


def test_a_board_in_memory_can_be_waited_for_by_a_task_which_loses_nothing(board: SimulatedBoard) -> None:
    async def test() -> None:
        channel = PolledChannel(MemoryChannel(board, name="sim://"))
        assert await wait(channel, LIMIT_S) < LIMIT_S / 2
        assert await channel.read(channel.now() + LIMIT_S), "it says that it booted"
        assert await wait(channel, 0.02) >= 0.02
        bell = asyncio.get_running_loop().create_future()
        bell.set_result(None)
        await channel.wait_readable(channel.now() + LIMIT_S, bell)
        channel.close()
        assert await wait(channel, LIMIT_S) < LIMIT_S / 2

    asyncio.run(test())
