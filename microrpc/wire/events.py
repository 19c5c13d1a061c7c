"""The messages of events: what a device says without being asked (docs/link.md 8)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from microrpc.wire.datatypes import TypeCode
from microrpc.wire.link import sealed, unsealed
from microrpc.wire.session import MessageType

EventValue: TypeAlias = int | float | str | bytes
"""A value of an event: an Int fits 64 bits; a Str and Bytes have at most 65,535 bytes."""

NUMBER_MODULUS = 1 << 32
"""The number after the highest is 0 again."""

_HEADER = struct.Struct("<HB")
_EVENT = struct.Struct("<IBIB")  # number, flags, time_us, name_size
EVENT_NAME_AT = _HEADER.size + _EVENT.size
"""Where the name of an EVENT begins in its frame payload; its size is the byte before."""
_ACK = struct.Struct("<IHB")
_STATE = struct.Struct("<III")
_INT = struct.Struct("<q")
_FLOAT = struct.Struct("<d")
_SIZE = struct.Struct("<H")
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


class UnreadableEvent(NamedTuple):
    """An EVENT that came as it was sent, and whose name and values do not add up."""

    number: int
    is_reliable: bool
    time_us: int


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


EventNews: TypeAlias = EventMessage | UnreadableEvent | EventState
"""What a device tells of events."""


@dataclass(frozen=True, slots=True)
class Event:
    """What a board said without being asked, as a host has it, and a server passes it on (docs/link.md 8, 11).

    number: of this kind (`reliable` or plain), since the board's boot, modulo 2**32. name, values: what it is.
    time_us: when, by the board's clock, in microseconds since its boot, 0 where it has none; of one that is older than
    the first that came it may be negative. missed: how many of this kind were lost before it, since the last one that
    was delivered. boot: a number that is another after each boot. Where nothing follows what was lost, a gap is told
    with no name and no values: its number is that of the first one lost, and its time that of the last event.
    """

    number: int
    name: str
    values: tuple[EventValue, ...] = ()
    time_us: int = 0
    missed: int = 0
    reliable: bool = False
    boot: int = 0

    @property
    def value(self) -> EventValue:
        """The single value. Raises ValueError where there are none or several."""
        (value,) = self.values
        return value

    @property
    def is_gap(self) -> bool:
        """Whether it tells only that some were lost."""
        return not self.name and not self.values and self.missed > 0


def _encode(session_id: int, message_type: MessageType, body: bytes) -> bytes:
    return sealed(_HEADER.pack(session_id, message_type) + body)


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
    return _encode(session_id, MessageType.LINK_EVENT, body)


def encode_event_ack(session_id: int, ack: EventAck) -> bytes:
    """Give the frame payload of an EVENT_ACK."""
    body = _ACK.pack(ack.wanted, ack.credit_bytes, _LOST if ack.is_lost else 0)
    return _encode(session_id, MessageType.LINK_EVENT_ACK, body)


def encode_event_state(session_id: int, state: EventState) -> bytes:
    """Give the frame payload of an EVENT_STATE."""
    return _encode(session_id, MessageType.LINK_EVENT_STATE, _STATE.pack(*state))


def decode_event_news(payload: bytes) -> EventNews | None:
    """Read an EVENT or EVENT_STATE; None where its crc32 is wrong, or it is none, or is too short to have a number."""
    message = unsealed(payload)
    if message is None or len(message) < _HEADER.size:
        return None
    _, message_type = _HEADER.unpack_from(message)
    body = message[_HEADER.size :]
    try:
        if message_type == MessageType.LINK_EVENT_STATE:
            return EventState(*_STATE.unpack(body))
        if message_type == MessageType.LINK_EVENT:
            return decode_event_body(body)
    except struct.error:
        if message_type == MessageType.LINK_EVENT and len(body) >= _EVENT.size:
            number, flags, time_us, _ = _EVENT.unpack_from(body)
            return UnreadableEvent(number, bool(flags & _RELIABLE), time_us)
    return None


def decode_event_ack(payload: bytes) -> EventAck | None:
    """Read an EVENT_ACK; None where its crc32 or its length is wrong."""
    message = unsealed(payload)
    if message is None or len(message) != _HEADER.size + _ACK.size:
        return None
    wanted, credit_bytes, flags = _ACK.unpack_from(message, _HEADER.size)
    return EventAck(wanted, credit_bytes, bool(flags & _LOST))


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
