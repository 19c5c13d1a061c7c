"""A conversation that goes over the reliable link where the board knows it (docs/link.md), and else is a plain one.

Damage is no doubt here: the link repeats what was lost. What is left of `microrpc.host.connection` are the deadlines, the
resets, and the new session after either.
"""

from __future__ import annotations

from collections.abc import Callable

from microrpc.errors import DamagedReplyError, HandshakeTimeoutError, OutcomeUnknownError, ProtocolError
from microrpc.host.link import LinkHost, LinkReply
from microrpc.host.noise import Noise
from microrpc.host.operation import AT_ONCE, Operation
from microrpc.host.pipelining import PipelinedConversation
from microrpc.wire.link import LinkParameters, ReplyKind
from microrpc.wire.names import LINK_FUNCTION
from microrpc.wire.packets import PacketCode, Reply, Request, Return, Syscall, decode_packet, encode_packet
from microrpc.wire.reader import request_label
from microrpc.wire.session import Timeouts

_PACKET_NBYTES = 8
_LOOK_UP_ATTEMPTS = 6  # more than of other look-ups: all that comes after it is safe from damage
_LEAST_LOOK_UP_S = 0.5  # for the question whether there is a link, which nothing repeats yet
_LIMIT_OVERHEAD_BYTES = 11  # packet_nbytes and the session header; a LINK_REQUEST has one byte less
_FRAME_START = b"\xff\xfd"


class LinkedConversation(PipelinedConversation):
    """A conversation that asks the board once per boot whether it knows the link, and uses it if it does.

    byte_s: how long a byte takes on the line, in seconds, 0 where nobody knows.
    """

    def __init__(
        self,
        *,
        seed: int,
        timeouts: Timeouts,
        on_log: Callable[[str], None] = lambda text: None,
        ring_bytes: int = 0,
        byte_s: float = 0.0,
    ) -> None:
        super().__init__(seed=seed, timeouts=timeouts, on_log=on_log, ring_bytes=ring_bytes)
        self._byte_s = byte_s
        self._link: LinkHost | None = None
        self._noise = Noise()
        self._parameters: LinkParameters | None = None
        self._asked_epoch = -1
        self._replies: list[LinkReply] = []
        self._give_up_at = AT_ONCE

    @property
    def link(self) -> LinkHost:
        """The link of this session, where `linked` tells that there is one."""
        assert self._link is not None
        return self._link

    @property
    def parameters(self) -> LinkParameters:
        """What the board told of the link."""
        return self.link.parameters

    @property
    def limit_bytes(self) -> int:
        """The largest packet that the board takes, without its packet_nbytes, as GetCRTMaxPacketSize counts."""
        return self.parameters.packet_bytes - _LIMIT_OVERHEAD_BYTES

    def write_by(self, deadline: float, now: float) -> float:
        """Until when the port may take the output: what the link waits for is only a repetition."""
        if self._give_up_at > max(deadline, now):
            return self._give_up_at
        return super().write_by(deadline, now)

    # --- coming to a link ------------------------------------------------------------------------

    def _prepare(self) -> Operation[float]:
        self._give_up_at = AT_ONCE
        for _ in range(_LOOK_UP_ATTEMPTS):
            now = yield from super()._prepare()
            if self._asked_epoch == self.epoch:
                if self._link is None:
                    self._take_up_link()
                return now
            try:
                now = yield from self._look_link_up(now)
            except OutcomeUnknownError:
                continue  # which is doubt enough for another session
            self._take_up_link()
            return now
        raise HandshakeTimeoutError(f"{_LOOK_UP_ATTEMPTS} sessions were opened, and in none a look-up was answered")

    def _look_link_up(self, now: float) -> Operation[float]:
        timeout_s = max(self._timeouts.retry_s, _LEAST_LOOK_UP_S)
        request = Syscall(PacketCode.GET_GLOBAL_FUNC, (LINK_FUNCTION,))
        epoch = self.epoch
        reply = yield from self._ask(request, encode_packet(request), now + timeout_s, timeout_s)
        handle = reply.values[0] if isinstance(reply, Return) and len(reply.values) == 1 else None
        self._parameters = LinkParameters.from_handle(handle) if isinstance(handle, int) else None
        self._asked_epoch = epoch
        return now

    def _take_up_link(self) -> None:
        if self._parameters is not None:
            self._link = LinkHost(self.session_id, self._parameters, byte_s=self._byte_s, noise=self._noise)
            self.linked = self

    def on_port_reopened(self, on_session: Callable[[bool], None]) -> None:
        """See `Conversation`; the link ends with its session."""
        super().on_port_reopened(on_session)
        self._drop_link()

    def _start_session(self, now: float) -> Operation[None]:
        self._drop_link()
        return super()._start_session(now)

    def _on_established(self) -> None:
        super()._on_established()
        self._drop_link()

    def _note_reset(self) -> None:
        super()._note_reset()
        self._drop_link()

    def _drop_link(self) -> None:
        if self._link is not None:
            self.counters.retransmissions += self._link.retransmissions
        self._link = self.linked = None
        self._replies.clear()

    # --- one request ---------------------------------------------------------------------------

    def _request(self, request: Request, packet: bytes, deadline: float, timeout_s: float) -> Operation[Reply]:
        if self._link is None:
            return super()._request(request, packet, deadline, timeout_s)
        return self._request_over(self._link, request_label(request), packet, deadline, timeout_s)

    def _request_over(
        self, link: LinkHost, label: str, packet: bytes, deadline: float, timeout_s: float
    ) -> Operation[Reply]:
        epoch = self.reply_epoch = self.epoch
        seq = link.send_packet(packet[_PACKET_NBYTES:], deadline - timeout_s)
        while True:
            replies, _ = yield from self.await_link(label, deadline, timeout_s, epoch)
            for reply in replies:
                if reply.seq == seq:
                    self.counters.note_answer(deadline - timeout_s)
                    return self._decode(reply, label)

    def await_link(
        self, label: str, deadline: float, timeout_s: float, epoch: int
    ) -> Operation[tuple[list[LinkReply], float]]:
        """Wait for replies to what was sent over the link, and have sent again what was lost; give them and the time.

        Raises BoardResetError and CallTimeoutError; `label` names what is waited for.
        """
        link = self.link
        self._doubt = "a request was interrupted"  # holds if this generator is closed or thrown into
        self._give_up_at = deadline
        if link.frames:
            self._output += link.frames
            link.frames.clear()
        data, now = yield min(deadline, link.deadline)
        if data:
            self._receive(data, now)
        replies, self._replies = self._replies, []
        if self.linked is None or not replies:
            self._give_up_if_due(label, epoch, now >= deadline, timeout_s)
        link.on_time(now)
        if not link.unanswered:
            self._doubt = self._damage
        self._answered = self._answered or bool(replies)
        return replies, now

    def distrust(self, error: ProtocolError) -> None:
        """Begin the next request with a new session: the board answered what it must not."""
        self._doubt = f"an answer that is none ({error})"

    def _decode(self, reply: LinkReply, label: str) -> Reply:
        if reply.kind is ReplyKind.FORGOTTEN:
            raise DamagedReplyError(
                f"{label} was executed once, but its reply was lost, and is too long for the board to keep it"
            )
        try:
            if reply.kind is not ReplyKind.PACKET:
                raise ProtocolError("3", f"{label} was answered with {reply.kind.name}, not a packet")
            packet = decode_packet(reply.body)
            if not isinstance(packet, Reply):
                raise ProtocolError("3", f"{label} was answered with a request")
        except ProtocolError as error:
            self.distrust(error)
            raise
        return packet

    # --- what comes ----------------------------------------------------------------------------

    def _receive(self, data: bytes, now: float) -> Reply | None:
        if self._link is None or data.find(_FRAME_START, 1) < 0:
            return super()._receive(data, now)
        # Frame by frame, so that the link learns of bytes outside of any in their place among the others.
        reply: Reply | None = None
        start = 0
        while start < len(data):
            end = data.find(_FRAME_START, start + 1)
            end = end if end >= 0 else len(data)
            reply = super()._receive(data[start:end], now) or reply
            start = end
        return reply

    def _on_link_message(self, payload: bytes, now: float) -> None:
        if self._link is not None:
            reply = self._link.receive(payload, now)
            if reply is not None:
                self._replies.append(reply)

    def _note_damage(self, what: str, now: float) -> None:
        if self._link is None:
            super()._note_damage(what, now)
        else:
            self._link.on_damage(now)

    def _note_skipped(self, now: float, *, lost_frame: bool) -> None:
        if self._link is None:
            super()._note_skipped(now, lost_frame=lost_frame)
        else:
            self._skipped_bytes = self._decoder.bytes_skipped
            self._link.on_damage(now)
