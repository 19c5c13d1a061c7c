"""All that is measured of today's TVM, one after the other; what cannot be measured here is said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from benchmarks.peers.environment import MissingError
from benchmarks.rows import Row
from benchmarks.tvm import builds, calls, copies, tuning, workers
from benchmarks.tvm.workers import WorkerError
from microrpc.errors import MicroRpcError

PARTS: dict[str, Callable[..., Iterable[Row]]] = {
    "calls through the gateway": calls.measure,
    "copies through the gateway": copies.measure,
    "flash of kernels": builds.measure_kernels,
    "runs of models": builds.measure_models,
    "tuning": tuning.measure,
}


def measure(*, quick: bool, python: Path) -> Iterator[Row]:
    """Measure each part; `python` is the interpreter that has TVM."""
    try:
        found = workers.find(python)
    except MissingError as reason:
        yield Row("TVM", "missing", "", "", str(reason))
        return
    for title, part in PARTS.items():
        try:
            yield from part(found, quick=quick)
        except MissingError as reason:
            yield Row(title, "missing", "", "", str(reason))
        except (MicroRpcError, WorkerError) as error:
            yield Row(title, "failed", "", "", str(error))
