"""What comes of a request, however it came: of a packet, and of a copy over the link (docs/link.md 2)."""

from __future__ import annotations

import struct

from firmware_sim.board.link import Outcome, packet_outcome
from firmware_sim.board.long_call import LongCall
from firmware_sim.board.runtime import RuntimeSession
from microrpc.errors import ProtocolError
from microrpc.wire.datatypes import CPU, DataType, Tensor
from microrpc.wire.link import ReplyKind, RequestKind, unpack_read, unpack_write
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

MALFORMED = RemoteException("malformed packet")
"""The reply to what is no request."""

_BYTE = DataType.parse("uint8")


def answer(serving: RuntimeSession, body: bytes) -> Reply | LongCall | None:
    """Execute a packet and give its reply, or the long function that it has begun; None for Shutdown."""
    try:
        packet = decode_packet(body)
    except ProtocolError:
        return MALFORMED
    if isinstance(packet, Shutdown):
        return None
    if isinstance(packet, InitServer):
        return _init_server(packet)
    if isinstance(packet, Return | RemoteException | CopyAck):
        return MALFORMED
    return serving.begin(packet)


def copy(serving: RuntimeSession, kind: RequestKind, body: bytes, *, check_only: bool) -> Outcome:
    """Execute a WRITE or READ; of a WRITE with `check_only` tell what it would answer."""
    try:
        if kind is RequestKind.WRITE:
            address, data = unpack_write(body)
            size_bytes = len(data)
        else:
            address, size_bytes = unpack_read(body)
    except struct.error:
        return packet_outcome(MALFORMED)
    tensor = Tensor(address, CPU, _BYTE, (size_bytes,))
    is_write = kind is RequestKind.WRITE and not check_only
    reply = serving.serve(CopyToRemote(tensor, data) if is_write else CopyFromRemote(tensor, size_bytes))
    if isinstance(reply, RemoteException):
        return packet_outcome(reply)
    if kind is RequestKind.WRITE:
        return ReplyKind.DONE, b""
    return ReplyKind.DATA, reply.data if isinstance(reply, CopyAck) else b""


def _init_server(packet: InitServer) -> Reply:
    if packet.args:
        return RemoteException("Server has already been initialized")
    if packet.version != PROTOCOL_VERSION:
        return RemoteException(f"protocol version mismatch: this device speaks {PROTOCOL_VERSION}")
    return RETURN_NONE
