"""Events as users get them, with both clients and in virtual time, where nothing listens but requests and polls."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
from typing import Any

import numpy as np
import pytest
from apis import Api, AsyncioApi, BlockingApi
from forks import outcome

import microrpc
from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from firmware_sim.running.loopback import LoopbackChannel
from microrpc import aio
from microrpc.errors import ClosedError, FeatureMissingError, PortLostError, RequestError
from microrpc.wire.events import Event
from microrpc.wire.session import Timeouts


def make(api: Api, **options: Any) -> tuple[Any, Device]:
    device = Device(**options)
    install(device)
    return api.open_board(LoopbackChannel(device), Timeouts()), device


def numbers(events: list[Event]) -> list[int]:
    return [event.number for event in events]


def test_a_handler_is_called_in_the_middle_of_a_call_with_all_that_an_event_has(api: Api) -> None:
    board, device = make(api)
    got: list[Event] = []
    board.on_event("sample", got.append)
    board.poll(0.1)
    device.clock.sleep(1.4)
    assert board.function("emit")("sample", 2, 3, 0) == 2
    assert got == [
        Event(0, "sample", (0, b"\x00\x01\x02"), 1_500_000, boot=device.boot_id),
        Event(1, "sample", (1, b"\x01\x02\x03"), 1_500_000, boot=device.boot_id),
    ]


def test_events_come_while_a_copy_is_under_way(api: Api) -> None:
    board, device = make(api)
    got: list[Event] = []
    board.on_event(None, got.append)
    board.poll(0.1)
    board.array(np.zeros(20_000, "uint8"), on_progress=lambda done, total: device.event("sample", done))
    assert len(got) > 2
    assert numbers(got) == list(range(len(got)))


def test_a_poll_takes_what_comes_and_gives_how_many_events_that_were(api: Api) -> None:
    board, device = make(api)
    got: list[Event] = []
    assert board.poll(0.5) == 0
    assert device.clock.now() == 0.5, "it is a wait, too"
    board.on_event(None, got.append)
    assert board.poll(0.1) == 0
    device.event("sample", 1)
    device.event("button")
    assert board.poll() == 2
    assert [(event.name, event.values) for event in got] == [("sample", (1,)), ("button", ())]


def test_events_are_read_one_after_the_other_until_none_comes_for_so_long(api: Api) -> None:
    board, device = make(api)
    samples = board.events("sample", timeout_s=2.0)
    board.poll(0.1)
    for number in range(3):
        device.event("sample", number)
        device.event("other", number)
    began_at = device.clock.now()
    assert [event.value for event in samples] == [0, 1, 2]
    assert device.clock.now() == began_at + 2.0
    device.event("sample", 3)
    assert [event.value for event in samples] == [3], "another loop goes on"
    assert list(board.events(timeout_s=0)) == []


def test_what_was_missed_is_told_with_the_next_event_and_at_the_tail(api: Api) -> None:
    board, device = make(api)
    got: list[Event] = []
    device.event("sample")  # before anybody asked
    board.on_event("sample", got.append)
    board.poll(0.1)
    device.event("sample", 1)
    device._events._credit_bytes = 0
    device.event("sample", 2)
    device.event("button", 3)
    board.poll(1.0)
    assert [(event.values, event.missed, event.is_gap) for event in got] == [((1,), 0, False), ((), 2, True)]
    device.event("sample", 4)
    board.poll()
    assert (got[-1].values, got[-1].missed) == ((4,), 0)


def test_reliable_events_are_delivered_once_in_order_over_a_new_session(api: Api) -> None:
    board, device = make(api)
    got: list[Event] = []
    board.on_event("sample", got.append)
    board.poll(0.1)
    for number in range(5):
        assert device.event("sample", number, reliable=True)
    board.pump.connection.trust.doubt = "a test of doubt"
    board.poll(1.0)
    for number in range(5, 8):
        assert device.event("sample", number, reliable=True)
    board.poll(1.0)
    assert [event.value for event in got] == list(range(8))
    assert {event.reliable for event in got} == {True}


def test_a_subscription_holds_over_a_reset_and_the_next_request_tells_of_that(api: Api) -> None:
    board, device = make(api)
    events = board.events("sample", timeout_s=1.0)
    add = board.function("add")
    board.poll(0.1)
    device.event("sample", 1)
    assert [(event.value, event.boot) for event in events] == [(1, device.boot_id)]
    device.reset()
    board.poll(0.5)
    device.event("sample", 2)
    assert [(event.value, event.number, event.boot) for event in events] == [(2, 0, device.boot_id)]
    with pytest.raises(microrpc.BoardResetError) as caught:
        add(1, 2)
    assert not caught.value.may_have_run
    assert board.function("add")(1, 2) == 3


def test_what_a_handler_raises_is_logged_and_breaks_no_call(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    board, _ = make(api)
    got: list[Event] = []
    board.on_event("sample", lambda event: 1 / 0)
    board.on_event("sample", got.append)
    board.poll(0.1)
    assert board.function("emit")("sample", 2, 0, 0) == 2
    assert numbers(got) == [0, 1]
    told = [record for record in caplog.records if record.name == "microrpc.events"]
    assert [record.getMessage() for record in told] == ["loopback: a handler of the event 'sample' raised"] * 2
    assert told[0].exc_info is not None
    assert told[0].exc_info[0] is ZeroDivisionError


def test_a_board_that_is_used_in_a_handler_refuses_and_the_request_goes_on() -> None:
    board, _ = make(BlockingApi())
    add, said = board.function("add"), []
    events = board.events()

    def use(event: Event) -> None:
        said.append(outcome(lambda: add(1, 2)))
        said.append(outcome(board.poll))
        said.append(outcome(board.close))
        said.append(outcome(lambda: next(events)))

    board.on_event("sample", use)
    board.poll(0.1)
    assert board.function("emit")("sample", 1, 0, 0) == 1
    assert len(said) == 4
    assert all(each.startswith("RequestError: <Board loopback> is used from within a request") for each in said)
    assert "the handler of an event" in said[0]
    assert add(1, 2) == 3


def test_a_handler_of_asyncio_may_start_a_task_which_waits_for_its_turn() -> None:
    async def test() -> None:
        device = Device()
        install(device)
        tasks = []
        async with aio.open_board(aio.InMemoryChannel(LoopbackChannel(device)), Timeouts()) as board:
            add, emit = await board.function("add"), await board.function("emit")
            board.on_event("sample", lambda event: tasks.append(asyncio.ensure_future(add(event.number, 1))))
            await board.poll(0.1)
            assert await emit("sample", 2, 0, 0) == 2
            assert await asyncio.gather(*tasks) == [1, 2]

    asyncio.run(test())


def test_a_subscription_ends_when_it_is_closed_and_the_board_is_told(api: Api) -> None:
    board, device = make(api)
    got: list[Event] = []
    with board.on_event("sample", got.append):
        board.poll(0.1)
        device.event("sample")
        board.poll()
    board.poll()
    assert not device.event("sample"), "there is no credit"
    board.poll(1.0)
    assert numbers(got) == [0]


def test_an_iterator_that_is_closed_or_dropped_wants_nothing_more(api: Api) -> None:
    board, device = make(api)
    events = board.events()
    board.poll(0.1)
    device.event("sample")
    board.poll()
    events.close()
    assert list(events) == []
    other = board.events(timeout_s=0.1)
    assert list(other) == []
    del other
    gc.collect()  # the errors that ended its loop have frames, which have it
    board.poll()
    assert not device.event("sample")


def test_who_does_not_read_gets_no_more_and_reliable_events_wait_for_him(api: Api) -> None:
    board, device = make(api, event_ring_bytes=1 << 20)
    events = board.events(timeout_s=1.0)
    board.poll(0.1)
    for number in range(3000):
        assert device.event("sample", number, reliable=True)
        board.poll(0.001)
    board.poll(1.0)
    assert device.event("sample", 3000, reliable=True)
    assert not device._events._credit_bytes > 4096
    assert 1024 <= len(board.pump.subscriptions._all()[0]._events) < 1400
    assert [event.value for event in events] == list(range(3001))


@pytest.mark.parametrize("options", [{"firmware": "stock"}, {"link": False}, {"features": None}])
def test_a_board_without_events_says_so_where_they_are_asked_for(api: Api, options: dict[str, Any]) -> None:
    board, _ = make(api, **options)
    assert board.poll() == 0, "nobody wants any"
    with pytest.raises(FeatureMissingError):
        next(board.events())
    with board.on_event("sample", print), pytest.raises(FeatureMissingError):
        board.poll()
    assert board.function("add")(1, 2) == 3


def test_what_cannot_be_subscribed_is_refused(api: Api) -> None:
    board, _ = make(api)

    async def handler(event: Event) -> None:
        pass

    with pytest.raises(RequestError, match="the name of an event is a text, or None for all of them, not 3"):
        board.on_event(3, print)
    with pytest.raises(RequestError, match="the name of an event"):
        board.events(b"sample")
    with pytest.raises(RequestError, match="what is called with events is a function, not None"):
        board.on_event("sample", None)
    with pytest.raises(RequestError, match="must be awaited, and what is called with events is not"):
        board.on_event("sample", handler)
    for timeout_s in (-1, float("nan"), "1"):
        with pytest.raises(RequestError, match="timeout_s"):
            board.events(timeout_s=timeout_s)
        with pytest.raises(RequestError, match="timeout_s"):
            board.poll(timeout_s)
    assert not board.pump.subscriptions.is_wanted


def test_events_end_when_the_board_is_closed_and_what_was_not_read_is_still_there(api: Api) -> None:
    board, device = make(api)
    events = board.events()
    board.poll(0.1)
    device.event("sample", 1)
    board.poll()
    board.close()
    assert [event.value for event in events] == [1]
    assert list(events) == []
    for use in (lambda: board.on_event(None, print), board.events, board.poll):
        with pytest.raises(ClosedError, match="closed here"):
            use()


def test_the_loss_of_the_port_is_raised_when_what_came_before_was_read(api: Api) -> None:
    device = Device()
    install(device)
    channel = LoopbackChannel(device)
    board = api.open_board(channel, Timeouts())
    events = board.events()
    board.poll(0.1)
    device.event("sample", 1)
    board.poll()
    channel.close()
    for error in (PortLostError, ClosedError):
        with pytest.raises(error):
            board.poll()
    assert next(events).value == 1
    for _ in range(2):
        with pytest.raises(PortLostError, match="loopback was closed by this program"):
            next(events)


def test_what_reads_events_is_neither_copied_nor_pickled(api: Api) -> None:
    board, _ = make(api)
    events = board.events()
    events = events.target if isinstance(api, AsyncioApi) else events
    for use in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="one end of a port"):
            use(events)
