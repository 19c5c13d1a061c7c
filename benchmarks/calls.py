"""An empty call over a pty, beside the least that any round trip over a pty costs; the peers are other processes.

`python -m benchmarks.calls echo` and `python -m benchmarks.calls board PACKET_BYTES` are those processes. They print
the path of their pty, and end with their standard input.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import statistics
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator

from benchmarks.codec import Row, quantile
from firmware_sim.serve import PtyServer
from firmware_sim.simulate import simulate
from microrpc.boards import profile
from microrpc.opening import connect

PROFILE = "loopback"
_HEAP_BYTES = 1 << 20
_BLOCK = 100  # round trips of one kind before those of the next kind


@contextlib.contextmanager
def child(*args: str) -> Iterator[str]:
    """Run a process of this module; give the path of its pty."""
    command = [sys.executable, "-m", "benchmarks.calls", *args]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            path = process.stdout.readline().strip()
            if not path:
                raise RuntimeError(f"the process {args[0]!r} did not start")
            yield path
        finally:
            process.stdin.close()


def measure(*, quick: bool) -> Iterator[Row]:
    """Time ping-pong and call in turn, in blocks."""
    blocks = 5 if quick else 100
    with (
        child("echo") as echo_path,
        child("board", "2048") as board_path,
        connect(board_path, board=PROFILE) as board,
    ):
        fd = os.open(echo_path, os.O_RDWR | os.O_NOCTTY)
        try:
            tty.setraw(fd)
            noop = board.function("noop")
            trips: dict[str, Callable[[], object]] = {
                "sleeping": _ping_pong(fd),
                "spinning": _spinning_ping_pong(fd),
                "call": noop,
            }
            times: dict[str, list[list[float]]] = {name: [] for name in trips}
            for trip in trips.values():
                _block(trip)
            for _ in range(blocks):
                for name, trip in trips.items():
                    times[name].append(_block(trip))
        finally:
            os.close(fd)
    yield _time_row("ping-pong, 1 B, reader sleeps", times["sleeping"], "plain os.write, os.read")
    yield _time_row("ping-pong, 1 B, reader spins", times["spinning"], "polls, never sleeps")
    yield _time_row("empty call", times["call"], "noop()")
    yield _ratio_row("call / ping-pong, reader sleeps", times["call"], times["sleeping"])
    yield _ratio_row("call / ping-pong, reader spins", times["call"], times["spinning"])


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


def _time_row(name: str, blocks: list[list[float]], remark: str) -> Row:
    times = sorted(time_us for block in blocks for time_us in block)
    spread = f"min {times[0]:.1f}, p90 {quantile(times, 0.9):.1f}"
    return Row(name, f"{statistics.median(times):.1f}", "us", spread, f"{remark}; {len(times):,} times")


def _ratio_row(name: str, calls: list[list[float]], ping_pongs: list[list[float]]) -> Row:
    def median(blocks: list[list[float]]) -> float:
        return statistics.median(time_us for block in blocks for time_us in block)

    by_block = sorted(
        statistics.median(call) / statistics.median(trip) for call, trip in zip(calls, ping_pongs, strict=True)
    )
    spread = f"p10 {quantile(by_block, 0.1):.2f}, p90 {quantile(by_block, 0.9):.2f}"
    return Row(name, f"{median(calls) / median(ping_pongs):.2f}", "times", spread, "of medians; spread: block by block")


# --- the other processes --------------------------------------------------------------------------


def _at_end_of_input(end: Callable[[], None]) -> None:
    def wait() -> None:
        sys.stdin.read()
        end()

    threading.Thread(target=wait, daemon=True).start()


def _echo() -> None:
    board_fd, host_fd = os.openpty()
    tty.setraw(host_fd)
    _at_end_of_input(lambda: os._exit(0))
    print(os.ttyname(host_fd), flush=True)
    while True:
        os.write(board_fd, os.read(board_fd, 1))


def _serve_board(packet_size_bytes: int) -> None:
    chosen = dataclasses.replace(profile(PROFILE), packet_size_bytes=packet_size_bytes, heap_bytes=_HEAP_BYTES)
    server = PtyServer(simulate(chosen))
    _at_end_of_input(server.close)
    print(server.path, flush=True)
    server.run()


if __name__ == "__main__":
    if sys.argv[1] == "echo":
        _echo()
    else:
        _serve_board(int(sys.argv[2]))
