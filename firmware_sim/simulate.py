"""Simulated boards as a profile describes them: a device alone, its line, and both together in virtual time."""

from firmware_sim.running.simulate import (
    SimBoard,
    simulate,
    uart_of,
)

__all__ = [
    "SimBoard",
    "simulate",
    "uart_of",
]
