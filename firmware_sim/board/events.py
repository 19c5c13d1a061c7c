"""The events of a board: their numbers, the ring of reliable ones, and the host's credit (docs/link.md 8).

Sans I/O: what is to be sent goes to the function that it was made with, as a frame payload.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable

import numpy as np

from microrpc.errors import RequestError
from microrpc.wire.checks import show
from microrpc.wire.events import (
    NUMBER_MODULUS,
    EventAck,
    EventMessage,
    EventState,
    EventValue,
    encode_event,
    encode_event_body,
    encode_event_state,
)
from microrpc.wire.features import Feature

DEFAULT_RING_BYTES = 1024
"""The ring of reliable events, where nobody states it."""
RECORD_BYTES = 2
"""What an event takes of the ring besides its body, the bytes between its message type and its crc32."""

_MOST_EVENT_BYTES = 4096  # of frame payload, which the credit of a host covers
_OVERHEAD_BYTES = 7  # of it before and behind the body
_MOST_NAME_BYTES = 255
_MOST_TEXT_BYTES = 65535


class EventSource:
    """A board's events.

    known: whether it has EVENTS, and RELIABLE ones. send: takes the frame payloads. packet_bytes: what no event
    is longer than, that of the link. ring_bytes: what the reliable events that were not acknowledged may take.
    `boot_id` is that of the current boot.
    """

    def __init__(self, send: Callable[[bytes], None], *, known: Feature, packet_bytes: int, ring_bytes: int) -> None:
        self._most_body_bytes = min(packet_bytes, _MOST_EVENT_BYTES) - _OVERHEAD_BYTES
        self._send = send
        self._known = known
        self._ring_bytes = ring_bytes
        self.boot(0)

    def boot(self, boot_id: int) -> None:
        """Start from nothing."""
        self.boot_id = boot_id
        self._next = 0
        self._kept: deque[bytes] = deque()
        self._oldest = 0  # the number of the first one that is kept
        self.begin_session(0)

    def begin_session(self, session_id: int) -> None:
        """Forget the last session: there is no credit, and no reliable event was sent; 0 where there is none now."""
        self._session_id = session_id
        self._credit_bytes = 0
        self._sent = 0  # how many of those kept

    def emit(self, name: str, values: Iterable[object], *, is_reliable: bool, time_us: int) -> bool:
        """Send a plain event, or keep a reliable one and send it when its turn comes; tell whether that was done.

        A plain one without credit is lost; a reliable one without room, and one that is too long, is refused and takes
        no number. Raises RequestError for what no event can carry.
        """
        checked = _check(name, values)
        if not self._known & (Feature.RELIABLE if is_reliable else Feature.EVENTS):
            return False
        number = (self._oldest + len(self._kept)) % NUMBER_MODULUS if is_reliable else self._next
        body = encode_event_body(EventMessage(number, is_reliable, time_us, name, checked))
        if len(body) > self._most_body_bytes:
            return False
        if is_reliable:
            if self._used_bytes + _record_bytes(body) > self._ring_bytes:
                return False
            self._kept.append(body)
            self._send_kept()
            return True
        self._next = (self._next + 1) % NUMBER_MODULUS
        return self._send_covered(body)

    def on_ack(self, ack: EventAck) -> None:
        """Take a good EVENT_ACK of the session, and answer it."""
        self._credit_bytes = ack.credit_bytes
        acknowledged = (ack.wanted - self._oldest) % NUMBER_MODULUS
        if ack.credit_bytes and acknowledged <= len(self._kept):
            for _ in range(acknowledged):
                self._kept.popleft()
            self._oldest = ack.wanted
            self._sent = 0 if ack.is_lost else max(self._sent - acknowledged, 0)
        state = EventState(self.boot_id, self._next, (self._oldest + self._sent) % NUMBER_MODULUS)
        self._send(encode_event_state(self._session_id, state))
        self._send_kept()

    @property
    def _used_bytes(self) -> int:
        return sum(map(_record_bytes, self._kept))

    def _send_kept(self) -> None:
        while self._sent < len(self._kept) and self._send_covered(self._kept[self._sent]):
            self._sent += 1

    def _send_covered(self, body: bytes) -> bool:
        """Send an event if the credit covers it; tell whether it did."""
        payload = encode_event(self._session_id, body)
        if len(payload) > self._credit_bytes:
            return False
        self._credit_bytes -= len(payload)
        self._send(payload)
        return True


def to_microseconds(time_s: float) -> int:
    """Give a time as an event tells it, modulo 2**32."""
    return round(time_s * 1e6) % NUMBER_MODULUS if math.isfinite(time_s) else 0


def _record_bytes(body: bytes) -> int:
    return RECORD_BYTES + len(body)


def _check(name: str, values: Iterable[object]) -> tuple[EventValue, ...]:
    if not isinstance(name, str) or len(name.encode("utf-8", "surrogateescape")) > _MOST_NAME_BYTES:
        raise RequestError(f"an event's name is a str of at most {_MOST_NAME_BYTES} bytes, not {show(name)}")
    return tuple(_check_value(name, index, value) for index, value in enumerate(values))


def _check_value(name: str, index: int, value: object) -> EventValue:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return int(value)
    if isinstance(value, bytearray | memoryview):
        value = bytes(value)
    if isinstance(value, str | bytes):
        data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        if len(data) <= _MOST_TEXT_BYTES:
            return value
    what = f"value {index} of the event {name!r}"
    raise RequestError(f"{what} is an int of 64 bits, a float, or a str or bytes of at most 65535; not {show(value)}")
