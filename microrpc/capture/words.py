"""Frames in words: what crossed a line, for people to read.

docs/protocol.md 1 to 3 and docs/link.md 2 have what they are made of.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from microrpc.capture import phrases
from microrpc.errors import ProtocolError, printable
from microrpc.wire.datatypes import ArrayResult, FunctionHandle, OpaqueHandle, Value
from microrpc.wire.frames import FrameDecoder, Garbage
from microrpc.wire.link import ReplyKind, RequestKind, decode_link_message, unpack_read, unpack_write
from microrpc.wire.names import DESCRIBE_FUNCTION, MEMORY_FUNCTION, PACKET_NBYTES
from microrpc.wire.packets import (
    CallFunc,
    CopyAck,
    CopyFromRemote,
    CopyToRemote,
    PacketCode,
    RemoteException,
    Return,
    Syscall,
    decode_packet,
    decode_result,
)
from microrpc.wire.session import HEADER_SIZE_BYTES, MessageType
from microrpc.wire.text import is_text

MOST_TEXT_BYTES = 256
"""How much of a line of text is kept."""
_MOST_NAMES = 1024
_VERSION = b"\1"  # that of sessions
_TOLD = (MEMORY_FUNCTION, DESCRIBE_FUNCTION)  # whose results have words of their own
DAMAGED = "damaged"
"""The kind of a frame that did not arrive whole; its size is not known, and given as 0."""
NOISE = "noise"
"""The kind of bytes outside of frames; those in a row are one entry."""
TEXT = "text"
"""The kind of those that are text, as firmware prints it; each line is one entry."""


@dataclass(slots=True)
class Frame:
    """One frame: `time_s`, when it was complete (the channel's time), whether it went `to_board`, and what it says.

    `kind` is the name of its message or packet (docs/protocol.md 2, 3; docs/link.md), `meaning` the rest in words, and
    `size_bytes` what it took on the line. `payload` is that of a good frame, or a `TEXT` as far as it is shown; it is
    empty for what was no good frame: of the kind `DAMAGED` or `NOISE`.
    """

    time_s: float
    to_board: bool
    payload: bytes
    kind: str
    meaning: str
    size_bytes: int

    def line(self, start_s: float) -> str:
        """Give it as one line, its time in ms since `start_s`."""
        arrow = "-> board" if self.to_board else "<- board"
        size = f"{self.size_bytes} B" if self.size_bytes else "? B"
        meaning = printable(self.meaning)
        return f"{(self.time_s - start_s) * 1e3:9.1f} ms  {arrow} {size:>7}  {self.kind:<14}  {meaning}".rstrip()


class FrameReader:
    """Both directions of one line, put in words."""

    def __init__(self) -> None:
        self._decoders = {True: FrameDecoder(), False: FrameDecoder()}
        self._asked: CallFunc | Syscall | None = None
        self._names: dict[int, str] = {}

    def read(self, time_s: float, to_board: bool, data: bytes) -> list[Frame]:
        """Give what `data`, seen at `time_s`, completes, and what is outside of frames, in order."""
        frames = []
        for one in self._decoders[to_board].feed(data):
            if isinstance(one, bytes):
                frames.append(Frame(time_s, to_board, one, *self._explain(one, to_board), len(one)))
            elif isinstance(one, Garbage):
                frames += [_beside(time_s, to_board, line) for line in one.data.splitlines(keepends=True)]
            else:
                frames.append(Frame(time_s, to_board, b"", DAMAGED, f"{one.kind.value}: {one.detail}", 0))
        return frames

    @property
    def unfinished(self) -> list[str]:
        """The directions in which a frame was begun and has not ended yet."""
        names = {True: "to the board", False: "from the board"}
        return [name for to_board, name in names.items() if self._decoders[to_board].in_packet]

    def _explain(self, payload: bytes, to_board: bool) -> tuple[str, str]:
        """Give the kind of a message and what it says; whatever it is, this does not raise."""
        if len(payload) < HEADER_SIZE_BYTES:
            return "?", "too short for a message"
        session_id, code = struct.unpack_from("<HB", payload)
        body = payload[HEADER_SIZE_BYTES:]
        match code:
            case MessageType.START_SESSION_INIT if session_id > 0xFF or body != _VERSION:
                return "INIT", _none(session_id, body)
            case MessageType.START_SESSION_REPLY if body != _VERSION:
                return "REPLY", _none(session_id, body)
            case MessageType.TERMINATE_SESSION if body:
                return "TERMINATE", _none(session_id, body)
            case MessageType.START_SESSION_INIT:
                return "INIT", f"open a session; my nonce is 0x{session_id:02x}"
            case MessageType.START_SESSION_REPLY:
                return "REPLY", f"session 0x{session_id:04x}; my nonce is 0x{session_id >> 8:02x}"
            case MessageType.TERMINATE_SESSION:
                if session_id:
                    return "TERMINATE", f"session 0x{session_id:04x} is over"
                if to_board:
                    return "TERMINATE", "any session there was is over"
                self._names.clear()
                return "TERMINATE", "I have booted"
            case MessageType.LOG:
                return "LOG", phrases.log(log_text(payload))
            case MessageType.NORMAL:
                return self._explain_packet(body[PACKET_NBYTES:])
            case MessageType.LINK_EVENT | MessageType.LINK_EVENT_ACK | MessageType.LINK_EVENT_STATE:
                return phrases.events(payload, code) or (DAMAGED, "crc32, or lengths that do not add up")
            case code if code >= MessageType.LINK_REQUEST and code in list(MessageType):
                return self._explain_link(payload)
        return f"type 0x{code:02x}", f"{len(body)} bytes"

    def _explain_link(self, payload: bytes) -> tuple[str, str]:
        """Explain a message of the link, by its seq and what it carries (docs/link.md 2)."""
        message = decode_link_message(payload)
        if message is None:
            return DAMAGED, "crc32"
        message_type, seq, content = message
        if message_type not in (MessageType.LINK_REQUEST, MessageType.LINK_REPLY, MessageType.LINK_NAK):
            return phrases.signal(message_type, seq, content)
        if message_type is MessageType.LINK_NAK or not content:
            return "NAK", f"something was damaged; I wait for #{seq}"
        code, body = content[0], content[1:]
        if code == 0:
            kind, meaning = self._explain_packet(body)
        elif message_type is MessageType.LINK_REPLY:
            kind, meaning = (
                ("DATA", f"{len(body)} bytes") if code == ReplyKind.DATA else (_name_of(ReplyKind, code), "")
            )
        elif code == RequestKind.CALL:
            kind, meaning = self._explain_packet(body)
            kind, meaning = "CALL", meaning if kind == "CallFunc" else f"{kind} {meaning}"
        elif code == RequestKind.WRITE:
            kind, meaning = "WRITE", _explain_write(body)
        elif code == RequestKind.READ:
            kind, meaning = "READ", _explain_read(body)
        else:
            kind, meaning = _name_of(RequestKind, code), ""
        return kind, f"{meaning} #{seq}".lstrip()

    def _explain_packet(self, body: bytes) -> tuple[str, str]:
        try:
            packet = decode_packet(body)
            match packet:
                case CallFunc(handle, args):
                    self._asked = packet
                    return "CallFunc", f"{self._name(handle)}({', '.join(map(phrases.value, args))})"
                case Syscall(code, args):
                    self._asked = packet
                    label = code.label if isinstance(code, PacketCode) else f"code {code}"
                    return label, ", ".join(map(phrases.value, args))
                case CopyToRemote(tensor, data):
                    self._asked = None
                    return "CopyToRemote", f"{len(data)} bytes to {phrases.value(tensor)} +{tensor.byte_offset}"
                case CopyFromRemote(tensor, size_bytes):
                    self._asked = None
                    return "CopyFromRemote", f"{size_bytes} bytes of {phrases.value(tensor)} +{tensor.byte_offset}"
                case CopyAck(data):
                    return "CopyAck", f"{len(data)} bytes"
                case RemoteException(message):
                    return "Exception", phrases.quoted(message)
                case Return(values):
                    return "Return", self._explain_return(values)
        except ProtocolError as error:
            return "?", str(error)
        return type(packet).__name__, ""

    def _explain_return(self, values: tuple[Value, ...]) -> str:
        """Give what was returned; where it is a function that was looked up, note its name."""
        result: Value | ArrayResult
        if isinstance(self._asked, CallFunc):
            result = decode_result(values)
        elif len(values) == 1:
            [result] = values
        else:
            return ", ".join(map(phrases.value, values)) or "no value at all"
        if isinstance(self._asked, CallFunc) and (name := self._name(self._asked.handle)) in _TOLD:
            return phrases.result(name, result)
        if self._asked is not None and isinstance(result, FunctionHandle | OpaqueHandle):
            names = [arg for arg in self._asked.args if isinstance(arg, str)]
            if len(self._names) >= _MOST_NAMES:
                del self._names[next(iter(self._names))]
            told = phrases.looked_up(names[0], int(result)) if names and isinstance(self._asked, Syscall) else None
            if told is not None:
                return told
            self._names[int(result)] = names[0] if names else f"{self._asked_name()}()"
        return phrases.value(result)

    def _asked_name(self) -> str:
        return self._name(self._asked.handle) if isinstance(self._asked, CallFunc) else "?"

    def _name(self, handle: int) -> str:
        return self._names.get(handle, f"0x{handle:x}")


def _explain_write(body: bytes) -> str:
    try:
        address, data = unpack_write(body)
    except struct.error:
        return "too short for an address"
    return f"{len(data)} bytes to 0x{address:x}"


def _explain_read(body: bytes) -> str:
    try:
        address, size_bytes = unpack_read(body)
    except struct.error:
        return f"of {len(body)} bytes, which are not an address and a size"
    return f"{size_bytes} bytes at 0x{address:x}"


def _none(session_id: int, body: bytes) -> str:
    """Tell of a session message that nobody should take (docs/protocol.md 2)."""
    return f"none that is to be taken: session 0x{session_id:04x}, then {phrases.value(body) if body else 'nothing'}"


def _beside(time_s: float, to_board: bool, data: bytes) -> Frame:
    if is_text(data):
        return Frame(time_s, to_board, data[:MOST_TEXT_BYTES], TEXT, text_meaning(data), len(data))
    return Frame(time_s, to_board, b"", NOISE, "outside of any frame", len(data))


def text_meaning(data: bytes) -> str:
    """Give what a `TEXT` says."""
    return phrases.quoted(data.decode(errors="backslashreplace").rstrip("\r\n"))


def _name_of(kinds: type[RequestKind | ReplyKind], code: int) -> str:
    return kinds(code).name if code in list(kinds) else f"kind {code}"


def log_text(payload: bytes) -> str:
    """Give the text of a LOG (docs/protocol.md 2), from its frame payload; what is no UTF-8 is escaped."""
    return payload[HEADER_SIZE_BYTES:].decode(errors="backslashreplace")
