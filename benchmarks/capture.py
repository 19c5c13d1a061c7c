"""What a capture costs, with and without in turn: 256 KiB to a board and back, over a pty and over a paced line; and
the host's CPU where a program copies MiB after MiB without a pause.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.ceilings import DIRECTIONS
from benchmarks.copies import timed_copy
from benchmarks.modes import PROFILE
from benchmarks.pacing import BAUD, paced
from benchmarks.processes import child
from benchmarks.rows import Row, quantile
from microrpc.capture.pcapng import read_blocks
from microrpc.capture.writer import CaptureWriter
from microrpc.connecting.blocking import connect

SIZE_BYTES = 256 * 1024
PACKETS_BYTES = (2048, 8192)
_PACED_PACKETS_BYTES = 2048
_WRITTEN_S = 0.4  # after that, all that passed is in the file
_Data = npt.NDArray[np.uint8]


def measure(*, quick: bool) -> Iterator[Row]:
    """Time the copies in turn, and what each takes more than its neighbour without a capture."""
    data = np.frombuffer(random.Random(4).randbytes(16384 if quick else SIZE_BYTES), np.uint8)
    for packet_bytes in PACKETS_BYTES:
        yield from _compare(data, 3 if quick else 101, packet_bytes, f"{packet_bytes // 1024} KiB packets, pty")
    for packet_bytes in PACKETS_BYTES:
        yield from _without_pause(data, 2 if quick else 15, packet_bytes, 2 if quick else 16)
    where = f"{_PACED_PACKETS_BYTES // 1024} KiB packets, {BAUD} baud"
    yield from _compare(data, 1 if quick else 3, _PACED_PACKETS_BYTES, where, is_paced=True)


def _without_pause(data: _Data, turns: int, packet_bytes: int, copies: int) -> Iterator[Row]:
    """Give what the host's CPU takes more than without a capture, which is written beside such copies."""
    taken_s: dict[tuple[int, bool], list[float]] = {}
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        arrays = {}
        for is_captured in (False, True):
            path = stack.enter_context(child("benchmarks.board", "robust", str(packet_bytes)))
            capture = Path(directory) / "x.pcapng" if is_captured else None
            board = stack.enter_context(connect(path, board=PROFILE, baud=BAUD, capture=capture))
            arrays[is_captured] = board.array(data)
        for _ in range(turns):
            for is_captured, array in arrays.items():
                for which, copy in enumerate((partial(array.write, data), array.numpy)):
                    start = time.process_time()
                    for _ in range(copies):
                        copy()
                    time.sleep(_WRITTEN_S)
                    taken_s.setdefault((which, is_captured), []).append(time.process_time() - start)
    for which, direction in enumerate(DIRECTIONS):
        without, beside = taken_s[which, False], taken_s[which, True]
        times = sorted(one / other for one, other in zip(beside, without, strict=True))
        spread = f"p10 {quantile(times, 0.1):.2f}, p90 {quantile(times, 0.9):.2f}"
        per_packet_us = [
            statistics.median(each) / (copies * len(data) / packet_bytes) * 1e6 for each in (without, beside)
        ]
        remark = "{:.1f} us of CPU a packet without, {:.1f} us with".format(*per_packet_us)
        where = f"{packet_bytes // 1024} KiB packets, no pause, pty"
        yield Row(
            f"captured copy {direction} the board, {where}", f"{statistics.median(times):.2f}", "times", spread, remark
        )


def _compare(data: _Data, repeats: int, packet_bytes: int, where: str, *, is_paced: bool = False) -> Iterator[Row]:
    taken_s: dict[tuple[int, bool], list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "x.pcapng"
        with contextlib.ExitStack() as stack:
            arrays = {}
            for is_captured in (False, True):
                path = stack.enter_context(child("benchmarks.board", "robust", str(packet_bytes)))
                if is_paced:
                    path = stack.enter_context(paced(path))
                capture = file if is_captured else None
                board = stack.enter_context(connect(path, board=PROFILE, baud=BAUD, capture=capture))
                arrays[is_captured] = board.array(data)
            for _ in range(repeats):
                for is_captured, array in arrays.items():
                    for which, seconds in enumerate(_copy(array, data)):
                        taken_s.setdefault((which, is_captured), []).append(seconds)
        with file.open("rb") as stream:
            captured = [(packet.data, bool(packet.to_board)) for packet in read_blocks(stream)]
        if sum(len(one) for one, _ in captured) < repeats * len(data) * len(DIRECTIONS):
            raise AssertionError("the capture has not all that was copied")
        if not is_paced:
            yield _writing(captured, file, where)
    for which, direction in enumerate(DIRECTIONS):
        without, beside = taken_s[which, False], taken_s[which, True]
        more = sorted(100 * (one / other - 1) for one, other in zip(beside, without, strict=True))
        spread = f"p10 {quantile(more, 0.1):+.1f}, p90 {quantile(more, 0.9):+.1f}"
        remark = f"{statistics.median(without) * 1e3:.2f} ms without, {statistics.median(beside) * 1e3:.2f} ms with"
        yield Row(
            f"captured copy {direction} the board, {where}", f"{statistics.median(more):+.1f}", "%", spread, remark
        )


def _writing(captured: list[tuple[bytes, bool]], file: Path, where: str) -> Row:
    """Give what it takes to write down what was captured, which a thread does while the line is quiet."""
    size_bytes = sum(len(data) for data, _ in captured)
    rates = []
    for _ in range(5):
        with CaptureWriter(file.with_suffix(".again"), "pty") as writer:
            start = time.perf_counter()
            for data, to_board in captured:
                writer.note(0.0, data, to_board=to_board)
            writer.flush()
            rates.append(size_bytes / (time.perf_counter() - start) / 1e6)
    rates.sort()
    median = statistics.median(rates)
    spread = f"{rates[0]:.0f} to {rates[-1]:.0f}"
    remark = f"{size_bytes / median / len(captured):.1f} us a frame, while the line is quiet"
    return Row(f"written down, {where}", f"{median:.0f}", "MB/s", spread, remark)


def _copy(array: Any, data: _Data) -> tuple[float, float]:
    """Give the seconds of a copy to the board and of one back; what the last one left to be written is not theirs."""
    time.sleep(0.06)  # the line is quiet as between two copies of a program: a capture is written then
    return timed_copy(array, data)
