"""What crossed a line, for people to read: frames of both directions in words, with times.

docs/protocol.md 1 to 3 and docs/link.md 2 have what they are made of.

`Trace` takes bytes and times and gives frames; `RecordingChannel` puts one on a channel.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass

from microrpc.channel import Channel
from microrpc.codec import (
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
from microrpc.datatypes import ArrayResult, FunctionHandle, ModuleHandle, OpaqueHandle, Tensor, Value
from microrpc.errors import ProtocolError
from microrpc.framing import Damage, FrameDecoder
from microrpc.link import ReplyKind, RequestKind, decode_link_message, unpack_read, unpack_write
from microrpc.session import HEADER_SIZE_BYTES, MessageType

_PACKET_NBYTES = 8
_LONGEST_TEXT = 40
_MOST_NAMES = 1024
_MOST_PENDING_BYTES = 65536

DAMAGED = "damaged"
"""The kind of a frame that did not arrive whole; its size is not known, and given as 0."""
NOISE = "noise"
"""The kind of bytes outside of frames; those in a row are one entry."""


@dataclass(slots=True)
class Frame:
    """One frame: when it was complete (the channel's time, in seconds), where it went, and what it says.

    The payload is empty for what was no good frame: of the kind `DAMAGED` or `NOISE`.
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


class Trace:
    """The frames of one line, both directions: all of them, or the last `keep_frames` in bounded memory."""

    def __init__(self, *, keep_frames: int | None = None) -> None:
        self.bytes_to_board = 0
        self.bytes_to_host = 0
        self._keep_frames = keep_frames
        self._pending: list[tuple[float, bool, bytes]] = []
        self._pending_bytes = 0
        self._reader = FrameReader()
        self._frames: deque[Frame] = deque(maxlen=keep_frames)
        self._log_lines: deque[tuple[float, str]] = deque(maxlen=keep_frames)
        self._count = 0

    def note(self, time_s: float, data: bytes, *, to_board: bool) -> None:
        """Take bytes that passed at `time_s`. They are decoded later, so as not to slow the line down."""
        if to_board:
            self.bytes_to_board += len(data)
        else:
            self.bytes_to_host += len(data)
        self._pending.append((time_s, to_board, data))
        self._pending_bytes += len(data)
        if self._keep_frames is not None and self._pending_bytes > _MOST_PENDING_BYTES:
            self._decode()

    @property
    def frames(self) -> list[Frame]:
        """The frames so far, or the last of them."""
        self._decode()
        return list(self._frames)

    @property
    def frame_count(self) -> int:
        """How many frames there were, those that are not kept too."""
        self._decode()
        return self._count

    @property
    def log_lines(self) -> list[tuple[float, str]]:
        """What the board logged so far, or the last of it, each line with its time in seconds."""
        self._decode()
        return list(self._log_lines)

    @property
    def unfinished(self) -> list[str]:
        """The directions, as "to the board" or "from the board", in which a frame was begun and did not end yet."""
        self._decode()
        return self._reader.unfinished

    def clear(self) -> None:
        """Forget the frames and counts so far; the names of functions stay known."""
        self._decode()
        self._frames.clear()
        self._log_lines.clear()
        self._count = self.bytes_to_board = self.bytes_to_host = 0

    def _decode(self) -> None:
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        for time_s, to_board, data in pending:
            for frame in self._reader.read(time_s, to_board, data):
                self._add(frame)

    def _add(self, frame: Frame) -> None:
        last = self._frames[-1] if self._frames else None
        if last and (last.kind, frame.kind, last.to_board) == (NOISE, NOISE, frame.to_board):
            last.size_bytes += frame.size_bytes
            return
        self._frames.append(frame)
        self._count += 1
        if frame.kind == "LOG":
            self._log_lines.append((frame.time_s, _log_text(frame.payload)))


class RecordingChannel:
    """A channel that notes in `trace` everything that passes."""

    def __init__(self, channel: Channel, trace: Trace | None = None) -> None:
        self.name = channel.name
        self.trace = trace or Trace()
        self._channel = channel

    @property
    def frames(self) -> list[Frame]:
        """See `Trace.frames`."""
        return self.trace.frames

    def now(self) -> float:
        """See `Channel.now`."""
        return self._channel.now()

    def read(self, deadline: float) -> bytes:
        """See `Channel.read`."""
        data = self._channel.read(deadline)
        if data:
            self.trace.note(self.now(), data, to_board=False)
        return data

    def write(self, data: bytes, deadline: float) -> None:
        """See `Channel.write`."""
        self.trace.note(self.now(), data, to_board=True)
        self._channel.write(data, deadline)

    def close(self) -> None:
        """Release the port."""
        self._channel.close()


class FrameReader:
    """Both directions of one line, put in words."""

    def __init__(self) -> None:
        self._decoders = {True: FrameDecoder(), False: FrameDecoder()}
        self._asked: CallFunc | Syscall | None = None
        self._names: dict[int, str] = {}

    def read(self, time_s: float, to_board: bool, data: bytes) -> list[Frame]:
        """Give what `data`, seen at `time_s`, completes; bytes outside of frames come first."""
        decoder = self._decoders[to_board]
        skipped_before = decoder.bytes_skipped
        found = decoder.feed(data)
        frames = []
        if skipped := decoder.bytes_skipped - skipped_before:
            frames.append(Frame(time_s, to_board, b"", NOISE, "outside of any frame", skipped))
        for one in found:
            if isinstance(one, Damage):
                frames.append(Frame(time_s, to_board, b"", DAMAGED, f"{one.kind.value}: {one.detail}", 0))
            else:
                frames.append(Frame(time_s, to_board, one, *self._explain(one, to_board), len(one)))
        return frames

    @property
    def unfinished(self) -> list[str]:
        """The directions in which a frame was begun and has not ended yet."""
        names = {True: "to the board", False: "from the board"}
        return [name for to_board, name in names.items() if self._decoders[to_board].in_packet]

    def _explain(self, payload: bytes, to_board: bool) -> tuple[str, str]:
        """Give the kind of a message and what it says."""
        if len(payload) < HEADER_SIZE_BYTES:
            return "?", "too short for a message"
        session_id, code = struct.unpack_from("<HB", payload)
        body = payload[HEADER_SIZE_BYTES:]
        match code:
            case MessageType.START_SESSION_INIT:
                return "INIT", f"open a session; my nonce is 0x{session_id:02x}"
            case MessageType.START_SESSION_REPLY:
                return "REPLY", f"session 0x{session_id:04x}; my nonce is 0x{session_id >> 8:02x}"
            case MessageType.TERMINATE_SESSION:
                if to_board:
                    return "TERMINATE", "any session there was is over"
                self._names.clear()
                return "TERMINATE", "I have booted"
            case MessageType.LOG:
                return "LOG", _quoted(_log_text(payload))
            case MessageType.NORMAL:
                return self._explain_packet(body[_PACKET_NBYTES:])
            case MessageType.LINK_REQUEST | MessageType.LINK_REPLY | MessageType.LINK_NAK:
                return self._explain_link(payload)
        return f"type 0x{code:02x}", f"{len(body)} bytes"

    def _explain_link(self, payload: bytes) -> tuple[str, str]:
        """Explain a message of the link, by its seq and what it carries (docs/link.md 2)."""
        message = decode_link_message(payload)
        if message is None:
            return DAMAGED, "crc32"
        if message.type is MessageType.LINK_NAK or not message.content:
            return "NAK", f"something was damaged; I wait for #{message.seq}"
        code, body = message.content[0], message.content[1:]
        if code == 0:
            kind, meaning = self._explain_packet(body)
        elif message.type is MessageType.LINK_REPLY:
            kind, meaning = (
                ("DATA", f"{len(body)} bytes") if code == ReplyKind.DATA else (_name_of(ReplyKind, code), "")
            )
        elif code == RequestKind.WRITE:
            address, data = unpack_write(body)
            kind, meaning = "WRITE", f"{len(data)} bytes to 0x{address:x}"
        elif code == RequestKind.READ:
            address, size_bytes = unpack_read(body)
            kind, meaning = "READ", f"{size_bytes} bytes at 0x{address:x}"
        else:
            kind, meaning = _name_of(RequestKind, code), ""
        return kind, f"{meaning} #{message.seq}".lstrip()

    def _explain_packet(self, body: bytes) -> tuple[str, str]:
        try:
            packet = decode_packet(body)
            match packet:
                case CallFunc(handle, args):
                    self._asked = packet
                    return "CallFunc", f"{self._name(handle)}({', '.join(map(_value, args))})"
                case Syscall(code, args):
                    self._asked = packet
                    label = code.label if isinstance(code, PacketCode) else f"code {code}"
                    return label, ", ".join(map(_value, args))
                case CopyToRemote(tensor, data):
                    self._asked = None
                    return "CopyToRemote", f"{len(data)} bytes to {_value(tensor)} +{tensor.byte_offset}"
                case CopyFromRemote(tensor, size_bytes):
                    self._asked = None
                    return "CopyFromRemote", f"{size_bytes} bytes of {_value(tensor)} +{tensor.byte_offset}"
                case CopyAck(data):
                    return "CopyAck", f"{len(data)} bytes"
                case RemoteException(message):
                    return "Exception", _quoted(message)
                case Return(values):
                    return "Return", self._explain_return(values)
        except ProtocolError as error:
            return "?", str(error)
        return type(packet).__name__, ""

    def _explain_return(self, values: tuple[Value, ...]) -> str:
        """Give what was returned; where it is a function that was looked up, note its name."""
        result: Value | ArrayResult = decode_result(values) if isinstance(self._asked, CallFunc) else values[0]
        if self._asked is not None and isinstance(result, FunctionHandle | OpaqueHandle):
            names = [arg for arg in self._asked.args if isinstance(arg, str)]
            if len(self._names) >= _MOST_NAMES:
                del self._names[next(iter(self._names))]
            self._names[int(result)] = names[0] if names else f"{self._asked_name()}()"
        return _value(result)

    def _asked_name(self) -> str:
        return self._name(self._asked.handle) if isinstance(self._asked, CallFunc) else "?"

    def _name(self, handle: int) -> str:
        return self._names.get(handle, f"0x{handle:x}")


def _name_of(kinds: type[RequestKind | ReplyKind], code: int) -> str:
    return kinds(code).name if code in list(kinds) else f"kind {code}"


def _value(value: Value | ArrayResult) -> str:
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
            return f"a new {_value(value.tensor)}"
        case Tensor():
            return f"{value.dtype}[{','.join(map(str, value.shape))}]" + (f" at 0x{value.data:x}" if value.data else "")
        case str():
            return _quoted(value)
        case bytes():
            return f"bytes:{value.hex()}" if len(value) <= _LONGEST_TEXT // 2 else f"{len(value)} bytes"
    return str(value)


def printable(text: str) -> str:
    """Give `text` with escapes for what a terminal would not show as it is."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _log_text(payload: bytes) -> str:
    return payload[HEADER_SIZE_BYTES:].decode(errors="backslashreplace")


def _quoted(text: str) -> str:
    short = text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "..."
    return '"' + short.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"') + '"'
