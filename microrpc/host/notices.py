"""What the host says of its own accord: that it wants events, and that it is there (docs/link.md 8, 10).

Sans I/O: times in, frames out. `microrpc.host.link` tells when the line has room for one.
"""

from __future__ import annotations

import math

from microrpc.host.events import EVENT_POLL_S, EventHost
from microrpc.wire.frames import FRAME_OVERHEAD_BYTES, encode_frame
from microrpc.wire.link import encode_link_message
from microrpc.wire.session import MessageType

MOST_NOTICE_BYTES = FRAME_OVERHEAD_BYTES + 2 * 14
"""What one takes on the wire at most: each byte of an EVENT_ACK may be escaped."""

_LEAST_KEEP_ALIVE_S = 0.02  # whatever a board asks for: a host cannot promise more, and has other things to do
_MOST_PATIENCE_S = 10.0
_MOST_BACK_OFFS = 8


class Notices:
    """The EVENT_ACKs and KEEP_ALIVEs of one session; at most one of them is out.

    events: tells when an EVENT_ACK is due, None where the device sends none. keep_alive_s: after how long in which
    nothing was sent a KEEP_ALIVE is, but no sooner than after 20 ms; infinity where the device asks for none. byte_s: a
    byte's time on the line.
    keeps_alive: whether there are KEEP_ALIVEs. sent_at: when the host last sent anything. out_bytes: of the one that is
    out, on the wire, 0 without one. back_offs: how often the patience is doubled; 0 again when anything is heard.
    """

    def __init__(
        self,
        session_id: int,
        events: EventHost | None = None,
        *,
        keep_alive_s: float = math.inf,
        byte_s: float = 0.0,
        now: float = 0.0,
    ) -> None:
        self.keeps_alive = keep_alive_s < math.inf
        self.sent_at = now
        self.out_bytes = 0
        self.back_offs = 0
        self._session_id = session_id
        self.events = events
        self._keep_alive_s = max(keep_alive_s, _LEAST_KEEP_ALIVE_S)
        self._byte_s = byte_s
        self._lost_at = math.inf
        self._awaited: MessageType | None = None

    @property
    def due_at(self) -> float:
        """When the next one is due, or the one that is out is taken for lost; infinity where none is."""
        if self.out_bytes:
            return self._lost_at
        return min(self._ack_at, self.sent_at + self._keep_alive_s)

    @property
    def are_wanted(self) -> bool:
        """Whether any may become due as things stand. A call, which is to be quick, asks for the same by itself."""
        events = self.events
        return self.keeps_alive or (events is not None and (events.is_on or events.sink.is_wanted))

    @property
    def must_be_prompt(self) -> bool:
        """Whether the device may soon wait for one: with its credit used up, it loses events."""
        return self.events is not None and self.events.is_on

    @property
    def _ack_at(self) -> float:
        return math.inf if self.events is None else self.events.due_at

    def take(self, now: float, answered_by: float) -> bytes | None:
        """Give the frame that is due at `now`; the line is busy with what was sent before until `answered_by`.

        None where the one that was out is taken for lost: what waits for its turn goes before the next.
        """
        if self.out_bytes:
            self.out_bytes = 0
            self.back_offs = min(self.back_offs + 1, _MOST_BACK_OFFS)
            return None
        events_bytes = 0
        if self.events is not None and self._ack_at <= now:
            self._awaited, events_bytes = MessageType.LINK_EVENT_STATE, self.events.credit_bytes
            payload = self.events.make_ack(now)
        elif self.sent_at + self._keep_alive_s <= now:
            self._awaited = MessageType.LINK_KEEP_ALIVE
            payload = encode_link_message(self._session_id, MessageType.LINK_KEEP_ALIVE, 0)
        else:
            return None
        frame = encode_frame(payload)
        self.sent_at, self.out_bytes = now, len(frame)
        patience_s = min(EVENT_POLL_S * (1 << self.back_offs), _MOST_PATIENCE_S)
        self._lost_at = max(now, answered_by) + (2 * len(frame) + events_bytes) * self._byte_s + patience_s
        return frame

    def on_heard(self, now: float) -> None:
        """Take note that the device was heard again: no more patience than at first."""
        self.back_offs = 0
        if self.out_bytes:
            self._lost_at = min(self._lost_at, now + EVENT_POLL_S)

    def receive(self, message_type: MessageType, payload: bytes, now: float) -> None:
        """Take a message that answers no request."""
        is_answer = message_type is MessageType.LINK_KEEP_ALIVE
        if self.events is not None and message_type in (MessageType.LINK_EVENT, MessageType.LINK_EVENT_STATE):
            is_answer = self.events.receive(payload, now)
        if is_answer and message_type is self._awaited:
            self.out_bytes, self._awaited = 0, None
