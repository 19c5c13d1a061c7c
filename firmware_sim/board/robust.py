"""The receive side of a board whose firmware does everything right (docs/device.md, docs/link.md).

Damaged frames are dropped, whatever arrives is answered or dropped, and nothing but a Shutdown makes it deaf, until
the next session.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from dataclasses import dataclass

from firmware_sim.board.events import EventSource
from firmware_sim.board.executing import MALFORMED, answer, copy
from firmware_sim.board.host_watch import HostWatch
from firmware_sim.board.link import LinkDevice, Outcome, packet_outcome
from firmware_sim.board.long_call import LongCall
from firmware_sim.board.parts import Stats, split_frames
from firmware_sim.board.runtime import RuntimeSession
from microrpc.serve.endpoint import encode_reply
from microrpc.wire.events import decode_event_ack
from microrpc.wire.features import NONE, Feature
from microrpc.wire.frames import Damage, DamageKind, FrameDecoder, Garbage, Item
from microrpc.wire.link import LinkParameters, RequestKind, decode_link_message
from microrpc.wire.names import PACKET_NBYTES
from microrpc.wire.packets import Reply
from microrpc.wire.session import (
    HEADER_SIZE_BYTES,
    Established,
    LinkMessage,
    Message,
    MessageType,
    Session,
    SessionState,
    Terminated,
    encode_log,
    encode_message,
)

_NBYTES = struct.Struct("<Q")
_SIDE_BUFFER_BYTES = 16  # what of a frame is kept while a function runs (docs/link.md 9)


class RobustPort:
    """Frames, session and packets of a board.

    A frame may have a payload of `packet_size_bytes`; a larger one is refused with a line in the log. With `link` it
    serves the link extension too, and keeps the last reply to be repeated if it has at most `reply_bytes`. extras: what
    it knows of docs/link.md 7, None where it does not even tell that; `events` are its events, and `watch` learns of
    its host.

    A call of a long function comes back to who gives it bytes at each yield, where `go_on` is called next; what is
    received meanwhile is what the function's port had to be read for.
    """

    is_dead = False
    """It never is."""

    def __init__(
        self,
        serving: RuntimeSession,
        send: Callable[[bytes], None],
        stats: Stats,
        *,
        packet_size_bytes: int,
        events: EventSource,
        watch: HostWatch,
        link: LinkParameters | None = None,
        reply_bytes: int | None = None,
        extras: Feature | None = None,
    ) -> None:
        self._serving = serving
        self._send = send
        self._stats = stats
        self._events = events
        self._watch = watch
        self._decoder = FrameDecoder(packet_size_bytes)
        self._is_spoiled = False  # the frame that is arriving was too long for what kept its beginning
        self._session = Session(0)
        self._is_shut_down = False
        self._link_parameters = link
        self._known = extras or NONE
        self._link_types = _types_of(extras) if link is not None else frozenset()
        self._reply_bytes = packet_size_bytes if reply_bytes is None else reply_bytes
        self._link: LinkDevice | None = None
        self._under_way: _UnderWay | None = None
        self._waiting = b""  # came while a function was under way that does not hear it

    def boot(self, seed: int) -> None:
        """Start from nothing: no session, nonces drawn from `seed`; say TERMINATE."""
        self._decoder.reset()
        self._session = Session(seed)
        self._link = None
        self._under_way = None
        self._waiting = b""
        self._is_spoiled = False
        self._watch.boot()
        self._session.boot()
        self._send_outgoing()

    def receive(self, data: bytes) -> None:
        """Take bytes from the line."""
        for piece in split_frames(data):
            self._receive(piece)

    def _receive(self, piece: bytes) -> None:
        """Take bytes that hold the end of one frame at most."""
        if self._under_way is not None and not self.listens:
            self._waiting += piece
            return
        for item in self._decoder.feed(piece):
            if self._under_way is not None:
                self._overhear(self._under_way, item)
            elif isinstance(item, Damage):
                self._is_spoiled = False
                self._refuse(item)
            elif isinstance(item, Garbage):
                self._complain()
            elif self._is_spoiled:
                self._is_spoiled = False
                self._stats.frames_damaged += 1
                self._complain()
            else:
                self._stats.frames_received += 1
                self._take(item)

    def _refuse(self, damage: Damage) -> None:
        self._stats.frames_damaged += 1
        self._complain()
        if damage.kind is DamageKind.TOO_LONG:
            self._send(encode_log(f"a frame was refused: {damage.detail}"))

    def _complain(self) -> None:
        nak = self._link.on_damage() if self._link is not None else None
        if nak is not None:
            self._send(nak)

    def _take(self, payload: bytes) -> None:
        self._serving.received_bytes = len(payload)
        event = self._session.receive(payload)
        if isinstance(event, Message):
            self._serve(event.body)
        elif isinstance(event, LinkMessage):
            self._serve_link(event.payload)
        elif isinstance(event, Established):
            self._is_shut_down = False
            if self._link_parameters is not None:
                self._link = LinkDevice(
                    event.session_id, self._link_parameters, self._execute, self._reply_bytes, self._known
                )
            self._events.begin_session(event.session_id)
            self._watch.begin()
            self._send_outgoing()
        elif isinstance(event, Terminated):
            self._link = None
            self._events.begin_session(0)
            self._watch.end()
        else:
            self._stats.messages_dropped += 1
            if self._session.state is SessionState.NO_SESSION and _type_of(payload) in self._link_types:
                self._send(encode_message(0, MessageType.TERMINATE_SESSION))

    # --- packets --------------------------------------------------------------------------------

    def _serve(self, body: bytes, at: int = 0) -> None:
        """Answer the packets of a NORMAL message, from `at` on."""
        session = self._session
        if self._is_shut_down:
            self._stats.messages_dropped += 1
        # What was called may reset the board, and then there is a new session, which is not this one.
        while at < len(body) and not self._is_shut_down and self._session is session:
            start = at + PACKET_NBYTES
            at = start + _NBYTES.unpack_from(body, at)[0] if start <= len(body) else len(body) + 1
            if at > len(body):
                self._reply(MALFORMED)
            elif at > start:
                reply = answer(self._serving, body[start:at])
                if isinstance(reply, LongCall):
                    self._begin(_UnderWay(reply, functools.partial(self._serve_on, body, at)))
                    return
                self._is_shut_down = reply is None
                if self._link is not None:
                    self._link.is_shut_down = self._is_shut_down
                if reply is not None and self._session is session:
                    self._reply(reply)
        if self._session is session:
            self._watch.hear()

    def _serve_on(self, body: bytes, at: int, reply: Reply) -> None:
        """Go on in a NORMAL message behind a long function, of which this is the reply."""
        self._reply(reply)
        self._serve(body, at)

    def _reply(self, reply: Reply) -> None:
        self._send(self._session.wrap(encode_reply(reply)))

    # --- the link (docs/link.md 3) --------------------------------------------------------------

    def _serve_link(self, payload: bytes) -> None:
        link = self._link
        if link is None or _type_of(payload) not in self._link_types:
            self._stats.messages_dropped += 1
            return
        if _type_of(payload) == MessageType.LINK_EVENT_ACK:
            self._take_ack(link, payload)
            return
        answer = link.receive(payload)
        if self._link is not link:  # what was called has reset the board
            return
        if answer is not None:
            self._send(answer)
        if decode_link_message(payload) is None:
            return
        self._stats.messages_dropped += answer is None and link.is_shut_down
        if self._under_way is None:
            self._watch.hear()

    def _take_ack(self, link: LinkDevice, payload: bytes) -> None:
        ack = decode_event_ack(payload)
        if ack is None:
            self._complain()
            return
        link.has_complained = False
        self._events.on_ack(ack)
        self._watch.hear()

    def _execute(self, kind: RequestKind, body: bytes, check_only: bool) -> Outcome | None:
        """Execute a request of the link; for a WRITE with `check_only` tell what it would answer."""
        if kind is not RequestKind.PACKET and kind is not RequestKind.CALL:
            return copy(self._serving, kind, body, check_only=check_only)
        reply = answer(self._serving, body) or MALFORMED
        if not isinstance(reply, LongCall):
            return packet_outcome(reply)
        call_link = self._link if kind is RequestKind.CALL else None
        self._begin(_UnderWay(reply, self._finish_packet, call_link))
        return None

    def _finish_packet(self, reply: Reply) -> None:
        """Answer the PACKET or CALL that a long function has ended."""
        if self._link is not None:
            self._send(self._link.finish(packet_outcome(reply)))
            self._watch.hear()

    def _send_outgoing(self) -> None:
        for payload in self._session.outgoing:
            self._send(payload)
        self._session.outgoing.clear()

    # --- long functions (docs/link.md 9) ---------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """See `Port`."""
        return self._under_way is not None

    @property
    def listens(self) -> bool:
        """See `Port`."""
        return self._under_way is None or Feature.CANCEL in self._known

    def go_on(self) -> None:
        """See `Port`."""
        under_way = self._under_way
        assert under_way is not None, "there is none"
        reply = under_way.running.go_on(is_cancelled=under_way.is_cancelled)
        if self._under_way is not under_way:  # it has reset the board
            return
        if reply is None:
            self._tell_progress(under_way)
            return
        self._under_way = None
        under_way.finish(reply)
        if self._under_way is not None:  # the next packet of the same message has begun another one
            self._under_way.news, self._under_way.is_cancelled = under_way.news, under_way.news is not None
            return
        self._is_spoiled = self._decoder.payload_bytes > _SIDE_BUFFER_BYTES
        waiting, self._waiting = self._waiting, b""
        if under_way.news is not None:
            self._take(under_way.news)
        self.receive(waiting)

    def _begin(self, under_way: _UnderWay) -> None:
        self._under_way = under_way
        self._tell_progress(under_way)

    def _tell_progress(self, under_way: _UnderWay) -> None:
        progress, link = under_way.running.progress, under_way.call_link
        if progress is not None and link is not None and Feature.PROGRESS in self._known:
            self._send(link.progress(*progress))

    def _overhear(self, under_way: _UnderWay, item: Item) -> None:
        """Look whether something concerns the function that is under way; all else is dropped."""
        if not isinstance(item, bytes) or len(item) > _SIDE_BUFFER_BYTES:
            return
        self._stats.frames_received += 1
        if _ends_session(item, self._session.session_id):
            under_way.news = item
            under_way.is_cancelled = True
        elif under_way.call_link is not None and under_way.call_link.is_cancel_of_last(item):
            under_way.is_cancelled = True
        else:
            self._stats.messages_dropped += 1


@dataclass
class _UnderWay:
    """A long function, which stands at one of its yields.

    finish: takes its reply. call_link: where it was called by a CALL. news: the last INIT or TERMINATE that came.
    """

    running: LongCall
    finish: Callable[[Reply], None]
    call_link: LinkDevice | None = None
    is_cancelled: bool = False
    news: bytes | None = None


def _types_of(extras: Feature | None) -> frozenset[int]:
    """Give the messages of the link that a device takes."""
    types = {MessageType.LINK_REQUEST}
    if extras is not None:
        types.add(MessageType.LINK_KEEP_ALIVE)
        if Feature.EVENTS in extras:
            types.add(MessageType.LINK_EVENT_ACK)
        if extras & (Feature.PROGRESS | Feature.CANCEL):
            types.add(MessageType.LINK_CANCEL)
    return frozenset(map(int, types))


def _type_of(payload: bytes) -> int:
    return payload[HEADER_SIZE_BYTES - 1] if len(payload) >= HEADER_SIZE_BYTES else -1


def _ends_session(payload: bytes, session_id: int) -> bool:
    """Whether this is an INIT or a TERMINATE that the session must heed."""
    if _type_of(payload) == MessageType.START_SESSION_INIT:
        return payload[1:] == b"\0\0\1" and payload[0] > 0
    ends = (encode_message(ended, MessageType.TERMINATE_SESSION) for ended in (0, session_id))
    return payload in ends
