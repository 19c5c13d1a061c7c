"""A simulated board as a profile describes it, with the demonstration functions on it."""

from __future__ import annotations

from firmware_sim.clock import RealClock
from firmware_sim.demo import install
from firmware_sim.device import Device
from microrpc.boards import BoardProfile


def simulate(profile: BoardProfile, *, seed: int = 0) -> Device:
    """Make a board with the buffer and heap of `profile`, in real time; `seed` as `Device` has it."""
    device = Device(
        packet_size_bytes=profile.packet_size_bytes, heap_bytes=profile.heap_bytes, seed=seed, clock=RealClock()
    )
    install(device)
    return device
