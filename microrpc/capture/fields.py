"""The fields of a record, as programs read them: by `microrpc decode --json`, and under the same names in Wireshark.

`FIELDS` has their names. Two decoders give equal values for the same file, packet by packet, this one and the dissector
for Wireshark. So here are the rules, besides docs/protocol.md 1 to 3 and docs/link.md 2, 7 to 10:

**Records.** A packet of a capture is the next bytes of its direction; they are cut as docs/protocol.md 1 has it. An FF
at the end of a packet waits for its other half in the next one of that direction. What a packet completes is its own: a
frame with its last byte; a damaged one with the byte that tells (of a restart the FD, of a bad crc the last byte of it,
of a length above 2**20, which is `too long`, the last of the length; then the hunt for a start goes on behind that
byte, and at the FF of a restart). Bytes outside of frames are told for each packet, up to the frame that follows or the
end: first each FF FE is taken out, from the left, and then each FE; what is left, if anything, is cut behind each CR
LF, LF and CR, and each piece is a record: `text` if it is (docs/protocol.md 7, `microrpc.wire.text.is_text`), else
`noise`. Nothing else is looked at in them.

**Malformed.** A packet of docs/protocol.md 3 is decoded whole or not at all: `microrpc.malformed`, kind `?` (CALL for
that message of the link), and of all that stands in the packet only the code, where it has 4 bytes. That is what breaks
off, has bytes left over, an unknown code below 9, type codes or counts that are none (more than 4096 values or 1024
dimensions, a negative count, dimension or extent), a device whose type is 128 or more, an Exception that is not one
Str, and a Return with a ModuleHandle or PackedFuncHandle. packet_nbytes is shown, not checked. The body of a NORMAL
message is one packet. Likewise malformed are: a payload of less than 3 bytes (without an id or type), a NORMAL message
of less than 8 bytes, session messages that docs/link.md 5 does not take, a message of the link with too much or too
little in it, and one of an unknown kind (`kind 9`). Of those only id, type, crc32_ok, seq and link.kind are given,
besides payload_size, which every frame has whose crc16 is right. A type that nobody knows is not malformed: its kind is
`type 0x30`.

**Damage.** crc32: a message of the link, or of events, whose crc32 is wrong or that is too short to have one (less than
9 bytes; of events less than 7); of it only id, type, crc32_ok and payload_size are given. lengths: a message of events
whose crc32 is right, and whose lengths do not add up. The kind of both is `damaged`.

**Requests and replies.** Over NORMAL messages a Return, Exception or CopyAck from the board answers the last request
before it, once, if that has the same session id; any other packet to the board is a request, and Shutdown none that is
answered, but it ends the wait for the one before. Over the link a LINK_REPLY answers the LINK_REQUEST of its seq,
among the last 64 seqs of the session (the id of these messages; another id forgets all of them). A good REPLY or
TERMINATE from the board forgets both. retransmission: a LINK_REQUEST whose seq is known, a LINK_REPLY whose request was
answered before. A request that is sent again is not another one: replies and their time belong to the first.
response_in is known once the reply has come: to whoever reads a stream, not when the request is shown.

**Names.** A GetGlobalFunc that is answered with a handle that is not 0 names it, but for microrpc.link and
microrpc.features. So does a function's result that is an OpaqueHandle or a function, not 0: by the first Str of the
call that is not empty, else by the function's own name (in hex where that is not known) and `()`. 1024 are kept, and
the one that was learned first goes; TERMINATE with id 0 from the board forgets all. The function of a
GetGlobalFunc is its first Str that is not empty.

**Values and texts** are as `microrpc.capture.forms` has them.
"""

from __future__ import annotations

import enum
import logging
from typing import Final, NamedTuple, TypeAlias

from microrpc.capture.forms import TYPE_NAMES, shape_of, text_of, value_of
from microrpc.capture.messages import DAMAGED, Data, Log, Progress, Read, Write, code_name
from microrpc.capture.records import NOISE, TEXT, Record
from microrpc.errors import ProtocolError
from microrpc.wire.datatypes import OpaqueHandle, Tensor, Value
from microrpc.wire.events import EVENT_NAME_AT, EventAck, EventMessage, EventState
from microrpc.wire.features import Features
from microrpc.wire.link import LINK_REQUEST, LinkParameters
from microrpc.wire.logs import parse_log
from microrpc.wire.memory import decode_memory
from microrpc.wire.names import DESCRIBE_FUNCTION, FEATURES_FUNCTION, LINK_FUNCTION, MEMORY_FUNCTION
from microrpc.wire.packets import (
    CallFunc,
    CopyAck,
    CopyFromRemote,
    CopyToRemote,
    InitServer,
    RemoteException,
    Return,
    Syscall,
)
from microrpc.wire.session import MessageType

FieldValue: TypeAlias = int | float | str | list[int] | list[str]
"""What a field is: a bool, too, and a list where it may stand in a record more than once."""


class FieldType(enum.Enum):
    """How a field is held."""

    NUMBER = "number"
    """An unsigned integer of up to 64 bits."""
    HEX = "hex"
    """The same, which people read in hex."""
    TEXT = "text"
    """As `microrpc.capture.forms` makes it."""
    FLAG = "flag"
    """True or False."""
    MARK = "mark"
    """True, or not there."""
    PACKET = "packet"
    """The number of a packet of the capture."""
    SECONDS = "seconds"
    """A time, exact to the nanosecond."""


class Field(NamedTuple):
    """A field: its `type`, what it is `about`, and whether it `repeats`: a list, in the order of the record."""

    type: FieldType
    about: str
    repeats: bool = False


def _fields(**types: dict[str, str]) -> dict[str, Field]:
    return {
        f"microrpc.{name}": Field(FieldType[kind], about.removeprefix("* "), about.startswith("* "))
        for kind, found in types.items()
        for name, about in found.items()
    }


FIELDS: Final = _fields(
    TEXT={
        "kind": "What it is: INIT, CallFunc, WRITE, damaged, noise, text ...",
        "damage": "bad crc, short packet, invalid escape, too long; crc32, lengths",
        "text": "A line outside of frames, without its end",
        "log.text": "A line of the board's log, without level and time",
        "log.level": "debug, info, warning, error",
        "code": "The packet's name: CallFunc, Return ...; code 99",
        "version": "The version in an InitServer",
        "arg": "* The values",
        "arg.type": "* Their types",
        "result": "What a Return gives its caller, where its request was seen",
        "result.type": "The type of it",
        "function": "The function's name, where its look-up was seen; of a reply, too",
        "error": "The text of an Exception",
        "tensor.dtype": "* Data type of each tensor",
        "tensor.shape": "* Shape of each tensor: [2,3]",
        "link.kind": "PACKET, WRITE, READ, CALL, DONE, DATA, FORGOTTEN; kind 9",
        "event.name": "An event's name",
        "features": "Of the answer to microrpc.features: events, reliable, progress ...; none",
        "description": "A page of the board's description",
    },
    NUMBER={
        "outside_size": "Bytes outside of frames: of text or noise",
        "payload_size": "Bytes in the frame, without escapes",
        "log.board_time_us": "The board's clock in a line of its log, in microseconds",
        "packet_size": "packet_nbytes",
        "argc": "How many values the packet or event has",
        "tensor.offset": "* byte_offset of each tensor",
        "data_size": "Bytes that are copied, or wanted",
        "link.seq": "Sequence number",
        "link.size": "Bytes of a WRITE or READ",
        "link.window_requests": "Of the answer to microrpc.link: requests that may be unanswered",
        "link.packet_bytes": "Of the same: the largest frame payload",
        "link.window_bytes": "Of the same: bytes that may be on their way",
        "event.number": "Its number",
        "event.time_us": "The board's clock, in microseconds",
        "event.wanted": "Of an EVENT_ACK: the next reliable one",
        "event.credit": "Of the same: bytes of events that may come",
        "event.next": "Of the same: the number of the next plain one",
        "event.next_reliable": "Of the same: and of the next reliable one",
        "progress.done": "How far a call has come",
        "progress.total": "Of how much",
        "features.host_timeout_ms": "Of the same: when a silent host is gone",
        "memory.heap": "Of the answer to microrpc.memory: bytes in all",
        "memory.used": "Of the same: bytes in use",
        "memory.largest_free": "Of the same: the largest block that is free",
    },
    HEX={
        "session_id": "Session",
        "message_type": "Message type",
        "nonce": "The nonce of who sends an INIT or REPLY",
        "handle": "The handle that is called",
        "tensor.address": "* Address of each tensor",
        "link.address": "Address of a WRITE or READ",
        "event.boot": "Of an EVENT_STATE: the boot",
        "features.description_hash": "Of the same: the crc32 of the description",
    },
    FLAG={
        "link.crc32_ok": "Whether the crc32 is right",
        "event.reliable": "Whether it is a reliable one",
        "event.lost": "Of the same: LOST",
    },
    MARK={
        "malformed": "It arrived whole, and is nothing that the protocol has",
        "link.retransmission": "The seq crossed the line before",
    },
    PACKET={
        "request_in": "The request that this answers",
        "response_in": "The answer",
    },
    SECONDS={
        "response_time": "From the request to the answer, in seconds",
    },
)
"""Every field by its name."""


def fields_of(record: Record) -> dict[str, FieldValue]:
    """Give the fields of a record, by their names in `FIELDS`, those that it has."""
    message = record.message
    found: dict[str, FieldValue] = {"kind": message.kind}
    if message.damage:
        found["damage"] = message.damage
    if message.kind in (TEXT, NOISE):
        if message.kind == TEXT:
            found["text"] = text_of(record.payload.rstrip(b"\r\n"))
        found["outside_size"] = len(record.payload)
    elif message.kind != DAMAGED or message.message_type is not None:
        found["payload_size"] = len(record.payload)
    if message.problem and not message.damage:
        found["malformed"] = True
    if message.message_type is not None:
        _add_header(record, found)
        _add_content(record, found)
        _add_result(record, found)
        _add_match(record, found)
    return {f"microrpc.{name}": value for name, value in found.items()}


def _add_header(record: Record, found: dict[str, FieldValue]) -> None:
    message = record.message
    session_id, message_type = message.session_id or 0, message.message_type or 0
    found["session_id"], found["message_type"] = session_id, message_type
    if message.kind in ("INIT", "REPLY") and not message.problem:
        found["nonce"] = session_id if message.kind == "INIT" else session_id >> 8
    if message_type in list(MessageType) and message_type >= LINK_REQUEST:
        found["link.crc32_ok"] = message.damage != "crc32"
    if message.seq is not None:
        found["link.seq"] = message.seq
    if message.link_kind:
        found["link.kind"] = message.link_kind
    if record.is_retransmission:
        found["link.retransmission"] = True
    if message.packet_nbytes is not None:
        found["packet_size"] = message.packet_nbytes
    if message.code is not None:
        found["code"] = code_name(message.code)
    if record.function:
        found["function"] = text_of(record.function)


def _add_content(record: Record, found: dict[str, FieldValue]) -> None:
    match record.message.content:
        case Log(data):
            line = parse_log(data.decode("utf-8", "surrogateescape"))
            found["log.text"] = text_of(line.text)
            found["log.level"] = logging.getLevelName(line.level).lower()
            if line.board_time_us is not None:
                found["log.board_time_us"] = line.board_time_us
        case CallFunc(handle, args):
            found["handle"] = handle
            _add_values(args, found)
        case Syscall(_, args) | Return(args):
            _add_values(args, found)
        case InitServer(version, args):
            found["version"] = text_of(version)
            _add_values(args, found)
        case CopyToRemote(tensor, data):
            _add_tensors([tensor], found)
            found["data_size"] = len(data)
        case CopyFromRemote(tensor, size_bytes):
            _add_tensors([tensor], found)
            found["data_size"] = size_bytes
        case CopyAck(data):
            found["data_size"] = len(data)
        case RemoteException(text):
            found["error"] = text_of(text)
        case Data(size_bytes):
            found["data_size"] = size_bytes
        case Write(address, size_bytes) | Read(address, size_bytes):
            found["link.address"], found["link.size"] = address, size_bytes
        case Progress(done, total):
            found["progress.done"], found["progress.total"] = done, total
        case EventMessage() as event:
            # By its bytes: in the name of the event itself what is no UTF-8 is lost.
            end = EVENT_NAME_AT + record.payload[EVENT_NAME_AT - 1]
            found["event.name"] = text_of(record.payload[EVENT_NAME_AT:end])
            found["event.number"], found["event.reliable"] = event.number, event.is_reliable
            found["event.time_us"] = event.time_us
            _add_values(event.values, found)
        case EventAck(wanted, credit_bytes, is_lost):
            found["event.wanted"], found["event.credit"], found["event.lost"] = wanted, credit_bytes, is_lost
        case EventState(boot, next_number, next_reliable):
            found["event.boot"], found["event.next"] = boot, next_number
            found["event.next_reliable"] = next_reliable


def _add_values(values: tuple[Value, ...], found: dict[str, FieldValue]) -> None:
    found["argc"] = len(values)
    if values:
        found["arg"] = [value_of(value) for value in values]
        found["arg.type"] = [TYPE_NAMES[type(value)] for value in values]
        _add_tensors([value for value in values if isinstance(value, Tensor)], found)


def _add_tensors(tensors: list[Tensor], found: dict[str, FieldValue]) -> None:
    if tensors:
        found["tensor.dtype"] = [str(tensor.dtype) for tensor in tensors]
        found["tensor.shape"] = [shape_of(tensor) for tensor in tensors]
        found["tensor.address"] = [tensor.data for tensor in tensors]
        found["tensor.offset"] = [tensor.byte_offset for tensor in tensors]


def _add_result(record: Record, found: dict[str, FieldValue]) -> None:
    """Add what a Return gives, and what that tells of the board."""
    if not record.result:
        return
    [result] = record.result
    found["result"], found["result.type"] = value_of(result), TYPE_NAMES[type(result)]
    request = record.request
    if request is not None and isinstance(request.message.content, Syscall) and isinstance(result, OpaqueHandle):
        if record.function == LINK_FUNCTION and (link := LinkParameters.from_handle(int(result))) is not None:
            found["link.window_requests"], found["link.packet_bytes"] = link.window_requests, link.packet_bytes
            found["link.window_bytes"] = link.window_bytes
        elif record.function == FEATURES_FUNCTION:
            features = Features.from_handle(int(result))
            names = [(feature.name or "").lower() for feature in features.known]
            found["features"] = ", ".join(names) or "none"
            found["features.host_timeout_ms"] = features.host_timeout_ms
            found["features.description_hash"] = features.description_hash
    elif record.function == DESCRIBE_FUNCTION and isinstance(result, bytes):
        found["description"] = text_of(result)
    elif record.function == MEMORY_FUNCTION:
        try:
            memory = decode_memory(result)
        except ProtocolError:
            return
        found["memory.heap"], found["memory.used"] = memory.heap_bytes, memory.used_bytes
        found["memory.largest_free"] = memory.largest_free_bytes


def _add_match(record: Record, found: dict[str, FieldValue]) -> None:
    if record.request is not None:
        found["request_in"] = record.request.number
        found["response_time"] = (record.time_ns - record.request.time_ns) / 1e9
    if record.reply is not None:
        found["response_in"] = record.reply.number
