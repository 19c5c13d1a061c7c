"""Requests over the reliable link (docs/link.md): damage is no doubt here, the link repeats what was lost."""

from __future__ import annotations

from microrpc.errors import DamagedReplyError, OutcomeUnknownError, ProtocolError, RemoteError
from microrpc.host.job import CopyJob
from microrpc.host.line import MOST_UNASKED_BYTES, Line
from microrpc.host.link import LinkHost, LinkReply, LinkRequest
from microrpc.host.operation import AT_ONCE, Operation
from microrpc.host.stats import Counters
from microrpc.host.trust import INTERRUPTED, Trust
from microrpc.wire.link import LinkParameters, ReplyKind
from microrpc.wire.names import MESSAGE_OVERHEAD_BYTES, PACKET_NBYTES
from microrpc.wire.packets import RemoteException, Reply, Request, Return, decode_packet
from microrpc.wire.reader import request_label

_PROMPT_S = 0.05  # a wait that ends later than this was no wait for the board alone


class LinkCarrier:
    """The link of one session, with which it ends. `host` is its state, and takes the messages `on_link`."""

    def __init__(self, host: LinkHost, line: Line, trust: Trust, counters: Counters) -> None:
        self.host = host
        self.on_link = host.receive
        self._line = line
        self._trust = trust
        self._counters = counters
        self._is_just_sent = False

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

    def exchange(self, request: Request, packet: bytes, now: float, timeout_s: float) -> Operation[Reply]:
        """Send `request`, encoded as `packet`, and give its reply, which may take `timeout_s` besides the line's time.

        Raises CallTimeoutError, BoardResetError; DamagedReplyError where the request was executed and its reply is
        lost for good; ProtocolError.
        """
        trust, host, line, output = self._trust, self.host, self._line, self._line.output
        trust.doubt = INTERRUPTED
        trust.text.heard = b""
        epoch = trust.reply_epoch = trust.epoch
        asked_at, bytes_before = now, self._counters.bytes_received
        seq = host.send_packet(packet[PACKET_NBYTES:], now)
        answered_by = host.answered_by
        deadline = answered_by + timeout_s
        while True:
            data, now = yield self._wait_until(deadline)
            if data:
                line.receive(data, now)
                for reply in host.replies:
                    if reply.seq == seq:
                        trust.doubt = trust.damage
                        output.give_up_at, output.sent_by = AT_ONCE, host.sent_by
                        self._counters.note_answer(asked_at)
                        return self._decode(reply, request)
                deadline = answered_by + timeout_s + self._more_s(bytes_before)
            trust.give_up_if_due(request_label(request), epoch, now >= deadline, timeout_s)
            self._on_time(data, now)

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

        Not while a frame is arriving, and not what the port was so busy with that it goes out only now.
        """
        host = self.host
        if data and self._line.is_in_frame:
            host.on_arrival(now)
        elif self._is_just_sent and now > host.deadline + _PROMPT_S:
            host.wait_anew(now)
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
        blocks: dict[int, tuple[int, int]] = {}  # those that are under way: their ranges, by seq
        try:
            yield from self._copy_blocks(job, now, blocks)
        except OutcomeUnknownError:
            job.todo.extendleft(blocks.values())
            raise
        except ProtocolError as error:
            self._distrust(error)
            raise
        finally:
            self._line.output.give_up_at = AT_ONCE

    def _copy_blocks(self, job: CopyJob, now: float, blocks: dict[int, tuple[int, int]]) -> Operation[None]:
        trust, host, line, todo = self._trust, self.host, self._line, job.todo
        trust.text.heard = b""
        epoch = trust.reply_epoch = trust.epoch
        answered_by, bytes_before = now, self._counters.bytes_received
        failure: RemoteException | None = None
        prepared: LinkRequest | None = None
        while blocks or (todo and failure is None):
            trust.doubt = INTERRUPTED  # before the link's state changes
            while todo and failure is None:
                offset, end = todo[0]
                if prepared is None:
                    prepared = self._prepare(job, offset, min(host.block_bytes, end - offset))
                if not host.try_send(prepared, now):
                    break
                answered_by, host.repeats, host.repeats_s = host.answered_by, 0, 0.0
                todo.popleft()
                block_end = offset + prepared.size_bytes
                blocks[prepared.seq] = offset, block_end
                if block_end < end:
                    todo.appendleft((block_end, end))
                prepared = None
            deadline = answered_by + job.timeout_s + self._more_s(bytes_before)
            data, now = yield self._wait_until(deadline)
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
                offset, end = blocks.pop(reply.seq)
                if reply.kind is ReplyKind.PACKET:
                    failure = _exception(reply)
                    continue
                if not 0 < reply.size_bytes <= end - offset:
                    text = f"{job.label} of {end - offset} bytes was answered with {reply.size_bytes}"
                    raise ProtocolError("3", text)
                job.accept_link(offset, reply.size_bytes, reply.kind, reply.body)
                if offset + reply.size_bytes < end:
                    todo.append((offset + reply.size_bytes, end))
                answered_by, bytes_before = max(now, host.answered_by), self._counters.bytes_received
                host.repeats, host.repeats_s = 0, 0.0
                job.tell_progress()
        if failure is not None:
            raise RemoteError(failure.message, code=job.label)

    def _prepare(self, job: CopyJob, offset: int, size_bytes: int) -> LinkRequest:
        if job.to_board:
            return self.host.prepare_write(job.address + offset, job.data[offset : offset + size_bytes])
        return self.host.prepare_read(job.address + offset, size_bytes)

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


def _exception(reply: LinkReply) -> RemoteException:
    packet = decode_packet(reply.body)
    if not isinstance(packet, RemoteException):
        raise ProtocolError("3", f"a copy was answered with {type(packet).__name__}")
    return packet
