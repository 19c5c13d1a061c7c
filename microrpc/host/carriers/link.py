"""Requests over the reliable link (docs/link.md): damage is no doubt here, the link repeats what was lost."""

from __future__ import annotations

from microrpc.errors import (
    BoardResetError,
    CallCancelledError,
    CallTimeoutError,
    DamagedReplyError,
    OutcomeUnknownError,
    ProtocolError,
)
from microrpc.host.cancelled import ended_error
from microrpc.host.carriers.linkcopy import LinkCopy
from microrpc.host.job import CopyJob, Progress
from microrpc.host.line import MOST_UNASKED_BYTES, Line
from microrpc.host.link import LinkHost
from microrpc.host.linkrequest import LinkReply
from microrpc.host.operation import AT_ONCE, Operation
from microrpc.host.stats import Counters
from microrpc.host.trust import INTERRUPTED, Trust
from microrpc.wire.features import NONE, Feature
from microrpc.wire.frames import FRAME_OVERHEAD_BYTES
from microrpc.wire.link import CALL, PACKET, LinkParameters, ReplyKind
from microrpc.wire.names import MESSAGE_OVERHEAD_BYTES, PACKET_NBYTES
from microrpc.wire.packets import CallFunc, RemoteException, Reply, Request, Return, decode_packet
from microrpc.wire.reader import request_label

_MOST_PAUSE_S = 0.2  # that a request waits for the answer to a notice, where both do not fit
_FLUSH_S = 1.0  # how long the port may take for a notice
_PROMPT_S = 1e-3  # a port that takes what is sent within this did so at once
_PROGRESS_BYTES = FRAME_OVERHEAD_BYTES + 17  # of one on the wire, without what is escaped


class LinkCarrier:
    """The link of one session, with which it ends. `host` is its state, and takes the messages `on_link`.

    known: what the device knows besides. silence_s: how long one may be silent that tells of progress. cancel_s: how
    long a call that was cancelled may take to end.
    """

    def __init__(
        self,
        host: LinkHost,
        line: Line,
        trust: Trust,
        counters: Counters,
        *,
        known: Feature = NONE,
        silence_s: float = 5.0,
        cancel_s: float = 1.0,
    ) -> None:
        self.host = host
        self.on_link = host.receive
        self._line = line
        self._trust = trust
        self._counters = counters
        self._is_just_sent = False
        self._events, self._keeps_alive = host.notices.events, host.notices.keeps_alive
        self._can_cancel = bool(known & Feature.CANCEL)
        self._call_kind = CALL if known & (Feature.PROGRESS | Feature.CANCEL) else PACKET
        self._silence_s = host.silence_s = silence_s
        self._cancel_s = cancel_s
        self._is_cancelled = False

    @property
    def parameters(self) -> LinkParameters:
        """What the board told of the link."""
        return self.host.parameters

    @property
    def limit_bytes(self) -> int:
        """The largest packet that the board takes, without its packet_nbytes, as GetCRTMaxPacketSize counts."""
        return self.host.parameters.packet_bytes - MESSAGE_OVERHEAD_BYTES  # a LINK_REQUEST has one byte less

    @property
    def retransmissions(self) -> int:
        """How often a request was sent again."""
        return self.host.retransmissions

    # --- one request ---------------------------------------------------------------------------

    def exchange(
        self,
        request: Request,
        packet: bytes,
        now: float,
        timeout_s: float,
        on_progress: Progress | None = None,
        renews: bool = False,
        beside: CopyJob | None = None,
    ) -> Operation[Reply]:
        """Send `request`, encoded as `packet`, and give its reply, which may take `timeout_s` besides the line's time.

        Each PROGRESS is told, and where it `renews` begins that time anew. Of a copy `beside` it as much is sent as the
        board's ring takes while it runs, and the rest behind it. Raises CallTimeoutError, BoardResetError;
        CallCancelledError where `cancel` was called and it ended for that, or not in time; DamagedReplyError where the
        request was executed and its reply is lost for good; ProtocolError.
        """
        trust, host, line, output = self._trust, self.host, self._line, self._line.output
        trust.doubt = INTERRUPTED
        trust.text.heard = b""
        epoch = trust.reply_epoch = trust.epoch
        asked_at, bytes_before = now, self._counters.bytes_received
        events = self._events
        if self._keeps_alive or (events is not None and (events.is_on or events.sink.is_wanted)):
            now = yield from self._notify_before(request, len(packet), now)
        self._is_cancelled = was_cancelled = False
        kind = self._call_kind if type(request) is CallFunc else PACKET
        seq = host.send_packet(packet[PACKET_NBYTES:], now, kind, timeout_s)
        copy = None
        if beside is not None:
            copy = LinkCopy(host, beside)
            copy.send_beside(now)
        answered_by = host.answered_by
        deadline = answered_by + timeout_s
        while True:
            data, now = yield self._wait_until(deadline)
            if self._is_just_sent and output.left_at > host.sent_by + _PROMPT_S:
                host.on_late_write(output.taken_at, output.left_at)
            if data:
                line.receive(data, now)
                if host.progress:
                    if renews:
                        answered_by, bytes_before = max(answered_by, now), self._counters.bytes_received
                        timeout_s = self._silence_s
                    else:
                        bytes_before += len(host.progress) * _PROGRESS_BYTES  # which put no limit off
                    self._tell_progress(on_progress)
                for reply in host.replies:
                    if reply.seq == seq:
                        trust.doubt = trust.damage
                        output.give_up_at, output.sent_by = AT_ONCE, host.sent_by
                        self._counters.note_answer(asked_at)
                        if copy is not None:
                            trust.doubt = INTERRUPTED  # as long as blocks are unanswered
                        try:
                            answer = self._decode(reply, request)
                        except OutcomeUnknownError:
                            _give_up(copy)
                            raise
                        if copy is not None:
                            yield from self._finish_beside(copy, isinstance(answer, Return), now)
                        if self._is_cancelled and isinstance(answer, RemoteException):
                            raise ended_error(request_label(request), answer.message)
                        return answer
                    if copy is not None:
                        copy.take(reply)
                deadline = answered_by + timeout_s + self._more_s(bytes_before)
            if self._is_cancelled and not was_cancelled:
                was_cancelled, renews, bytes_before = True, False, self._counters.bytes_received
                answered_by = max(now, host.answered_by)
                timeout_s = max(min(self._cancel_s, deadline - answered_by), 0.0)
                deadline = answered_by + timeout_s
            try:
                trust.give_up_if_due(request_label(request), epoch, now >= deadline, timeout_s)
            except OutcomeUnknownError as error:
                _give_up(copy)
                if was_cancelled and isinstance(error, CallTimeoutError):
                    label = request_label(request)
                    raise CallCancelledError(
                        f"{label} was cancelled, and the board did not end it within {timeout_s:.3g} s; "
                        "it may have run, or still be running. The next request starts a new session"
                    ) from None
                raise
            self._on_time(data, now)

    def _tell_progress(self, on_progress: Progress | None) -> None:
        progress, self.host.progress = self.host.progress, []
        if on_progress is not None:
            for done, total in progress:
                on_progress(done, total)

    def cancel(self, now: float) -> bool:
        """Send CANCEL in the place of the CALL under way; `exchange` ends by itself then. False without one."""
        self._is_cancelled = self._can_cancel and self.host.cancel(now)
        return self._is_cancelled

    # --- what the host says besides ------------------------------------------------------------

    def _notify_before(self, request: Request, packet_bytes: int, now: float) -> Operation[float]:
        """Send the notice that is due, and wait for its answer where the board's ring does not take the packet too."""
        trust, host, epoch = self._trust, self.host, self._trust.epoch
        host.notify(now)
        frame_bytes = 2 * packet_bytes + FRAME_OVERHEAD_BYTES  # at most: each byte may be escaped
        give_up_at = min(host.notices.due_at, now + _MOST_PAUSE_S)
        while not host.has_room_beside_notice(frame_bytes) and now < give_up_at:
            data, now = yield self._wait_until(give_up_at)
            if data:
                self._line.receive(data, now)
            trust.give_up_if_due(request_label(request), epoch, False, 0.0)
        return now

    @property
    def listens_at(self) -> float:
        """When a notice is due, or the one that is out is taken for lost."""
        return self.host.notices.due_at

    def listen(self, now: float, until: float) -> Operation[float]:
        """Send the notice that is due, and take what comes until the next is; give the time."""
        host, output = self.host, self._line.output
        host.notify(now)
        self._wait_until(until)
        output.give_up_at = max(until, now + _FLUSH_S)
        data, now = yield min(until, host.notices.due_at)
        output.give_up_at = AT_ONCE
        if data:
            self._line.receive(data, now)
        return now

    def _more_s(self, bytes_before: int) -> float:
        """Give how much later a deadline is for what came since `bytes_before`, and for what was lost since it was set.

        Each reply may be as large as a packet of the board, and each of its bytes escaped.
        """
        host = self.host
        most_bytes = MOST_UNASKED_BYTES + 2 * host.parameters.packet_bytes * (1 + host.repeats)
        return host.repeats_s + self._line.carried_s(bytes_before, most_bytes)

    def _wait_until(self, deadline: float) -> float:
        """Hand over what the link wants sent; give until when to wait, for an answer by `deadline`."""
        host, output = self.host, self._line.output
        self._is_just_sent = bool(host.frames)
        if host.frames:
            if len(host.frames) > 1:  # of which a port may take one alone
                self._trust.is_out = self._trust.is_asking
            output.pieces += host.frames
            host.frames.clear()
        output.give_up_at = deadline
        host.replies.clear()
        return min(host.deadline, deadline)

    def _on_time(self, data: bytes, now: float) -> None:
        """Have sent again what is due.

        Not while a frame is arriving.
        """
        host = self.host
        if data and self._line.is_in_frame:
            host.on_arrival(now)
        else:
            host.on_time(now)

    def _decode(self, reply: LinkReply, request: Request) -> Reply:
        label = ""
        try:
            if reply.kind is ReplyKind.PACKET:
                packet = decode_packet(reply.body)
                if type(packet) is Return or isinstance(packet, Reply):  # the first is told sooner, and comes most
                    return packet
                raise ProtocolError("3", f"{request_label(request)} was answered with a request")
            label = request_label(request)
            if reply.kind is not ReplyKind.FORGOTTEN:
                raise ProtocolError("3", f"{label} was answered with {reply.kind.name}, not a packet")
        except ProtocolError as error:
            self._distrust(error)
            raise
        raise DamagedReplyError(
            f"{label} was executed once, but its reply was lost, and is too long for the board to keep it"
        )

    def _distrust(self, error: ProtocolError) -> None:
        """Begin the next request with a new session: the board answered what it must not."""
        self._trust.doubt = f"an answer that is none ({error})"

    # --- copies --------------------------------------------------------------------------------

    def copy(self, job: CopyJob, now: float) -> Operation[None]:
        """Move what is to do, as many blocks at once as the window takes.

        Raises as `exchange`, and RemoteError.
        """
        copy = LinkCopy(self.host, job)
        try:
            yield from self._go_on(copy, now)
        except OutcomeUnknownError:
            copy.give_up()
            raise
        except ProtocolError as error:
            self._distrust(error)
            raise
        finally:
            self._line.output.give_up_at = AT_ONCE

    def _go_on(self, copy: LinkCopy, now: float) -> Operation[None]:
        trust, host, line, job = self._trust, self.host, self._line, copy.job
        trust.text.heard = b""
        epoch = trust.reply_epoch = trust.epoch
        answered_by, bytes_before = now, self._counters.bytes_received
        while copy.is_under_way:
            trust.doubt = INTERRUPTED  # before the link's state changes
            has_notices = host.notices.are_wanted
            if has_notices:
                host.notify(now)  # which has room after any reply: that of a request no smaller than the smallest
            if copy.send(now):
                answered_by, host.repeats, host.repeats_s = host.answered_by, 0, 0.0
            deadline = answered_by + job.timeout_s + self._more_s(bytes_before)
            wait_until = self._wait_until(deadline)
            if has_notices and host.notices.due_at > now:  # else a reply makes room for it
                wait_until = min(wait_until, host.notices.due_at)
            data, now = yield wait_until
            if self._is_just_sent and line.output.left_at > host.sent_by + _PROMPT_S:
                host.on_late_write(line.output.taken_at, line.output.left_at)
            if data:
                line.receive(data, now)
                deadline = answered_by + job.timeout_s + self._more_s(bytes_before)
            replies = host.replies
            trust.give_up_if_due(job.label, epoch, not replies and now >= deadline, job.timeout_s)
            self._on_time(data, now)
            if not host.unanswered:
                trust.doubt = ""
            if replies:
                line.output.sent_by = host.sent_by
            for reply in replies:
                done_bytes = job.done_bytes
                copy.take(reply)
                if job.done_bytes > done_bytes:
                    answered_by, bytes_before = max(now, host.answered_by), self._counters.bytes_received
                    host.repeats, host.repeats_s = 0, 0.0
                    job.tell_progress()
        copy.check()

    def _finish_beside(self, copy: LinkCopy, is_wanted: bool, now: float) -> Operation[None]:
        """Have answered what was sent beside a request that was answered, and where it `is_wanted` copy the rest.

        What is not answered in time is left to do, since the request's own answer is known: the next one begins in
        doubt. Raises BoardResetError, RemoteError, ProtocolError.
        """
        if not is_wanted:
            copy.job.todo.clear()
        for reply in self.host.replies:
            copy.take(reply)
        try:
            yield from self._go_on(copy, now)
            self._trust.doubt = self._trust.damage
        except BoardResetError:
            copy.give_up()
            raise
        except OutcomeUnknownError:
            copy.give_up()
        finally:
            self._line.output.give_up_at = AT_ONCE

    # --- what comes ----------------------------------------------------------------------------

    def on_damage(self, what: str, now: float) -> None:
        """Have sent again what the damaged frame answered."""
        self.host.on_damage(now)

    def on_garbage(self, data: bytes, now: float) -> None:
        """Take it for a frame whose start was damaged: it is no text."""
        if data != b"\xff":  # which is the first byte of a start, doubled: the frame itself comes
            self.host.on_damage(now)

    def after_garbage(self, was_answered: bool, now: float) -> None:
        """Think nothing further of it."""


def _give_up(copy: LinkCopy | None) -> None:
    if copy is not None:
        copy.give_up()
