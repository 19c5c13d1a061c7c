"""The messages of events: what a device says without being asked (docs/link.md 8)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from microrpc.wire.datatypes import TypeCode
from microrpc.wire.session import MessageType

EventValue: TypeAlias = int | float | str | bytes
"""A value of an event: an Int fits 64 bits; a Str and Bytes have at most 65,535 bytes."""

NUMBER_MODULUS = 1 << 32
"""The number after the highest is 0 again."""

_HEADER = struct.Struct("<HB")
_EVENT = struct.Struct("<IBIB")  # number, flags, time_us, name_size
_ACK = struct.Struct("<IHB")
_STATE = struct.Struct("<III")
_INT = struct.Struct("<q")
_FLOAT = struct.Struct("<d")
_SIZE = struct.Struct("<H")
_CRC = struct.Struct("<I")
_CRC_OF_GOOD = 0x2144DF1C  # the crc32 of anything with its own crc32 behind it
_MOST_BODY_BYTES = 4096 + 255  # a name that was no text is longer over a stream than in a frame (docs/link.md 11)
_RELIABLE = 1
_LOST = 1


class EventMessage(NamedTuple):
    """An EVENT: `time_us` is the device's clock, modulo 2**32; `number` counts its kind, reliable or plain."""

    number: int
    is_reliable: bool
    time_us: int
    name: str
    values: tuple[EventValue, ...]


class EventAck(NamedTuple):
    """An EVENT_ACK: `wanted` is the next reliable number, `is_lost` that some from it on are to be sent again."""

    wanted: int
    credit_bytes: int
    is_lost: bool


class EventState(NamedTuple):
    """An EVENT_STATE: the boot, and the numbers of the events that come next."""

    boot: int
    next_number: int
    next_reliable: int


EventNews: TypeAlias = EventMessage | EventState
"""What a device tells of events."""


def _seal(session_id: int, message_type: MessageType, body: bytes) -> bytes:
    message = _HEADER.pack(session_id, message_type) + body
    return message + _CRC.pack(zlib.crc32(message))


def _encode_value(value: EventValue) -> bytes:
    if isinstance(value, int):
        return bytes((TypeCode.INT,)) + _INT.pack(value)
    if isinstance(value, float):
        return bytes((TypeCode.FLOAT,)) + _FLOAT.pack(value)
    code = TypeCode.STR if isinstance(value, str) else TypeCode.BYTES
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(value)
    return bytes((code,)) + _SIZE.pack(len(data)) + data


def encode_event_body(event: EventMessage) -> bytes:
    """Give what an EVENT has between its message type and its crc32. Raises struct.error for what does not fit."""
    name = event.name.encode("utf-8", "surrogateescape")
    head = _EVENT.pack(event.number, _RELIABLE if event.is_reliable else 0, event.time_us, len(name))
    return b"".join((head, name, *(_encode_value(value) for value in event.values)))


def encode_event(session_id: int, body: bytes) -> bytes:
    """Give the frame payload of an EVENT, of the body that `encode_event_body` gave."""
    return _seal(session_id, MessageType.LINK_EVENT, body)


def encode_event_ack(session_id: int, ack: EventAck) -> bytes:
    """Give the frame payload of an EVENT_ACK."""
    body = _ACK.pack(ack.wanted, ack.credit_bytes, _LOST if ack.is_lost else 0)
    return _seal(session_id, MessageType.LINK_EVENT_ACK, body)


def encode_event_state(session_id: int, state: EventState) -> bytes:
    """Give the frame payload of an EVENT_STATE."""
    return _seal(session_id, MessageType.LINK_EVENT_STATE, _STATE.pack(*state))


def decode_event_news(payload: bytes) -> EventNews | None:
    """Read an EVENT or EVENT_STATE; None where its crc32 is wrong, or it is none, or its lengths do not add up."""
    if not _is_whole(payload, _HEADER.size):
        return None
    body = payload[_HEADER.size : -_CRC.size]
    try:
        if payload[2] == MessageType.LINK_EVENT_STATE:
            return EventState(*_STATE.unpack(body))
        if payload[2] == MessageType.LINK_EVENT:
            return decode_event_body(body)
    except struct.error:
        pass
    return None


def decode_event_ack(payload: bytes) -> EventAck | None:
    """Read an EVENT_ACK; None where its crc32 or its length is wrong."""
    if len(payload) != _HEADER.size + _ACK.size + _CRC.size or not _is_whole(payload, _HEADER.size):
        return None
    wanted, credit_bytes, flags = _ACK.unpack_from(payload, _HEADER.size)
    return EventAck(wanted, credit_bytes, bool(flags & _LOST))


def _is_whole(payload: bytes, head_bytes: int) -> bool:
    return len(payload) >= head_bytes + _CRC.size and zlib.crc32(payload) == _CRC_OF_GOOD


def decode_event_body(body: bytes) -> EventMessage:
    """Read what `encode_event_body` gave. Raises struct.error where its lengths do not add up."""
    if len(body) > _MOST_BODY_BYTES:
        raise struct.error(f"{len(body)} bytes are more than any event has")
    number, flags, time_us, name_bytes = _EVENT.unpack_from(body)
    at = _EVENT.size + name_bytes
    if at > len(body):
        raise struct.error("the name is longer than the message")
    name = body[_EVENT.size : at].decode("utf-8", "replace")
    return EventMessage(number, bool(flags & _RELIABLE), time_us, name, tuple(_decode_values(body, at)))


def _decode_values(body: bytes, at: int) -> Sequence[EventValue]:
    values: list[EventValue] = []
    while at < len(body):
        code = body[at]
        at += 1
        if code == TypeCode.INT:
            values.append(_INT.unpack_from(body, at)[0])
            at += _INT.size
        elif code == TypeCode.FLOAT:
            values.append(_FLOAT.unpack_from(body, at)[0])
            at += _FLOAT.size
        else:
            start = at + _SIZE.size
            end = start + _SIZE.unpack_from(body, at)[0]
            if code not in (TypeCode.STR, TypeCode.BYTES) or end > len(body):
                raise struct.error(f"no value begins with {code}")
            data = body[start:end]
            values.append(data.decode("utf-8", "surrogateescape") if code == TypeCode.STR else data)
            at = end
    return values
