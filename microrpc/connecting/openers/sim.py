"""Simulated boards, in real time: each behind a pty of its own, or in memory where the system has none.

Nothing else of this package knows the simulator.
"""

from __future__ import annotations

import os
import threading

from firmware_sim.running import simulate as simulator
from firmware_sim.running.memory import MemoryChannel
from firmware_sim.running.ports import SimulatedBoard
from firmware_sim.running.server import PtyServer
from microrpc.boards.schema import BoardProfile
from microrpc.connecting.address import Target
from microrpc.connecting.openers import Opened, ResetFirst
from microrpc.errors import PortBusyError
from microrpc.ports.channel import Channel
from microrpc.ports.opening import open_serial

_BOOT_S = 1.0  # at most, on a busy computer; it takes a tenth of a millisecond


def open_simulated(target: Target, reset: ResetFirst | None) -> Opened[Channel]:
    """Simulate the board of the target's profile; it is new, so that there is nothing to reset."""
    opened = open_served(simulator.simulate(target.profile), target.profile)
    opened.channel.name = target.port  # as the user knows it, and not by the pty that it is on
    return opened


def open_served(board: SimulatedBoard, profile: BoardProfile, *, baud: int | None = None) -> Opened[Channel]:
    """Serve `board` from a thread until the connection is closed; `baud` is that of its line, where it is on one."""
    if not hasattr(os, "openpty"):
        return Opened(MemoryChannel(board, name=f"sim://{profile.name}"), baud=baud)
    server, channel = _open_pty(board, profile.baud)
    server.start()
    has_booted = threading.Event()  # a host that spoke first would be heard by a board that has not
    server.do(lambda now: has_booted.set())
    has_booted.wait(_BOOT_S)
    return Opened(channel, baud=baud, on_close=server.close)


def _open_pty(board: SimulatedBoard, baud: int) -> tuple[PtyServer, Channel]:
    """Open a new pty before anybody else does: a host of an earlier one of its number may still look for that."""
    tries = 3
    while True:
        server = PtyServer(board)
        try:
            return server, open_serial(server.path, baud=baud)
        except BaseException as error:
            server.close()
            tries -= 1
            if not (isinstance(error, PortBusyError) and tries):
                raise
