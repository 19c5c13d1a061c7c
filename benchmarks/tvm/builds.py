"""What TVM compiles, on boards: the flash that kernels take, and how long models run."""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.environment import MissingError
from benchmarks.rows import Row, quantile
from benchmarks.tvm import workers
from benchmarks.tvm.workers import WorkerError
from microrpc.client.board import Board
from microrpc.connecting.address import find_target
from microrpc.connecting.blocking import open_session
from microrpc.connecting.openers.emulated import open_running
from microrpc.errors import MicroRpcError
from microrpc.firmware.build import build
from microrpc.firmware.emulator import start_firmware
from microrpc.firmware.project import load_port, load_project
from microrpc.host.model_report import ModelReport
from microrpc.wire.session import Timeouts

BOARDS = ("posix", "qemu_mps2_an385", "qemu_riscv32_virt")
QUICK_BOARDS = BOARDS[:1]  # in QEMU a byte takes up to 80 us
MODELS = ("mlp", "convnet")
TARGETS = ("c", "llvm")
_TIMEOUTS = Timeouts(retry_s=1.0, start_s=20.0, call_s=20.0)  # an emulator on a busy computer
_CORTEX_M3 = "qemu_mps2_an385"
_SOURCES = Path("benchmarks") / "tvm" / "sources.py"


def measure_kernels(python: str, *, quick: bool) -> Iterator[Row]:
    """Build four kernels for a Cortex-M3 with both targets. Raises WorkerError."""
    with tempfile.TemporaryDirectory() as directory:
        reports = {
            target: _build(python, "kernels", _CORTEX_M3, Path(directory) / target, target) for target in TARGETS
        }
    yield from kernel_rows(reports)


def kernel_rows(reports: dict[str, dict[str, Any]]) -> Iterator[Row]:
    """Give the flash of each kernel, and of all, by what `microrpc tvm build --json` says."""
    for target, report in reports.items():
        for kernel in report["kernels"]:
            remark = f"stack {kernel['stack_bytes']} B" if kernel["stack_bytes"] is not None else ""
            yield _flash(f"Cortex-M3, {target}: {kernel['name']}", kernel["code_bytes"], remark)
        remark = f"of {report['flash_bytes']:,} of all the firmware; {report['compiler']}"
        yield _flash(f"Cortex-M3, {target}: four kernels", report["code_bytes"], remark)


def _flash(name: str, size_bytes: int, remark: str) -> Row:
    return Row(name, f"{size_bytes:,}", "B of flash", "", remark, {"kind": "tvm-flash", "value": size_bytes})


def _build(python: str, function: str, board: str, directory: Path, target: str = "c") -> dict[str, Any]:
    """Build a project by the command line. Raises WorkerError."""
    options = ["--board", board, "--out", str(directory), "--target", target, "--json"]
    printed = workers.run(python, "-m", "microrpc.cli", "tvm", "build", f"{_SOURCES}:{function}", *options)
    found: dict[str, Any] = json.loads(printed)
    return found


# --- models -----------------------------------------------------------------------------------------


def measure_models(python: str, *, quick: bool) -> Iterator[Row]:
    """Run each model on each board, all in turns; what cannot be built or run here is said."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        runs: dict[str, Callable[[], ModelReport]] = {}
        for board in QUICK_BOARDS if quick else BOARDS:
            for model in MODELS:
                title = f"{board}: {model}"
                try:
                    runs[title] = _start(python, model, board, directory / f"{board}_{model}", stack)
                except MissingError as reason:
                    yield Row(title, "missing", "", "", str(reason))
                except (MicroRpcError, WorkerError) as error:
                    yield Row(title, "failed", "", "", str(error))
        reports: dict[str, list[ModelReport]] = {title: [] for title in runs}
        for _ in range(5 if quick else 41):
            for title, run in runs.items():
                reports[title].append(run())
    for title, found in reports.items():
        yield from model_rows(title, found)


def _start(
    python: str, model: str, board: str, directory: Path, stack: contextlib.ExitStack
) -> Callable[[], ModelReport]:
    """Build a model, start its board, and give what profiles a run. Raises MissingError, MicroRpcError, WorkerError."""
    emulation = load_port(board).emulation
    if emulation is not None and emulation.program and shutil.which(emulation.program) is None:
        raise MissingError(f"{emulation.program} is not installed")
    _build(python, model, board, directory)
    emulator = stack.enter_context(start_firmware(build(load_project(directory))))
    target = find_target(None, board=board, baud=None, timeouts=_TIMEOUTS)
    connected: Board = stack.enter_context(open_session(open_running(emulator, target), target.timeouts))
    runner = connected.model(model)
    (wanted,) = runner.inputs
    x = np.random.default_rng(7).standard_normal(wanted.shape, np.float32)
    runner.profile(x)
    return partial(runner.profile, x)


def model_rows(title: str, reports: Sequence[ModelReport]) -> Iterator[Row]:
    """Give the time of a run by both clocks, and the share of the second that is the transport's."""
    by_board = [report.total_us for report in reports]
    by_host = [report.input_us + report.call_us + report.output_us for report in reports]
    shares = [100 * (1 - board / host) for board, host in zip(by_board, by_host, strict=True)]
    one = reports[0]
    memory = f"{len(one.layers)} layers, weights {one.weights_bytes:,} B, arena {one.arena_bytes:,} B"
    yield _row(f"{title}, by the board's clock", by_board, "us", memory)
    copies = "copy of the input, run, copy of the output"
    yield _row(f"{title}, by this computer's", by_host, "us", f"{copies}; {len(reports)} times")
    yield _row(f"{title}, the transport's share", shares, "%", "of the time by this computer's clock")


def _row(name: str, values: list[float], unit: str, remark: str) -> Row:
    values = sorted(values)
    median = statistics.median(values)
    spread = f"p10 {quantile(values, 0.1):,.1f}, p90 {quantile(values, 0.9):,.1f}"
    return Row(name, f"{median:,.1f}", unit, spread, remark, {"kind": "tvm-model", "value": median})
