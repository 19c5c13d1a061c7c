"""The reliable link: requests that run once and copies that arrive whole over a line that damages and loses bytes.

docs/link.md specifies it; here are its messages. Its two state machines are `microrpc.host.link` and the simulated
board's `firmware_sim.board.link`.
"""

from __future__ import annotations

import enum
import struct
import zlib
from dataclasses import dataclass
from typing import TypeAlias

from microrpc.wire.session import MessageType

Buffer: TypeAlias = bytes | memoryview
"""Bytes that a message is made of; a view is one of bytes (u8)."""

_LINK_VERSION = 1
_MAX_WINDOW_REQUESTS = 32

WRITE_OVERHEAD_BYTES = 18
"""What a WRITE takes of a packet besides its data: session header, seq, kind, address and crc32."""
DATA_OVERHEAD_BYTES = 10
"""What a DATA reply takes besides its data."""

_HEAD = struct.Struct("<HBH")  # session id, message type, seq
_HEAD_AND_KIND = struct.Struct("<HBHB")
_CRC = struct.Struct("<I")
_CRC_OF_GOOD = 0x2144DF1C  # the crc32 of anything with its own crc32 behind it
ADDRESS = struct.Struct("<Q")
"""The address that the body of a WRITE begins with."""
RANGE = struct.Struct("<QI")
"""The address and the size in bytes that the body of a READ is."""
_LEAST_MESSAGE_BYTES = _HEAD.size + _CRC.size
SEQ_MODULUS = 1 << 16
"""The seq after the highest is 0 again."""


class RequestKind(enum.IntEnum):
    """What a LINK_REQUEST carries (docs/link.md 2)."""

    PACKET = 0
    WRITE = 1
    READ = 2
    CALL = 3


class ReplyKind(enum.IntEnum):
    """What a LINK_REPLY carries (docs/link.md 2)."""

    PACKET = 0
    DONE = 1
    DATA = 2
    FORGOTTEN = 3


# An enumeration costs a lot to look up in: these are used for each message.
_MESSAGE_TYPES = {int(message_type): message_type for message_type in MessageType}
REQUEST_KINDS = {int(kind): kind for kind in RequestKind}
"""By the value of the byte."""
REPLY_KINDS = {bytes((kind,)): kind for kind in ReplyKind}
"""By the byte itself."""
LINK_REQUEST, LINK_REPLY, LINK_NAK = MessageType.LINK_REQUEST, MessageType.LINK_REPLY, MessageType.LINK_NAK
PACKET = RequestKind.PACKET
"""See `RequestKind`."""
WRITE = RequestKind.WRITE
"""See `RequestKind`."""
READ = RequestKind.READ
"""See `RequestKind`."""
CALL = RequestKind.CALL
"""See `RequestKind`."""
PROGRESS = struct.Struct("<II")
"""What a PROGRESS has between its seq and its crc32: done and total (docs/link.md 9)."""
CANCELLED_TEXT = "cancelled before it began"
"""The exception of a CALL that was cancelled before it was executed (docs/link.md 9)."""


@dataclass(frozen=True, slots=True)
class LinkParameters:
    """What a device tells of its link, packed into the 8 bytes of a handle (docs/link.md 1).

    window_requests: how many requests may be unanswered, 1 to 32. packet_bytes: the largest frame payload that the
    device takes. window_bytes: how many bytes of frames may be on their way besides the request that is served.
    """

    window_requests: int
    packet_bytes: int
    window_bytes: int

    @property
    def handle(self) -> int:
        """The handle that the look-up gives."""
        return _LINK_VERSION | self.window_requests << 8 | self.packet_bytes << 16 | self.window_bytes << 40

    @classmethod
    def from_handle(cls, handle: int) -> LinkParameters | None:
        """Read what a look-up gave; None for 0, another version, and what makes no sense."""
        window_requests, packet_bytes = handle >> 8 & 0xFF, handle >> 16 & 0xFFFFFF
        if handle & 0xFF != _LINK_VERSION or not 1 <= window_requests <= _MAX_WINDOW_REQUESTS:
            return None
        if packet_bytes <= WRITE_OVERHEAD_BYTES:
            return None
        return cls(window_requests, packet_bytes, handle >> 40 & 0xFFFFFF)


def sealed(message: bytes) -> bytes:
    """Give a message with its crc32 behind it (docs/link.md 2)."""
    return message + _CRC.pack(zlib.crc32(message))


def unsealed(payload: bytes) -> bytes | None:
    """Give what `sealed` was given; None where the crc32 is wrong, or there is none."""
    return payload[: -_CRC.size] if zlib.crc32(payload) == _CRC_OF_GOOD else None


def encode_link_message(session_id: int, message_type: MessageType, seq: int, *content: Buffer) -> bytes:
    """Give the frame payload of a message (docs/link.md 2); `content` is what stands between seq and crc32."""
    return sealed(b"".join((_HEAD.pack(session_id, message_type, seq), *content)))


def encode_with_kind(session_id: int, message_type: MessageType, seq: int, kind: int, *body: Buffer) -> bytes:
    """Give the frame payload of a request or reply (docs/link.md 2)."""
    head = _HEAD_AND_KIND.pack(session_id, message_type, seq, kind)
    message = head + body[0] if len(body) == 1 else b"".join((head, *body))
    return message + _CRC.pack(zlib.crc32(message))  # as `sealed` does, in a step less


def decode_link_message(payload: bytes) -> tuple[MessageType, int, bytes] | None:
    """Give a message's type, its seq, and what is between that and the crc32.

    None where its crc32 is wrong or it is too short to have one.
    """
    if len(payload) < _LEAST_MESSAGE_BYTES or zlib.crc32(payload) != _CRC_OF_GOOD:
        return None
    _, message_type, seq = _HEAD.unpack_from(payload)
    return _MESSAGE_TYPES[message_type], seq, payload[_HEAD.size : -_CRC.size]


def seq_distance(seq: int, base: int) -> int:
    """How far `seq` is ahead of `base`, -2**15 to 2**15 - 1; negative where it is behind (docs/link.md 3)."""
    return (seq - base + SEQ_MODULUS // 2) % SEQ_MODULUS - SEQ_MODULUS // 2


# --- the device ---------------------------------------------------------------------------------------


def unpack_write(body: bytes) -> tuple[int, memoryview]:
    """Give the address and the data of a WRITE. Raises struct.error where it is too short."""
    return ADDRESS.unpack_from(body)[0], memoryview(body)[ADDRESS.size :]


def unpack_read(body: bytes) -> tuple[int, int]:
    """Give the address and the size in bytes of a READ. Raises struct.error where it has another length."""
    address, size_bytes = RANGE.unpack(body)
    return address, size_bytes
