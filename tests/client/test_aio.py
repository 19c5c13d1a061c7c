"""What is asyncio's own: cancellation at every await, taking turns, one loop for many boards, and the awaited port.

That it does the same as the blocking client is shown in tests/test_client.py, test_aio_recovery.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import subprocess
import sys
import threading
import tty
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from holding import hold

import microrpc
from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from firmware_sim.running.loopback import LoopbackChannel
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc import aio
from microrpc.connecting.aio import _open_in_thread
from microrpc.errors import (
    CallTimeoutError,
    ClosedError,
    PortError,
    PortLostError,
    PortNotFoundError,
    RemoteError,
    RequestError,
)
from microrpc.host.operation import AT_ONCE
from microrpc.ports.aio import AsyncFdChannel
from microrpc.ports.channel import SerialChannel
from microrpc.ports.fd import FdChannel
from microrpc.ports.opening import open_serial
from microrpc.serve.endpoint import ServerEndpoint
from microrpc.serve.local import LocalSession
from microrpc.wire.session import Timeouts

FIRMWARES = ("robust", "stock")
TIMEOUTS = Timeouts(retry_s=0.5, start_s=5.0, call_s=2.0)
LIMIT_S = 20.0  # of what must end at once: a failed test ends too


def run(test: Awaitable[None]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(test, LIMIT_S)

    asyncio.run(limited())


def openings() -> list[threading.Thread]:
    """The threads that open something for asyncio at this moment."""
    return [thread for thread in threading.enumerate() if thread.name == "microrpc opening"]


def wait_for_openings() -> None:
    """What a task that was cancelled no longer waited for ends by itself."""
    for thread in openings():
        thread.join(LIMIT_S)
        assert not thread.is_alive()


def make_device(firmware: str = "robust", **options: Any) -> Device:
    device = Device(firmware=firmware, seed=7, **options)  # type: ignore[arg-type]
    install(device)
    return device


class Stepped(aio.InMemoryChannel):
    """A board in memory, which cancels the task that it serves at the await whose number is `cancel_at`."""

    def __init__(self, device: Device) -> None:
        super().__init__(LoopbackChannel(device))
        self.steps = 0
        self.cancel_at = -1
        self.closed = 0

    def _step(self) -> None:
        if self.steps == self.cancel_at:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        self.steps += 1

    async def read(self, deadline: float) -> bytes:
        self._step()
        return await super().read(deadline)

    async def write(self, data: bytes, deadline: float) -> None:
        self._step()
        await super().write(data, deadline)

    def close(self) -> None:
        self.closed += 1
        super().close()


async def is_cancelled(channel: Stepped, step: int, coroutine: Any) -> bool:
    """Run to the end, or cancel at the await `step` from now; tell whether there was such an await."""
    channel.cancel_at = channel.steps + step
    try:
        await asyncio.create_task(coroutine)
    except asyncio.CancelledError:
        return True
    finally:
        channel.cancel_at = -1
    return False


# --- cancellation at every await --------------------------------------------------------------


async def conversation(board: aio.AsyncBoard) -> None:
    """Look up, call, allocate, copy, free."""
    data = np.arange(2500, dtype=np.uint8)
    add = await board.function("add")
    assert await add(20, 22) == 42
    async with await board.array(data) as array:
        assert np.array_equal(await array.numpy(), data)
    assert await (await board.function("echo_str"))("in step") == "in step"


async def check(board: aio.AsyncBoard) -> None:
    assert await (await board.function("add"))(2, 3) == 5


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_a_conversation_cancelled_at_any_await_leaves_the_next_call_right(firmware: str) -> None:
    async def test() -> None:
        for step in itertools.count():
            device = make_device(firmware)
            channel = Stepped(device)
            board = await aio.open_board(channel, TIMEOUTS)
            was_cancelled = await is_cancelled(channel, step, conversation(board))
            await check(board)
            assert channel.now() < 2.0, f"step {step}: a board that answers is not waited for"
            await board.close()
            assert len(device.memory.blocks) <= was_cancelled, f"step {step}"  # an allocation whose answer nobody heard
            if not was_cancelled:
                assert step > 30
                return

    run(test())


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_a_recovery_cancelled_at_any_await_leaves_the_next_call_right(firmware: str) -> None:
    async def test() -> None:
        for step in itertools.count():
            channel = Stepped(make_device(firmware, features=None))  # which cannot be told that a call is cancelled
            board = await aio.open_board(channel, TIMEOUTS)
            add = await board.function("add")
            assert await is_cancelled(channel, 2, add(1, 1))  # the request is out, its answer is waited for
            was_cancelled = await is_cancelled(channel, step, add(30, 3))
            assert await add(2, 3) == 5
            if not was_cancelled:
                assert step > 5
                return

    run(test())


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_an_opening_cancelled_at_any_await_releases_the_port(firmware: str) -> None:
    async def test() -> None:
        for step in itertools.count():
            device = make_device(firmware)
            channel = Stepped(device)
            closed: list[bool] = []
            opening = aio.open_board(channel, TIMEOUTS, on_close=lambda closed=closed: closed.append(True))
            was_cancelled = await is_cancelled(channel, step, opening.__aenter__())
            assert bool(closed) == bool(channel.closed) == was_cancelled
            async with aio.open_board(Stepped(device), TIMEOUTS) as again:
                await check(again)
            if not was_cancelled:
                assert step > 2
                return

    run(test())


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_a_closing_cancelled_at_any_await_releases_the_port(firmware: str) -> None:
    async def test() -> None:
        for step in itertools.count():
            device = make_device(firmware)
            channel = Stepped(device)
            closed: list[bool] = []
            board = await aio.open_board(channel, TIMEOUTS, on_close=lambda closed=closed: closed.append(True))
            array = await board.array([1, 2, 3])
            was_cancelled = await is_cancelled(channel, step, board.close())
            assert channel.closed
            assert closed == [True]
            with pytest.raises(ClosedError, match="closed here"):
                await array.numpy()
            await board.close()
            assert closed == [True]
            async with aio.open_board(Stepped(device), TIMEOUTS) as again:
                await check(again)
            if not was_cancelled:
                assert step > 2
                return

    run(test())


def test_a_timeout_around_a_call_leaves_the_next_one_right() -> None:
    async def test() -> None:
        async with aio.connect("sim://") as board:
            sleep_ms, add = await board.function("sleep_ms"), await board.function("add")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await sleep_ms(300)
            assert await add(2, 3) == 5
            assert await sleep_ms(1) == 1

    run(test())


def test_the_calls_own_deadline_is_kept_by_the_loop() -> None:
    async def test() -> None:
        with PtyServer(simulate(microrpc.profile("loopback"))) as server:
            goes_on = hold(server)
            async with aio.connect(server.path) as board:
                held, add = await board.function("held"), await board.function("add")
                with pytest.raises(CallTimeoutError) as caught:
                    await held(timeout_s=0.5)
                assert caught.value.may_have_run
                goes_on.set()
                assert await add(1, 2) == 3

    run(test())


# --- turns ------------------------------------------------------------------------------------


class Hurried(aio.InMemoryChannel):
    """A channel that can be asked without a turn of the loop, for a byte in a tenth of a millisecond."""

    def __init__(self, device: Device) -> None:
        super().__init__(LoopbackChannel(device))
        self.awaited = self.hurried = 0  # reads that could wait for something
        self._sleep = device.clock.sleep
        self._kept = b""

    async def read(self, deadline: float) -> bytes:
        self.awaited += deadline > AT_ONCE
        data, self._kept = self._kept, b""
        return data or await super().read(deadline)

    def read_soon(self, deadline: float) -> bytes:
        self.hurried += 1
        self._kept = self._kept or self._channel.read(deadline)
        self._sleep(1e-4)
        data, self._kept = self._kept[:1], self._kept[1:]
        return data


def test_an_eager_board_is_asked_without_a_turn_of_the_loop_for_a_millisecond_at_a_time() -> None:
    async def test() -> None:
        channel = Hurried(make_device())
        async with aio.open_board(channel, TIMEOUTS) as board:
            add = await board.function("add")
            channel.awaited = 0
            assert await add(2, 3) == 5
            assert (channel.awaited, channel.hurried) == (1, 0)
            board.pump.is_eager = True
            assert await add(2, 3) == 5
            assert channel.awaited == 2  # then others had their turn, and it took what was left
            assert 9 <= channel.hurried <= 11

    run(test())


def test_tasks_take_turns_in_the_order_in_which_they_asked() -> None:
    async def test() -> None:
        device = make_device()
        ran: list[int] = []
        device.system_library["note"] = ran.append
        async with aio.open_board(Stepped(device), TIMEOUTS) as board:
            note = await board.function("note")
            await asyncio.gather(*[note(n) for n in range(20)])
        assert ran == list(range(20))

    run(test())


def test_a_task_cancelled_while_it_waits_for_its_turn_leaves_no_trace() -> None:
    async def test() -> None:
        device = make_device()
        ran: list[int] = []
        device.system_library["note"] = ran.append
        channel = Stepped(device)
        async with aio.open_board(channel, TIMEOUTS) as board:
            note = await board.function("note")
            tasks = [asyncio.create_task(note(n)) for n in range(5)]
            await asyncio.sleep(0)
            for n in (1, 3):
                tasks[n].cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            session = board.session_id
            await note(5)
            assert board.session_id == session, "nothing was in doubt"
        assert ran == [0, 2, 4, 5]
        assert [type(result) for result in results[1::2]] == [asyncio.CancelledError] * 2

    run(test())


def test_a_composite_operation_is_not_interrupted_by_another_task() -> None:
    async def test() -> None:
        device = make_device()
        data = [np.full(5000, n, dtype=np.uint8) for n in range(4)]
        async with aio.open_board(Stepped(device), TIMEOUTS) as board:
            told: list[int] = []

            async def there_and_back(n: int) -> None:
                array = await board.array(data[n], on_progress=lambda done, total: told.append(n))
                assert np.array_equal(await array.numpy(), data[n])

            await asyncio.gather(*[there_and_back(n) for n in range(4)])
            assert told == sorted(told)

    run(test())


def test_another_event_loop_is_refused_at_once() -> None:
    async def connect() -> tuple[aio.AsyncBoard, Any]:
        board = await aio.open_board(Stepped(make_device()), TIMEOUTS)
        return board, await board.function("add")

    async def use(board: aio.AsyncBoard, add: Any) -> None:
        for request in (add(2, 3), board.function("add"), board.array([1]), board.close()):
            with pytest.raises(RequestError, match="another event loop"):
                await request

    loop = asyncio.new_event_loop()
    try:
        board, add = loop.run_until_complete(connect())
        asyncio.run(use(board, add))
        assert loop.run_until_complete(add(2, 3)) == 5
        loop.run_until_complete(board.close())
    finally:
        loop.close()


def test_when_its_loop_is_gone_a_board_can_still_be_closed() -> None:
    with PtyServer(simulate(microrpc.profile("loopback"))) as server:

        async def connect() -> aio.AsyncBoard:
            return await aio.connect(server.path)

        board = asyncio.run(connect())
        asyncio.run(board.close())
        with microrpc.connect(server.path) as blocking:  # the port is free, which is opened for itself alone
            assert blocking.function("add")(2, 3) == 5


# --- many boards ------------------------------------------------------------------------------


def test_eight_boards_through_real_ptys_in_one_loop_without_a_thread_of_ours() -> None:
    async def work(path: str, n: int, all_open: asyncio.Barrier) -> None:
        data = np.random.default_rng(n).integers(0, 256, 10_000, dtype=np.uint8)
        async with aio.connect(path) as board:
            await all_open.wait()
            add = await board.function("add")
            for i in range(20):
                assert await add(n, i) == n + i
            array = await board.array(data)
            assert np.array_equal(await array.numpy(), data)
            threads_seen.append(set(threading.enumerate()))

    threads_seen: list[set[threading.Thread]] = []
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(PtyServer(simulate(microrpc.profile("loopback")))) for _ in range(8)]
        threads = set(threading.enumerate())

        async def test() -> None:
            all_open = asyncio.Barrier(len(servers))
            await asyncio.gather(*[work(server.path, n, all_open) for n, server in enumerate(servers)])

        run(test())
    assert threads_seen == [threads] * 8


@contextlib.asynccontextmanager
async def served(make: Callable[[], tuple[Callable[[bytes], object], Callable[[], bytes]]]) -> AsyncIterator[int]:
    """Serve something that takes bytes and gives bytes over TCP, from this loop; give the port."""
    tasks: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        feed, take_output = make()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                feed(data)
                writer.write(take_output())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*[task for task in tasks if task is not None])


def test_boards_behind_tcp_need_no_thread_once_they_are_open() -> None:
    def make() -> tuple[Callable[[bytes], object], Callable[[], bytes]]:
        device = make_device()
        return device.receive, device.take_output

    async def work(port: int, n: int, all_open: asyncio.Barrier) -> None:
        async with aio.connect(f"socket://127.0.0.1:{port}") as board:
            await all_open.wait()
            array = await board.array(np.full(3000, n, dtype=np.int32))
            assert (await array.numpy() == n).all()
            assert set(threading.enumerate()) == threads

    async def test() -> None:
        all_open = asyncio.Barrier(16)
        # Where one fails the others wait for it in vain, and are cancelled.
        async with contextlib.AsyncExitStack() as servers, asyncio.TaskGroup() as boards:
            for n in range(16):
                port = await servers.enter_async_context(served(make))
                boards.create_task(work(port, n, all_open))

    threads = set(threading.enumerate())
    run(test())


def test_a_server_without_frames_is_awaited_over_tcp() -> None:
    def make() -> tuple[Callable[[bytes], object], Callable[[], bytes]]:
        endpoint = ServerEndpoint(session=LocalSession({"add": lambda a, b: a + b}))
        return endpoint.feed, endpoint.take_output

    async def test() -> None:
        async with served(make) as port, aio.connect(f"tcp://localhost:{port}", timeouts=TIMEOUTS) as board:
            add = await board.function("add")
            assert await add(2, 3) == 5
            assert np.array_equal(await (await board.array([1, 2, 3])).numpy(), [1, 2, 3])
            with pytest.raises(RemoteError):
                await add("x", 1)

    run(test())


# --- opening ----------------------------------------------------------------------------------


def test_connect_can_be_awaited_or_entered() -> None:
    async def test() -> None:
        board = await microrpc.aio.connect("sim://nucleo_f746zg")
        async with board:
            await check(board)
        assert "closed" in repr(board)
        async with microrpc.aio.connect("sim://nucleo_f746zg") as board:
            await check(board)
        assert "closed" in repr(board)

    run(test())


@pytest.mark.parametrize("in_the_handshake", [False, True])
def test_a_connect_that_is_cancelled_leaves_neither_port_nor_simulator(
    in_the_handshake: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_open = threading.Event()

    def is_served() -> bool:
        return any(thread.name.startswith("PtyServer") for thread in threading.enumerate())

    def open_when_told(port: str, **options: Any) -> SerialChannel:
        assert may_open.wait(LIMIT_S)
        return open_serial(port, **options)

    async def test() -> None:
        fds = os.listdir("/proc/self/fd")
        task = asyncio.create_task(aio.connect("sim://").__aenter__())
        await asyncio.sleep(0)
        assert openings()
        if in_the_handshake:
            may_open.set()
            while openings():
                await asyncio.sleep(0)
            assert is_served()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        may_open.set()
        wait_for_openings()
        assert not is_served()
        assert len(os.listdir("/proc/self/fd")) == len(fds)

    monkeypatch.setattr("microrpc.connecting.openers.sim.open_serial", open_when_told)
    run(test())


def test_a_simulator_whose_port_cannot_be_opened_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(port: str, **options: Any) -> None:
        raise PortError(port, "refused")

    async def test() -> None:
        with pytest.raises(PortError, match="refused"):
            await aio.connect("sim://")
        assert not any(thread.name.startswith("PtyServer") for thread in threading.enumerate())

    monkeypatch.setattr("microrpc.connecting.openers.sim.open_serial", refuse)
    run(test())


def test_a_connect_to_a_server_that_is_silent_can_be_cancelled() -> None:
    async def test() -> None:
        streams: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        async with await asyncio.start_server(lambda *pair: streams.put_nowait(pair), "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            connecting = asyncio.create_task(aio.connect(f"tcp://127.0.0.1:{port}").__aenter__())
            reader, writer = await streams.get()
            assert await reader.read(1)  # of its request
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            await reader.read()  # up to the end: it hung up
            writer.close()

    run(test())


def test_a_server_that_cannot_be_reached_is_a_port_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(address: tuple[str, int], timeout: float) -> socket.socket:
        assert timeout == 0.05
        raise TimeoutError

    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with pytest.raises(PortNotFoundError, match="nothing listens"):
            await aio.connect(f"tcp://127.0.0.1:{port}", timeouts=TIMEOUTS)
        with pytest.raises(PortNotFoundError, match="is not known"):
            await aio.connect("tcp://no-such-host.invalid:1", timeouts=TIMEOUTS)
        with pytest.raises(PortError):
            await aio.connect("tcp://127.0.0.1:99999", timeouts=TIMEOUTS)
        monkeypatch.setattr(socket, "create_connection", never)
        with pytest.raises(PortNotFoundError, match=r"no answer within 0\.05 s"):
            await aio.connect("socket://127.0.0.1:1", timeouts=Timeouts(start_s=0.05))

    run(test())


def test_what_cannot_be_awaited_says_what_to_use_instead() -> None:
    class NoReaders(asyncio.SelectorEventLoop):
        def add_reader(self, *args: Any) -> None:
            raise NotImplementedError

    async def test(url: str) -> None:
        fds = os.listdir("/proc/self/fd")
        with pytest.raises(PortError, match=r"cannot be used with asyncio.*socket://HOST:PORT.*blocking"):
            await aio.connect(url)
        assert len(os.listdir("/proc/self/fd")) == len(fds)

    run(test("rfc2217://localhost:4000"))
    with (
        PtyServer(simulate(microrpc.profile("loopback"))) as server,
        asyncio.Runner(loop_factory=NoReaders) as runner,
    ):
        runner.run(test(server.path))


# --- the awaited port -------------------------------------------------------------------------


@contextlib.contextmanager
def socket_pair() -> Iterator[tuple[AsyncFdChannel, socket.socket]]:
    ours, peer = socket.socketpair()
    channel = AsyncFdChannel(FdChannel("pair", ours.fileno(), ours.close))
    peer.setblocking(False)
    with peer:
        yield channel, peer
        channel.close()


def test_a_read_gives_what_is_there_and_waits_for_what_is_not() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        with socket_pair() as (channel, peer):
            assert channel.now() == pytest.approx(loop.time(), abs=1.0)
            assert await channel.read(channel.now() - 1) == b""
            peer.send(b"there")
            assert await channel.read(channel.now() - 1) == b"there"
            before = channel.now()
            assert await channel.read(before + 0.02) == b""
            assert 0.02 <= channel.now() - before < 1.0
            loop.call_later(0.01, peer.send, b"later")
            assert await channel.read(channel.now() + LIMIT_S) == b"later"

    run(test())


def test_a_read_that_is_cancelled_takes_nothing() -> None:
    async def test() -> None:
        with socket_pair() as (channel, peer):
            task = asyncio.create_task(channel.read(channel.now() + LIMIT_S))
            await asyncio.sleep(0)
            peer.send(b"kept")
            while not channel._kept:
                await asyncio.sleep(0)
            task.cancel()  # it is woken already, and has not run yet
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await channel.read(channel.now()) == b"kept"

    run(test())


def test_what_nobody_reads_is_kept_up_to_a_bound_and_nothing_is_lost() -> None:
    async def test() -> None:
        with socket_pair() as (channel, peer):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            data = np.random.default_rng(5).bytes(2_000_000)
            sent, stalled = 0, 0
            while sent < len(data) and stalled < 50:
                with contextlib.suppress(BlockingIOError):
                    sent += peer.send(data[sent : sent + 50_000])
                    stalled = -1
                stalled += 1
                await asyncio.sleep(0)
            assert sent < len(data)
            assert len(channel._kept) <= (256 + 64) * 1024
            rest = asyncio.create_task(asyncio.get_running_loop().sock_sendall(peer, data[sent:]))
            got = bytearray()
            while len(got) < len(data):
                part = await channel.read(channel.now() + LIMIT_S)
                assert 0 < len(part) <= 1 << 16
                got += part
            await rest
            assert got == data

    run(test())


def test_a_write_that_is_not_taken_in_time_did_not_run() -> None:
    async def test() -> None:
        board_fd, host_fd = os.openpty()
        tty.setraw(host_fd)
        channel = AsyncFdChannel(FdChannel("pty", host_fd))
        before = channel.now()
        with pytest.raises(CallTimeoutError, match=r"took only \d+ of 1000000 bytes") as caught:
            await channel.write(bytes(1_000_000), before + 0.02)
        assert not caught.value.may_have_run
        assert channel.now() - before < 1.0
        channel.close()  # does not wait for what nobody takes
        assert channel.now() - before < 2.0
        os.close(board_fd)

    run(test())


def test_a_write_that_is_taken_slowly_arrives_whole() -> None:
    async def test() -> None:
        with socket_pair() as (channel, peer):
            data = np.random.default_rng(6).bytes(3_000_000)
            writing = asyncio.create_task(channel.write(data, channel.now() + LIMIT_S))
            got = bytearray()
            while len(got) < len(data):
                got += await asyncio.get_running_loop().sock_recv(peer, 100_000)
            await writing
            assert got == data
            assert not asyncio.get_running_loop().remove_writer(channel._fd), "it would call for ever"

    run(test())


def test_a_port_that_goes_away_ends_a_read_and_a_write() -> None:
    async def test() -> None:
        with socket_pair() as (channel, peer):
            peer.send(b"last words")
            peer.close()
            assert await channel.read(channel.now() + LIMIT_S) == b"last words"
            for _ in range(2):
                with pytest.raises(PortLostError, match="went away"):
                    await channel.read(channel.now() + LIMIT_S)
            with pytest.raises(PortLostError, match="went away"):
                await channel.write(b"x", channel.now() + 1)
            assert not asyncio.get_running_loop().remove_reader(channel._fd), "it would call for ever"
        with socket_pair() as (channel, peer):
            reading = asyncio.create_task(channel.read(channel.now() + LIMIT_S))
            writing = asyncio.create_task(channel.write(bytes(10_000_000), channel.now() + LIMIT_S))
            await asyncio.sleep(0)
            peer.close()
            for task in (reading, writing):
                with pytest.raises(PortLostError, match="went away"):
                    await task

    run(test())


def test_closing_ends_a_read_and_a_write_in_other_tasks() -> None:
    async def test() -> None:
        with socket_pair() as (channel, _):
            reading = asyncio.create_task(channel.read(channel.now() + LIMIT_S))
            writing = asyncio.create_task(channel.write(bytes(10_000_000), channel.now() + LIMIT_S))
            await asyncio.sleep(0)
            channel.close()
            channel.close()
            for task in (reading, writing):
                with pytest.raises(PortLostError, match="closed by this program"):
                    await task
            with pytest.raises(PortLostError, match="closed by this program"):
                await channel.read(channel.now() + LIMIT_S)
            with pytest.raises(PortLostError, match="closed by this program"):
                await channel.write(b"x", channel.now() + LIMIT_S)

    run(test())


def test_a_channel_can_be_closed_when_its_loop_is_gone() -> None:
    async def start(port: FdChannel) -> tuple[AsyncFdChannel, asyncio.Task[bytes]]:
        channel = AsyncFdChannel(port)
        reading = asyncio.create_task(channel.read(channel.now() + LIMIT_S))
        await asyncio.sleep(0)
        return channel, reading

    ours, peer = socket.socketpair()
    loop = asyncio.new_event_loop()
    channel, reading = loop.run_until_complete(start(FdChannel("pair", ours.fileno(), ours.close)))
    loop.close()
    channel.close()
    with peer:
        assert peer.recv(1) == b""
    assert not reading.done()


def test_a_board_whose_port_goes_away_in_mid_call_says_so_once() -> None:
    async def test() -> None:
        device = make_device()
        gone: list[bool] = []
        device.function(lambda: gone.append(True), name="vanish")

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while not gone:
                device.receive(await reader.read(1 << 16))
                writer.write(b"" if gone else device.take_output())
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            board = await aio.connect(f"socket://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            vanish = await board.function("vanish")
            with pytest.raises(PortLostError) as caught:
                await vanish()
            assert caught.value.may_have_run
            with pytest.raises(ClosedError, match="port went away"):
                await vanish()
            await board.close()

    run(test())


def test_a_close_that_is_cancelled_while_another_task_calls_ends_that_call() -> None:
    async def test() -> None:
        async with aio.connect("sim://") as board:
            call = asyncio.create_task((await board.function("sleep_ms"))(100))
            await asyncio.sleep(0)
            closing = asyncio.create_task(board.close())
            await asyncio.sleep(0)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            with pytest.raises(ClosedError, match="during this request, which may have run"):
                await call
            with pytest.raises(ClosedError, match="closed here"):
                await board.function("add")

    run(test())


# --- what is imported, and what the guide shows -----------------------------------------------


def test_asyncio_is_imported_when_it_is_first_used() -> None:
    program = "import sys, microrpc; assert 'asyncio' not in sys.modules; microrpc.aio.connect; sys.modules['asyncio']"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        microrpc.nothing  # noqa: B018


# --- opening in a thread ----------------------------------------------------------------------


class Thing:
    """Something that is opened and closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("comes_first", [False, True])
def test_what_a_thread_opens_for_a_task_that_was_cancelled_is_closed(
    comes_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    thing, begun, goes_on, is_opened = Thing(), threading.Event(), threading.Event(), threading.Event()

    def open_() -> Thing:
        begun.set()
        assert goes_on.wait(LIMIT_S)
        is_opened.set()
        return thing

    async def cancel() -> None:
        task = asyncio.ensure_future(_open_in_thread(open_))
        await asyncio.sleep(0)
        assert begun.wait(LIMIT_S)
        if comes_first:
            goes_on.set()  # the thread is done, and the loop, which stands still here, knows nothing of it yet
            assert is_opened.wait(LIMIT_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        goes_on.set()

    asyncio.run(cancel())
    wait_for_openings()
    assert thing.closed == 1
    assert caplog.records == []


def test_what_a_thread_fails_to_open_is_raised_or_nothing_after_a_cancellation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun = threading.Event()

    def open_() -> Thing:
        begun.wait(LIMIT_S)
        raise PortError("x", "no port")

    async def use() -> None:
        task = asyncio.ensure_future(_open_in_thread(open_))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        begun.set()
        with pytest.raises(PortError, match="no port"):
            await _open_in_thread(open_)

    asyncio.run(use())
    wait_for_openings()
    assert caplog.records == []
