"""A fork of the process that opened a board: it is refused, whatever it does, and the parent notices nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from apis import Api
from forks import LIMIT_S, Fork, in_fork, outcome

import microrpc
from firmware_sim.board.device import Device
from firmware_sim.running.loopback import LoopbackChannel
from firmware_sim.running.server import PtyServer, TcpServer
from firmware_sim.running.simulate import simulate
from microrpc import aio
from microrpc.ports.fd import FdChannel
from microrpc.ports.registry import register, registered
from microrpc.wire.session import Timeouts

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

LOOPBACK = microrpc.profile("loopback")


@pytest.fixture
def server() -> Iterator[PtyServer]:
    with PtyServer(simulate(LOOPBACK)) as served:
        yield served


def test_whatever_a_fork_does_is_refused_and_reaches_neither_port_nor_board(api: Api, server: PtyServer) -> None:
    board = api.connect(server.path)
    add, array, library = board.function("add"), board.array(np.arange(4)), board.system_library()
    timed, stream = board.time_evaluator("add"), board.create_stream()
    uses: list[Callable[[], Any]] = [
        lambda: add(1000, 1),
        lambda: board.function("add"),
        lambda: board.global_function("add"),
        lambda: board.array([1]),
        lambda: board.empty(1, "int8"),
        lambda: board.array_at(0, 1, "int8"),
        lambda: board.max_packet_bytes(),
        lambda: board.copy(array, array),
        lambda: board.collect(),
        lambda: array.numpy(),
        lambda: array.write(np.arange(4)),
        lambda: array.free(),
        lambda: add.free(),
        lambda: library.find("add"),
        lambda: timed(1, 2),
        lambda: stream.sync(),
    ]

    def use_all() -> str:
        said = {outcome(use) for use in uses}
        board.close()
        board.close()
        return "\n".join(said)

    frames = server.device.stats.frames_received
    said = in_fork(use_all)
    assert said.startswith(f"ClosedError: <{'Board' if api.__class__.__name__ == 'BlockingApi' else 'AsyncBoard'} ")
    assert f"belongs to process {os.getpid()}, and this is process " in said
    assert "connect again in this process" in said
    assert "\n" not in said, "all of them say the same"
    assert server.device.stats.frames_received == frames
    assert add(1, 2) == 3
    assert np.array_equal(array.numpy(), np.arange(4))
    board.close()


def test_a_fork_that_lives_does_not_keep_the_port(api: Api, server: PtyServer) -> None:
    board = api.connect(server.path)
    fork = Fork(gc.collect)
    try:
        with pytest.raises(microrpc.PortBusyError):
            microrpc.connect(server.path)
        board.close()
        microrpc.connect(server.path).close()
    finally:
        fork.end()


def test_a_fork_may_connect_when_the_parent_has_closed(api: Api, server: PtyServer) -> None:
    board = api.connect(server.path)
    board.close()

    def use() -> object:
        with microrpc.connect(server.path) as own:
            return own.function("add")(2, 3)

    assert in_fork(use) == "5"


def test_a_fork_drops_its_copies_without_a_word_over_a_connection(api: Api) -> None:
    with TcpServer(simulate(LOOPBACK)) as served:
        board = api.connect(served.path)
        add = board.function("add")
        closes: list[str] = []

        def drop() -> object:
            nonlocal board, add
            board.close()
            del board, add
            gc.collect()
            return closes

        assert in_fork(drop) == "[]"
        assert add(1, 2) == 3
        board.close()


def test_what_is_called_when_a_board_is_closed_is_the_parents(api: Api) -> None:
    device = Device()
    closed: list[int] = []
    channel = LoopbackChannel(device)
    board = api.open_board(channel, Timeouts(), on_close=lambda: closed.append(os.getpid()))

    def close() -> object:
        nonlocal board
        board.close()
        del board
        gc.collect()
        return closed, channel.read(0.0)

    assert in_fork(close) == "([], b'')", "nor is a channel closed that knows nothing of forks"
    board.close()
    assert closed == [os.getpid()]


def test_what_another_thread_was_in_the_middle_of_does_not_stop_a_fork(server: PtyServer) -> None:
    with microrpc.connect(server.path) as board:
        sleep_ms = board.function("sleep_ms")
        is_held, is_done = threading.Event(), threading.Event()

        def hold() -> None:
            with board.pump._turns.guard:
                is_held.set()
                is_done.wait(LIMIT_S)

        calling = threading.Thread(target=sleep_ms, args=(100,))
        calling.start()
        while not board.pump._turns.owner:
            time.sleep(0)
        holding = threading.Thread(target=hold)
        holding.start()
        assert is_held.wait(LIMIT_S)
        said = in_fork(lambda: (outcome(lambda: sleep_ms(1)), board.close()))
        is_done.set()
        assert "ClosedError: <Board" in said
        for thread in (calling, holding):
            thread.join(LIMIT_S)


def test_a_fork_in_the_middle_of_a_request_ends_it_there_and_not_here() -> None:
    board = microrpc.open_board(LoopbackChannel(Device()), Timeouts())
    array = board.empty(9000, "uint8")
    parent, forks = os.getpid(), []
    reader, writer = os.pipe()

    def fork(done_bytes: int, total_bytes: int) -> None:
        if not forks:
            forks.append(os.fork())  # which goes on with the request
            if forks[0]:
                os.waitpid(forks[0], 0)

    result = outcome(lambda: array.write(np.ones(9000, "uint8"), on_progress=fork))
    if os.getpid() != parent:
        os.write(writer, result.encode())
        os._exit(0)
    assert result == "None"
    assert os.read(reader, 1000).decode().startswith(f"ClosedError: <Board loopback> belongs to process {parent}")
    assert (array.numpy() == 1).all()
    for fd in (reader, writer):
        os.close(fd)


def test_a_fork_within_an_event_loop_which_it_has_no_part_in_is_refused_too() -> None:
    async def test() -> None:
        board = await aio.open_board(aio.InMemoryChannel(LoopbackChannel(Device())), Timeouts())
        said = in_fork(lambda: board.function("add").send(None))
        assert said.startswith(f"ClosedError: <AsyncBoard loopback> belongs to process {os.getpid()}")
        await board.close()

    asyncio.run(test())


def test_what_is_registered_meanwhile_by_another_thread_disturbs_nobody() -> None:
    class Thing:
        def on_fork(self) -> None:
            raise NotImplementedError

    things = [Thing() for _ in range(3)]
    for thing in things:
        register(thing)

    def come_between(*_: object) -> None:
        things.append(Thing())
        register(things[-1])

    sys.setprofile(come_between)  # at every step at which another thread may be the next
    try:
        found = registered()
    finally:
        sys.setprofile(None)
    assert set(things[:3]) <= set(found)
    assert len(things) > 3


def test_a_fork_that_ends_as_programs_do_says_nothing_and_its_parent_goes_on(server: PtyServer) -> None:
    program = """
import os, sys, microrpc
board = microrpc.connect(sys.argv[1])
add = board.function("add")
if not os.fork():
    sys.exit(0)
os.wait()
print(add(1, 2))
"""
    frames = server.device.stats.frames_received
    ran = subprocess.run([sys.executable, "-c", program, server.path], capture_output=True, text=True, timeout=30)
    assert (ran.stdout, ran.stderr) == ("3\n", "")
    assert server.device.stats.frames_received - frames < 20
    assert not server.device.memory.blocks


def test_only_the_descriptor_is_closed_and_what_ends_a_connection_is_not_called() -> None:
    done: list[str] = []
    reader, writer = os.pipe()
    channel = FdChannel("a pipe", reader, lambda: done.append("close"), end=lambda: done.append("end"))
    channel.on_fork()
    channel.on_fork()
    channel.close()
    assert done == ["close"]
    other = FdChannel("a pipe", reader, lambda: done.append("close"), end=lambda: done.append("end"))
    other.close()
    assert done == ["close", "end", "close"]
    os.close(reader)
    os.close(writer)
