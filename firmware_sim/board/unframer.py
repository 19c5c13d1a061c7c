"""Frames as the plain port of the C runtime reads them, with the payloads of damaged ones (docs/protocol.md 1, 6)."""

from __future__ import annotations

from collections.abc import Callable

from microrpc.wire.crc import crc16
from microrpc.wire.frames import FRAME_START


class DeadError(Exception):
    """The firmware exits, or loops for ever."""


class Unframer:
    """Reads frames; raises DeadError where the port exits.

    `write` gets the bytes of a payload as they come, `done` the verdict on the crc when a frame ends.
    """

    def __init__(self, write: Callable[[bytes], None], done: Callable[[bool], None]) -> None:
        self._write = write
        self._done = done
        self.reset()

    def reset(self) -> None:
        """Hunt for a frame."""
        self._escaped = False
        self._take: Callable[[int], None] | None = None  # None while hunting

    def feed(self, data: bytes) -> None:
        """Take bytes from the line."""
        at = 0
        while at < len(data):
            end = at
            if self._take == self._take_payload and not self._escaped:
                end = min(at + self._missing, len(data))
                escape_at = data.find(0xFF, at, end)
                end = escape_at if escape_at >= 0 else end
            if end > at:
                self._wire += data[at:end]
                self._take_plain(data[at:end])
                at = end
            else:
                self._feed_byte(data[at])
                at += 1

    def _feed_byte(self, byte: int) -> None:
        if self._take is None:
            if self._escaped and byte == 0xFD:
                self._wire = bytearray(FRAME_START)
                self._expect(self._take_length, 4)
            self._escaped = byte == 0xFF
            return
        self._wire.append(byte)
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
            if size_bytes:
                self._expect(self._take_payload, size_bytes)
            else:
                self._expect_crc()

    def _take_payload(self, byte: int) -> None:
        self._take_plain(bytes([byte]))

    def _take_plain(self, data: bytes) -> None:
        self._write(data)
        self._missing -= len(data)
        if not self._missing:
            self._expect_crc()

    def _expect_crc(self) -> None:
        self._crc = crc16(bytes(self._wire))
        self._expect(self._take_crc, 2)

    def _take_crc(self, byte: int) -> None:
        if self._gather(byte):
            self._take = None
            self._escaped = False
            self._done(self._value == self._crc)
