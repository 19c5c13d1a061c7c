"""Frames and the session of one line: bytes in, and what they mean told to a sink (docs/protocol.md 1, 2)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from microrpc.host.output import Output
from microrpc.host.stats import Counters
from microrpc.wire.frames import FrameDecoder, FrameEncoder, Garbage, encode_frame
from microrpc.wire.session import HEADER_SIZE_BYTES, Established, LateReply, Log, MessageType, Session, Terminated
from microrpc.wire.text import TextReader

MOST_UNASKED_BYTES = 16384
"""How much a board may say, in bytes, while an answer of unknown size is awaited, and be waited for."""
_MOST_FRAME_BYTES = 2 * 65536 + 64  # of one that may be that answer: so large are packets, and each byte may be escaped


class Sink(Protocol):
    """Who is told what arrives, in the order of the stream."""

    on_message: Callable[[bytes], bool]
    """Takes the body of a NORMAL message of this session; gives whether that completed the reply of a request."""
    on_link: Callable[[bytes, float], object]
    """Takes the payload of a message of the link, and the time."""

    on_damage: Callable[[str, float], None]
    """Takes what is known of a damaged frame, and the time."""
    on_garbage: Callable[[bytes, float], None]
    """Takes bytes outside of any frame that are no text, and the time."""
    after_garbage: Callable[[bool, float], None]
    """Judges the garbage so far, after all that arrived with it: whether a reply was among that, and the time."""

    def on_log(self, text: str) -> None:
        """Take a line of the board's log."""

    def on_reset(self) -> None:
        """Take note that the board has booted."""

    def on_established(self) -> None:
        """Take note that a session has begun."""

    def on_echo(self) -> None:
        """Take note that what is sent comes back: the line is half-duplex."""


_MOST_ECHOES = 64  # that are waited for; where more are missing, they were lost


class Line:
    """Encodes and decodes for one line, keeps its session, and counts.

    session: that of the line. output: what is to be sent now. inits_sent: INITs since the last session was
    established. frames_echoed: those that came back, and are dropped. late_session_id: of a REPLY to an earlier INIT
    than the last, 0 without one. seed: of the session's nonces. text: takes what the board prints beside its frames.
    max_payload_bytes: bounds what a peer can make us hold.
    """

    def __init__(
        self,
        sink: Sink,
        output: Output,
        counters: Counters,
        text: TextReader,
        *,
        seed: int,
        max_payload_bytes: int,
    ) -> None:
        self.session = Session(seed)
        self.output = output
        self.inits_sent = 0
        self.frames_echoed = 0
        self.late_session_id = 0
        self._sink = sink
        self._counters = counters
        self._text = text
        self._inits: deque[bytes] = deque(maxlen=_MOST_ECHOES)
        self._encoder = FrameEncoder()
        self._decoder = FrameDecoder(max_payload_bytes=max_payload_bytes)

    @property
    def frames_received(self) -> int:
        """How many frames came whole."""
        return self._counters.frames_received

    @property
    def frames_damaged(self) -> int:
        """How many came damaged."""
        return self._counters.frames_damaged

    @property
    def bytes_received(self) -> int:
        """How many bytes came so far, in frames and outside."""
        return self._counters.bytes_received

    @property
    def is_in_frame(self) -> bool:
        """Whether the last byte that came was inside a frame."""
        return self._decoder.in_packet

    def carried_s(self, bytes_before: int, most_bytes: int = MOST_UNASKED_BYTES) -> float:
        """How long the line was busy with what came since `bytes_received` was `bytes_before`, in seconds.

        A deadline is later by that: the answer stands behind it, or is some of it. `most_bytes` of it count, and those
        of a frame that is arriving, so that a board that never stops talking holds nobody up for ever.
        """
        came_bytes = self._counters.bytes_received - bytes_before
        arriving_bytes = min(self._decoder.packet_bytes, came_bytes, _MOST_FRAME_BYTES)
        return (min(came_bytes - arriving_bytes, most_bytes) + arriving_bytes) * self.output.byte_s

    @property
    def bytes_skipped(self) -> int:
        """How many bytes were outside of any frame."""
        return self._decoder.bytes_skipped

    def send_payload(self, payload: bytes) -> None:
        """Send the payload of one frame, in a session or without one (docs/protocol.md 2)."""
        self.output.pieces.append(self._encoder.encode(payload))

    def send_session(self) -> None:
        """Send what the session wants sent."""
        for payload in self.session.outgoing:
            if payload[2] == MessageType.START_SESSION_INIT:
                self.inits_sent += 1  # Ctrl-C may come between: one too many is harmless, one too few is a reset
                self._inits.append(payload)
            self.send_payload(payload)
        self.session.outgoing.clear()

    def receive(self, data: bytes, now: float) -> None:
        """Take what arrived at `now`, and tell the sink what it means."""
        sink, session, counters, echo = self._sink, self.session, self._counters, self.output.echo
        counters.now = now
        counters.bytes_received += len(data)
        was_answered = has_garbage = False
        for item in self._decoder.feed(data):
            if isinstance(item, bytes):
                if echo is not None and self._is_echo(item):
                    continue
                counters.frames_received += 1
                header = item[:HEADER_SIZE_BYTES]
                if header == session.normal_header:
                    was_answered = sink.on_message(item[HEADER_SIZE_BYTES:]) or was_answered
                elif header in session.link_headers:
                    sink.on_link(item, now)
                else:
                    self._on_session_message(item)
            elif isinstance(item, Garbage):
                if broken := self._text.feed(item.data, now, self._frames()):
                    has_garbage = True
                    sink.on_garbage(broken, now)
            else:
                counters.frames_damaged += 1
                self._text.after_damage(self._frames())
                sink.on_damage(f"damage on the line ({item})", now)
        if session.outgoing:
            self.send_session()
        if has_garbage:
            sink.after_garbage(was_answered, now)

    def _frames(self) -> int:
        return self._counters.frames_received + self._counters.frames_damaged + self.frames_echoed

    def _is_echo(self, payload: bytes) -> bool:
        """Tell whether a frame was sent from here; then what was sent before it comes back no more.

        No board sends what a host does, but TERMINATE, and which of two came back does not matter.
        """
        frame, sent = encode_frame(payload), self.output.echo
        at = next((at for at, piece in enumerate(sent or ()) if piece.endswith(frame)), None)
        if at is None or sent is None:
            return False
        for _ in range(at + 1):
            sent.popleft()
        self.frames_echoed += 1
        return True

    def _on_session_message(self, payload: bytes) -> None:
        if payload in self._inits:  # which only a host sends, and it has a nonce of this one
            self._on_own_init()
            return
        event = self.session.receive(payload)
        if isinstance(event, Log | Terminated):
            self._text.flush()  # it was printed before
        if isinstance(event, Log):
            self._sink.on_log(event.text)
        elif isinstance(event, Terminated):
            self._sink.on_reset()
        elif isinstance(event, LateReply):
            self.late_session_id = event.session_id
        elif isinstance(event, Established):
            self._sink.on_established()

    def _on_own_init(self) -> None:
        self._counters.frames_received -= 1
        self.frames_echoed += 1
        if self.output.echo is None:
            self.output.echo = deque(maxlen=_MOST_ECHOES)
            self._sink.on_echo()

    def reset(self) -> None:
        """Begin anew over a port that was opened again: nothing is under way, and no session is open."""
        self.output.pieces.clear()
        if self.output.echo is not None:
            self.output.echo.clear()
        self._text.flush()
        self._encoder.reset()
        self._decoder.reset()
        self.session.terminate()
        self.session.outgoing.clear()
