"""Frames as the plain port of the C runtime reads them, with the payloads of damaged ones (docs/protocol.md 1, 6)."""

from __future__ import annotations

from collections.abc import Callable

from microrpc.framing import crc16

_START = b"\xff\xfd"


class DeadError(Exception):
    """The firmware exits, or loops for ever."""


class Unframer:
    """Reads frames a byte at a time; raises DeadError where the port exits.

    `write` gets each payload byte at once, `done` the verdict on the crc when a frame ends.
    """

    def __init__(self, write: Callable[[int], None], done: Callable[[bool], None]) -> None:
        self._write = write
        self._done = done
        self.reset()

    def reset(self) -> None:
        """Hunt for a frame."""
        self._escaped = False
        self._take: Callable[[int], None] | None = None  # None while hunting

    def feed(self, byte: int) -> None:
        """Take one byte from the line."""
        if self._take is None:
            if self._escaped and byte == 0xFD:
                self._crc = crc16(_START)
                self._expect(self._take_length, 4)
            self._escaped = byte == 0xFF
            return
        if self._take != self._take_crc:
            self._crc = crc16(bytes([byte]), self._crc)
        if self._escaped:
            self._escaped = False
            if byte == 0xFF:
                self._take(byte)
            elif byte != 0xFE:
                raise DeadError("the packet was restarted" if byte == 0xFD else "an invalid escape")
        elif byte == 0xFF:
            self._escaped = True
        else:
            self._take(byte)

    def _expect(self, take: Callable[[int], None], size_bytes: int) -> None:
        self._take = take
        self._missing = size_bytes
        self._value = 0
        self._shift = 0

    def _gather(self, byte: int) -> bool:
        self._value |= byte << self._shift
        self._shift += 8
        self._missing -= 1
        return self._missing == 0

    def _take_length(self, byte: int) -> None:
        if self._gather(byte):
            size_bytes = self._value
            self._expect(self._take_payload if size_bytes else self._take_crc, size_bytes or 2)

    def _take_payload(self, byte: int) -> None:
        self._write(byte)
        self._missing -= 1
        if not self._missing:
            self._expect(self._take_crc, 2)

    def _take_crc(self, byte: int) -> None:
        if self._gather(byte):
            self._take = None
            self._escaped = False
            self._done(self._value == self._crc)
