"""The host's side of one conversation: a request out, its reply in, and what is done after doubt (docs/protocol.md 6).

Everything here is sans I/O. Operations are generators: each yields a deadline (a time of the caller's clock) whenever
it needs bytes, and is sent `(data, now)`: what arrived, b"" where the deadline passed. Before it waits, the caller
sends what `take_output` gives. `Conversation` speaks frames and sessions, over a serial line; `StreamConversation`
speaks bare packets, over TCP.

**Trust nothing after doubt.** A timeout, a damaged byte, an interrupted call: each leaves a stock board possibly one
message behind, about to answer an old question when the next one comes. So the next operation begins with a new
session, whose id no late answer carries, and with a look-up whose answer is known; only then a request is sent.
A board that even answers the handshake one message behind is cured with a request under the session id that it is
about to choose, because a stock board clears its buffer only when it has handled a request of its current session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from microrpc.errors import (
    BoardResetError,
    CallTimeoutError,
    DamagedReplyError,
    HandshakeTimeoutError,
    OutcomeUnknownError,
    ProtocolError,
)
from microrpc.host.operation import AT_ONCE, Operation, write_by
from microrpc.host.stats import Counters, Stats
from microrpc.wire.datatypes import OpaqueHandle
from microrpc.wire.frames import FrameDecoder, FrameEncoder
from microrpc.wire.packets import CallFunc, PacketCode, Reply, Request, Return, Shutdown, Syscall, encode_packet
from microrpc.wire.reader import ClientEndpoint, request_label
from microrpc.wire.session import (
    Established,
    LateReply,
    LinkMessage,
    Log,
    Message,
    MessageType,
    Session,
    SessionState,
    Terminated,
    Timeouts,
    encode_message,
    make_session_id,
    step_nonce,
)

if TYPE_CHECKING:
    from microrpc.host.linked import LinkedConversation

T = TypeVar("T")

MAX_ATTEMPTS = 3
_LOST_FRAME_BYTES = 9  # so much outside any frame is a frame whose start was damaged; a boot sends one stray byte


class Conversation:
    """A conversation with a board over frames and sessions (docs/protocol.md 1, 2, 5, 6).

    `epoch` counts the board's resets: what was obtained in one epoch is gone in the next; `reply_epoch` is the one in
    which the last reply's request was sent; `repeats` counts the requests that were sent again after doubt;
    `counters` have all else that is counted. `on_log` is called with each line of the board's log. `seed` seeds the
    nonces; `max_reply_bytes` bounds what a peer can make us hold.
    """

    def __init__(
        self,
        *,
        seed: int,
        timeouts: Timeouts,
        on_log: Callable[[str], None] = lambda text: None,
        max_reply_bytes: int = 1 << 24,
    ) -> None:
        self.epoch = 0
        self.reply_epoch = 0
        self.repeats = 0
        self.counters = Counters()
        self.session = Session(seed)
        self._timeouts = timeouts
        self._on_log = on_log
        self._encoder = FrameEncoder()
        self._decoder = FrameDecoder(max_payload_bytes=max_reply_bytes)
        self._client = ClientEndpoint(max_packet_bytes=max_reply_bytes)
        self._output: list[bytes] = []
        self._doubt = ""
        self._damage = ""
        self._skipped_bytes = 0
        self._answered = False
        self._responder_nonce = 0
        self._inits_since = 0
        self._late_session_id = 0
        self._proofs = 0
        self._reopened_epoch = 0
        self._on_reopened: Callable[[bool], None] | None = None

    @property
    def session_id(self) -> int:
        """The id of the session, 0 where none was begun."""
        return self.session.session_id

    @property
    def is_fresh(self) -> bool:
        """Whether no request was answered in this session yet: then stale bytes may narrow the board's buffer."""
        return not self._answered

    linked: LinkedConversation | None = None
    """This, where requests go over a link now (docs/link.md)."""

    def take_output(self) -> bytes:
        """Give the bytes that are to be sent now."""
        if not self._output:
            return b""
        output = b"".join(self._output)
        self.counters.frames_sent += len(self._output)  # each piece is a frame
        self.counters.bytes_sent += len(output)
        self._output.clear()
        return output

    def write_by(self, deadline: float, now: float) -> float:
        """Until when the port may take the output, where the operation waits until `deadline`."""
        return write_by(deadline, now)

    @property
    def stats(self) -> Stats:
        """What was counted so far."""
        linked = self.linked
        return self.counters.snapshot(
            bytes_skipped=self._decoder.bytes_skipped,
            retransmissions=linked.link.retransmissions if linked is not None else 0,
            repeats=self.repeats,
        )

    # --- operations ----------------------------------------------------------------------------

    def open(self) -> Operation[None]:
        """Open a session. Raises HandshakeTimeoutError."""
        data, now = yield AT_ONCE
        self._receive(data, now)
        yield from self._start_session(now)

    def exchange(
        self, request: Request, packet: bytes, *, timeout_s: float, repeatable: bool, epoch: int | None
    ) -> Operation[Reply]:
        """Send `request`, encoded as `packet`, and give its reply.

        A `repeatable` request is sent again after doubt, up to 3 times in all. `epoch` is the one that the request's
        handles come from, None where it has none. Raises CallTimeoutError, DamagedReplyError and BoardResetError,
        which say whether the request may have run; HandshakeTimeoutError; ProtocolError.
        """
        attempt = 1
        while True:
            now = yield from self._prepare()
            self._check_epoch(epoch)
            try:
                return (yield from self._request(request, packet, now + timeout_s, timeout_s))
            except OutcomeUnknownError as error:
                has_handles = epoch is not None or isinstance(request, CallFunc)
                handles_are_gone = isinstance(error, BoardResetError) and has_handles
                if not repeatable or handles_are_gone or attempt == MAX_ATTEMPTS:
                    raise
            attempt += 1
            self.repeats += 1

    def begin(self, epoch: int | None) -> Operation[float]:
        """Come to where a request may be sent; give the time. Raises BoardResetError, HandshakeTimeoutError."""
        now = yield from self._prepare()
        self._check_epoch(epoch)
        return now

    def close(self, shutdown: bool) -> Operation[None]:
        """Say goodbye: Shutdown where `shutdown` is set (a stock board is deaf from then on), and leave the session."""
        yield AT_ONCE
        if self.session.state is SessionState.ESTABLISHED:
            if shutdown:
                self._output.append(self._encoder.encode(self.session.wrap(self._client.shutdown())))
            else:
                self.session.terminate()
                self._flush_session()

    def on_port_reopened(self, on_session: Callable[[bool], None]) -> None:
        """Begin anew: the port went away and is open again. What was under way is void, and the session over.

        The next operation opens a session. `on_session` is called once it is open, with whether the board lost its
        memory meanwhile: it has then said that it booted, or chosen a nonce that is not one of the next.
        """
        self._output.clear()
        self._encoder.reset()
        self._decoder.reset()
        self._client.reset()
        self.session.terminate()
        self.session.outgoing.clear()
        self._damage = ""
        self._doubt = "the port went away"
        if self._on_reopened is None:  # else it went away again before any session, and nothing was told yet
            self._reopened_epoch = self.epoch
        self._on_reopened = on_session

    # --- one request ---------------------------------------------------------------------------

    def _check_epoch(self, epoch: int | None) -> None:
        if epoch is not None and epoch != self.epoch:
            raise BoardResetError(_RESET_BEFORE, may_have_run=False)

    def _prepare(self) -> Operation[float]:
        data, now = yield AT_ONCE
        if data:
            self._receive(data, now)
        if not self._is_calm():
            now = yield from self._settle(now)
        return now

    def _request(self, request: Request, packet: bytes, deadline: float, timeout_s: float) -> Operation[Reply]:
        return self._ask(request, packet, deadline, timeout_s)

    def _ask(self, request: Request, packet: bytes, deadline: float, timeout_s: float) -> Operation[Reply]:
        self._client.expect(request)
        self._output.append(self._encoder.encode(self.session.wrap(packet)))
        self._doubt = "a request was interrupted"  # holds if this generator is closed or thrown into
        epoch = self.reply_epoch = self.epoch
        while True:
            data, now = yield deadline
            reply = self._receive(data, now)
            if reply is not None:
                self._doubt = self._damage
                self._answered = True
                self.counters.note_answer(deadline - timeout_s)
                return reply
            self._give_up_if_due(request_label(request), epoch, now >= deadline, timeout_s)

    def _give_up_if_due(self, label: str, epoch: int, is_late: bool, timeout_s: float) -> None:
        """Raise where the request `label`, sent in `epoch`, cannot be answered any more."""
        if self.epoch != epoch:
            self._doubt = "the board was reset"
            raise BoardResetError(f"{_RESET_DURING} {label}; {_RESET_NEXT}")
        if self._damage:
            self._doubt = self._damage
            raise DamagedReplyError(
                f"{self._damage} while the reply of {label} was awaited; it may have run. "
                f"The next request starts a new session"
            )
        if is_late:
            self._doubt = f"{label} was not answered"
            raise CallTimeoutError(
                f"no reply of {label} within {timeout_s:g} s; it may have run, or still be running. "
                f"Give it a longer timeout_s, or check the board; the next request starts a new session"
            )

    def _receive(self, data: bytes, now: float) -> Reply | None:
        """Take what arrived; give the reply of the request in flight, and note everything else where it belongs."""
        if not data:
            return None
        counters = self.counters
        counters.now = now
        counters.bytes_received += len(data)
        reply: Reply | None = None
        for frame in self._decoder.feed(data):
            if not isinstance(frame, bytes):
                counters.frames_damaged += 1
                self._note_damage(f"damage on the line ({frame})", now)
                continue
            counters.frames_received += 1
            event = self.session.receive(frame)
            if isinstance(event, Message):
                reply = self._on_message(event.body) or reply
            elif isinstance(event, LinkMessage):
                self._on_link_message(event.payload, now)
            elif isinstance(event, Log):
                self._on_log(event.text)
            elif isinstance(event, Terminated):
                self._note_reset()
            elif isinstance(event, LateReply):
                self._late_session_id = event.session_id
            elif isinstance(event, Established):
                self._on_established()
        if self.session.outgoing:
            self._flush_session()
        if self._decoder.bytes_skipped != self._skipped_bytes:
            self._note_skipped(now, lost_frame=reply is None)
        return reply

    def _note_damage(self, what: str, now: float) -> None:
        self._damage = what

    def _note_skipped(self, now: float, *, lost_frame: bool) -> None:
        skipped_bytes = self._decoder.bytes_skipped - self._skipped_bytes
        if not lost_frame:
            self._skipped_bytes += skipped_bytes
        elif skipped_bytes >= _LOST_FRAME_BYTES:
            self._skipped_bytes += skipped_bytes
            self._note_damage(f"damage on the line ({skipped_bytes} bytes outside any frame)", now)

    def _on_link_message(self, payload: bytes, now: float) -> None:
        """Drop it: nobody here asked for a link (`microrpc.host.linked` does)."""

    def _on_message(self, body: bytes) -> Reply | None:
        if self._damage:
            return None  # what follows damage is not believed before the board has proved itself in a new session
        try:
            reply = self._client.feed(body)
        except ProtocolError as error:
            self._client.reset()
            self._damage = f"an answer that fits no request ({error})"
            return None
        if isinstance(reply, Shutdown):
            self._damage = "the board sent Shutdown"
            return None
        return reply

    def _note_reset(self) -> None:
        self.counters.resets += self.counters.sessions > 0  # before the first session it has only booted
        self.epoch += 1
        self._responder_nonce = 0

    def _on_established(self) -> None:
        """Tell a board that went on from one that was reset unseen: its nonces step on with every INIT (2)."""
        self._client.reset()
        self._answered = False
        self.counters.sessions += 1
        if not self._inits_since:
            self._damage = "the board opened a session of its own"
        nonce = self._responder_nonce
        if nonce:
            for _ in range(self._inits_since):
                nonce = step_nonce(nonce)
                if nonce == self.session.responder_nonce:
                    break
            else:
                self._note_reset()
        self._responder_nonce = self.session.responder_nonce
        self._inits_since = 0
        if self._on_reopened is not None:
            on_session, self._on_reopened = self._on_reopened, None
            on_session(self.epoch != self._reopened_epoch)

    def _flush_session(self) -> None:
        for payload in self.session.outgoing:
            self._output.append(self._encoder.encode(payload))
            self._inits_since += payload[2] == MessageType.START_SESSION_INIT
        self.session.outgoing.clear()

    # --- after doubt ---------------------------------------------------------------------------

    def _is_calm(self) -> bool:
        """Whether a request may be sent: a session is open, and nothing that arrived since is doubtful."""
        self._doubt = self._doubt or self._damage
        return not self._doubt and self.session.state is SessionState.ESTABLISHED

    def _settle(self, now: float) -> Operation[float]:
        """Open sessions until one stays, a few times; give the time."""
        for _ in range(MAX_ATTEMPTS):
            yield from self._start_session(now)
            data, now = yield AT_ONCE
            self._receive(data, now)
            if self._is_calm():
                return now
        raise HandshakeTimeoutError(
            f"{MAX_ATTEMPTS} sessions were opened and none stayed ({self._doubt or 'the board was reset each time'}). "
            f"Check its power supply, the cable, and that nothing else writes to this port"
        )

    def _start_session(self, now: float) -> Operation[None]:
        """Open a session, and where anything was doubtful prove the board in step in it."""
        expiry = now + self._timeouts.start_s
        must_prove, in_step = bool(self._doubt), False
        reason = self._doubt or "a new session"
        self._doubt = self._doubt or "no session is open"
        while now < expiry:
            self._damage = ""
            self._late_session_id = 0
            self.session.start(now, retry_s=self._timeouts.retry_s, total_s=expiry - now)
            self._flush_session()
            retry_at = self.session.deadline or now
            now = yield from self._await_session(now)
            if self.session.state is SessionState.ESTABLISHED:
                must_prove = must_prove or now >= retry_at or bool(self._damage or self._late_session_id)
                if must_prove:
                    now, in_step = yield from self._prove(now, expiry)
                if self.session.state is SessionState.ESTABLISHED and (in_step or not must_prove):
                    self._doubt = ""
                    return
            must_prove = True
        raise HandshakeTimeoutError(
            f"no session with the board within {self._timeouts.start_s:g} s (why one was wanted: {reason}). "
            f"Check that it is powered, runs microTVM firmware and is set to this baud rate; then reset it: "
            f"a stock board that met a damaged frame may be deaf until it is"
        )

    def _await_session(self, now: float) -> Operation[float]:
        """Wait for the session to come about or its time to end; cure a board that answers one message behind."""
        epoch = self.epoch
        while self.session.state is SessionState.START_SENT and self.session.deadline is not None:
            behind = self._late_session_id
            deadline = min(self.session.deadline, now + self._timeouts.retry_s / 4) if behind else self.session.deadline
            data, now = yield deadline
            self._receive(data, now)
            if self.session.state is not SessionState.START_SENT:
                break
            if self.epoch != epoch:  # it has booted only now, and its REPLY comes at once or not at all
                epoch = self.epoch
                self.session.retry_by(now + self._timeouts.retry_s / 4)
            if now >= deadline and behind:
                return (yield from self._cure(now, behind))
            self.session.on_time(now)
            self._flush_session()
        return now

    def _cure(self, now: float, behind: int) -> Operation[float]:
        """Bring a stock board in step that handles each message when the next one arrives.

        It holds our INIT unhandled. A request under the id that it will choose makes it handle the INIT; whatever
        comes next makes it handle the request, after which it clears its buffer. Both answers belong to a session
        that is given up at once.
        """
        session_id = make_session_id(self.session.initiator_nonce, step_nonce(behind >> 8))
        message = encode_message(session_id, MessageType.NORMAL, encode_packet(self._proof()))
        for _ in range(2):
            self._output.append(self._encoder.encode(message))
            deadline = now + self._timeouts.retry_s / 4
            while now < deadline:
                data, now = yield deadline
                self._receive(data, now)
            if self.session.session_id != session_id:
                break  # it chose another id: a second request under the wrong one would kill it
        self.session.terminate()
        self.session.outgoing.clear()
        return now

    def _prove(self, now: float, expiry: float) -> Operation[tuple[float, bool]]:
        """Ask what has a known answer: a look-up of a name that cannot exist."""
        self._damage = ""
        request = self._proof()
        packet = encode_packet(request)
        deadline = min(now + max(self._timeouts.retry_s, 0.1), expiry)
        try:
            reply = yield from self._ask(request, packet, deadline, deadline - now)
        except OutcomeUnknownError:
            reply = None
        data, now = yield AT_ONCE
        self._receive(data, now)
        return now, reply == Return((OpaqueHandle(0),))

    def _proof(self) -> Syscall:
        self._proofs += 1
        return Syscall(PacketCode.GET_GLOBAL_FUNC, (f"microrpc.in-step.{self._proofs}",))


_RESET_BEFORE = (
    "the board was reset or without power: its memory is gone, and this request uses a function or array from before; "
    "nothing was sent. Look the function up again, and allocate the array again"
)
_RESET_DURING = "the board was reset during"
_RESET_NEXT = "its memory and all handles are gone. The next request starts a new session"
