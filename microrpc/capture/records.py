"""What crossed a line, frame by frame, each seen with those before it: requests and replies, names, repetitions.

    reader = RecordReader()
    for packet in read_packets(stream):
        for record in reader.read(packet.number, packet.time_ns, packet.to_board, packet.data):
            print(record.message.kind, fields_of(record))

`microrpc.capture.fields` has the rules, and the names and values of the fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from microrpc.capture.messages import DAMAGED, Message, read_message
from microrpc.errors import ProtocolError
from microrpc.wire.datatypes import ArrayResult, FunctionHandle, OpaqueHandle, Value
from microrpc.wire.frames import FrameDecoder, Garbage
from microrpc.wire.link import LINK_REPLY, LINK_REQUEST
from microrpc.wire.names import FEATURES_FUNCTION, LINK_FUNCTION
from microrpc.wire.packets import (
    CallFunc,
    CopyAck,
    PacketCode,
    RemoteException,
    Return,
    Shutdown,
    Syscall,
    decode_result,
)
from microrpc.wire.session import MessageType
from microrpc.wire.text import is_text

NOISE = "noise"
"""The kind of bytes outside of frames that are no text."""
TEXT = "text"
"""The kind of those that are, as firmware prints it; each line is one record."""
_MOST_NAMES = 1024
_MOST_SEQS = 64
_REPLIES = (Return, RemoteException, CopyAck)
_SPECIAL = (LINK_FUNCTION, FEATURES_FUNCTION)  # whose handles are no functions


class Place(NamedTuple):
    """Where a record is: the `number` of its packet, and the time of that."""

    number: int
    time_ns: int


@dataclass(eq=False)
class Record:
    """A frame, a damaged one, or a line of what is outside of frames.

    number: of the packet of the capture in which it was complete; time_ns: when;
    to_board: which way it went. message: what it is. payload: of a good frame, or the bytes
    outside of one; empty for a damaged one. detail: of damage, for a person.

    request: of a reply, the record of what it answers. is_answer: it is the first reply to that. reply: of a request,
    where that is, once it came. is_request: it wants an answer, and was not on the line before. is_retransmission: the
    same seq was on the line before. function: the name of what is called or looked up, or "" where the look-up was not
    seen; of a reply, that of its request.
    """

    number: int
    time_ns: int
    to_board: bool
    payload: bytes
    message: Message
    detail: str = ""
    function: str = ""
    request: Record | None = field(default=None, repr=False)
    reply: Place | None = None  # no record: two that hold each other stay until the garbage collector finds them
    is_answer: bool = False
    is_request: bool = False
    is_retransmission: bool = False

    @cached_property
    def result(self) -> tuple[Value | ArrayResult, ...]:
        """What a Return gives its caller, as the one item; none where its request was not seen, or that cannot be."""
        if not isinstance(self.message.content, Return) or self.request is None:
            return ()
        values = self.message.content.values
        if isinstance(self.request.message.content, CallFunc):
            try:
                return (decode_result(values),)
            except ProtocolError:
                return ()
        return values if len(values) == 1 else ()


class RecordReader:
    """Both directions of one line. It never raises, whatever crossed it, and its memory is bounded."""

    def __init__(self) -> None:
        self._decoders = {True: FrameDecoder(), False: FrameDecoder()}
        self._matching = _Matching()

    def read(self, number: int, time_ns: int, to_board: bool, data: bytes) -> list[Record]:
        """Give what `data`, which crossed the line at `time_ns` as the packet `number`, completes, in its order."""
        records = []
        for one in self._decoders[to_board].feed(data):
            if isinstance(one, bytes):
                record = Record(number, time_ns, to_board, one, read_message(one))
                self._matching.note(record)
                records.append(record)
            elif isinstance(one, Garbage):
                for line in one.data.splitlines(keepends=True):
                    message = Message(TEXT if is_text(line) else NOISE)
                    records.append(Record(number, time_ns, to_board, line, message))
            else:
                message = Message(DAMAGED, damage=one.kind.value)
                records.append(Record(number, time_ns, to_board, b"", message, one.detail))
        return records

    @property
    def unfinished(self) -> list[str]:
        """The directions in which a frame was begun and has not ended yet."""
        names = {True: "to the board", False: "from the board"}
        return [name for to_board, name in names.items() if self._decoders[to_board].in_packet]


class _Matching:
    """Finds the request of each reply, and learns names."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._asked: Record | None = None  # the request of the stock protocol that is unanswered
        self._session: int | None = None  # that of the seqs
        self._by_seq: dict[int, Record] = {}

    def note(self, record: Record) -> None:
        message = record.message
        if message.message_type == MessageType.NORMAL:
            self._note_normal(record)
        elif message.seq is not None and message.message_type == (LINK_REQUEST if record.to_board else LINK_REPLY):
            self._note_link(record, message.seq)
        elif message.kind in ("REPLY", "TERMINATE") and not record.to_board and not message.problem:
            self._asked = None
            self._by_seq.clear()
            if message.kind == "TERMINATE" and not message.session_id:  # it has booted
                self._names.clear()

    def _note_normal(self, record: Record) -> None:
        content = record.message.content
        if record.to_board:
            if content is not None and not isinstance(content, _REPLIES):
                record.function = self._function_of(record)
                record.is_request = not isinstance(content, Shutdown)
                self._asked = record if record.is_request else None
        elif isinstance(content, _REPLIES):
            asked, self._asked = self._asked, None
            if asked is not None and asked.message.session_id == record.message.session_id:
                self._answer(asked, record)

    def _note_link(self, record: Record, seq: int) -> None:
        message = record.message
        if message.session_id != self._session:
            self._session = message.session_id
            self._by_seq.clear()
        asked = self._by_seq.get(seq)
        if not record.to_board:
            if asked is not None:
                record.is_retransmission = asked.reply is not None
                self._answer(asked, record)
            return
        record.is_retransmission = asked is not None
        record.is_request = asked is None
        if asked is None:
            record.function = self._function_of(record)
            if len(self._by_seq) >= _MOST_SEQS:
                del self._by_seq[next(iter(self._by_seq))]
            self._by_seq[seq] = record
        else:
            record.function = asked.function
            record.reply = asked.reply

    def _answer(self, asked: Record, record: Record) -> None:
        record.request = asked
        record.function = asked.function
        if asked.reply is None:
            asked.reply = Place(record.number, record.time_ns)
            record.is_answer = True
        self._learn(asked, record)

    def _function_of(self, record: Record) -> str:
        content = record.message.content
        if isinstance(content, CallFunc):
            return self._names.get(content.handle, "")
        if isinstance(content, Syscall) and content.code == PacketCode.GET_GLOBAL_FUNC:
            return next((arg for arg in content.args if isinstance(arg, str) and arg), "")
        return ""

    def _learn(self, asked: Record, record: Record) -> None:
        """Note the name of a function that was looked up, or given by another one."""
        result = record.result[0] if record.result else None
        request = asked.message.content
        if not isinstance(result, FunctionHandle | OpaqueHandle) or not result:
            return
        if isinstance(request, CallFunc):
            name = next((arg for arg in request.args if isinstance(arg, str) and arg), "")
            name = name or f"{asked.function or f'0x{request.handle:x}'}()"
        elif isinstance(request, Syscall) and request.code == PacketCode.GET_GLOBAL_FUNC:
            name = asked.function
            if not name or name in _SPECIAL:
                return
        else:
            return
        if int(result) not in self._names and len(self._names) >= _MOST_NAMES:
            del self._names[next(iter(self._names))]
        self._names[int(result)] = name
