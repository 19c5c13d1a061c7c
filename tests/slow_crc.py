"""CRC-16/CCITT-FALSE, bit by bit (docs/protocol.md 1)."""

from __future__ import annotations

from collections.abc import Iterable


def slow_crc(data: Iterable[int], crc: int = 0xFFFF) -> int:
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
            crc &= 0xFFFF
    return crc
