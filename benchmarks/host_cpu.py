"""The host's own processor time of calls and copies, beside version 0.4.0 in the same run: `benchmarks/canned.py`.

Both run in processes of their own, and take turns block by block, so that a disturbance hits both of them alike.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import ROOT
from benchmarks.rows import Row, quantile

OLD_VERSION = "0.4.0"
OLD_COMMIT = "e14e512e5858e183626c3cfc12b8b288d9f86a90"
_PROGRAM = ROOT / "benchmarks" / "canned.py"
_BUILD = ROOT / "build"

Blocks = list[float]


@dataclass(frozen=True)
class Work:
    """What is measured: its row's name and unit, how much of it makes a block, and the most that it may be.

    Those are shares: of 0.4.0's without and with the link, and of its own without the link.
    """

    title: str
    unit: str
    block: int
    most_of_old: tuple[float, float]
    most_on_of_off: float | None = None


WORKS: Mapping[str, Work] = {
    "call": Work("a call", "us", 2000, (0.8, 0.65), 1.7),
    "to": Work("a copy to the board", "us/KiB", 20, (1.0, 1.0)),
    "from": Work("a copy from the board", "us/KiB", 20, (1.0, 1.0)),
}
_WHERE = {"off": "off the link", "on": "on the link"}


class MissingError(Exception):
    """Version 0.4.0 cannot be had here; the text says why."""


def measure(*, quick: bool) -> Iterator[Row]:
    """Time all works in turn, this version and 0.4.0 one after the other."""
    rounds = 3 if quick else 61
    missing: Row | None = None
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(_Host(ROOT))
        hosts = [ours]
        try:
            hosts.append(stack.enter_context(_Host(old_version())))
        except MissingError as error:
            missing = Row(f"host CPU of {OLD_VERSION}", "missing", "", "", f"{error}: this version is measured alone")
        times: dict[tuple[str, str], dict[str, Blocks]] = {}
        for number in range(rounds):
            for name, work in WORKS.items():
                for where in _WHERE:
                    block = max(work.block // 10, 1) if quick else work.block
                    for host in hosts if number % 2 else reversed(hosts):
                        blocks = times.setdefault((name, where), {}).setdefault(host.version, [])
                        blocks.append(host.time(f"{name}-{where}", block))
    if missing is not None:
        yield missing
    for name, work in WORKS.items():
        yield from _rows(work, {where: times[name, where] for where in _WHERE}, ours.version)


def old_version() -> Path:
    """Give the folder of version 0.4.0, a git worktree that is made where there is none. Raises MissingError."""
    path = _BUILD / OLD_VERSION
    _BUILD.mkdir(exist_ok=True)
    with open(_BUILD / f"{OLD_VERSION}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (path / "microrpc").is_dir():
            # By force: a worktree that was removed by hand, or `make clean`, is still written down.
            command = ["git", "-C", str(ROOT), "worktree", "add", "--detach", "--force", str(path), OLD_COMMIT]
            try:
                subprocess.run(command, check=True, capture_output=True, text=True)
            except FileNotFoundError:
                raise MissingError("git is not installed") from None
            except subprocess.CalledProcessError as error:
                text = (error.stderr.strip().splitlines() or ["git failed"])[-1]
                raise MissingError(f"commit {OLD_COMMIT[:7]} is not in this copy of the project ({text})") from None
    return path


class _Host:
    """A process that measures the version whose folder is `root`."""

    def __init__(self, root: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_PROGRAM)],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.version = self._answer()

    def __enter__(self) -> _Host:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def time(self, case: str, units: int) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{case} {units}\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{_PROGRAM.name} ended in {self._process.args!r}; what it wrote above says why")
        return line.strip()


def _rows(work: Work, times: Mapping[str, Mapping[str, Blocks]], version: str) -> Iterator[Row]:
    for (where, blocks_of), most in zip(times.items(), work.most_of_old, strict=True):
        name = f"host CPU of {work.title}, {_WHERE[where]}"
        ours, old = blocks_of[version], blocks_of.get(OLD_VERSION)
        yield _row(name, ours, work.unit, "canned board in memory")
        if old is not None:
            yield _row(f"{name}, {OLD_VERSION}", old, work.unit, "the same program")
            yield _row(f"{name} / {OLD_VERSION}", _ratios(ours, old), "times", f"at most {most:g}")
    if (most_on := work.most_on_of_off) is not None:
        ratios = _ratios(times["on"][version], times["off"][version])
        yield _row(f"host CPU of {work.title}, on the link / off it", ratios, "times", f"at most {most_on:g}")


def _ratios(blocks: Blocks, others: Blocks) -> Blocks:
    """Pair by pair: each block beside the one that was next to it in time."""
    return [block / other for block, other in zip(blocks, others, strict=True)]


def _row(name: str, values: Blocks, unit: str, remark: str) -> Row:
    values = sorted(values)
    spread = f"p10 {quantile(values, 0.1):.2f}, p90 {quantile(values, 0.9):.2f}"
    raw = {"kind": "host-cpu", "values": [round(value, 4) for value in values]}
    return Row(name, f"{statistics.median(values):.2f}", unit, spread, f"{remark}; {len(values)} blocks", raw)
