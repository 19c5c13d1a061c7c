"""What a board says while nobody asks it anything: heard at once, without holding up, hiding or keeping anything."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from apis import Api, AsyncioApi, BlockingApi
from forks import LIMIT_S, in_fork, outcome

import microrpc
from firmware_sim.board.clock import RealClock
from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc import aio
from microrpc.connecting.wrap import tapped
from microrpc.errors import (
    BoardResetError,
    ClosedError,
    FeatureMissingError,
    PortLostError,
    PortNotFoundError,
    RequestError,
)
from microrpc.ports import registry
from microrpc.ports.aio import adopt
from microrpc.ports.opening import open_serial
from microrpc.wire.events import Event
from microrpc.wire.session import Timeouts

LOOPBACK = microrpc.profile("loopback")


@pytest.fixture
def server() -> Iterator[PtyServer]:
    with PtyServer(simulate(LOOPBACK)) as served:
        yield served


def wait_until(condition: Callable[[], object], api: Api | None = None) -> None:
    """Let threads, and the loop of asyncio, go on until it holds."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        if isinstance(api, AsyncioApi):
            api.loop.run_until_complete(asyncio.sleep(0.001))
        else:
            time.sleep(0.001)


def has_credit(server: PtyServer) -> bool:
    return server.device._events._credit_bytes > 0


def emit(server: PtyServer, *values: int, reliable: bool = False) -> None:
    def send(now: float) -> None:
        for value in values:
            server.device.event("sample", value, reliable=reliable)

    server.do(send)


def listeners() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("microrpc listens")]


# --- hearing ------------------------------------------------------------------------------------------


def test_a_handler_is_called_while_nobody_asks_anything(api: Api, server: PtyServer) -> None:
    got: list[Event] = []
    with api.connect(server.path) as board:
        board.on_event("sample", got.append)
        wait_until(lambda: has_credit(server), api)
        emit(server, 1, 2)
        wait_until(lambda: len(got) == 2, api)
        assert [event.value for event in got] == [1, 2]
        assert board.function("add")(2, 3) == 5
        emit(server, 3)
        wait_until(lambda: len(got) == 3, api)


def test_an_iterator_waits_for_what_comes_and_ends_where_nothing_does(api: Api, server: PtyServer) -> None:
    with api.connect(server.path) as board:
        events = board.events("sample", timeout_s=LIMIT_S)
        wait_until(lambda: has_credit(server), api)
        emit(server, *range(20), reliable=True)
        assert [next(events).value for _ in range(20)] == list(range(20))
        assert list(board.events("sample", timeout_s=0.01)) == []


def test_another_thread_reads_events_while_this_one_calls(server: PtyServer) -> None:
    got: list[int] = []
    with microrpc.connect(server.path) as board:
        emit_on_board, events = board.function("emit"), board.events(timeout_s=LIMIT_S)
        reader = threading.Thread(target=lambda: got.extend(next(events).number for _ in range(200)))
        reader.start()
        wait_until(lambda: has_credit(server))
        for _ in range(200):
            assert emit_on_board("sample", 1, 8, 1) == 1
        reader.join(LIMIT_S)
        assert got == list(range(200))


def test_a_gap_at_the_tail_is_found_although_nobody_asks(api: Api, server: PtyServer) -> None:
    got: list[Event] = []
    with api.connect(server.path) as board:
        board.on_event("sample", got.append)
        wait_until(lambda: has_credit(server), api)

        def lose(now: float) -> None:
            server.device._events._credit_bytes = 0
            for value in range(3):
                server.device.event("other", value)

        server.do(lose)
        wait_until(lambda: got, api)
        assert [(event.is_gap, event.missed) for event in got] == [(True, 3)]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, pytest.fail.Exception])
def test_what_ends_a_program_ends_in_the_thread_that_listens_nothing_but_is_logged(
    server: PtyServer, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    got: list[Event] = []

    def handle(event: Event) -> None:
        got.append(event)
        if len(got) == 1:
            raise error("enough")

    with microrpc.connect(server.path) as board:
        board.on_event("sample", handle)
        wait_until(lambda: has_credit(server))
        emit(server, 1, reliable=True)
        wait_until(lambda: caplog.records)
        emit(server, 2, reliable=True)
        wait_until(lambda: len(got) == 2)
        assert [event.value for event in got] == [1, 2]
        assert board.function("add")(2, 3) == 5
    (record,) = caplog.records
    assert record.name == "microrpc.events"
    assert "goes on" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is error


def test_a_full_iterator_that_nobody_has_any_more_holds_up_no_handler(api: Api, server: PtyServer) -> None:
    got: list[Event] = []
    with api.connect(server.path) as board:
        board.on_event("sample", got.append)
        events = board.events("sample")
        subscriptions = board.pump.subscriptions
        while subscriptions.has_room:
            wait_until(lambda: has_credit(server) or not subscriptions.has_room, api)
            emit(server, *range(40))
        while has_credit(server):
            emit(server, *range(40))
        del events
        wait_until(lambda: has_credit(server), api)


def test_a_board_without_events_is_told_of_once_in_the_log(
    api: Api, server: PtyServer, caplog: pytest.LogCaptureFixture
) -> None:
    with api.connect(server.path, link=False) as board:
        board.on_event("sample", print)
        wait_until(lambda: caplog.records, api)
        with pytest.raises(FeatureMissingError):
            next(board.events(timeout_s=LIMIT_S))
        assert board.function("add")(2, 3) == 5
    [record] = [record for record in caplog.records if record.name == "microrpc.events"]
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"{server.path}: ")


def test_a_board_that_wants_to_hear_of_its_host_does_though_nobody_subscribes(api: Api) -> None:
    told: list[bool] = []
    device = Device(host_timeout_ms=300, on_session=told.append)
    device.function(lambda: 7, name="seven")
    with PtyServer(device) as served, api.connect(served.path) as board:
        assert board.function("seven")() == 7
        frames = served.device.stats.frames_received
        wait_until(lambda: served.device.stats.frames_received >= frames + 5, api)
        assert told == [True]


def watched(told: list[bool]) -> Device:
    device = Device(host_timeout_ms=600, on_session=told.append, clock=RealClock())
    install(device)
    return device


class Heard:
    """A tap: what the board says."""

    def __init__(self) -> None:
        self.data = b""

    def note(self, time_s: float, data: bytes, *, to_board: bool) -> None:
        if not to_board:
            self.data += data


@pytest.mark.parametrize("firmware", ["robust", "stock"])
def test_what_a_board_prints_is_heard_while_nobody_asks_where_all_is_to_be_heard(api: Api, firmware: Any) -> None:
    heard = Heard()
    with (
        PtyServer(simulate(LOOPBACK, firmware=firmware)) as server,
        api.connect(server.path, wrap=tapped(heard)) as board,
    ):
        pump = getattr(board, "target", board).pump
        assert board.function("add")(2, 3) == 5
        pump.hears_all = True
        pump.listen()
        for number in range(20):
            text = b"tick %d\r\n" % number
            server.do(lambda _, text=text: server.device._output.extend(text))
            wait_until(lambda text=text: text in heard.data, api)
            assert board.function("add")(2, number) == 2 + number


def test_a_program_that_waits_for_a_long_function_is_there(api: Api) -> None:
    told: list[bool] = []
    with PtyServer(watched(told)) as served, api.connect(served.path) as board:
        assert board.function("sleep_ms")(1500) == 1500
        assert board.function("work")(15, 100_000) == 15
        assert board.function("add")(2, 3) == 5
        assert told == [True]


def test_a_program_that_is_busy_elsewhere_is_there_where_a_thread_listens_for_it() -> None:
    told: list[bool] = []
    with PtyServer(watched(told)) as served, microrpc.connect(served.path) as board:
        assert board.function("add")(2, 3) == 5
        time.sleep(1.5)
        assert told == [True]
        assert board.function("add")(2, 3) == 5


def test_a_program_of_asyncio_that_lets_its_loop_stand_is_gone_until_it_goes_on() -> None:
    told: list[bool] = []

    async def test(path: str) -> None:
        async with await aio.connect(path) as board:
            add = await board.function("add")
            assert await add(2, 3) == 5
            await asyncio.sleep(1.5)
            assert told == [True], "the loop has listened"
            time.sleep(1.5)
            assert told == [True, False]
            assert await add(2, 3) == 5
            assert told == [True, False, True]

    with PtyServer(watched(told)) as served:
        asyncio.run(test(served.path))


# --- what a request tells stays news -----------------------------------------------------------------------


def test_a_reset_that_was_heard_is_told_by_the_next_request(api: Api, server: PtyServer) -> None:
    got: list[Event] = []
    with api.connect(server.path) as board:
        add = board.function("add")
        board.on_event("sample", got.append)
        wait_until(lambda: has_credit(server), api)
        server.do(lambda now: server.device.reset())
        wait_until(lambda: server.device.stats.resets and has_credit(server), api)
        emit(server, 1)
        wait_until(lambda: got, api)
        assert (got[0].value, got[0].number) == (1, 0)
        with pytest.raises(BoardResetError, match="nothing of this request was sent"):
            board.function("add")
        with pytest.raises(microrpc.StaleHandleError):
            add(1, 2)
        assert board.function("add")(2, 3) == 5


def test_a_lost_port_is_told_to_iterators_and_by_the_next_request(api: Api) -> None:
    with PtyServer(simulate(LOOPBACK)) as served:
        board = api.connect(served.path)
        add = board.function("add")
        events = board.events(timeout_s=LIMIT_S)
        wait_until(lambda: has_credit(served), api)
    for _ in range(2):
        with pytest.raises(PortLostError, match="went away"):
            next(events)
    with pytest.raises(PortLostError, match="went away") as caught:
        add(1, 2)
    assert not caught.value.may_have_run
    with pytest.raises(ClosedError, match="the port went away"):
        add(1, 2)
    with pytest.raises(ClosedError):
        board.events()
    board.close()


def test_a_port_that_comes_back_is_found_by_what_listens_and_iterators_go_on(api: Api) -> None:
    back: list[str] = []
    told: list[bool] = []

    def reopen() -> Any:
        if not back:
            raise PortNotFoundError("board", "it is not back")
        return open_serial(back[0], baud=115200)

    async def reopen_for_asyncio() -> Any:
        return adopt(reopen())

    with PtyServer(simulate(LOOPBACK)) as first:
        channel = open_serial(first.path, baud=115200)
        if isinstance(api, AsyncioApi):
            board = api.wait(open_for_asyncio(channel, reopen_for_asyncio, told.append))
        else:
            board = microrpc.open_board(channel, Timeouts(), reopen=reopen, on_reconnect=told.append)
        events = board.events(timeout_s=LIMIT_S)
        wait_until(lambda: has_credit(first), api)
        emit(first, 1)
        assert next(events).value == 1
    with PtyServer(simulate(LOOPBACK, seed=5)) as second:
        back.append(second.path)
        wait_until(lambda: has_credit(second), api)
        emit(second, 2)
        assert next(events).value == 2
        assert told == [True]
        board.close()


async def open_for_asyncio(channel: Any, reopen: Any, on_reconnect: Any) -> Any:
    return await aio.open_board(adopt(channel), Timeouts(), reopen=reopen, on_reconnect=on_reconnect)


# --- its own life ---------------------------------------------------------------------------------------


def test_nothing_listens_before_somebody_subscribes_nor_after_the_board_is_closed(server: PtyServer) -> None:
    with microrpc.connect(server.path) as board:
        board.function("add")(2, 3)
        assert listeners() == []
        events = board.events()
        assert [thread.daemon for thread in listeners()] == [True]
        board.on_event(None, print)
        assert len(listeners()) == 1
    assert listeners() == []
    assert list(events) == []


def test_a_board_that_nobody_has_any_more_gives_its_port_back_at_once(server: PtyServer) -> None:
    board = microrpc.connect(server.path)
    board.on_event(None, print)
    wait_until(lambda: has_credit(server))
    reference = weakref.ref(board)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del board
        wait_until(lambda: not listeners())
    assert reference() is None
    assert [warning.category for warning in caught] == [ResourceWarning]
    microrpc.connect(server.path).close()


def test_a_port_is_waited_for_that_only_what_listens_has_at_that_moment(
    server: PtyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = microrpc.connect(server.path)
    is_within, goes_on = threading.Event(), threading.Event()

    def handle(event: Event) -> None:
        is_within.set()
        goes_on.wait(LIMIT_S)

    def look(port: str) -> bool:
        looks.append(registry_look(port))
        if len(looks) == 2:  # after garbage was collected
            goes_on.set()
        return looks[-1]

    board.on_event(None, handle)
    wait_until(lambda: has_credit(server))
    emit(server, 1)
    assert is_within.wait(LIMIT_S)
    registry_look, looks = registry.is_open_here, list[bool]()
    monkeypatch.setattr(registry, "_LISTENS_S", LIMIT_S)
    monkeypatch.setattr(registry, "is_open_here", look)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        del board
        microrpc.connect(server.path).close()


def test_a_board_of_asyncio_that_nobody_has_any_more_gives_its_port_back(server: PtyServer) -> None:
    async def test() -> None:
        board = await aio.connect(server.path)
        board.on_event(None, print)
        while not has_credit(server):
            await asyncio.sleep(0.001)
        with pytest.warns(ResourceWarning):
            del board
        while any("AsyncListener" in repr(task) for task in asyncio.all_tasks()):
            await asyncio.sleep(0.001)
        await (await aio.connect(server.path)).close()

    asyncio.run(asyncio.wait_for(test(), LIMIT_S))


def test_another_thread_may_end_what_a_board_of_asyncio_tells_but_begin_nothing(server: PtyServer) -> None:
    async def test() -> None:
        async with aio.connect(server.path) as board:
            sleep_ms = await board.function("sleep_ms")
            events, subscription = [board.events()], board.on_event(None, print)
            while not has_credit(server):
                await asyncio.sleep(0.001)
            await asyncio.to_thread(subscription.close)
            await asyncio.to_thread(events.clear)
            while has_credit(server):
                await asyncio.sleep(0.001)
            for begin in (board.events, lambda: board.on_event(None, print), lambda: sleep_ms.start(1)):
                with pytest.raises(RequestError, match="belongs to another event loop"):
                    await asyncio.to_thread(begin)

    asyncio.run(asyncio.wait_for(test(), LIMIT_S), debug=True)


def test_a_board_of_asyncio_whose_loop_is_closed_says_so(server: PtyServer, caplog: pytest.LogCaptureFixture) -> None:
    async def begin() -> Any:
        board = await aio.connect(server.path)
        things = board.events(), board.on_event(None, print)
        while not has_credit(server):
            await asyncio.sleep(0.001)
        return board, await board.function("add"), things

    loop = asyncio.new_event_loop()
    board, add, things = loop.run_until_complete(begin())
    loop.close()
    for thing in things:
        thing.close()
    for use in (board.events, partial(board.on_event, None, print), add.start):
        with pytest.raises(RequestError, match="belongs to another event loop"):
            use()
    asyncio.run(board.close())
    del board, add, things, thing, use
    gc.collect()
    assert {record.name for record in caplog.records} <= {"asyncio"}, "which tells of the task that it could not end"


def test_handlers_of_two_boards_that_use_each_others_board_do_not_wait_for_ever(
    server: PtyServer, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        PtyServer(simulate(LOOPBACK)) as other,
        microrpc.connect(server.path) as one,
        microrpc.connect(other.path) as two,
    ):
        both_are_within = threading.Barrier(2)
        got: list[int] = []

        def use(add: Any) -> Callable[[Event], None]:
            def handle(event: Event) -> None:
                both_are_within.wait(LIMIT_S)
                got.append(add(2, 3))

            return handle

        one_add, two_add = one.function("add"), two.function("add")
        one.on_event("sample", use(two_add))
        two.on_event("sample", use(one_add))
        wait_until(lambda: has_credit(server) and has_credit(other))
        emit(server, 1)
        emit(other, 1)
        wait_until(lambda: len(got) + len(caplog.records) == 2)
        assert one_add(1, 2) == two_add(1, 2) == 3
    assert caplog.records
    for record in caplog.records:
        assert record.exc_info is not None
        assert "each would wait for the other for ever. Nothing was sent" in str(record.exc_info[1])


def test_a_handler_that_is_slow_is_not_called_once_the_board_is_closed(server: PtyServer) -> None:
    got: list[Event] = []
    goes_on = threading.Event()

    def handle(event: Event) -> None:
        got.append(event)
        goes_on.wait(LIMIT_S)

    with microrpc.connect(server.path) as board:
        board.on_event("sample", handle)
        wait_until(lambda: has_credit(server))
        emit(server, *range(5), reliable=True)
        wait_until(lambda: got)
        listener = listeners()[0]
    goes_on.set()
    listener.join(LIMIT_S)
    assert [event.value for event in got] == [0]


def test_closing_ends_an_iterator_that_waits_in_another_thread(server: PtyServer) -> None:
    board = microrpc.connect(server.path)
    events, came = board.events(), []
    reader = threading.Thread(target=lambda: came.append(list(events)))
    reader.start()
    wait_until(lambda: has_credit(server))
    began_at = time.monotonic()
    board.close()
    reader.join(LIMIT_S)
    assert came == [[]]
    assert time.monotonic() - began_at < 1.0


def test_a_caller_comes_before_what_listens_to_a_board_that_does_not_answer(server: PtyServer) -> None:
    with microrpc.connect(server.path, timeouts=Timeouts(start_s=20.0)) as board:
        add = board.function("add")
        board.on_event(None, print)
        wait_until(lambda: has_credit(server))
        server.do(lambda now: server.device.wedge())
        wait_until(lambda: board.pump.connection.trust.doubt or not board.pump._turns.owner)
        board.pump.connection.trust.doubt = "a test of doubt"
        wait_until(lambda: board.pump._turns.owner)  # it tries to open a session
        with pytest.raises(microrpc.BoardError) as caught:
            add(1, 2, timeout_s=1.0)
        assert "in use by" not in str(caught.value)
        server.do(lambda now: server.device.reset())


def test_ctrl_c_ends_a_loop_over_events(server: PtyServer) -> None:
    program = """
import sys, signal, os, threading, microrpc
with microrpc.connect(sys.argv[1]) as board:
    events = board.events()
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        for event in events:
            pass
    except KeyboardInterrupt:
        print("ended")
print(board.pump.is_listening)
"""
    ran = subprocess.run([sys.executable, "-c", program, server.path], capture_output=True, text=True, timeout=30)
    assert (ran.stdout, ran.stderr) == ("ended\nFalse\n", "")


def test_a_program_that_ends_while_something_listens_ends_and_frees_the_board(server: PtyServer) -> None:
    program = """
import sys, microrpc
board = microrpc.connect(sys.argv[1])
board.on_event(None, print)
array = board.array([1, 2, 3])
"""
    ran = subprocess.run([sys.executable, "-c", program, server.path], capture_output=True, text=True, timeout=30)
    assert (ran.stdout, ran.stderr) == ("", "")
    assert not server.device.memory.blocks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_hears_nothing_and_its_parent_goes_on(api: Api, server: PtyServer) -> None:
    with api.connect(server.path) as board:
        events = board.events(timeout_s=LIMIT_S)
        wait_until(lambda: has_credit(server), api)

        def use() -> str:
            uses = (lambda: next(events), board.events, lambda: board.on_event(None, print), board.poll)
            said = {outcome(each).partition(" belongs to process ")[0] for each in uses}
            board.close()
            return "\n".join(said)

        name = "Board" if isinstance(api, BlockingApi) else "AsyncBoard"
        assert in_fork(use) == f"ClosedError: <{name} {server.path}>"
        emit(server, 1)
        assert next(events).value == 1


def test_a_fork_within_a_handler_ends_there(server: PtyServer) -> None:
    forks: list[int] = []
    got: list[int] = []
    with microrpc.connect(server.path) as board:

        def handle(event: Event) -> None:
            if not forks:
                forks.append(os.fork())
                if not forks[0]:
                    os._exit(7)
            got.append(event.number)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            board.on_event(None, handle)
            wait_until(lambda: has_credit(server))
            emit(server, 1, 2)
            wait_until(lambda: len(got) == 2)
        assert os.waitstatus_to_exitcode(os.waitpid(forks[0], 0)[1]) == 7
        assert board.function("add")(2, 3) == 5
