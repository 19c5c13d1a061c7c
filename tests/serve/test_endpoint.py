from __future__ import annotations

import socket
import struct
import sys
import threading
from collections.abc import Callable

import pytest

from microrpc.errors import ProtocolError
from microrpc.serve.endpoint import Done, ServerEndpoint, ServerStatus, run_server
from microrpc.serve.local import LocalSession
from microrpc.wire.datatypes import ModuleHandle, OpaqueHandle, Value
from microrpc.wire.packets import (
    RETURN_NONE,
    CallFunc,
    CopyAck,
    InitServer,
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
from microrpc.wire.reader import ClientEndpoint, EndpointState

INIT = InitServer("0.8.0", ())
LOOK_UP = Syscall(PacketCode.GET_GLOBAL_FUNC, ("f",))
FOUND = Return((OpaqueHandle(1 << 63),))
NOT_INITIALISED = "Need to call InitRemoteSession first before any further actions"


def local() -> LocalSession:
    return LocalSession({"f": len})


def packets_in(data: bytes) -> list[Packet]:
    found = []
    while data:
        (nbytes,) = struct.unpack_from("<Q", data)
        found.append(decode_packet(data[8 : 8 + nbytes]))
        data = data[8 + nbytes :]
    return found


def ask(server: ServerEndpoint, *requests: Request) -> list[Packet]:
    server.feed(b"".join(map(encode_packet, requests)))
    return packets_in(server.take_output())


class Async:
    """An asynchronous session whose answers come when a test says so."""

    is_async = True

    def __init__(self) -> None:
        self.asked: list[tuple[Request, Done]] = []

    def submit(self, request: Request, done: Done) -> None:
        self.asked.append((request, done))

    def answer(self, reply: Reply = FOUND, index: int = -1) -> None:
        self.asked[index][1](reply)


class Sink:
    """Where a server sends to; takes `room` bytes and no more."""

    def __init__(self, room: int = 1 << 20) -> None:
        self.room = room
        self.data = b""

    def send(self, data: bytes) -> int:
        taken = data[: self.room]
        self.data += taken
        self.room -= len(taken)
        return len(taken)


# --- InitServer -------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [LOOK_UP, CallFunc(1, ())])
def test_everything_is_refused_before_init_server(request_: Request) -> None:
    assert ask(ServerEndpoint(), request_, request_) == [RemoteException(NOT_INITIALISED)] * 2


def test_init_server_without_a_name_takes_the_local_session() -> None:
    server = ServerEndpoint(constructors={"rpc.LocalSession": local})
    assert ask(server, INIT, LOOK_UP) == [RETURN_NONE, FOUND]


def test_init_server_gives_its_arguments_to_the_constructor_that_it_names() -> None:
    seen: list[tuple[Value, ...]] = []

    def construct(*args: Value) -> LocalSession:
        seen.append(args)
        return local()

    server = ServerEndpoint(constructors={"my.session": construct})
    assert ask(server, InitServer("0.8.0", ("my.session", 5, "x", b"y")), LOOK_UP) == [RETURN_NONE, FOUND]
    assert seen == [(5, "x", b"y")]


def test_init_server_may_be_done_once() -> None:
    server = ServerEndpoint(constructors={"rpc.LocalSession": local})
    again = RemoteException("Server has already been initialized")
    assert ask(server, INIT, INIT, LOOK_UP) == [RETURN_NONE, again, FOUND]


@pytest.mark.parametrize("session", [None, local()])
def test_another_protocol_version_is_refused_with_both_versions(session: LocalSession | None) -> None:
    server = ServerEndpoint(name="bench", session=session, constructors={"rpc.LocalSession": local})
    [refusal] = ask(server, InitServer("0.7.0", ()))
    assert refusal == RemoteException(
        "Server[bench]: Client protocol version mismatch with the server  server protocol=0.8.0, client protocol=0.7.0"
    )
    assert ask(server, INIT) == [RETURN_NONE]


@pytest.mark.parametrize("name", ["my.session", 5])
def test_an_unknown_constructor_is_refused_by_its_name(name: str | int) -> None:
    server = ServerEndpoint(constructors={"rpc.LocalSession": local})
    refusals = ask(server, InitServer("0.8.0", (name,)), LOOK_UP)
    assert refusals == [RemoteException(f"Cannot find session constructor {name}"), RemoteException(NOT_INITIALISED)]


def test_the_error_of_a_constructor_reaches_the_client_with_its_name() -> None:
    def construct(path: str) -> LocalSession:
        raise OSError(f"no such model: {path}")

    server = ServerEndpoint(name="bench", constructors={"my.session": construct})
    assert ask(server, InitServer("0.8.0", ("my.session", "m.so"))) == [
        RemoteException("Server[bench]: Error caught from session constructor my.session:\nno such model: m.so")
    ]


def test_a_constructor_that_ends_its_program_ends_the_opening_alone() -> None:
    server = ServerEndpoint(name="bench", constructors={"my.session": sys.exit})
    assert ask(server, InitServer("0.8.0", ("my.session", 3))) == [
        RemoteException("Server[bench]: Error caught from session constructor my.session:\n3")
    ]


@pytest.mark.parametrize("thing", [None, 5, object()])
def test_a_constructor_that_gives_no_session_is_refused(thing: object) -> None:
    server = ServerEndpoint(name="bench", constructors={"my.session": lambda: thing})
    refusal = RemoteException("Server[bench]: Constructor my.session need to return an RPCModule")
    assert ask(server, InitServer("0.8.0", ("my.session",)), LOOK_UP) == [refusal, RemoteException(NOT_INITIALISED)]


def test_a_server_with_a_session_needs_no_init_server_and_takes_one_without_arguments() -> None:
    server = ServerEndpoint(session=local(), constructors={"rpc.LocalSession": local})
    refusal = RemoteException("Server has already been initialized")
    with_name = InitServer("0.8.0", ("rpc.LocalSession",))
    assert ask(server, LOOK_UP, INIT, INIT, with_name) == [FOUND, RETURN_NONE, RETURN_NONE, refusal]


# --- the stream -------------------------------------------------------------------------------


def test_bytes_may_come_one_at_a_time_and_it_knows_how_many_it_needs() -> None:
    server = ServerEndpoint(session=local())
    data = encode_packet(LOOK_UP)
    for index, byte in enumerate(data):
        assert server.bytes_needed == (8 if index < 8 else len(data)) - index
        assert server.state is (EndpointState.RECV_PACKET_NUM_BYTES if index < 8 else EndpointState.PROCESS_PACKET)
        status = server.feed(bytes([byte]))
    assert status is ServerStatus.HAS_OUTPUT
    assert packets_in(server.take_output()) == [FOUND]
    assert server.feed(b"") is ServerStatus.NEEDS_INPUT


def test_several_packets_at_once_are_answered_in_their_order() -> None:
    server = ServerEndpoint(session=local())
    other = Syscall(PacketCode.GET_GLOBAL_FUNC, ("g",))
    assert ask(server, LOOK_UP, other, LOOK_UP) == [FOUND, Return((OpaqueHandle(0),)), FOUND]


def test_an_empty_packet_is_skipped() -> None:
    server = ServerEndpoint(session=local())
    server.feed(bytes(8) + encode_packet(LOOK_UP))
    assert packets_in(server.take_output()) == [FOUND]


@pytest.mark.parametrize(
    "body", [struct.pack("<i", 0), struct.pack("<ii", 9, 5), b"\x01", struct.pack("<iiiB", 9, 1, 8, 0)]
)
def test_a_malformed_request_is_answered_and_the_stream_goes_on(body: bytes) -> None:
    server = ServerEndpoint(session=local())
    server.feed(struct.pack("<Q", len(body)) + body + encode_packet(LOOK_UP))
    refusal, answer = packets_in(server.take_output())
    assert isinstance(refusal, RemoteException)
    assert "docs/protocol.md, section 3" in refusal.message
    assert answer == FOUND


@pytest.mark.parametrize("packet", [RETURN_NONE, RemoteException("no"), CopyAck(b"data")])
def test_a_reply_that_arrives_at_a_server_ends_the_stream(packet: Reply) -> None:
    with pytest.raises(ProtocolError, match=f"{type(packet).__name__} arrived at a server"):
        ServerEndpoint(session=local()).feed(encode_packet(packet))


def test_a_packet_beyond_the_bound_ends_the_stream() -> None:
    server = ServerEndpoint(session=local(), max_packet_bytes=100)
    with pytest.raises(ProtocolError, match="a packet of 101 bytes is announced; at most 100 are taken"):
        server.feed(struct.pack("<Q", 101))


def test_shutdown_ends_it_and_what_follows_is_not_served() -> None:
    server = ServerEndpoint(session=local())
    assert server.feed(encode_packet(LOOK_UP) + encode_packet(Shutdown()) + encode_packet(LOOK_UP)) is (
        ServerStatus.SHUT_DOWN
    )
    assert packets_in(server.take_output()) == [FOUND]
    assert server.state is EndpointState.SHUTDOWN_RECEIVED


def test_the_end_of_the_stream_is_clean_between_packets_only() -> None:
    server = ServerEndpoint(session=local())
    server.end_of_stream()
    assert server.state is EndpointState.SHUTDOWN_RECEIVED
    for part in (1, 8, 12):
        server = ServerEndpoint(session=local())
        server.feed(encode_packet(LOOK_UP)[:part])
        with pytest.raises(ProtocolError, match="Channel closes before we get needed bytes"):
            server.end_of_stream()


def test_the_remote_key_is_read_first_where_there_is_one() -> None:
    server = ServerEndpoint(session=local(), init_header=True)
    assert (server.state, server.bytes_needed, server.remote_key) == (EndpointState.INIT_HEADER, 4, None)
    data = struct.pack("<i", 6) + b"client"
    for index, byte in enumerate(data):
        assert server.remote_key is None
        assert server.bytes_needed == (4 if index < 4 else 10) - index
        server.feed(bytes([byte]))
    assert server.remote_key == "client"
    assert ask(server, LOOK_UP) == [FOUND]


@pytest.mark.parametrize("size", [-1, 1 << 20])
def test_a_remote_key_of_a_senseless_length_ends_the_stream(size: int) -> None:
    server = ServerEndpoint(session=local(), init_header=True)
    with pytest.raises(ProtocolError, match=f"a remote key of {size} bytes"):
        server.feed(struct.pack("<i", size))


def test_a_stream_that_ends_within_the_remote_key_is_an_error() -> None:
    server = ServerEndpoint(session=local(), init_header=True)
    with pytest.raises(ProtocolError, match="Channel closes"):
        server.end_of_stream()


def test_a_reply_that_cannot_be_sent_becomes_an_exception() -> None:
    class Wrong:
        is_async = False

        def submit(self, request: Request, done: Done) -> None:
            done(Return((ModuleHandle(1),)))

    [answer] = ask(ServerEndpoint(session=Wrong()), LOOK_UP)
    assert isinstance(answer, RemoteException)
    assert "goes from client to server only" in answer.message


def test_a_reset_forgets_a_half_read_packet_and_what_was_to_be_sent() -> None:
    server = ServerEndpoint(session=local())
    server.feed(encode_packet(LOOK_UP) + encode_packet(LOOK_UP)[:9])
    server.reset()
    assert server.take_output() == b""
    assert ask(server, LOOK_UP) == [FOUND]


# --- asynchronous sessions --------------------------------------------------------------------


def test_an_async_session_is_refused_by_a_server_that_is_not_event_driven() -> None:
    refusal = RemoteException("Cannot host an async session in a non-Event driven server")
    server = ServerEndpoint(constructors={"rpc.LocalSession": Async})
    assert ask(server, INIT, LOOK_UP) == [RETURN_NONE, refusal]


def test_a_request_waits_for_its_callback_and_the_next_one_waits_for_it() -> None:
    session, sink = Async(), Sink()
    server = ServerEndpoint(session=session, event_driven=True, send=sink.send)
    assert server.feed(encode_packet(LOOK_UP) * 2) is ServerStatus.NEEDS_INPUT
    assert server.state is EndpointState.WAIT_FOR_ASYNC_CALLBACK
    assert len(session.asked) == 1
    session.answer()
    assert packets_in(sink.data) == [FOUND]  # flushed by the callback
    assert len(session.asked) == 2
    session.answer(CopyAck(b"data"))
    assert packets_in(sink.data) == [FOUND, CopyAck(b"data")]
    assert server.bytes_needed == 8


def test_an_async_session_may_answer_at_once() -> None:
    class Prompt(Async):
        def submit(self, request: Request, done: Done) -> None:
            done(FOUND)

    assert ask(ServerEndpoint(session=Prompt(), event_driven=True), LOOK_UP, LOOK_UP) == [FOUND, FOUND]


def test_a_second_callback_is_ignored() -> None:
    session, sink = Async(), Sink()
    server = ServerEndpoint(session=session, event_driven=True, send=sink.send)
    server.feed(encode_packet(LOOK_UP) * 2)
    session.answer()
    session.answer(RETURN_NONE, index=0)
    assert packets_in(sink.data) == [FOUND]
    assert server.state is EndpointState.WAIT_FOR_ASYNC_CALLBACK


def test_a_callback_of_a_session_that_is_over_is_ignored() -> None:
    session, sink = Async(), Sink()
    server = ServerEndpoint(session=session, event_driven=True, send=sink.send)
    server.feed(encode_packet(LOOK_UP))
    server.reset()
    session.answer(RETURN_NONE)
    assert sink.data == b""
    server.feed(encode_packet(LOOK_UP))
    session.answer()
    assert packets_in(sink.data) == [FOUND]


def test_a_stream_that_ends_before_the_callback_is_an_error() -> None:
    server = ServerEndpoint(session=Async(), event_driven=True)
    server.feed(encode_packet(LOOK_UP))
    with pytest.raises(ProtocolError, match="Channel closes"):
        server.end_of_stream()


def test_shutdown_is_read_after_the_callback() -> None:
    session = Async()
    server = ServerEndpoint(session=session, event_driven=True)
    assert server.feed(encode_packet(LOOK_UP) + encode_packet(Shutdown())) is ServerStatus.NEEDS_INPUT
    session.answer()
    assert server.on_io(b"", 0) == 0
    assert packets_in(server.take_output()) == [FOUND]


# --- the event-driven server ------------------------------------------------------------------


def test_on_io_answers_0_shut_down_1_wants_input_2_has_output() -> None:
    sink = Sink(room=10)
    server = ServerEndpoint(session=local(), event_driven=True, send=sink.send)
    data = encode_packet(LOOK_UP)
    assert server.on_io(b"", 0) == 1
    assert server.on_io(data[:5], 1) == 1
    assert server.on_io(data[5:], 1) == 2
    assert sink.data == b""  # the channel cannot be written
    assert server.on_io(b"", 2) == 2
    assert len(sink.data) == 10
    sink.room = 1000
    assert server.on_io(b"", 2) == 1
    assert packets_in(sink.data) == [FOUND]
    assert server.on_io(data, 3) == 1  # readable and writable
    assert packets_in(sink.data) == [FOUND, FOUND]
    assert server.on_io(encode_packet(Shutdown()), 1) == 0
    assert server.on_io(b"", 2) == 0


def test_what_a_callback_could_not_flush_goes_with_the_next_event() -> None:
    session, sink = Async(), Sink(room=3)
    server = ServerEndpoint(session=session, event_driven=True, send=sink.send)
    server.on_io(encode_packet(LOOK_UP), 1)
    session.answer()
    assert len(sink.data) == 3
    assert server.on_io(b"", 0) == 2
    sink.room = 1000
    assert server.on_io(b"", 2) == 1
    assert packets_in(sink.data) == [FOUND]


# --- the blocking server ----------------------------------------------------------------------


class SocketStream:
    """A socket as `run_server` wants it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def read(self, size_bytes: int) -> bytes:
        return self.connection.recv(size_bytes)

    def write(self, data: bytes) -> None:
        self.connection.sendall(data)


def serve(client: Callable[[socket.socket], None], endpoint: ServerEndpoint) -> list[str]:
    """Run `client` against `run_server` over a socketpair; give the hooks and the error in their order."""
    ours, theirs = socket.socketpair()
    events: list[str] = []

    def run() -> None:
        with ours:
            try:
                run_server(
                    endpoint,
                    SocketStream(ours),
                    on_start=lambda: events.append("start"),
                    on_shutdown=lambda: events.append("shutdown"),
                    cleanup=lambda: events.append("cleanup"),
                )
            except ProtocolError as error:
                events.append(error.reason)

    thread = threading.Thread(target=run)
    thread.start()
    with theirs:
        theirs.settimeout(10)
        client(theirs)
    thread.join(10)
    assert not thread.is_alive()
    return events


def exchange(connection: socket.socket, request: Request) -> Packet:
    connection.sendall(encode_packet(request))
    (nbytes,) = struct.unpack("<Q", connection.recv(8, socket.MSG_WAITALL))
    return decode_packet(connection.recv(nbytes, socket.MSG_WAITALL))


def test_the_blocking_server_serves_until_shutdown_with_its_hooks_in_order() -> None:
    def client(connection: socket.socket) -> None:
        assert exchange(connection, INIT) == RETURN_NONE
        assert exchange(connection, LOOK_UP) == FOUND
        connection.sendall(encode_packet(Shutdown()))
        assert connection.recv(1) == b""  # there is no reply

    endpoint = ServerEndpoint(constructors={"rpc.LocalSession": local})
    assert serve(client, endpoint) == ["start", "shutdown", "cleanup"]


def test_a_peer_that_closes_between_packets_ends_it_cleanly() -> None:
    def client(connection: socket.socket) -> None:
        assert exchange(connection, LOOK_UP) == FOUND

    assert serve(client, ServerEndpoint(session=local())) == ["start", "shutdown", "cleanup"]


def test_a_peer_that_closes_in_mid_packet_is_an_error_after_the_cleanup() -> None:
    def client(connection: socket.socket) -> None:
        connection.sendall(encode_packet(LOOK_UP)[:-1])

    events = serve(client, ServerEndpoint(session=local()))
    assert events == ["start", "cleanup", "Channel closes before we get needed bytes"]


def test_the_hooks_may_be_left_out() -> None:
    class Recorded:
        """A stream that gives what it was made with, piece by piece."""

        def __init__(self, data: bytes) -> None:
            self.data = data
            self.written = b""
            self.sizes: list[int] = []

        def read(self, size_bytes: int) -> bytes:
            self.sizes.append(size_bytes)
            piece, self.data = self.data[:size_bytes], self.data[size_bytes:]
            return piece

        def write(self, data: bytes) -> None:
            self.written += data

    packet = encode_packet(LOOK_UP)
    stream = Recorded(packet * 2)
    run_server(ServerEndpoint(session=local()), stream)
    assert packets_in(stream.written) == [FOUND, FOUND]
    assert stream.sizes == [8, len(packet) - 8, 8, len(packet) - 8, 8]  # never more than it needs


def test_a_result_that_cannot_be_sent_is_answered_with_an_exception() -> None:
    server = ServerEndpoint(session=LocalSession({"huge": lambda: 2**64}))
    client = ClientEndpoint()
    server.feed(client.request(Syscall(PacketCode.GET_GLOBAL_FUNC, ("huge",))))
    reply = client.feed(server.take_output())
    assert isinstance(reply, Return)
    (handle,) = reply.values
    assert isinstance(handle, int)
    server.feed(client.request(CallFunc(handle, ())))
    answer = client.feed(server.take_output())
    assert isinstance(answer, RemoteException)
    assert answer.message.startswith("UnsupportedValueError")


def test_what_arrives_behind_a_request_in_progress_is_bounded() -> None:
    class Never:
        is_async = True

        def submit(self, request: object, done: Done) -> None:
            """Never answer."""

    server = ServerEndpoint(session=Never(), event_driven=True, max_packet_bytes=1000)
    request = encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, ("f",)))
    for _ in range(1 + 1000 // len(request)):  # the first is taken, the others wait behind it
        server.feed(request)
    with pytest.raises(ProtocolError, match="while a request was executed"):
        server.feed(request)


def test_what_arrives_after_a_shutdown_is_not_kept() -> None:
    server = ServerEndpoint(session=LocalSession())
    assert server.feed(encode_packet(Shutdown())) is ServerStatus.SHUT_DOWN
    assert server.feed(bytes(1 << 20)) is ServerStatus.SHUT_DOWN
    assert server.bytes_needed == 8


# --- what a client says beside its requests (docs/link.md 11) -----------------------------------------

_ASIDE = struct.pack("<QiB", 5, 0x4D520001, 1)


def test_what_a_client_says_beside_its_requests_is_taken_while_one_is_executed_and_in_its_order() -> None:
    said: list[object] = []
    waiting: list[Done] = []

    class Waiting:
        is_async = True

        def submit(self, request: Request, done: Done) -> None:
            said.append(request)
            waiting.append(done)

    endpoint = ServerEndpoint(session=Waiting(), event_driven=True, on_aside=said.append)
    first, second = CallFunc(1, ()), CallFunc(2, ())
    data = _ASIDE + encode_packet(first) + _ASIDE + encode_packet(second) + _ASIDE
    for byte in data:
        endpoint.feed(bytes([byte]))
    assert said == [_ASIDE[8:], first, _ASIDE[8:]]
    assert endpoint.buffered_bytes == len(encode_packet(second)) - 8 + len(_ASIDE)
    waiting.pop()(RETURN_NONE)
    assert said == [_ASIDE[8:], first, _ASIDE[8:], second, _ASIDE[8:]]
    assert endpoint.buffered_bytes == 0
    endpoint.reset()
    endpoint.feed(encode_packet(first) + encode_packet(second))
    endpoint.reset()
    waiting.pop()(RETURN_NONE)
    endpoint.feed(encode_packet(first))
    assert said[5:] == [first, first], "what was read behind a request is of the session that is over"


def test_without_anybody_to_take_it_that_is_a_request_that_nobody_knows() -> None:
    endpoint = ServerEndpoint(session=LocalSession())
    endpoint.feed(struct.pack("<Qii", 8, 0x4D520001, 0))
    assert b"1297219585" in endpoint.take_output()
