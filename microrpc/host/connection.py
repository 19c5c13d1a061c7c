"""The host's side of one connection: a request out, its reply in, and what may be tried again (docs/protocol.md 6).

A `Connection` speaks frames and sessions, over a serial line. Its line tells it what arrives, its carrier takes
requests to the board: frames, or the link where the board knows it (docs/link.md). Its operations are generators
(`microrpc.host.operation`). `microrpc.host.stream` has the same over bare packets.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from microrpc.errors import BoardResetError, CallCancelledError, FeatureMissingError, OutcomeUnknownError
from microrpc.host.blocks import Noise
from microrpc.host.cancelled import between_error
from microrpc.host.carriers import Carrier
from microrpc.host.carriers.frames import FrameCarrier
from microrpc.host.carriers.link import LinkCarrier
from microrpc.host.diagnosis import Diagnosis
from microrpc.host.events import NO_EVENTS, EventHost
from microrpc.host.job import CopyJob, Progress
from microrpc.host.line import Line
from microrpc.host.link import LinkHost
from microrpc.host.negotiation import ATTEMPTS, Negotiation
from microrpc.host.notices import Notices
from microrpc.host.operation import AT_ONCE, Operation
from microrpc.host.output import Output
from microrpc.host.recovery import MAX_ATTEMPTS, Recovery
from microrpc.host.stats import Counters, Stats
from microrpc.host.trust import Trust
from microrpc.wire.features import Feature, Features
from microrpc.wire.link import LinkParameters
from microrpc.wire.packets import CallFunc, Reply, Request
from microrpc.wire.session import SessionState, Timeouts
from microrpc.wire.text import TextReader
from microrpc.wire.uart import BITS_PER_BYTE


class Connection:
    """A connection to a board over frames and sessions (docs/protocol.md 1, 2, 5, 6; docs/link.md).

    trust: what is believed of the board, the count of its resets among that. repeats: requests that were sent again
    after doubt; counters: all else that is counted; output: what is to be sent now; events: what the board says without
    being asked, which comes in operations of any kind. line, session: what it speaks over;
    recovery: what opens sessions; diagnosis: what says why one did not come about. carrier: what takes requests now,
    `frames` or the link; what arrives goes to `on_message` of the frames, and to `on_link`, `on_damage`, `on_garbage`
    and `after_garbage` of the carrier.

    `on_log` is called with each line of the board's log, `on_text` with each that it prints beside its frames, which is
    no damage (docs/protocol.md 7). `seed` seeds the nonces; `timeouts`: in seconds; `link`: ask the board once a boot
    whether it knows the link; `port`: its name, for messages; `ring_bytes`: of the ring in front of a stock board's
    receive buffer, 0 where nobody knows; `baud`: of the line in bits a second, None where nobody knows: what its bytes
    take is allowed for beside all `timeouts`; `max_reply_bytes` bounds what a peer can make us hold.
    """

    def __init__(
        self,
        *,
        seed: int,
        timeouts: Timeouts,
        on_log: Callable[[str], None] = lambda text: None,
        on_text: Callable[[str], None] = lambda text: None,
        link: bool = True,
        port: str = "",
        ring_bytes: int = 0,
        baud: int | None = None,
        max_reply_bytes: int = 1 << 24,
    ) -> None:
        self.trust = Trust(text=TextReader(on_text))
        self.counters = Counters(baud)
        self.repeats = 0
        self.events = EventHost()
        self.on_log = on_log
        self._timeouts = timeouts
        self.output = Output(self.counters, byte_s=BITS_PER_BYTE / baud if baud else 0.0)
        self.line = line = Line(
            self, self.output, self.counters, self.trust.text, seed=seed, max_payload_bytes=max_reply_bytes
        )
        self.session = line.session
        self.frames = FrameCarrier(
            line, self.trust, self.counters, ring_bytes=ring_bytes, max_reply_bytes=max_reply_bytes
        )
        self.diagnosis = Diagnosis(line, self.trust.text, port=port, baud=baud)
        self.recovery = Recovery(line, self.frames, self.trust, timeouts, self.diagnosis)
        self.carrier: Carrier = self.frames
        self.on_message: Callable[[bytes], bool] = self.frames.on_message
        self.on_link: Callable[[bytes, float], object]
        self.on_damage: Callable[[str, float], None]
        self.on_garbage: Callable[[bytes, float], None]
        self.after_garbage: Callable[[bool, float], None]
        self._use(self.frames)
        self._is_ready = False
        self._negotiation = Negotiation(self.frames, line, self.trust, timeouts, asks=link)
        self._noise = Noise()

    @property
    def session_id(self) -> int:
        """The id of the session, 0 where none was begun."""
        return self.session.session_id

    @property
    def is_fresh(self) -> bool:
        """Whether no request was answered in this session yet: then stale bytes may narrow the board's buffer."""
        return self.frames.is_fresh

    @property
    def link(self) -> LinkParameters | None:
        """What the board told of its link; None without one, and before the first request."""
        return self.carrier.parameters

    @property
    def features(self) -> Features:
        """What the board knows besides; nothing without a link, and before the first request."""
        return self._negotiation.features

    @property
    def limit_bytes(self) -> int | None:
        """The largest packet that the board takes, without its packet_nbytes; None where it must be asked."""
        return self.carrier.limit_bytes

    @property
    def stats(self) -> Stats:
        """What was counted so far."""
        return self.counters.snapshot(
            bytes_skipped=self.line.bytes_skipped,
            retransmissions=self.carrier.retransmissions,
            repeats=self.repeats,
        )

    # --- operations ----------------------------------------------------------------------------

    def open(self) -> Operation[None]:
        """Open a session. Raises HandshakeTimeoutError."""
        data, now = yield AT_ONCE
        yield from self.recovery.start_session(now, data)

    def begin(self, epoch: int | None) -> Operation[float]:
        """Come to where a request may be sent; give the time. Raises BoardResetError, HandshakeTimeoutError."""
        trust = self.trust
        data, now = yield AT_ONCE
        if data:
            self.line.receive(data, now)
        if trust.doubt or trust.damage or not self._is_ready:
            now = yield from self._begin_slowly(now)
        trust.check_epoch(epoch)
        return now

    def exchange(
        self,
        request: Request,
        packet: bytes,
        *,
        timeout_s: float,
        repeatable: bool,
        epoch: int | None,
        on_progress: Progress | None = None,
        renews: bool = False,
        beside: CopyJob | None = None,
    ) -> Operation[Reply]:
        """Send `request`, encoded as `packet`, and give its reply.

        A `repeatable` request is sent again after doubt, up to 3 times in all. `epoch` is the one that the request's
        handles come from, None where it has none. on_progress: told how far a call has come, where the board tells;
        renews: then `timeout_s`, in which it may be silent, begins anew. beside: a copy to memory that the request does
        not use, of which the carrier may send what it can meanwhile; what is left is its `todo`. Raises
        CallTimeoutError, CallCancelledError, DamagedReplyError and BoardResetError, which say whether the request may
        have run; HandshakeTimeoutError; ProtocolError.
        """
        trust = self.trust
        attempt = 1
        while True:
            # `begin`, written out, since that spares each call a generator. Its first read is never left out: what
            # arrived between two requests may tell of a reset.
            data, now = yield AT_ONCE
            if data:
                self.line.receive(data, now)
            if trust.doubt or trust.damage or not self._is_ready:
                now = yield from self._begin_slowly(now)
            if epoch is not None and epoch != trust.epoch:
                trust.check_epoch(epoch)
            if not trust.is_preparing:
                trust.is_used = trust.is_asking = True
            try:
                return (yield from self.carrier.exchange(request, packet, now, timeout_s, on_progress, renews, beside))
            except CallCancelledError:
                raise
            except OutcomeUnknownError as error:
                has_handles = epoch is not None or isinstance(request, CallFunc)
                handles_are_gone = isinstance(error, BoardResetError) and has_handles
                if not repeatable or handles_are_gone or attempt == MAX_ATTEMPTS:
                    raise
            attempt += 1
            self.repeats += 1

    def copy(self, job: CopyJob) -> Operation[None]:
        """Copy what is to do, and go on in a new session with what is not done where anything was doubtful.

        Raises as `exchange`, after 3 attempts at the same place; and RemoteError.
        """
        attempt, done_bytes = 1, 0
        while job.todo:
            now = yield from self.begin(job.epoch)
            self.trust.is_used = self.trust.is_asking = True
            try:
                yield from self.carrier.copy(job, now)
            except OutcomeUnknownError as error:
                if job.done_bytes > done_bytes:
                    attempt, done_bytes = 1, job.done_bytes
                if isinstance(error, BoardResetError) or attempt == MAX_ATTEMPTS:
                    raise
                attempt += 1
                self.repeats += 1

    def cancel(self, now: float) -> bool:
        """Cancel the operation under way, from between two of its steps: the board is told, and it ends by itself.

        It is to be sent an arrival at once, of b"" where nothing came, and raises CallCancelledError within the
        `cancel_s` of its timeouts, or gives its result where the function did not heed it. False where the board
        cannot be told, or was told already: then the operation is closed, and the next request begins in doubt.
        """
        if not self.carrier.cancel(now):
            return False
        self.trust.is_cancelled = True
        self._is_ready = False  # what the operation would ask next comes by there
        return True

    def listen(self, timeout_s: float, *, until_event: bool = False) -> Operation[int]:
        """Take what comes for `timeout_s` seconds, or `until_event`; give how many events were delivered.

        A session is opened where there is none, or doubt; a reset that the program does not know of yet is left for
        the next request to tell. Raises FeatureMissingError where events are wanted and the board sends none, and
        HandshakeTimeoutError.
        """
        delivered, wanted = self.events.delivered, self.events.sink.is_wanted
        data, now = yield AT_ONCE
        until = now + timeout_s
        if data:
            self.line.receive(data, now)
        while True:
            if wanted and (self.trust.doubt or self.trust.damage or not self._is_ready):
                now = yield from self._begin_slowly(now, tells=False)
            if wanted and not self.features.known & Feature.EVENTS:
                raise FeatureMissingError(
                    f"{NO_EVENTS}: they need firmware with the reliable link and MICRORPC_EVENTS, and `link=True` here"
                )
            if until_event and self.events.delivered > delivered:
                until = now
            now = yield from self.carrier.listen(now, until)
            if now >= until:
                return self.events.delivered - delivered

    @property
    def listens_at(self) -> float:
        """When `listen` has something to send, although nothing came; infinity where it has not."""
        if self.carrier is not self.frames and not self.trust.doubt:
            return self.carrier.listens_at
        is_possible = self._negotiation.is_due or self.features.known & Feature.EVENTS
        is_wanted = self.events.sink.is_wanted and self.events.sink.has_room
        return AT_ONCE if is_wanted and is_possible else math.inf

    def close(self, shutdown: bool) -> Operation[None]:
        """Say goodbye: Shutdown where `shutdown` is set (a stock board is deaf from then on), and leave the session."""
        data, now = yield AT_ONCE
        if data:
            self.line.receive(data, now)
        self.trust.text.flush()
        if self.session.state is SessionState.ESTABLISHED:
            if shutdown:
                self.frames.shutdown()
            else:
                self.session.terminate()
                self.line.send_session()

    def on_port_reopened(self, on_session: Callable[[bool], None], port: str) -> None:
        """Begin anew: the port went away and is open again as `port`. What was under way is void, and the session over.

        The next operation opens a session. `on_session` is called once it is open, with whether the board lost its
        memory meanwhile: it has then said that it booted, or chosen a nonce that is not one of the next.
        """
        self.diagnosis.port = port
        self.line.reset()
        self.frames.reset()
        self.recovery.on_port_reopened(on_session)
        self._on_session_over()

    # --- coming to where a request may be sent -----------------------------------------------------

    def _begin_slowly(self, now: float, *, tells: bool = True) -> Operation[float]:
        """Settle what is doubtful, and once an epoch ask for the link and its features.

        Tell of a reset that the program missed, where this `tells`, and that the operation is cancelled.
        """
        trust = self.trust
        if trust.is_cancelled:
            raise between_error()
        negotiation = self._negotiation
        failures = 0
        for _ in range(2 * ATTEMPTS):
            if not self.recovery.is_calm():
                self._on_session_over()
                now = yield from self.recovery.settle(now)
            if negotiation.is_due:
                question = negotiation.question
                now = yield from negotiation.ask(now)
                failures += negotiation.question == question
                if failures == ATTEMPTS:
                    break
                if negotiation.is_due or not self.recovery.is_calm():
                    continue
            self.recovery.tell_reopened()
            self._be_ready()
            if tells:
                trust.tell_reset()
            return now
        raise self.diagnosis.none_stayed(ATTEMPTS, "in none of them a look-up was answered")

    def _be_ready(self) -> None:
        self._is_ready = not self.trust.is_untold  # else the next request comes here too, and tells
        if self._negotiation.parameters is not None and self.carrier is self.frames:
            self._use(self._make_link(self._negotiation.parameters))

    def _make_link(self, parameters: LinkParameters) -> LinkCarrier:
        features, byte_s, session_id = self.features, self.output.byte_s, self.session_id
        sends_events = bool(features.known & Feature.EVENTS)
        if sends_events:
            self.events.begin(session_id, parameters.packet_bytes, byte_s)
        notices = Notices(
            session_id,
            self.events if sends_events else None,
            keep_alive_s=features.host_timeout_ms / 3000 or math.inf,
            byte_s=byte_s,
            now=self.counters.now,
        )
        if features.host_timeout_ms:
            self.events.sink.wake()
        host = LinkHost(
            session_id,
            parameters,
            byte_s=byte_s,
            noise=self._noise,
            takes_turns=self.output.echo is not None,
            notices=notices,
        )
        return LinkCarrier(
            host,
            self.line,
            self.trust,
            self.counters,
            known=features.known,
            silence_s=self._timeouts.call_s,
            cancel_s=self._timeouts.cancel_s,
        )

    def _use(self, carrier: Carrier) -> None:
        self.carrier = carrier
        self.on_link = carrier.on_link
        self.on_damage = carrier.on_damage
        self.on_garbage = carrier.on_garbage
        self.after_garbage = carrier.after_garbage

    # --- what arrives (the line's sink) ------------------------------------------------------------

    def on_reset(self) -> None:
        """Take note that the board has booted: its memory is gone."""
        self.counters.resets += self.counters.sessions > 0  # before the first session it has only booted
        self.recovery.on_reset()
        self.events.on_reset()
        self._on_session_over()

    def on_established(self) -> None:
        """Take note that a session has begun."""
        self.frames.reset()
        self.counters.sessions += 1
        if self.recovery.on_established():
            self.counters.resets += 1
            self.events.on_reset()
        self._on_session_over()

    def on_echo(self) -> None:
        """Take turns from now on: what is sent comes back, so the line carries one direction at a time."""
        self.frames.take_turns()

    def _on_session_over(self) -> None:
        self._is_ready = False
        self.events.end()
        self.counters.retransmissions += self.carrier.retransmissions
        self.output.give_up_at = AT_ONCE
        self._use(self.frames)
