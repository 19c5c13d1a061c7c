"""What a listener does, step by step: how long it waits, when it makes way, and what it leaves for others to tell."""

from __future__ import annotations

import math

import pytest

from microrpc.client.listening import (
    BUSY_S,
    LONGEST_PAUSE_S,
    LONGEST_WAIT_S,
    Patience,
    Wait,
    politely,
    wait_until,
    weakly,
)
from microrpc.errors import BoardResetError, RequestError
from microrpc.host.operation import AT_ONCE, Operation


def test_it_waits_until_something_is_due_and_no_shorter_than_a_moment() -> None:
    for hears_all in (False, True):
        assert wait_until(5.0, "port", 3.0, hears_all=hears_all) == Wait("port", 2.0)
        assert wait_until(AT_ONCE, "port", 3.0, hears_all=hears_all) == Wait("port", 0.002)
    assert wait_until(math.inf, "port", 3.0, hears_all=False) == Wait(None, LONGEST_WAIT_S)
    assert wait_until(math.inf, "port", 3.0, hears_all=True) == Wait("port", LONGEST_WAIT_S)


def test_a_board_in_trouble_is_left_alone_longer_each_time() -> None:
    patience = Patience()
    assert [patience.after(True) for _ in range(7)] == [0.5, 1.0, 2.0, 4.0, 8.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    assert patience.after(False) == 0.0
    assert patience.after(True) == 0.5


def listening(got: list[bytes], closed: list[str]) -> Operation[int]:
    try:
        while True:
            data, _ = yield 100.0
            got.append(data)
            if data == b"reset":
                raise BoardResetError("it was reset")
            if data == b"refused":
                raise RequestError("it has no events")
            if data == b"end":
                return 1
    finally:
        closed.append("closed")


def test_it_makes_way_when_somebody_waits_but_takes_what_came_before() -> None:
    got, closed = list[bytes](), list[str]()
    is_waited_for = False
    operation = politely(listening(got, closed), lambda: is_waited_for)
    assert next(operation) == AT_ONCE
    assert operation.send((b"", 1.0)) == 1.0 + BUSY_S
    is_waited_for = True
    with pytest.raises(StopIteration) as end:
        operation.send((b"more", 1.01))
    assert end.value.value is None
    assert got == [b"", b"more"]
    assert closed == ["closed"]


def test_it_ends_when_there_is_nothing_to_do() -> None:
    got, closed = list[bytes](), list[str]()
    operation = politely(listening(got, closed), lambda: False)
    next(operation)
    with pytest.raises(StopIteration) as end:
        operation.send((b"end", 1.0))
    assert end.value.value is None


def test_what_a_request_is_to_tell_is_given_and_not_raised() -> None:
    operation = politely(listening([], []), lambda: False)
    next(operation)
    with pytest.raises(StopIteration) as end:
        operation.send((b"reset", 1.0))
    assert isinstance(end.value.value, BoardResetError)
    operation = politely(listening([], []), lambda: False)
    next(operation)
    with pytest.raises(RequestError):
        operation.send((b"refused", 1.0))


def test_what_is_called_weakly_is_not_kept() -> None:
    class Thing:
        def __init__(self) -> None:
            self.calls = 0

        def call(self) -> None:
            self.calls += 1

    thing = Thing()
    call = weakly(thing.call)
    call()
    assert thing.calls == 1
    del thing
    call()
