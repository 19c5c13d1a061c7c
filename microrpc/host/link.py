"""The host's side of the reliable link (docs/link.md 4): requests out, replies in, repetitions of what was lost.

Sans I/O: frame payloads and times in, frames out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from microrpc.host.noise import Noise
from microrpc.host.roundtrip import RoundTrip
from microrpc.wire.frames import FRAME_OVERHEAD_BYTES, encode_frame
from microrpc.wire.link import (
    ADDRESS,
    DATA_OVERHEAD_BYTES,
    LINK_NAK,
    LINK_REPLY,
    LINK_REQUEST,
    PACKET,
    RANGE,
    READ,
    REPLY_KINDS,
    SEQ_MODULUS,
    WRITE,
    WRITE_OVERHEAD_BYTES,
    Buffer,
    LinkParameters,
    ReplyKind,
    RequestKind,
    decode_link_message,
    encode_with_kind,
    seq_distance,
)


class LinkReply(NamedTuple):
    """The answer to the request `seq`; of a copy, how many bytes of it are done, from its first one on."""

    seq: int
    kind: ReplyKind
    body: bytes
    size_bytes: int


@dataclass(slots=True)
class LinkRequest:
    """A request with its seq, encoded: `frame` is sent, again and again, until it is answered.

    Of a copy, `address` and `data` or `size_bytes` are kept, because it may be sent again shorter.
    """

    kind: RequestKind
    seq: int
    frame: bytes
    address: int = 0
    data: memoryview | None = None
    size_bytes: int = 0
    wire_bytes: int = 0  # what it and its reply take on the line
    expected_at: float = 0.0
    first_expected_at: float = 0.0
    was_late: bool = False
    first_order: int = 0
    order: int = 0
    transmissions: int = 0

    @property
    def reply_bytes(self) -> int:
        """About how long its reply is on the wire."""
        return FRAME_OVERHEAD_BYTES + DATA_OVERHEAD_BYTES + (self.size_bytes if self.kind is READ else 0)


class LinkHost:
    """The host's side of one session (docs/link.md 4).

    byte_s: how long a byte takes on the line, in seconds, 0 where nobody knows. `frames` are to be sent now, in order;
    whoever sends them takes them out. noise: what was learned of the line in earlier sessions.
    """

    def __init__(
        self, session_id: int, parameters: LinkParameters, *, byte_s: float = 0.0, noise: Noise | None = None
    ) -> None:
        self.parameters = parameters
        self.frames: list[bytes] = []
        self.retransmissions = 0
        self.deadline = math.inf
        """When `on_time` wants to be called; infinity where nothing is unanswered."""
        self.noise = noise or Noise()
        self._session_id = session_id
        self._byte_s = byte_s
        self._next_seq = 0
        self._order = 0
        self._unanswered: dict[int, LinkRequest] = {}
        self._packets = RoundTrip()  # which take as long as the functions that they call
        self._copies = RoundTrip()
        self._is_damaged = False
        self._sent_by = -math.inf  # when the line will have carried all that was sent,
        self._answered_by = -math.inf  # and the replies to it

    @property
    def unanswered(self) -> int:
        """How many requests are unanswered."""
        return len(self._unanswered)

    @property
    def block_bytes(self) -> int:
        """How many bytes a copy's block should have now (docs/link.md 4)."""
        return self.noise.best_block_bytes(self.parameters.packet_bytes - WRITE_OVERHEAD_BYTES)

    # --- sending -------------------------------------------------------------------------------

    def send_packet(self, packet: bytes, now: float) -> int:
        """Send an RPC packet, from its code on, when nothing is unanswered; give its seq."""
        frame = self._encode(self._next_seq, PACKET, packet)
        request = LinkRequest(PACKET, self._next_seq, frame)
        self._send(request, now)
        return request.seq

    def prepare_write(self, address: int, data: memoryview) -> LinkRequest:
        """Encode a WRITE, to be the next request that is sent."""
        request = LinkRequest(WRITE, self._next_seq, b"", address, data, len(data))
        request.frame = self._encode_copy(request)
        return request

    def prepare_read(self, address: int, size_bytes: int) -> LinkRequest:
        """Encode a READ, to be the next request that is sent."""
        request = LinkRequest(READ, self._next_seq, b"", address, None, size_bytes)
        request.frame = self._encode_copy(request)
        return request

    def try_send(self, request: LinkRequest, now: float) -> bool:
        """Send what was prepared, if the window has room for it; tell whether it had."""
        if not self._has_room(len(request.frame)):
            return False
        self._send(request, now)
        return True

    def _encode(self, seq: int, kind: RequestKind, *body: Buffer) -> bytes:
        return encode_frame(encode_with_kind(self._session_id, LINK_REQUEST, seq, kind, *body))

    def _encode_copy(self, request: LinkRequest) -> bytes:
        if request.data is not None:
            data = request.data[: request.size_bytes]
            return self._encode(request.seq, request.kind, ADDRESS.pack(request.address), data)
        return self._encode(request.seq, request.kind, RANGE.pack(request.address, request.size_bytes))

    def _has_room(self, wire_bytes: int) -> bool:
        unanswered = self._unanswered
        if not unanswered:
            return True
        lowest = next(iter(unanswered))  # seqs go up in the order of insertion
        if seq_distance(self._next_seq, lowest) >= self.parameters.window_requests:
            return False
        sizes = [len(request.frame) for request in unanswered.values()] + [wire_bytes]
        return sum(sizes) - min(sizes) <= self.parameters.window_bytes

    def _send(self, request: LinkRequest, now: float) -> None:
        self._next_seq = (request.seq + 1) % SEQ_MODULUS
        self._unanswered[request.seq] = request
        self._transmit(request, now)
        if len(self._unanswered) == 1:
            self._await(request, now)

    def _transmit(self, request: LinkRequest, now: float) -> None:
        self._order += 1
        request_bytes, reply_bytes = len(request.frame), request.reply_bytes
        request.wire_bytes = request_bytes + reply_bytes
        self._sent_by = max(self._sent_by, now) + request_bytes * self._byte_s
        self._answered_by = max(self._answered_by, self._sent_by) + reply_bytes * self._byte_s
        request.order, request.expected_at = self._order, self._answered_by
        if not request.transmissions:
            request.first_order, request.first_expected_at = self._order, self._answered_by
        request.transmissions += 1
        self.frames.append(request.frame)

    def _await(self, oldest: LinkRequest, now: float) -> None:
        """Start the timer for the one that was sent longest ago; whatever arrives starts it anew."""
        # Where the line carried more than was expected, it may be on its way only from now on.
        latest = max(now + max(len(oldest.frame), oldest.reply_bytes) * self._byte_s, oldest.expected_at)
        # Of a function that takes minutes not every second: the repetitions lie in the device's ring.
        waited_s = now - oldest.first_expected_at
        self.deadline = latest + max(self._round_trip(oldest).patience_s, waited_s / 4)

    def _oldest(self) -> LinkRequest:
        return min(self._unanswered.values(), key=lambda request: request.order)

    def _retransmit(self, request: LinkRequest, now: float) -> None:
        self.retransmissions += 1
        if request.kind is not PACKET and request.size_bytes > 2 * self.block_bytes:
            request.size_bytes = self.block_bytes
            request.frame = self._encode_copy(request)
        self._transmit(request, now)

    # --- what comes back, and what does not ------------------------------------------------------

    def receive(self, payload: bytes, now: float) -> LinkReply | None:
        """Take a LINK_REPLY or LINK_NAK of this session; give the reply to a request that was unanswered."""
        message = decode_link_message(payload)
        if message is None:
            self.on_damage(now)
            return None
        self._is_damaged = False
        if message.type is LINK_NAK:
            self._repeat_oldest(now)
            return None
        request = self._unanswered.get(message.seq)
        kind = REPLY_KINDS.get(message.content[:1])
        if request is None or kind is None or message.type is not LINK_REPLY:
            return None
        del self._unanswered[message.seq]
        self.noise.note_success(request.wire_bytes)
        if request.transmissions == 1 or request.was_late:  # else it was lost, and this is the time of another
            round_trip = self._packets if request.kind is PACKET else self._copies
            round_trip.measure(max(now - request.first_expected_at, 0.0))
        if self._unanswered:
            # The line keeps the order: what was sent before this request and is unanswered is lost.
            # Where it was sent more than once, it may be the first one that was answered.
            for lost in [other for other in self._unanswered.values() if other.order < request.first_order]:
                self._repeat_lost(lost, now)
            self._await(self._oldest(), now)
        else:
            self._sent_by = self._answered_by = -math.inf
            self.deadline = math.inf
        body = message.content[1:]
        return LinkReply(message.seq, kind, body, len(body) if kind is ReplyKind.DATA else request.size_bytes)

    def on_damage(self, now: float) -> None:
        """Take note of a damaged frame, or of bytes outside of one, from the device: it was a reply, most likely.

        Until a good message comes, what follows is taken for the rest of it.
        """
        if self._unanswered and not self._is_damaged:
            self._is_damaged = True
            self._repeat_oldest(now)

    def on_time(self, now: float) -> None:
        """Send the oldest request again, if nothing came for too long. That need not be for damage: it may be slow."""
        if self.deadline <= now:
            oldest = self._oldest()
            self._round_trip(oldest).back_off()
            oldest.was_late = True
            self._retransmit(oldest, now)
            self._await(self._oldest(), now)

    def _repeat_oldest(self, now: float) -> None:
        if self._unanswered:
            self._repeat_lost(self._oldest(), now)
            self._await(self._oldest(), now)

    def _repeat_lost(self, request: LinkRequest, now: float) -> None:
        if any(frame is request.frame for frame in self.frames):
            return  # it was not lost: it still waits to be sent
        self.noise.note_loss(request.wire_bytes)
        self._retransmit(request, now)

    def _round_trip(self, request: LinkRequest) -> RoundTrip:
        is_copy = request.kind is not PACKET and self._copies.is_measured
        return self._copies if is_copy else self._packets
