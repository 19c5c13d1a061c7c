"""A board in memory, as a `microrpc.ports.channel.Channel`: the whole stack without a port, exact and instant."""

from firmware_sim.running.loopback import (
    Damager,
    LineChannel,
    LoopbackChannel,
)

__all__ = [
    "Damager",
    "LineChannel",
    "LoopbackChannel",
]
