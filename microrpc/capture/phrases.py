"""What stands in messages, in words: values, events, what a board knows (docs/link.md 7 to 10, docs/device.md 4, 5).

Each phrase is short, whatever a peer has sent.
"""

from __future__ import annotations

import logging

from microrpc.errors import ProtocolError
from microrpc.wire.datatypes import ArrayResult, FunctionHandle, ModuleHandle, OpaqueHandle, Tensor, Value
from microrpc.wire.events import EventMessage, EventState, decode_event_ack, decode_event_news
from microrpc.wire.features import Features
from microrpc.wire.link import PROGRESS, LinkParameters
from microrpc.wire.logs import parse_log
from microrpc.wire.memory import decode_memory
from microrpc.wire.names import DESCRIBE_FUNCTION, FEATURES_FUNCTION, LINK_FUNCTION, MEMORY_FUNCTION
from microrpc.wire.session import MessageType

_LONGEST_TEXT = 40
_MOST_VALUES = 8


def quoted(text: str) -> str:
    """Give a text in quotes, the beginning of it where it is long."""
    short = text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "..."
    return '"' + short.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"') + '"'


def value(value: Value | ArrayResult) -> str:
    """Give a value of a packet."""
    match value:
        case None:
            return "nothing"
        case FunctionHandle():
            return f"function 0x{int(value):x}"
        case ModuleHandle():
            return f"module 0x{int(value):x}"
        case OpaqueHandle():
            return f"0x{int(value):x}"
        case ArrayResult():
            return f"a new {_tensor(value.tensor)}"
        case Tensor():
            return _tensor(value)
        case str():
            return quoted(value)
        case bytes():
            return f"bytes:{value.hex()}" if len(value) <= _LONGEST_TEXT // 2 else f"{len(value)} bytes"
    return str(value)


def _tensor(tensor: Tensor) -> str:
    return f"{tensor.dtype}[{','.join(map(str, tensor.shape))}]" + (f" at 0x{tensor.data:x}" if tensor.data else "")


def log(text: str) -> str:
    """Give a line of the log, with its level and its time where it has them."""
    line = parse_log(text)
    if line.text == text:
        return quoted(text)
    time = "" if line.board_time_us is None else f" at {line.board_time_us / 1e6:.6f} s"
    return f"{logging.getLevelName(line.level).lower()}{time}: {quoted(line.text)}"


# --- the link's messages without a packet ---------------------------------------------------------


def events(payload: bytes, message_type: int) -> tuple[str, str] | None:
    """Give the kind of an EVENT, EVENT_ACK or EVENT_STATE, and what it says; None where it is damaged."""
    if message_type == MessageType.LINK_EVENT_ACK:
        ack = decode_event_ack(payload)
        if ack is None:
            return None
        lost = "; send again what was lost" if ack.is_lost else ""
        return "EVENT_ACK", f"{ack.credit_bytes} bytes of events may come, reliable ones from #{ack.wanted} on{lost}"
    match decode_event_news(payload):
        case EventMessage() as event:
            return "EVENT", _event(event)
        case EventState(boot, next_number, next_reliable):
            return "EVENT_STATE", f"boot 0x{boot:08x}; next is #{next_number}, of reliable ones #{next_reliable}"
    return None


def _event(event: EventMessage) -> str:
    shown = [value(one) for one in event.values[:_MOST_VALUES]]
    left = len(event.values) - len(shown)
    if left:
        shown.append(f"and {left} more")
    number = f"{'reliable ' if event.is_reliable else ''}#{event.number}"
    return f"{number} {quoted(event.name)}({', '.join(shown)}) at {event.time_us / 1e6:.6f} s"


def signal(message_type: MessageType, seq: int, content: bytes) -> tuple[str, str]:
    """Give the kind of a CANCEL, PROGRESS or KEEP_ALIVE, and what it says of the request `seq`."""
    if message_type is MessageType.LINK_PROGRESS and len(content) == PROGRESS.size:
        done, total = PROGRESS.unpack(content)
        return "PROGRESS", f"{done} of {total} #{seq}"
    kind = message_type.name.removeprefix("LINK_")
    if content:
        return kind, f"none that is to be taken: {len(content)} bytes #{seq}"
    return kind, "is anybody there?" if message_type is MessageType.LINK_KEEP_ALIVE else f"end #{seq}"


# --- what a board tells of itself -----------------------------------------------------------------


def looked_up(name: str, handle: int) -> str | None:
    """Give what the handle means that a look-up of `name` gave; None where it is a function's."""
    if name == LINK_FUNCTION:
        link = LinkParameters.from_handle(handle)
        if link is None:
            return "no link" if not handle else f"a link that nobody knows, 0x{handle:x}"
        return f"a link: {link.window_requests} requests, {link.window_bytes} bytes, messages of {link.packet_bytes}"
    if name == FEATURES_FUNCTION:
        features = Features.from_handle(handle)
        if features == Features() and handle:
            return f"no feature that is known, 0x{handle:x}"
        names = [(feature.name or "").lower() for feature in features.known]
        told = [", ".join(names) or "no features"]
        told += [f"a host is gone after {features.host_timeout_ms} ms"] * bool(features.host_timeout_ms)
        told += [f"description 0x{features.description_hash:08x}"] * bool(features.description_hash)
        return "; ".join(told)
    return None


def result(name: str, returned: Value | ArrayResult) -> str:
    """Give what the function `name` returned."""
    if name == MEMORY_FUNCTION:
        try:
            memory = decode_memory(returned)
        except ProtocolError:
            return value(returned)
        return f"{memory.used_bytes} of {memory.heap_bytes} bytes used, {memory.largest_free_bytes} at once"
    if name == DESCRIBE_FUNCTION and isinstance(returned, bytes):
        return f"{len(returned)} bytes, {quoted(returned[: 4 * _LONGEST_TEXT].decode('utf-8', 'backslashreplace'))}"
    return value(returned)
