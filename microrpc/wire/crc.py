"""The crc of frames, by the fastest engine that is installed (docs/protocol.md 1)."""

from __future__ import annotations

import warnings
from typing import Final, Protocol

import crcmod
import crcmod.crcmod

__all__ = ["CRC_ENGINE", "Crc16", "crc16", "crc16_crcmod", "crc16_fastcrc"]


class Crc16(Protocol):
    """`crc16(data, crc=0xFFFF)`: the CRC-16/CCITT-FALSE of `data`, continued from `crc` (docs/protocol.md 1)."""

    def __call__(self, data: bytes, crc: int = 0xFFFF, /) -> int:
        """Return the crc, 0..0xFFFF."""


# The engines are bound as they are: a wrapper in Python would cost as much as the crc of a small frame.
crc16_crcmod: Final[Crc16] = crcmod.mkCrcFun(0x11021, initCrc=0xFFFF, rev=False, xorOut=0)
"""That of crcmod, which is always there."""
crc16_fastcrc: Crc16 | None
"""That of fastcrc; None where it is not installed."""
try:
    from fastcrc.crc16 import ibm_3740 as crc16_fastcrc
except ImportError:
    crc16_fastcrc = None
    if not getattr(crcmod.crcmod, "_usingExtension", False):
        warnings.warn(
            "crcmod has no compiled extension here, so every crc is computed in slow Python: "
            "install microrpc[fast], or a wheel of crcmod-plus that fits this Python",
            RuntimeWarning,
            stacklevel=2,
        )
crc16: Final[Crc16] = crc16_fastcrc or crc16_crcmod
"""That of the fastest engine that is installed."""
CRC_ENGINE: Final[str] = "fastcrc" if crc16_fastcrc else "crcmod"
"""Whose `crc16` is, "fastcrc" or "crcmod"."""
