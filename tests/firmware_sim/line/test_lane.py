"""One direction of a line: when each byte has crossed, whoever asks and however often."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim.line.lane import Lane

BYTE_S = 0.25  # a power of two: all the times below are exact


def drain(lane: Lane, until: float = math.inf) -> list[tuple[bytes, float]]:
    found = []
    while crossing := lane.take(until):
        found.append(tuple(crossing))
    return found  # type: ignore[return-value]


def test_a_run_crosses_a_byte_at_a_time() -> None:
    lane = Lane(BYTE_S)
    lane.put(b"abcd", 1.0)
    assert (lane.next_end(1), lane.next_end(), lane.idle_at()) == (1.25, 2.0, 2.0)
    assert lane.take(1.2) is None
    assert lane.take(1.6) == (b"ab", 1.5)
    assert lane.take(1.6) is None
    assert (lane.queued_bytes, lane.bytes_carried, lane.busy_s) == (2, 2, 0.5)
    assert lane.take(9.0) == (b"cd", 2.0)
    assert lane.next_end() == math.inf


def test_a_byte_has_crossed_when_only_rounding_is_missing() -> None:
    lane = Lane(BYTE_S)
    lane.put(b"a", 0.0)
    assert lane.take(BYTE_S * (1 - 1e-4)) is None
    assert lane.take(BYTE_S * (1 - 1e-9)) == (b"a", BYTE_S)


def test_runs_follow_each_other_and_none_before_it_is_there() -> None:
    lane = Lane(BYTE_S)
    for data, at in ((b"ab", 0.0), (b"c", 0.0), (b"", 0.0), (b"d", 3.0)):
        lane.put(data, at)
    assert lane.idle_at() == 3.25
    assert drain(lane, 100.0) == [(b"ab", 0.5), (b"c", 0.75), (b"d", 3.25)]


def test_a_run_that_is_put_late_crosses_before_those_of_a_later_time() -> None:
    lane = Lane(BYTE_S)
    for data, at in ((b"a", 1.0), (b"d", 5.0), (b"b", 2.0), (b"c", 2.0)):
        lane.put(data, at)
    assert lane.take(1.25) == (b"a", 1.25)
    assert drain(lane, 10.0) == [(b"b", 2.25), (b"c", 2.5), (b"d", 5.25)]


def test_no_more_is_taken_than_asked_for() -> None:
    lane = Lane(BYTE_S)
    lane.put(b"abcd", 0.0)
    assert lane.next_end(3) == 0.75
    assert lane.take(9.0, 3) == (b"abc", 0.75)
    assert lane.take(9.0, 3) == (b"d", 1.0)


def test_a_byte_that_is_on_its_way_is_finished_when_the_gate_closes() -> None:
    lane = Lane(BYTE_S)
    lane.put(b"abcd", 0.0)
    lane.set_gate(0.3, is_open=False)
    assert lane.next_end() == 0.5
    assert lane.take(9.0) == (b"ab", 0.5)
    assert lane.take(9.0) is None
    assert lane.next_end() == math.inf
    lane.set_gate(2.0, is_open=True)
    assert lane.next_end() == 2.5
    assert lane.take(9.0) == (b"cd", 2.5)


def test_a_gate_that_closes_between_two_bytes_lets_none_begin() -> None:
    lane = Lane(BYTE_S)
    lane.put(b"abcd", 0.0)
    lane.set_gate(0.5, is_open=False)
    assert lane.take(9.0) == (b"ab", 0.5)
    assert lane.take(9.0) is None


def test_a_gate_that_opens_again_before_the_run_is_no_matter() -> None:
    lane = Lane(BYTE_S)
    lane.set_gate(1.0, is_open=False)
    lane.set_gate(2.0, is_open=True)
    lane.put(b"a", 5.0)
    assert drain(lane, 9.0) == [(b"a", 5.25)]


def test_changes_of_the_gate_keep_their_order() -> None:
    lane = Lane(BYTE_S)
    lane.set_gate(2.0, is_open=False)
    lane.set_gate(1.0, is_open=True)
    lane.put(b"a", 1.9)
    lane.put(b"b", 2.5)
    assert drain(lane, 9.0) == [(b"a", 2.15), (b"b", 2.75)]


def test_an_idle_lane_and_one_between_two_runs_is_not_busy() -> None:
    lane = Lane(BYTE_S)
    lane.put(b"ab", 1.0)
    lane.put(b"c", 2.0)
    assert [lane.is_busy(at) for at in (0.9, 1.0, 1.4, 1.5, 2.0, 2.25)] == [False, True, True, False, True, False]


def test_what_waits_does_not_depend_on_who_has_taken_what() -> None:
    lane = Lane(BYTE_S)
    lane.put(b"abcd", 1.0)
    lane.put(b"ef", 1.0)
    assert [lane.waiting_bytes(at) for at in (0.0, 1.25, 1.6, 2.0)] == [6, 5, 4, 2]
    lane.take(1.25)
    assert [lane.waiting_bytes(at) for at in (1.25, 1.6, 2.0)] == [5, 4, 2]
    lane.clear()
    assert lane.waiting_bytes(9.0) == 0


def test_a_cut_keeps_what_has_crossed_by_then() -> None:
    lane = Lane(BYTE_S)
    lane.put(b"ab", 0.0)
    lane.put(b"cdef", 0.0)
    lane.put(b"g", 0.0)
    assert lane.take(0.3) == (b"a", 0.25)
    lane.cut(1.1)
    assert lane.queued_bytes == 3
    assert drain(lane, 9.0) == [(b"b", 0.5), (b"cd", 1.0)]


def test_a_cut_before_anything_began_leaves_nothing_and_the_lane_free() -> None:
    lane = Lane(BYTE_S)
    lane.put(b"ab", 5.0)
    assert lane.next_end() == 5.5
    lane.cut(1.0)
    lane.put(b"c", 2.0)
    assert drain(lane, 9.0) == [(b"c", 2.25)]


def test_a_withdrawal_keeps_what_was_handed_over_by_then() -> None:
    lane = Lane(BYTE_S)
    lane.put(b"ab", 1.0)
    lane.put(b"cd", 2.0)
    lane.withdraw(1.0)
    assert lane.queued_bytes == 2
    assert drain(lane, 9.0) == [(b"ab", 1.5)]


def test_clearing_opens_the_gate() -> None:
    lane = Lane(BYTE_S)
    lane.put(b"a", 0.0)
    lane.set_gate(0.0, is_open=False)
    lane.clear()
    lane.put(b"b", 1.0)
    assert drain(lane, 9.0) == [(b"b", 1.25)]


RUNS = st.lists(st.tuples(st.floats(0, 0.1), st.binary(max_size=40)), min_size=1, max_size=8)
GATES = st.lists(st.floats(0, 0.3), max_size=6).map(sorted)


def bytes_with_times(
    byte_s: float, runs: list[tuple[float, bytes]], gates: list[float], steps: list[tuple[float, float]]
) -> list[tuple[int, float]]:
    lane = Lane(byte_s)
    at = 0.0
    for wait, data in runs:
        at += wait
        lane.put(data, at)
    for index, moment in enumerate(gates):
        lane.set_gate(moment, is_open=bool(index % 2))
    found: list[tuple[int, float]] = []
    for until, most_bytes in [*steps, (1e9, math.inf)]:
        while crossing := lane.take(until, most_bytes):
            assert crossing.end <= until + byte_s * 1e-5
            size = len(crossing.data)
            assert size <= most_bytes
            found += [(byte, crossing.end - (size - 1 - k) * byte_s) for k, byte in enumerate(crossing.data)]
    assert lane.bytes_carried == len(found)
    assert lane.queued_bytes == sum(len(data) for _, data in runs) - len(found)
    return found


@settings(max_examples=150, deadline=None)
@given(
    byte_s=st.sampled_from([10 / 115200, 11 / 9600, 1e-6, 1 / 1024]),
    runs=RUNS,
    gates=GATES,
    steps=st.lists(st.tuples(st.floats(0, 1), st.sampled_from([1, 3, math.inf])), max_size=30).map(sorted),
)
def test_however_the_time_is_cut_the_same_bytes_cross_at_the_same_times(
    byte_s: float, runs: list[tuple[float, bytes]], gates: list[float], steps: list[tuple[float, float]]
) -> None:
    at_once = bytes_with_times(byte_s, runs, gates, [])
    in_steps = bytes_with_times(byte_s, runs, gates, steps)
    assert [byte for byte, _ in in_steps] == [byte for byte, _ in at_once]
    assert [at for _, at in in_steps] == pytest.approx([at for _, at in at_once], abs=1e-12)
    everything = b"".join(data for _, data in runs)
    assert bytes(byte for byte, _ in at_once) == everything[: len(at_once)]
    assert len(at_once) == len(everything) or len(gates) % 2 == 1, "only a closed gate keeps bytes back"
    ready = iter(
        [at for index, (_, data) in enumerate(runs) for at in [sum(w for w, _ in runs[: index + 1])] * len(data)]
    )
    before = -math.inf
    for _, at in at_once:
        start = at - byte_s
        assert start >= next(ready) - 1e-12
        assert start >= before - 1e-12
        changes = sum(moment <= start - byte_s * 1e-5 for moment in gates)
        assert changes % 2 == 0 or any(abs(moment - start) < byte_s * 1e-4 for moment in gates), (
            "it began at a closed gate"
        )
        before = at


@settings(max_examples=100, deadline=None)
@given(at=st.floats(0, 1e7), byte_s=st.sampled_from([10 / 115200, 1e-6, 10 / 12e6]), data=st.binary(min_size=1))
def test_stepping_to_the_next_end_always_takes_something(at: float, byte_s: float, data: bytes) -> None:
    """However late it is, when the time of a byte is hardly more than the rounding of the clock."""
    for most_bytes in (1, 7, math.inf):
        lane = Lane(byte_s)
        lane.put(data, at)
        left = len(data)
        while left:
            crossing = lane.take(lane.next_end(most_bytes), most_bytes)
            assert crossing is not None
            left -= len(crossing.data)
