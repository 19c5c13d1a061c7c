"""256 KiB to a board and back, over a pty; the board is another process."""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from benchmarks.modes import PROFILE
from benchmarks.processes import child
from benchmarks.rows import Row, quantile
from microrpc.client.remote import RemoteArray
from microrpc.connecting.blocking import connect

SIZE_BYTES = 256 * 1024
PACKETS_BYTES = (2048, 8192)


def timed_copy(array: RemoteArray, data: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """Give the seconds of a copy to the board and of one back, which must give what was sent."""
    start = time.perf_counter()
    array.write(data)
    middle = time.perf_counter()
    back = array.numpy()
    end = time.perf_counter()
    if not np.array_equal(back, data):
        raise AssertionError("what was copied is not what came back")
    return middle - start, end - middle


def measure(*, quick: bool) -> Iterator[Row]:
    """Time the copies in turn."""
    repeats = 3 if quick else 41
    data = np.frombuffer(random.Random(2).randbytes(SIZE_BYTES), np.uint8)
    rates: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        arrays = {}
        for packet_bytes in PACKETS_BYTES:
            path = stack.enter_context(child("benchmarks.board", "robust", str(packet_bytes)))
            board = stack.enter_context(connect(path, board=PROFILE))
            arrays[packet_bytes] = board.array(data)
        for _ in range(repeats):
            for packet_bytes, array in arrays.items():
                there_s, back_s = timed_copy(array, data)
                size = f"{packet_bytes // 1024} KiB packets"
                rates.setdefault(f"copy 256 KiB to the board, {size}", []).append(SIZE_BYTES / there_s / 1e6)
                rates.setdefault(f"copy 256 KiB from the board, {size}", []).append(SIZE_BYTES / back_s / 1e6)
    for name, values in rates.items():
        values.sort()
        median = statistics.median(values)
        spread = f"p10 {quantile(values, 0.1):.1f}, p90 {quantile(values, 0.9):.1f}"
        yield Row(name, f"{median:.1f}", "MB/s", spread, f"{SIZE_BYTES / median / 1000:.2f} ms a copy")
