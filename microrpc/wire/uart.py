"""What a UART makes of bytes: how long one takes, and how a port tells the sender to wait."""

from __future__ import annotations

import enum

BITS_PER_BYTE = 10
"""What a byte takes on a serial line: 8N1, with its start and stop bit."""


class FlowControl(enum.StrEnum):
    """How a serial port tells the sender to wait."""

    NONE = "none"
    """It does not; what does not fit is lost."""
    RTS_CTS = "rts-cts"
    """By the lines RTS and CTS."""
    XON_XOFF = "xon-xoff"
    """Takes the bytes 0x11 and 0x13 out of the stream; both occur in the protocol's frames."""
