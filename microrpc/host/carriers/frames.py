"""Requests as frames, to a board that has no link: one at a time, or as many as its ring takes.

Stock firmware answers whole frames that lie back to back in its ring, one after the other (docs/protocol.md 6). So the
next request may be on the wire while the last is served: as many as fit the ring, besides the one that is being read.
"""

from __future__ import annotations

import math
from collections import deque

from microrpc.errors import OutcomeUnknownError, ProtocolError, counted
from microrpc.host.blocks import Budget, batch_blocks
from microrpc.host.job import CopyJob, Progress
from microrpc.host.line import MOST_UNASKED_BYTES, Line
from microrpc.host.operation import AT_ONCE, Operation
from microrpc.host.stats import Counters
from microrpc.host.trust import INTERRUPTED, Trust
from microrpc.wire.frames import encode_frame
from microrpc.wire.link import LinkParameters
from microrpc.wire.packets import Reply, Request, Shutdown, encode_packet
from microrpc.wire.reader import ClientEndpoint, request_label

_SHOWN_BYTES = 24  # of what is outside of frames, so that a line in another encoding is known for one
_LOST_FRAME_BYTES = 9  # so much outside any frame is a frame whose start was damaged; a boot sends one stray byte


class FrameCarrier:
    """Every connection over frames has one: what comes before a link, and the proofs after doubt, go over it.

    ring_bytes: of the ring in front of the board's receive buffer, 0 where nobody knows: then one request is under
    way at a time. is_fresh: no request was answered in this session yet, so stale bytes may narrow the board's buffer.
    parameters, limit_bytes, retransmissions, listens_at: as `Carrier` has them; nobody tells of progress here.
    """

    parameters: LinkParameters | None = None
    limit_bytes: int | None = None
    retransmissions = 0
    listens_at = math.inf

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
        self._garbage = bytearray()

    def reset(self) -> None:
        """Forget what is under way: a new session has begun, or the port is another."""
        self._client.reset()
        self.is_fresh = True
        self._garbage.clear()

    def take_turns(self) -> None:
        """Have one request under way at a time, whatever the ring takes: the line carries one direction at a time."""
        self.ring_bytes = 0
        self._budget = Budget(0)

    def shutdown(self) -> None:
        """Send Shutdown, after which nothing is answered."""
        self._line.send_payload(self._line.session.wrap(self._client.shutdown()))

    # --- one request ---------------------------------------------------------------------------

    def exchange(
        self,
        request: Request,
        packet: bytes,
        now: float,
        timeout_s: float,
        on_progress: Progress | None = None,
        renews: bool = False,
        beside: CopyJob | None = None,
    ) -> Operation[Reply]:
        """Send `request`, encoded as `packet`, and give its reply, which may take `timeout_s` besides the line's time.

        Nothing is sent `beside` it: a stock board has one buffer.
        Raises CallTimeoutError, DamagedReplyError, BoardResetError.
        """
        trust, replies, line, output = self._trust, self._replies, self._line, self._line.output
        trust.doubt = INTERRUPTED
        trust.text.heard = b""
        self._garbage.clear()
        replies.clear()
        self._client.expect(request)
        frame = encode_frame(line.session.normal_header + packet)
        output.pieces.append(frame)
        epoch = trust.reply_epoch = trust.epoch
        asked_at, bytes_before = now, self._counters.bytes_received
        deadline = sent_by = max(now, output.sent_by) + len(frame) * output.byte_s
        deadline += timeout_s
        while True:
            data, now = yield deadline
            if data:
                line.receive(data, now)
                if replies:
                    trust.doubt = trust.damage
                    self.is_fresh = False
                    output.sent_by = AT_ONCE
                    self._counters.note_answer(asked_at)
                    return replies[0]
                deadline = sent_by + timeout_s + line.carried_s(bytes_before)
            trust.give_up_if_due(request_label(request), epoch, now >= deadline, timeout_s)

    # --- copies --------------------------------------------------------------------------------

    def copy(self, job: CopyJob, now: float) -> Operation[None]:
        """Exchange the next blocks of a copy, as many at once as the ring takes.

        After doubt all of them must be sent again: a stock board that got a damaged one answers it in the end, and no
        answer tells which it was. Only their number does: it is one short. The board may have executed the damaged
        one, and so have put a block over others: then the job is suspect.
        """
        most_blocks = batch_blocks(self.ring_bytes, job.request_bytes)
        blocks = job.next_blocks(most_blocks)
        requests: list[Request] = [job.request(block) for block in blocks]
        reply_bytes = 0 if job.to_board else blocks[0].size_bytes
        try:
            replies = yield from self._exchange_all(requests, now, job.timeout_s, reply_bytes)
        except OutcomeUnknownError:
            job.is_suspect = True
            raise
        job.accept_replies(replies)

    def _exchange_all(
        self, requests: list[Request], now: float, timeout_s: float, reply_bytes: int
    ) -> Operation[list[Reply]]:
        trust, replies, line, output = self._trust, self._replies, self._line, self._line.output
        trust.doubt = INTERRUPTED
        trust.text.heard = b""
        self._garbage.clear()
        replies.clear()
        self._to_expect.clear()
        epoch = trust.reply_epoch = trust.epoch
        in_flight_bytes: deque[int] = deque()
        sent, answered = 0, 0
        frame = self._encode(requests[0])
        sent_by, bytes_before = max(now, output.sent_by), self._counters.bytes_received
        most_bytes = MOST_UNASKED_BYTES + 2 * reply_bytes  # each of them may be escaped
        try:
            while answered < len(requests):
                while sent < len(requests) and self._budget.has_room(in_flight_bytes, len(frame), sent - answered):
                    if in_flight_bytes:
                        trust.is_out = trust.is_asking  # the port may take the first of them alone
                        self._to_expect.append(requests[sent])
                    else:
                        self._client.expect(requests[sent])
                    output.pieces.append(frame)
                    in_flight_bytes.append(len(frame))
                    sent += 1
                    sent_by += len(frame) * output.byte_s
                    frame = self._encode(requests[sent]) if sent < len(requests) else b""
                deadline = sent_by + timeout_s
                if self._counters.bytes_received != bytes_before:
                    deadline += line.carried_s(bytes_before, most_bytes)
                data, now = yield deadline
                if data:
                    line.receive(data, now)
                for _ in replies[answered:]:
                    in_flight_bytes.popleft()
                    answered += 1
                    # Where the line is faster than was said, as a board's own USB is, that must not add up.
                    sent_by = min(max(now, sent_by), now + sum(in_flight_bytes) * output.byte_s)
                    output.sent_by, bytes_before = sent_by, self._counters.bytes_received
                if answered < len(requests):
                    deadline = sent_by + timeout_s
                    is_late = now >= deadline and now >= deadline + line.carried_s(bytes_before, most_bytes)
                    trust.give_up_if_due(request_label(requests[answered]), epoch, is_late, timeout_s)
        finally:
            self._to_expect.clear()
        output.sent_by = AT_ONCE
        trust.doubt = trust.damage
        self.is_fresh = False
        return list(replies)

    def _encode(self, request: Request) -> bytes:
        return encode_frame(self._line.session.normal_header + encode_packet(request))

    def cancel(self, now: float) -> bool:
        """Give False: a board without the link cannot be told."""
        return False

    def listen(self, now: float, until: float) -> Operation[float]:
        """Take what comes."""
        data, now = yield until
        if data:
            self._line.receive(data, now)
        return now

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
        """Take note of bytes outside of any frame that are no text."""
        self._garbage += data

    def after_garbage(self, was_answered: bool, now: float) -> None:
        """Take much of it for a lost frame, where the reply did not come with it."""
        if was_answered:
            self._garbage.clear()
        elif (size_bytes := len(self._garbage)) >= _LOST_FRAME_BYTES:
            begin = bytes(self._garbage[:_SHOWN_BYTES])
            what = f"damage on the line ({counted(size_bytes, 'byte')} outside any frame, which begin with {begin!r})"
            self._garbage.clear()
            self.on_damage(what, now)
