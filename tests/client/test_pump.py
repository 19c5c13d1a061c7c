"""A board's turns: who waits for whom and for how long, who is refused, and what closing does to all of them."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from apis import Api, BlockingApi, Waiting
from forks import outcome
from holding import hold

import microrpc
from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from firmware_sim.running.loopback import LineChannel, LoopbackChannel
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import SimBoard, simulate
from microrpc import aio
from microrpc.capture.trace import Trace
from microrpc.client.pump import Pump, _close_all
from microrpc.client.turns import Turns
from microrpc.connecting.wrap import tapped
from microrpc.errors import CallTimeoutError, ClosedError, MicroRpcError, PortError, PortLostError
from microrpc.host.operation import AT_ONCE, Operation
from microrpc.ports.lost import LostPort, Reopening
from microrpc.wire.session import Timeouts

LOOPBACK = microrpc.profile("loopback")
LIMIT_S = 20.0
WAITED_S = 0.05


@pytest.fixture
def server() -> Iterator[PtyServer]:
    with PtyServer(simulate(LOOPBACK)) as served:
        yield served


def make(**options: Any) -> tuple[microrpc.Board, LoopbackChannel]:
    device = Device()
    install(device)
    channel = LoopbackChannel(device)
    return microrpc.open_board(channel, Timeouts(), **options), channel


class Calling(NamedTuple):
    """A call that another thread has made: what came of it, when that is known, and what ends it."""

    thread: threading.Thread
    goes_on: threading.Event
    came: list[str]


@contextlib.contextmanager
def calling(server: PtyServer, board: microrpc.Board) -> Iterator[Calling]:
    """Let another thread call a function that lasts as long as this does, or until it is told to go on."""
    goes_on, came = hold(server), list[str]()
    held = board.function("held")
    thread = threading.Thread(target=lambda: came.append(outcome(held)))
    frames = server.device.stats.frames_received
    thread.start()
    while server.device.stats.frames_received == frames:
        time.sleep(0)
    try:
        yield Calling(thread, goes_on, came)
    finally:
        goes_on.set()
        thread.join(LIMIT_S)


def frames_heard(server: PtyServer) -> int:
    """How many frames the board has heard, when it has done all that it was asked for."""
    done = threading.Event()
    server.do(lambda now: done.set())
    assert done.wait(LIMIT_S)
    return server.device.stats.frames_received


# --- turns ------------------------------------------------------------------------------------


def test_the_wait_for_another_thread_counts_and_nothing_is_sent(server: PtyServer) -> None:
    with microrpc.connect(server.path, link=False) as board:  # which repeats nothing
        add = board.function("add")
        with calling(server, board) as call:
            frames = server.device.stats.frames_received
            with pytest.raises(CallTimeoutError, match=r"in use by another thread for the 0\.05 s") as caught:
                add(1, 2, timeout_s=0.05)
            assert call.came == []
        assert not caught.value.may_have_run
        assert frames_heard(server) == frames
        assert call.came == ["7"]


def test_the_wait_for_another_task_counts_and_nothing_is_sent(server: PtyServer) -> None:
    async def test() -> None:
        async with aio.connect(server.path) as board:
            goes_on = hold(server)
            add, held = await board.function("add"), await board.function("held")
            other = asyncio.create_task(held())
            await asyncio.sleep(0)
            frames = server.device.stats.frames_received
            with pytest.raises(CallTimeoutError, match=r"in use by another task for the 0\.05 s") as caught:
                await add(1, 2, timeout_s=0.05)
            assert not caught.value.may_have_run
            assert server.device.stats.frames_received <= frames + 1  # the other's
            goes_on.set()
            assert await other == 7
            assert await add(1, 2, timeout_s=5) == 3

    asyncio.run(asyncio.wait_for(test(), LIMIT_S))


def test_what_the_wait_took_is_taken_from_the_time_that_is_left(server: PtyServer) -> None:
    given: list[float] = []

    def note(*, timeout_s: float) -> Operation[None]:
        given.append(timeout_s)
        yield AT_ONCE

    with microrpc.connect(server.path) as board, calling(server, board) as call:

        def let_go() -> None:
            while not board.pump._turns.waiting:
                time.sleep(0)
            time.sleep(WAITED_S)
            call.goes_on.set()

        threading.Thread(target=let_go).start()
        began_at = time.monotonic()
        board.pump.run(note, timeout_s=10.0)
        taken_s = time.monotonic() - began_at
        board.pump.run(note, timeout_s=10.0)
    assert 10 - taken_s <= given[0] <= 10 - WAITED_S
    assert given[1] == 10.0, "nobody was waited for"


def test_threads_that_wait_get_their_turns_in_the_order_in_which_they_asked(server: PtyServer) -> None:
    order: list[int] = []

    def note(number: int) -> Operation[None]:
        order.append(number)
        yield AT_ONCE

    with microrpc.connect(server.path) as board:
        with calling(server, board):
            threads = [threading.Thread(target=board.pump.run, args=(note, number)) for number in range(5)]
            for count, thread in enumerate(threads, 1):
                thread.start()
                while len(board.pump._turns.waiting) < count:
                    time.sleep(0)
        for thread in threads:
            thread.join(LIMIT_S)
    assert order == list(range(5))


def test_who_gives_up_waiting_gets_no_turn(server: PtyServer) -> None:
    with microrpc.connect(server.path) as board:
        add = board.function("add")
        with calling(server, board):
            with pytest.raises(CallTimeoutError):
                add(1, 2, timeout_s=0.01)
            assert not board.pump._turns.waiting
        assert not board.pump._turns.owner
        assert add(1, 2) == 3


# --- within a request ------------------------------------------------------------------------


def test_a_callback_that_uses_its_board_is_refused_at_once_and_the_request_goes_on() -> None:
    said: list[str] = []

    def use(*_: object) -> None:
        said.extend(outcome(use) for use in (lambda: add(1, 2), lambda: board.function("add"), board.close, add.free))

    board, channel = make(on_log=use)
    add, log = board.function("add"), board.function("log")
    kept = add
    before = channel.now()
    assert log("hello") is None
    assert len(said) == 4
    assert {text.partition(" in ")[0] for text in said} == {
        "RequestError: <Board loopback> is used from within a request of its own:"
    }
    said.clear()
    array = board.array(np.arange(3000), on_progress=lambda *_: said.append(outcome(lambda: board.function("add"))))
    assert np.array_equal(array.numpy(), np.arange(3000))
    assert all(text.startswith("RequestError: <Board loopback> is used from within") for text in said)
    assert channel.now() == before, "and nothing was waited for"
    assert kept is add


def test_on_reconnect_that_uses_its_board_is_refused_and_the_request_goes_on() -> None:
    class Unplugged(LoopbackChannel):
        is_there = True

        def read(self, deadline: float) -> bytes:
            if not self.is_there:
                raise PortLostError(self.name, f"{self.name} went away")
            return super().read(deadline)

    device, said = Device(), []
    channel = Unplugged(device)
    board = microrpc.open_board(
        channel,
        Timeouts(),
        reopen=lambda: LoopbackChannel(device),
        on_reconnect=lambda _: said.append(outcome(lambda: board.function("x"))),
    )
    channel.is_there = False
    with pytest.raises(PortLostError):
        board.max_packet_bytes()
    assert board.global_function("nothing") is None
    assert said[0].startswith("RequestError: <Board loopback> is used from within")


def test_a_task_that_a_callback_starts_waits_for_its_turn() -> None:
    async def test() -> None:
        device, tasks = Device(), []
        install(device)
        channel = aio.InMemoryChannel(LoopbackChannel(device))
        board = await aio.open_board(
            channel, Timeouts(), on_log=lambda text: tasks.append(asyncio.ensure_future(add(1, 2)))
        )
        add, log = await board.function("add"), await board.function("log")
        assert await log("hello") is None
        assert await tasks[0] == 3

    asyncio.run(asyncio.wait_for(test(), LIMIT_S))


@contextlib.contextmanager
def handled(use: Callable[[], object], said: list[str]) -> Iterator[None]:
    """Let the signal SIGUSR1 do something; what came of it is said."""
    before = signal.signal(signal.SIGUSR1, lambda *_: said.append(outcome(use)))
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def interrupt(thread: int, said: list[str]) -> None:
    """Send the signal to a thread, and wait until it was handled."""
    signal.pthread_kill(thread, signal.SIGUSR1)
    until = time.monotonic() + LIMIT_S
    while not said:
        assert time.monotonic() < until
        time.sleep(0.001)


def test_a_signal_handler_that_interrupts_a_request_is_refused_and_the_request_goes_on(server: PtyServer) -> None:
    with microrpc.connect(server.path) as board:
        me, said = threading.get_ident(), list[str]()

        @server.device.function
        def interrupting() -> int:
            interrupt(me, said)
            return 7

        add, call = board.function("add"), board.function("interrupting")
        with handled(lambda: add(1, 2), said):
            assert call() == 7
            assert [text.partition(" a request")[0] for text in said] == [
                f"RequestError: <Board {server.path}> is used from within"
            ]
            os.kill(os.getpid(), signal.SIGUSR1)  # between two requests it may
            assert said[1:] == ["3"]


def test_a_signal_handler_that_interrupts_a_wait_for_the_turn_is_refused_too(server: PtyServer) -> None:
    with microrpc.connect(server.path) as board:
        add, me, said = board.function("add"), threading.get_ident(), list[str]()
        with handled(lambda: add(1, 2), said), calling(server, board) as call:

            def interrupt_and_let_go() -> None:
                while not board.pump._turns.waiting:
                    time.sleep(0)
                interrupt(me, said)
                call.goes_on.set()

            threading.Thread(target=interrupt_and_let_go).start()
            assert add(3, 4) == 7
        assert [text.partition(" a request")[0] for text in said] == [
            f"RequestError: <Board {server.path}> is used from within"
        ]


# --- closing ---------------------------------------------------------------------------------


def test_closing_ends_the_request_of_another_thread_and_says_nothing_to_the_board(server: PtyServer) -> None:
    board = microrpc.connect(server.path, link=False)
    array = board.array([1, 2, 3])
    with calling(server, board) as call:
        frames = server.device.stats.frames_received
        board.close()
        call.thread.join(LIMIT_S)
        assert call.came == [
            f"ClosedError: the connection to {server.path} was closed during this request, which may have run; "
            "connect again"
        ]
    board.close()
    assert frames_heard(server) == frames
    del array


def test_closing_ends_the_request_of_another_task_and_says_nothing_to_the_board(server: PtyServer) -> None:
    async def test() -> None:
        board = await aio.connect(server.path, link=False)
        goes_on = hold(server)
        held, add = await board.function("held"), await board.function("add")
        frames = server.device.stats.frames_received
        call, waiting = asyncio.create_task(held()), asyncio.create_task(add(1, 2))
        while server.device.stats.frames_received == frames:
            await asyncio.sleep(0)
        await asyncio.gather(board.close(), board.close())
        with pytest.raises(ClosedError, match="closed during this request, which may have run"):
            await call
        with pytest.raises(ClosedError, match="closed here"):
            await waiting
        goes_on.set()
        assert frames_heard(server) == frames + 1

    asyncio.run(asyncio.wait_for(test(), LIMIT_S))


def test_a_request_that_is_soon_done_is_waited_for_and_the_memory_is_given_back(
    server: PtyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microrpc.client.pump.GRACE_S", LIMIT_S)  # as long as "soon" is on a busy computer
    board = microrpc.connect(server.path)
    array = board.array([1, 2, 3])
    with calling(server, board) as call:
        closing = threading.Thread(target=board.close)
        closing.start()
        while not board.pump.closed:
            time.sleep(0)
        call.goes_on.set()
        closing.join(LIMIT_S)
    assert call.came == ["7"]
    assert not server.device.memory.blocks
    del array


def test_who_waits_for_a_turn_when_a_board_is_closed_is_told_at_once(server: PtyServer) -> None:
    board, came = microrpc.connect(server.path), []
    add = board.function("add")
    with calling(server, board):
        waiting = threading.Thread(target=lambda: came.append(outcome(lambda: add(1, 2))))
        waiting.start()
        while not board.pump._turns.waiting:
            time.sleep(0)
        board.close()
        waiting.join(LIMIT_S)
    assert came == [f"ClosedError: the connection to {server.path} is closed (it was closed here); connect again"]


def test_closing_ends_a_request_that_waits_for_its_port_to_come_back() -> None:
    looks: list[float] = []

    def refuse(name: str, timeout_s: float) -> LoopbackChannel:
        looks.append(timeout_s)
        raise PortError(name, "it is not there")

    class Gone(LoopbackChannel):
        def read(self, deadline: float) -> bytes:
            if looks:
                raise PortLostError(self.name, f"{self.name} went away")
            return super().read(deadline)

    board = microrpc.open_board(
        Gone(Device()),
        Timeouts(),
        reopen=Reopening(LostPort("loop://", wait_s=60.0), refuse),
        wrap=lambda channel: channel,
    )
    looks.append(0.0)
    with pytest.raises(PortLostError):
        board.max_packet_bytes()
    came: list[str] = []
    waiting = threading.Thread(target=lambda: came.append(outcome(board.max_packet_bytes)))
    waiting.start()
    while len(looks) < 2:
        time.sleep(0)
    board.close()
    waiting.join(5)
    assert came == ["ClosedError: the connection to loopback is closed (the port went away); connect again"]


def test_who_waits_while_a_port_is_looked_for_is_told_that_it_is_in_use() -> None:
    is_looking, is_done = threading.Event(), threading.Event()

    class Gone(LoopbackChannel):
        def read(self, deadline: float) -> bytes:
            raise PortLostError(self.name, f"{self.name} went away")

    def reopen() -> LoopbackChannel:
        is_looking.set()
        assert is_done.wait(LIMIT_S)
        raise PortError("loopback", "it is not there")

    board, channel = make(reopen=reopen)
    add = board.function("add")
    channel.read = Gone(channel.device).read
    with pytest.raises(PortLostError):
        add(1, 2)
    looking = threading.Thread(target=lambda: outcome(lambda: add(1, 2)))
    looking.start()
    assert is_looking.wait(LIMIT_S)
    with pytest.raises(CallTimeoutError, match="in use by another thread"):
        add(1, 2, timeout_s=0.01)
    is_done.set()
    looking.join(LIMIT_S)


def test_ctrl_c_while_closing_waits_for_its_turn_leaves_a_board_that_is_closed_for_all() -> None:
    class Interrupted(Turns):
        is_next = True

        def wait(self, timeout_s: float | None) -> bool:
            has_turn = super().wait(timeout_s)
            if self.is_next:
                self.is_next = False
                raise KeyboardInterrupt
            return has_turn

    board, _ = make()
    add, came = board.function("add"), []
    turns = board.pump._turns = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        board.close()
    assert turns.owner == 0
    board.close()
    other = threading.Thread(target=lambda: came.append(outcome(lambda: add(1, 2))), daemon=True)
    other.start()
    other.join(LIMIT_S)
    assert [came[0], outcome(lambda: add(1, 2))] == [
        "ClosedError: the connection to loopback is closed (it was closed here); connect again"
    ] * 2


def test_ctrl_c_as_a_turn_is_passed_on_locks_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    board, _ = make()
    add, came = board.function("add"), []
    waiting = threading.Thread(target=lambda: came.append(outcome(lambda: add(1, 2))))
    array = board.array([1])

    def let_one_wait(done_bytes: int, total_bytes: int) -> None:
        waiting.start()
        while not board.pump._turns.waiting:
            time.sleep(0)

    def interrupt(self: Turns) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Turns, "pass_on", interrupt)
        with pytest.raises(KeyboardInterrupt):
            array.write([2], on_progress=let_one_wait)
    assert add(3, 4) == 7
    waiting.join(LIMIT_S)
    assert came == ["3"]


# --- copies ----------------------------------------------------------------------------------


def live_objects(board: Any) -> dict[str, Any]:
    trace = Trace()
    return {
        "board": board,
        "function": board.function("add"),
        "module": board.system_library(),
        "array": board.array([1, 2, 3]),
        "view": board.array_at(0x20000000, 1, "int8"),
        "stream": board.create_stream(),
        "pump": board.pump,
        "channel": board.pump._channel,
        "tapped": tapped(trace)(getattr(board.pump._channel, "target", board.pump._channel)),
    }


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_no_live_object_is_copied_and_the_board_goes_on(
    api: Api, server: PtyServer, duplicate: Callable[[Any], Any]
) -> None:
    with api.connect(server.path) as board:
        things = live_objects(board)
        for name, thing in things.items():
            plain = thing.target if isinstance(thing, Waiting) else thing
            with pytest.raises(TypeError, match="cannot be copied or pickled: it is ") as caught:
                duplicate({"held": [plain]} if duplicate is not copy.copy else plain)
            advice = {"array": "x.numpy()", "view": "x.numpy()"}.get(name, "another process connects")
            assert advice.lower() in str(caught.value).lower(), name
        del caught
        gc.collect()
        assert things["function"](1, 2) == 3
        assert list(things["array"].numpy()) == [1, 2, 3]


# --- boards that nobody closes -------------------------------------------------------------------


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
def test_a_board_that_nobody_has_any_more_gives_its_port_back_at_once_and_warns(api: Api, server: PtyServer) -> None:
    board = api.connect(server.path)
    library = board.system_library()
    assert library.find("add")(1, 2) == board.function("add")(1, 2) == 3
    array = board.array([1, 2, 3])
    del library
    frames = server.device.stats.frames_received
    kind = "Board" if isinstance(api, BlockingApi) else "AsyncBoard"
    with pytest.warns(ResourceWarning, match=f"unclosed <{kind} {server.path}>"):
        del board, array
    assert server.device.stats.frames_received == frames, "a finalizer says nothing"
    microrpc.connect(server.path).close()


def test_a_board_in_memory_holds_nothing_and_warns_of_nothing() -> None:
    board, channel = make()
    del board
    with pytest.raises(PortLostError):
        channel.read(0.0)


def test_a_dropped_board_ends_what_was_started_for_it(api: Api) -> None:
    threads = threading.active_count()
    board = api.connect("sim://")
    with pytest.warns(ResourceWarning, match="unclosed"):
        del board
    assert threading.active_count() == threads


# --- the end of a program --------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["pass", "raise ValueError('uncaught')"])
def test_what_a_program_leaves_open_is_closed_at_its_end(server: PtyServer, end: str) -> None:
    program = f"""
import sys, microrpc
board = microrpc.connect(sys.argv[1])
arrays = [board.array(range(10)) for _ in range(10)]
print(arrays[3].numpy().sum())
{end}
"""
    ran = subprocess.run([sys.executable, "-c", program, server.path], capture_output=True, text=True, timeout=30)
    assert ran.stdout == "45\n"
    assert not server.device.memory.blocks
    assert ran.stderr == "" or ran.stderr.endswith("ValueError: uncaught\n")


def test_what_a_program_registers_for_its_end_may_use_its_boards_and_those_left_open_warn(server: PtyServer) -> None:
    program = """
import asyncio, atexit, sys, microrpc
atexit.register(lambda: print(add(1, 2)))

async def main():
    global other
    other = await microrpc.aio.connect(sys.argv[1])

asyncio.run(main())
print("used")
asyncio_board, other = other, None
board = microrpc.connect("sim://")
add = board.function("add")
"""
    command = [sys.executable, "-W", "default", "-c", program, server.path]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ran.stdout == "used\n3\n"
    assert "Exception ignored" not in ran.stderr
    for unclosed in (
        f"unclosed <AsyncBoard {server.path}>: await its close()",
        "unclosed <Board sim://>: call its close",
    ):
        assert ran.stderr.count(unclosed) == 1


def test_what_goes_wrong_with_one_board_at_the_end_of_a_program_stops_no_other() -> None:
    def fail() -> None:
        raise RuntimeError("on_close")

    boards = [make(on_close=fail), make(), make(on_close=fail)]
    with pytest.raises(RuntimeError, match="on_close"):
        _close_all()
    for board, channel in boards:
        assert board.pump.closed
        with pytest.raises(PortLostError):
            channel.read(0.0)


@pytest.mark.usefixtures("no_collection")
def test_a_board_that_is_garbage_gives_its_port_back_when_that_is_connected_to_again(
    api: Api, server: PtyServer
) -> None:
    class Rig:
        """Refers to its board, which refers to it."""

        def __init__(self) -> None:
            self.board = api.connect(server.path, on_log=self.note)

        def note(self, text: str) -> None:
            raise NotImplementedError

    rig = Rig()
    with pytest.raises(microrpc.PortBusyError, match="this very program"):
        Rig()
    del rig
    with pytest.warns(ResourceWarning, match="unclosed"):
        Rig().board.close()


def test_boards_whose_program_ends_are_said_goodbye_to_unless_a_request_was_interrupted() -> None:
    sent: list[bytes] = []
    board, channel = make()
    array = board.array([1])
    channel.to_device = lambda data: sent.append(data) or b""
    with pytest.raises(MicroRpcError):
        array.numpy()
    sent.clear()
    board.pump.close_at_exit(1.0)
    assert sent == []
    with pytest.raises(PortLostError):
        channel.read(0.0)
    with pytest.raises(ClosedError, match="the program ends"):
        array.numpy()


def test_all_boards_of_a_program_that_ends_are_closed_within_a_second() -> None:
    boards = [make() for _ in range(4)]
    arrays = [board.array([1]) for board, _ in boards]
    for _, channel in boards[:3]:
        channel.to_device = lambda data: b""
    before = [channel.now() for _, channel in boards]
    _close_all()
    taken = sorted(channel.now() - start for (_, channel), start in zip(boards, before, strict=True))
    assert taken[0] == 0.0
    assert 0 < taken[1] < 0.5, "each has its share of what is left"
    assert taken[3] <= 1.0
    assert sum(not channel.device.memory.blocks for _, channel in boards) == 1
    assert all(board.pump.closed == "it was closed here" for board, _ in boards)
    del arrays


def test_a_request_of_another_thread_does_not_hold_up_the_end_of_a_program(server: PtyServer) -> None:
    board = microrpc.connect(server.path, link=False)
    with calling(server, board) as call:
        frames = server.device.stats.frames_received
        with pytest.warns(ResourceWarning, match="unclosed <Board"):
            board.pump.close_at_exit(1.0)
        call.thread.join(LIMIT_S)
        assert call.came[0].startswith("ClosedError")
    assert frames_heard(server) == frames


def test_a_pump_that_was_never_whole_is_dropped_in_silence() -> None:
    pump = Pump.__new__(Pump)
    del pump


# --- closed while its port comes back ---------------------------------------------------------


def test_a_board_that_is_closed_while_its_port_comes_back_gives_it_back() -> None:
    sim, closing, came_back = SimBoard(LOOPBACK), threading.Event(), []

    def reopen() -> LineChannel:
        closing.set()
        while not board.pump._is_closing:
            time.sleep(0)
        came_back.append(sim.open_channel())
        return came_back[0]

    board = microrpc.open_board(sim.open_channel(), LOOPBACK.timeouts, seed=0, reopen=reopen)
    sim.unplug()
    with pytest.raises(PortLostError):
        board.function("add")
    sim.plug()
    closer = threading.Thread(target=lambda: (closing.wait(), board.close()))
    closer.start()
    with pytest.raises(ClosedError, match="the connection to sim://loopback is closed"):
        board.function("add")
    closer.join()
    with pytest.raises(PortLostError, match="closed by this program"):
        came_back[0].read(0.0)


def test_an_asyncio_board_that_is_closed_while_its_port_comes_back_gives_it_back() -> None:
    sim, came_back = SimBoard(LOOPBACK), []

    async def reopen() -> aio.AsyncChannel:
        closings.append(asyncio.ensure_future(board.close()))
        while not board.pump._is_closing:
            await asyncio.sleep(0)
        came_back.append(sim.open_channel())
        return aio.InMemoryChannel(came_back[0])

    closings: list[asyncio.Future[None]] = []

    async def main() -> None:
        nonlocal board
        first = aio.InMemoryChannel(sim.open_channel())
        board = await aio.open_board(first, LOOPBACK.timeouts, seed=0, reopen=reopen)
        sim.unplug()
        with pytest.raises(PortLostError):
            await board.function("add")
        sim.plug()
        with pytest.raises(ClosedError, match="the connection to sim://loopback is closed"):
            await board.function("add")
        await closings[0]

    board: aio.AsyncBoard
    asyncio.run(main())
    with pytest.raises(PortLostError, match="closed by this program"):
        came_back[0].read(0.0)
