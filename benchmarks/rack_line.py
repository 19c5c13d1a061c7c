"""A line whose cost is that of its bursts, not of its bytes: for hundreds of boards on one computer.

`firmware_sim.line.uart.UartLine` can also lose and damage bytes; to see when each crosses takes it three times as long.
"""

from __future__ import annotations

from collections import deque

from firmware_sim.board.device import Device
from firmware_sim.board.parts import split_frames


class BurstLine:
    """8N1 both ways, by arithmetic: what the board answers to a frame reaches the host when both have crossed.

    The board is given a frame at once, and its answer is kept until then: the host sees no difference, and nobody has
    to wake up for what crosses to the board. Nothing is lost or damaged, and nothing that takes its time happens on
    the board: its clock stands still.
    """

    is_plugged = True
    """It always is."""

    def __init__(self, device: Device, byte_s: float) -> None:
        self.device = device
        self._byte_s = byte_s
        self._to_host: deque[tuple[float, bytes]] = deque()
        self._board_free_at = self._host_free_at = 0.0
        self._answer(0.0)

    def write(self, data: bytes, now: float) -> int:
        """See `firmware_sim.running.ports.Line`."""
        at = max(now, self._board_free_at)
        for frame in split_frames(data):
            at += len(frame) * self._byte_s
            self.device.receive(frame)
            self._answer(at)
        self._board_free_at = at
        return len(data)

    def read(self, now: float) -> bytes:
        """See `firmware_sim.running.ports.Line`."""
        crossed = []
        while self._to_host and self._to_host[0][0] <= now:
            crossed.append(self._to_host.popleft()[1])
        return b"".join(crossed)

    def _answer(self, at: float) -> None:
        if output := self.device.take_output():
            self._host_free_at = max(at, self._host_free_at) + len(output) * self._byte_s
            self._to_host.append((self._host_free_at, output))

    def next_event(self) -> float | None:
        """See `firmware_sim.running.ports.Line`."""
        return self._to_host[0][0] if self._to_host else None

    def reset(self, now: float) -> None:
        """See `firmware_sim.running.ports.Line`."""
        self.device.reset()
        self._answer(now)
