"""A serial line as it is: slow, with a board behind it that is sometimes busy and then loses bytes."""

from firmware_sim.line.adapter import HostAdapter
from firmware_sim.line.settings import FirmwareTime, LineState, Rate, Uart
from firmware_sim.line.uart import UartLine

__all__ = [
    "FirmwareTime",
    "HostAdapter",
    "LineState",
    "Rate",
    "Uart",
    "UartLine",
]
