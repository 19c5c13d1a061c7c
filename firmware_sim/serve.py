"""Simulated boards on ports of this computer, in real time."""

from firmware_sim.running.ports import PtyPort, TcpPort
from firmware_sim.running.server import PtyServer, Server, TcpServer

__all__ = [
    "PtyPort",
    "PtyServer",
    "Server",
    "TcpPort",
    "TcpServer",
]
