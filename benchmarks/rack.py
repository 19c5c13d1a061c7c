"""How many boards one process of hosts keeps busy, each on a serial line of 115200 baud of its own.

Hosts live in one asyncio loop of one process, as a test farm's would; the boards in other processes, as they would be
on the other end of a cable. A row tells the share of the time in which a line carried bytes of its copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from benchmarks.processes import ROOT, child, exit_with_stdin
from benchmarks.rack_line import BurstLine
from benchmarks.rows import Row
from firmware_sim.board.clock import VirtualClock
from firmware_sim.running.ports import PtyPort
from firmware_sim.running.server import Server
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.client.aio.board import AsyncBoard
from microrpc.client.aio.remote import AsyncRemoteArray
from microrpc.connecting.aio import connect
from microrpc.wire.session import Timeouts
from microrpc.wire.uart import BITS_PER_BYTE

BAUD = 115200
RACKS = ((64, 1), (512, 1), (900, 1), (900, 2))
"""Boards a process of hosts has, and such processes."""
COPY_BYTES = 61_535  # 31 full blocks each way: 11 seconds of line time
_BOARDS_A_PROCESS = 256
_TICK_S = 1e-3  # as USB at full speed looks at its adapters
_CONNECTING = 64
_PATIENT = Timeouts(start_s=60, call_s=60)  # a computer that simulates so many is late now and then
_MOST_S = 300.0


class Result(NamedTuple):
    """What one process of hosts saw: of each board the share of the line, in per cent, and what the hosts cost."""

    shares: list[float]
    cpu_percent: float
    connecting_s: float


def measure(*, quick: bool) -> Iterator[Row]:
    racks, size_bytes = (((4, 1), (4, 2)), 3_970) if quick else (RACKS, COPY_BYTES)
    for count, processes in racks:
        yield _row(count, processes, size_bytes)


def _row(count: int, processes: int, size_bytes: int) -> Row:
    with contextlib.ExitStack() as stack:
        racks = [_start_boards(stack, count) for _ in range(processes)]
        hosts = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.rack", "hosts"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in racks
        ]
        results = []
        for process, paths in zip(hosts, racks, strict=True):
            assert process.stdin is not None
            process.stdin.write(json.dumps([size_bytes, paths]))
            process.stdin.close()
            process.stdin = None
        for process in hosts:
            try:
                out, _ = process.communicate(timeout=_MOST_S)
            finally:
                process.kill()
            results.append(Result(*json.loads(out)))
    shares = sorted(share for result in results for share in result.shares)
    cost = statistics.mean(result.cpu_percent for result in results)
    took = max(result.connecting_s for result in results)
    name = f"{count * processes:,} boards at {BAUD} baud, {processes} process{'es' if processes > 1 else ''} of hosts"
    remark = f"copies both ways, {size_bytes} B; hosts: {cost:.0f}% of a core each; connected in {took:.1f} s"
    return Row(
        name,
        f"{statistics.median(shares):.1f}",
        "% of line",
        f"least {shares[0]:.1f}, most {shares[-1]:.1f}",
        remark,
        {"kind": "rack", "boards": count * processes, "processes": processes, "shares": shares, "cpu_percent": cost},
    )


def _start_boards(stack: contextlib.ExitStack, count: int) -> list[str]:
    """Start that many boards, in processes of their own; give the paths of their ports."""
    paths = []
    for begin in range(0, count, _BOARDS_A_PROCESS):
        number = min(_BOARDS_A_PROCESS, count - begin)
        folder = stack.enter_context(child("benchmarks.rack", "boards", str(number)))
        paths += [os.path.join(folder, str(index)) for index in range(number)]
    return paths


# --- a process of boards --------------------------------------------------------------------------


def serve_boards(count: int) -> None:
    """Serve boards on ptys that links in a new folder lead to; print its name, and end with the standard input."""
    board, byte_s = profile("loopback"), BITS_PER_BYTE / BAUD
    lines = [BurstLine(simulate(board, clock=VirtualClock()), byte_s) for _ in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        ports = [PtyPort(line, link=os.path.join(folder, str(index))) for index, line in enumerate(lines)]
        server = Server(*ports, tick_s=_TICK_S)
        with contextlib.closing(server):
            exit_with_stdin(server.close)
            print(folder, flush=True)
            server.run()


# --- a process of hosts ---------------------------------------------------------------------------


async def use_boards(paths: list[str], size_bytes: int) -> Result:
    """Copy on all boards at once, there and back."""
    gate, started = asyncio.Semaphore(_CONNECTING), time.monotonic()
    boards: list[AsyncBoard] = []

    async def open_one(path: str) -> tuple[AsyncBoard, AsyncRemoteArray]:
        """Connect to a board, and ask it all that it is asked once."""
        async with gate:
            board = await connect(path, baud=BAUD, timeouts=_PATIENT)
            boards.append(board)
            await board.max_packet_bytes()
            return board, await board.empty(size_bytes, np.uint8)

    try:
        ready = await asyncio.gather(*map(open_one, paths))
        began, used = time.monotonic(), _cpu_s()
        shares = await asyncio.gather(*(_copy(*one) for one in ready))
        cost = 100 * (_cpu_s() - used) / (time.monotonic() - began)
    finally:
        for board in boards:
            await board.close()
    return Result(shares, cost, began - started)


async def _copy(board: AsyncBoard, array: AsyncRemoteArray) -> float:
    data = np.random.default_rng().integers(0, 256, array.shape, dtype=np.uint8)
    before, start = board.stats, time.monotonic()
    await array.write(data)
    between = board.stats
    back = await array.numpy()
    taken_s, after = time.monotonic() - start, board.stats
    assert np.array_equal(back, data)
    crossed = between.bytes_sent - before.bytes_sent + after.bytes_received - between.bytes_received
    return 100 * crossed * BITS_PER_BYTE / BAUD / taken_s


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _allow_many_files() -> None:
    """A board takes three files; most systems allow 1024 where nobody asks for more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main(role: str, *args: str) -> None:
    _allow_many_files()
    if role == "boards":
        serve_boards(int(args[0]))
    else:
        size_bytes, paths = json.load(sys.stdin)
        print(json.dumps(asyncio.run(use_boards(paths, size_bytes))))


if __name__ == "__main__":
    main(*sys.argv[1:])
