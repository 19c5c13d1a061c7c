"""Faults at work: how often, where, and the same each time."""

from __future__ import annotations

import math
import zlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim.line.faults import (
    Action,
    BrownOut,
    Burst,
    ByteFault,
    Delay,
    Direction,
    Double,
    Drop,
    Fault,
    Faults,
    Flip,
    Garbage,
    Insert,
    Reset,
    Stuck,
    Unplug,
    Wedge,
)
from firmware_sim.line.injector import Injector

TO_BOARD, TO_HOST = Direction.TO_BOARD, Direction.TO_HOST
KINDS: list[type[ByteFault]] = [Flip, Drop, Double, Insert, Burst]
BYTE_S = 1 / 1024


def carry(injector: Injector, data: bytes, direction: Direction = TO_BOARD) -> bytes:
    return injector.carry(data, direction, 0.0)[0]


def injector_of(*faults: Fault, seed: int = 0) -> Injector:
    return Injector(Faults(faults, seed))


# --- bytes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "result"),
    [
        (Drop(at=(1, 3)), b"ac"),
        (Double(at=(0, 3)), b"aabcdd"),
        (Drop(at=(0, 1, 2, 3)), b""),
        (Drop(rate=1.0), b""),
        (Double(rate=1.0), b"aabbccdd"),
        (Flip(rate=1.0), bytes(0xFF ^ byte for byte in b"abcd")),
        (Drop(at=(3, 1, 1)), b"ac"),
        (Drop(at=(4,)), b"abcd"),
    ],
)
def test_faults_strike_the_bytes_that_they_name(fault: ByteFault, result: bytes) -> None:
    assert carry(injector_of(fault), b"abcd") == result


def test_a_flip_flips_one_bit_of_a_byte_that_is_named() -> None:
    result = carry(injector_of(Flip(at=(1,))), bytes(4))
    assert (result[0], result[2:]) == (0, bytes(2))
    assert result[1].bit_count() == 1


def test_an_insertion_comes_before_its_byte_and_a_burst_goes_on_for_its_size() -> None:
    inserted = carry(injector_of(Insert(at=(2,))), b"abcd")
    assert (inserted[:2], inserted[3:]) == (b"ab", b"cd")
    burst = injector_of(Burst(at=(1, 2), size_bytes=3))
    assert carry(burst, b"ab")[:1] == b"a"
    assert carry(burst, b"cdef")[2:] == b"ef"
    assert burst.counts == {"burst": 1}


def test_a_fault_of_one_direction_leaves_the_other_alone_and_one_of_both_differs_between_them() -> None:
    injector = injector_of(Drop(rate=1.0, direction=TO_HOST), Flip(rate=0.1))
    data = bytes(500)
    assert len(carry(injector, data)) == 500
    assert carry(injector, data, TO_HOST) == b""
    injector = injector_of(Flip(rate=0.1))
    assert carry(injector, data) != carry(injector, data, TO_HOST)


def test_faults_strike_one_after_the_other() -> None:
    assert carry(injector_of(Double(at=(0,)), Drop(at=(1,))), b"ab") == b"ab"
    assert carry(injector_of(Drop(at=(1,)), Double(at=(0,))), b"ab") == b"aa"


def test_each_fault_draws_its_own_numbers_whatever_comes_after_it() -> None:
    alone = injector_of(Flip(rate=0.01))
    with_others = injector_of(Flip(rate=0.01), Stuck(at_s=99.0), Drop(at=(10**9,)))
    data = bytes(5000)
    assert carry(alone, data) == carry(with_others, data)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_does_the_same_and_another_one_does_not(kind: type[ByteFault]) -> None:
    data = bytes(5000)
    results = [carry(injector_of(kind(rate=0.01), seed=seed), data) for seed in (1, 1, 2)]
    assert results[0] == results[1] != results[2]


@pytest.mark.parametrize(
    ("kind", "to_board", "to_host"),
    [
        (Flip, 0xCEEBA143, 0x7AD564A0),
        (Drop, 0x129ADAF4, 0x570752B6),
        (Double, 0x61B2175A, 0x0D6A02A4),
        (Insert, 0x89E26D35, 0x1D755DD7),
        (Burst, 0x5EF106B7, 0x1F4D6C4E),
    ],
)
def test_what_a_seed_does_stays_as_it_was_published(kind: type[ByteFault], to_board: int, to_host: int) -> None:
    data = bytes(range(256)) * 20
    injector = injector_of(Stuck(at_s=99.0), kind(rate=0.01), seed=2024)
    assert (zlib.crc32(carry(injector, data)), zlib.crc32(carry(injector, data, TO_HOST))) == (to_board, to_host)


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    return [
        data[left:right] for left, right in pairwise(sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)}))
    ]


@settings(max_examples=150, deadline=None)
@given(
    faults=st.lists(
        st.one_of(
            *(st.builds(kind, rate=st.sampled_from([1e-300, 0.01, 0.3, 1 - 1e-16, 1.0])) for kind in KINDS),
            *(st.builds(kind, at=st.lists(st.integers(0, 300), min_size=1).map(tuple)) for kind in KINDS),
            st.builds(Burst, rate=st.sampled_from([0.01, 0.5]), size_bytes=st.integers(1, 40)),
            st.builds(Stuck, at_s=st.floats(0, 0.4), for_s=st.floats(0, 0.4)),
        ),
        min_size=1,
        max_size=3,
    ),
    data=st.binary(max_size=300),
    cuts=st.lists(st.integers(0, 300), max_size=20),
)
def test_how_bytes_are_cut_into_pieces_does_not_matter(faults: list[Fault], data: bytes, cuts: list[int]) -> None:
    whole, cut = injector_of(*faults), injector_of(*faults)
    at_once = whole.carry(data, TO_HOST, len(data) * BYTE_S, BYTE_S)[0]
    position, result = 0, b""
    for piece in pieces_of(data, cuts):
        position += len(piece)
        result += cut.carry(piece, TO_HOST, position * BYTE_S, BYTE_S)[0]
    assert result == at_once
    assert cut.counts == whole.counts


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from([Drop, Double, Insert, Flip, Burst]), rate=st.floats(0, 1, exclude_min=True), data=st.binary()
)
def test_what_arrives_is_what_was_sent_and_what_was_counted(kind: type[ByteFault], rate: float, data: bytes) -> None:
    injector = injector_of(kind(rate=rate))
    result = carry(injector, data)
    change = {Drop: -1, Double: 1, Insert: 1}.get(kind, 0)
    assert len(result) == len(data) + change * injector.counts[kind.kind()]


SIZE = 1_000_000


@pytest.mark.parametrize(("rate", "size"), [(1e-3, SIZE), (0.25, 20_000)])
def test_flips_have_their_rate_and_no_favourite_bit(rate: float, size: int) -> None:
    injector = injector_of(Flip(rate=rate))
    result = np.frombuffer(carry(injector, bytes(size)), np.uint8)
    per_bit = [int((result >> bit & 1).sum()) for bit in range(8)]
    sigma = math.sqrt(size * rate * (1 - rate))
    assert sum(per_bit) == injector.counts["flip"]
    assert sum(per_bit) == pytest.approx(8 * size * rate, abs=5 * math.sqrt(8) * sigma)
    assert all(abs(count - size * rate) < 5 * sigma for count in per_bit)


@pytest.mark.parametrize("kind", [Drop, Double, Insert])
def test_each_byte_fault_has_its_rate(kind: type[ByteFault]) -> None:
    injector = injector_of(kind(rate=1e-3))
    change = abs(len(carry(injector, bytes(SIZE))) - SIZE)
    assert change == injector.counts[kind.kind()] == pytest.approx(1000, abs=5 * math.sqrt(1000))


def test_bursts_have_their_rate_among_the_bytes_outside_bursts() -> None:
    injector = injector_of(Burst(rate=1e-3, size_bytes=16))
    result = carry(injector, bytes(SIZE))
    expected = SIZE * 1e-3 / (1 + 15 * 1e-3)
    assert injector.counts["burst"] == pytest.approx(expected, abs=5 * math.sqrt(expected))
    struck = sum(byte != 0 for byte in result)
    assert struck == pytest.approx(injector.counts["burst"] * 16 * 255 / 256, abs=5 * math.sqrt(expected * 16 / 256))


# --- time, resets and the rest ------------------------------------------------------------------


def test_a_stuck_line_loses_the_bytes_that_end_in_its_time() -> None:
    injector = injector_of(Stuck(at_s=2 * BYTE_S, for_s=3 * BYTE_S), Stuck(at_s=4 * BYTE_S, for_s=2 * BYTE_S))
    assert injector.carry(b"abcdefgh", TO_BOARD, 8 * BYTE_S, BYTE_S)[0] == b"afgh"
    assert injector.counts == {"stuck": 4}


def test_a_line_that_is_stuck_for_ever_never_comes_back() -> None:
    injector = injector_of(Stuck(at_s=1.0, direction=TO_HOST))
    assert injector.carry(b"ab", TO_HOST, 0.9, BYTE_S)[0] == b"ab"
    assert injector.carry(b"ab", TO_HOST, 1e9, BYTE_S)[0] == b""
    assert injector.carry(b"ab", TO_BOARD, 1e9, BYTE_S)[0] == b"ab"


def test_a_reset_counts_the_bytes_that_are_sent_whatever_becomes_of_them() -> None:
    injector = injector_of(Drop(rate=1.0), Wedge(at_byte=9), Reset(at_byte=4))
    assert injector.bytes_to_action(TO_BOARD) == 5
    assert injector.bytes_to_action(TO_HOST) == math.inf
    assert injector.carry(bytes(4), TO_BOARD, 0.0) == (b"", [])
    assert injector.carry(bytes(1), TO_BOARD, 0.0) == (b"", [Action.RESET])
    assert injector.bytes_to_action(TO_BOARD) == 5
    assert injector.carry(bytes(5), TO_BOARD, 0.0) == (b"", [Action.WEDGE])
    assert injector.bytes_to_action(TO_BOARD) == math.inf


def test_what_is_added_later_counts_from_then_on() -> None:
    injector = injector_of()
    carry(injector, bytes(100))
    injector.add(Reset(at_byte=0), 5.0)
    injector.add(Drop(at=(1,)), 5.0)
    injector.add(Stuck(at_s=1.0), 5.0)
    injector.add(BrownOut(every_s=3.0), 5.0)
    assert injector.bytes_to_action(TO_BOARD) == 1
    assert injector.carry(b"abc", TO_BOARD, 5.9)[0] == b"ac"
    assert injector.carry(b"abc", TO_BOARD, 6.0)[0] == b""
    assert injector.next_action_at() == 8.0


def test_a_call_is_struck_by_its_name_and_number() -> None:
    injector = injector_of(Reset(function="f", call=2), Wedge(function="*", call=4))
    assert [injector.on_call(name) for name in "fgfffg"] == [None, None, Action.RESET, Action.WEDGE, None, None]
    assert injector.counts == {"reset": 1, "wedge": 1}


def test_delays_add_up() -> None:
    injector = injector_of(Delay(by_s=1.0), Delay(by_s=0.5, reply=2))
    assert [injector.on_reply() for _ in range(3)] == [1.0, 1.5, 1.0]
    assert injector.counts == {"delay": 4}


def test_garbage_is_new_at_each_boot_and_the_same_with_the_same_seed() -> None:
    one, other = injector_of(Garbage(9), Garbage(3)), injector_of(Garbage(9), Garbage(3))
    boots = [one.on_boot(at) for at in (0.0, 1.0)]
    assert [len(garbage) for garbage in boots] == [12, 12]
    assert boots == [other.on_boot(at) for at in (0.0, 1.0)]
    assert boots[0] != boots[1]
    assert injector_of(Garbage(9), Garbage(3), seed=1).on_boot(0.0) != boots[0]


def test_a_cable_is_pulled_and_put_back() -> None:
    injector = injector_of(Unplug(at_s=2.0, for_s=1.0), Unplug(at_s=1.0, keeps_power=True))
    assert injector.next_action_at() == 1.0
    assert list(injector.take_due(0.9)) == []
    assert list(injector.take_due(9.0)) == [Action.UNPLUG_POWERED, Action.UNPLUG, Action.PLUG]
    assert injector.counts == {"unplug": 2}
    assert injector.next_action_at() == math.inf


def test_a_brown_out_counts_only_when_it_strikes() -> None:
    injector = injector_of(BrownOut(every_s=1.0, times=2))
    for boot in (0.0, 0.5, 0.9):
        injector.on_boot(boot)
    assert injector.next_action_at() == 1.9
    for _ in range(2):
        at = injector.next_action_at()
        assert list(injector.take_due(at)) == [Action.RESET]
        injector.on_boot(at)
    assert injector.next_action_at() == math.inf
    assert injector.counts == {"brown-out": 2}


def test_a_supply_that_is_gone_does_not_fail() -> None:
    injector = injector_of(BrownOut(every_s=1.0), Unplug(at_s=0.5, for_s=9.0))
    injector.on_boot(0.0)
    injector.on_power_loss()
    assert list(injector.take_due(5.0)) == [Action.UNPLUG]
