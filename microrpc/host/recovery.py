"""What is done after doubt: a new session, and a proof that the board is in step or its cure (docs/protocol.md 6).

A session's id is on every answer, so that no late one is taken for another; and a look-up whose answer is known proves
that the board answers what it is asked. A board that even answers the handshake one message behind is cured with a
request under the session id that it is about to choose, because a stock board clears its buffer only when it has
handled a request of its current session.
"""

from __future__ import annotations

from collections.abc import Callable

from microrpc.errors import OutcomeUnknownError
from microrpc.host.carriers.frames import FrameCarrier
from microrpc.host.diagnosis import Diagnosis
from microrpc.host.line import Line
from microrpc.host.operation import AT_ONCE, Operation
from microrpc.host.trust import Trust
from microrpc.wire.datatypes import OpaqueHandle
from microrpc.wire.packets import PacketCode, Return, Syscall, encode_packet
from microrpc.wire.session import (
    MAX_STARTS,
    MessageType,
    SessionState,
    Timeouts,
    encode_message,
    make_session_id,
    step_nonce,
)

MAX_ATTEMPTS = 3
"""How often something is tried in all, where doubt makes it fail."""

_HANDSHAKE_BYTES = 64  # on the line: TERMINATE, INIT, a boot's TERMINATE and REPLY; 48 where nothing is escaped

_LEAST_PROOF_S = 0.1


class Recovery:
    """Opens sessions over a line, and tells a board that went on from one that was reset unseen."""

    def __init__(
        self, line: Line, frames: FrameCarrier, trust: Trust, timeouts: Timeouts, diagnosis: Diagnosis
    ) -> None:
        self._line = line
        self._session = line.session
        self._frames = frames
        self._trust = trust
        self._timeouts = timeouts
        self._diagnosis = diagnosis
        self._responder_nonce = 0
        self._proofs = 0
        self._reopened_epoch = 0
        self._line_s = line.output.byte_s * _HANDSHAKE_BYTES
        self._on_reopened: Callable[[bool], None] | None = None

    def is_calm(self) -> bool:
        """Whether a request may be sent: a session is open, and nothing that arrived since is doubtful."""
        trust = self._trust
        trust.doubt = trust.doubt or trust.damage
        return not trust.doubt and self._session.state is SessionState.ESTABLISHED

    # --- what the session tells ------------------------------------------------------------------

    def on_reset(self) -> None:
        """Take note of a reset."""
        self._responder_nonce = 0
        self._trust.note_reset()

    def on_established(self) -> bool:
        """Take note of a new session; give whether the board was reset unseen.

        Its nonces step on with every INIT (docs/protocol.md 2).
        """
        self._line.output.sent_by = AT_ONCE
        inits = self._line.inits_sent
        if not inits:
            self._trust.damage = "the board opened a session of its own"
        was_reset = not self._steps_on(inits)
        if was_reset:
            self.on_reset()
        self._responder_nonce = self._session.responder_nonce
        self._line.inits_sent = 0  # last: Ctrl-C before it leaves what the next session can be held against
        return was_reset

    def _steps_on(self, inits: int) -> bool:
        nonce = self._responder_nonce
        for _ in range(inits if nonce else 0):
            nonce = step_nonce(nonce)
            if nonce == self._session.responder_nonce:
                return True
        return not self._responder_nonce

    def tell_reopened(self) -> None:
        """Tell who waits for it that a session stays open over the port that was opened again."""
        if self._on_reopened is not None:
            on_session, self._on_reopened = self._on_reopened, None
            self._trust.is_untold = False
            on_session(self._trust.epoch != self._reopened_epoch)

    def on_port_reopened(self, on_session: Callable[[bool], None]) -> None:
        """Doubt everything: the port went away. `on_session` is told whether the board lost its memory meanwhile."""
        self._trust.damage = ""
        self._trust.doubt = "the port went away"
        if self._on_reopened is None:  # else it went away again before any session, and nothing was told yet
            self._reopened_epoch = self._trust.epoch
        self._on_reopened = on_session

    # --- coming to a session -----------------------------------------------------------------------

    def settle(self, now: float) -> Operation[float]:
        """Open sessions until one stays, a few times; give the time. Raises HandshakeTimeoutError."""
        for _ in range(MAX_ATTEMPTS):
            yield from self.start_session(now)
            data, now = yield AT_ONCE
            self._receive(data, now)
            if self.is_calm():
                return now
        raise self._diagnosis.none_stayed(MAX_ATTEMPTS, self._trust.doubt or "the board was reset each time")

    def start_session(self, now: float, data: bytes = b"") -> Operation[None]:
        """Open a session, and where anything was doubtful prove the board in step in it; `data` came before.

        Raises HandshakeTimeoutError.
        """
        self._diagnosis.begin()
        self._receive(data, now)
        trust, session, line, timeouts = self._trust, self._session, self._line, self._timeouts
        must_prove, in_step = bool(trust.doubt), False
        reason, sessions = trust.doubt, 0
        trust.doubt = trust.doubt or "no session is open"
        few = timeouts.start_s < MAX_STARTS * timeouts.retry_s
        starts = timeouts.start_s / timeouts.retry_s if few else MAX_STARTS
        at, bytes_before = max(now, line.output.sent_by), line.bytes_received  # what is on the line still comes first
        end = at + timeouts.start_s + starts * self._line_s
        while at < (expiry := end + line.carried_s(bytes_before)):
            trust.damage = ""
            line.late_session_id = 0
            line.output.port_is_doubtful = must_prove
            session.start(at, retry_s=timeouts.retry_s + self._line_s, total_s=expiry - at)
            line.send_session()
            retry_at = session.deadline or now
            now = yield from self._await_session(now)
            if session.state is SessionState.ESTABLISHED:
                must_prove = must_prove or now >= retry_at or bool(trust.damage or line.late_session_id)
                if must_prove:
                    now, in_step = yield from self._prove(now, expiry)
                if session.state is SessionState.ESTABLISHED and (in_step or not must_prove):
                    trust.doubt = ""
                    return
            sessions += 1
            if sessions >= MAX_ATTEMPTS:  # however fast a board answers and leaves each
                now = yield from self._listen(now, min(now + timeouts.start_s / MAX_STARTS, expiry))
            must_prove, at = True, max(now, line.output.sent_by)
        raise self._diagnosis.no_session(timeouts.start_s, reason)

    def _await_session(self, now: float) -> Operation[float]:
        """Wait for the session to come about or its time to end; cure a board that answers one message behind."""
        session, line, epoch = self._session, self._line, self._trust.epoch
        soon_s = self._timeouts.retry_s / 4 + self._line_s
        bytes_before, delayed_s = line.bytes_received, 0.0
        while session.state is SessionState.START_SENT and session.deadline is not None:
            behind = line.late_session_id
            deadline = min(session.deadline, now + soon_s) if behind else session.deadline
            data, now = yield deadline
            self._receive(data, now)
            if session.state is not SessionState.START_SENT:
                break
            if self._trust.epoch != epoch:  # it has booted only now, and its REPLY comes at once or not at all
                epoch = self._trust.epoch
                session.retry_by(now + soon_s)
            if now >= deadline and behind:
                return (yield from self._cure(now, behind))
            if now >= deadline:  # the board's answer may stand behind what came meanwhile
                carried_s = line.carried_s(bytes_before)
                session.delay(carried_s - delayed_s)
                delayed_s = carried_s
            session.on_time(now)
            line.send_session()
        return now

    def _cure(self, now: float, behind: int) -> Operation[float]:
        """Bring a stock board in step that handles each message when the next one arrives.

        It holds our INIT unhandled. A request under the id that it will choose makes it handle the INIT; whatever
        comes next makes it handle the request, after which it clears its buffer. Both answers belong to a session
        that is given up at once.
        """
        session = self._session
        session_id = make_session_id(session.initiator_nonce, step_nonce(behind >> 8))
        message = encode_message(session_id, MessageType.NORMAL, encode_packet(self._proof()))
        line_s = self._line_s + len(message) * self._line.output.byte_s
        for _ in range(2):
            self._line.send_payload(message)
            now = yield from self._listen(now, now + self._timeouts.retry_s / 4 + line_s)
            if session.session_id != session_id:
                break  # it chose another id: a second request under the wrong one would kill it
        session.terminate()
        session.outgoing.clear()
        return now

    def _prove(self, now: float, expiry: float) -> Operation[tuple[float, bool]]:
        """Ask what has a known answer: a look-up of a name that cannot exist."""
        self._trust.damage = ""
        request = self._proof()
        packet = encode_packet(request)
        timeout_s = min(max(self._timeouts.retry_s, _LEAST_PROOF_S), expiry - now)
        try:
            reply = yield from self._frames.exchange(request, packet, now, timeout_s)
        except OutcomeUnknownError:
            reply = None
        data, now = yield AT_ONCE
        self._receive(data, now)
        return now, reply == Return((OpaqueHandle(0),))

    def _proof(self) -> Syscall:
        self._proofs += 1
        return Syscall(PacketCode.GET_GLOBAL_FUNC, (f"microrpc.in-step.{self._proofs}",))

    def _listen(self, now: float, until: float) -> Operation[float]:
        """Take what comes until the time `until`; give the time."""
        while now < until:
            data, now = yield until
            self._receive(data, now)
        return now

    def _receive(self, data: bytes, now: float) -> None:
        if data:
            self._diagnosis.note(data)
            self._line.receive(data, now)
