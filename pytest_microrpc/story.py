"""What happened in a test that failed, for its report: the last frames, the log, the line, and how to replay it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from firmware_sim.line.faults import Fault
from firmware_sim.running.simulate import SimBoard
from microrpc.capture.trace import Trace
from microrpc.errors import printable

_OUR_OPTIONS = ("--microrpc-board", "--microrpc-board-file", "--microrpc-port", "--microrpc-firmware")
_KEPT_OPTIONS = ("-p", "-c", "-o", "--config-file", "--rootdir", "--override-ini", "--confcutdir", "--import-mode")


@dataclass(frozen=True, slots=True)
class Story:
    """The story of one test on `board`, which began at `start_s` of the channel's clock; `trace` has the frames."""

    board: str
    trace: Trace
    start_s: float

    @property
    def fault_seed(self) -> int | None:
        """The seed that replays it, None where there were no faults."""
        return None

    def lines(self) -> list[str]:
        """Tell it."""
        frames, count = self.trace.frames, self.trace.frame_count
        if not frames:
            return [f"{self.board}: no frames were seen", *self._more()]
        shown = f"the last {len(frames)} of {count}" if count > len(frames) else str(count)
        in_a_row = "; of progress and of polls in a row the last" if self.trace.left_out else ""
        lines = [f"{self.board}, frames: {shown}{in_a_row}; times since the test began"]
        lines += [frame.line(self.start_s) for frame in frames]
        lines += [f"a frame {direction} was begun and did not end" for direction in self.trace.unfinished]
        happened = self.trace.happened
        lines += [f"on the line: {'; '.join(happened)}"] * bool(happened)
        logged = self.trace.log_lines
        lines += ["log of the board:"] * bool(logged)
        lines += [f"{(time_s - self.start_s) * 1e3:9.1f} ms  {printable(text)}" for time_s, text in logged]
        return [*lines, *self._more()]

    def _more(self) -> Iterator[str]:
        """Tell what only some boards know."""
        yield from ()


@dataclass(frozen=True, slots=True)
class SimStory(Story):
    """The story of a test on a simulated board, `sim`, which knows what happened to the line and on the other side.

    `faults`, drawn with `seed`, are what was to strike.
    """

    sim: SimBoard
    faults: Sequence[Fault]
    seed: int

    @property
    def fault_seed(self) -> int | None:
        """See `Story.fault_seed`."""
        return self.seed if self.faults else None

    def _more(self) -> Iterator[str]:
        state, stats, device = self.sim.state, self.sim.device.stats, self.sim.device
        events = (
            (state.bytes_overrun, f"bytes lost, its receive ring was full: {state.bytes_overrun}"),
            (state.bytes_unheard, f"bytes lost, it was off or booting: {state.bytes_unheard}"),
            (stats.frames_damaged, f"frames that reached it damaged: {stats.frames_damaged}"),
            (stats.events_unsent, f"events that it did not send, without credit or room: {stats.events_unsent}"),
            (stats.resets, f"resets: {stats.resets}"),
            (not state.is_plugged, "its cable is pulled"),
            (state.is_plugged and device.is_dead, "it is silent until it is reset"),
        )
        told = [text for happened, text in events if happened]
        if told:
            yield f"the board: {'; '.join(told)}"
        if self.faults:
            struck = ", ".join(f"{kind} {count}" for kind, count in state.damaged.items()) or "none yet"
            yield f"faults: {'; '.join(map(str, self.faults))}; seed {self.seed}; struck: {struck}"


def replay_line(item: pytest.Item, fault_seed: int) -> str:
    """Give the command that runs this test again, and lets the same faults strike at the same places."""
    config = item.config
    _, _, inside = item.nodeid.partition("::")
    words = ["pytest", f"{os.path.relpath(item.path, config.invocation_params.dir)}::{inside}"]
    words += _kept(config.invocation_params.args)
    for option in _OUR_OPTIONS:
        given = config.getoption(option)
        for value in given if isinstance(given, list) else [] if given is None else [given]:
            words += [option, value]
    return shlex.join([*words, "--microrpc-fault-seed", str(fault_seed)])


def _kept(arguments: Sequence[str | os.PathLike[str]]) -> Iterator[str]:
    """Give the options of pytest itself that decide what is run and how; how it is shown does not matter."""
    words = iter(map(str, arguments))
    for word in words:
        if word in _KEPT_OPTIONS:
            yield from (word, next(words))
        elif word.partition("=")[0] in _KEPT_OPTIONS or (word[:2] in _KEPT_OPTIONS and len(word) > 2):
            yield word
