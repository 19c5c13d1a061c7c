"""The receive side of a board whose firmware does everything right (docs/protocol.md 1, 2, 3 and 5).

Damaged frames are dropped, whatever arrives is answered or dropped, and nothing but a lost session makes it deaf.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from firmware_sim.port import Stats
from microrpc.codec import RemoteException, encode_packet
from microrpc.errors import ProtocolError
from microrpc.framing import Damage, DamageKind, FrameDecoder
from microrpc.server import ServerEndpoint, ServerStatus, ServingSession
from microrpc.session import Established, Message, Session, Terminated, encode_log

_NBYTES = struct.Struct("<Q")


class RobustPort:
    """Frames, session and server endpoint of a board.

    A frame may have a payload of `packet_size_bytes`; a larger one is refused with a line in the log. Packets and
    NORMAL messages need not coincide on the way in; on the way out each packet is one message.
    """

    is_dead = False

    def __init__(
        self, serving: ServingSession, send: Callable[[bytes], None], stats: Stats, *, packet_size_bytes: int
    ) -> None:
        self._serving = serving
        self._send = send
        self._stats = stats
        self._decoder = FrameDecoder(max_payload_bytes=packet_size_bytes)
        self._session = Session(0)
        self._server: ServerEndpoint | None = None

    def boot(self, seed: int) -> None:
        """Start from nothing: no session, nonces drawn from `seed`; say TERMINATE."""
        self._decoder.reset()
        self._session = Session(seed)
        self._server = None
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

    def _refuse(self, damage: Damage) -> None:
        self._stats.frames_damaged += 1
        if damage.kind is DamageKind.TOO_LONG:
            self._send(encode_log(f"a frame was refused: {damage.detail}"))

    def _take(self, payload: bytes) -> None:
        event = self._session.receive(payload)
        if isinstance(event, Message):
            self._serve(event.body)
        elif isinstance(event, Established):
            self._server = ServerEndpoint(session=self._serving)
            self._send_outgoing()
        elif isinstance(event, Terminated):
            self._server = None
        else:
            self._stats.messages_dropped += 1

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
