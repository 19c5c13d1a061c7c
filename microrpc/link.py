"""The reliable link: requests that run once and copies that arrive whole over a line that damages and loses bytes.

docs/link.md specifies it. `LinkHost` and `LinkDevice` are its two state machines, sans I/O: frame payloads and times
in, frame payloads out. `microrpc.conversation` uses the one, the simulated board the other.
"""

from __future__ import annotations

import enum
import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from microrpc.framing import encode_frame
from microrpc.session import MessageType

__all__ = [
    "LINK_FUNCTION",
    "LinkDevice",
    "LinkHost",
    "LinkParameters",
    "LinkReply",
    "LinkRequest",
    "Noise",
    "ReplyKind",
    "RequestKind",
    "decode_link_message",
    "encode_link_message",
]

_Buffer: TypeAlias = bytes | memoryview

LINK_FUNCTION = "microrpc.link"
LINK_VERSION = 1
MAX_WINDOW_REQUESTS = 32

WRITE_OVERHEAD_BYTES = 18
"""What a WRITE takes of a packet besides its data: session header, seq, kind, address and crc32."""
DATA_OVERHEAD_BYTES = 10
"""What a DATA reply takes besides its data."""

_HEAD = struct.Struct("<HBH")  # session id, message type, seq
_HEAD_AND_KIND = struct.Struct("<HBHB")
_CRC = struct.Struct("<I")
_CRC_OF_GOOD = 0x2144DF1C  # the crc32 of anything with its own crc32 behind it
_ADDRESS = struct.Struct("<Q")
_RANGE = struct.Struct("<QI")
_LEAST_MESSAGE_BYTES = _HEAD.size + _CRC.size
_SEQ_MODULUS = 1 << 16
_FRAME_BYTES = 8

_LEAST_BLOCK_BYTES = 32
_NOISE_WINDOW_BYTES = 128 * 1024
_FEW_LOSSES = 0.1  # one, long ago

_FIRST_ROUND_TRIP_S = 0.05  # before anything was measured
_LEAST_PATIENCE_S = 0.02
_MOST_PATIENCE_S = 1.0
_MOST_BACK_OFFS = 8


class RequestKind(enum.IntEnum):
    """What a LINK_REQUEST carries."""

    PACKET = 0
    WRITE = 1
    READ = 2


class ReplyKind(enum.IntEnum):
    """What a LINK_REPLY carries."""

    PACKET = 0
    DONE = 1
    DATA = 2
    FORGOTTEN = 3


# An enumeration costs a lot to look up in: these are used for each message.
_MESSAGE_TYPES = {int(message_type): message_type for message_type in MessageType}
_REQUEST_KINDS = {int(kind): kind for kind in RequestKind}
_REPLY_KINDS = {bytes((kind,)): kind for kind in ReplyKind}
_LINK_REQUEST, _LINK_REPLY, _LINK_NAK = MessageType.LINK_REQUEST, MessageType.LINK_REPLY, MessageType.LINK_NAK
_PACKET, _WRITE, _READ = RequestKind


@dataclass(frozen=True, slots=True)
class LinkParameters:
    """What a device tells of its link, packed into the 8 bytes of a handle (docs/link.md 1)."""

    window_requests: int
    packet_bytes: int
    window_bytes: int

    @property
    def handle(self) -> int:
        """The handle that the look-up gives."""
        return LINK_VERSION | self.window_requests << 8 | self.packet_bytes << 16 | self.window_bytes << 40

    @classmethod
    def from_handle(cls, handle: int) -> LinkParameters | None:
        """Read what a look-up gave; None for 0, another version, and what makes no sense."""
        window_requests, packet_bytes = handle >> 8 & 0xFF, handle >> 16 & 0xFFFFFF
        if handle & 0xFF != LINK_VERSION or not 1 <= window_requests <= MAX_WINDOW_REQUESTS:
            return None
        if packet_bytes <= WRITE_OVERHEAD_BYTES:
            return None
        return cls(window_requests, packet_bytes, handle >> 40 & 0xFFFFFF)


class LinkMessage(NamedTuple):
    """One good message: its type, its sequence number, and what is between that and the crc32."""

    type: MessageType
    seq: int
    content: bytes


def encode_link_message(session_id: int, message_type: MessageType, seq: int, *content: _Buffer) -> bytes:
    """Give the frame payload of a message (docs/link.md 2)."""
    body = b"".join((_HEAD.pack(session_id, message_type, seq), *content))
    return body + _CRC.pack(zlib.crc32(body))


def _encode_with_kind(session_id: int, message_type: MessageType, seq: int, kind: int, *body: _Buffer) -> bytes:
    """Give the frame payload of a request or reply."""
    message = b"".join((_HEAD_AND_KIND.pack(session_id, message_type, seq, kind), *body))
    return message + _CRC.pack(zlib.crc32(message))


def decode_link_message(payload: bytes) -> LinkMessage | None:
    """Read a message; None where its crc32 is wrong or it is too short to have one."""
    if len(payload) < _LEAST_MESSAGE_BYTES or zlib.crc32(payload) != _CRC_OF_GOOD:
        return None
    _, message_type, seq = _HEAD.unpack_from(payload)
    return LinkMessage(_MESSAGE_TYPES[message_type], seq, payload[_HEAD.size : -_CRC.size])


def _distance(seq: int, base: int) -> int:
    """How far `seq` is ahead of `base`; negative where it is behind."""
    return (seq - base + _SEQ_MODULUS // 2) % _SEQ_MODULUS - _SEQ_MODULUS // 2


# --- the device ---------------------------------------------------------------------------------------


@dataclass
class LinkDevice:
    """The device's side of one session (docs/link.md 3).

    execute: runs a request (its kind, its body, and whether a WRITE is only to be checked and not made) and gives the
    kind and body of its reply. reply_bytes: the longest PACKET reply, in frame payload, that is kept for a repetition.
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
        kind = _REQUEST_KINDS.get(message.content[0]) if message is not None and message.content else None
        if message is None or kind is None:
            return self.on_damage()
        self.is_active = True
        self.has_complained = False
        body = message.content[1:]
        ahead = _distance(message.seq, self.base)
        if ahead >= self.parameters.window_requests:
            return None
        is_old = ahead < 0 or bool(self.done >> ahead & 1)
        if kind is _PACKET:
            return self._repeat(message.seq) if is_old else self._execute_packet(message.seq, ahead, body)
        reply = self._reply(message.seq, *self.execute(kind, body, is_old))
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
        return encode_link_message(self.session_id, _LINK_NAK, self.base)

    def _execute_packet(self, seq: int, ahead: int, body: bytes) -> bytes:
        if ahead:
            return self._nak()
        # Noted before it runs: whatever happens meanwhile, it must not run twice.
        self._mark(0)
        self.last_seq, self.last_reply = seq, b""
        reply = self._reply(seq, *self.execute(_PACKET, body, False))
        if len(reply) <= self.reply_bytes:
            self.last_reply = reply
        return reply

    def _repeat(self, seq: int) -> bytes | None:
        if seq != self.last_seq:
            return None
        return self.last_reply or self._reply(seq, ReplyKind.FORGOTTEN, b"")

    def _reply(self, seq: int, kind: ReplyKind, body: bytes) -> bytes:
        return _encode_with_kind(self.session_id, _LINK_REPLY, seq, kind, body)

    def _mark(self, ahead: int) -> None:
        self.done |= 1 << ahead
        while self.done & 1:
            self.done >>= 1
            self.base = (self.base + 1) % _SEQ_MODULUS


def unpack_write(body: bytes) -> tuple[int, memoryview]:
    """Give the address and the data of a WRITE. Raises struct.error where it is too short."""
    return _ADDRESS.unpack_from(body)[0], memoryview(body)[_ADDRESS.size :]


def unpack_read(body: bytes) -> tuple[int, int]:
    """Give the address and the size in bytes of a READ. Raises struct.error where it has another length."""
    address, size_bytes = _RANGE.unpack(body)
    return address, size_bytes


# --- the host -----------------------------------------------------------------------------------------


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
        return _FRAME_BYTES + DATA_OVERHEAD_BYTES + (self.size_bytes if self.kind is _READ else 0)


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
        frame = self._encode(self._next_seq, _PACKET, packet)
        request = LinkRequest(_PACKET, self._next_seq, frame)
        self._send(request, now)
        return request.seq

    def prepare_write(self, address: int, data: memoryview) -> LinkRequest:
        """Encode a WRITE, to be the next request that is sent."""
        request = LinkRequest(_WRITE, self._next_seq, b"", address, data, len(data))
        request.frame = self._encode_copy(request)
        return request

    def prepare_read(self, address: int, size_bytes: int) -> LinkRequest:
        """Encode a READ, to be the next request that is sent."""
        request = LinkRequest(_READ, self._next_seq, b"", address, None, size_bytes)
        request.frame = self._encode_copy(request)
        return request

    def try_send(self, request: LinkRequest, now: float) -> bool:
        """Send what was prepared, if the window has room for it; tell whether it had."""
        if not self._has_room(len(request.frame)):
            return False
        self._send(request, now)
        return True

    def _encode(self, seq: int, kind: RequestKind, *body: _Buffer) -> bytes:
        return encode_frame(_encode_with_kind(self._session_id, _LINK_REQUEST, seq, kind, *body))

    def _encode_copy(self, request: LinkRequest) -> bytes:
        if request.data is not None:
            data = request.data[: request.size_bytes]
            return self._encode(request.seq, request.kind, _ADDRESS.pack(request.address), data)
        return self._encode(request.seq, request.kind, _RANGE.pack(request.address, request.size_bytes))

    def _has_room(self, wire_bytes: int) -> bool:
        unanswered = self._unanswered
        if not unanswered:
            return True
        lowest = next(iter(unanswered))  # seqs go up in the order of insertion
        if _distance(self._next_seq, lowest) >= self.parameters.window_requests:
            return False
        sizes = [len(request.frame) for request in unanswered.values()] + [wire_bytes]
        return sum(sizes) - min(sizes) <= self.parameters.window_bytes

    def _send(self, request: LinkRequest, now: float) -> None:
        self._next_seq = (request.seq + 1) % _SEQ_MODULUS
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
        if request.kind is not _PACKET and request.size_bytes > 2 * self.block_bytes:
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
        if message.type is _LINK_NAK:
            self._repeat_oldest(now)
            return None
        request = self._unanswered.get(message.seq)
        kind = _REPLY_KINDS.get(message.content[:1])
        if request is None or kind is None or message.type is not _LINK_REPLY:
            return None
        del self._unanswered[message.seq]
        self.noise.note_success(request.wire_bytes)
        if request.transmissions == 1 or request.was_late:  # else it was lost, and this is the time of another
            round_trip = self._packets if request.kind is _PACKET else self._copies
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
        is_copy = request.kind is not _PACKET and self._copies.is_measured
        return self._copies if is_copy else self._packets


@dataclass(slots=True)
class RoundTrip:
    """What a round trip takes besides the bytes themselves, smoothed as TCP does it (RFC 6298)."""

    smoothed_s: float = _FIRST_ROUND_TRIP_S
    deviation_s: float = _FIRST_ROUND_TRIP_S / 2
    is_measured: bool = False
    back_offs: int = 0
    patience_s: float = 3 * _FIRST_ROUND_TRIP_S
    """How long a reply is waited for, past the time of its bytes, before the request is sent again."""

    def measure(self, sample_s: float) -> None:
        """Take note of how long an answer took."""
        self.back_offs = 0
        if self.is_measured:
            self.deviation_s += (abs(self.smoothed_s - sample_s) - self.deviation_s) / 4
            self.smoothed_s += (sample_s - self.smoothed_s) / 8
        else:
            self.is_measured = True
            self.smoothed_s, self.deviation_s = sample_s, sample_s / 2
        self._set_patience()

    def back_off(self) -> None:
        """Wait for twice as long, until something is measured."""
        self.back_offs = min(self.back_offs + 1, _MOST_BACK_OFFS)
        self._set_patience()

    def _set_patience(self) -> None:
        patience_s = self.smoothed_s + max(4 * self.deviation_s, _LEAST_PATIENCE_S)
        self.patience_s = min(patience_s * (1 << self.back_offs), _MOST_PATIENCE_S)


@dataclass(slots=True)
class Noise:
    """How often something is lost, over about the last 128 KiB."""

    bytes_passed: float = 0.0
    losses: float = 0.0

    def note_success(self, wire_bytes: int) -> None:
        """Take note of a request and its reply that have passed."""
        self.bytes_passed += wire_bytes
        if self.bytes_passed > _NOISE_WINDOW_BYTES:
            self.bytes_passed /= 2
            self.losses /= 2

    def note_loss(self, wire_bytes: int) -> None:
        """Take note of a request that was lost, or whose reply was; its bytes count all the same."""
        self.losses += 1
        self.note_success(wire_bytes)

    def best_block_bytes(self, most_bytes: int) -> int:
        """Give the size of a block that wastes least: for its header where it is small, for its losses where not."""
        if self.losses < _FEW_LOSSES:
            return most_bytes
        best = math.sqrt((WRITE_OVERHEAD_BYTES + _FRAME_BYTES) * self.bytes_passed / self.losses)
        return min(max(int(best), _LEAST_BLOCK_BYTES), most_bytes)
