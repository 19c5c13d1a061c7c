"""An empty call over a pty, beside the least that any round trip over a pty costs; the peers are other processes."""

from __future__ import annotations

import contextlib
import os
import select
import statistics
import time
import tty
from collections.abc import Callable, Iterator

from benchmarks.modes import MODES, PROFILE
from benchmarks.processes import child
from benchmarks.rows import Row, quantile
from microrpc.connecting.blocking import connect

_PACKET_BYTES = 2048
_BLOCK = 100  # round trips of one kind before those of the next kind
_SLEEPS, _SPINS = "ping-pong, 1 B, reader sleeps", "ping-pong, 1 B, reader spins"
_QUANTILES = 201  # of a distribution, for the plot

Blocks = list[list[float]]


def measure(*, quick: bool) -> Iterator[Row]:
    """Time ping-pong and calls in turn, in blocks."""
    blocks = 5 if quick else 100
    with contextlib.ExitStack() as stack:
        echo_path = stack.enter_context(child("benchmarks.echo"))
        fd = os.open(echo_path, os.O_RDWR | os.O_NOCTTY)
        stack.callback(os.close, fd)
        tty.setraw(fd)
        trips: dict[str, Callable[[], object]] = {_SLEEPS: _ping_pong(fd), _SPINS: _spinning_ping_pong(fd)}
        for mode in MODES.values():
            path = stack.enter_context(child("benchmarks.board", mode.name, str(_PACKET_BYTES)))
            board = stack.enter_context(connect(path, board=PROFILE, **mode.connecting))
            trips[f"empty call, {mode.name}"] = board.function("noop")
        times: dict[str, Blocks] = {name: [] for name in trips}
        for trip in trips.values():
            _block(trip)
        for _ in range(blocks):
            for name, trip in trips.items():
                times[name].append(_block(trip))
    yield _time_row(_SLEEPS, times[_SLEEPS], "plain os.write, os.read")
    yield _time_row(_SPINS, times[_SPINS], "polls, never sleeps")
    for mode in MODES.values():
        call = times[f"empty call, {mode.name}"]
        yield _time_row(f"empty call, {mode.name}", call, "noop()")
        yield _ratio_row(f"call / ping-pong, {mode.name}, reader sleeps", call, times[_SLEEPS])
        yield _ratio_row(f"call / ping-pong, {mode.name}, reader spins", call, times[_SPINS])


def _ping_pong(fd: int) -> Callable[[], object]:
    def trip() -> None:
        os.write(fd, b"x")
        os.read(fd, 1)

    return trip


def _spinning_ping_pong(fd: int) -> Callable[[], object]:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    poll = poller.poll

    def trip() -> None:
        os.write(fd, b"x")
        while not poll(0):
            pass
        os.read(fd, 1)

    return trip


def _block(trip: Callable[[], object]) -> list[float]:
    """Give the times of one block's round trips, in microseconds."""
    clock = time.perf_counter_ns
    times = []
    for _ in range(_BLOCK):
        start = clock()
        trip()
        times.append((clock() - start) / 1000)
    return times


def _time_row(name: str, blocks: Blocks, remark: str) -> Row:
    times = sorted(time_us for block in blocks for time_us in block)
    spread = f"min {times[0]:.1f}, p90 {quantile(times, 0.9):.1f}"
    raw = {
        "kind": "latency",
        "series": name,
        "quantiles_us": [round(quantile(times, index / (_QUANTILES - 1)), 1) for index in range(_QUANTILES)],
    }
    return Row(name, f"{statistics.median(times):.1f}", "us", spread, f"{remark}; {len(times):,} times", raw)


def _ratio_row(name: str, calls: Blocks, ping_pongs: Blocks) -> Row:
    def median(blocks: Blocks) -> float:
        return statistics.median(time_us for block in blocks for time_us in block)

    by_block = sorted(
        statistics.median(call) / statistics.median(trip) for call, trip in zip(calls, ping_pongs, strict=True)
    )
    spread = f"p10 {quantile(by_block, 0.1):.2f}, p90 {quantile(by_block, 0.9):.2f}"
    return Row(name, f"{median(calls) / median(ping_pongs):.2f}", "times", spread, "of medians; spread: block by block")
