"""The RPC endpoint: packets cut from a byte stream, and the client role (docs/protocol.md 3 and 5).

`PacketReader` is the part of the state machine that both roles share: it consumes bytes as they come, knows at any
moment how many it needs next, and gives whole packets. `ClientEndpoint` writes one request at a time and reads its
reply. The server role is in `microrpc.serve.endpoint`. The stream may be the bodies of NORMAL session messages or a TCP
connection: nothing here knows. Neither does I/O.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable

from microrpc.errors import ProtocolError, RequestError
from microrpc.wire.asides import FROM_SERVER, is_aside
from microrpc.wire.names import PACKET_NBYTES
from microrpc.wire.packets import (
    CopyAck,
    CopyFromRemote,
    Packet,
    PacketCode,
    RemoteException,
    Reply,
    Request,
    Return,
    Shutdown,
    Syscall,
    decode_packet,
    encode_packet,
)

_NBYTES = struct.Struct("<Q")
_KEY_SIZE = struct.Struct("<i")
_MAX_KEY_BYTES = 4096
MAX_PACKET_BYTES = 1 << 26
"""The largest packet that is taken from a peer where nothing else is said: 64 MiB."""

CLOSED_IN_PACKET = "Channel closes before we get needed bytes"
"""What an error says where the peer closed in the middle of a packet (docs/protocol.md 5)."""
_UNASKED = "bytes arrived, and no request was in flight"


class EndpointState(enum.Enum):
    """The states of an endpoint, both roles, as docs/protocol.md 5 names them."""

    INIT_HEADER = enum.auto()
    RECV_PACKET_NUM_BYTES = enum.auto()
    PROCESS_PACKET = enum.auto()
    WAIT_FOR_ASYNC_CALLBACK = enum.auto()
    RETURN_RECEIVED = enum.auto()
    COPY_ACK_RECEIVED = enum.auto()
    SHUTDOWN_RECEIVED = enum.auto()


class PacketReader:
    """Cuts packets from a byte stream that comes in pieces of any size (docs/protocol.md 3, 5).

    `max_packet_bytes` bounds what a peer can make us hold. With `init_header` the stream begins with the remote
    key: an i32 length and that many bytes; `remote_key` is None until it is there. `state` is what comes next.
    """

    def __init__(self, *, max_packet_bytes: int = MAX_PACKET_BYTES, init_header: bool = False) -> None:
        self.remote_key: str | None = None
        self.state = EndpointState.INIT_HEADER if init_header else EndpointState.RECV_PACKET_NUM_BYTES
        self._max_packet_bytes = max_packet_bytes
        self._buffer = bytearray()
        self._whole: bytes | None = None  # a packet that came in one piece, as most do, and next in turn
        self._needed = _KEY_SIZE.size if init_header else _NBYTES.size

    def feed(self, data: bytes) -> None:
        """Add bytes that arrived."""
        whole = self.take_whole(data)
        if whole is None:
            self._buffer += data
        else:
            self._whole = whole

    def take_whole(self, data: bytes) -> bytes | None:
        """Give the packet that `data` is, where it is one and nothing else is held; None where it must be fed."""
        if (
            not self._buffer
            and self._whole is None
            and self.state is EndpointState.RECV_PACKET_NUM_BYTES
            and len(data) > PACKET_NBYTES
            and _NBYTES.unpack_from(data)[0] == len(data) - PACKET_NBYTES <= self._max_packet_bytes
        ):
            return data[PACKET_NBYTES:]
        return None

    @property
    def bytes_needed(self) -> int:
        """How many more bytes the next step needs; 0 when it can be taken."""
        return max(0, self._needed - len(self._buffer)) if self._whole is None else 0

    @property
    def buffered_bytes(self) -> int:
        """How many bytes are held."""
        return len(self._buffer) + len(self._whole or b"")

    @property
    def is_between_packets(self) -> bool:
        """Whether the stream may end here without a loss."""
        return self.state is EndpointState.RECV_PACKET_NUM_BYTES and not self._buffer and self._whole is None

    def next_packet(self) -> bytes | None:
        """Give the next packet (what follows packet_nbytes), or None where more bytes are needed.

        Raises ProtocolError for a packet or key larger than the bound: the stream cannot be followed any further.
        """
        if self._whole is not None:
            whole, self._whole = self._whole, None
            return whole
        buffer = self._buffer
        while len(buffer) >= self._needed:
            if self.state is EndpointState.RECV_PACKET_NUM_BYTES:
                (nbytes,) = _NBYTES.unpack_from(buffer)
                if nbytes > self._max_packet_bytes:
                    raise ProtocolError(
                        "3", f"a packet of {nbytes} bytes is announced; at most {self._max_packet_bytes} are taken"
                    )
                del buffer[: _NBYTES.size]
                if nbytes:
                    self._switch(EndpointState.PROCESS_PACKET, nbytes)
            elif self.state is EndpointState.PROCESS_PACKET:
                body = bytes(memoryview(buffer)[: self._needed])
                del buffer[: self._needed]
                self._switch(EndpointState.RECV_PACKET_NUM_BYTES, _NBYTES.size)
                return body
            else:
                self._read_key()
        return None

    def _read_key(self) -> None:
        buffer = self._buffer
        (size_bytes,) = _KEY_SIZE.unpack_from(buffer)
        if not 0 <= size_bytes <= _MAX_KEY_BYTES:
            raise ProtocolError(
                "5", f"a remote key of {size_bytes} bytes is announced; at most {_MAX_KEY_BYTES} are taken"
            )
        self._needed = _KEY_SIZE.size + size_bytes
        if len(buffer) >= self._needed:
            self.remote_key = bytes(buffer[_KEY_SIZE.size : self._needed]).decode(errors="backslashreplace")
            del buffer[: self._needed]
            self._switch(EndpointState.RECV_PACKET_NUM_BYTES, _NBYTES.size)

    def _switch(self, state: EndpointState, needed: int) -> None:
        self.state = state
        self._needed = needed

    def reset(self) -> None:
        """Forget a packet in progress: a new session begins between packets."""
        self._buffer.clear()
        self._whole = None
        self._switch(EndpointState.RECV_PACKET_NUM_BYTES, _NBYTES.size)


class ClientEndpoint:
    """The client role: one request in flight, its reply read from the stream (docs/protocol.md 5).

    on_aside: takes what the server says besides (docs/link.md 11), from its code on. While it is None, which it is
    until the server was asked for any, that is no less wrong than other bytes that nobody asked for.
    """

    def __init__(self, *, max_packet_bytes: int = MAX_PACKET_BYTES) -> None:
        self._reader = PacketReader(max_packet_bytes=max_packet_bytes)
        self.on_aside: Callable[[bytes], None] | None = None
        self._request: Request | None = None
        self._last: EndpointState | None = None

    @property
    def state(self) -> EndpointState:
        """Where the endpoint stands."""
        return self._last or self._reader.state

    @property
    def bytes_needed(self) -> int:
        """How many more bytes the next step needs."""
        return self._reader.bytes_needed

    def request(self, packet: Request) -> bytes:
        """Give the bytes of a request; its reply is awaited from here on.

        Raises as `expect`, and UnsupportedValueError for a value that cannot be sent; then nothing is awaited.
        """
        data = encode_packet(packet)
        self.expect(packet)
        return data

    def expect(self, packet: Request) -> None:
        """Await the reply of a request that the caller has encoded.

        Raises RequestError while another request is in flight, and after a shutdown.
        """
        if self._last is EndpointState.SHUTDOWN_RECEIVED:
            raise RequestError("the peer has shut this endpoint down; connect again")
        if self._request is not None:
            raise RequestError("a request is in flight on this endpoint; there is one at a time (docs/protocol.md 5)")
        self._request = packet
        self._last = None

    def feed(self, data: bytes) -> Reply | Shutdown | None:
        """Take bytes from the stream; give the reply once it is whole, None before.

        Raises ProtocolError for bytes that are not the reply of the request in flight. That is so for what follows a
        reply, too: left where it is, it would be taken for the next one.
        """
        reader = self._reader
        if self.on_aside is not None:
            return self._feed_beside(data, self.on_aside)
        body = reader.take_whole(data)
        if body is not None:
            reply = decode_packet(body)
            if type(reply) is Return and self._request is not None and type(self._request) is not CopyFromRemote:
                self._request = None
                self._last = EndpointState.RETURN_RECEIVED
                return reply
            return self._take(reply)
        reader.feed(data)
        body = reader.next_packet()
        if body is None:
            if self._request is None and not reader.is_between_packets:
                raise ProtocolError("5", _UNASKED)
            return None
        answer = self._take(decode_packet(body))
        if reader.next_packet() is not None or not reader.is_between_packets:
            raise ProtocolError("5", _UNASKED)
        return answer

    def _feed_beside(self, data: bytes, on_aside: Callable[[bytes], None]) -> Reply | Shutdown | None:
        """Do as `feed` where the server says something besides: before a reply, after it, and without one."""
        self._reader.feed(data)
        answer: Reply | Shutdown | None = None
        while (body := self._reader.next_packet()) is not None:
            if is_aside(body, FROM_SERVER):
                on_aside(body)
            else:
                answer = self._take(decode_packet(body))  # which there is none for without a request
        return answer

    def _take(self, reply: Packet) -> Reply | Shutdown:
        if isinstance(reply, Shutdown):
            self._last = EndpointState.SHUTDOWN_RECEIVED
            self._request = None
            return reply
        request, self._request = self._request, None
        if request is None:
            raise ProtocolError("5", f"{type(reply).__name__} arrived, and no request was in flight")
        if isinstance(reply, RemoteException):
            return reply
        if isinstance(request, CopyFromRemote):
            if isinstance(reply, CopyAck) and len(reply.data) == request.size_bytes:
                self._last = EndpointState.COPY_ACK_RECEIVED
                return reply
        elif isinstance(reply, Return):
            self._last = EndpointState.RETURN_RECEIVED
            return reply
        got = f"CopyAck of {len(reply.data)} bytes" if isinstance(reply, CopyAck) else type(reply).__name__
        raise ProtocolError("3", f"{got} arrived as the reply of {request_label(request)}")

    def end_of_stream(self) -> None:
        """Take note that the peer closed: clean between packets, else ProtocolError."""
        if self._request is not None or not self._reader.is_between_packets:
            raise ProtocolError("5", CLOSED_IN_PACKET)
        self._last = EndpointState.SHUTDOWN_RECEIVED

    def reset(self) -> None:
        """Forget the request in flight and a half-read reply: a new session has begun."""
        self._reader.reset()
        self._request = None
        self._last = None

    def shutdown(self) -> bytes:
        """Give the bytes of Shutdown, the last thing that a client says."""
        self._request = None
        self._last = EndpointState.SHUTDOWN_RECEIVED
        return encode_packet(Shutdown())


def request_label(request: Request) -> str:
    """Name a request as docs/protocol.md 3 does, for messages."""
    if isinstance(request, Syscall):
        return request.code.label if isinstance(request.code, PacketCode) else f"syscall {request.code}"
    return type(request).__name__
