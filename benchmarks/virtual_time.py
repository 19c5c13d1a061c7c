"""Simulated boards on a line of 115200 baud, in virtual time: how much faster than the line itself."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.rows import Row, quantile
from firmware_sim.line.adapter import HostAdapter
from firmware_sim.line.settings import Uart
from firmware_sim.running.simulate import SimBoard, uart_of
from microrpc.boards.catalogue import profile
from microrpc.connecting.blocking import open_board

PROFILE = "loopback"
SIZE_BYTES = 200_000  # of its heap of 256 KiB
LINE_S = 60.0


def _copy(uart: Uart, firmware: str, line_s: float) -> tuple[float, float]:
    """Copy an array to the board and back until `line_s` has gone by there; give seconds there and here."""
    data = np.frombuffer(random.Random(3).randbytes(SIZE_BYTES), np.uint8)
    sim = SimBoard(profile(PROFILE), uart=uart, firmware=firmware)  # type: ignore[arg-type]
    with open_board(sim.open_channel(), sim.profile.timeouts, seed=1) as board:
        array = board.empty(data.shape, "uint8")
        start_line, start = sim.now(), time.perf_counter()
        while (taken_line := sim.now() - start_line) < line_s:
            array.write(data)
            if array.numpy().tobytes() != data.tobytes():
                raise AssertionError("what was read is not what was written")
        return taken_line, time.perf_counter() - start


def measure(*, quick: bool) -> Iterator[Row]:
    """Time the cases in turn: 2 KiB blocks to the board and back."""
    line_s, repeats = (1.0, 2) if quick else (LINE_S, 11)
    plain = uart_of(profile(PROFILE))
    ftdi = Uart(power_up_s=plain.power_up_s, adapter=HostAdapter(poll_s=0.001, latency_timer_s=0.016))
    cases = {
        "a minute of line": (plain, "robust"),
        "a minute of line, FTDI adapter": (ftdi, "robust"),
        "a minute of line, stock firmware": (plain, "stock"),
    }
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, (uart, firmware) in cases.items():
            runs[name].append(_copy(uart, firmware, line_s))
    for name, pairs in runs.items():
        ratios = sorted(there / here for there, here in pairs)
        there_s, here_s = (statistics.median(column) for column in zip(*pairs, strict=True))
        spread = f"p10 {quantile(ratios, 0.1):,.1f}, p90 {quantile(ratios, 0.9):,.1f}"
        remark = f"{there_s:.1f} s of line in {here_s * 1000:.0f} ms"
        yield Row(name, f"{statistics.median(ratios):,.1f}", "times", spread, remark, {"ratios": ratios})
