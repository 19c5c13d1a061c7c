"""What the program is told, wherever it goes wrong: of a reset, once, and whether a request may have run."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from apis import Api, BlockingApi

from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from firmware_sim.running.loopback import LoopbackChannel
from microrpc.errors import (
    BoardResetError,
    CallTimeoutError,
    HandshakeTimeoutError,
    MicroRpcError,
    OutcomeUnknownError,
    PortLostError,
    StaleHandleError,
)
from microrpc.ports.channel import write_timeout_error
from microrpc.wire.packets import PacketCode, Return, Syscall
from microrpc.wire.session import Timeouts

TIMEOUTS = Timeouts(retry_s=0.5, start_s=5.0, call_s=2.0)
LINK = pytest.mark.parametrize("link", [False, True], ids=["frames", "link"])


class Desk:
    """A board in memory that counts the calls of `count`, and a line on which a test can strike.

    strike: called with the number of each read that brings something. fail_write, fail_read: called with the number of
    each write, and of each read, from the start, before it is done.
    """

    def __init__(self, api: Api, *, link: bool, **options: Any) -> None:
        self.device = device = Device(seed=7)
        install(device)
        self.calls = 0

        @device.function
        def count() -> int:
            self.calls += 1
            return self.calls

        @device.function
        def echo(text: str) -> str:
            return text

        self.strike: Callable[[], bool] = lambda: False
        self.fail_write: Callable[[], None] = lambda: None
        self.fail_read: Callable[[], None] = lambda: None
        self.to_host: Callable[[bytes], bytes] = lambda data: data
        self.most_taken_bytes = 1 << 30
        self.board = api.open_board(Channel(self), TIMEOUTS, seed=1, link=link, **options)


class Channel(LoopbackChannel):
    def __init__(self, desk: Desk) -> None:
        super().__init__(desk.device)
        self._desk = desk

    def read(self, deadline: float) -> bytes:
        self._desk.fail_read()
        data = super().read(deadline)
        if data and self._desk.strike():
            self.device.reset()
            data += self.device.take_output()  # its boot message comes with what it said last
        return self._desk.to_host(data) if data else data

    def write(self, data: bytes, deadline: float) -> None:
        self._desk.fail_write()
        taken = data[: self._desk.most_taken_bytes]
        super().write(taken, deadline)
        if len(taken) < len(data):
            raise write_timeout_error(self.name, len(taken), len(data))


def at(number: int) -> Callable[[], bool]:
    """Give what is true when it is called for the `number`th time, from 0 on."""
    calls = itertools.count()
    return lambda: next(calls) == number


def conversation(board: Any) -> None:
    """Ask everything that takes more than one exchange."""
    assert board.function("count")() > 0
    assert board.system_library().find("add")(2, 3) == 5
    data = np.arange(3000, dtype=np.int16)
    array = board.array(data, verify=True)
    assert np.array_equal(array.numpy(verify=True), data)
    other = board.empty(data.shape, data.dtype)
    board.copy(array, other)
    array.free()
    assert np.array_equal(other.numpy(), data)
    assert board.function("echo")("x" * 700) == "x" * 700
    assert len(board.time_evaluator("noop", number=1, repeat=2)().results) == 2
    assert isinstance(board.request(Syscall(PacketCode.GET_GLOBAL_FUNC, ("n" * 300,))), Return)
    board.max_packet_bytes()
    del array, other
    gc.collect()
    board.collect()


def reads_of_a_conversation(api: Api, *, link: bool) -> int:
    desk = Desk(api, link=link)
    reads = itertools.count()
    desk.strike = lambda: next(reads) < 0
    conversation(desk.board)
    return next(reads)


# --- resets ---------------------------------------------------------------------------------------


@pytest.mark.long
@LINK
def test_a_reset_with_any_reply_is_told_as_one_and_everything_goes_on(api: Api, link: bool) -> None:
    every = 1 if isinstance(api, BlockingApi) else 5
    reads = reads_of_a_conversation(api, link=link)
    assert reads > 30
    for number in range(0, reads, every):
        desk = Desk(api, link=link)
        desk.strike = at(number)
        told = 0
        try:
            conversation(desk.board)
            desk.board.global_function("add")  # where it came with the last reply
        except BoardResetError:
            told += 1
        conversation(desk.board)
        is_lost = number > 1 or not link  # the first two are the negotiation: nothing was asked before
        assert told == is_lost, f"read {number} of {reads}"


@LINK
def test_where_a_callback_is_told_of_it_only_what_it_breaks_fails(api: Api, link: bool) -> None:
    for number in range(0, reads_of_a_conversation(api, link=link), 7):
        resets: list[int] = []
        desk = Desk(api, link=link, on_reset=lambda resets=resets: resets.append(1))
        desk.strike = at(number)
        try:
            conversation(desk.board)
        except (BoardResetError, StaleHandleError):
            conversation(desk.board)
        assert resets == [1] * (number > 1 or not link), f"read {number}"


@LINK
def test_a_reset_during_a_look_up_that_is_repeated_is_told_by_the_next_request_once(api: Api, link: bool) -> None:
    desk = Desk(api, link=link)
    board = desk.board
    old = board.function("count")

    def reset_instead(data: bytes) -> bytes:
        desk.to_host = lambda data: data
        desk.device.reset()
        return desk.device.take_output()

    desk.to_host = reset_instead
    found = board.global_function("runtime.SystemLib")
    assert found is not None
    assert found.is_live
    with pytest.raises(BoardResetError, match="since the last request") as caught:
        board.global_function("runtime.SystemLib")
    assert not caught.value.may_have_run
    assert found() is not None
    with pytest.raises(StaleHandleError):
        old()
    assert desk.calls == 0


def test_a_stale_handle_is_how_a_reset_is_told_where_it_comes_first(api: Api) -> None:
    desk = Desk(api, link=True)
    old = desk.board.function("count")
    desk.strike = at(0)
    desk.board.global_function("add")
    with pytest.raises(BoardResetError, match="from before") as caught:
        old()
    assert not caught.value.may_have_run
    with pytest.raises(StaleHandleError):
        old()
    assert desk.board.function("count")() == 1


def test_a_callback_is_called_instead_and_may_fail(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    def on_reset() -> None:
        told.append("reset")
        raise ValueError("a bug of the program")

    desk = Desk(api, link=True, on_reset=on_reset)
    desk.board.function("count")
    desk.device.reset()
    assert desk.board.function("count")() == 1
    assert told == ["reset"]
    assert "on_reset raised" in caplog.text
    desk.device.reset()
    desk.board.max_packet_bytes()
    assert told == ["reset", "reset"]


@LINK
def test_what_an_operation_made_for_itself_is_lost_by_a_reset_and_not_by_the_program(api: Api, link: bool) -> None:
    desk = Desk(api, link=link, on_reset=lambda: None)
    kept = desk.board.array([1.0])
    desk.strike = at(0)
    with pytest.raises(BoardResetError, match="from before") as caught:  # it comes with the address
        desk.board.array([1.0])
    assert not kept.is_live
    assert caught.value.may_have_run
    assert desk.board.array([1.0]).numpy().tolist() == [1.0]


def test_a_board_of_which_nothing_was_asked_has_lost_nothing(api: Api) -> None:
    told: list[str] = []
    for options in ({}, {"on_reset": lambda: told.append("reset")}):
        desk = Desk(api, link=True, **options)
        desk.device.reset()  # as one that boots when its port is opened
        assert desk.board.function("count")() == 1
    assert told == []


@LINK
def test_the_reset_that_an_error_asked_for_is_no_news_to_the_program_but_to_a_callback(api: Api, link: bool) -> None:
    told: list[str] = []
    for options in ({}, {"on_reset": lambda: told.append("reset")}):
        desk = Desk(api, link=link, **options)
        old = desk.board.function("count")
        desk.to_host = lambda data: b""
        with pytest.raises(CallTimeoutError):
            old()
        with pytest.raises(HandshakeTimeoutError, match="reset it"):
            old()
        desk.to_host = lambda data: data
        desk.device.reset()
        assert desk.board.function("count")() == 2
        with pytest.raises(StaleHandleError):
            old()
    assert told == ["reset"]


# --- what may have run ----------------------------------------------------------------------------


def every_failure(api: Api, error: MicroRpcError, where: str, *, link: bool) -> Iterator[tuple[Desk, bool, Exception]]:
    """Fail the first, the second, ... write or read of a call that frees an array first, and begins a new session.

    Gives the desk, whether the call was executed, and what it raised.
    """
    for number in itertools.count():
        desk = Desk(api, link=link)
        count, array = desk.board.function("count"), desk.board.array([1.0])
        array.discard()
        desk.board.operations.connection.trust.doubt = "a test"
        is_due = at(number)

        def fail(is_due: Callable[[], bool] = is_due) -> None:
            if is_due():
                raise error

        setattr(desk, where, fail)
        try:
            count()
        except (OutcomeUnknownError, PortLostError) as raised:
            yield desk, desk.calls > 0, raised
        else:
            return


@LINK
@pytest.mark.parametrize("where", ["fail_write", "fail_read"])
def test_a_port_that_goes_away_at_any_moment_tells_whether_the_call_ran(api: Api, where: str, link: bool) -> None:
    outcomes = []
    for _, has_run, error in every_failure(api, PortLostError("sim", "gone"), where, link=link):
        assert isinstance(error, PortLostError)
        assert error.may_have_run == has_run
        outcomes.append(has_run)
    assert len(outcomes) > 3
    assert outcomes == sorted(outcomes)
    assert outcomes[-1] == (where == "fail_read")


@LINK
def test_a_port_that_takes_nothing_before_the_call_was_sent_tells_that_it_did_not_run(api: Api, link: bool) -> None:
    full = CallTimeoutError("the port is full", may_have_run=False)
    failures = list(every_failure(api, full, "fail_write", link=link))
    assert len(failures) > 3
    assert all(not error.may_have_run for _, _, error in failures)  # type: ignore[attr-defined]
    assert not any(has_run for _, has_run, _ in failures)


@pytest.mark.parametrize(
    "error", [CallTimeoutError("the port is full", may_have_run=False), PortLostError("sim", "gone")]
)
def test_a_repetition_that_the_port_does_not_take_is_of_a_call_that_may_have_run(
    api: Api, error: MicroRpcError
) -> None:
    desk = Desk(api, link=True)
    count = desk.board.function("count")
    count()

    def fail_from_now_on(data: bytes) -> bytes:
        def fail() -> None:
            raise error

        desk.fail_write = fail
        return b""  # the answer is lost, so that the request is repeated

    desk.to_host = fail_from_now_on
    with pytest.raises(type(error)) as caught:
        count()
    assert desk.calls == 2
    assert caught.value.may_have_run  # type: ignore[attr-defined]


@LINK
@pytest.mark.parametrize(
    "failure", [CallTimeoutError("the port is full", may_have_run=False), PortLostError("sim", "gone")]
)
def test_a_copy_whose_port_fails_after_its_first_block_may_have_run(
    api: Api, link: bool, failure: MicroRpcError
) -> None:
    for number in range(1, 4):
        desk = Desk(api, link=link)
        array = desk.board.empty(60_000, "uint8")
        array.numpy()  # so that what must be asked once is known
        address = array.tensor.data
        is_due = at(number)

        def fail(is_due: Callable[[], bool] = is_due) -> None:
            if is_due():
                raise failure

        desk.fail_write = fail
        with pytest.raises(type(failure)) as caught:
            array.write(np.ones(60_000, np.uint8))
        assert caught.value.may_have_run  # type: ignore[attr-defined]
        assert bytes(desk.device.memory.view(address, 60_000)) != bytes(60_000)


@LINK
def test_a_port_that_takes_one_block_of_several_took_one_that_may_have_run(api: Api, link: bool) -> None:
    desk = Desk(api, link=link, ring_bytes=4200)
    array = desk.board.empty(4000, "uint8")
    array.numpy()
    address = array.tensor.data
    desk.most_taken_bytes = 2500
    with pytest.raises(CallTimeoutError, match="took only 2500 of") as caught:
        array.write(np.ones(4000, np.uint8))
    assert bytes(desk.device.memory.view(address, 4000)) != bytes(4000)
    assert caught.value.may_have_run
    desk.most_taken_bytes = 1 << 30
    array.write(np.ones(4000, np.uint8))
    assert np.array_equal(array.numpy(), np.ones(4000, np.uint8))


@LINK
def test_a_reset_that_is_seen_after_a_part_of_a_copy_says_that_this_part_may_have_run(api: Api, link: bool) -> None:
    desk = Desk(api, link=link)
    array = desk.board.empty(60_000, "uint8")
    array.numpy()
    desk.strike = at(1)
    with pytest.raises(BoardResetError) as caught:
        array.write(np.ones(60_000, np.uint8))
    assert caught.value.may_have_run


def test_both_clients_keep_why_nothing_can_be_asked_any_more(api: Api) -> None:
    desk = Desk(api, link=True)
    count = desk.board.function("count")
    pump = desk.board.pump if isinstance(api, BlockingApi) else desk.board.target.pump

    def close_and_lose() -> None:
        pump.closed = "it was closed here"
        raise PortLostError("sim", "closed by this program")

    desk.fail_read = close_and_lose
    with pytest.raises(PortLostError):
        count()
    assert pump.closed == "it was closed here"
