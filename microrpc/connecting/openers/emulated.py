"""Emulated boards: built where that was not done yet, and started (docs/firmware.md)."""

from __future__ import annotations

import dataclasses

from microrpc.connecting.address import Target
from microrpc.connecting.openers import Opened, ResetFirst
from microrpc.firmware import emulator as emulators
from microrpc.ports.channel import Channel, explain_losses
from microrpc.ports.opening import open_serial


def open_emulated(target: Target, reset: ResetFirst | None) -> Opened[Channel]:
    """Start the target's emulator, which ends with the connection; it is new, so that there is nothing to reset.

    Raises FirmwareError, PortError.
    """
    emulator = emulators.start_emulated(target.board_name)
    try:
        return dataclasses.replace(open_running(emulator, target), on_close=emulator.close)
    except BaseException:
        emulator.close()
        raise


def open_running(emulator: emulators.Emulator, target: Target) -> Opened[Channel]:
    """Open the port of an emulator that runs already, and goes on when the connection is closed. Raises PortError."""
    channel = open_serial(emulator.port, baud=target.profile.baud)
    channel.name = target.port  # as the user knows it, and not by the pty that it is on
    explain_losses(channel, emulator.explain_end)
    return Opened(channel, ring_bytes=target.ring_bytes)
