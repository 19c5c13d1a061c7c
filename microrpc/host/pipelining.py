"""Several requests on their way at once, to a stock board whose ring in front of its receive buffer is large enough.

Stock firmware answers whole frames that lie back to back in its ring, one after the other (docs/protocol.md 6). So the
next request may be on the wire while the last is served: as many as fit the ring, besides the one that is being read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from microrpc.errors import BoardResetError, OutcomeUnknownError
from microrpc.host.connection import MAX_ATTEMPTS, Conversation
from microrpc.host.operation import Operation
from microrpc.wire.packets import Reply, Request, encode_packet
from microrpc.wire.reader import request_label
from microrpc.wire.session import Timeouts


class PipelinedConversation(Conversation):
    """A `Conversation` that has several requests in flight where `ring_bytes` of the board allow it; 0 allows one."""

    def __init__(
        self,
        *,
        seed: int,
        timeouts: Timeouts,
        on_log: Callable[[str], None] = lambda text: None,
        ring_bytes: int = 0,
    ) -> None:
        super().__init__(seed=seed, timeouts=timeouts, on_log=on_log)
        self.ring_bytes = ring_bytes
        self._to_expect: deque[Request] = deque()
        self._batch_replies: list[Reply] | None = None

    def exchange_batch(
        self, requests: Sequence[Request], *, timeout_s: float, epoch: int | None
    ) -> Operation[list[Reply]]:
        """Send requests that may be repeated, as many at once as the ring takes; give their replies, in order.

        After doubt all of them are sent again, up to 3 times: a stock board that got a damaged one answers it in the
        end, and no answer tells which it was. Only their number does: it is one short. Raises as `exchange`.
        """
        attempt = 1
        while True:
            now = yield from self.begin(epoch)
            try:
                return (yield from self._exchange_all(requests, now, timeout_s))
            except OutcomeUnknownError as error:
                if isinstance(error, BoardResetError) or attempt == MAX_ATTEMPTS:
                    raise
            finally:
                self._to_expect.clear()
                self._batch_replies = None
            attempt += 1
            self.repeats += 1

    def _exchange_all(self, requests: Sequence[Request], now: float, timeout_s: float) -> Operation[list[Reply]]:
        epoch = self.reply_epoch = self.epoch
        replies: list[Reply] = []
        self._batch_replies = replies
        in_flight_bytes: deque[int] = deque()
        sent, frame = 0, b""
        deadline = now + timeout_s
        while len(replies) < len(requests):
            while sent < len(requests):
                frame = frame or self._encoder.encode(self.session.wrap(encode_packet(requests[sent])))
                sizes = [*in_flight_bytes, len(frame)]
                if in_flight_bytes and sum(sizes) - min(sizes) > self.ring_bytes:
                    break
                if in_flight_bytes:
                    self._to_expect.append(requests[sent])
                else:
                    self._client.expect(requests[sent])
                self._output.append(frame)
                in_flight_bytes.append(len(frame))
                sent, frame = sent + 1, b""
            self._doubt = "a request was interrupted"  # holds if this generator is closed or thrown into
            before = len(replies)
            data, now = yield deadline
            self._receive(data, now)
            for _ in replies[before:]:
                in_flight_bytes.popleft()
                deadline = now + timeout_s
            if len(replies) < len(requests):
                is_late = len(replies) == before and now >= deadline
                self._give_up_if_due(request_label(requests[len(replies)]), epoch, is_late, timeout_s)
        self._doubt = self._damage
        self._answered = True
        return replies

    def _on_message(self, body: bytes) -> Reply | None:
        reply = super()._on_message(body)
        if reply is not None and self._batch_replies is not None:
            self._batch_replies.append(reply)
            if self._to_expect:
                self._client.expect(self._to_expect.popleft())
        return reply
