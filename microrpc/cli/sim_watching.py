"""The line of a simulated board that is served, shown to those who watch it: `microrpc sim --capture`, `--trace`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from microrpc.connecting.wrap import Tap, port_opened, tell_comments

if TYPE_CHECKING:
    from firmware_sim.board.device import Device
    from firmware_sim.running.ports import HostPort, Line


def show_line(port: HostPort, tap: Tap) -> None:
    """Have `tap` see all that crosses the line of a port that is not served yet, by the clock of its server."""
    port_opened(tap, 0.0)
    tell_faults = getattr(port.line, "tell_faults", None)
    if tell_faults is not None:
        tell_faults(partial(tell_comments, tap))
    port.line = _TappedLine(port.line, tap)


class _TappedLine:
    """See `Line`."""

    def __init__(self, line: Line, tap: Tap) -> None:
        self.device: Device = line.device
        self._line = line
        self._tap = tap
        self.next_event = line.next_event

    @property
    def is_plugged(self) -> bool:
        return self._line.is_plugged

    @is_plugged.setter
    def is_plugged(self, is_plugged: bool) -> None:
        self._line.is_plugged = is_plugged

    def write(self, data: bytes, now: float) -> int:
        taken = self._line.write(data, now)
        if taken:
            self._tap.note(now, data[:taken], to_board=True)
        return taken

    def read(self, now: float) -> bytes:
        data = self._line.read(now)
        if data:
            self._tap.note(now, data, to_board=False)
        return data

    def reset(self, now: float) -> None:
        tell_comments(self._tap, "the board is reset")
        self._line.reset(now)
