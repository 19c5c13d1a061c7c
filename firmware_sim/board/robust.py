"""The receive side of a board whose firmware does everything right (docs/device.md, docs/link.md).

Damaged frames are dropped, whatever arrives is answered or dropped, and nothing but a Shutdown makes it deaf, until
the next session.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from firmware_sim.board.link import LinkDevice
from firmware_sim.board.parts import Stats
from firmware_sim.board.runtime import RuntimeSession
from microrpc.errors import ProtocolError
from microrpc.serve.endpoint import encode_reply
from microrpc.wire.datatypes import CPU, DataType, Tensor
from microrpc.wire.frames import Damage, DamageKind, FrameDecoder
from microrpc.wire.link import LinkParameters, ReplyKind, RequestKind, decode_link_message, unpack_read, unpack_write
from microrpc.wire.packets import (
    PROTOCOL_VERSION,
    RETURN_NONE,
    CopyAck,
    CopyFromRemote,
    CopyToRemote,
    InitServer,
    RemoteException,
    Reply,
    Return,
    Shutdown,
    decode_packet,
)
from microrpc.wire.session import (
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
_MALFORMED = RemoteException("malformed packet")


class RobustPort:
    """Frames, session and packets of a board.

    A frame may have a payload of `packet_size_bytes`; a larger one is refused with a line in the log. With `link` it
    serves the link extension too, and keeps the last reply to be repeated if it has at most `reply_bytes`.
    """

    is_dead = False
    """It never is."""

    def __init__(
        self,
        serving: RuntimeSession,
        send: Callable[[bytes], None],
        stats: Stats,
        *,
        packet_size_bytes: int,
        link: LinkParameters | None = None,
        reply_bytes: int | None = None,
    ) -> None:
        self._serving = serving
        self._send = send
        self._stats = stats
        self._decoder = FrameDecoder(max_payload_bytes=packet_size_bytes)
        self._session = Session(0)
        self._is_shut_down = False
        self._link_parameters = link
        self._reply_bytes = packet_size_bytes if reply_bytes is None else reply_bytes
        self._link: LinkDevice | None = None
        self._skipped_bytes = 0

    def boot(self, seed: int) -> None:
        """Start from nothing: no session, nonces drawn from `seed`; say TERMINATE."""
        self._decoder.reset()
        self._session = Session(seed)
        self._link = None
        self._session.boot()
        self._send_outgoing()

    def receive(self, data: bytes) -> None:
        """Take bytes from the line."""
        for frame in self._decoder.feed(data):
            if isinstance(frame, Damage):
                self._refuse(frame)
            elif isinstance(frame, bytes):
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
        self._serving.received_bytes = len(payload)
        event = self._session.receive(payload)
        if isinstance(event, Message):
            self._serve(event.body)
        elif isinstance(event, LinkMessage):
            self._serve_link(event.payload)
        elif isinstance(event, Established):
            self._is_shut_down = False
            if self._link_parameters is not None:
                self._link = LinkDevice(event.session_id, self._link_parameters, self._execute, self._reply_bytes)
            self._send_outgoing()
        elif isinstance(event, Terminated):
            self._link = None
        else:
            self._stats.messages_dropped += 1
            has_none = self._link_parameters is not None and self._session.state is SessionState.NO_SESSION
            if has_none and _is_link_request(payload):
                self._send(encode_message(0, MessageType.TERMINATE_SESSION))

    # --- packets --------------------------------------------------------------------------------

    def _serve(self, body: bytes) -> None:
        """Answer the packets of a NORMAL message."""
        session = self._session
        if self._is_shut_down:
            self._stats.messages_dropped += 1
        at = 0
        # What was called may reset the board, and then there is a new session, which is not this one.
        while at < len(body) and not self._is_shut_down and self._session is session:
            start = at + _NBYTES.size
            at = start + _NBYTES.unpack_from(body, at)[0] if start <= len(body) else len(body) + 1
            if at > len(body):
                self._reply(_MALFORMED)
            elif at > start:
                reply = self._answer(body[start:at])
                self._is_shut_down = reply is None
                if reply is not None and self._session is session:
                    self._reply(reply)

    def _reply(self, reply: Reply) -> None:
        self._send(self._session.wrap(encode_reply(reply)))

    def _answer(self, body: bytes) -> Reply | None:
        """Execute a packet and give its reply, None for Shutdown."""
        try:
            packet = decode_packet(body)
        except ProtocolError:
            return _MALFORMED
        if isinstance(packet, Shutdown):
            return None
        if isinstance(packet, InitServer):
            return _init_server(packet)
        if isinstance(packet, Return | RemoteException | CopyAck):
            return _MALFORMED
        return self._serving.serve(packet)

    # --- the link (docs/link.md 3) --------------------------------------------------------------

    def _serve_link(self, payload: bytes) -> None:
        link = self._link
        if link is None or not _is_link_request(payload) or (self._is_shut_down and self._note_packet(link, payload)):
            self._stats.messages_dropped += 1
            return
        answer = link.receive(payload)
        if answer is not None and self._link is link:  # what was called has not reset the board
            self._send(answer)

    def _note_packet(self, link: LinkDevice, payload: bytes) -> bool:
        """Tell whether this is a good PACKET, after which damage is answered again."""
        message = decode_link_message(payload)
        is_packet = message is not None and message[2][:1] == bytes((RequestKind.PACKET,))
        if is_packet:
            link.is_active, link.has_complained = True, False
        return is_packet

    def _execute(self, kind: RequestKind, body: bytes, check_only: bool) -> tuple[ReplyKind, bytes]:
        """Execute a request of the link; for a WRITE with `check_only` tell what it would answer."""
        if kind is RequestKind.PACKET:
            return _link_reply(self._answer(body) or _MALFORMED)
        try:
            if kind is RequestKind.WRITE:
                address, data = unpack_write(body)
                size_bytes = len(data)
            else:
                address, size_bytes = unpack_read(body)
        except struct.error:
            return _link_reply(_MALFORMED)
        tensor = Tensor(address, CPU, _BYTE, (size_bytes,))
        is_write = kind is RequestKind.WRITE and not check_only
        reply = self._serving.serve(CopyToRemote(tensor, data) if is_write else CopyFromRemote(tensor, size_bytes))
        if isinstance(reply, RemoteException):
            return _link_reply(reply)
        if kind is RequestKind.WRITE:
            return ReplyKind.DONE, b""
        return ReplyKind.DATA, reply.data if isinstance(reply, CopyAck) else b""

    def _send_outgoing(self) -> None:
        for payload in self._session.outgoing:
            self._send(payload)
        self._session.outgoing.clear()


def _is_link_request(payload: bytes) -> bool:
    return payload[HEADER_SIZE_BYTES - 1 : HEADER_SIZE_BYTES] == bytes((MessageType.LINK_REQUEST,))


def _link_reply(reply: Reply) -> tuple[ReplyKind, bytes]:
    return ReplyKind.PACKET, encode_reply(reply)[_NBYTES.size :]


def _init_server(packet: InitServer) -> Reply:
    if packet.args:
        return RemoteException("Server has already been initialized")
    if packet.version != PROTOCOL_VERSION:
        return RemoteException(f"protocol version mismatch: this device speaks {PROTOCOL_VERSION}")
    return RETURN_NONE
