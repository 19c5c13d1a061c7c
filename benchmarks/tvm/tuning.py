"""TVM's tuner on a Cortex-M3 in QEMU, through its tracker and the gateway: `examples/tune_matmul.py`."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.peers.environment import MissingError
from benchmarks.rows import Row
from benchmarks.tvm import workers
from benchmarks.tvm.workers import WorkerError
from microrpc.firmware.project import load_port

TRIALS = 16
_BOARD = "qemu_mps2_an385"
_RESULT = re.compile(r"^as written ([\d.]+) ms, tuned ([\d.]+) ms: [\d.]+ times as fast$", re.MULTILINE)


class Tuned(NamedTuple):
    """How long the kernel takes, in milliseconds by the board's clock."""

    as_written_ms: float
    tuned_ms: float


def measure(python: str, *, quick: bool) -> Iterator[Row]:
    """Tune once; not with --quick. Raises WorkerError."""
    if quick:
        return
    emulation = load_port(_BOARD).emulation
    assert emulation is not None
    if shutil.which(emulation.program) is None:
        raise MissingError(f"{emulation.program} is not installed")
    yield from rows(read(workers.run(python, "examples/tune_matmul.py", "--trials", str(TRIALS))))


def read(printed: str) -> Tuned:
    """Take the result out of what the example prints. Raises WorkerError."""
    found = _RESULT.search(printed)
    if found is None:
        raise WorkerError("examples/tune_matmul.py told no result")
    return Tuned(float(found[1]), float(found[2]))


def rows(tuned: Tuned) -> Iterator[Row]:
    """Give both times, and how often the second goes into the first."""
    title = "tune_tir on the Cortex-M3"
    remark = "32 x 32 float32, by the board's clock, which is QEMU's"
    yield _row(f"{title}: as written", f"{tuned.as_written_ms:.2f}", "ms", remark, tuned.as_written_ms)
    remark = f"the best of {TRIALS} trials, through tracker and gateway"
    yield _row(f"{title}: tuned", f"{tuned.tuned_ms:.2f}", "ms", remark, tuned.tuned_ms)
    gain = tuned.as_written_ms / tuned.tuned_ms
    yield _row(f"{title}: gained", f"{gain:.1f}", "times", "one run", gain)


def _row(name: str, value: str, unit: str, remark: str, raw: float) -> Row:
    return Row(name, value, unit, "", remark, {"kind": "tvm-tuning", "value": raw})
