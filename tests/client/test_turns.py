"""Whose turn it is: nobody waits in a circle, over however many boards."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from forks import LIMIT_S

from microrpc.client.turns import Turns


class CrossedError(Exception):
    pass


@pytest.mark.parametrize("boards", [2, 3])
def test_threads_that_wait_for_each_others_turn_in_a_circle_do_not_wait(boards: int) -> None:
    turns = [Turns() for _ in range(boards)]
    all_have_theirs = threading.Barrier(boards)
    said: list[str] = []

    def cross(own: Turns, other: Turns) -> Callable[[], None]:
        def run() -> None:
            assert own.wait(None)
            all_have_theirs.wait(LIMIT_S)
            try:
                assert other.wait(LIMIT_S, CrossedError)
                said.append("its turn")
                give_back(other)
            except CrossedError:
                said.append("crossed")
            give_back(own)

        return run

    def give_back(own: Turns) -> None:
        own.owner = 0
        own.pass_on()

    threads = [threading.Thread(target=cross(turns[at], turns[at - 1])) for at in range(boards)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert len(said) == boards
    assert "crossed" in said
    assert Turns.waits == {}


def test_a_wait_for_somebody_who_waits_for_another_board_is_no_circle() -> None:
    first, second = Turns(), Turns()
    assert first.wait(None)
    is_waiting, has_ended = threading.Event(), threading.Event()

    def hold() -> None:
        assert second.wait(None)
        is_waiting.set()
        assert first.wait(LIMIT_S, CrossedError)
        has_ended.set()

    thread = threading.Thread(target=hold)
    thread.start()
    assert is_waiting.wait(LIMIT_S)
    came: list[bool] = []
    third = threading.Thread(target=lambda: came.append(second.wait(0.01, CrossedError)))
    third.start()
    third.join(LIMIT_S)
    assert came == [False]
    first.owner = 0
    first.pass_on()
    assert has_ended.wait(LIMIT_S)
    thread.join(LIMIT_S)
