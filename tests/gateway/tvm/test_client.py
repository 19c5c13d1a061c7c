"""One client of a gateway: what it says while a request is executed, what is left of it, and how long answers are."""

from __future__ import annotations

import contextlib
import gc
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import chain

import pytest
import tvm_gateway
from stock_tvm import first_line, running, served
from tvm_gateway import Client, RefusedError, Serving

from microrpc.gateway.tvm import client as client_module
from microrpc.wire.datatypes import CPU, DataType, Tensor
from microrpc.wire.packets import CallFunc, InitServer, PacketCode, RemoteException, Syscall
from microrpc.wire.tvm.layout import NEW, OLD, Layout

LONG = 3_000_001
LONGEST_ANSWER = 1000
HELD = 2_000_003  # as nothing else is long


@pytest.fixture
def serving() -> Iterator[Serving]:
    yield from tvm_gateway.serving()


def hang_in_a_call(serving: Serving, client: Client) -> None:
    """Have the client call what does not answer, and its gateway look after it."""
    handle = client.look_up("mul")
    serving.opener.held.set()
    client.socket.sendall(NEW.encode_packet(CallFunc(handle, (2, 3))))


# --- while a request is executed ------------------------------------------------------------------


@pytest.mark.parametrize("behind", [b"\x00", bytes(8) * 40_000], ids=["a byte", "many packets"])
def test_a_client_that_asked_for_more_and_is_killed_in_a_call_does_not_hold_its_board(
    serving: Serving, behind: bytes
) -> None:
    with serving.client() as client:
        hang_in_a_call(serving, client)
        time.sleep(3 * client_module._WATCH_S)  # it is watched by now
        client.socket.sendall(behind)
        time.sleep(client_module._WATCH_S)
    serving.wait_until(lambda: any("in the middle of a request" in line for line in serving.sessions))
    serving.opener.held.clear()
    serving.wait_until_free()


def test_a_client_that_says_too_much_while_its_call_runs_is_cut_off() -> None:
    with Serving(limit_bytes=10_000) as serving:
        with serving.client() as client:
            hang_in_a_call(serving, client)
            time.sleep(3 * client_module._WATCH_S)
            client.socket.sendall(bytes(20_000))
            assert client.is_closed()
        serving.opener.held.clear()
        serving.wait_until_free()


def test_what_a_client_says_while_its_call_runs_is_answered_in_its_turn(serving: Serving) -> None:
    with serving.client() as client:
        hang_in_a_call(serving, client)
        time.sleep(3 * client_module._WATCH_S)
        handle = client.look_up
        client.socket.sendall(bytes(8) * 20_000 + NEW.encode_packet(InitServer("0.8.0", ())))
        time.sleep(client_module._WATCH_S)
        serving.opener.held.clear()
        assert NEW.decode_result(client.read_reply().values) == 6  # type: ignore[union-attr]
        reply = client.read_reply()
        assert isinstance(reply, RemoteException)
        assert "already been initialized" in reply.message
        assert handle("add")


@pytest.mark.parametrize("how", ["it goes", "its time is over"])
@pytest.mark.parametrize("layout", [NEW, OLD], ids=["new", "old"])
def test_what_is_allocated_when_a_session_ends_is_freed_too(serving: Serving, layout: Layout, how: str) -> None:
    tensor = Tensor(0, CPU, DataType.parse("int8"), (5000,))
    options = " -timeout=1" if how == "its time is over" else ""
    for request in (
        Syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, (tensor, None)),
        Syscall(PacketCode.DEV_ALLOC_DATA, (CPU, 5000, 8, DataType.parse("int8"))),
    ):
        ended = len(serving.sessions) + 2
        with serving.client(layout=layout, options=options) as client:
            client.look_up("add")
            serving.opener.held.set()
            client.socket.sendall(layout.encode_packet(request))
            time.sleep(3 * client_module._WATCH_S)
            if options:
                assert client.is_closed()
        serving.wait_until(lambda ended=ended: len(serving.sessions) == ended)  # type: ignore[misc]
        serving.opener.held.clear()
        serving.wait_until_free()


@pytest.mark.parametrize("layout", [NEW, OLD], ids=["new", "old"])
def test_what_a_board_allocates_for_a_client_that_has_gone_is_freed_too(layout: Layout) -> None:
    """The board is stopped, and goes on when nobody waits for its answer any more."""
    tensor = Tensor(0, CPU, DataType.parse("int8"), (5000,))
    request = Syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, (tensor, None))
    command = [sys.executable, "-m", "microrpc.cli", "sim"]

    def free_bytes(address: tuple[str, int]) -> int:
        with Client(address) as client:
            free = client.syscall(PacketCode.DEV_GET_ATTR, CPU, 15)
            client.goodbye()
        assert isinstance(free, int)
        return free

    with running(command, stdout=subprocess.PIPE) as board, served(first_line(board)) as (where, _):
        host, _, port = where.rpartition(":")
        address = host, int(port)
        before = free_bytes(address)
        with Client(address, layout=layout) as client:
            client.look_up("add")
            board.send_signal(signal.SIGSTOP)
            client.socket.sendall(layout.encode_packet(request))
            time.sleep(3 * client_module._WATCH_S)
        time.sleep(3 * client_module._WATCH_S)
        board.send_signal(signal.SIGCONT)
        assert free_bytes(address) == before


# --- what is left ---------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["download", "upload", "lost"])
def test_nothing_that_a_client_said_outlives_its_session(serving: Serving, what: str) -> None:
    """Not until Python happens to look for cycles: it may be 64 MiB."""
    gc.collect()
    gc.disable()
    try:
        with serving.client() as client:
            if what == "upload":
                client.call("tvm.rpc.server.upload", "name", b"n" * HELD)
            else:
                with contextlib.suppress(RefusedError):
                    client.call("tvm.rpc.server.download", "n" * HELD)
            if what == "lost":
                hang_in_a_call(serving, client)
                client.socket.sendall(bytes(HELD))
        serving.opener.held.clear()
        serving.wait_until(lambda: not any(station.is_busy for station in serving.stations))
        serving.wait_until(lambda: not serving.gateway._clients)
        client = None  # type: ignore[assignment]
        held = chain.from_iterable(gc.get_referents(one) for one in gc.get_objects())
        assert [
            type(one) for one in held if isinstance(one, str | bytes | bytearray) and 0 <= len(one) - HELD < 200
        ] == []
    finally:
        gc.enable()


# --- what is said back ----------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [NEW, OLD], ids=["new", "old"])
def test_what_a_client_names_is_not_said_back_at_any_length(serving: Serving, layout: Layout) -> None:
    name = "n" * LONG
    with serving.client(layout=layout) as client:
        for wish in (
            lambda: client.look_up(name),
            lambda: client.call("add", name, 1),
            lambda: client.call("tvm.rpc.server.load_module", name),
            lambda: client.call("tvm.rpc.server.remove", name, name),
            lambda: client.call("tvm.rpc.server.ModuleGetFunction", client.call("runtime.SystemLib"), name, 1),
            lambda: client.call("runtime.RPCTimeEvaluator", None, name, 1, 0, 1, 1, 0, 100, 0, 1, 0, ""),
            lambda: client.syscall(
                PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, Tensor(0, CPU, DataType.parse("int8"), (4,)), name
            ),
        ):
            with pytest.raises(RefusedError) as refused:
                wish()
            assert len(str(refused.value)) < LONGEST_ANSWER
        assert client.call("add", 2, 3) == 5


@pytest.mark.parametrize("packet", [InitServer("v" * LONG, ()), InitServer("0.8.0", ("c" * LONG,))])
def test_what_a_client_begins_with_is_not_said_back_at_any_length(serving: Serving, packet: InitServer) -> None:
    with serving.client(start=False) as client:
        client.say_hello("")
        client.read_hello()
        reply = client.request(packet)
        assert isinstance(reply, RemoteException)
        assert len(reply.message) < LONGEST_ANSWER


@pytest.mark.parametrize("layout", [NEW, OLD], ids=["new", "old"])
def test_a_size_of_any_number_of_digits_is_an_exception(serving: Serving, layout: Layout) -> None:
    """Python writes no number of more than 4300 digits; this one has 4778."""
    huge = Tensor(0, CPU, DataType.parse("int8"), (1 << 62,) * 256)
    with serving.client(layout=layout) as client:
        with pytest.raises(RefusedError, match="no board has a number of very many digits"):
            client.syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, huge, None)
        with pytest.raises(RefusedError, match="no board has a number of very many digits"):
            client.call("relu_f32", huge)
        assert client.call("add", 2, 3) == 5


@pytest.mark.parametrize("layout", [NEW, OLD], ids=["new", "old"])
def test_a_packet_of_millions_of_values_is_refused_before_they_are_made(serving: Serving, layout: Layout) -> None:
    nothing = struct.pack("<i", 0 if layout is NEW else 4)
    with serving.client(layout=layout) as client:
        client.look_up("add")
        body = struct.pack("<iQi", 3, 1, 5_000_000) + nothing * 5_000_000
        began_at = time.monotonic()
        client.socket.sendall(struct.pack("<Q", len(body)) + body)
        reply = client.read_reply()
        assert isinstance(reply, RemoteException)
        assert "5000000 arguments, and 4096 are the most" in reply.message
        assert time.monotonic() - began_at < tvm_gateway.LIMIT_S / 2
