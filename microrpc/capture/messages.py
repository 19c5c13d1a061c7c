"""What one good frame holds: the message of its payload, taken apart (docs/protocol.md 2, 3; docs/link.md 2, 7 to 10).

Nothing here knows of other frames; `microrpc.capture.records` does.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from microrpc.capture.forms import value_of
from microrpc.errors import ProtocolError
from microrpc.wire.events import (
    EventAck,
    EventMessage,
    EventState,
    decode_event_ack,
    decode_event_news,
)
from microrpc.wire.link import (
    LINK_NAK,
    LINK_REPLY,
    LINK_REQUEST,
    PROGRESS,
    ReplyKind,
    RequestKind,
    decode_link_message,
    unpack_read,
    unpack_write,
    unsealed,
)
from microrpc.wire.names import PACKET_NBYTES
from microrpc.wire.packets import Packet, PacketCode, RemoteException, Syscall, decode_packet
from microrpc.wire.session import HEADER_SIZE_BYTES, MessageType

DAMAGED = "damaged"
"""The kind of a frame that did not arrive whole."""
MALFORMED = "?"
"""The kind of one that arrived whole, and is nothing that the protocol has."""


class Log(NamedTuple):
    """The text of a LOG, as its bytes."""

    data: bytes


class Write(NamedTuple):
    """A WRITE: the address, and how many bytes go there."""

    address: int
    size_bytes: int


class Read(NamedTuple):
    """A READ: the address, and how many bytes are wanted."""

    address: int
    size_bytes: int


class Data(NamedTuple):
    """The DATA that a READ got."""

    size_bytes: int


class Progress(NamedTuple):
    """A PROGRESS: how far a call has come."""

    done: int
    total: int


Content: TypeAlias = Packet | EventMessage | EventAck | EventState | Log | Write | Read | Data | Progress | None
"""What a message says, besides what it is."""


@dataclass(slots=True)
class Message:
    """A frame's payload, taken apart.

    kind: the word for it: INIT, REPLY, TERMINATE, LOG, the name of a packet or of a message of the link, `DAMAGED`,
    `MALFORMED`, "type 0x..". session_id, message_type: None where it is too short for them. content: what else it says.
    packet_nbytes: what stands in front of the packet of a NORMAL message; code: of the packet, where it has one. seq,
    link_kind: of a message of the link; link_kind is "" where it has none. damage: why it counts as damaged although
    its frame was good; problem: what is wrong with what it says, for a person.
    """

    kind: str
    session_id: int | None = None
    message_type: int | None = None
    content: Content = None
    packet_nbytes: int | None = None
    code: int | None = None
    seq: int | None = None
    link_kind: str = ""
    damage: str = ""
    problem: str = ""


_HEADER = struct.Struct("<HB")
_NBYTES = struct.Struct("<Q")
_CODE = struct.Struct("<i")
_VERSION = b"\1"  # that of sessions
_SESSION_KINDS = {
    MessageType.START_SESSION_INIT: ("INIT", _VERSION),
    MessageType.START_SESSION_REPLY: ("REPLY", _VERSION),
    MessageType.TERMINATE_SESSION: ("TERMINATE", b""),
}
_SIGNALS = {
    MessageType.LINK_CANCEL: "CANCEL",
    MessageType.LINK_PROGRESS: "PROGRESS",
    MessageType.LINK_KEEP_ALIVE: "KEEP_ALIVE",
}
_LEAST_EVENT_BYTES = HEADER_SIZE_BYTES + 4  # with a crc32
_WRONG_EVENT = "crc32, or lengths that do not add up"
_LABELS = {code.value: code.label for code in PacketCode}


def read_message(payload: bytes) -> Message:
    """Take the payload of a good frame apart; whatever it is, this does not raise."""
    if len(payload) < HEADER_SIZE_BYTES:
        return Message(MALFORMED, problem="too short for a message")
    session_id, message_type = _HEADER.unpack_from(payload)
    if message_type == MessageType.NORMAL:
        message = _read_normal(payload)
    elif message_type in (LINK_REQUEST, LINK_REPLY, LINK_NAK) or message_type in _SIGNALS:
        message = _read_link(payload)
    elif message_type in _SESSION_KINDS:
        message = _read_session(session_id, message_type, payload[HEADER_SIZE_BYTES:])
    elif message_type == MessageType.LOG:
        message = Message("LOG", content=Log(payload[HEADER_SIZE_BYTES:]))
    elif message_type in (MessageType.LINK_EVENT, MessageType.LINK_EVENT_ACK, MessageType.LINK_EVENT_STATE):
        message = _read_event(payload, message_type)
    else:
        message = Message(f"type 0x{message_type:02x}")
    message.session_id, message.message_type = session_id, message_type
    return message


def _read_session(session_id: int, message_type: int, body: bytes) -> Message:
    kind, right = _SESSION_KINDS[MessageType(message_type)]
    if body == right and (kind != "INIT" or session_id <= 0xFF):
        return Message(kind)
    rest = value_of(body) if body else "nothing"
    return Message(kind, problem=f"none that is to be taken: session 0x{session_id:04x}, then {rest}")


def _read_normal(payload: bytes) -> Message:
    body = payload[HEADER_SIZE_BYTES:]
    if len(body) < PACKET_NBYTES:
        return Message(MALFORMED, problem="too short for a packet")
    message = Message(MALFORMED, packet_nbytes=_NBYTES.unpack_from(body)[0])
    _read_packet(body[PACKET_NBYTES:], message)
    return message


def _read_packet(body: bytes, message: Message) -> None:
    """Note the packet that `body` is, from its code on."""
    if len(body) >= _CODE.size:
        message.code = _CODE.unpack_from(body)[0]
    try:
        packet = message.content = decode_packet(body)
    except ProtocolError as error:
        message.problem = str(error)
        return
    if isinstance(packet, Syscall):
        message.kind = code_name(packet.code)
    else:
        message.kind = "Exception" if isinstance(packet, RemoteException) else type(packet).__name__


def code_name(code: int) -> str:
    """Give the name that docs/protocol.md 3 has for the code of a packet; "code 99" where it has none."""
    return _LABELS.get(code) or f"code {int(code)}"


def _read_link(payload: bytes) -> Message:
    found = decode_link_message(payload)
    if found is None:
        return Message(DAMAGED, damage="crc32")
    message_type, seq, content = found
    if message_type in _SIGNALS:
        message = Message(_SIGNALS[message_type], seq=seq)
        if message_type is MessageType.LINK_PROGRESS and len(content) == PROGRESS.size:
            message.content = Progress(*PROGRESS.unpack(content))
        elif content or message_type is MessageType.LINK_PROGRESS:
            message.problem = f"none that is to be taken: {len(content)} bytes"
        return message
    if message_type is LINK_NAK:
        return Message("NAK", seq=seq, problem=f"{len(content)} bytes too many" if content else "")
    if not content:
        return Message(MALFORMED, seq=seq, problem="it does not say what it is")
    code, body = content[0], content[1:]
    kinds = RequestKind if message_type is LINK_REQUEST else ReplyKind
    kind = kinds(code).name if code in list(kinds) else f"kind {code}"
    message = Message(kind, seq=seq, link_kind=kind)
    if kind in ("PACKET", "CALL"):
        message.kind = MALFORMED
        _read_packet(body, message)
        message.kind = "CALL" if kind == "CALL" else message.kind
    elif kind == "DATA":
        message.content = Data(len(body))
    elif kind in ("WRITE", "READ"):
        try:
            if kind == "WRITE":
                address, data = unpack_write(body)
                message.content = Write(address, len(data))
            else:
                message.content = Read(*unpack_read(body))
        except struct.error:
            message.problem = f"of {len(body)} bytes, which are not an address and a size"
            if kind == "WRITE":
                message.problem = "too short for an address"
    elif body or kind not in ("DONE", "FORGOTTEN"):
        message.problem = f"{len(body)} bytes that nobody knows"
    return message


def _read_event(payload: bytes, message_type: int) -> Message:
    if len(payload) < _LEAST_EVENT_BYTES or unsealed(payload) is None:
        return Message(DAMAGED, damage="crc32", problem=_WRONG_EVENT)
    found = decode_event_ack(payload) if message_type == MessageType.LINK_EVENT_ACK else decode_event_news(payload)
    match found:
        case EventMessage():
            return Message("EVENT", content=found)
        case EventState():
            return Message("EVENT_STATE", content=found)
        case EventAck():
            return Message("EVENT_ACK", content=found)
    return Message(DAMAGED, damage="lengths", problem=_WRONG_EVENT)
