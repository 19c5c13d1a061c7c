"""Which failures are a lost port; and connections that die silently, in both clients, over real sockets."""

from __future__ import annotations

import contextlib
import gc
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from apis import Api, AsyncioApi

from firmware_sim.board.device import Device
from firmware_sim.line.faults import Delay
from firmware_sim.running.loopback import LoopbackChannel
from firmware_sim.running.server import TcpServer
from firmware_sim.running.simulate import SimBoard, simulate
from microrpc.boards.catalogue import profile
from microrpc.client.aio.board import AsyncBoard
from microrpc.client.board import Board
from microrpc.client.losses import Loss, loss_of, retold
from microrpc.connecting.blocking import open_board
from microrpc.connecting.connection import make_connection
from microrpc.connecting.openers import Opened
from microrpc.errors import (
    CallTimeoutError,
    ClosedError,
    HandshakeTimeoutError,
    MicroRpcError,
    PortLostError,
    RemoteError,
    StaleHandleError,
)
from microrpc.host.trust import Trust
from microrpc.ports.aio import InMemoryChannel
from microrpc.serve.endpoint import ServerEndpoint, run_server
from microrpc.serve.local import LocalSession, Module
from microrpc.wire.session import Timeouts

TIMEOUTS = Timeouts(retry_s=0.05, start_s=0.5, call_s=0.5)


class Intruded:
    """A channel that somebody else reads, too."""

    def others(self) -> str:
        return "minicom (process 12)"


# --- judged ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("comes_back", [False, True])
@pytest.mark.parametrize("can_reopen", [False, True])
def test_a_lost_port_may_have_run_what_was_sent_and_nothing_else(can_reopen: bool, comes_back: bool) -> None:
    error = PortLostError("P", "gone")
    loss = loss_of(error, object(), Trust(is_out=not comes_back), can_reopen=can_reopen, comes_back=comes_back)
    assert loss.closed == "the port went away"
    assert loss.more is not None
    told = retold(error, loss.more, Trust(is_out=not comes_back))
    assert isinstance(told, PortLostError)
    assert told.may_have_run is not comes_back
    assert str(told) == ("gone (the next request looks for it)" if can_reopen else "gone")


@pytest.mark.parametrize(
    ("error", "can_reopen", "comes_back", "closed"),
    [
        (HandshakeTimeoutError("no session."), False, False, ""),
        (HandshakeTimeoutError("no session."), True, False, "no session came about"),
        (HandshakeTimeoutError("no session."), True, True, "no session came about"),
        (ClosedError("the stream is closed"), False, False, ""),
        (ClosedError("the stream is closed"), True, False, "the stream is closed"),
        (CallTimeoutError("late"), True, False, ""),
        (CallTimeoutError("late"), True, True, "late"),
        (RemoteError("no"), True, True, ""),
    ],
)
def test_what_else_is_a_loss_where_the_port_can_be_opened_anew(
    error: MicroRpcError, can_reopen: bool, comes_back: bool, closed: str
) -> None:
    assert loss_of(error, object(), Trust(is_out=not comes_back), can_reopen=can_reopen, comes_back=comes_back) == Loss(
        closed
    )


def test_who_else_reads_the_port_is_named_where_no_session_comes_about() -> None:
    error = HandshakeTimeoutError("no session.")
    loss = loss_of(error, Intruded(), Trust(), can_reopen=False, comes_back=False)
    assert loss.more is not None
    told = retold(error, loss.more, Trust())
    assert isinstance(told, HandshakeTimeoutError)
    assert str(told) == (
        "no session. The port is open in minicom (process 12), too, which may take the board's answers: close it."
    )
    assert loss_of(CallTimeoutError("late"), Intruded(), Trust(), can_reopen=False, comes_back=False) == Loss()


def test_an_error_keeps_nothing_alive_once_it_was_handled() -> None:
    """A dropped array is freed with the next request, also where an error was raised in between."""
    sim = SimBoard(profile("loopback"))
    with open_board(sim.open_channel(), TIMEOUTS) as board:
        gc.disable()
        try:
            array = board.empty((4,), "float32")
            gone = weakref.ref(array)
            sim.inject(Delay(1.0))
            with pytest.raises(HandshakeTimeoutError):
                array.numpy()
            del array
            assert gone() is None
        finally:
            gc.enable()


# --- silent -----------------------------------------------------------------------------------------


class Network:
    """Carries TCP connections to a server; those that are there when it is cut go silent and stay open.

    dead_ends: how many of the next connections are accepted and never answered. refusals: how many are hung up.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.dead_ends = self.refusals = self.accepted = 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.number = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._carried: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                host, _ = self._listener.accept()
                self.accepted += 1
                if self.refusals:
                    self.refusals -= 1
                    host.close()
                    continue
                self._open.append(host)
                if self.dead_ends:
                    self.dead_ends -= 1
                    continue
                board = socket.create_connection(self._target)
                self._carried.append(board)
                self._open.append(board)
                for source, sink, is_host in ((host, board, True), (board, host, False)):
                    thread = threading.Thread(target=self._carry, args=(source, sink, is_host))
                    self._threads.append(thread)
                    thread.start()

    def _carry(self, source: socket.socket, sink: socket.socket, is_host: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        if is_host:
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Let the connections that there are go silent for their hosts; their servers see an end."""
        for board in self._carried:
            with contextlib.suppress(OSError):
                board.shutdown(socket.SHUT_RDWR)
        self._carried.clear()
        time.sleep(0.02)  # until the server is ready for another

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def network() -> Iterator[Network]:
    with TcpServer(simulate(profile("loopback"))) as server:
        _, _, number = server.path.rpartition(":")
        network = Network(("127.0.0.1", int(number)))
        yield network
        network.close()


def connect(api: Api, network: Network, **options: Any) -> Any:
    url = f"socket://127.0.0.1:{network.number}"
    return api.connect(url, timeouts=TIMEOUTS, link=False, reconnect=True, **options)


def test_a_connection_that_went_silent_is_made_anew(api: Api, network: Network) -> None:
    told: list[bool] = []
    with connect(api, network, reconnect_s=1.0, on_reconnect=told.append) as board:
        add = board.function("add")
        network.cut()
        with pytest.raises(CallTimeoutError):  # nobody can tell it from a slow board yet
            add(1, 2)
        with pytest.raises(HandshakeTimeoutError):
            add(1, 2)
        assert add(1, 2) == 3
        assert told == [False]
        assert network.accepted == 2


def test_a_server_that_hangs_up_or_stays_silent_is_tried_again_until_reconnect_s_is_over(
    api: Api, network: Network
) -> None:
    with connect(api, network, reconnect_s=5.0) as board:
        add = board.function("add")
        network.cut()
        network.refusals, network.dead_ends = 2, 1
        for error in (CallTimeoutError, HandshakeTimeoutError):
            with pytest.raises(error):
                add(1, 2)
        assert add(1, 2) == 3
        assert network.accepted == 1 + 2 + 1 + 1


def test_a_server_that_never_answers_is_given_up_and_nothing_was_sent(api: Api, network: Network) -> None:
    with connect(api, network, reconnect_s=0.2) as board:
        add = board.function("add")
        network.cut()
        network.dead_ends = 100
        with pytest.raises(CallTimeoutError):
            add(1, 2)
        for _ in range(2):
            with pytest.raises(HandshakeTimeoutError, match=r"no session with the board on .* within"):
                add(1, 2)
        network.dead_ends, network.refusals = 0, 10**6
        with pytest.raises(PortLostError) as caught:
            add(1, 2)
        assert not caught.value.may_have_run
        network.refusals = 0
        assert add(1, 2) == 3


class Loose(LoopbackChannel):
    """A port that is there when it is opened, and away when it is read; its clock is the one of all like it."""

    time_s = 0.0

    def now(self) -> float:
        return Loose.time_s

    def read(self, deadline: float) -> bytes:
        raise PortLostError(self.name, "loose contact")


def test_coming_back_is_bounded_by_reconnect_s_in_all_however_often_the_port_is_there(api: Api) -> None:
    given: list[float] = []
    Loose.time_s = 100.0

    def reopen(within_s: float) -> Loose:
        given.append(within_s)
        Loose.time_s += 4.0
        return Loose(Device())

    async def reopen_awaited(within_s: float) -> InMemoryChannel:
        return InMemoryChannel(reopen(within_s))

    connection = make_connection(Opened(Loose(Device())), TIMEOUTS, None)
    board: Any
    if isinstance(api, AsyncioApi):

        async def make() -> AsyncBoard:
            channel = InMemoryChannel(Loose(Device()))
            return AsyncBoard(channel, connection, call_s=1.0, reopen=reopen_awaited, reconnect_s=10.0)

        board = api.wait(make())
    else:
        board = Board(Loose(Device()), connection, call_s=1.0, reopen=reopen, reconnect_s=10.0)
    for _ in range(2):  # the request that meets the loss, and the one that waits
        with pytest.raises(PortLostError):
            board.max_packet_bytes()
    assert given == [10.0, 6.0, 2.0]
    board.close()


def test_without_reconnect_a_failed_handshake_leaves_the_port_open(api: Api, network: Network) -> None:
    url = f"socket://127.0.0.1:{network.number}"
    with api.connect(url, timeouts=TIMEOUTS, link=False) as board:
        add = board.function("add")
        network.cut()
        with pytest.raises(CallTimeoutError):
            add(1, 2)
        for _ in range(2):
            with pytest.raises(HandshakeTimeoutError):
                add(1, 2)
        assert network.accepted == 1


class ConnectionStream:
    """A TCP connection as `run_server` wants it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def read(self, size_bytes: int) -> bytes:
        return self._connection.recv(size_bytes)

    def write(self, data: bytes) -> None:
        self._connection.sendall(data)


@contextlib.contextmanager
def rpc_server() -> Iterator[tuple[str, int]]:
    """An RPC server without frames that knows `add`, one client after the other; its address."""
    module = Module()

    @module.function
    def add(a: int, b: int) -> int:
        return a + b

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError, MicroRpcError):
                    endpoint = ServerEndpoint(constructors={"rpc.LocalSession": lambda: LocalSession(module)})
                    run_server(endpoint, ConnectionStream(connection))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_stream_that_went_silent_is_opened_anew_too(api: Api) -> None:
    told: list[bool] = []
    timeouts = Timeouts(start_s=1.0, call_s=1.0)
    with rpc_server() as address, contextlib.closing(Network(address)) as network:
        url = f"tcp://127.0.0.1:{network.number}"
        with api.connect(url, timeouts=timeouts, reconnect=True, reconnect_s=20.0, on_reconnect=told.append) as board:
            add = board.function("add")
            network.cut()
            with pytest.raises(CallTimeoutError):
                add(1, 2)
            with pytest.raises(ClosedError, match="was not answered"):  # nothing on it can be believed any more
                add(1, 2)
            network.dead_ends = 1
            with pytest.raises(StaleHandleError):  # it is of the connection before
                add(1, 2)
            assert told == [True]
            assert board.function("add")(1, 2) == 3
            assert network.accepted == 3
