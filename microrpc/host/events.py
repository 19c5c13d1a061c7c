"""The host's side of events (docs/link.md 8): numbers, credit and acknowledgements, over sessions and boots.

Sans I/O: frame payloads and times in, payloads out, and events into a sink.
"""

from __future__ import annotations

import enum
import math
from typing import Protocol

from microrpc.host.operation import AT_ONCE
from microrpc.wire.events import (
    NUMBER_MODULUS,
    Event,
    EventAck,
    EventMessage,
    EventState,
    EventValue,
    UnreadableEvent,
    decode_event_news,
    encode_event_ack,
)

EVENT_POLL_S = 0.2
"""How long after an EVENT_ACK the next one is sent, although all is quiet; and the first patience for its answer."""
MOST_CREDIT_BYTES = 4096
"""What a device may send of events before it is asked anew, in frame payloads; no event is larger."""
NO_EVENTS = "this board's firmware sends no events"
"""What is said where events are wanted, and there can be none."""

_CREDIT_S = 0.1  # of the line's time: a reply may have to wait for so many events
_RELIABLE_S, _RELIABLE_BYTES = 0.05, 500  # after an EVENT_ACK the next one where reliable ones wait for it, or the time
# of so many bytes, so that it takes no more than a small part of the line


class EventSink(Protocol):
    """What takes the events of a connection; it is called while operations are under way, and must not raise."""

    @property
    def is_wanted(self) -> bool:
        """Whether the program wants events. The board is told when that changes."""

    @property
    def has_room(self) -> bool:
        """Whether more events are asked for. What was asked for before comes all the same: 4096 bytes at most."""

    def deliver(self, event: Event) -> None:
        """Take an event."""

    def wake(self) -> None:
        """Take note that from now on something is to be sent although nobody asks for anything: KEEP_ALIVEs."""


class _Nobody:
    is_wanted = has_room = False

    def deliver(self, event: Event) -> None:
        """Drop it."""

    def wake(self) -> None:
        """Do nothing."""


class _Phase(enum.Enum):
    OFF = enum.auto()
    ASKING = enum.auto()  # an EVENT_STATE is to come before any event
    ON = enum.auto()
    LEAVING = enum.auto()  # the credit is to be 0 again


class EventHost:
    """The events of one connection, over all of its sessions.

    sink: who takes them. delivered: how many it got, gaps included. credit_bytes: what the board may send before it is
    asked anew, in this session. is_on: the device was asked for something, and not yet told that this is over.
    """

    def __init__(self) -> None:
        self.sink: EventSink = _Nobody()
        self.delivered = 0
        self.credit_bytes = MOST_CREDIT_BYTES
        self._session_id: int | None = None
        self._is_first = False  # no EVENT_STATE of this session has come
        self._phase = _Phase.OFF
        self.is_on = False
        self._boot: int | None = None
        self._was_reset = False
        self._skips = True  # plain events so far were not wanted
        self._next_plain = self._wanted = 0
        self._is_lost = self._was_lost = False  # now, and in the last EVENT_ACK
        self._acked_at = AT_ONCE
        self._used_bytes = 0
        self._reliable_s = _RELIABLE_S
        self._has_taken = False  # a reliable one, since the last EVENT_ACK
        self._time_us = 0
        self._timed_at: float | None = None

    # --- sessions --------------------------------------------------------------------------------

    def begin(self, session_id: int, packet_bytes: int, byte_s: float) -> None:
        """Begin a session with a device that sends events.

        packet_bytes: the largest frame payload that it takes. byte_s: a byte's time on the line, 0 where nobody knows.
        """
        self.end()
        self._session_id, self._is_first = session_id, True
        line_bytes = int(_CREDIT_S / byte_s) if byte_s else MOST_CREDIT_BYTES
        self.credit_bytes = min(max(line_bytes, packet_bytes), MOST_CREDIT_BYTES)
        self._reliable_s = min(max(_RELIABLE_BYTES * byte_s, _RELIABLE_S), EVENT_POLL_S)

    def end(self) -> None:
        """Take note that the session is over; the numbers stay."""
        self._skips = self._skips or not self.sink.is_wanted
        self._session_id, self._phase, self.is_on = None, _Phase.OFF, False

    def on_reset(self) -> None:
        """Take note that the board was seen to reset."""
        self._was_reset = True

    # --- what is sent ----------------------------------------------------------------------------

    @property
    def due_at(self) -> float:
        """When an EVENT_ACK is due; infinity where none is."""
        if self._phase is _Phase.OFF:
            return AT_ONCE if self._session_id is not None and self.sink.is_wanted else math.inf
        if self._phase is not _Phase.ON or not self.sink.is_wanted:
            return AT_ONCE
        if not self.sink.has_room:
            return math.inf
        if 2 * self._used_bytes >= self.credit_bytes or (self._is_lost and not self._was_lost):
            return AT_ONCE
        return self._acked_at + (self._reliable_s if self._has_taken else EVENT_POLL_S)

    def make_ack(self, now: float) -> bytes:
        """Give the frame payload of the EVENT_ACK that is due, to be sent now."""
        if not self.sink.is_wanted:
            self._phase, self._skips = _Phase.LEAVING, True
        elif self._phase is not _Phase.ON:
            self._phase = _Phase.ASKING
        self.is_on = True
        credit_bytes = self.credit_bytes if self._phase is _Phase.ON else 0
        self._was_lost = self._is_lost and credit_bytes > 0
        self._acked_at, self._used_bytes, self._has_taken = now, 0, False
        return encode_event_ack(self._session_id or 0, EventAck(self._wanted, credit_bytes, self._was_lost))

    # --- what comes ------------------------------------------------------------------------------

    def receive(self, payload: bytes, now: float) -> bool:
        """Take an EVENT or EVENT_STATE of this session; give whether it answers an EVENT_ACK."""
        news = decode_event_news(payload)
        if isinstance(news, EventState):
            self._on_state(news)
            return True
        if news is not None and self._phase is _Phase.ON:
            self._used_bytes += len(payload)
            self._on_event(news, now)
        return False

    def _on_event(self, event: EventMessage | UnreadableEvent, now: float) -> None:
        missed = 0
        if event.is_reliable:
            ahead = distance(event.number, self._wanted)
            if ahead:  # one that was taken already, or the first after some that were lost
                self._is_lost = self._is_lost or ahead > 0
                return
            self._wanted = (event.number + 1) % NUMBER_MODULUS
            self._is_lost, self._was_lost, self._has_taken = False, False, True
        else:
            missed = distance(event.number, self._next_plain)
            if missed < 0:
                return
            self._next_plain = (event.number + 1) % NUMBER_MODULUS
        time_us = self._unwrap(event.time_us, now)
        if isinstance(event, UnreadableEvent):
            first = (event.number - missed) % NUMBER_MODULUS
            self._deliver(first, "", (), time_us, missed + 1, event.is_reliable)
            return
        self._deliver(event.number, event.name, event.values, time_us, missed, event.is_reliable)

    def _on_state(self, state: EventState) -> None:
        if self._phase is _Phase.LEAVING:
            self._phase, self.is_on = _Phase.OFF, False
        if self._phase is _Phase.OFF:
            return
        if self._phase is _Phase.ASKING:
            self._phase, self._acked_at = _Phase.ON, AT_ONCE
            self._begin_numbers(state)
        elif state.boot != self._boot:  # which no board that keeps its session may say: begin as after its boot
            self._is_first = True
            self._begin_numbers(state)
        missed = distance(state.next_number, self._next_plain)
        if missed > 0:
            self._deliver(self._next_plain, "", (), self._time_us, missed, False)
            self._next_plain = state.next_number
        self._is_lost = distance(state.next_reliable, self._wanted) > 0

    def _begin_numbers(self, state: EventState) -> None:
        """Find out where the numbers are, from the EVENT_STATE before any credit."""
        is_first, self._is_first = self._is_first, False
        is_known = self._boot is not None
        if not is_known or self._is_other_boot(state, is_first):
            self._boot = state.boot
            self._next_plain, self._wanted = 0, 0 if is_known else state.next_reliable
            self._time_us, self._timed_at = 0, None
        if self._skips:
            self._next_plain = state.next_number
        self._skips = self._was_reset = False
        # The oldest that it keeps: those before it were acknowledged, by another program.
        missed = distance(state.next_reliable, self._wanted)
        if is_first and missed > 0:
            self._deliver(self._wanted, "", (), self._time_us, missed, True)
            self._wanted = state.next_reliable

    def _is_other_boot(self, state: EventState, is_first: bool) -> bool:
        """Whether the numbers have begun anew, although a board may not be able to make another boot id each time."""
        is_behind = distance(state.next_number, self._next_plain) < 0
        keeps_acknowledged = distance(state.next_reliable, self._wanted) < 0
        return state.boot != self._boot or (is_first and (is_behind or (self._was_reset and keeps_acknowledged)))

    def _deliver(
        self, number: int, name: str, values: tuple[EventValue, ...], time_us: int, missed: int, reliable: bool
    ) -> None:
        self.deliver(Event(number, name, values, time_us, missed, reliable, self._boot or 0))

    def deliver(self, event: Event) -> None:
        """Give an event to the sink: one that came another way, too (docs/link.md 11)."""
        self.delivered += 1
        self.sink.deliver(event)

    def _unwrap(self, time_us: int, now: float) -> int:
        """Give the board's time beyond 32 bits: that which is nearest to what the host's clock makes of the last."""
        if self._timed_at is None:
            self._time_us, self._timed_at = time_us, now
        if time_us or self._time_us:  # else it has no clock
            expected_us = self._time_us + int((now - self._timed_at) * 1e6)
            time_us = expected_us + distance(time_us, expected_us)  # both count modulo 2**32
        if time_us >= self._time_us:  # a reliable one may be of long ago
            self._time_us, self._timed_at = time_us, now
        return time_us


def distance(number: int, other: int) -> int:
    """How far `number` is ahead of `other`, modulo 2**32; negative where it is behind."""
    half = NUMBER_MODULUS // 2
    return (number - other + half) % NUMBER_MODULUS - half
