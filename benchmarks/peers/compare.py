"""Ours and its peers, side by side: calls, codecs, and copies over a paced line. A peer that hangs is ended."""

from __future__ import annotations

import contextlib
import json
import select
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.modes import MODES
from benchmarks.pacing import efficiency, paced
from benchmarks.peers.environment import DEFAULT_VENV, PACKAGES, MissingError, prepare
from benchmarks.processes import ROOT, child
from benchmarks.rows import Row, quantile

_COPY_BYTES = 256 * 1024
_DEADLINE_S = 60.0
_CALLS_S = 10.0
_BLOCK = 100
_BASELINE = "eRPC"
_COPIES = {
    "erpc": ("256 B messages", "4 KiB messages"),
    "pigweed": ("unary calls, 1 KiB",),
    "smp": ("encoded, 4 KiB buffer", "raw, 4 KiB buffer"),
    "serialtransfer": ("254 B packets",),
}

Blocks = list[list[float]]


class _FailedError(Exception):
    """Why a peer gave no figure."""


@dataclass(frozen=True)
class _Contender:
    """Something to be measured: how to start its device, and how to run its script."""

    title: str
    script: str
    command: tuple[str, ...]
    serve: Callable[[], AbstractContextManager[str]]

    def run(self, *args: str) -> dict[str, Any]:
        """Give what the script prints. Raises _FailedError."""
        try:
            done = subprocess.run(
                [*self.command, *args], cwd=ROOT, capture_output=True, text=True, timeout=_DEADLINE_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise _FailedError(f"hangs: ended after {_DEADLINE_S:.0f} s") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
            raise _FailedError(f"failed: {last}")
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result


def measure(*, quick: bool, venv: Path = DEFAULT_VENV) -> Iterator[Row]:
    """Run what is there; say what is not."""
    contenders = [_peer("16 B echo, no protocol", "echo", sys.executable), *map(_ours, MODES)]
    for package in PACKAGES:
        try:
            python = prepare(package, venv, may_install=not quick)
        except MissingError as reason:
            yield Row(package.title, "missing", "", "", str(reason))
        else:
            contenders.append(_peer(package.title, package.script, python))
    yield from _call_rows(contenders, rounds=1 if quick else 8, blocks=2 if quick else 10)
    yield from _codec_rows(contenders)
    yield from _copy_rows(contenders, 16384 if quick else _COPY_BYTES, 1 if quick else 3)


def _peer(title: str, script: str, python: str) -> _Contender:
    module = f"benchmarks.peers.{script}_peer"
    return _Contender(title, script, (python, "-m", module), lambda: child(module, "serve", python=python))


def _ours(mode: str) -> _Contender:
    command = (sys.executable, "-m", "benchmarks.peers.ours_peer", mode)
    return _Contender(f"microrpc, {mode}", "ours", command, lambda: child("benchmarks.board", mode, "2048"))


# --- calls ------------------------------------------------------------------------------------------


class _Caller:
    """A client that waits for orders, so that clients can take turns; a context manager."""

    def __init__(self, contender: _Contender) -> None:
        self._contender = contender
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        path = self._stack.enter_context(self._contender.serve())
        self._process = subprocess.Popen(
            [*self._contender.command, "call", path],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._stack.enter_context(self._process)
        self._stack.callback(self._process.kill)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def block(self, count: int) -> list[float]:
        """Give the times of a block of calls, in microseconds. Raises _FailedError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(b"%d\n" % count)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise _FailedError(self._last_words()) from None
        if not select.select([self._process.stdout], [], [], _CALLS_S)[0]:
            raise _FailedError(f"hangs: ended after {_CALLS_S:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise _FailedError(self._last_words())
        times: list[float] = json.loads(line)
        return times

    def _last_words(self) -> str:
        assert self._process.stderr is not None
        return "failed: " + self._process.stderr.read().decode(errors="replace").strip().rpartition("\n")[2]


def _call_rows(contenders: list[_Contender], rounds: int, blocks: int) -> Iterator[Row]:
    """Time calls of all in turn, in blocks; every round has new processes, for where they run decides much."""
    times: dict[str, Blocks] = {contender.title: [] for contender in contenders if contender.script != "cobs"}
    for _ in range(rounds):
        for title, reason in _one_round([one for one in contenders if one.title in times], blocks, times):
            del times[title]
            yield Row(f"call: {title}", "failed", "", "", reason)
    for title, measured in times.items():
        yield _call_row(title, measured)
    yield from _ratio_rows(times)


def _one_round(contenders: list[_Contender], blocks: int, times: dict[str, Blocks]) -> list[tuple[str, str]]:
    """Add a round to `times`, after a block to warm up; give who failed, and why."""
    failures: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        callers: dict[str, _Caller] = {}
        for contender in contenders:
            try:
                callers[contender.title] = stack.enter_context(_Caller(contender))
            except RuntimeError as error:
                failures[contender.title] = str(error)
        for number in range(1 + blocks):
            for title, caller in callers.items():
                if title in failures:
                    continue
                try:
                    block = caller.block(_BLOCK)
                except _FailedError as error:
                    failures[title] = str(error)
                    continue
                if number:
                    times[title].append(block)
    return list(failures.items())


def _call_row(title: str, blocks: Blocks) -> Row:
    every = sorted(time_us for block in blocks for time_us in block)
    spread = f"min {every[0]:.1f}, p90 {quantile(every, 0.9):.1f}"
    raw = {
        "kind": "peer-call",
        "series": title,
        "quantiles_us": [round(quantile(every, index / 200), 1) for index in range(201)],
    }
    remark = f"{len(every):,} times, in turns of {_BLOCK}"
    return Row(f"call: {title}", f"{statistics.median(every):.1f}", "us", spread, remark, raw)


def _ratio_rows(times: dict[str, Blocks]) -> Iterator[Row]:
    baseline = next((blocks for title, blocks in times.items() if title.startswith(_BASELINE)), None)
    if baseline is None:
        return
    for title, blocks in times.items():
        if title.startswith("microrpc"):
            by_block = sorted(
                statistics.median(ours) / statistics.median(theirs)
                for ours, theirs in zip(blocks, baseline, strict=True)
            )
            spread = f"p10 {quantile(by_block, 0.1):.2f}, p90 {quantile(by_block, 0.9):.2f}"
            value = f"{statistics.median(by_block):.2f}"
            yield Row(f"call: {title} / {_BASELINE}", value, "times", spread, "of medians, block by block")


# --- codecs -----------------------------------------------------------------------------------------


def _codec_rows(contenders: list[_Contender]) -> Iterator[Row]:
    for contender in contenders:
        if contender.script == "echo" or (contender.script == "ours" and contender.title != "microrpc, robust"):
            continue
        title = "microrpc" if contender.script == "ours" else contender.title
        try:
            rates = contender.run("codec")["rates"]
        except _FailedError as error:
            yield Row(f"codec: {title}", "failed", "", "", str(error))
            continue
        for size_bytes, (encode, decode) in rates.items():
            raw = {"kind": "peer-codec", "series": title, "size_bytes": int(size_bytes), "mb_s": [encode, decode]}
            yield Row(
                f"codec: {title}, {size_bytes} B", f"{encode:,.1f}", "MB/s", "", f"decode {decode:,.1f} MB/s", raw
            )


# --- copies -----------------------------------------------------------------------------------------


def _copy_rows(contenders: list[_Contender], size_bytes: int, repeats: int) -> Iterator[Row]:
    """Copy to the device over a paced line; our own copies are in the section line-rate."""
    for contender in contenders:
        for variant in _COPIES.get(contender.script, ()):
            name = f"{size_bytes // 1024} KiB to the device: {contender.title}, {variant}"
            try:
                shares = sorted(_copy(contender, variant, size_bytes) for _ in range(repeats))
            except (_FailedError, RuntimeError) as error:
                yield Row(name, "failed", "", "", str(error))
                continue
            spread = f"least {shares[0]:.1f}, most {shares[-1]:.1f}"
            raw = {"kind": "peer-copy", "series": f"{contender.title}, {variant}", "efficiencies": shares}
            yield Row(name, f"{statistics.median(shares):.1f}", "% of line", spread, f"{repeats} times", raw)


def _copy(contender: _Contender, variant: str, size_bytes: int) -> float:
    with contender.serve() as path, paced(path) as paced_path:
        return efficiency(size_bytes, contender.run("copy", paced_path, variant, str(size_bytes))["seconds"])
