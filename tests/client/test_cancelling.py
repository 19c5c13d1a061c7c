"""A call that may be cancelled, step by step: when the board is told, and what is raised where it cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from microrpc.client.cancelling import Cancelling, cancellable
from microrpc.errors import CallCancelledError
from microrpc.host.operation import AT_ONCE, Operation
from microrpc.host.trust import Trust


class Told:
    """A connection that can be told, or not, and what it was told when."""

    def __init__(self, *, can_be_told: bool = True) -> None:
        self.trust = Trust()
        self.told: list[float] = []
        self._can_be_told = can_be_told

    def cancel(self, now: float) -> bool:
        self.told.append(now)
        return self._can_be_told


def wait_for(data: bytes, got: list[bytes]) -> Operation[str]:
    """Wait until that comes, at the latest at 100 s."""
    while True:
        came, _ = yield 100.0
        got.append(came)
        if came == data:
            return "done"


def begin(told: Told, got: list[bytes], cancelling: Cancelling) -> Operation[Any]:
    connection: Any = told
    return cancellable(lambda: wait_for(b"end", got), connection, cancelling)


def test_it_looks_twenty_times_a_second_whether_it_is_cancelled_and_ends_as_the_operation_does() -> None:
    told, got, cancelling = Told(), list[bytes](), Cancelling("work")
    operation = begin(told, got, cancelling)
    assert next(operation) == AT_ONCE
    assert operation.send((b"", 1.0)) == 1.05
    assert operation.send((b"x", 99.98)) == 100.0
    with pytest.raises(StopIteration) as end:
        operation.send((b"end", 99.99))
    assert end.value.value == "done"
    assert got == [b"", b"x", b"end"]
    assert told.told == []


def test_a_board_that_can_be_told_is_told_once_and_what_it_says_is_sent_at_once() -> None:
    told, got, cancelling = Told(), list[bytes](), Cancelling("work")
    operation = begin(told, got, cancelling)
    next(operation)
    operation.send((b"", 1.0))
    assert cancelling.ask(), "it has begun"
    assert operation.send((b"kept", 1.05)) == AT_ONCE
    assert operation.send((b"", 1.05)) == 1.1
    assert operation.send((b"", 1.1)) == pytest.approx(1.15)
    assert told.told == [1.05]
    assert got == [b"", b"kept", b"", b""]


@pytest.mark.parametrize("is_out", [False, True])
def test_where_the_board_cannot_be_told_it_ends_and_says_whether_it_may_have_run(is_out: bool) -> None:
    told, got, cancelling = Told(can_be_told=False), list[bytes](), Cancelling("work")
    told.trust.is_out = is_out
    operation = begin(told, got, cancelling)
    next(operation)
    cancelling.ask()
    with pytest.raises(CallCancelledError, match="may go on with it" if is_out else "nothing of it was sent") as caught:
        operation.send((b"", 1.0))
    assert caught.value.may_have_run is is_out


def test_what_was_cancelled_before_it_began_does_not_begin() -> None:
    told, got, cancelling = Told(), list[bytes](), Cancelling("work")
    assert not cancelling.ask()
    with pytest.raises(CallCancelledError, match="work was cancelled while it waited for its turn") as caught:
        next(begin(told, got, cancelling))
    assert not caught.value.may_have_run
    assert got == []
