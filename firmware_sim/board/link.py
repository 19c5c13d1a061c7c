"""The device's side of the reliable link (docs/link.md 3).

Sans I/O: frame payloads in, the frame payload of the answer out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from microrpc.wire.link import (
    LINK_NAK,
    LINK_REPLY,
    PACKET,
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


@dataclass
class LinkDevice:
    """The device's side of one session (docs/link.md 3).

    execute: runs a request (its kind, its body, and whether a WRITE is only to be checked and not made) and gives the
    kind and body of its reply. session_id, parameters: those of the session. reply_bytes: the longest PACKET reply, in
    frame payload, that is kept for a repetition. base: the oldest number that is not done; bit i of done: whether
    base + i is. last_seq, last_reply: the last PACKET and its reply, empty where it was too long to keep. is_active:
    whether a LINK_REQUEST came. has_complained: whether a LINK_NAK was sent since the last good one.
    """

    session_id: int
    parameters: LinkParameters
    execute: Callable[[RequestKind, bytes, bool], tuple[ReplyKind, bytes]]
    reply_bytes: int
    base: int = 0
    done: int = 0
    last_seq: int | None = None
    last_reply: bytes = b""
    is_active: bool = False
    has_complained: bool = False

    def receive(self, payload: bytes) -> bytes | None:
        """Take a LINK_REQUEST of this session; give the frame payload to answer with, None for no answer."""
        message = decode_link_message(payload)
        if message is None:
            return self.on_damage()
        _, seq, content = message
        kind = REQUEST_KINDS.get(content[0]) if content else None
        if kind is None:
            return self.on_damage()
        self.is_active = True
        self.has_complained = False
        body = content[1:]
        ahead = seq_distance(seq, self.base)
        if ahead >= self.parameters.window_requests:
            return None
        is_old = ahead < 0 or bool(self.done >> ahead & 1)
        if kind is PACKET:
            return self._repeat(seq) if is_old else self._execute_packet(seq, ahead, body)
        reply = self._reply(seq, *self.execute(kind, body, is_old))
        if not is_old:
            self._mark(ahead)
        return reply

    def on_damage(self) -> bytes | None:
        """Take note of a damaged frame, or of bytes outside of one; give the LINK_NAK to send, None for none."""
        if not self.is_active or self.has_complained:
            return None
        self.has_complained = True
        return self._nak()

    def _nak(self) -> bytes:
        return encode_link_message(self.session_id, LINK_NAK, self.base)

    def _execute_packet(self, seq: int, ahead: int, body: bytes) -> bytes:
        if ahead:
            return self._nak()
        # Noted before it runs: whatever happens meanwhile, it must not run twice.
        self._mark(0)
        self.last_seq, self.last_reply = seq, b""
        reply = self._reply(seq, *self.execute(PACKET, body, False))
        if len(reply) <= self.reply_bytes:
            self.last_reply = reply
        return reply

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
