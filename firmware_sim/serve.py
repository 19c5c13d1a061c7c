"""Simulated boards on ports of this computer, in real time."""

from firmware_sim.running.server import PtyServer, Server, TcpServer

__all__ = [
    "PtyServer",
    "Server",
    "TcpServer",
]
