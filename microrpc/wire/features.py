"""What a device with a link knows besides, told by the handle of `microrpc.features` (docs/link.md 7)."""

from __future__ import annotations

import enum
from dataclasses import dataclass

_VERSION = 1


class Feature(enum.IntFlag):
    """What a device may know (docs/link.md 7)."""

    EVENTS = 1
    """It sends plain events."""
    RELIABLE = 2
    """It sends reliable events, too."""
    PROGRESS = 4
    """It tells how far a CALL has come."""
    CANCEL = 8
    """It notices a CANCEL while a function runs."""
    DESCRIBE = 16
    """It has the function `microrpc.describe`."""
    MEMORY = 32
    """It has the function `microrpc.memory`."""


_ALL = sum(Feature)
NONE = Feature(0)
"""No feature at all."""


@dataclass(frozen=True, slots=True)
class Features:
    """What a device tells, packed into the 8 bytes of a handle.

    known: the features. host_timeout_ms: after how long it takes a silent host for gone, 0 where it does not care.
    description_hash: the crc32 of its description, 0 without one.
    """

    known: Feature = NONE
    host_timeout_ms: int = 0
    description_hash: int = 0

    @property
    def handle(self) -> int:
        """The handle that the look-up gives."""
        return _VERSION | self.known << 8 | self.host_timeout_ms << 16 | self.description_hash << 32

    @classmethod
    def from_handle(cls, handle: int) -> Features:
        """Read what a look-up gave: nothing, for 0 and for another version. Features that nobody knows are left out."""
        if handle & 0xFF != _VERSION:
            return cls()
        return cls(Feature(handle >> 8 & _ALL), handle >> 16 & 0xFFFF, handle >> 32 & 0xFFFFFFFF)
