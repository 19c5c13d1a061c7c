"""How many boards one process holds: hosts in one asyncio loop, boards on UARTs in real time, ptys in between."""

from __future__ import annotations

import asyncio
import resource
import statistics
import time

import numpy as np

from benchmarks.rows import Row
from firmware_sim.board.clock import VirtualClock
from firmware_sim.line.settings import Rate, Uart
from firmware_sim.line.uart import UartLine
from firmware_sim.running.ports import PtyPort
from firmware_sim.running.server import Server
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.client.aio.board import AsyncBoard
from microrpc.connecting.aio import connect

BOARDS = 64
BAUD = 115200
COPY_BYTES = 61_535  # 31 full blocks each way: 11 seconds of line time


def measure(*, quick: bool) -> list[Row]:
    count, size_bytes = (8, 3_970) if quick else (BOARDS, COPY_BYTES)
    rate = Rate(BAUD)
    lines = [UartLine(simulate(profile("loopback"), clock=VirtualClock()), Uart(rate, rate)) for _ in range(count)]
    with Server(*(PtyPort(line) for line in lines)) as server:
        started, used = time.monotonic(), _cpu_s()
        shares = asyncio.run(_copy_on_all([port.path for port in server.ports], lines, size_bytes))
        taken_s, used_s = time.monotonic() - started, _cpu_s() - used
    shares.sort()
    remark = f"copies both ways in {size_bytes} B arrays; {used_s / taken_s:.0%} of one core"
    spread = f"least {shares[0]:.1f}, most {shares[-1]:.1f}"
    return [Row(f"{count} boards at {BAUD} baud", f"{statistics.median(shares):.1f}", "% of line", spread, remark)]


async def _copy_on_all(paths: list[str], lines: list[UartLine], size_bytes: int) -> list[float]:
    boards = [await connect(path) for path in paths]
    try:
        return await asyncio.gather(*(_copy(*pair, size_bytes) for pair in zip(boards, lines, strict=True)))
    finally:
        for board in boards:
            await board.close()


async def _copy(board: AsyncBoard, line: UartLine, size_bytes: int) -> float:
    """Copy there and back; give the share of the time, in per cent, in which the copy's direction carried bytes."""
    data = np.random.default_rng().integers(0, 256, size_bytes, dtype=np.uint8)
    array = await board.empty(data.shape, data.dtype)
    await board.max_packet_bytes()
    start, before = time.monotonic(), line.state
    await array.write(data)
    between = line.state
    back = await array.numpy()
    taken_s = time.monotonic() - start
    assert np.array_equal(back, data)
    busy_s = between.to_board_busy_s - before.to_board_busy_s + line.state.to_host_busy_s - between.to_host_busy_s
    return 100 * busy_s / taken_s


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
