"""Calls that go on in the background, their progress, and their cancelling: by `cancel`, Ctrl-C, or a task's end."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import gc
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from apis import Api, AsyncioApi, BlockingApi
from forks import LIMIT_S, in_fork, outcome
from holding import hold

import microrpc
from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from firmware_sim.line.faults import Faults, Flip
from firmware_sim.running.loopback import LoopbackChannel
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import SimBoard, simulate
from microrpc import aio
from microrpc.errors import CallCancelledError, CallTimeoutError, ClosedError, RequestError
from microrpc.wire.session import Timeouts

LOOPBACK = microrpc.profile("loopback")
TIMEOUTS = Timeouts()


@pytest.fixture
def server() -> Iterator[PtyServer]:
    with PtyServer(simulate(LOOPBACK)) as served:
        yield served


def make_device(**options: Any) -> tuple[Device, list[str]]:
    device = Device(**options)
    install(device)
    said: list[str] = []

    @device.function
    def stubborn(steps: int) -> Any:
        """Goes on for a second a step although it was cancelled."""
        for step in range(steps):
            try:
                yield step, steps
            except Exception:
                said.append(f"cancelled at {step}")
            device.clock.sleep(1.0)
        return "done"

    @device.function
    def obedient(steps: int) -> Any:
        for step in range(steps):
            try:
                yield step, steps
            except Exception:
                said.append(f"cancelled at {step}")
                raise
            device.clock.sleep(1.0)
        return "done"

    return device, said


def make(api: Api, **options: Any) -> tuple[Any, Device, list[str]]:
    device, said = make_device(**options)
    return api.open_board(LoopbackChannel(device), TIMEOUTS), device, said


# --- progress ---------------------------------------------------------------------------------------------


def test_a_call_of_an_hour_tells_how_far_it_has_come_and_is_waited_for(api: Api) -> None:
    board, device, _ = make(api)
    told: list[tuple[int, int]] = []
    work = board.function("work")
    assert work(3600, 1_000_000, on_progress=lambda done, total: told.append((done, total))) == 3600
    assert told == [(step + 1, 3600) for step in range(3600)]
    assert device.clock.now() >= 3600.0


def test_a_call_of_an_hour_is_waited_for_over_a_line_that_damages_some_of_what_it_tells(api: Api) -> None:
    profile = dataclasses.replace(LOOPBACK, baud=115200)
    sim = SimBoard(profile, faults=Faults((Flip(rate=1e-5),), seed=1))
    runs: list[int] = []

    @sim.function
    def work_on(steps: int) -> Any:
        """Tell each second how far it is."""
        runs.append(steps)
        for step in range(steps):
            sim.device.clock.sleep(1.0)
            yield step + 1, steps
        return steps

    board = api.open_board(sim.open_channel(), Timeouts(call_s=5.0), baud=profile.baud)
    told: list[tuple[int, int]] = []
    work = board.function("work_on")
    began_at = sim.now()
    assert work(3600, on_progress=lambda done, total: told.append((done, total))) == 3600
    assert 3600.0 <= sim.now() - began_at < 3610.0
    assert told == sorted(set(told))
    assert 3500 < len(told) < 3600, "some were damaged, and nothing came of that"
    assert told[-1] == (3600, 3600)
    assert runs == [3600]
    assert board.stats.sessions == 1
    assert board.stats.retransmissions < 2 * (3600 - len(told)) + 10


def test_the_timeout_of_a_call_is_its_limit_whatever_it_tells(api: Api) -> None:
    board, _, _ = make(api)
    with pytest.raises(CallTimeoutError):
        board.function("work")(3600, 1_000_000, timeout_s=10.0, on_progress=lambda done, total: None)


def test_what_on_progress_raises_ends_the_call(api: Api) -> None:
    board, _, _ = make(api)

    def refuse(done: int, total: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        board.function("work")(10, 1000, on_progress=refuse)
    assert board.function("add")(2, 3) == 5


def test_on_progress_is_a_function_and_cannot_use_the_board() -> None:
    board, _, _ = make(BlockingApi())
    work, said = board.function("work"), []
    for use in (work, work.start):
        with pytest.raises(RequestError, match="on_progress is a function or None, not 3"):
            use(1, 1, on_progress=3)
    with pytest.raises(RequestError, match="on_progress is a function"):
        board.call(work, [1, 1], on_progress=3)
    work(1, 1, on_progress=lambda done, total: said.append(outcome(lambda: board.function("add"))))
    assert "is used from within a request" in said[0]


# --- in the background --------------------------------------------------------------------------------------


def test_a_call_that_was_started_goes_on_by_itself_and_gives_its_result(api: Api, server: PtyServer) -> None:
    with api.connect(server.path) as board:
        call = board.function("sleep_ms").start(20)
        assert repr(call).endswith("Call of 'sleep_ms', under way>")
        assert call.result() == 20
        assert call.done()
        assert call.result(0.0) == 20, "again"
        assert repr(call).endswith("Call of 'sleep_ms', done>")
        call.cancel()
        assert call.result() == 20, "it is too late"


def test_calls_that_were_started_take_turns(api: Api, server: PtyServer) -> None:
    with api.connect(server.path) as board:
        add = board.function("add")
        assert [call.result(LIMIT_S) for call in [add.start(number, 1) for number in range(10)]] == list(range(1, 11))


def test_what_a_started_call_raises_its_result_raises_each_time(api: Api, server: PtyServer) -> None:
    with api.connect(server.path) as board:
        call = board.function("add").start("one", 1)
        for _ in range(2):
            with pytest.raises(microrpc.RemoteError, match="add: "):
                call.result()


@pytest.mark.parametrize("timeout_s", [-1, float("nan"), float("inf"), "1", True])
def test_how_long_a_result_is_waited_for_is_a_number_of_seconds(api: Api, server: PtyServer, timeout_s: Any) -> None:
    with api.connect(server.path) as board:
        call = board.function("sleep_ms").start(1)
        with pytest.raises(RequestError, match="timeout_s is a number of seconds, 0 or more"):
            call.result(timeout_s)
        assert call.result() == 1


def test_a_result_that_is_not_there_in_time_is_said_and_the_call_goes_on(api: Api, server: PtyServer) -> None:
    with api.connect(server.path) as board:
        call = board.function("sleep_ms").start(200)
        with pytest.raises(CallTimeoutError, match=r"sleep_ms was not done within the 0\.01 s"):
            call.result(0.01)
        assert not call.done()
        assert call.result() == 200


@pytest.mark.parametrize("timeout_s", [-1, float("nan"), "1"])
def test_a_result_is_waited_for_as_long_as_a_number_of_seconds_says(
    api: Api, server: PtyServer, timeout_s: Any
) -> None:
    with api.connect(server.path) as board:
        call = board.function("add").start(1, 2)
        with pytest.raises(microrpc.RequestError, match="timeout_s is a number of seconds, 0 or more"):
            call.result(timeout_s)
        assert call.result(5) == 3


def test_the_time_that_a_started_call_waits_for_its_turn_counts(api: Api, server: PtyServer) -> None:
    with api.connect(server.path) as board:
        goes_on = hold(server)
        held, add = board.function("held"), board.function("add")
        first, second = held.start(), add.start(1, 2, timeout_s=0.05)
        with pytest.raises(CallTimeoutError, match=r"in use by another (thread|task) for the 0\.05 s"):
            second.result()
        goes_on.set()
        assert first.result() == 7


def test_await_of_a_started_call_gives_its_result(server: PtyServer) -> None:
    async def test() -> None:
        async with aio.connect(server.path) as board:
            add = await board.function("add")
            assert await asyncio.gather(*(add.start(number, 1) for number in range(5))) == [1, 2, 3, 4, 5]

    asyncio.run(test())


def test_a_call_that_the_program_ended_need_not_be_asked_what_came_of_it(
    server: PtyServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with aio.connect(server.path) as board:
            sleep_ms = await board.function("sleep_ms")
            first, second = sleep_ms.start(100), sleep_ms.start(100)
            await asyncio.sleep(0.02)
            second.cancel()
            first.cancel()
            assert await sleep_ms(1) == 1
            third = sleep_ms.start(1000)
            await asyncio.sleep(0.02)
        while not third.done():
            await asyncio.sleep(0.001)
        del first, second, third
        gc.collect()

    asyncio.run(test())
    assert caplog.records == []


def test_a_started_call_is_neither_copied_nor_pickled_and_no_forks(api: Api, server: PtyServer) -> None:
    with api.connect(server.path) as board:
        sleep_ms = board.function("sleep_ms")
        call = sleep_ms.start(200)
        target = call.target if isinstance(api, AsyncioApi) else call
        for use in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="a thing of the board"):
                use(target)
        if hasattr(os, "fork"):
            for use in (call.result, lambda: sleep_ms.start(1)):
                assert in_fork(lambda use=use: outcome(use)).startswith("ClosedError: <")  # type: ignore[misc]
        assert call.result() == 200


def test_closing_ends_a_call_that_was_started(api: Api, server: PtyServer) -> None:
    board = api.connect(server.path)
    first = board.function("sleep_ms").start(400)
    if isinstance(api, AsyncioApi):
        api.loop.run_until_complete(asyncio.sleep(0.01))
    board.close()
    with pytest.raises(ClosedError):
        first.result()


# --- cancelling ---------------------------------------------------------------------------------------------


def when(step: int, do: Callable[[], object]) -> Callable[[int, int], None]:
    """Give an on_progress that does something when the function tells of that step."""
    return lambda done, total: do() if done == step else None


def first(calls: list[Any]) -> Any:
    """Give the call that was started, whose thread may be faster than who started it."""
    while not calls:
        time.sleep(0)
    return calls[0]


def test_a_call_that_is_cancelled_ends_early_and_the_session_goes_on(api: Api) -> None:
    board, device, said = make(api)
    obedient, session_id = board.function("obedient"), board.session_id
    calls: list[Any] = []
    calls.append(obedient.start(100, on_progress=when(3, lambda: first(calls).cancel())))
    with pytest.raises(CallCancelledError):
        calls[0].result()
    assert said == ["cancelled at 4"]
    assert device.clock.now() == 4.0
    assert board.function("add")(2, 3) == 5
    assert board.session_id == session_id


def test_a_call_that_does_not_heed_it_is_waited_for_no_longer_than_cancel_s(api: Api) -> None:
    board, device, said = make(api)
    stubborn = board.function("stubborn")
    calls: list[Any] = []
    calls.append(stubborn.start(6, on_progress=when(3, lambda: first(calls).cancel())))
    with pytest.raises(CallCancelledError) as caught:
        calls[0].result()
    assert caught.value.may_have_run
    assert said
    assert device.clock.now() < 3.0 + 1.0 + TIMEOUTS.cancel_s + 0.1
    assert board.function("add")(2, 3) == 5


def test_a_call_that_is_done_all_the_same_gives_its_result(api: Api) -> None:
    board, _, said = make(api)
    calls: list[Any] = []
    calls.append(board.function("stubborn").start(3, on_progress=when(2, lambda: first(calls).cancel())))
    assert calls[0].result() == "done"
    assert said in ([], ["cancelled at 2"])


def test_a_call_that_waits_for_its_turn_is_cancelled_without_a_word(api: Api, server: PtyServer) -> None:
    with api.connect(server.path) as board:
        sleep_ms = board.function("sleep_ms")
        first, second, third = sleep_ms.start(200), sleep_ms.start(100_000), sleep_ms.start(3)
        second.cancel()
        assert second.done()
        with pytest.raises(CallCancelledError, match="while it waited for its turn: nothing of it was sent") as caught:
            second.result()
        assert not caught.value.may_have_run
        assert first.result() == 200
        assert third.result() == 3


@pytest.mark.parametrize("options", [{"link": False}, {}])
def test_a_board_that_cannot_be_told_is_not_waited_for(api: Api, options: dict[str, Any]) -> None:
    device = Device(features=None, clock=simulate(LOOPBACK).clock)
    device.function(lambda: 7, name="seven")
    device.function(lambda seconds: time.sleep(seconds), name="sleep")
    with PtyServer(device) as server, api.connect(server.path, **options) as board:
        sleep = board.function("sleep")
        frames = server.device.stats.frames_received
        call = sleep.start(0.4)
        deadline = time.monotonic() + LIMIT_S
        while server.device.stats.frames_received == frames:
            if isinstance(api, AsyncioApi):
                api.loop.run_until_complete(asyncio.sleep(0.001))
            assert time.monotonic() < deadline
            time.sleep(0.001)
        call.cancel()
        with pytest.raises(CallCancelledError, match="the board cannot be told, and may go on with it") as caught:
            call.result()
        assert caught.value.may_have_run
        assert board.function("seven")() == 7


def test_ctrl_c_is_told_to_the_board_and_the_session_goes_on() -> None:
    device, said = make_device()
    channel = Interrupted(device)
    board = microrpc.open_board(channel, TIMEOUTS)
    obedient, session_id = board.function("obedient"), board.session_id
    with pytest.raises(KeyboardInterrupt):
        obedient(100, on_progress=when(3, channel.interrupt_next_read))
    assert said
    assert board.function("add")(2, 3) == 5
    assert board.session_id == session_id


def test_a_second_ctrl_c_ends_the_wait_for_the_board_at_once() -> None:
    device, _ = make_device()
    channel = Interrupted(device)
    board = microrpc.open_board(channel, TIMEOUTS)

    def interrupt_twice() -> None:
        channel.to_interrupt = [KeyboardInterrupt(), KeyboardInterrupt("second")]

    with pytest.raises(KeyboardInterrupt, match="second"):
        board.function("stubborn")(6, on_progress=when(3, interrupt_twice))
    assert device.clock.now() < 5.0
    assert board.pump.connection.trust.doubt
    assert board.function("add")(2, 3) == 5


def test_ctrl_c_ends_a_call_at_once_where_the_board_cannot_be_told() -> None:
    device, _ = make_device(features=None)
    channel = Interrupted(device)
    board = microrpc.open_board(channel, TIMEOUTS)
    add = board.function("add")
    channel.skip, channel.to_interrupt = 1, [KeyboardInterrupt()]  # not the read before the request is sent
    with pytest.raises(KeyboardInterrupt):
        add(1, 2)
    assert board.pump.connection.trust.doubt
    assert add(2, 3) == 5


def test_ctrl_c_between_two_reads_is_told_to_the_board_too() -> None:
    device, said = make_device()
    channel = Interrupted(device)
    board = microrpc.open_board(channel, TIMEOUTS)
    obedient, session_id = board.function("obedient"), board.session_id
    channel.interrupts_write = True
    with pytest.raises(KeyboardInterrupt):
        obedient(100)
    assert not channel.interrupts_write
    assert board.function("add")(2, 3) == 5
    assert board.session_id == session_id
    assert said in ([], ["cancelled at 0"], ["cancelled at 1"])


def test_ctrl_c_in_the_middle_of_a_step_leaves_it_to_the_next_session() -> None:
    device, _ = make_device()
    board = microrpc.open_board(LoopbackChannel(device), TIMEOUTS)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        board.function("obedient")(5, on_progress=interrupt)
    assert board.pump.connection.trust.doubt
    assert board.function("add")(2, 3) == 5


def test_a_signal_ends_a_call_on_a_real_port_and_the_board_is_told(server: PtyServer) -> None:
    with microrpc.connect(server.path) as board:
        work, session_id = board.function("work"), board.session_id
        interrupt = when(2, lambda: threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start())
        with pytest.raises(KeyboardInterrupt):
            work(100_000, 60_000, on_progress=interrupt)  # which waits in a read almost all of the time
        assert board.function("add")(2, 3) == 5
        assert board.session_id == session_id


def test_a_task_that_is_cancelled_tells_the_board_and_the_session_goes_on() -> None:
    async def test() -> None:
        device, said = make_device()
        async with aio.open_board(aio.InMemoryChannel(LoopbackChannel(device)), TIMEOUTS) as board:
            obedient, session_id = await board.function("obedient"), board.session_id
            tasks: list[asyncio.Task[Any]] = []
            calling = obedient(100, on_progress=when(3, lambda: tasks[0].cancel()))
            tasks.append(asyncio.create_task(calling))
            with pytest.raises(asyncio.CancelledError):
                await tasks[0]
            assert said
            assert device.clock.now() < 6.0
            assert await (await board.function("add"))(2, 3) == 5
            assert board.session_id == session_id

    asyncio.run(asyncio.wait_for(test(), LIMIT_S))


def test_a_timeout_of_asyncio_around_a_call_tells_the_board(server: PtyServer) -> None:
    async def test() -> None:
        async with aio.connect(server.path) as board:
            work, session_id = await board.function("work"), board.session_id
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await work(100_000, 1000)
            assert await (await board.function("add"))(2, 3) == 5
            assert board.session_id == session_id

    asyncio.run(asyncio.wait_for(test(), LIMIT_S))


class Interrupted(LoopbackChannel):
    """A channel whose reads raise what stands in `to_interrupt`, one after the other, `skip` reads from now."""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        self.skip = 0
        self.interrupts_write = False
        self.to_interrupt: list[BaseException] = []

    def interrupt_next_read(self) -> None:
        self.to_interrupt = [KeyboardInterrupt()]

    def read(self, deadline: float) -> bytes:
        if self.to_interrupt:
            if not self.skip:
                raise self.to_interrupt.pop(0)
            self.skip -= 1
        return super().read(deadline)

    def write(self, data: bytes, deadline: float) -> None:
        super().write(data, deadline)
        if self.interrupts_write:
            self.interrupts_write = False
            raise KeyboardInterrupt
