"""The host's side of the reliable link (docs/link.md 4): requests out, replies in, repetitions of what was lost.

Sans I/O: frame payloads and times in, frames out.
"""

from __future__ import annotations

import math

from microrpc.host.blocks import Budget, Noise
from microrpc.host.linkrequest import REPLY_BYTES, LinkReply, LinkRequest
from microrpc.host.notices import MOST_NOTICE_BYTES, Notices
from microrpc.host.roundtrip import RoundTrip
from microrpc.wire.frames import FRAME_OVERHEAD_BYTES, encode_frame
from microrpc.wire.link import (
    ADDRESS,
    CALL,
    LINK_NAK,
    LINK_REPLY,
    LINK_REQUEST,
    PACKET,
    PROGRESS,
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
    encode_link_message,
    encode_with_kind,
    seq_distance,
)
from microrpc.wire.session import MessageType

_MOST_REPLIES_BYTES = 4096  # of unanswered READs beside events: an EVENT_ACK waits in the device's ring behind them
_BYTES_APART = 4  # a pause that long, and the patience, is none in a frame that is arriving
_REPEATS_BESIDE = 4  # of a PACKET that are sent while it is executed: the ring has room for these beside blocks
_LEAST_BESIDE_BYTES = 32
_CANCEL_PATIENCE_S = 0.15
_MOST_REPEATS = 4  # that a deadline allows for: a line that damages all there is must not hold anybody up for ever


class LinkHost:
    """The host's side of one session (docs/link.md 4).

    session_id: the session's. parameters: what the board told of the link. byte_s: how long a byte takes on the line,
    in seconds, 0 where nobody knows; sent_by, answered_by: when the line will have carried all that was sent, and the
    answers to it. takes_turns: one request at a time, whatever the window, because the line carries one direction at a
    time. `frames` are to be sent now, in order; whoever sends them takes them out, as whoever waits for them does the
    `replies`, and the `progress` of the CALL under way, as (done, total), in order. notices: what is said besides
    requests. noise: what was learned of the line in earlier sessions. retransmissions: how often a request was sent
    again. repeats, repeats_s: how often because it was lost, since they were set to 0, and what the line takes for
    that, in seconds; no more than a deadline allows for. deadline: when `on_time` wants to be called; infinity where
    nothing is unanswered. silence_s: how long a device may be silent that tells of the progress of a CALL.
    """

    def __init__(
        self,
        session_id: int,
        parameters: LinkParameters,
        *,
        byte_s: float = 0.0,
        noise: Noise | None = None,
        takes_turns: bool = False,
        notices: Notices | None = None,
    ) -> None:
        self.session_id = session_id
        self.parameters = parameters
        self.notices = notices or Notices(session_id)
        self.progress: list[tuple[int, int]] = []
        self.frames: list[bytes] = []
        self.replies: list[LinkReply] = []
        self.retransmissions = self.repeats = 0
        self.repeats_s = 0.0
        self.deadline = math.inf
        self.sent_by = self.answered_by = -math.inf
        self.noise = noise or Noise()
        self._byte_s = byte_s
        self._budget = Budget(0, 1) if takes_turns else Budget(parameters.window_bytes, parameters.window_requests)
        self._next_seq = 0
        self._order = 0
        self._unanswered: dict[int, LinkRequest] = {}
        self._packets = RoundTrip()  # which take as long as the functions that they call
        self._copies = RoundTrip()
        self._is_damaged = False
        self.silence_s = self._limit_s = math.inf
        self._is_cancelling = False

    @property
    def unanswered(self) -> int:
        """How many requests are unanswered."""
        return len(self._unanswered)

    @property
    def block_bytes(self) -> int:
        """How many bytes a copy's block should have now (docs/link.md 4)."""
        return self.noise.best_block_bytes(self.parameters.packet_bytes)

    # --- sending -------------------------------------------------------------------------------

    def send_packet(self, packet: Buffer, now: float, kind: RequestKind = PACKET, limit_s: float = math.inf) -> int:
        """Send an RPC packet, from its code on, when nothing is unanswered; give its seq.

        kind: PACKET or CALL; limit_s: the caller's own, within which a device may be silent less long.
        """
        seq = self._next_seq
        self.repeats, self.repeats_s, self._limit_s, self._is_cancelling = 0, 0.0, limit_s, False
        frame = encode_frame(encode_with_kind(self.session_id, LINK_REQUEST, seq, kind, packet))
        self._send(LinkRequest(kind, seq, frame), now)
        return seq

    def cancel(self, now: float) -> bool:
        """Have CANCEL take the place of the CALL that is unanswered; give whether there is one that was not yet."""
        request = next(iter(self._unanswered.values()), None)
        if request is None or request.kind is not CALL or self._is_cancelling:
            return False
        self._is_cancelling = True
        request.frame = encode_frame(encode_link_message(self.session_id, MessageType.LINK_CANCEL, request.seq))
        request.waited_from = now
        self._transmit(request, now)
        self._await(request, now)
        return True

    def notify(self, now: float) -> None:
        """Send the notice that is due, if there is one and the window has room for it; none beside a PACKET or CALL."""
        notices = self.notices
        if notices.due_at > now or not self._has_room_for_notice():
            return
        frame = notices.take(now, self.answered_by)
        if frame is not None:
            self.sent_by = max(now, self.sent_by) + len(frame) * self._byte_s
            self.answered_by = max(self.sent_by, self.answered_by) + len(frame) * self._byte_s
            self.frames.append(frame)

    def _has_room_for_notice(self) -> bool:
        unanswered = self._unanswered
        if not unanswered:
            return True
        sizes_bytes = [len(request.frame) for request in unanswered.values()]
        return next(iter(unanswered.values())).is_copy and self._budget.has_room(sizes_bytes, MOST_NOTICE_BYTES, 0)

    def has_room_beside_notice(self, frame_bytes: int) -> bool:
        """Whether a request may be sent while a notice is out: the ring takes both, or none is."""
        out_bytes = self.notices.out_bytes
        return not out_bytes or self._budget.has_room((out_bytes,), frame_bytes, 0)

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
        unanswered = self._unanswered
        if unanswered:
            lowest = next(iter(unanswered))  # seqs go up in the order of insertion
            sizes_bytes = [len(other.frame) for other in unanswered.values()]
            if self.notices.out_bytes:
                sizes_bytes.append(self.notices.out_bytes)
            if not self._budget.has_room(sizes_bytes, len(request.frame), seq_distance(self._next_seq, lowest)):
                return False
            if len(unanswered) > 1 and self.notices.must_be_prompt:
                replies_bytes = sum(other.reply_bytes for other in unanswered.values())
                if replies_bytes + request.reply_bytes > _MOST_REPLIES_BYTES:
                    return False
        elif self.notices.out_bytes and not self.has_room_beside_notice(len(request.frame)):
            return False
        self._send(request, now)
        return True

    def send_beside(self, address: int, data: memoryview, now: float) -> LinkRequest | None:
        """Send a WRITE of as much of `data` as the ring takes while the PACKET or CALL that is unanswered is executed.

        None where that is nothing. It must not be memory that the function uses.
        """
        packet, *others = self._unanswered.values()
        others_bytes = _REPEATS_BESIDE * len(packet.frame) + sum(len(other.frame) for other in others)
        room_bytes = self._budget.window_bytes - others_bytes - self.notices.out_bytes
        ahead = seq_distance(self._next_seq, packet.seq)
        size_bytes = min(len(data), self.block_bytes, room_bytes - FRAME_OVERHEAD_BYTES - WRITE_OVERHEAD_BYTES)
        while ahead < self._budget.window_requests and size_bytes >= min(len(data), _LEAST_BESIDE_BYTES):
            request = self.prepare_write(address, data[:size_bytes])
            if len(request.frame) <= room_bytes:
                self._send(request, now)
                return request
            size_bytes -= len(request.frame) - room_bytes
        return None

    def _encode(self, seq: int, kind: RequestKind, *body: Buffer) -> bytes:
        return encode_frame(encode_with_kind(self.session_id, LINK_REQUEST, seq, kind, *body))

    def _encode_copy(self, request: LinkRequest) -> bytes:
        if request.data is not None:
            data = request.data[: request.size_bytes]
            return self._encode(request.seq, request.kind, ADDRESS.pack(request.address), data)
        return self._encode(request.seq, request.kind, RANGE.pack(request.address, request.size_bytes))

    def _send(self, request: LinkRequest, now: float) -> None:
        self._next_seq = (request.seq + 1) % SEQ_MODULUS
        self._transmit(request, now)
        if not self._unanswered:  # sent now, so that its answer is expected no earlier than any timer says
            round_trip = self._round_trip(request) if request.is_copy else self._packets
            self.deadline = request.expected_at + round_trip.patience_s
        self._unanswered[request.seq] = request

    def _transmit(self, request: LinkRequest, now: float) -> None:
        self._order = order = self._order + 1
        request_bytes, reply_bytes = len(request.frame), request.reply_bytes
        sent_by = max(now, self.sent_by)
        self.sent_by = sent_by = sent_by + request_bytes * self._byte_s
        answered_by = max(sent_by, self.answered_by)
        self.answered_by = answered_by = answered_by + reply_bytes * self._byte_s
        request.order, request.sent_by, request.expected_at = order, sent_by, answered_by
        if not request.first_order:
            request.first_order, request.first_expected_at, request.waited_from = order, answered_by, answered_by
        self.notices.sent_at = now
        self.frames.append(request.frame)

    def _await(self, oldest: LinkRequest, now: float) -> None:
        """Start the timer for the one that was sent longest ago; whatever arrives starts it anew."""
        # Where the line carried more than was expected, it may be on its way only from now on.
        latest = max(now + max(len(oldest.frame), oldest.reply_bytes) * self._byte_s, oldest.expected_at)
        # Of a function that takes minutes not every second: the repetitions lie in the device's ring.
        waited_s = now - oldest.waited_from
        patience_s = self._round_trip(oldest).patience_s
        if self._is_cancelling:  # however slow functions were before: it is heeded soon, or not at all
            patience_s = min(patience_s, _CANCEL_PATIENCE_S)
        self.deadline = latest + max(patience_s, waited_s / 4)

    def _oldest(self) -> LinkRequest:
        first = next(iter(self._unanswered.values()))
        if not first.is_copy:  # what was sent beside it waits in the ring until it is done
            return first
        return min(self._unanswered.values(), key=lambda request: request.order)

    def _retransmit(self, request: LinkRequest, now: float) -> None:
        self.retransmissions += 1
        if request.is_copy and request.size_bytes > 2 * self.block_bytes:
            request.size_bytes = self.block_bytes
            request.reply_bytes = REPLY_BYTES + request.size_bytes if request.kind is READ else REPLY_BYTES
            request.frame = self._encode_copy(request)
        self._transmit(request, now)

    # --- what comes back, and what does not ------------------------------------------------------

    def receive(self, payload: bytes, now: float) -> LinkReply | None:
        """Take a message of this session; give the reply to a request that was unanswered."""
        message = decode_link_message(payload)
        if message is None:
            self.on_damage(now)
            return None
        self._is_damaged = False
        message_type, seq, content = message
        if self.notices.back_offs:
            self.notices.on_heard(now)
        if message_type is not LINK_REPLY:
            self._receive_other(message_type, seq, content, payload, now)
            return None
        unanswered = self._unanswered
        request = unanswered.get(seq)
        kind = REPLY_KINDS.get(content[:1])
        if request is None or kind is None:
            return None
        del unanswered[seq]
        self.noise.note_success(len(request.frame) + request.reply_bytes)
        # Else it was lost once, and this is the time of another.
        was_sent_once = request.order == request.first_order
        if was_sent_once or request.was_late:
            round_trip = self._copies if request.is_copy else self._packets
            round_trip.measure(now - request.first_expected_at if now > request.first_expected_at else 0.0)
        if unanswered:
            if not request.is_copy:
                self._begin_copies(now)
            if was_sent_once:  # else its last transmission may still be on its way
                # Where the line is faster than was said, as a board's own USB is, that must not add up.
                self.sent_by -= max(request.sent_by - now, 0.0)
                self.answered_by -= max(request.expected_at - now, 0.0)
            # The line keeps the order: what was sent before this request and is unanswered is lost.
            # Where it was sent more than once, it may be the first one that was answered.
            for lost in [other for other in unanswered.values() if other.order < request.first_order]:
                self._repeat_lost(lost, now)
            self._await(self._oldest(), now)
        else:
            if was_sent_once:
                self.sent_by = self.answered_by = -math.inf
            self.deadline = math.inf
        body = content[1:]
        size_bytes = len(body) if kind is ReplyKind.DATA else request.size_bytes
        reply = tuple.__new__(LinkReply, (seq, kind, body, size_bytes))  # as LinkReply(...) does, in a step less
        self.replies.append(reply)
        return reply

    def _begin_copies(self, now: float) -> None:
        """Wait from now on for what was sent beside a PACKET or CALL: the device has come to it only now."""
        expected_at = now
        for request in self._unanswered.values():
            expected_at += request.reply_bytes * self._byte_s
            request.first_expected_at = max(request.first_expected_at, expected_at)
            request.waited_from = now

    def _receive_other(self, message_type: MessageType, seq: int, content: bytes, payload: bytes, now: float) -> None:
        if message_type is LINK_NAK:
            self._repeat_oldest(now)
        elif message_type is MessageType.LINK_PROGRESS:
            request = self._unanswered.get(seq)
            if request is not None and request.kind is CALL and len(content) == PROGRESS.size:
                self.progress.append(PROGRESS.unpack(content))
                if not self._is_cancelling:  # for it says nothing of a CANCEL
                    request.waited_from = now
                    self.deadline = max(self.deadline, now + min(self.silence_s, self._limit_s) / 2)
        else:
            self.notices.receive(message_type, payload, now)

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

    def on_arrival(self, now: float) -> None:
        """Take note that a frame is arriving, and may well be what is waited for: nothing is sent again meanwhile."""
        if self._unanswered:
            soon = now + _BYTES_APART * self._byte_s + self._round_trip(self._oldest()).patience_s
            self.deadline = max(self.deadline, soon)

    def on_late_write(self, taken_at: float, left_at: float) -> None:
        """Wait as much later for what was `taken_at` a time to be written, and left the port only at another.

        The port was busy for longer than the line takes, or this process did not run: that says nothing of the board.
        """
        late_s = left_at - max(self.sent_by, taken_at)  # the former is past where all was answered meanwhile
        for request in self._unanswered.values():
            if request.sent_by >= taken_at:
                request.sent_by += late_s
                request.expected_at += late_s
                if request.order == request.first_order:
                    request.first_expected_at += late_s
                    request.waited_from += late_s
        self.sent_by += late_s
        self.answered_by += late_s
        self.deadline += late_s

    def _repeat_oldest(self, now: float) -> None:
        if self._unanswered:
            self._repeat_lost(self._oldest(), now)
            self._await(self._oldest(), now)

    def _repeat_lost(self, request: LinkRequest, now: float) -> None:
        if any(frame is request.frame for frame in self.frames):
            return  # it was not lost: it still waits to be sent
        self.noise.note_loss(len(request.frame) + request.reply_bytes)
        self._retransmit(request, now)
        if self.repeats < _MOST_REPEATS:
            self.repeats += 1
            self.repeats_s += len(request.frame) * self._byte_s

    def _round_trip(self, request: LinkRequest) -> RoundTrip:
        return self._copies if request.is_copy and self._copies.is_measured else self._packets
