"""The serial adapter at the host's end: polls, packets and the latency timer, to the exact moment."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim.line.adapter import AdapterBuffer, HostAdapter
from microrpc.errors import RequestError

BYTE_S = 1 / 1024
TIMER_S = 1 / 64  # 16 byte times
FTDI = HostAdapter(latency_timer_s=TIMER_S, packet_bytes=10)


def put_run(buffer: AdapterBuffer, data: bytes, begin: float) -> None:
    buffer.put(data, begin + len(data) * BYTE_S)


def test_an_adapter_without_polls_or_a_timer_gives_each_byte_at_once() -> None:
    buffer = AdapterBuffer(HostAdapter(), BYTE_S)
    put_run(buffer, b"abc", 1.0)
    assert buffer.next_delivery() == 1.0 + 3 * BYTE_S
    assert buffer.take(1.0) == b""
    assert buffer.take(1.0 + 2 * BYTE_S) == b"ab"
    assert buffer.take(2.0) == b"c"
    assert buffer.next_delivery() == math.inf


def test_a_byte_is_there_though_its_time_differs_in_the_last_digit() -> None:
    buffer = AdapterBuffer(HostAdapter(), BYTE_S)
    put_run(buffer, b"abc", 1.0)
    assert buffer.take(math.nextafter(1.0 + 3 * BYTE_S, 0)) == b"abc"
    assert buffer.next_delivery() == math.inf


@pytest.mark.parametrize(("at", "tick"), [(0.0, 0.0), (0.25, 0.25), (0.2500001, 0.5), (0.3, 0.5), (0.25 + 1e-12, 0.25)])
def test_usb_asks_at_whole_polls(at: float, tick: float) -> None:
    assert HostAdapter(poll_s=0.25).tick(at) == tick
    assert HostAdapter().tick(at) == at


def test_usb_fetches_what_has_come_by_each_poll() -> None:
    buffer = AdapterBuffer(HostAdapter(poll_s=4 * BYTE_S), BYTE_S)
    put_run(buffer, b"abcdefghij", 0.0)
    assert buffer.next_delivery() == 12 * BYTE_S
    assert buffer.take(3 * BYTE_S) == b""
    assert buffer.take(4 * BYTE_S) == b"abcd"
    assert buffer.take(7 * BYTE_S) == b""
    assert buffer.take(11 * BYTE_S) == b"efgh"
    assert buffer.take(12 * BYTE_S) == b"ij"


def test_a_short_answer_waits_for_the_timer_which_runs_freely() -> None:
    buffer = AdapterBuffer(FTDI, BYTE_S)
    put_run(buffer, b"abc", 2.5 * TIMER_S)
    assert buffer.fires_at() == 3 * TIMER_S
    assert buffer.next_delivery() == math.inf
    buffer.release(3 * TIMER_S)
    assert (buffer.next_delivery(), buffer.fires_at()) == (3 * TIMER_S, math.inf)
    assert buffer.take(2.99 * TIMER_S) == b""
    assert buffer.take(3 * TIMER_S) == b"abc"


def test_a_full_packet_goes_at_once_and_starts_the_timer_anew() -> None:
    buffer = AdapterBuffer(FTDI, BYTE_S)
    put_run(buffer, b"0123456789ab", 0.0)
    assert buffer.next_delivery() == 10 * BYTE_S
    assert buffer.take(10 * BYTE_S) == b"0123456789"
    assert buffer.fires_at() == 10 * BYTE_S + TIMER_S


def test_the_timer_fires_in_the_middle_of_a_run() -> None:
    buffer = AdapterBuffer(HostAdapter(latency_timer_s=TIMER_S, packet_bytes=62), BYTE_S)
    put_run(buffer, bytes(range(40)), 0.0)
    assert buffer.take(TIMER_S) == bytes(range(15))  # the 16th came as it fired
    assert buffer.take(2 * TIMER_S) == bytes(range(15, 31))
    buffer.release(3 * TIMER_S)
    assert buffer.take(3 * TIMER_S) == bytes(range(31, 40))


def test_packets_go_at_polls_too() -> None:
    buffer = AdapterBuffer(HostAdapter(poll_s=4 * BYTE_S, latency_timer_s=TIMER_S, packet_bytes=10), BYTE_S)
    put_run(buffer, bytes(10), 0.0)
    assert buffer.next_delivery() == 12 * BYTE_S


def test_clearing_loses_everything() -> None:
    buffer = AdapterBuffer(FTDI, BYTE_S)
    put_run(buffer, bytes(12), 0.0)
    buffer.clear()
    assert (buffer.next_delivery(), buffer.fires_at(), buffer.take(9.0)) == (math.inf, math.inf, b"")


@pytest.mark.parametrize(
    "fields",
    [{"poll_s": -1.0}, {"latency_timer_s": math.inf}, {"poll_s": math.nan}, {"packet_bytes": 0}, {"buffer_bytes": 0}],
)
def test_what_no_adapter_can_be_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(RequestError, match=f"{next(iter(fields))} is a "):
        HostAdapter(**fields)  # type: ignore[arg-type]


@settings(max_examples=100, deadline=None)
@given(
    adapter=st.builds(
        HostAdapter,
        poll_s=st.sampled_from([0.0, 0.001, 0.003]),
        latency_timer_s=st.sampled_from([0.0, 0.0021, 0.016]),
        packet_bytes=st.sampled_from([1, 7, 62]),
    ),
    runs=st.lists(st.tuples(st.floats(0, 0.03), st.integers(1, 90)), min_size=1, max_size=6),
    cuts=st.lists(st.integers(0, 300), max_size=20),
    looks=st.lists(st.floats(0, 0.6), max_size=20),
)
def test_cutting_runs_into_pieces_changes_nothing(
    adapter: HostAdapter, runs: list[tuple[float, int]], cuts: list[int], looks: list[float]
) -> None:
    byte_s = 10 / 115200
    whole, pieces = AdapterBuffer(adapter, byte_s), AdapterBuffer(adapter, byte_s)
    at, position = 0.0, 0
    for wait, size in runs:
        begin = at + wait
        data = bytes((position + k) % 256 for k in range(size))
        whole.put(data, begin + size * byte_s)
        edges = sorted({0, size, *(cut - position for cut in cuts if 0 < cut - position < size)})
        for left, right in itertools.pairwise(edges):
            pieces.put(data[left:right], begin + right * byte_s)
        position += size
        at = begin + size * byte_s
    total = 0
    for look in [*sorted(looks), 9.0, 10.0]:
        now = look + at if look < 9 else look
        for buffer in (whole, pieces):
            buffer.release(now)
        got = whole.take(now)
        assert got == pieces.take(now)
        total += len(got)
    assert total == position
