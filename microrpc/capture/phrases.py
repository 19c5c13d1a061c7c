"""What stands in messages, in words: values, events, what a board knows (docs/link.md 7 to 10, docs/device.md 4, 5).

Each phrase is short, whatever a peer has sent.
"""

from __future__ import annotations

import logging

from microrpc.errors import ProtocolError
from microrpc.wire.datatypes import ArrayResult, FunctionHandle, ModuleHandle, OpaqueHandle, Tensor, Value
from microrpc.wire.events import EventAck, EventMessage, EventState
from microrpc.wire.features import Features
from microrpc.wire.link import LinkParameters
from microrpc.wire.logs import parse_log
from microrpc.wire.memory import decode_memory
from microrpc.wire.names import DESCRIBE_FUNCTION, FEATURES_FUNCTION, LINK_FUNCTION, MEMORY_FUNCTION

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


def event(news: EventMessage | EventAck | EventState) -> str:
    """Give what an EVENT, EVENT_ACK or EVENT_STATE says."""
    match news:
        case EventAck(wanted, credit_bytes, is_lost):
            lost = "; send again what was lost" if is_lost else ""
            return f"{credit_bytes} bytes of events may come, reliable ones from #{wanted} on{lost}"
        case EventState(boot, next_number, next_reliable):
            return f"boot 0x{boot:08x}; next is #{next_number}, of reliable ones #{next_reliable}"
    shown = [value(one) for one in news.values[:_MOST_VALUES]]
    left = len(news.values) - len(shown)
    if left:
        shown.append(f"and {left} more")
    number = f"{'reliable ' if news.is_reliable else ''}#{news.number}"
    return f"{number} {quoted(news.name)}({', '.join(shown)}) at {news.time_us / 1e6:.6f} s"


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
