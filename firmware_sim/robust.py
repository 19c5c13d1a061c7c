"""The receive side of a board whose firmware does everything right (docs/protocol.md 1, 2, 3 and 5; docs/link.md).

Damaged frames are dropped, whatever arrives is answered or dropped, and nothing but a lost session makes it deaf.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from firmware_sim.port import Stats
from microrpc.codec import CopyAck, CopyFromRemote, CopyToRemote, RemoteException, Reply, Request, encode_packet
from microrpc.datatypes import CPU, DataType, Tensor
from microrpc.errors import ProtocolError
from microrpc.framing import Damage, DamageKind, FrameDecoder
from microrpc.link import LinkDevice, LinkParameters, ReplyKind, RequestKind, unpack_read, unpack_write
from microrpc.server import ServerEndpoint, ServerStatus, ServingSession
from microrpc.session import (
    HEADER_SIZE_BYTES,
    Established,
    LinkMessage,
    Message,
    MessageType,
    Session,
    SessionState,
    Terminated,
    encode_log,
    encode_message,
)

_NBYTES = struct.Struct("<Q")
_BYTE = DataType.parse("uint8")


class RobustPort:
    """Frames, session and server endpoint of a board.

    A frame may have a payload of `packet_size_bytes`; a larger one is refused with a line in the log. Packets and
    NORMAL messages need not coincide on the way in; on the way out each packet is one message. With `link` it serves
    the link extension too.
    """

    is_dead = False

    def __init__(
        self,
        serving: ServingSession,
        send: Callable[[bytes], None],
        stats: Stats,
        *,
        packet_size_bytes: int,
        link: LinkParameters | None = None,
    ) -> None:
        self._serving = serving
        self._send = send
        self._stats = stats
        self._decoder = FrameDecoder(max_payload_bytes=packet_size_bytes)
        self._session = Session(0)
        self._server: ServerEndpoint | None = None
        self._link_parameters = link
        self._link: LinkDevice | None = None
        self._skipped_bytes = 0

    def boot(self, seed: int) -> None:
        """Start from nothing: no session, nonces drawn from `seed`; say TERMINATE."""
        self._decoder.reset()
        self._session = Session(seed)
        self._server = self._link = None
        self._session.boot()
        self._send_outgoing()

    def receive(self, data: bytes) -> None:
        """Take bytes from the line."""
        for frame in self._decoder.feed(data):
            if isinstance(frame, Damage):
                self._refuse(frame)
            else:
                self._stats.frames_received += 1
                self._take(frame)
        if self._decoder.bytes_skipped != self._skipped_bytes:
            self._skipped_bytes = self._decoder.bytes_skipped
            self._complain()

    def _refuse(self, damage: Damage) -> None:
        self._stats.frames_damaged += 1
        self._complain()
        if damage.kind is DamageKind.TOO_LONG:
            self._send(encode_log(f"a frame was refused: {damage.detail}"))

    def _complain(self) -> None:
        nak = self._link.on_damage() if self._link is not None else None
        if nak is not None:
            self._send(nak)

    def _take(self, payload: bytes) -> None:
        event = self._session.receive(payload)
        if isinstance(event, Message):
            self._serve(event.body)
        elif isinstance(event, LinkMessage):
            self._serve_link(event.payload)
        elif isinstance(event, Established):
            self._server = ServerEndpoint(session=self._serving)
            if self._link_parameters is not None:
                # Replies may be as long as requests here, so one of any length is kept.
                kept_bytes = self._link_parameters.packet_bytes
                self._link = LinkDevice(event.session_id, self._link_parameters, self._execute, kept_bytes)
            self._send_outgoing()
        elif isinstance(event, Terminated):
            self._server = self._link = None
        else:
            self._stats.messages_dropped += 1
            has_none = self._link_parameters is not None and self._session.state is SessionState.NO_SESSION
            if has_none and _is_link_request(payload):
                self._send(encode_message(0, MessageType.TERMINATE_SESSION))

    def _serve_link(self, payload: bytes) -> None:
        link = self._link
        if link is None or not _is_link_request(payload):
            self._stats.messages_dropped += 1
            return
        answer = link.receive(payload)
        if answer is not None and self._link is link:  # what was called has not reset the board
            self._send(answer)

    def _execute(self, kind: RequestKind, body: bytes, check_only: bool) -> tuple[ReplyKind, bytes]:
        """Execute a request of the link; for a WRITE with `check_only` tell what it would answer."""
        try:
            if kind is RequestKind.PACKET:
                return ReplyKind.PACKET, self._execute_packet(body)
            if kind is RequestKind.WRITE:
                address, data = unpack_write(body)
                tensor = Tensor(address, CPU, _BYTE, (len(data),))
                reply = self._ask(CopyFromRemote(tensor, len(data)) if check_only else CopyToRemote(tensor, data))
                done = (ReplyKind.DONE, b"")
            else:
                address, size_bytes = unpack_read(body)
                reply = self._ask(CopyFromRemote(Tensor(address, CPU, _BYTE, (size_bytes,)), size_bytes))
                done = (ReplyKind.DATA, reply.data if isinstance(reply, CopyAck) else b"")
        except (ProtocolError, struct.error) as error:
            reply = RemoteException(str(error))
        return (ReplyKind.PACKET, _without_nbytes(reply)) if isinstance(reply, RemoteException) else done

    def _execute_packet(self, body: bytes) -> bytes:
        server = ServerEndpoint(session=self._serving)
        server.feed(_NBYTES.pack(len(body)) + body)
        output = server.take_output()
        if not output:
            raise ProtocolError("3", "a PACKET that holds no request")  # nothing, or Shutdown
        return output[_NBYTES.size :]

    def _ask(self, request: Request) -> Reply:
        replies: list[Reply] = []
        self._serving.submit(request, replies.append)
        return replies[0]

    def _serve(self, body: bytes) -> None:
        server = self._server
        if server is None:  # the client has shut it down, or lost the thread
            self._stats.messages_dropped += 1
            return
        failure = b""
        try:
            is_over = server.feed(body) is ServerStatus.SHUT_DOWN
        except ProtocolError as error:  # nobody knows where the next packet begins
            failure = encode_packet(RemoteException(str(error)))
            is_over = True
        if self._server is not server:  # what was called has reset the board
            return
        self._reply(server.take_output() + failure)
        if is_over:
            self._server = None

    def _reply(self, packets: bytes) -> None:
        at = 0
        while at < len(packets):
            (nbytes,) = _NBYTES.unpack_from(packets, at)
            end = at + _NBYTES.size + nbytes
            self._send(self._session.wrap(packets[at:end]))
            at = end

    def _send_outgoing(self) -> None:
        for payload in self._session.outgoing:
            self._send(payload)
        self._session.outgoing.clear()


def _is_link_request(payload: bytes) -> bool:
    return payload[HEADER_SIZE_BYTES - 1 : HEADER_SIZE_BYTES] == bytes((MessageType.LINK_REQUEST,))


def _without_nbytes(reply: Reply) -> bytes:
    return encode_packet(reply)[_NBYTES.size :]
