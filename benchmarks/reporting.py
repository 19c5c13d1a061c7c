"""A board that says something without being asked, so many times a second; `report(rate_hz)` sets that, 0 ends it.

`python -m benchmarks.reporting` serves one on a pty, in real time; `speak_on_line` lets one speak in virtual time.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Any, Protocol

from benchmarks.modes import board_profile
from benchmarks.pacing import BAUD
from benchmarks.processes import exit_with_stdin
from firmware_sim.board.device import Device
from firmware_sim.line.uart import UartLine
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import SimBoard, simulate
from microrpc.boards.schema import BoardProfile

EVENT_BYTES = 32
EVENT = "sample"
_PACKET_BYTES = 2048


def profile() -> BoardProfile:
    """Give the board that reports, on a line of 921600 baud."""
    return board_profile(_PACKET_BYTES, baud=BAUD)


class Reporter:
    """Says `EVENT` with bytes that count up, whenever it is time; `due` is when that is next, in seconds."""

    def __init__(self, device: Device) -> None:
        self.due = math.inf
        self.said = 0
        self._device = device
        self._interval_s = math.inf

    def set_rate(self, rate_hz: float, now: float) -> None:
        """Begin or end."""
        self._interval_s = 1 / rate_hz if rate_hz else math.inf
        self.due = now + self._interval_s

    def say(self, now: float) -> None:
        """Say what is due by `now`."""
        while self.due <= now:
            self._device.event(EVENT, self.said.to_bytes(EVENT_BYTES, "little"))
            self.said += 1
            self.due += self._interval_s


class Speaker(Protocol):
    """What lets a board speak by itself."""

    due: float
    """When it is time, in seconds; infinity for never."""

    def say(self, now: float) -> None:
        """Say what is due by `now`, and set `due` anew."""


class _SpeakingLine:
    """A `UartLine` whose board speaks at its times, whatever the host does; the channel's clock stops there."""

    def __init__(self, line: UartLine, speaker: Speaker) -> None:
        self._line = line
        self._speaker = speaker

    def __getattr__(self, name: str) -> Any:
        return getattr(self._line, name)

    def advance(self, now: float) -> None:
        while self._speaker.due <= now:
            due = self._speaker.due
            self._line.advance(due)
            self._speaker.say(due)
        self._line.advance(now)

    def next_event(self, *, reads: bool = True) -> float | None:
        at = self._line.next_event(reads=reads)
        due = self._speaker.due
        return due if at is None and due < math.inf else at if at is None else min(at, due)

    def read(self, now: float) -> bytes:
        self.advance(now)
        return self._line.read(now)

    def write(self, data: bytes, now: float) -> int:
        self.advance(now)
        return self._line.write(data, now)


def speak_on_line(sim: SimBoard, speaker: Speaker) -> None:
    """Have a board in virtual time speak at the speaker's times."""
    sim.line = _SpeakingLine(sim.line, speaker)  # type: ignore[assignment]


def main() -> None:
    device = simulate(profile())
    reporter = Reporter(device)
    server = PtyServer(device)

    @device.function
    def report(rate_hz: int) -> None:
        reporter.set_rate(rate_hz, time.monotonic())

    def keep_saying() -> None:
        while True:
            wait_s = reporter.due - time.monotonic()
            if wait_s > 0:
                time.sleep(min(wait_s, 0.01))
            else:
                said = threading.Event()
                server.do(lambda now, said=said: (reporter.say(time.monotonic()), said.set()))  # type: ignore[misc]
                said.wait(1.0)

    exit_with_stdin(server.close)
    threading.Thread(target=keep_saying, daemon=True).start()
    print(server.path, flush=True)
    server.run()


if __name__ == "__main__":
    main()
