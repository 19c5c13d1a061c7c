"""The session: nonces, handshake, message types and logs (docs/protocol.md 2).

    session_id u16 | message_type u8 | body

`Session` is one side of the line, either role: it takes the payloads of good frames and the time, and gives events;
what it wants sent waits in `outgoing` as frame payloads. It does no I/O and reads no clock.

What differs from the C runtime, on purpose: a retried INIT draws a fresh nonce that was not used lately, so that
a reply can be told from the reply to an earlier INIT; and a run of ties ends in waiting for the retry, because two
sides with equal nonces step alike and would tie for ever.
"""

from __future__ import annotations

import enum
import math
import random
import struct
from collections import deque
from dataclasses import dataclass

from microrpc.errors import RequestError, counted
from microrpc.wire.checks import check_seconds

HEADER_SIZE_BYTES = 3
"""What every message begins with: session id and type."""

MAX_STARTS = 16
"""How many INITs are sent in a row at most: a few hundred overflow a stock board's buffer (docs/protocol.md 6)."""

_SESSION_VERSION = 1
_VERSION_BODY = bytes([_SESSION_VERSION])  # of INIT and REPLY
_MOST_NONCE = 0xFF
_HEADER = struct.Struct("<HB")
_NO_HEADER = b"none"  # longer than a header, so that none is taken for it
_MAX_TIES = 3


class MessageType(enum.IntEnum):
    """The second field of every session message (docs/protocol.md 2, docs/link.md 2)."""

    START_SESSION_INIT = 0x00
    START_SESSION_REPLY = 0x01
    TERMINATE_SESSION = 0x02
    LOG = 0x03
    NORMAL = 0x10
    # Of the link extension; stock firmware knows none of them.
    LINK_REQUEST = 0x20
    LINK_REPLY = 0x21
    LINK_NAK = 0x22
    # What a host asks for first (docs/link.md 7 to 10).
    LINK_EVENT = 0x23
    LINK_EVENT_ACK = 0x24
    LINK_EVENT_STATE = 0x25
    LINK_CANCEL = 0x26
    LINK_PROGRESS = 0x27
    LINK_KEEP_ALIVE = 0x28


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the host waits, in seconds (docs/protocol.md 2).

    retry_s: for the answer to an INIT, before the next; start_s: for a session in all; call_s: for a reply, or for
    news of how far a long call has come; cancel_s: for a call that was cancelled to end. Where the baud rate of the
    line is known, the time that the bytes take on it comes on top (docs/boards.md). Each is finite and more than 0.
    Raises RequestError.
    """

    retry_s: float = 0.5
    start_s: float = 5.0
    call_s: float = 5.0
    cancel_s: float = 1.0

    def __post_init__(self) -> None:
        for name in ("retry_s", "start_s", "call_s", "cancel_s"):
            object.__setattr__(self, name, check_seconds(getattr(self, name), name))


class SessionState(enum.Enum):
    """Where this side stands."""

    NO_SESSION = "no session"
    """None was begun, or it is over."""
    START_SENT = "start sent"
    """INIT was sent, and not answered yet."""
    ESTABLISHED = "established"
    """Both sides know `Session.session_id`."""


@dataclass(slots=True, frozen=True)
class Established:
    """The session `session_id` began. Whatever was under way in an earlier one will never be answered."""

    session_id: int


@dataclass(slots=True, frozen=True)
class Terminated:
    """The peer sent TERMINATE: it booted. `was_established` tells whether that ended a session of ours."""

    was_established: bool


@dataclass(slots=True, frozen=True)
class Log:
    """`text`: a line of the peer's log; what is not UTF-8 in it is spelt out."""

    text: str


@dataclass(slots=True)  # not frozen, which costs twice the time, for this and the next are made most
class Message:
    """The `body` of a NORMAL message of the current session."""

    body: bytes


@dataclass(slots=True)
class LinkMessage:
    """A message of the link extension, of the current session; `payload` is all of it (docs/link.md 2)."""

    payload: bytes


@dataclass(slots=True, frozen=True)
class LateReply:
    """A START_SESSION_REPLY to an earlier INIT of ours: the peer is slow, or answers one message behind.

    `session_id` is the one that it chose.
    """

    session_id: int


@dataclass(slots=True, frozen=True)
class Dropped:
    """A message that does not belong to the current session, and was dropped; `reason` is for people."""

    reason: str


@dataclass(slots=True, frozen=True)
class StartExpired:
    """No session came about in the time that `start` was given, by any of so many `attempts`."""

    attempts: int


Event = Established | Terminated | Log | Message | LinkMessage | LateReply | Dropped | StartExpired
"""What a payload or the time may mean."""

_LINK_TYPES = tuple(kind for kind in MessageType if kind >= MessageType.LINK_REQUEST)


def step_nonce(nonce: int) -> int:
    """Give the nonce that follows `nonce` (0..255); never 0 (docs/protocol.md 2)."""
    return (((nonce << 5) | (nonce >> 5)) + 1) & 0xFF or 1


def make_session_id(initiator_nonce: int, responder_nonce: int) -> int:
    """Join the nonces of both sides (1..255 each) into a session id (docs/protocol.md 2)."""
    return initiator_nonce | responder_nonce << 8


def encode_message(session_id: int, message_type: MessageType, body: bytes = b"") -> bytes:
    """Give the frame payload of one session message (docs/protocol.md 2)."""
    return _HEADER.pack(session_id, message_type) + body


def encode_log(text: str) -> bytes:
    """Give the frame payload of a LOG; it may be sent at any time, before the session too."""
    return encode_message(0, MessageType.LOG, text.encode())


class Session:
    """One side of a session, initiator or responder (docs/protocol.md 2).

    `seed` seeds the random source of this side's nonces, so that a test repeats. `state`: where it stands; `session_id`
    is 0 where no session was begun, and this side's nonce alone until it is answered. `outgoing`: frame payloads that
    are to be sent, in order; whoever sends them takes them out. `deadline` is the time (in the seconds of whatever
    clock the caller passes in) at which `on_time` must be called, or None. `normal_header` and `link_headers` begin the
    messages of the established session; without one, no message begins so.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.state = SessionState.NO_SESSION
        self.session_id = 0
        self.outgoing: list[bytes] = []
        self.deadline: float | None = None
        self._nonce = self._random.randrange(1, 256)
        self.normal_header = _NO_HEADER
        self.link_headers: frozenset[bytes] = frozenset()
        self._used_nonces: deque[int] = deque(maxlen=2 * MAX_STARTS)
        self._retry_s = 0.0
        self._expiry = 0.0
        self._starts = 0
        self._ties = 0

    # --- what this side says ------------------------------------------------------------------

    def boot(self) -> None:
        """Say what a booting device says: TERMINATE, so that the host learns that its session is over."""
        self.terminate()

    def start(self, now: float, *, retry_s: float, total_s: float) -> None:
        """Open a session as initiator: send TERMINATE and INIT now, again each `retry_s`, give up after `total_s`.

        Times are in seconds. INITs are spaced so that no more than 16 are sent, however short `retry_s` is. Raises
        RequestError where `retry_s` is not positive, or `total_s` not positive and finite.
        """
        if not (retry_s > 0 and 0 < total_s < math.inf):
            raise RequestError(f"session timeouts must be positive and end: retry_s={retry_s}, total_s={total_s}")
        self._retry_s = max(retry_s, total_s / MAX_STARTS)
        self._expiry = now + total_s
        self._starts = 0
        self._ties = 0
        self._send_start(now)

    def terminate(self) -> None:
        """Leave the session and tell the peer."""
        self._drop_session()
        self.outgoing.append(encode_message(0, MessageType.TERMINATE_SESSION))

    def wrap(self, body: bytes) -> bytes:
        """Give the frame payload that carries `body` as NORMAL message of the current session.

        Raises RequestError where no session is established.
        """
        if self.state is not SessionState.ESTABLISHED:
            raise RequestError(f"no session is established (it is: {self.state.value}); open one first")
        return self.normal_header + body

    # --- what time does -----------------------------------------------------------------------

    def on_time(self, now: float) -> StartExpired | None:
        """Retry if `deadline` has come, or give up, and say so."""
        if self.deadline is None or now < self.deadline:
            return None
        if now >= self._expiry:
            self._drop_session()
            return StartExpired(self._starts)
        self._send_start(now)
        return None

    def delay(self, delay_s: float) -> None:
        """Retry later by `delay_s` seconds, and give up later by as much."""
        if self.deadline is not None:
            self.deadline += delay_s
            self._expiry += delay_s

    def retry_by(self, at: float) -> None:
        """Retry at the time `at` instead of later: there is reason to think that INIT was not heard."""
        if self.deadline is not None and self._starts < MAX_STARTS:
            self.deadline = min(self.deadline, at)

    # --- what the peer says -------------------------------------------------------------------

    def receive(self, payload: bytes) -> Event:
        """Take the payload of one good frame; give the one event that it means."""
        if payload[:HEADER_SIZE_BYTES] == self.normal_header:
            return Message(payload[HEADER_SIZE_BYTES:])
        if payload[:HEADER_SIZE_BYTES] in self.link_headers:
            return LinkMessage(payload)
        if len(payload) < HEADER_SIZE_BYTES:
            return Dropped(f"a message of {counted(len(payload), 'byte')} is shorter than its header")
        session_id, message_type = _HEADER.unpack_from(payload)
        body = payload[HEADER_SIZE_BYTES:]
        if message_type == MessageType.LOG:
            if session_id in (0, self.session_id):
                return Log(body.decode(errors="backslashreplace"))
            return Dropped(f"a LOG of session 0x{session_id:04x}")
        if message_type == MessageType.TERMINATE_SESSION:
            return self._on_terminate(session_id, body)
        if message_type == MessageType.START_SESSION_INIT:
            return self._on_init(session_id, body)
        if message_type == MessageType.START_SESSION_REPLY:
            return self._on_reply(session_id, body)
        return Dropped(f"a message of type 0x{message_type:02x} and session 0x{session_id:04x}; {self._describe()}")

    def _on_terminate(self, session_id: int, body: bytes) -> Event:
        # A booting board sends 0, and so does a host that begins. Anything else is of another session, or damage that
        # the frame's crc missed.
        if body or session_id not in (0, self.session_id):
            return Dropped(f"a TERMINATE of {len(body)} bytes and session 0x{session_id:04x}; {self._describe()}")
        was_established = self.state is SessionState.ESTABLISHED
        if was_established:
            self._drop_session()
        return Terminated(was_established)

    def _on_init(self, session_id: int, body: bytes) -> Event:
        initiator = session_id
        if not 1 <= initiator <= _MOST_NONCE:
            return Dropped(f"an INIT with nonce 0x{initiator:02x}")
        if body != _VERSION_BODY:
            return Dropped(f"an INIT of session version {body.hex() or 'none'}, not {_SESSION_VERSION}")
        if self.state is SessionState.START_SENT:
            if initiator > self._nonce:
                return Dropped(f"an INIT with nonce 0x{initiator:02x}: ours, 0x{self._nonce:02x}, is lower and wins")
            if initiator == self._nonce:
                self._ties += 1
                if self._ties <= _MAX_TIES:
                    self._send_init(step_nonce(self._nonce))
                return Dropped("an INIT with our own nonce: a tie")
        self._nonce = step_nonce(self._nonce)
        self._establish(make_session_id(initiator, self._nonce))
        self.outgoing.append(encode_message(self.session_id, MessageType.START_SESSION_REPLY, _VERSION_BODY))
        return Established(self.session_id)

    def _on_reply(self, session_id: int, body: bytes) -> Event:
        if body != _VERSION_BODY:
            return Dropped(f"a REPLY of session version {body.hex() or 'none'}, not {_SESSION_VERSION}")
        initiator, responder = session_id & 0xFF, session_id >> 8
        if responder == 0:
            return Dropped("a REPLY with nonce 0")
        if self.state is SessionState.START_SENT and initiator == self._nonce:
            self._establish(session_id)
            return Established(session_id)
        if initiator in self._used_nonces and session_id != self.session_id:
            return LateReply(session_id)
        return Dropped(f"a REPLY for session 0x{session_id:04x}; {self._describe()}")

    # --- state --------------------------------------------------------------------------------

    @property
    def initiator_nonce(self) -> int:
        """The nonce of the INIT that is out or was answered; 0 without one."""
        return self.session_id & 0xFF

    @property
    def responder_nonce(self) -> int:
        """The responder's nonce of the established session, else 0."""
        return self.session_id >> 8

    def _describe(self) -> str:
        if self.state is SessionState.ESTABLISHED:
            return f"the current one is 0x{self.session_id:04x}"
        return f"here: {self.state.value}"

    def _send_start(self, now: float) -> None:
        self._starts += 1
        # Counted, because sixteen times a sixteenth is not the whole in floating point.
        self.deadline = min(now + self._retry_s, self._expiry) if self._starts < MAX_STARTS else self._expiry
        self.outgoing.append(encode_message(0, MessageType.TERMINATE_SESSION))
        fresh = [nonce for nonce in range(1, 256) if step_nonce(nonce) not in self._used_nonces]
        self._send_init(step_nonce(self._random.choice(fresh)))

    def _send_init(self, nonce: int) -> None:
        self._drop_session(keep_deadline=True)
        self._nonce = nonce
        self._used_nonces.append(nonce)
        self.state = SessionState.START_SENT
        self.session_id = nonce
        self.outgoing.append(encode_message(nonce, MessageType.START_SESSION_INIT, _VERSION_BODY))

    def _establish(self, session_id: int) -> None:
        self.state = SessionState.ESTABLISHED
        self.session_id = session_id
        self.normal_header = _HEADER.pack(session_id, MessageType.NORMAL)
        self.link_headers = frozenset(_HEADER.pack(session_id, message_type) for message_type in _LINK_TYPES)
        self.deadline = None

    def _drop_session(self, *, keep_deadline: bool = False) -> None:
        self.state = SessionState.NO_SESSION
        self.session_id = 0
        self.normal_header = _NO_HEADER
        self.link_headers = frozenset()
        if not keep_deadline:
            self.deadline = None
