"""The device's side of the reliable link (docs/link.md 3, and of 9 and 10 what is about requests).

Sans I/O: frame payloads in, the frame payload of the answer out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from microrpc.serve.endpoint import encode_reply
from microrpc.wire.features import NONE, Feature
from microrpc.wire.link import (
    CALL,
    CANCELLED_TEXT,
    LINK_NAK,
    LINK_REPLY,
    PACKET,
    PROGRESS,
    REQUEST_KINDS,
    SEQ_MODULUS,
    LinkParameters,
    ReplyKind,
    RequestKind,
    decode_link_message,
    encode_link_message,
    encode_with_kind,
    seq_distance,
)
from microrpc.wire.names import PACKET_NBYTES
from microrpc.wire.packets import RemoteException, Reply
from microrpc.wire.session import MessageType

Outcome: TypeAlias = tuple[ReplyKind, bytes]
"""The kind and the body of a reply."""


@dataclass
class LinkDevice:
    """The device's side of one session (docs/link.md 3).

    execute: runs a request (its kind, its body, and whether a WRITE is only to be checked and not made) and gives the
    kind and body of its reply; None where that comes later, by `finish`. session_id, parameters: those of the session.
    reply_bytes: the longest PACKET reply, in frame payload, that is kept for a repetition. known: what the device knows
    of docs/link.md 7. base: the oldest number that is not done; bit i of done: whether base + i is. last_seq,
    last_reply: the last PACKET or CALL and its reply, empty where it was too long to keep. is_active: whether a
    LINK_REQUEST came. has_complained: whether a LINK_NAK was sent since the last good message. is_shut_down: whether
    it serves no more packets.
    """

    session_id: int
    parameters: LinkParameters
    execute: Callable[[RequestKind, bytes, bool], Outcome | None]
    reply_bytes: int
    known: Feature = NONE
    base: int = 0
    done: int = 0
    last_seq: int | None = None
    last_reply: bytes = b""
    is_active: bool = False
    has_complained: bool = False
    is_shut_down: bool = False

    def receive(self, payload: bytes) -> bytes | None:
        """Take a LINK_REQUEST, CANCEL or KEEP_ALIVE of this session; give the frame payload to answer with, or None."""
        message = decode_link_message(payload)
        if message is None:
            return self.on_damage()
        message_type, seq, content = message
        if message_type is not MessageType.LINK_REQUEST:
            if content:
                return self.on_damage()
            self.has_complained = False
            return self._serve_packet(seq, None) if message_type is MessageType.LINK_CANCEL else payload
        kind = REQUEST_KINDS.get(content[0]) if content else None
        if kind is None or (kind is CALL and not self.knows_calls):
            return self.on_damage()
        self.is_active = True
        self.has_complained = False
        body = content[1:]
        if kind is PACKET or kind is CALL:
            return self._serve_packet(seq, kind, body)
        ahead = seq_distance(seq, self.base)
        if ahead >= self.parameters.window_requests:
            return None
        is_old = self._is_old(ahead)
        outcome = self.execute(kind, body, is_old)
        assert outcome is not None, "a copy is done at once"
        if not is_old:
            self._mark(ahead)
        return self._reply(seq, *outcome)

    @property
    def knows_calls(self) -> bool:
        """Whether it takes a CALL."""
        return bool(self.known & (Feature.PROGRESS | Feature.CANCEL))

    def finish(self, outcome: Outcome) -> bytes:
        """Give the frame payload that answers the last PACKET or CALL, and keep it to be repeated."""
        assert self.last_seq is not None
        reply = self._reply(self.last_seq, *outcome)
        self.last_reply = reply if len(reply) <= self.reply_bytes else b""
        return reply

    def progress(self, done: int, total: int) -> bytes:
        """Give the frame payload that tells how far the last CALL has come."""
        assert self.last_seq is not None
        return encode_link_message(
            self.session_id, MessageType.LINK_PROGRESS, self.last_seq, PROGRESS.pack(done, total)
        )

    def is_cancel_of_last(self, payload: bytes) -> bool:
        """Whether this is a good CANCEL of the last PACKET or CALL."""
        seq = self.last_seq
        return seq is not None and payload == encode_link_message(self.session_id, MessageType.LINK_CANCEL, seq)

    def on_damage(self) -> bytes | None:
        """Take note of a damaged frame, or of bytes outside of one; give the LINK_NAK to send, None for none."""
        if not self.is_active or self.has_complained:
            return None
        self.has_complained = True
        return self._nak()

    def _nak(self) -> bytes:
        return encode_link_message(self.session_id, LINK_NAK, self.base)

    def _is_old(self, ahead: int) -> bool:
        return ahead < 0 or bool(self.done >> ahead & 1)

    def _serve_packet(self, seq: int, kind: RequestKind | None, body: bytes = b"") -> bytes | None:
        """Take a PACKET or CALL, or, where `kind` is None, the CANCEL that has taken its place."""
        ahead = seq_distance(seq, self.base)
        if ahead >= self.parameters.window_requests or self.is_shut_down:
            return None
        return self._repeat(seq) if self._is_old(ahead) else self._execute_packet(seq, ahead, body, kind)

    def _execute_packet(self, seq: int, ahead: int, body: bytes, kind: RequestKind | None = PACKET) -> bytes | None:
        if ahead:
            return self._nak()
        # Noted before it runs: whatever happens meanwhile, it must not run twice.
        self._mark(0)
        self.last_seq, self.last_reply = seq, b""
        outcome = _CANCELLED if kind is None else self.execute(kind, body, False)
        return None if outcome is None else self.finish(outcome)

    def _repeat(self, seq: int) -> bytes | None:
        if seq != self.last_seq:
            return None
        return self.last_reply or self._reply(seq, ReplyKind.FORGOTTEN, b"")

    def _reply(self, seq: int, kind: ReplyKind, body: bytes) -> bytes:
        return encode_with_kind(self.session_id, LINK_REPLY, seq, kind, body)

    def _mark(self, ahead: int) -> None:
        self.done |= 1 << ahead
        while self.done & 1:
            self.done >>= 1
            self.base = (self.base + 1) % SEQ_MODULUS


def packet_outcome(reply: Reply) -> Outcome:
    """Give the outcome of a PACKET or CALL that was answered with `reply`."""
    return ReplyKind.PACKET, encode_reply(reply)[PACKET_NBYTES:]


_CANCELLED = packet_outcome(RemoteException(CANCELLED_TEXT))
