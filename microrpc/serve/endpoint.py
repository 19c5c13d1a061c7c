"""The server role of the RPC endpoint (docs/protocol.md 5).

`ServerEndpoint` takes bytes, hands each request to its serving session, and holds the replies until they are taken.
A request that cannot be understood is answered with an exception: packet_nbytes tells where the next one begins.
It does no I/O; `run_server` is the blocking loop around it, and `on_io` the event-driven way.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Protocol

from microrpc.errors import MicroRpcError, ProtocolError
from microrpc.wire.asides import FROM_CLIENT, is_aside
from microrpc.wire.checks import show
from microrpc.wire.datatypes import Value
from microrpc.wire.packets import (
    PROTOCOL_VERSION,
    RETURN_NONE,
    CopyAck,
    InitServer,
    Packet,
    RemoteException,
    Reply,
    Request,
    Return,
    Shutdown,
    decode_packet,
    encode_packet,
)
from microrpc.wire.reader import CLOSED_IN_PACKET, MAX_PACKET_BYTES, EndpointState, PacketReader

NOT_INITIALISED = "Need to call InitRemoteSession first before any further actions"
"""What every request is answered with before InitServer has named a session."""
NO_ASYNC = "Cannot host an async session in a non-Event driven server"
"""What every request is answered with where the session is asynchronous and the server is not event-driven."""
DEFAULT_CONSTRUCTOR = "rpc.LocalSession"
"""The constructor of an InitServer that names none."""
WRITABLE = 2
"""The bit of `on_io`'s event_flag that says that the channel can be written."""
ENDINGS = (SystemExit, GeneratorExit)
"""What a served function may raise besides an Exception that is its own, and ends no program; Ctrl-C does."""
_SHOWN_CHARACTERS = 500  # of what a client named

Done = Callable[[Reply], None]
"""Takes the reply of a request; called once for each."""
Constructor = Callable[..., object]
"""Makes a serving session of the arguments that InitServer has after the constructor's name."""


class ServingSession(Protocol):
    """Who executes the requests.

    `submit` calls `done` with the reply exactly once: before it returns where `is_async` is False, at any time
    (from the thread that drives the server) where it is True.
    """

    @property
    def is_async(self) -> bool:
        """Whether `done` may be called after `submit` has returned."""

    def submit(self, request: Request, done: Done) -> None:
        """Execute `request` and call `done` with its reply. Raises nothing: what goes wrong is a RemoteException."""


class Codec(Protocol):
    """The layout of packets: what is between their bytes and what they mean (docs/protocol.md 3, docs/tvm_wire.md)."""

    def decode_packet(self, body: bytes) -> Packet:
        """Give the packet whose bytes after packet_nbytes are `body`. Raises ProtocolError."""

    def encode_packet(self, packet: Packet) -> bytes:
        """Give the whole packet. Raises UnsupportedValueError for what cannot be sent."""


class _BoardsCodec:
    """The layout of docs/protocol.md 3."""

    decode_packet = staticmethod(decode_packet)
    encode_packet = staticmethod(encode_packet)


def encode_reply(reply: Reply, codec: Codec = _BoardsCodec) -> bytes:
    """Give the packet of `reply`, or that of an exception where it holds what cannot be sent."""
    try:
        return codec.encode_packet(reply)
    except MicroRpcError as error:
        return codec.encode_packet(RemoteException(f"{type(error).__name__}: {error}"))


class ServerStatus(enum.IntEnum):
    """What the event-driven server answers after each event."""

    SHUT_DOWN = 0
    """The client sent Shutdown, or closed between two packets: nothing more is served."""
    NEEDS_INPUT = 1
    """All that came is served, and all replies are taken."""
    HAS_OUTPUT = 2
    """Replies wait to be sent."""


class ServerEndpoint:
    """The server's state machine.

    session: a serving session that needs no InitServer, as on the C runtime, which accepts one without arguments;
    without it everything is refused until InitServer names one of `constructors` ("rpc.LocalSession" where it names
    none). event_driven: whether asynchronous sessions can be hosted. send: takes bytes and tells how many it took;
    used by `on_io`, and to flush a reply that an asynchronous session gave. init_header: the stream begins with
    the remote key. on_aside: takes what a client says beside its requests (docs/link.md 11), from its code on, while
    one is executed, too; it may raise ProtocolError. Without it, that is a request that nobody knows. codec: the layout
    of the packets, that of docs/protocol.md 3 where nothing is said. unknown_constructor: what it answers to an
    InitServer that names none of them, in front of the name.
    """

    def __init__(
        self,
        *,
        name: str = "server",
        session: ServingSession | None = None,
        constructors: Mapping[str, Constructor] | None = None,
        event_driven: bool = False,
        send: Callable[[bytes], int] | None = None,
        init_header: bool = False,
        max_packet_bytes: int = MAX_PACKET_BYTES,
        on_aside: Callable[[bytes], None] | None = None,
        codec: Codec = _BoardsCodec,
        unknown_constructor: str = "Cannot find session constructor",
    ) -> None:
        self.name = name
        """What its refusals of InitServer call it."""
        self._reader = PacketReader(max_packet_bytes=max_packet_bytes, init_header=init_header)
        self._max_packet_bytes = max_packet_bytes
        self._fixed_session = session
        self._session = session
        self._constructors = dict(constructors or {})
        self._event_driven = event_driven
        self._send = send
        self._on_aside = on_aside
        self._codec = codec
        self._unknown_constructor = unknown_constructor
        self._next: bytes | None = None  # a request that was read while another is executed
        self._output = bytearray()
        self._waiting: object | None = None
        self._shut_down = False

    @property
    def state(self) -> EndpointState:
        """Where the endpoint stands, by the names of docs/protocol.md 5."""
        if self._shut_down:
            return EndpointState.SHUTDOWN_RECEIVED
        if self._waiting is not None:
            return EndpointState.WAIT_FOR_ASYNC_CALLBACK
        return self._reader.state

    @property
    def remote_key(self) -> str | None:
        """The key that the client sent first; None before it is there, and without `init_header`."""
        return self._reader.remote_key

    @property
    def bytes_needed(self) -> int:
        """How many more bytes the next step needs; 0 when it can be taken."""
        return self._reader.bytes_needed

    @property
    def buffered_bytes(self) -> int:
        """How many bytes are held that came and were not served."""
        return self._reader.buffered_bytes + len(self._next or b"")

    def feed(self, data: bytes) -> ServerStatus:
        """Take bytes from the stream and serve what is whole.

        Raises ProtocolError where the stream cannot be followed: a packet beyond the bound, a reply, or more bytes
        than the bound behind a request that an asynchronous session is still executing.
        """
        if self._shut_down:
            return ServerStatus.SHUT_DOWN
        self._reader.feed(data)
        self._serve()
        if self._waiting is not None and self.buffered_bytes > self._max_packet_bytes:
            raise ProtocolError("5", f"{self.buffered_bytes} bytes arrived while a request was executed")
        return self._status()

    def take_output(self) -> bytes:
        """Give the bytes of the replies that wait to be sent, once; they are empty where none do."""
        output = bytes(self._output)
        self._output.clear()
        return output

    def encode(self, packet: Packet) -> bytes:
        """Give a packet in the layout of the client, for what is said to it beside replies."""
        return self._codec.encode_packet(packet)

    def on_io(self, in_bytes: bytes, event_flag: int) -> ServerStatus:
        """Serve one event: `in_bytes` came in (may be none); `event_flag` & 2: the channel can be written.

        Gives 0: shut down, 1: wants input, 2: has output left (docs/protocol.md 5). Raises as `feed` does.
        """
        if in_bytes:
            self.feed(in_bytes)
        if event_flag & WRITABLE:
            self._flush()
        return self._status()

    def end_of_stream(self) -> None:
        """Take note that the peer closed: clean between packets, else ProtocolError."""
        if not self._reader.is_between_packets or self._waiting is not None:
            raise ProtocolError("5", CLOSED_IN_PACKET)
        self._shut_down = True

    def reset(self) -> None:
        """Forget a packet in progress and a reply that is still to come: the client opened a new session."""
        self._reader.reset()
        self._output.clear()
        self._waiting = self._next = None

    def _status(self) -> ServerStatus:
        if self._shut_down:
            return ServerStatus.SHUT_DOWN
        return ServerStatus.HAS_OUTPUT if self._output else ServerStatus.NEEDS_INPUT

    def _flush(self) -> None:
        if self._send is not None and self._output:
            del self._output[: self._send(bytes(self._output))]

    def _serve(self) -> None:
        while not self._shut_down and (self._waiting is None or (self._on_aside is not None and self._next is None)):
            body, self._next = self._next or self._reader.next_packet(), None
            if body is None:
                return
            if self._on_aside is not None and is_aside(body, FROM_CLIENT):
                self._on_aside(body)
                continue
            if self._waiting is not None:
                self._next = body
                return
            try:
                packet = self._codec.decode_packet(body)
            except ProtocolError as error:
                self._reply(RemoteException(str(error)))
                continue
            if isinstance(packet, Shutdown):
                self._shut_down = True
            elif isinstance(packet, InitServer):
                self._reply(self._init_server(packet))
            elif isinstance(packet, Return | RemoteException | CopyAck):
                raise ProtocolError("5", f"{type(packet).__name__} arrived at a server")
            else:
                self._submit(packet)

    def _submit(self, request: Request) -> None:
        session = self._session
        if session is None:
            self._reply(RemoteException(NOT_INITIALISED))
            return
        if session.is_async and not self._event_driven:
            self._reply(RemoteException(NO_ASYNC))
            return
        ticket = object()
        self._waiting = ticket
        in_submit = True

        def done(reply: Reply) -> None:
            if self._waiting is not ticket:  # answered already, or of a session that is over
                return
            self._waiting = None
            self._reply(reply)
            if not in_submit:
                self._flush()
                self._serve()

        session.submit(request, done)
        in_submit = False

    def _reply(self, reply: Reply) -> None:
        self._output += encode_reply(reply, self._codec)

    def _init_server(self, packet: InitServer) -> Reply:
        if self._fixed_session is not None and not packet.args:
            return self._check_version(packet) or RETURN_NONE
        if self._session is not None:
            return RemoteException("Server has already been initialized")
        mismatch = self._check_version(packet)
        if mismatch is not None:
            return mismatch
        name, *args = packet.args or (DEFAULT_CONSTRUCTOR,)
        constructor = self._constructors.get(name) if isinstance(name, str) else None
        if constructor is None:
            shown = _brief(name) if isinstance(name, str) else show(name)
            return RemoteException(f"{self._unknown_constructor} {shown}")
        return self._construct(str(name), constructor, args)

    def _check_version(self, packet: InitServer) -> RemoteException | None:
        if packet.version == PROTOCOL_VERSION:
            return None
        return RemoteException(
            f"Server[{self.name}]: Client protocol version mismatch with the server "
            f" server protocol={PROTOCOL_VERSION}, client protocol={_brief(packet.version)}"
        )

    def _construct(self, name: str, constructor: Constructor, args: list[Value]) -> Reply:
        try:
            session = constructor(*args)
        except (Exception, *ENDINGS) as error:  # whatever a constructor raises is the client's to read
            return RemoteException(f"Server[{self.name}]: Error caught from session constructor {name}:\n{error}")
        if not (hasattr(session, "submit") and hasattr(session, "is_async")):
            return RemoteException(f"Server[{self.name}]: Constructor {name} need to return an RPCModule")
        self._session = session
        return RETURN_NONE


def _brief(text: str) -> str:
    """Give the beginning of what a peer said, for an answer: it may be as long as a packet."""
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}... ({len(text)} characters)"


class ByteStream(Protocol):
    """What `run_server` reads from and writes to; both may wait, `read` gives b"" at the end of the stream."""

    def read(self, size_bytes: int) -> bytes:
        """Give 1 to `size_bytes` bytes, or b"" at the end of the stream."""

    def write(self, data: bytes) -> None:
        """Write all of `data`."""


def run_server(
    endpoint: ServerEndpoint,
    stream: ByteStream,
    *,
    on_start: Callable[[], None] | None = None,
    on_shutdown: Callable[[], None] | None = None,
    cleanup: Callable[[], None] | None = None,
) -> None:
    """Serve `stream` until Shutdown or its end; the hooks run before the loop, after it, and last of all.

    Raises ProtocolError when the stream ends in mid-packet or cannot be followed; `cleanup` runs even then.
    """
    try:
        if on_start is not None:
            on_start()
        status = ServerStatus.NEEDS_INPUT
        while status is not ServerStatus.SHUT_DOWN:
            data = stream.read(max(endpoint.bytes_needed, 1))
            if not data:
                endpoint.end_of_stream()
                break
            status = endpoint.feed(data)
            output = endpoint.take_output()
            if output:
                stream.write(output)
        if on_shutdown is not None:
            on_shutdown()
    finally:
        if cleanup is not None:
            cleanup()
