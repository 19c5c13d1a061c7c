"""Flow control of a simulated line: the board stops the host while its ring is nearly full."""

from __future__ import annotations

import math

from firmware_sim.line.lane import Lane
from firmware_sim.line.ring import Ring
from microrpc.wire.uart import FlowControl


class Flow:
    """Opens and closes the gate of the lane `to_board`, as far as the ring behind it says so and `kind` can."""

    def __init__(self, kind: FlowControl, ring: Ring, to_board: Lane, to_host: Lane) -> None:
        self._kind = kind
        self._ring = ring
        self._to_board = to_board
        self._to_host = to_host
        self._is_stopped = False

    @property
    def bytes_to_stop(self) -> float:
        """How many bytes may go into the ring until the board stops the host."""
        return math.inf if self._kind is FlowControl.NONE or self._is_stopped else self._ring.bytes_to_stop

    def stop_if_full(self, at: float) -> None:
        """Stop the host where the ring is nearly full."""
        if self._kind is not FlowControl.NONE and not self._is_stopped and self._ring.is_nearly_full:
            self._is_stopped = True
            self._to_board.set_gate(at + self._delay_s(at), is_open=False)

    def go_on_if_empty(self, at: float) -> None:
        """Let the host go on where it was stopped, and the ring is nearly empty."""
        if self._is_stopped and self._ring.is_nearly_empty:
            self._is_stopped = False
            self._to_board.set_gate(at + self._delay_s(at), is_open=True)

    def forget(self) -> None:
        """Take note that the cable is out, and the lane forgot all."""
        self._is_stopped = False

    def obey(self, data: bytes, other: Lane, at: float) -> bytes:
        """With XON/XOFF, eat what looks like it, and stop or start the `other` lane."""
        return other.obey_xon_xoff(data, at) if self._kind is FlowControl.XON_XOFF else data

    def _delay_s(self, at: float) -> float:
        """How long it takes until the host notices that it must stop, or may go on."""
        if self._kind is FlowControl.RTS_CTS:
            return 0.0
        return self._to_host.byte_s * (2 if self._to_host.is_busy(at) else 1)  # after the byte that is on its way
