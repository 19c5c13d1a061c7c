"""Frames in words: what crossed a line, for people to read.

docs/protocol.md 1 to 3 and docs/link.md 2 have what they are made of.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from microrpc.capture import phrases
from microrpc.capture.messages import DAMAGED, Data, Log, Progress, Read, Write, code_name
from microrpc.capture.records import NOISE, TEXT, Record, RecordReader
from microrpc.errors import printable
from microrpc.wire.datatypes import OpaqueHandle
from microrpc.wire.events import EventAck, EventMessage, EventState
from microrpc.wire.names import DESCRIBE_FUNCTION, MEMORY_FUNCTION
from microrpc.wire.packets import (
    CallFunc,
    CopyAck,
    CopyFromRemote,
    CopyToRemote,
    RemoteException,
    Return,
    Syscall,
)
from microrpc.wire.session import HEADER_SIZE_BYTES

MOST_TEXT_BYTES = 256
"""How much of a line of text is kept."""
_TOLD = (MEMORY_FUNCTION, DESCRIBE_FUNCTION)  # whose results have words of their own


@dataclass(slots=True)
class Frame:
    """One frame: `time_s`, when it was complete (the channel's time), whether it went `to_board`, and what it says.

    `kind` is the name of its message or packet (docs/protocol.md 2, 3; docs/link.md), `meaning` the rest in words, and
    `size_bytes` what it took on the line. `payload` is that of a good frame, or a `TEXT` as far as it is shown; it is
    empty for what was no good frame: of the kind `DAMAGED` or `NOISE`. `record` is what it was made of, for its fields
    (`microrpc.capture.fields.fields_of`).
    """

    time_s: float
    to_board: bool
    payload: bytes
    kind: str
    meaning: str
    size_bytes: int
    record: Record | None = field(default=None, repr=False, compare=False)

    def line(self, start_s: float) -> str:
        """Give it as one line, its time in ms since `start_s`."""
        arrow = "-> board" if self.to_board else "<- board"
        size = f"{self.size_bytes} B" if self.size_bytes else "? B"
        meaning = printable(self.meaning)
        return f"{(self.time_s - start_s) * 1e3:9.1f} ms  {arrow} {size:>7}  {self.kind:<14}  {meaning}".rstrip()


class FrameReader:
    """Both directions of one line, put in words."""

    def __init__(self) -> None:
        self._reader = RecordReader()
        self._number = 0

    def read(self, time_s: float, to_board: bool, data: bytes) -> list[Frame]:
        """Give what `data`, seen at `time_s`, completes, and what is outside of frames, in order."""
        self._number += 1
        records = self._reader.read(self._number, int(time_s * 1e9), to_board, data)
        return [frame_of(record, time_s) for record in records]

    @property
    def unfinished(self) -> list[str]:
        """The directions in which a frame was begun and has not ended yet."""
        return self._reader.unfinished


def frame_of(record: Record, time_s: float) -> Frame:
    """Put a record in words; `time_s` is its time as it is to be shown."""
    kind, payload = record.message.kind, record.payload
    size_bytes = len(payload)
    if kind == TEXT:
        payload = payload[:MOST_TEXT_BYTES]
    elif kind == NOISE:
        payload = b""
    return Frame(time_s, record.to_board, payload, kind, meaning_of(record), size_bytes, record)


def meaning_of(record: Record) -> str:
    """Give what a record says, besides its kind."""
    message = record.message
    if message.kind == TEXT:
        return text_meaning(record.payload[:MOST_TEXT_BYTES])
    if message.kind == NOISE:
        return "outside of any frame"
    if message.kind == DAMAGED:
        return f"{message.damage}: {record.detail}" if record.detail else message.problem or message.damage
    if message.kind == "NAK":
        return f"something was damaged; I wait for #{message.seq}"
    if message.kind == "KEEP_ALIVE" and not message.problem:
        return "is anybody there?"
    meaning = message.problem or _meaning(record)
    if message.link_kind == "CALL" and not isinstance(message.content, CallFunc):  # what is seldom in one
        meaning = f"{'?' if message.code is None or message.problem else code_name(message.code)} {meaning}"
    return meaning if message.seq is None else f"{meaning} #{message.seq}".lstrip()


def _meaning(record: Record) -> str:
    match record.message.content:
        case CallFunc(handle, args):
            return f"{record.function or f'0x{handle:x}'}({', '.join(map(phrases.value, args))})"
        case Return():
            return _returned(record)
        case Syscall(_, args):
            return ", ".join(map(phrases.value, args))
        case CopyToRemote(tensor, data):
            return f"{len(data)} bytes to {phrases.value(tensor)} +{tensor.byte_offset}"
        case CopyFromRemote(tensor, size_bytes):
            return f"{size_bytes} bytes of {phrases.value(tensor)} +{tensor.byte_offset}"
        case CopyAck(data):
            return f"{len(data)} bytes"
        case RemoteException(text):
            return phrases.quoted(text)
        case Write(address, size_bytes):
            return f"{size_bytes} bytes to 0x{address:x}"
        case Read(address, size_bytes):
            return f"{size_bytes} bytes at 0x{address:x}"
        case Data(size_bytes):
            return f"{size_bytes} bytes"
        case Progress(done, total):
            return f"{done} of {total}"
        case Log():
            return phrases.log(log_text(record.payload))
        case EventMessage() | EventAck() | EventState() as news:
            return phrases.event(news)
    return _plain(record)


def _plain(record: Record) -> str:
    """Give what a message without content says, by its kind."""
    message = record.message
    session_id = message.session_id or 0
    match message.kind:
        case "INIT":
            return f"open a session; my nonce is 0x{session_id:02x}"
        case "REPLY":
            return f"session 0x{session_id:04x}; my nonce is 0x{session_id >> 8:02x}"
        case "TERMINATE" if session_id:
            return f"session 0x{session_id:04x} is over"
        case "TERMINATE":
            return "any session there was is over" if record.to_board else "I have booted"
        case "CANCEL":
            return "end"
    return f"{len(record.payload) - HEADER_SIZE_BYTES} bytes" if message.kind.startswith("type ") else ""


def _returned(record: Record) -> str:
    if not record.result:
        assert isinstance(record.message.content, Return)
        return ", ".join(map(phrases.value, record.message.content.values)) or "no value at all"
    [result] = record.result
    asked = record.request.message.content if record.request is not None else None
    if isinstance(asked, CallFunc) and record.function in _TOLD:
        return phrases.result(record.function, result)
    told = None
    if isinstance(asked, Syscall) and isinstance(result, OpaqueHandle):
        told = phrases.looked_up(record.function, int(result))
    return phrases.value(result) if told is None else told


def text_meaning(data: bytes) -> str:
    """Give what a `TEXT` says."""
    return phrases.quoted(data.decode(errors="backslashreplace").rstrip("\r\n"))


def log_text(payload: bytes) -> str:
    """Give the text of a LOG (docs/protocol.md 2), from its frame payload; what is no UTF-8 is escaped."""
    return payload[HEADER_SIZE_BYTES:].decode(errors="backslashreplace")
