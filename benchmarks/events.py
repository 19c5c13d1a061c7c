"""400 events a second of 32 bytes at 921600 baud, beside calls and beside copies: what they cost, and what gets lost.

First in virtual time on the simulated line; then in real time over a paced pty, where pw_rpc's server streaming is the
peer. With events and without take turns, so each ratio is of one run.
"""

from __future__ import annotations

import contextlib
import json
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks.ceilings import DIRECTIONS, Direction
from benchmarks.pacing import BAUD, paced
from benchmarks.peers.environment import DEFAULT_VENV, PACKAGES, MissingError, prepare
from benchmarks.processes import ROOT, child
from benchmarks.reporting import EVENT, EVENT_BYTES, Reporter, profile, speak_on_line
from benchmarks.rows import Row, quantile
from firmware_sim.running.simulate import SimBoard
from microrpc.connecting.blocking import open_board
from microrpc.wire.events import EventMessage, encode_event, encode_event_body
from microrpc.wire.frames import encode_frame
from microrpc.wire.uart import BITS_PER_BYTE

RATE_HZ = 400
COPY_BYTES = 256 * 1024
_QUICK_COPY_BYTES = 16384
_BLOCK = 100
_ANSWER_S = 60.0
MOST_SLOWER = 1.5
"""How much longer a call may take beside events."""
LEAST_LEFT = 90.0
"""How much of what the events leave of the line a copy must have, in per cent."""


@dataclass
class Beside:
    """Times of the same thing without events and beside them, in seconds, and what became of the events."""

    without: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    said: int = 0
    came: int = 0
    missed: int = 0

    @property
    def slower(self) -> float:
        """How many times as long it takes, by the medians."""
        return statistics.median(self.beside) / statistics.median(self.without)


def event_line_share(found: Beside) -> float:
    """Give the share of the line to the host that the events took which came beside a copy."""
    return found.came * event_bytes() * BITS_PER_BYTE / BAUD / sum(found.beside)


def measure(*, quick: bool, venv: Path = DEFAULT_VENV) -> Iterator[Row]:
    """Measure all of it."""
    yield from _in_virtual_time(quick=quick)
    yield from _in_real_time(quick=quick, venv=venv)


# --- rows -------------------------------------------------------------------------------------------


def _raw(found: Beside, title: str, figure: str) -> Mapping[str, Any]:
    counts = {"said": found.said, "came": found.came, "missed": found.missed}
    return {"kind": "events", "series": title, "figure": figure, "value": found.slower, **counts}


def _fate(found: Beside) -> str:
    return f"{found.came:,} events came, {found.missed:,} missed"


def _call_row(title: str, found: Beside) -> Row:
    without, beside = (statistics.median(times) * 1e6 for times in (found.without, found.beside))
    remark = f"{beside:,.1f} us beside {RATE_HZ} events/s, {without:,.1f} without; {_fate(found)}"
    if title.startswith("microrpc"):
        remark += f"; at most {MOST_SLOWER}"
    times_us = sorted(1e6 * time_s for time_s in found.beside)
    spread = f"min {times_us[0]:,.1f}, p90 {quantile(times_us, 0.9):,.1f}"
    return Row(
        f"call beside events: {title}", f"{found.slower:.2f}", "times", spread, remark, _raw(found, title, "call")
    )


def _copy_row(title: str, direction: Direction, found: Beside, size_bytes: int, taken: float) -> Row:
    """Make a row; `taken` is the share of the copy's direction that the events take."""
    left = 1 - taken
    shares = sorted(100 * statistics.median(found.without) / (time_s * left) for time_s in found.beside)
    without, beside = (size_bytes / statistics.median(times) / 1e3 for times in (found.without, found.beside))
    remark = f"{beside:.1f} KB/s beside events, which leave {100 * left:.1f} %; {without:.1f} without; {_fate(found)}"
    if title.startswith("microrpc"):
        remark += f"; at least {LEAST_LEFT:.0f}"
    name = f"copy {size_bytes // 1024} KiB {direction} the board beside events: {title}"
    spread = f"least {shares[0]:.1f}, most {shares[-1]:.1f}"
    raw = _raw(found, title, f"copy {direction}")
    return Row(name, f"{statistics.median(shares):.1f}", "% of what is left", spread, remark, raw)


# --- in virtual time --------------------------------------------------------------------------------


def event_bytes() -> float:
    """Give what an event of ours takes on the wire, its frame and escapes included, while numbers are small."""
    messages = [EventMessage(n, False, 2500 * n, EVENT, (n.to_bytes(EVENT_BYTES, "little"),)) for n in range(1000)]
    return statistics.fmean(len(encode_frame(encode_event(0x1234, encode_event_body(one)))) for one in messages)


class _Virtual:
    """A board in virtual time that says its events, and a host that hears them."""

    def __init__(self) -> None:
        self.sim = SimBoard(profile(), seed=1)
        self._reporter = Reporter(self.sim.device)
        speak_on_line(self.sim, self._reporter)
        self._board = open_board(self.sim.open_channel(), self.sim.profile.timeouts, seed=1, baud=BAUD)
        self._came = self._missed = 0
        self._board.on_event(None, self._on_event)
        self._board.poll(1.0)

    def _on_event(self, event: Any) -> None:
        self._came += not event.is_gap
        self._missed += event.missed

    def measure(self, found: Beside, step: Any, times: int) -> None:
        """Do a step so many times without events, and so many times beside them."""
        for into, rate_hz in ((found.without, 0), (found.beside, RATE_HZ)):
            came, missed, said = self._came, self._missed, self._reporter.said
            self._reporter.set_rate(rate_hz, self.sim.now())
            for _ in range(times):
                start = self.sim.now()
                step()
                into.append(self.sim.now() - start)
            self._reporter.set_rate(0, self.sim.now())
            self._board.poll(1.0)  # until the tail is known
            found.came += self._came - came
            found.missed += self._missed - missed
            found.said += self._reporter.said - said
        if found.came + found.missed != found.said:
            raise AssertionError(f"{found.said} events: {found.came} came, and {found.missed} are known to be missed")

    def rows(self, *, quick: bool) -> Iterator[Row]:
        title = "microrpc, virtual time"
        board, size_bytes = self._board, _QUICK_COPY_BYTES if quick else COPY_BYTES
        noop, calls = board.function("noop"), Beside()
        for _ in range(1 if quick else 10):
            self.measure(calls, noop, _BLOCK)
        yield _call_row(title, calls)
        data = np.random.default_rng(5).integers(0, 256, size_bytes, dtype=np.uint8)
        array = board.array(data)
        steps = {"to": lambda: array.write(data), "from": array.numpy}
        for direction in DIRECTIONS:
            copies = Beside()
            self.measure(copies, steps[direction], 1 if quick else 5)
            taken = event_line_share(copies) if direction == "from" else 0.0
            yield _copy_row(title, direction, copies, size_bytes, taken)


def _in_virtual_time(*, quick: bool) -> Iterator[Row]:
    yield from _Virtual().rows(quick=quick)


# --- in real time, beside a peer --------------------------------------------------------------------


class _Talker:
    """A client in a process of its own, which takes orders; a context manager. Raises RuntimeError where it fails."""

    def __init__(self, title: str, command: tuple[str, ...], path: str) -> None:
        self.title = title
        self._command = (*command, "events", path)

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.communicate()

    def order(self, *order: object) -> Any:
        """Send an order, and give its answer."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
        if not select.select([process.stdout], [], [], _ANSWER_S)[0]:
            raise RuntimeError(f"hangs: ended after {_ANSWER_S:.0f} s")
        line = process.stdout.readline()
        if not line:
            assert process.stderr is not None
            words = process.stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise RuntimeError(f"failed: {words}")
        return json.loads(line)

    def measure(self, found: Beside, *order: object) -> None:
        """Carry out an order without events, and beside them."""
        found.without += self.order(*order)
        self.order("report", RATE_HZ)
        time.sleep(0.1)
        self.order("events")
        found.beside += self.order(*order)
        self.order("report", 0)
        time.sleep(0.5)  # until the tail is known
        came, missed = self.order("events")
        found.came += came
        found.missed += missed


def _in_real_time(*, quick: bool, venv: Path) -> Iterator[Row]:
    with contextlib.ExitStack() as stack:
        talkers: list[_Talker] = []
        device = stack.enter_context(child("benchmarks.reporting"))
        ours = (sys.executable, "-m", "benchmarks.peers.ours_peer", "link")
        path = stack.enter_context(paced(device))
        talkers.append(stack.enter_context(_Talker("microrpc, paced line", ours, path)))
        package = next(package for package in PACKAGES if package.script == "pigweed")
        title = f"{package.title}, paced line"
        try:
            python = prepare(package, venv, may_install=not quick)
        except MissingError as reason:
            yield Row(f"events: {title}", "missing", "", "", str(reason))
        else:
            module = "benchmarks.peers.pigweed_peer"
            device = stack.enter_context(child(module, "serve", python=python))
            path = stack.enter_context(paced(device))
            talkers.append(stack.enter_context(_Talker(title, (python, "-m", module), path)))
        yield from _talker_rows(talkers, quick=quick)


def _talker_rows(talkers: list[_Talker], *, quick: bool) -> Iterator[Row]:
    size_bytes = _QUICK_COPY_BYTES if quick else COPY_BYTES
    calls = {talker.title: Beside() for talker in talkers}
    copies = {talker.title: Beside() for talker in talkers}
    failures: dict[str, str] = {}
    for found, order, repeats in ((calls, ("calls", _BLOCK), 10), (copies, ("copy", size_bytes), 3)):
        for _ in range(1 if quick else repeats):
            for talker in talkers:
                if talker.title not in failures:
                    try:
                        talker.measure(found[talker.title], *order)
                    except RuntimeError as error:
                        failures[talker.title] = str(error)
    for talker in talkers:
        if reason := failures.get(talker.title):
            yield Row(f"events: {talker.title}", "failed", "", "", reason)
        else:
            yield _call_row(talker.title, calls[talker.title])
            yield _copy_row(talker.title, "to", copies[talker.title], size_bytes, 0.0)
