"""The simulated board: bytes and time in, bytes out (docs/protocol.md 6)."""

from firmware_sim.board.clock import Clock, RealClock, VirtualClock
from firmware_sim.board.device import Device, Firmware
from firmware_sim.board.parts import Stats

__all__ = [
    "Clock",
    "Device",
    "Firmware",
    "RealClock",
    "Stats",
    "VirtualClock",
]
