"""The simulated board: bytes and time in, bytes out (docs/protocol.md 6)."""

from firmware_sim.board.clock import Clock, RealClock, VirtualClock
from firmware_sim.board.device import Device, Firmware
from firmware_sim.board.long_call import Cancelled
from firmware_sim.board.parts import Stats
from microrpc.wire.features import Feature

__all__ = [
    "Cancelled",
    "Clock",
    "Device",
    "Feature",
    "Firmware",
    "RealClock",
    "Stats",
    "VirtualClock",
]
