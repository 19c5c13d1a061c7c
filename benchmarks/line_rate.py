"""256 KiB of random bytes each way over a paced line, for each size of packet, beside what the line allows at most."""

from __future__ import annotations

import dataclasses
import itertools
import random
import statistics
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from benchmarks.ceilings import DIRECTIONS, Direction
from benchmarks.copies import timed_copy
from benchmarks.modes import LINE_MODES, Mode, board_profile
from benchmarks.pacing import BAUD, efficiency, paced
from benchmarks.processes import child
from benchmarks.rows import Row
from microrpc.boards.schema import BoardKind, BoardProfile
from microrpc.connecting.blocking import connect

SIZE_BYTES = 256 * 1024
PACKETS_BYTES = (256, 512, 1024, 2048, 4096, 8192)


def measure(*, quick: bool, modes: Iterable[Mode] = LINE_MODES) -> Iterator[Row]:
    """Copy with each mode and packet size in turn."""
    size_bytes, repeats, packets = (16384, 1, (2048,)) if quick else (SIZE_BYTES, 3, PACKETS_BYTES)
    data = np.frombuffer(random.Random(3).randbytes(size_bytes), np.uint8)
    cases = [(mode, packet_bytes) for packet_bytes in packets for mode in modes]
    shares: dict[tuple[str, int, Direction], list[float]] = {}
    for _, (mode, packet_bytes) in itertools.product(range(repeats), cases):
        for direction, seconds in zip(DIRECTIONS, _copy(mode, packet_bytes, data), strict=True):
            shares.setdefault((mode.name, packet_bytes, direction), []).append(efficiency(size_bytes, seconds))
    for mode, packet_bytes in cases:
        for direction in DIRECTIONS:
            yield _row(mode, packet_bytes, direction, sorted(shares[mode.name, packet_bytes, direction]))


def _copy(mode: Mode, packet_bytes: int, data: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """Give the seconds of a copy to the board and of one back."""
    with (
        child("benchmarks.board", mode.firmware, str(packet_bytes)) as path,
        paced(path) as paced_path,
        connect(paced_path, board=_profile(mode, packet_bytes), baud=BAUD, **mode.connecting) as board,
    ):
        array = board.empty(data.shape, data.dtype)
        board.max_packet_bytes()  # asked once for a session, and not part of the copy
        return timed_copy(array, data)


def _profile(mode: Mode, packet_bytes: int) -> BoardProfile:
    kind = BoardKind.HARDWARE if mode.knows_ring else BoardKind.SIMULATED
    return dataclasses.replace(board_profile(packet_bytes), kind=kind)


def _row(mode: Mode, packet_bytes: int, direction: Direction, shares: list[float]) -> Row:
    ceiling = mode.ceiling(packet_bytes, direction)
    raw = {
        "kind": "line-rate",
        "mode": mode.name,
        "packet_bytes": packet_bytes,
        "direction": direction,
        "efficiencies": shares,
        "ceiling": ceiling.percent,
    }
    return Row(
        f"{mode.name}, {packet_bytes} B packets, {direction} the board",
        f"{statistics.median(shares):.1f}",
        "% of line",
        f"least {shares[0]:.1f}, most {shares[-1]:.1f}",
        f"at most {ceiling.percent:.1f}: {ceiling}",
        raw,
    )
