"""What of ONNX's own tests can be made firmware: each case, as far as it comes, and why not further.

    PYTHONPATH=.:tests python tests/onnx_survey.py --write

tries all of them, in a quarter of an hour on two cores, and writes tests/tvm/onnx_survey.toml; docs/tvm_models.md sums
it up. It needs the extra tvm, the package onnx and gcc. Each case is tried in a worker, a process that may crash or
hang.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import pathlib
import pickle
import re
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx_cases import Case, is_close, made_cases, shipped_cases
from onnx_on_host import HostModel, compile_adapter

from microrpc.errors import FirmwareError, UnsupportedValueError
from microrpc.wire.datatypes import DataType

TABLE = pathlib.Path(__file__).parent / "tvm" / "onnx_survey.toml"
STAGES = ("case", "importer", "lowering", "compiler", "run", "differs", "agrees")
"""How far a case comes. `case`: its inputs or outputs are no tensors, or of types that no board has."""
FITTING = ("float32", "int8", "uint8", "int32")
SECONDS_A_CASE = 60


def unfit(case: Case) -> str:
    """Why a case has nothing that a board could be given; "" where it has."""
    if not case.data_sets:
        return "has no data"
    for given, expected in case.data_sets:
        for array in (*given, *expected):
            if not isinstance(array, np.ndarray):
                return f"takes or gives a {type(array).__name__}, no tensor"
            try:
                DataType.from_numpy(array.dtype)
            except UnsupportedValueError:
                return f"takes or gives {array.dtype}"
    return ""


def is_fitting(case: Case) -> bool:
    """Whether all that it takes and gives is of FITTING."""
    return all(
        isinstance(array, np.ndarray) and array.dtype.name in FITTING
        for data_set in case.data_sets
        for arrays in data_set
        for array in arrays
    )


def try_case(case: Case, adapter: pathlib.Path) -> tuple[str, str]:
    """Give the stage that a case comes to, and why it comes no further."""
    import tvm

    from microrpc.firmware.tvm.onnx import FUNCTION, import_model
    from microrpc.firmware.tvm.relax import lower_model

    if reason := unfit(case):
        return "case", reason
    try:
        module = import_model(case.model, case.name)
    except FirmwareError as error:
        return "importer", str(error)
    try:
        plan = lower_model(module, FUNCTION, tvm.target.Target("c"), case.name)
    except FirmwareError as error:
        return "lowering", str(error)
    with tempfile.TemporaryDirectory() as directory:
        try:
            model = HostModel(plan, adapter, pathlib.Path(directory))
        except (FirmwareError, RuntimeError) as error:
            return "compiler", str(error)
        for given, expected in case.data_sets:
            if [(argument.shape, argument.dtype.numpy) for argument in plan.inputs] != [
                (array.shape, array.dtype) for array in given
            ]:
                return "run", "the data are not of the model's types and shapes"
            try:
                results = model(*given)
            except RuntimeError as error:
                return "run", str(error)
            if len(results) != len(expected):
                return "differs", f"{len(results)} results for {len(expected)}"
            for result, wanted in zip(results, expected, strict=True):
                if not is_close(result, wanted, case):
                    return "differs", _difference(result, wanted)
    return "agrees", ""


def _difference(given: Any, wanted: Any) -> str:
    if given.shape != wanted.shape or given.dtype != wanted.dtype:
        return f"{given.dtype}{list(given.shape)} for {wanted.dtype}{list(wanted.shape)}"
    with np.errstate(all="ignore"):
        off = np.abs(given.astype("float64") - wanted.astype("float64"))
    return f"off by {np.nanmax(off):.2g}" if np.isfinite(off).any() else "other values that are not finite"


def work(adapter: str) -> None:
    """Try the pickled case of each path that comes, and print what came of it: a worker's side."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # TVM prints
    for line in sys.stdin:
        case = pickle.loads(pathlib.Path(line.strip()).read_bytes())
        try:
            found = try_case(case, pathlib.Path(adapter))
        except Exception as error:  # a defect: the table must have none
            found = ("defect", f"{type(error).__name__}: {error}")
        print(json.dumps(found), file=answers, flush=True)


class Worker:
    """A process that tries cases; another one after a case that it did not survive."""

    def __init__(self, adapter: pathlib.Path) -> None:
        self._command = [sys.executable, __file__, "--work", str(adapter)]
        self._process: subprocess.Popen[str] | None = None

    def ask(self, path: pathlib.Path) -> tuple[str, str]:
        """Try the case that is pickled in a file."""
        process = self._process = self._process or subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        print(path, file=process.stdin, flush=True)
        ready, _, _ = select.select([process.stdout], [], [], SECONDS_A_CASE)
        line = process.stdout.readline() if ready else ""
        if line:
            stage, reason = json.loads(line)
            return stage, reason
        self.close()
        return "importer", f"TVM crashes, or takes more than {SECONDS_A_CASE} s"

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._process = None


def survey(cases: list[Case], workers: int) -> Iterator[tuple[Case, str, str]]:
    """Try each case; give them in the order in which they are done."""
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)
        adapter = compile_adapter(folder)
        todo = list(enumerate(cases))[::-1]
        done: list[tuple[Case, str, str]] = []
        changed = threading.Condition()

        def run() -> None:
            worker = Worker(adapter)
            with contextlib.closing(worker):
                while True:
                    with changed:
                        if not todo:
                            return
                        number, case = todo.pop()
                    path = folder / f"{number}.pickle"
                    path.write_bytes(pickle.dumps(case))
                    found = worker.ask(path)
                    path.unlink()
                    with changed:
                        done.append((case, *found))
                        changed.notify_all()

        threads = [threading.Thread(target=run) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for i in range(len(cases)):
            with changed:
                changed.wait_for(lambda i=i: len(done) > i)
            yield done[i]
        for thread in threads:
            thread.join()


def summed_up(reason: str, name: str) -> str:
    """A reason without what is of one case alone, so that cases of one reason come together."""
    reason = " ".join(reason.replace(name, "NAME").split())
    reason = re.sub(r"^NAME: (TVM's importer does not take it: |main: )?", "", reason)
    reason = re.sub(r"-?\d+(\.\d+)?(e-?\d+)?", "N", reason)
    reason = re.sub(r"\[[N, ]*\]|\((N, )*N?,?\)", "[...]", reason)
    return reason[:140]


def write(found: list[tuple[Case, str, str]], path: pathlib.Path) -> None:
    """Write the table: how many there are of each kind, and the cases of each stage and reason."""
    import onnx
    import tvm

    lines = ["# Written by tests/onnx_survey.py: how far each of ONNX's own tests comes, by stage and reason."]
    lines += [f'tvm = "{tvm.__version__}"', f'onnx = "{onnx.__version__}"', ""]
    groups: dict[str, dict[str, list[str]]] = {stage: {} for stage in (*STAGES, "defect")}
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for case, stage, reason in sorted(found, key=lambda entry: entry[0].name):
        groups[stage].setdefault(summed_up(reason, case.name), []).append(case.name)
        for kind in (case.kind, "all", *(["fitting"] if is_fitting(case) else [])):
            counts[kind][stage] += 1
    for kind, counted in counts.items():
        lines.append(f'[counts."{kind}"]')
        lines += [f"{stage} = {counted[stage]}" for stage in groups if counted[stage]]
        lines.append("")
    for stage, reasons in groups.items():
        for reason, names in sorted(reasons.items(), key=lambda entry: (-len(entry[1]), entry[0])):
            lines += ["[[cases]]", f'stage = "{stage}"', f"reason = {json.dumps(reason)}", "names = ["]
            lines += [f'    "{name}",' for name in names]
            lines += ["]", ""]
    path.write_text("\n".join(lines))


def main() -> None:
    """Run from the command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--write", action="store_true", help="write the table")
    options.add_argument("--only", default="", help="the cases whose name has this")
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--work", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.work:
        work(given.work)
        return
    cases = [case for case in (*shipped_cases(), *made_cases()) if given.only in case.name]
    found = []
    for case, stage, reason in survey(cases, given.workers):
        found.append((case, stage, reason))
        print(f"{len(found)}/{len(cases)} {case.name}: {stage} {' '.join(reason.split())[:200]}", flush=True)
    print(collections.Counter(stage for _, stage, _ in found))
    if given.write:
        write(found, TABLE)


if __name__ == "__main__":
    main()
