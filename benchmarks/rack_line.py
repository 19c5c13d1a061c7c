"""A line whose cost is that of its bursts, not of its bytes: for hundreds of boards on one computer.

`firmware_sim.line.uart.UartLine` can also lose and damage bytes; to see when each crosses takes it three times as long.
"""

from __future__ import annotations

from collections import deque

from firmware_sim.board.device import Device

_PIECE_BYTES = 512
"""What the board gets at once at most; the end of a burst never waits for more."""


class BurstLine:
    """8N1 both ways, by arithmetic: a piece reaches the board, and an answer the host, when its last byte has crossed.

    Nothing is lost or damaged, and nothing that takes its time happens on the board: its clock stands still.
    """

    is_plugged = True
    """It always is."""

    def __init__(self, device: Device, byte_s: float) -> None:
        self.device = device
        self._byte_s = byte_s
        self._to_board: deque[tuple[float, bytes]] = deque()
        self._to_host: deque[tuple[float, bytes]] = deque()
        self._board_free_at = self._host_free_at = 0.0

    def write(self, data: bytes, now: float) -> int:
        """See `firmware_sim.running.ports.Line`."""
        at = max(now, self._board_free_at)
        for begin in range(0, len(data), _PIECE_BYTES):
            piece = data[begin : begin + _PIECE_BYTES]
            at += len(piece) * self._byte_s
            self._to_board.append((at, piece))
        self._board_free_at = at
        return len(data)

    def read(self, now: float) -> bytes:
        """See `firmware_sim.running.ports.Line`."""
        self._answer(now)  # what a boot has said
        while self._to_board and self._to_board[0][0] <= now:
            at, piece = self._to_board.popleft()
            self.device.receive(piece)
            self._answer(at)
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
        return min((queue[0][0] for queue in (self._to_board, self._to_host) if queue), default=None)

    def reset(self, now: float) -> None:
        """See `firmware_sim.running.ports.Line`."""
        self._to_board.clear()
        self.device.reset()
