"""A board in memory, as a `microrpc.ports.channel.Channel`: the whole stack without a port, exact and instant.

A `Damager` takes bytes and gives what becomes of them on their way.
"""

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
