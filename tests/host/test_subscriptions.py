"""Who wants which events: each gets those of its name, in order, and knows what it missed; nobody breaks another."""

from __future__ import annotations

import copy
import gc
import pickle

import pytest

from microrpc.host.subscriptions import QUEUE_EVENTS, EventQueue, Subscriptions
from microrpc.wire.events import Event


class Told:
    """Subscriptions, and what they told."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.wishes = self.arrivals = 0
        self.all = Subscriptions(self.failures.append, self.note_wish)

    def note_wish(self) -> None:
        self.wishes += 1

    def note_arrival(self) -> None:
        self.arrivals += 1

    def queue(self, name: str = "") -> EventQueue:
        return self.all.queue(name, self.note_arrival)


def event(number: int, name: str = "sample", missed: int = 0) -> Event:
    return Event(number, name, (number,), missed=missed)


def gap(missed: int) -> Event:
    return Event(0, "", missed=missed)


def read_all(queue: EventQueue) -> list[Event]:
    found = []
    while (one := queue.read()) is not None:
        found.append(one)
    return found


def test_each_gets_the_events_of_its_name_in_order_and_none_stands_for_all() -> None:
    told = Told()
    samples, every, others = told.queue("sample"), told.queue(), told.queue("other")
    for one in (event(0), event(1, "button"), event(2)):
        told.all.deliver(one)
    assert [one.number for one in read_all(samples)] == [0, 2]
    assert [one.number for one in read_all(every)] == [0, 1, 2]
    assert read_all(others) == []
    assert told.arrivals == 5


def test_what_was_missed_is_counted_since_the_last_event_that_a_subscriber_got() -> None:
    told = Told()
    samples, every = told.queue("sample"), told.queue()
    for one in (event(0), event(3, "button", missed=2), event(5, missed=1)):
        told.all.deliver(one)
    assert [one.missed for one in read_all(samples)] == [0, 3]
    assert [one.missed for one in read_all(every)] == [0, 2, 1]


def test_a_gap_at_the_tail_is_told_to_everybody_with_all_that_each_missed() -> None:
    told = Told()
    samples, buttons = told.queue("sample"), told.queue("button")
    told.all.deliver(event(2, "button", missed=2))
    told.all.deliver(gap(4))
    assert [(one.is_gap, one.missed) for one in read_all(samples)] == [(True, 6)]
    assert [(one.is_gap, one.missed) for one in read_all(buttons)] == [(False, 2), (True, 4)]
    told.all.deliver(event(7))
    assert [one.missed for one in read_all(samples)] == [0], "it was told"


def test_what_was_missed_before_somebody_came_is_none_of_his_business() -> None:
    told = Told()
    told.all.deliver(event(9, missed=9))
    samples = told.queue("sample")
    told.all.deliver(event(10))
    assert [one.missed for one in read_all(samples)] == [0]


def test_a_function_is_called_until_its_subscription_is_closed() -> None:
    told, got = Told(), list[int]()
    assert not told.all.is_wanted
    with told.all.call("sample", lambda one: got.append(one.number)) as subscription:
        assert told.all.is_wanted
        assert told.all.has_handlers
        assert repr(subscription) == "<Subscription of event 'sample'>"
        told.all.deliver(event(0))
        told.all.deliver(event(1, "button"))
    told.all.deliver(event(2))
    subscription.close()
    assert got == [0]
    assert not told.all.is_wanted
    assert told.wishes == 2
    assert repr(told.all.call("", print)) == "<Subscription of all events>"


def test_what_a_function_raises_is_told_and_breaks_nothing() -> None:
    told, got = Told(), list[int]()
    told.all.call("", lambda one: 1 / 0)
    told.all.call("", lambda one: got.append(one.number))
    told.all.deliver(event(0))
    told.all.deliver(event(1, "button"))
    assert got == [0, 1]
    assert told.failures == ["sample", "button"]


def test_a_function_may_leave_and_others_may_come_while_an_event_is_delivered() -> None:
    told, got = Told(), list[str]()

    def once(one: Event) -> None:
        got.append("once")
        first.close()
        told.all.call("", lambda one: got.append("new"))

    first = told.all.call("", once)
    told.all.call("", lambda one: got.append("second"))
    told.all.deliver(event(0))
    assert got == ["once", "second"]
    told.all.deliver(event(1))
    assert got[2:] == ["second", "new"]


def test_a_function_whose_subscription_another_one_closes_is_not_called_with_the_event_of_that_moment() -> None:
    told, got = Told(), list[str]()
    told.all.call("", lambda one: second.close())
    second = told.all.call("", lambda one: got.append("second"))
    told.all.deliver(event(0))
    assert got == []


def test_nothing_is_delivered_once_all_are_closed_not_even_what_came_with_the_last_event() -> None:
    told, got = Told(), list[int]()
    queue = told.queue()

    def close(one: Event) -> None:
        got.append(one.number)
        told.all.close()

    told.all.call("", close)
    for number in range(3):
        told.all.deliver(event(number))
    assert got == [0]
    assert read_all(queue) == [event(0)], "what was there can be read"
    assert queue.is_ended
    assert not told.all.is_wanted


def test_a_subscription_is_neither_copied_nor_pickled() -> None:
    told = Told()
    for thing in (told.all.call("", print), told.queue()):
        for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot be copied or pickled"):
                attempt(thing)


def test_a_full_queue_that_nobody_has_any_more_makes_way_for_the_others() -> None:
    told = Told()
    queue, other = told.queue("sample"), told.queue("button")
    for number in range(QUEUE_EVENTS):
        told.all.deliver(event(number))
    assert not told.all.has_room
    wishes = told.wishes
    del queue
    gc.collect()
    assert told.all.has_room
    assert told.wishes == wishes + 1, "who listens is told, or it would wait for ever"
    other.close()


def test_a_queue_that_was_read_while_it_was_found_full_has_room_again() -> None:
    told = Told()
    queue = told.queue()
    for number in range(QUEUE_EVENTS):
        told.all.deliver(event(number))
    read_all(queue)
    queue.is_full = True  # what another thread found before that, and notes only now
    wishes = told.wishes
    assert queue.read() is None
    assert told.all.has_room
    assert told.wishes == wishes + 1


def test_a_queue_that_nobody_has_any_more_wants_nothing() -> None:
    told = Told()
    queue = told.queue()
    assert told.all.is_wanted
    assert not told.all.has_handlers
    del queue
    gc.collect()
    assert not told.all.is_wanted
    assert told.all.has_room


def test_a_queue_that_is_full_has_no_room_until_half_of_it_was_read() -> None:
    told = Told()
    queue = told.queue("sample")
    for number in range(QUEUE_EVENTS - 1):
        told.all.deliver(event(number))
    assert told.all.has_room
    told.all.deliver(event(QUEUE_EVENTS - 1))
    assert not told.all.has_room
    told.all.deliver(event(QUEUE_EVENTS))  # it was on its way
    wishes = told.wishes
    for number in range(QUEUE_EVENTS // 2):
        assert queue.read() == event(number)
        assert not told.all.has_room
    assert told.wishes == wishes
    assert queue.read() == event(QUEUE_EVENTS // 2)
    assert told.all.has_room
    assert told.wishes == wishes + 1


def test_beyond_all_that_was_asked_for_events_are_dropped_and_counted() -> None:
    told = Told()
    queue = told.queue()
    most = QUEUE_EVENTS + 4096
    for number in range(most + 3):
        told.all.deliver(event(number))
    told.all.deliver(gap(5))
    assert len(read_all(queue)) == most
    told.all.deliver(event(most + 3))
    assert [one.missed for one in read_all(queue)] == [8]


def test_what_a_queue_has_is_read_before_its_end_is_told() -> None:
    told = Told()
    queue, error = told.queue(), ValueError("lost")
    told.all.deliver(event(0))
    told.all.end(error)
    told.all.end(None)
    assert queue.is_ended
    assert queue.read() == event(0)
    assert queue.read() is None
    assert queue.error is error
    assert told.arrivals == 2


def test_a_queue_that_is_closed_forgets_what_it_has_and_leaves() -> None:
    told = Told()
    queue = told.queue()
    told.all.deliver(event(0))
    queue.close()
    queue.close()
    told.all.deliver(event(1))
    assert queue.read() is None
    assert queue.is_ended
    assert not told.all.is_wanted
