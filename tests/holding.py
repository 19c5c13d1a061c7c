"""A function of a simulated board that lasts as long as a test wants it to."""

from __future__ import annotations

import threading

from firmware_sim.running.server import PtyServer

LIMIT_S = 20.0


def hold(server: PtyServer) -> threading.Event:
    """Give the board a function "held" that lasts until the event is set, and then gives 7."""
    goes_on = threading.Event()

    def held() -> int:
        assert goes_on.wait(LIMIT_S)
        return 7

    server.device.function(held)
    return goes_on
