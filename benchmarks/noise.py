"""A program on a noisy line, in virtual time: what is lost, what is done twice, what is wrong, and what it costs.

The program copies an array to the board and back in pieces, and calls a function that counts its calls. It repeats
nothing: a piece or a call that ends with an error is lost. A board that is dead is reset. Every seed has its own data,
noise and nonces; `replay(mode, noise, seed)` runs one again.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import os
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from benchmarks.modes import MODES, Mode, board_profile
from benchmarks.pacing import BAUD
from benchmarks.rows import Row
from firmware_sim.line.faults import Drop, Fault, Faults, Flip
from firmware_sim.running.simulate import SimBoard
from microrpc.client.board import Board
from microrpc.connecting.blocking import open_board
from microrpc.errors import HandshakeTimeoutError, MicroRpcError

T = TypeVar("T")

NOISES: dict[str, tuple[Fault, ...]] = {
    "clean line": (),
    "bit errors 1e-6": (Flip(rate=1e-6),),
    "bit errors 1e-5": (Flip(rate=1e-5),),
    "bit errors 1e-4": (Flip(rate=1e-4),),
    "bytes dropped 1e-4": (Drop(rate=1e-4),),
}
SEEDS = 100
_PACKET_BYTES = 2048
_PIECE_BYTES = 16384


@dataclass(frozen=True)
class Size:
    """What the program does: `copy_bytes` each way and `calls`, each for `limit_s` of virtual time at most."""

    copy_bytes: int
    calls: int
    limit_s: float


FULL = Size(copy_bytes=1 << 20, calls=10_000, limit_s=100_000)
SMALL = Size(copy_bytes=1 << 18, calls=1_000, limit_s=1_000)
"""Enough where every error costs the program seconds."""
QUICK = Size(copy_bytes=32768, calls=50, limit_s=100)


@dataclass(frozen=True)
class Outcome:
    """What came of one run, or of several: pieces and calls that were tried, and what was not as it should be."""

    pieces: int = 0
    calls: int = 0
    lost: int = 0
    """Ended with an error, which told the program."""
    duplicated: int = 0
    """Calls that the board executed more than once."""
    wrong: int = 0
    """Data or values that were not what they should be, without an error."""
    resets: int = 0
    struck: int = 0
    """How many bytes were damaged or dropped."""
    copied_bytes: int = 0
    copying_s: float = 0.0

    def __add__(self, other: Outcome) -> Outcome:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Outcome(*(one + another for one, another in pairs))

    @property
    def goodput(self) -> float:
        """Bytes a second that came over and back as they should."""
        return self.copied_bytes / self.copying_s


def measure(
    *, quick: bool, seeds: int = SEEDS, full: bool = False, modes: Iterable[Mode] = MODES.values()
) -> Iterator[Row]:
    """Run all seeds of all noises, in as many processes as there are cores."""
    seeds = 2 if quick else seeds
    for mode in modes:
        size = QUICK if quick else FULL if full and mode.repeats_losses else SMALL
        cases = [(mode.name, noise, seed, size) for noise, seed in itertools.product(NOISES, range(seeds))]
        with concurrent.futures.ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
            outcomes = list(pool.map(_run_case, cases, chunksize=1))
        by_noise = {name: outcomes[at : at + seeds] for at, name in zip(itertools.count(0, seeds), NOISES)}
        clean = sum(by_noise["clean line"], Outcome()).goodput
        for name, runs in by_noise.items():
            yield _row(mode, name, runs, clean)


def replay(mode: str, noise: str, seed: int, size: Size = SMALL) -> Outcome:
    """Run one seed."""
    return _Program(MODES[mode], NOISES[noise], seed).run(size)


def _run_case(case: tuple[str, str, int, Size]) -> Outcome:
    return replay(*case)


class _Program:
    """A program with its board."""

    def __init__(self, mode: Mode, noise: tuple[Fault, ...], seed: int) -> None:
        self._mode = mode
        self._seed = seed
        self._profile = board_profile(_PACKET_BYTES, baud=BAUD)
        self._sim = SimBoard(self._profile, firmware=mode.firmware, faults=Faults(noise, seed=seed), seed=seed)
        self._sim.function(self.count)
        self._executions = 0
        self._board: Board | None = None
        self._resets = 0

    def count(self) -> int:
        """Run on the board."""
        self._executions += 1
        return self._executions

    def run(self, size: Size) -> Outcome:
        """Copy, then call."""
        total = self._copy_all(size) + self._call_all(size)
        return dataclasses.replace(total, resets=self._resets, struck=sum(self._sim.state.damaged.values()))

    def _copy_all(self, size: Size) -> Outcome:
        data = np.random.default_rng(self._seed).integers(0, 256, size.copy_bytes, dtype=np.uint8)
        pieces = copied_bytes = wrong = lost = 0
        start = self._sim.now()
        for piece in np.split(data, size.copy_bytes // _PIECE_BYTES):
            if self._sim.now() - start > size.limit_s:
                break
            pieces += 1
            back = self._attempt(lambda board, piece=piece: board.array(piece).numpy())
            if back is None:
                lost += 1
            elif np.array_equal(back, piece):
                copied_bytes += len(piece)
            else:
                wrong += 1
        copying_s = self._sim.now() - start
        return Outcome(pieces=pieces, lost=lost, wrong=wrong, copied_bytes=copied_bytes, copying_s=copying_s)

    def _call_all(self, size: Size) -> Outcome:
        calls = lost = duplicated = wrong = 0
        start = self._sim.now()
        count = None
        while calls < size.calls and self._sim.now() - start <= size.limit_s:
            if count is None:
                count = self._attempt(lambda board: board.function("count"))
                continue
            calls += 1
            before = self._executions
            value = self._attempt(lambda _, count=count: count())
            duplicated += max(0, self._executions - before - 1)
            if value is None:
                lost += 1
                count = None
            elif (value, self._executions) != (before + 1, before + 1):
                wrong += 1
        return Outcome(calls=calls, lost=lost, duplicated=duplicated, wrong=wrong)

    def _attempt(self, step: Callable[[Board], T]) -> T | None:
        """Do a step; give None where it ended with an error."""
        try:
            if self._board is None:
                channel, timeouts = self._sim.open_channel(), self._profile.timeouts
                self._board = open_board(channel, timeouts, seed=self._seed, baud=BAUD, **self._mode.connecting)
            return step(self._board)
        except HandshakeTimeoutError:
            self._resets += 1
            self._sim.reset()
        except MicroRpcError:
            pass
        return None


def _row(mode: Mode, noise: str, runs: list[Outcome], clean_goodput: float) -> Row:
    total = sum(runs, Outcome())
    shares = sorted(100 * run.goodput / clean_goodput for run in runs)
    share = statistics.median(shares)
    remark = (
        f"lost {total.lost:,}, duplicated {total.duplicated:,}, wrong {total.wrong:,} of {total.pieces:,} copies and "
        f"{total.calls:,} calls; {len(runs)} seeds; {total.struck:,} bytes struck, {total.resets:,} resets"
    )
    raw = {
        "kind": "noise",
        "mode": mode.name,
        "noise": noise,
        "bit_error_rate": sum(fault.rate for fault in NOISES[noise] if isinstance(fault, Flip)),
        "goodputs": shares,
        "goodput_bytes_s": total.goodput,
        **dataclasses.asdict(total),
    }
    return Row(
        f"{mode.name}, {noise}",
        f"{share:.1f}",
        "% of clean",
        f"least {shares[0]:.1f}, most {shares[-1]:.1f}",
        remark,
        raw,
    )
