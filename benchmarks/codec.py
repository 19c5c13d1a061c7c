"""Frames to bytes and back: how fast `encode_frame` and `FrameDecoder.feed` are on their own."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator

from benchmarks.rows import Row, quantile
from microrpc.wire.frames import FrameDecoder, encode_frame

SIZES_BYTES = (16, 64, 256, 2048, 8192)
CONTENTS: dict[str, Callable[[random.Random, int], bytes]] = {
    "random": lambda rng, size: rng.randbytes(size),
    "all 0xFF": lambda _, size: b"\xff" * size,
    "zeros": lambda _, size: bytes(size),
}
_SMALL_BYTES = 64  # up to here a frame costs more than its bytes do, and fewer of them are enough


class _Case:
    """One thing to be timed: `run` handles `frames` frames of `size` payload bytes."""

    def __init__(self, name: str, run: Callable[[], None], frames: int, size: int) -> None:
        self.name = name
        self.run = run
        self.frames = frames
        self.size = size
        self.seconds: list[float] = []

    def time(self) -> None:
        start = time.perf_counter()
        self.run()
        self.seconds.append(time.perf_counter() - start)

    def row(self) -> Row:
        total = self.frames * self.size
        rates = sorted(total / second / 1e6 for second in self.seconds)
        frames_per_s = self.frames / statistics.median(self.seconds)
        return Row(
            self.name,
            f"{statistics.median(rates):,.1f}",
            "MB/s",
            f"p10 {quantile(rates, 0.1):,.1f}, p90 {quantile(rates, 0.9):,.1f}",
            f"{frames_per_s:,.0f} frames/s",
        )


def _encode_case(name: str, payloads: list[bytes], size: int) -> _Case:
    def run() -> None:
        for payload in payloads:
            encode_frame(payload)

    return _Case(name, run, len(payloads), size)


def _decode_case(name: str, payloads: list[bytes], size: int) -> _Case:
    stream = b"".join(encode_frame(payload) for payload in payloads)
    if FrameDecoder().feed(stream) != payloads:
        raise AssertionError("what was encoded is not what is decoded")

    def run() -> None:
        FrameDecoder().feed(stream)

    return _Case(name, run, len(payloads), size)


def measure(*, quick: bool) -> Iterator[Row]:
    """Time all cases in turn, again and again, so that a disturbance of the machine hits all of them alike."""
    rng = random.Random(1)
    small_total, large_total, repeats = (16384, 65536, 3) if quick else (1 << 18, 1 << 20, 31)
    cases: list[_Case] = []
    for direction, make in (("encode", _encode_case), ("decode", _decode_case)):
        for content, fill in CONTENTS.items():
            for size in SIZES_BYTES:
                count = (small_total if size <= _SMALL_BYTES else large_total) // size
                payloads = [fill(rng, size) for _ in range(count)]
                cases.append(make(f"{direction}, {content}, {size} B", payloads, size))
    for _ in range(repeats):
        for case in cases:
            case.time()
    return (case.row() for case in cases)
