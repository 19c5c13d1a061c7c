"""Requests as frames, to a board that has no link: one at a time, or as many as its ring takes.

Stock firmware answers whole frames that lie back to back in its ring, one after the other (docs/protocol.md 6). So the
next request may be on the wire while the last is served: as many as fit the ring, besides the one that is being read.
"""

from __future__ import annotations

from collections import deque

from microrpc.errors import OutcomeUnknownError, ProtocolError
from microrpc.host.blocks import Budget, batch_blocks
from microrpc.host.job import CopyJob
from microrpc.host.line import Line
from microrpc.host.operation import Operation
from microrpc.host.stats import Counters
from microrpc.host.trust import INTERRUPTED, Trust
from microrpc.wire.frames import encode_frame
from microrpc.wire.link import LinkParameters
from microrpc.wire.packets import Reply, Request, Shutdown, encode_packet
from microrpc.wire.reader import ClientEndpoint, request_label

_LOST_FRAME_BYTES = 9  # so much outside any frame is a frame whose start was damaged; a boot sends one stray byte


class FrameCarrier:
    """Every connection over frames has one: what comes before a link, and the proofs after doubt, go over it.

    ring_bytes: of the ring in front of the board's receive buffer, 0 where nobody knows: then one request is under
    way at a time. is_fresh: no request was answered in this session yet, so stale bytes may narrow the board's buffer.
    parameters, limit_bytes, retransmissions: as `Carrier` has them.
    """

    parameters: LinkParameters | None = None
    limit_bytes: int | None = None
    retransmissions = 0

    def __init__(self, line: Line, trust: Trust, counters: Counters, *, ring_bytes: int, max_reply_bytes: int) -> None:
        self.is_fresh = True
        self.ring_bytes = ring_bytes
        self._budget = Budget(ring_bytes)
        self._line = line
        self._trust = trust
        self._counters = counters
        self._client = ClientEndpoint(max_packet_bytes=max_reply_bytes)
        self._to_expect: deque[Request] = deque()
        self._replies: list[Reply] = []
        self._garbage_bytes = 0

    def reset(self) -> None:
        """Forget what is under way: a new session has begun, or the port is another."""
        self._client.reset()
        self.is_fresh = True
        self._garbage_bytes = 0

    def shutdown(self) -> None:
        """Send Shutdown, after which nothing is answered."""
        self._line.send_payload(self._line.session.wrap(self._client.shutdown()))

    # --- one request ---------------------------------------------------------------------------

    def exchange(self, request: Request, packet: bytes, deadline: float, timeout_s: float) -> Operation[Reply]:
        """Send `request`, encoded as `packet`, and give its reply.

        Raises CallTimeoutError, DamagedReplyError, BoardResetError.
        """
        trust, replies = self._trust, self._replies
        trust.doubt = INTERRUPTED
        replies.clear()
        self._client.expect(request)
        self._line.output.pieces.append(encode_frame(self._line.session.normal_header + packet))
        epoch = trust.reply_epoch = trust.epoch
        while True:
            data, now = yield deadline
            if data:
                self._line.receive(data, now)
                if replies:
                    trust.doubt = trust.damage
                    self.is_fresh = False
                    self._counters.note_answer(deadline - timeout_s)
                    return replies[0]
            trust.give_up_if_due(request_label(request), epoch, now >= deadline, timeout_s)

    # --- copies --------------------------------------------------------------------------------

    def copy(self, job: CopyJob, now: float) -> Operation[None]:
        """Exchange the next blocks of a copy, as many at once as the ring takes.

        After doubt all of them must be sent again: a stock board that got a damaged one answers it in the end, and no
        answer tells which it was. Only their number does: it is one short. The board may have executed the damaged
        one, and so have put a block over others: then the job is suspect.
        """
        most_blocks = batch_blocks(self.ring_bytes, job.request_bytes)
        requests: list[Request] = [job.request(block) for block in job.next_blocks(most_blocks)]
        try:
            replies = yield from self._exchange_all(requests, now, job.timeout_s)
        except OutcomeUnknownError:
            job.is_suspect = True
            raise
        job.accept_replies(replies)

    def _exchange_all(self, requests: list[Request], now: float, timeout_s: float) -> Operation[list[Reply]]:
        trust, replies = self._trust, self._replies
        trust.doubt = INTERRUPTED
        replies.clear()
        self._to_expect.clear()
        epoch = trust.reply_epoch = trust.epoch
        in_flight_bytes: deque[int] = deque()
        sent, answered = 0, 0
        frame = self._encode(requests[0])
        deadline = now + timeout_s
        try:
            while answered < len(requests):
                while sent < len(requests) and self._budget.has_room(in_flight_bytes, len(frame), sent - answered):
                    if in_flight_bytes:
                        trust.is_out = trust.is_asking  # the port may take the first of them alone
                        self._to_expect.append(requests[sent])
                    else:
                        self._client.expect(requests[sent])
                    self._line.output.pieces.append(frame)
                    in_flight_bytes.append(len(frame))
                    sent += 1
                    frame = self._encode(requests[sent]) if sent < len(requests) else b""
                data, now = yield deadline
                if data:
                    self._line.receive(data, now)
                is_late = len(replies) == answered and now >= deadline
                for _ in replies[answered:]:
                    in_flight_bytes.popleft()
                    answered += 1
                    deadline = now + timeout_s
                if answered < len(requests):
                    trust.give_up_if_due(request_label(requests[answered]), epoch, is_late, timeout_s)
        finally:
            self._to_expect.clear()
        trust.doubt = trust.damage
        self.is_fresh = False
        return list(replies)

    def _encode(self, request: Request) -> bytes:
        return encode_frame(self._line.session.normal_header + encode_packet(request))

    # --- what comes ----------------------------------------------------------------------------

    def on_message(self, body: bytes) -> bool:
        """Take the body of a NORMAL message; give whether it completed the reply of a request."""
        trust = self._trust
        if trust.damage:
            return False  # what follows damage is not believed before the board has proved itself in a new session
        try:
            reply = self._client.feed(body)
        except ProtocolError as error:
            self._client.reset()
            trust.damage = f"an answer that fits no request ({error})"
            return False
        if reply is None:
            return False
        if isinstance(reply, Shutdown):
            trust.damage = "the board sent Shutdown"
            return False
        self._replies.append(reply)
        if self._to_expect:
            self._client.expect(self._to_expect.popleft())
        return True

    def on_link(self, payload: bytes, now: float) -> None:
        """Drop it: nobody here asked for a link."""

    def on_damage(self, what: str, now: float) -> None:
        """Take note of a damaged frame: after it, nothing is believed."""
        self._trust.damage = what

    def on_garbage(self, data: bytes, now: float) -> None:
        """Take note of bytes outside of any frame."""
        self._garbage_bytes += len(data)

    def after_garbage(self, was_answered: bool, now: float) -> None:
        """Take much of it for a lost frame, where the reply did not come with it."""
        if was_answered:
            self._garbage_bytes = 0
        elif self._garbage_bytes >= _LOST_FRAME_BYTES:
            what = f"damage on the line ({self._garbage_bytes} bytes outside any frame)"
            self._garbage_bytes = 0
            self.on_damage(what, now)
