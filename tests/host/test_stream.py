"""RPC over a plain byte stream: `StreamConnection`, a `Board` on it over TCP, and a board served again by proxy."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from typing import Self, TypeVar

import numpy as np
import pytest

from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from firmware_sim.running.loopback import LoopbackChannel
from microrpc import connect, open_board
from microrpc.client.board import Board
from microrpc.errors import (
    CallTimeoutError,
    ClosedError,
    FunctionNotFoundError,
    PortError,
    PortLostError,
    PortNotFoundError,
    ProtocolError,
    RemoteError,
)
from microrpc.host.operation import AT_ONCE, Operation
from microrpc.host.stream import StreamConnection
from microrpc.ports.opening import open_tcp
from microrpc.serve.endpoint import WRITABLE, ServerEndpoint, ServerStatus, run_server
from microrpc.serve.local import LocalSession, Module
from microrpc.serve.proxy import AsyncProxySession, ProxySession
from microrpc.wire.datatypes import OpaqueHandle
from microrpc.wire.packets import (
    RETURN_NONE,
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
    encode_packet,
)
from microrpc.wire.reader import ClientEndpoint, EndpointState
from microrpc.wire.session import Timeouts

T = TypeVar("T")
LIMIT_S = 20.0  # nothing here takes so long, and nothing waits longer
TIMEOUTS = Timeouts(retry_s=1.0, start_s=10.0, call_s=10.0)
LOOK_UP = Syscall(PacketCode.GET_GLOBAL_FUNC, ("f",))
FOUND = Return((OpaqueHandle(7),))
INIT = InitServer("0.8.0", ())


# --- the connection alone, on virtual time --------------------------------------------------


class Peer:
    """Pumps a connection: `answers` are the pieces that arrive, one at each wait; b"" lets the deadline come."""

    def __init__(self, connection: StreamConnection) -> None:
        self.connection = connection
        self.now = 100.0
        self.sent = b""
        self.waits: list[float] = []

    def run(self, operation: Operation[T], *answers: bytes, at_once: bytes = b"") -> T:
        arriving = iter(answers)
        try:
            deadline = operation.send(None)  # type: ignore[arg-type]  # a generator starts with None
            while True:
                data = at_once if deadline == AT_ONCE else next(arriving)
                if deadline != AT_ONCE:
                    self.waits.append(deadline)
                    self.now = self.now if data else deadline
                deadline = operation.send((data, self.now))
                self.sent += self.connection.output.take(AT_ONCE, 0.0)[0]
        except StopIteration as stop:
            self.sent += self.connection.output.take(AT_ONCE, 0.0)[0]
            result: T = stop.value
            return result

    def ask(self, *answers: bytes, request: Request = LOOK_UP, timeout_s: float = 2.0, at_once: bytes = b"") -> Reply:
        exchange = self.connection.exchange(
            request, encode_packet(request), timeout_s=timeout_s, repeatable=True, epoch=None
        )
        return self.run(exchange, *answers, at_once=at_once)


def peer() -> Peer:
    return Peer(StreamConnection(timeouts=TIMEOUTS))


def test_opening_sends_init_server_without_a_key() -> None:
    one = peer()
    one.run(one.connection.open(), encode_packet(RETURN_NONE))
    assert one.sent == encode_packet(INIT)
    assert one.waits == [110.0]


def test_a_key_goes_first_and_session_arguments_go_with_init_server() -> None:
    one = Peer(StreamConnection(timeouts=TIMEOUTS, key="server:x", session_args=("my.session", 5)))
    one.run(one.connection.open(), encode_packet(RETURN_NONE))
    assert one.sent == b"\x08\x00\x00\x00server:x" + encode_packet(InitServer("0.8.0", ("my.session", 5)))


def test_a_refusal_of_init_server_is_a_remote_error() -> None:
    one = peer()
    with pytest.raises(RemoteError, match="no way") as caught:
        one.run(one.connection.open(), encode_packet(RemoteException("no way")))
    assert (caught.value.message, caught.value.code) == ("no way", "InitServer")


def test_a_reply_may_come_in_pieces_and_the_deadline_stays() -> None:
    one = peer()
    answer = encode_packet(FOUND)
    assert one.ask(*[answer[i : i + 1] for i in range(len(answer))]) == FOUND
    assert set(one.waits) == {102.0}


def test_an_exception_is_a_reply_and_the_stream_goes_on() -> None:
    one = peer()
    assert one.ask(encode_packet(RemoteException("bad"))) == RemoteException("bad")
    assert one.ask(encode_packet(FOUND)) == FOUND
    assert one.sent == encode_packet(LOOK_UP) * 2


def test_after_a_timeout_everything_raises_closed_error_and_nothing_is_sent() -> None:
    one = peer()
    with pytest.raises(CallTimeoutError, match=r"no reply of GetGlobalFunc within 2 s") as caught:
        one.ask(b"")
    assert caught.value.may_have_run
    assert one.now == 102.0
    one.sent = b""
    for _ in range(2):
        with pytest.raises(ClosedError, match="GetGlobalFunc was not answered"):
            one.ask(encode_packet(FOUND))
    one.run(one.connection.close(shutdown=True))
    assert one.sent == b""


def test_a_request_that_was_interrupted_closes_the_stream() -> None:
    one = peer()
    exchange = one.connection.exchange(LOOK_UP, encode_packet(LOOK_UP), timeout_s=1, repeatable=True, epoch=None)
    exchange.send(None)  # type: ignore[arg-type]
    exchange.send((b"", 0.0))
    exchange.close()
    with pytest.raises(ClosedError, match="was interrupted"):
        one.ask(encode_packet(FOUND))


@pytest.mark.parametrize("answer", [encode_packet(CopyAck(b"x")), encode_packet(FOUND) * 2, b"\xff" * 8])
def test_an_answer_that_fits_no_request_is_an_error_and_closes_the_stream(answer: bytes) -> None:
    one = peer()
    with pytest.raises(ProtocolError):
        one.ask(answer)
    with pytest.raises(ClosedError):
        one.ask(encode_packet(FOUND))


@pytest.mark.parametrize("early", [encode_packet(FOUND), encode_packet(FOUND)[:-1], b"\x01"])
def test_bytes_that_came_before_the_request_never_answer_it(early: bytes) -> None:
    one = peer()
    with pytest.raises(ProtocolError):
        one.ask(encode_packet(FOUND), at_once=early)
    assert one.sent == b""
    with pytest.raises(ClosedError):
        one.ask(encode_packet(FOUND))


def test_an_empty_packet_before_the_request_is_legal() -> None:
    assert peer().ask(encode_packet(FOUND), at_once=bytes(8)) == FOUND


@pytest.mark.parametrize("before", [True, False])
def test_shutdown_from_the_server_is_a_closed_error(before: bool) -> None:
    one = peer()
    gone = encode_packet(Shutdown())
    with pytest.raises(ClosedError, match="shut down"):
        one.ask(gone, at_once=gone if before else b"")
    with pytest.raises(ClosedError, match="the server shut down"):
        one.ask(encode_packet(FOUND))


@pytest.mark.parametrize("shutdown", [True, False])
def test_closing_sends_shutdown_once(shutdown: bool) -> None:
    one = peer()
    one.run(one.connection.close(shutdown))
    one.run(one.connection.close(shutdown))
    assert one.sent == encode_packet(Shutdown())
    with pytest.raises(ClosedError, match="closed here"):
        one.ask(encode_packet(FOUND))


# --- over TCP ---------------------------------------------------------------------------------


class SocketStream:
    """A TCP connection as `run_server` wants it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def read(self, size_bytes: int) -> bytes:
        return self.connection.recv(size_bytes)

    def write(self, data: bytes) -> None:
        self.connection.sendall(data)


class TcpServer:
    """Listens on a free port; `serve` talks to one client in a thread. `error` is what it raised, once it has ended."""

    def __init__(self, serve: Callable[[SocketStream], None]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(LIMIT_S)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"tcp://127.0.0.1:{self.port}"
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(LIMIT_S)
                self._serve(SocketStream(connection))
        except Exception as error:  # shown to the test, which knows whether it should be there
            self.error = error

    def wait(self) -> None:
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive(), "the server hangs"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        self._listener.close()


def serving(endpoint: ServerEndpoint) -> TcpServer:
    return TcpServer(lambda stream: run_server(endpoint, stream))


def functions() -> Module:
    module = Module()

    @module.function
    def add(a: int, b: int) -> int:
        return a + b

    @module.function
    def echo(value: object) -> object:
        return value

    @module.function
    def double(array: np.ndarray) -> None:
        array *= 2

    @module.function
    def iota(n: int) -> np.ndarray:
        return np.arange(n, dtype=np.int32)

    @module.function
    def adder(n: int) -> Callable[[int], int]:
        return lambda a: a + n

    @module.function
    def fail() -> None:
        raise ValueError("it failed")

    return module


def local_server(**more: Callable[..., object]) -> ServerEndpoint:
    return ServerEndpoint(constructors={"rpc.LocalSession": lambda: LocalSession(functions()), **more})


def test_a_board_over_tcp_calls_functions() -> None:
    with serving(local_server()) as server:
        with connect(server.url, timeouts=TIMEOUTS) as board:
            assert board.function("add")(2, 3) == 5
            assert board.function("echo")("héllo") == "héllo"
            assert board.function("echo")(b"\x00\xff") == b"\x00\xff"
            assert board.function("echo")(None) is None
            assert board.function("echo")(1.5) == 1.5
            assert board.function("adder")(10)(5) == 15
            with pytest.raises(RemoteError, match="it failed"):
                board.function("fail")()
            with pytest.raises(FunctionNotFoundError):
                board.function("missing")
            assert board.function("add")(1, 1) == 2
            assert (board.session_id, board.epoch) == (0, 0)
        server.wait()
        assert server.error is None


@pytest.mark.parametrize("size", [1, 1000, 3_000_001])
def test_arrays_go_both_ways_over_tcp(size: int) -> None:
    data = np.arange(size, dtype=np.uint32).astype(np.uint8)
    with serving(local_server()) as server:
        with connect(server.url, timeouts=TIMEOUTS) as board:
            array = board.array(data)
            assert np.array_equal(array.numpy(), data)
            board.function("double")(array)
            assert np.array_equal(array.numpy(), data * 2)
            made = board.function("iota")(10)
            assert made.numpy().tolist() == list(range(10))
        server.wait()
        assert server.error is None


def test_a_server_without_a_limit_is_asked_for_it_and_takes_arrays_whole() -> None:
    seen = []
    with serving(local_server()) as server, connect(server.url, timeouts=TIMEOUTS) as board:
        assert board.max_packet_bytes() == 2**64 - 1
        board.array(np.zeros(100_000, np.int8), on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (100_000, 100_000)


def test_closing_the_board_ends_the_server_cleanly() -> None:
    endpoint = local_server()
    with serving(endpoint) as server:
        board = connect(server.url, timeouts=TIMEOUTS)
        board.close()
        board.close()
        server.wait()
        assert server.error is None
        with pytest.raises(ClosedError):
            board.function("add")


def stream_board(port: int, connection: StreamConnection) -> Board:
    return Board(open_tcp("127.0.0.1", port, LIMIT_S), connection, call_s=TIMEOUTS.call_s)


def test_a_session_constructor_gets_its_arguments_and_the_server_the_key() -> None:
    seen: list[tuple[object, ...]] = []

    def construct(*args: object) -> LocalSession:
        seen.append(args)
        return LocalSession(functions())

    endpoint = ServerEndpoint(constructors={"my.session": construct}, init_header=True)
    connection = StreamConnection(timeouts=TIMEOUTS, key="client:1", session_args=("my.session", 5, "x"))
    with serving(endpoint) as server, stream_board(server.port, connection) as board:
        board.open()
        assert board.function("add")(1, 2) == 3
    assert seen == [(5, "x")]
    assert endpoint.remote_key == "client:1"


def test_a_session_constructor_that_refuses_is_a_remote_error() -> None:
    def broken(*args: object) -> LocalSession:
        raise ValueError(f"no such bench: {args}")

    cases = {"broken": "no such bench: \\(3,\\)", "absent": "Cannot find session constructor absent"}
    for name, text in cases.items():
        connection = StreamConnection(timeouts=TIMEOUTS, session_args=(name, 3))
        with serving(local_server(broken=broken)) as server:
            with stream_board(server.port, connection) as board, pytest.raises(RemoteError, match=text) as caught:
                board.open()
            assert caught.value.code == "InitServer"
            server.wait()
            assert server.error is None


def test_connect_to_a_server_that_refuses_the_session_closes_the_connection() -> None:
    with serving(ServerEndpoint()) as server:
        with pytest.raises(RemoteError, match=r"Cannot find session constructor rpc\.LocalSession"):
            connect(server.url, timeouts=TIMEOUTS)
        server.wait()
        assert server.error is None


def test_a_function_that_takes_too_long_closes_the_stream_for_good() -> None:
    go_on = threading.Event()
    endpoint = ServerEndpoint(session=LocalSession({"wait": lambda: int(go_on.wait(LIMIT_S)), "add": lambda a: a}))
    with serving(endpoint) as server:
        with connect(server.url, timeouts=TIMEOUTS) as board:
            add, wait = board.function("add"), board.function("wait")
            with pytest.raises(CallTimeoutError) as caught:
                wait(timeout_s=0.02)
            assert caught.value.may_have_run
            go_on.set()
            with pytest.raises(ClosedError, match="CallFunc was not answered"):
                add(1)
            with pytest.raises(ClosedError):
                board.function("add")
        server.wait()  # it may find that the client did not wait for its last reply


def scripted(*steps: bytes) -> Callable[[SocketStream], None]:
    """A server that answers InitServer, and each request after that with the next of `steps`, then closes."""

    def serve(stream: SocketStream) -> None:
        for step in (encode_packet(RETURN_NONE), *steps):
            (size,) = struct.unpack("<Q", stream.connection.recv(8, socket.MSG_WAITALL))
            stream.connection.recv(size, socket.MSG_WAITALL)
            stream.write(step)

    return serve


@pytest.mark.parametrize("size", [0, 1, 8, 12, len(encode_packet(FOUND)) - 1])
def test_a_server_that_dies_before_or_within_its_reply_is_an_error_and_no_hang(size: int) -> None:
    with TcpServer(scripted(encode_packet(FOUND)[:size])) as server:
        with connect(server.url, timeouts=TIMEOUTS) as board:
            with pytest.raises(PortLostError) as caught:
                board.function("f")
            assert caught.value.may_have_run
            with pytest.raises(ClosedError, match="the port went away"):
                board.function("f")
        assert server.error is None


def test_a_server_that_dies_before_it_answers_init_server_is_a_lost_port() -> None:
    with TcpServer(lambda stream: None) as server, pytest.raises(PortLostError):
        connect(server.url, timeouts=TIMEOUTS)


@pytest.mark.parametrize("answer", [Return(()), CopyAck(b"x"), RemoteException("x"), LOOK_UP])
def test_a_server_that_answers_nonsense_is_an_error(answer: Packet) -> None:
    with (
        TcpServer(scripted(encode_packet(answer))) as server,
        connect(server.url, timeouts=TIMEOUTS) as board,
        pytest.raises((ProtocolError, RemoteError)),
    ):
        board.max_packet_bytes()


def test_a_client_that_dies_in_mid_packet_is_an_error_at_the_server() -> None:
    with serving(local_server()) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT_S) as client:
            client.sendall(encode_packet(INIT)[:-1])
        server.wait()
        assert isinstance(server.error, ProtocolError)
        assert "Channel closes before we get needed bytes" in str(server.error)


def test_a_client_that_leaves_between_packets_ends_the_server_cleanly() -> None:
    with serving(local_server()) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT_S) as client:
            client.sendall(encode_packet(INIT))
            assert client.recv(1000) == encode_packet(RETURN_NONE)
        server.wait()
        assert server.error is None


def test_nothing_that_listens_is_a_port_not_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(PortNotFoundError, match=str(port)):
        connect(f"tcp://127.0.0.1:{port}", timeouts=TIMEOUTS)


@pytest.mark.parametrize("url", ["tcp://", "tcp://host", "tcp://:5", "tcp://host:", "tcp://host:five", "tcp://h:-1"])
def test_an_address_without_host_or_port_is_refused(url: str) -> None:
    with pytest.raises(PortError, match="tcp://HOST:PORT"):
        connect(url, timeouts=TIMEOUTS)


# --- a board served again by proxy ------------------------------------------------------------


def test_a_simulated_board_is_served_again_over_tcp() -> None:
    device = Device(packet_size_bytes=512)
    install(device)
    data = np.arange(5000, dtype=np.float32)
    with open_board(LoopbackChannel(device), TIMEOUTS) as board:
        endpoint = ServerEndpoint(constructors={"rpc.LocalSession": lambda: ProxySession(board.request)})
        with serving(endpoint) as server:
            with connect(server.url, timeouts=TIMEOUTS) as client:
                assert client.max_packet_bytes() == board.max_packet_bytes() == 512 - 11
                assert client.function("add")(2, 3) == 5
                assert client.function("echo_str")("through") == "through"
                assert client.function("adder")(4)(5) == 9
                array = client.array(data)  # in blocks that fit the board behind
                client.function("scale_f32")(array, 2.0)
                assert np.array_equal(array.numpy(), data * 2)
                assert client.function("iota")(7).numpy().tolist() == list(range(7))
            server.wait()
            assert server.error is None
        assert board.function("add")(1, 1) == 2, "the board is still there when its client has gone"


def test_the_boards_exceptions_come_through_the_proxy_as_they_are() -> None:
    device = Device()
    install(device)
    with open_board(LoopbackChannel(device), TIMEOUTS) as board:
        with pytest.raises(RemoteError) as direct:
            board.function("fail")()
        with (
            serving(ServerEndpoint(session=ProxySession(board.request))) as server,
            connect(server.url, timeouts=TIMEOUTS) as client,
        ):
            with pytest.raises(RemoteError) as caught:
                client.function("fail")()
            assert caught.value.message == direct.value.message
            with pytest.raises(RemoteError) as silent:
                client.function("fail_silent")()
            assert silent.value.message == ""
            with pytest.raises(FunctionNotFoundError):
                client.function("missing")
            assert client.function("add")(1, 2) == 3


def test_a_board_that_is_closed_behind_the_proxy_is_an_exception_and_the_proxy_goes_on() -> None:
    device = Device()
    install(device)
    board = open_board(LoopbackChannel(device), TIMEOUTS)
    with serving(ServerEndpoint(session=ProxySession(board.request))) as server:
        with connect(server.url, timeouts=TIMEOUTS) as client:
            add = client.function("add")
            board.close()
            for _ in range(2):
                with pytest.raises(RemoteError, match="ClosedError"):
                    add(1, 2)
        server.wait()
        assert server.error is None


class Relay:
    """An event-driven server that passes everything on to `behind`, another server, without ever waiting for it.

    Nothing moves by itself: `step` takes the next bytes one way, or the next the other way.
    """

    def __init__(self, behind: ServerEndpoint, *, step_bytes: int = 1 << 16) -> None:
        self.behind = behind
        self.sent = bytearray()  # to the client in front
        self.to_behind = bytearray()
        self._step_bytes = step_bytes
        self.session = AsyncProxySession(ClientEndpoint(), self.to_behind.extend)
        self.server = ServerEndpoint(session=self.session, event_driven=True, send=self._send)

    def _send(self, data: bytes) -> int:
        taken = data[: self._step_bytes]
        self.sent += taken
        return len(taken)

    def step(self) -> bool:
        """Let one thing happen between here and behind; tell whether there was one."""
        if self.to_behind:
            self.behind.feed(bytes(self.to_behind[: self._step_bytes]))
            del self.to_behind[: self._step_bytes]
            return True
        answer = self.behind.take_output()
        for at in range(0, len(answer), self._step_bytes):
            self.session.feed(answer[at : at + self._step_bytes])
        return bool(answer)

    def serve(self, stream: SocketStream) -> None:
        status = ServerStatus.NEEDS_INPUT
        while status is not ServerStatus.SHUT_DOWN:
            data = stream.connection.recv(self._step_bytes)
            if not data:
                return
            status = self.server.on_io(data, WRITABLE)
            while self.step() or self.server.on_io(b"", WRITABLE) is ServerStatus.HAS_OUTPUT:
                pass
            stream.write(bytes(self.sent))
            self.sent.clear()


@pytest.mark.parametrize("step_bytes", [1, 64, 1 << 16])
def test_an_event_driven_proxy_passes_a_conversation_on_in_pieces_of_any_size(step_bytes: int) -> None:
    relay = Relay(ServerEndpoint(session=LocalSession(functions())), step_bytes=step_bytes)
    data = np.arange(300, dtype=np.int32)
    with TcpServer(relay.serve) as server:
        with connect(server.url, timeouts=TIMEOUTS) as board:
            assert board.function("add")(2, 3) == 5
            array = board.array(data)
            board.function("double")(array)
            assert np.array_equal(array.numpy(), data * 2)
            with pytest.raises(RemoteError, match="it failed"):
                board.function("fail")()
            assert board.function("add")(1, 1) == 2
        server.wait()
        assert server.error is None


def test_an_event_driven_proxy_waits_for_its_callback_and_flushes_the_reply_itself() -> None:
    relay = Relay(ServerEndpoint(session=LocalSession({"f": len})))
    assert relay.server.on_io(encode_packet(LOOK_UP), WRITABLE) is ServerStatus.NEEDS_INPUT
    assert relay.server.state is EndpointState.WAIT_FOR_ASYNC_CALLBACK
    assert relay.sent == b""
    assert relay.step()
    assert relay.sent == b""
    assert relay.step()  # the answer from behind: no event of the client's is needed for it to go out
    assert relay.sent == encode_packet(Return((OpaqueHandle(1 << 63),)))
    assert relay.server.state is EndpointState.RECV_PACKET_NUM_BYTES
    assert not relay.step()


def test_a_second_request_waits_in_the_event_driven_proxy_until_the_first_is_answered() -> None:
    relay = Relay(ServerEndpoint(session=LocalSession({"f": len})))
    missing = Syscall(PacketCode.GET_GLOBAL_FUNC, ("missing",))
    relay.server.on_io(encode_packet(LOOK_UP) + encode_packet(missing), WRITABLE)
    assert relay.to_behind == encode_packet(LOOK_UP)
    while relay.step():
        pass
    assert relay.sent == encode_packet(Return((OpaqueHandle(1 << 63),))) + encode_packet(Return((OpaqueHandle(0),)))


def test_an_endpoint_that_goes_behind_an_event_driven_proxy_is_an_exception_in_front() -> None:
    relay = Relay(ServerEndpoint(session=LocalSession({"f": len})))
    relay.server.on_io(encode_packet(LOOK_UP), WRITABLE)
    relay.session.closed()
    assert relay.sent == encode_packet(RemoteException("the connection to the served endpoint was closed"))


def test_a_server_that_has_shut_down_before_a_copy_is_told_as_that() -> None:
    one = peer()
    one.run(one.connection.open(), encode_packet(RETURN_NONE))
    with pytest.raises(ClosedError, match="the server shut down before it answered what comes next"):
        one.run(one.connection.begin(None), at_once=encode_packet(Shutdown()))
