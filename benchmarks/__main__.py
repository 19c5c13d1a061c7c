"""Print one table of all measurements; nothing is asserted about speed."""

from __future__ import annotations

import argparse
import functools
import json
import os
import pathlib
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping

from benchmarks import (
    boards,
    calls,
    capture,
    codec,
    copies,
    devices,
    events,
    host_cpu,
    line_rate,
    monitor,
    noise,
    pacing,
    rack,
    ser2net,
    steps,
    virtual_time,
    wireshark,
)
from benchmarks.peers import compare
from benchmarks.peers.environment import DEFAULT_VENV
from benchmarks.rows import Row
from benchmarks.tvm import section as tvm
from benchmarks.tvm.workers import DEFAULT_PYTHON
from microrpc.boards.files import replacing
from microrpc.wire.crc import CRC_ENGINE

Measure = Callable[..., Iterable[Row]]


def sections(
    seeds: int, full_noise: bool, peers_venv: pathlib.Path, tvm_python: pathlib.Path
) -> Mapping[str, tuple[Measure, ...]]:
    """Give what can be measured, by name, in the order of the table."""
    return {
        "codec": (codec.measure,),
        "steps": (steps.measure, host_cpu.measure),
        "calls": (calls.measure,),
        "copies": (copies.measure,),
        "capture": (capture.measure,),
        "boards": (boards.measure,),
        "rack": (rack.measure,),
        "ser2net": (ser2net.measure,),
        "virtual-time": (virtual_time.measure,),
        "line-rate": (pacing.measure, line_rate.measure),
        "noise": (functools.partial(noise.measure, seeds=seeds, full=full_noise),),
        "devices": (devices.measure,),
        "monitor": (monitor.measure,),
        "wireshark": (wireshark.measure,),
        "events": (functools.partial(events.measure, venv=peers_venv),),
        "peers": (functools.partial(compare.measure, venv=peers_venv),),
        "tvm": (functools.partial(tvm.measure, python=tvm_python),),
    }


def table(rows: list[Row]) -> str:
    """Align the columns; values to the right, text to the left."""
    lines = [("measured", "median", "unit", "spread", "remark"), *(row[:5] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [
        "  ".join(
            cell.rjust(width) if index == 1 else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([aligned[0], "  ".join("-" * width for width in widths), *aligned[1:]])


def save(path: pathlib.Path, machine: str, rows: Mapping[str, list[Row]]) -> None:
    """Write all rows with their raw figures, for `benchmarks.plots` and for comparing runs."""
    everything = [{"section": name, **row._asdict(), "raw": dict(row.raw)} for name in rows for row in rows[name]]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write((json.dumps({"machine": machine, "rows": everything}, indent=1) + "\n").encode())


def main() -> None:
    names = list(sections(0, False, DEFAULT_VENV, DEFAULT_PYTHON))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"which of {', '.join(names)}; else all")
    parser.add_argument("--quick", action="store_true", help="few repetitions: shows that it runs, not how fast")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the rows and their raw figures too")
    parser.add_argument("--seeds", type=int, default=noise.SEEDS, help="of each noise (%(default)s)")
    parser.add_argument(
        "--full-noise", action="store_true", help="1 MiB and 10,000 calls with each seed, where the link repeats losses"
    )
    parser.add_argument("--peers-venv", type=pathlib.Path, default=DEFAULT_VENV, help="made where there is none")
    parser.add_argument("--tvm-python", type=pathlib.Path, default=DEFAULT_PYTHON, help="an interpreter that has TVM")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(names):
        parser.error(f"there is no section {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    chosen = sections(options.seeds, options.full_noise, options.peers_venv, options.tvm_python)
    start = time.monotonic()
    rows: dict[str, list[Row]] = {}
    for name, measures in chosen.items():
        if not options.sections or name in options.sections:
            print(f"{name} ...", file=sys.stderr, flush=True)
            rows[name] = [row for measure in measures for row in measure(quick=options.quick)]
    machine = f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores"
    print(f"{machine}; crc: {CRC_ENGINE}")
    print(table([row for name in rows for row in rows[name]]))
    taken = f"Took {time.monotonic() - start:.1f} s{', --quick' if options.quick else ''}."
    print(f"MB are of payload, 10**6 bytes. {taken}")
    if options.json:
        save(options.json, machine, rows)


if __name__ == "__main__":
    main()
