"""Frames on the line: payloads to bytes and back (docs/protocol.md 1).

    0xFF 0xFD | length u32 | payload[length] | crc u16        little-endian; every 0xFF after the start is sent twice

    FF FF   the byte 0xFF
    FF FD   a packet starts; inside a packet: the sender restarted, and the new packet starts here
    FF FE   no-op, skipped; inside the region that the crc covers it counts in the crc
    FF ..   anything else is an invalid escape: the packet is dropped

The crc is CRC-16/CCITT-FALSE over the bytes as sent, from FF FD to the last byte of the payload. Damage on the line,
and bytes outside of frames, are values that the decoder returns among the payloads, not exceptions. Pure: no I/O, no
clock.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from microrpc.errors import RequestError
from microrpc.wire.crc import crc16

__all__ = [
    "FRAME_OVERHEAD_BYTES",
    "FRAME_START",
    "Damage",
    "DamageKind",
    "FrameDecoder",
    "FrameEncoder",
    "Garbage",
    "Item",
    "encode_frame",
]


FRAME_OVERHEAD_BYTES: Final = 8
"""What a frame takes besides its payload, escapes not counted: start, length and crc."""
FRAME_START: Final = b"\xff\xfd"
"""How every frame begins, and nothing within one looks like it (docs/protocol.md 1)."""

_FF: Final = b"\xff"
_START: Final = FRAME_START
_NOP: Final = b"\xff\xfe"
_LENGTH: Final = struct.Struct("<I")
_MAX_LENGTH: Final = 0xFFFF_FFFF


# --- sending ----------------------------------------------------------------------------------

# replace() costs 12 ns for each 0xFF, so a payload with this many is cut at long runs of 0xFF first.
_MANY: Final = 64
_RUN: Final = _FF * 256


def _escape(data: bytes) -> bytes:
    wire = data.replace(_FF, b"\xff\xff", _MANY)
    if len(wire) - len(data) < _MANY:
        return wire
    return (_RUN + _RUN).join([part.replace(_FF, b"\xff\xff") for part in data.split(_RUN)])


@lru_cache(maxsize=64)  # most frames have one of a few sizes
def _head(size_bytes: int) -> bytes:
    if not 0 <= size_bytes <= _MAX_LENGTH:
        raise RequestError(f"a frame carries 0 to {_MAX_LENGTH} bytes, not {size_bytes}")
    return _START + _LENGTH.pack(size_bytes).replace(_FF, b"\xff\xff")


def _tail(crc: int) -> bytes:
    return crc.to_bytes(2, "little").replace(_FF, b"\xff\xff")


def encode_frame(payload: bytes) -> bytes:
    """Return `payload` as one frame (docs/protocol.md 1). RequestError if it is longer than 2**32 - 1 bytes."""
    body = _head(len(payload)) + (_escape(payload) if _FF in payload else payload)
    tail = crc16(body).to_bytes(2, "little")
    return body + (tail.replace(_FF, b"\xff\xff") if _FF in tail else tail)


class FrameEncoder:
    """One direction of a line: whole frames, or frames in pieces, the same bytes both ways (docs/protocol.md 1).

    The first frame after construction or `reset()` is preceded by one lone 0xFE: if the line was left dangling after
    an FF this completes it as a no-op, otherwise a hunting receiver skips it.
    A message in pieces is message_start(size_bytes), message_chunk(data)..., message_done(); what they return is to be
    sent in that order. A wrong order or a wrong number of bytes raises RequestError and leaves the encoder as it was.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget a message in progress; the next frame is preceded by 0xFE."""
        self._fresh = True
        self._missing: int | None = None  # payload bytes still to come; None between messages
        self._crc = 0

    def encode(self, payload: bytes) -> bytes:
        """Return `payload` as one frame. RequestError if a message in pieces is unfinished or it is too long."""
        if self._missing is not None:
            raise RequestError(f"a message is unfinished: {self._missing} of its bytes are missing")
        frame = encode_frame(payload)
        return self._first(frame) if self._fresh else frame

    def message_start(self, size_bytes: int) -> bytes:
        """Begin a frame whose payload will have `size_bytes` bytes, unescaped: 0 to 2**32 - 1."""
        if self._missing is not None:
            raise RequestError(f"a message is unfinished: {self._missing} of its bytes are missing")
        head = _head(size_bytes)
        self._missing = size_bytes
        self._crc = crc16(head)
        return self._first(head) if self._fresh else head

    def message_chunk(self, data: bytes) -> bytes:
        """Continue the frame with `data`, which may be empty."""
        if self._missing is None:
            raise RequestError("no message was started: message_start() comes before message_chunk()")
        if len(data) > self._missing:
            raise RequestError(f"{len(data)} bytes given, but only {self._missing} of the message are missing")
        wire = _escape(data)
        self._missing -= len(data)
        self._crc = crc16(wire, self._crc)
        return wire

    def message_done(self) -> bytes:
        """End the frame."""
        if self._missing is None:
            raise RequestError("no message was started: message_start() comes before message_done()")
        if self._missing:
            raise RequestError(f"the message is unfinished: {self._missing} of its bytes are missing")
        self._missing = None
        return _tail(self._crc)

    def _first(self, wire: bytes) -> bytes:
        self._fresh = False
        return b"\xfe" + wire


# --- receiving --------------------------------------------------------------------------------


class DamageKind(enum.Enum):
    """What happened to a frame that did not arrive (docs/protocol.md 1)."""

    BAD_CRC = "bad crc"
    SHORT_PACKET = "short packet"
    """FF FD inside the packet: the sender restarted."""
    INVALID_ESCAPE = "invalid escape"
    TOO_LONG = "too long"
    """More is announced than the decoder accepts."""


@dataclass(slots=True, frozen=True)
class Damage:
    """One damaged frame: its `kind`, the `offset` of its first byte (FF) in the stream, and `detail` for a human."""

    kind: DamageKind
    offset: int
    detail: str

    def __str__(self) -> str:
        return f"{self.kind.value} in the frame at byte {self.offset}: {self.detail}"


@dataclass(slots=True, frozen=True)
class Garbage:
    """`data`: bytes outside of any frame, without 0xFE and the no-op FF FE, which mean nothing; never empty."""

    data: bytes


Item: TypeAlias = bytes | Damage | Garbage
"""What a decoder gives: the payload of a good frame, or what there was instead."""


class _Field(enum.Enum):
    HUNT = "no packet"
    LENGTH = "length"
    PAYLOAD = "payload"
    CRC = "crc"


_CRC_OF_START: Final = crc16(_START)
_WINDOW: Final = 4096  # bounds the work that a packet cut short can cause, however long it announced itself
_ALL_FF: Final = _FF * (2 * _WINDOW)


def _unescape(data: bytes, pos: int, size: int) -> tuple[bytes | None, bytes]:
    """Unescape at most `size` bytes of `data` from `pos`, where a token begins; return them and the tokens they were.

    It may be less than there is, even nothing if there is only half an escape. None: not every escape is FF FF.
    A run of FFs begins with a token, always.
    """
    tokens = data[pos : pos + size]
    if 0xFF not in tokens:
        return tokens, tokens
    if tokens.startswith(_RUN):
        run = data[pos : pos + 2 * size]
        while not _ALL_FF.startswith(run):
            run = run[: len(run) // 2]
        pairs = len(run) // 2
        return run[:pairs], run[: 2 * pairs]
    if tokens[-1] == 0xFF and (len(tokens) - len(tokens.rstrip(_FF))) % 2:
        tokens = data[pos : pos + size + 1] if pos + size < len(data) else tokens[:-1]
    parts = tokens.split(_FF, _MANY)
    if len(parts) > _MANY:
        if any(parts[1::2]):
            return None, tokens
        run_at = tokens.find(_RUN)
        if run_at > 0:
            tokens = tokens[:run_at]
        parts = tokens.split(_FF)
    # Each FF FF leaves an empty part between its two bytes, and at the even places what stands around it.
    plain = _FF.join(parts[::2])
    return plain if len(plain) + len(parts) // 2 == len(tokens) else None, tokens


def _unescape_until(tokens: bytes) -> tuple[bytes, int]:
    """Unescape whole tokens up to an escape other than FF FF and FF FE; return also where that is, or the end."""
    plain = bytearray()
    pos = 0
    while (escape := tokens.find(_FF, pos)) >= 0:
        plain += tokens[pos:escape]
        code = tokens[escape + 1]
        if code == 0xFF:
            plain += _FF
        elif code != 0xFE:
            return bytes(plain), escape
        pos = escape + 2
    return bytes(plain + tokens[pos:]), len(tokens)


class FrameDecoder:
    """Payloads out of a stream of bytes, however it is cut into pieces (docs/protocol.md 1).

    `max_payload_bytes` bounds what is accepted, and so the memory: a frame that announces more is refused before
    anything is allocated. Nothing that arrives raises; a frame that is damaged gives a `Damage`, what is outside of
    frames a `Garbage`, as soon as it is seen: a run of it that comes in pieces gives several.

    `bytes_skipped` counts the bytes of garbage.
    """

    def __init__(self, max_payload_bytes: int = 1 << 20) -> None:
        self.max_payload_bytes = max_payload_bytes
        self.bytes_skipped = 0
        self._whole_max = min(max_payload_bytes, _WINDOW)
        self._base = 0  # position in the stream of the first byte of the data being fed
        self.reset()

    def reset(self) -> None:
        """Forget a packet in progress, silently. Offsets and `bytes_skipped` count on."""
        self._held = b""  # an FF whose other half is still to come; _base is past it
        self._enter(_Field.HUNT, 0)

    @property
    def in_packet(self) -> bool:
        """Whether the last byte fed was inside a packet."""
        return self._missing > 0

    @property
    def packet_bytes(self) -> int:
        """How many bytes came of the packet that is arriving, as they cross the wire; 0 outside of any."""
        return self._base - self._offset if self._missing else 0

    @property
    def payload_bytes(self) -> int:
        """How many bytes of payload the packet announces that is arriving; 0 before it did, and outside of any."""
        if self._field is _Field.PAYLOAD:
            return self._missing + len(self._got)
        return len(self._payload) if self._field is _Field.CRC else 0

    def feed(self, data: bytes) -> list[Item]:
        """Take the next `data` of the stream; return what it completed, in the order of the stream."""
        out: list[Item] = []
        if self._held:
            data = self._held + data
            self._base -= 1
        pos = 0
        # A token begins at pos, always. If that is a lone FF at the end, it has to wait for its other half.
        last = len(data) - (data[-1:] == _FF)
        while pos < last:
            if self._missing:
                pos = self._advance(data, pos, out)
                continue
            start = data.find(_START, pos)
            if start != pos:
                garbage = data[pos : start if start >= 0 else last].replace(_NOP, b"").replace(b"\xfe", b"")
                if garbage:
                    self.bytes_skipped += len(garbage)
                    out.append(Garbage(garbage))
                if start < 0:
                    pos = last
                    break
            pos = self._take_whole(data, start, out)
            if not pos:
                self._offset = self._base + start
                self._crc = _CRC_OF_START
                self._enter(_Field.LENGTH, 4)
                pos = start + 2
        self._held = data[pos:]
        self._base += len(data)
        return out

    def _enter(self, field: _Field, missing: int) -> None:
        self._field = field
        self._missing = missing  # unescaped bytes of the field that are still to come, never 0 in a packet
        self._got = bytearray()  # and those that came

    def _take_whole(self, data: bytes, start: int, out: list[Item]) -> int:
        """Take the packet at `start` and return its end; 0 if it needs `_advance`, which is right but slower.

        Taken is what most packets are: here whole and sound, not large, with few FFs, and none in length or crc.
        """
        if len(data) - start < 8:
            return 0
        length: int = _LENGTH.unpack_from(data, start + 2)[0]
        if length > self._whole_max or length & 0xFF == 0xFF:  # that small, no other byte of it can be an FF
            return 0
        crc_at = start + 6 + length
        payload = data[start + 6 : crc_at]
        if 0xFF in payload:
            parts = payload.split(_FF, _MANY - 1)
            # Even: it ends in half an escape, or these are not all.
            if len(parts) % 2 == 0:
                return 0
            plain = parts[::2]
            # Each FF FF so far moves the end by one byte.
            rest = data[crc_at : crc_at + len(plain) - 1]
            if 0xFF in rest:
                return 0
            crc_at += len(rest)
            plain[-1] += rest
            payload = _FF.join(plain)
            if len(payload) != length:  # some escape was not FF FF
                return 0
        crc = crc16(data[start:crc_at]).to_bytes(2, "little")
        if data[crc_at : crc_at + 2] != crc or 0xFF in crc:
            return 0
        out.append(payload)
        return crc_at + 2

    def _advance(self, data: bytes, pos: int, out: list[Item]) -> int:
        """Consume what one window of `data` has of the current field, and act if that completes it or damages it."""
        plain, tokens = _unescape(data, pos, min(self._missing, _WINDOW))
        used = len(tokens)
        if plain is None:
            plain, used = _unescape_until(tokens)
        if self._field is not _Field.CRC:
            self._crc = crc16(data[pos : pos + used], self._crc)
        self._got += plain
        self._missing -= len(plain)
        pos += used
        if used < len(tokens):
            return self._break_off(data, pos, out)
        if not self._missing:
            self._complete(out)
        return pos

    def _complete(self, out: list[Item]) -> None:
        got = bytes(self._got)
        if self._field is _Field.PAYLOAD:
            self._payload = got
            self._enter(_Field.CRC, 2)
        elif self._field is _Field.CRC:
            sent = int.from_bytes(got, "little")
            if sent == self._crc:
                out.append(self._payload)
            else:
                detail = f"it carries 0x{sent:04X}, but its bytes give 0x{self._crc:04X}"
                out.append(Damage(DamageKind.BAD_CRC, self._offset, detail))
            self._payload = b""
            self._enter(_Field.HUNT, 0)
        else:
            length = int.from_bytes(got, "little")
            if length > self.max_payload_bytes:
                detail = f"it announces {length} bytes, and {self.max_payload_bytes} are accepted"
                out.append(Damage(DamageKind.TOO_LONG, self._offset, detail))
                self._enter(_Field.HUNT, 0)
            else:
                self._enter(_Field.PAYLOAD, length)
                if not length:
                    self._complete(out)

    def _break_off(self, data: bytes, pos: int, out: list[Item]) -> int:
        """Report the escape at `pos`, which ends the packet, and return where hunting begins."""
        code = data[pos + 1]
        where = f"before its {self._field.value} was complete (bytes missing: {self._missing})"
        restart = code == _START[1]
        if restart:
            out.append(Damage(DamageKind.SHORT_PACKET, self._offset, f"the sender restarted {where}"))
        else:
            detail = f"FF {code:02X} at byte {self._base + pos}, {where}"
            out.append(Damage(DamageKind.INVALID_ESCAPE, self._offset, detail))
        self._enter(_Field.HUNT, 0)
        return pos if restart else pos + 2
