"""The port of a gateway: who is let in, to which board, who waits, and who is cut off (docs/tvm_serve.md)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
import tvm_gateway
from tvm_gateway import LIMIT_S, MAGIC, MISMATCH, Client, InMemory, RefusedError, Serving

from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from microrpc.errors import PortError, RequestError
from microrpc.gateway import session
from microrpc.gateway.tvm import client as client_module
from microrpc.gateway.tvm import server
from microrpc.gateway.tvm.client import TvmClient
from microrpc.gateway.tvm.server import Gateway
from microrpc.gateway.tvm.station import Station
from microrpc.wire.packets import CallFunc, CopyFromRemote, InitServer, RemoteException, Return, Syscall
from microrpc.wire.tvm.layout import NEW


@pytest.fixture
def serving() -> Iterator[Serving]:
    yield from tvm_gateway.serving()


def named(name: str) -> Device:
    device = Device(seed=7)
    install(device)
    device.function(lambda: name, name="who")
    return device


# --- the hello ------------------------------------------------------------------------------------


def test_a_client_is_answered_with_the_key_of_its_board(serving: Serving) -> None:
    with serving.client("board") as client:
        assert client.server_key == "server:board"
        client.goodbye()
    serving.wait_until_free()
    with serving.client() as client:
        assert client.server_key == "server:board"


def test_a_hello_may_come_in_pieces_and_with_requests_behind_it(serving: Serving) -> None:
    with serving.client(start=False) as client:
        raw = struct.pack("<ii", MAGIC, 12) + b"client:board" + NEW.encode_packet(InitServer("0.8.0", ()))
        for at in range(10):
            client.socket.sendall(raw[at : at + 1])
        client.socket.sendall(raw[10:])
        assert client.read_hello() == "server:board"
        assert isinstance(client.read_reply(), Return)
        assert client.call("add", 2, 3) == 5


def test_a_wrong_key_is_refused_as_a_stock_server_does(serving: Serving) -> None:
    with serving.client(start=False) as client:
        client.say_hello("other")
        assert client.read(4) == struct.pack("<i", MISMATCH)
        assert client.is_closed()


@pytest.mark.parametrize(
    "said",
    [
        b"\x71\xf2\x0f\x01",  # another magic
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack("<ii", MAGIC, 1 << 30),
        struct.pack("<ii", MAGIC, -1),
        struct.pack("<ii", MAGIC, 12) + b"server:board",
        struct.pack("<ii", MAGIC, 27) + b"client:board -timeout=never",
    ],
    ids=["magic", "http", "long", "negative", "server", "timeout"],
)
def test_what_is_no_client_is_closed_without_an_answer(serving: Serving, said: bytes) -> None:
    with serving.client(start=False) as client:
        client.socket.sendall(said)
        with pytest.raises((EOFError, ConnectionError)):
            client.read(1)
    with serving.client() as client:
        assert client.call("add", 2, 3) == 5


def test_who_says_nothing_is_closed_after_a_while() -> None:
    with Serving(gateway={"hello_s": 0.1}) as serving, serving.client(start=False) as client:
        began_at = time.monotonic()
        client.socket.sendall(struct.pack("<i", MAGIC))
        assert client.is_closed()
        assert 0.05 < time.monotonic() - began_at < LIMIT_S


def test_strangers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_MOST_STRANGERS", 3)
    with Serving(gateway={"hello_s": 10 * LIMIT_S}) as serving, serving.client() as client:
        strangers = [socket.create_connection(serving.address, timeout=LIMIT_S) for _ in range(3)]
        serving.wait_until(lambda: serving.gateway._strangers == 3)
        with socket.create_connection(serving.address, timeout=LIMIT_S) as another:
            assert another.recv(1) == b""
        assert client.call("add", 2, 3) == 5
        for stranger in strangers:
            stranger.close()
        serving.wait_until(lambda: serving.gateway._strangers == 0)


def test_a_crowd_that_has_said_who_it_is_is_let_in_however_many_come_at_once(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_MOST_STRANGERS", 3)
    crowd: list[Client] = []

    def come() -> None:  # while the gateway's thread is here, and accepts nobody
        for _ in range(12):
            crowd.append(serving.client(start=False))
            crowd[-1].say_hello("board")

    serving.do(come)
    serving.wait_until(lambda: len(serving.gateway._waiting) == 11)
    for one in crowd:
        one.close()


# --- which board ----------------------------------------------------------------------------------


def test_boards_are_told_apart_by_their_keys() -> None:
    with Serving({"one": named("1"), "two": named("2")}) as serving:
        with serving.client("two") as second, serving.client("one") as first:
            assert first.call("who") == "1"
            assert second.call("who") == "2"
            with pytest.raises(RefusedError, match="no handle"):  # it is the other's
                second.call(first.look_up("who"))
        serving.wait_until_free()


def test_who_has_no_key_gets_the_first_board_that_is_free() -> None:
    with Serving({"one": named("1"), "two": named("2")}) as serving:
        with serving.client() as first, serving.client() as second:
            assert [first.call("who"), second.call("who")] == ["1", "2"]
            with serving.client(start=False) as third:
                third.say_hello("")
                second.goodbye()
                assert third.read_hello() == "server:two"
        serving.wait_until_free()


def eager(serving: Serving) -> list[bool]:
    return [station._shared.board.pump.is_eager for station in serving.stations]


def test_only_a_session_that_is_alone_keeps_the_loop_for_its_board() -> None:
    with Serving({"one": named("1"), "two": named("2")}) as serving:
        assert eager(serving) == [False, False]
        with serving.client("two") as second:
            assert second.call("who") == "2"
            assert eager(serving) == [False, True]
            with serving.client("one") as first:
                assert (first.call("who"), second.call("who")) == ("1", "2")
                assert eager(serving) == [False, False]
            serving.wait_until(lambda: eager(serving) == [False, True])
        serving.wait_until(lambda: eager(serving) == [False, False])


def test_a_board_that_was_opened_anew_is_kept_the_loop_for_too() -> None:
    with Serving(comes_back=False) as serving, serving.client() as client:
        assert client.call("add", 2, 3) == 5
        serving.opener.line.is_lost = True
        with pytest.raises(RefusedError):
            client.call("add", 2, 3)
        serving.wait_until(lambda: serving.opener.opened == 2)
        assert client.call("add", 2, 3) == 5
        assert eager(serving) == [True]


# --- whose turn it is -----------------------------------------------------------------------------


def waiting(serving: Serving, key: str = "board") -> Client:
    """Give a client that waits."""
    before = len(serving.gateway._waiting)
    client = serving.client(start=False)
    client.say_hello(key)
    serving.wait_until(lambda: len(serving.gateway._waiting) == before + 1)
    return client


def test_a_board_has_one_session_at_a_time_and_who_came_first_is_next(serving: Serving) -> None:
    with serving.client() as client, waiting(serving) as second, waiting(serving) as third:
        assert client.call("add", 2, 3) == 5
        second.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            second.read(1)
        second.socket.settimeout(LIMIT_S)
        client.goodbye()
        assert second.read_hello() == "server:board"
        assert isinstance(second.request(InitServer("0.8.0", ())), Return)
        assert second.call("add", 2, 3) == 5
        second.close()
        assert third.read_hello() == "server:board"


def test_what_was_said_while_waiting_is_answered_then(serving: Serving) -> None:
    with serving.client() as client, waiting(serving) as second:
        second.socket.sendall(NEW.encode_packet(InitServer("0.8.0", ())))
        client.goodbye()
        assert second.read_hello() == "server:board"
        assert isinstance(second.read_reply(), Return)
        assert second.call("add", 2, 3) == 5


def test_who_waits_and_goes_is_forgotten(serving: Serving) -> None:
    with serving.client() as client, waiting(serving) as second, waiting(serving) as third:
        second.close()
        serving.wait_until(lambda: len(serving.gateway._waiting) == 1)
        client.goodbye()
        assert third.read_hello() == "server:board"


def test_who_says_too_much_while_waiting_is_closed(serving: Serving) -> None:
    with serving.client(), waiting(serving) as second:
        second.socket.sendall(bytes(1 << 17))
        assert second.is_closed()
        serving.wait_until(lambda: not serving.gateway._waiting)


def test_no_more_wait_than_there_is_room_for(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_WAITING", 2)
    with serving.client(), waiting(serving), waiting(serving), serving.client(start=False) as third:
        third.say_hello("board")
        assert third.is_closed()


class Offer:
    """A board's place at a tracker; it is offered under another matchkey after each session."""

    def __init__(self) -> None:
        self.offers = 1
        self.matchkey = "board:1"

    def taken(self) -> None:
        self.matchkey = ""

    def released(self) -> None:
        self.offers += 1
        self.matchkey = f"board:{self.offers}"


def test_a_matchkey_lets_in_once_and_the_board_is_offered_under_another(serving: Serving) -> None:
    offer = serving.stations[0].offer = Offer()

    def is_let_in(matchkey: str) -> bool:
        with serving.client(start=False) as client:
            client.say_hello(matchkey)
            return client.read(4) == struct.pack("<i", MAGIC)

    with serving.client("board:1") as client:
        assert not is_let_in("board:1")
        assert not is_let_in("board")
        assert client.call("add", 2, 3) == 5
        client.goodbye()
    serving.wait_until(lambda: offer.matchkey == "board:2")
    assert not is_let_in("board:1")
    assert is_let_in("board:2")
    serving.wait_until(lambda: offer.matchkey == "board:3")


# --- the beginning and the end of a session -------------------------------------------------------


def test_nothing_is_done_before_init_server(serving: Serving) -> None:
    with serving.client(start=False) as client:
        client.say_hello("board")
        client.read_hello()
        with pytest.raises(RefusedError, match="InitRemoteSession"):
            client.look_up("add")
        assert isinstance(client.request(InitServer("0.8.0", ())), Return)
        assert client.call("add", 2, 3) == 5


def test_session_constructors_are_refused_as_a_stock_server_does(serving: Serving) -> None:
    with serving.client(start=False) as client:
        client.say_hello("board")
        client.read_hello()
        reply = client.request(InitServer("0.8.0", ("rpc.Connect", "127.0.0.1", 19090, "", False)))
        assert isinstance(reply, RemoteException)
        assert reply.message == (
            "Check failed: (fconstructor.has_value()) is false:  Cannot find session constructor rpc.Connect"
        )


def test_another_version_of_the_protocol_is_refused(serving: Serving) -> None:
    with serving.client(start=False) as client:
        client.say_hello("board")
        client.read_hello()
        reply = client.request(InitServer("0.7.0", ()))
        assert isinstance(reply, RemoteException)
        assert "version mismatch" in reply.message


def test_a_killed_client_leaves_nothing_behind(serving: Serving) -> None:
    with serving.client() as client:
        for _ in range(40):
            client.empty((100,), "uint8")
            client.look_up("mul")
        client.call("iota", 5)
        assert serving.device.memory.used_bytes > 4000
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it is gone at once
    serving.wait_until_free()
    with serving.client() as client:
        assert client.call("add", 2, 3) == 5


def test_what_a_client_asks_while_a_request_runs_is_answered_after_it(serving: Serving) -> None:
    with serving.client() as client:
        call = NEW.encode_packet(CallFunc(client.look_up("mul"), (2, 3)))
        serving.opener.held.set()
        client.socket.sendall(call)
        time.sleep(0.2)  # by now it is read, to see whether it goes
        client.socket.sendall(call)
        time.sleep(0.2)
        serving.opener.held.clear()
        assert [NEW.decode_result(read_return(client).values) for _ in range(2)] == [6, 6]
        assert client.call("mul", 6, 7) == 42


def read_return(client: Client) -> Return:
    reply = client.read_reply()
    assert isinstance(reply, Return)
    return reply


def test_nothing_is_said_within_a_reply_when_the_time_of_a_session_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    is_over, tell_expired = threading.Event(), TvmClient._tell_expired

    async def tell(self: TvmClient) -> None:
        await tell_expired(self)
        is_over.set()

    monkeypatch.setattr(TvmClient, "_tell_expired", tell)
    with Serving() as serving, serving.client(options=" -timeout=2", buffer_bytes=1 << 16) as client:
        tensor = client.empty((200_000,), "uint8")
        client.socket.sendall(NEW.encode_packet(CopyFromRemote(tensor, 200_000)) * 100)
        assert is_over.wait(LIMIT_S)
        told = b""
        with contextlib.suppress(ConnectionError):
            while more := client.socket.recv(1 << 16):
                told += more
        assert b"RPCSessionTimeoutError" not in told
        assert len(told) < 100 * 200_000


def test_a_client_that_is_killed_in_a_call_does_not_hold_its_board(serving: Serving) -> None:
    with serving.client() as client:
        client.empty((100,), "uint8")
        handle = client.look_up("mul")
        serving.opener.held.set()
        client.socket.sendall(NEW.encode_packet(CallFunc(handle, (2, 3))))
    serving.wait_until(lambda: any("in the middle of a request" in line for line in serving.sessions))
    serving.opener.held.clear()
    serving.wait_until_free()
    with serving.client() as client:
        assert client.call("mul", 2, 3) == 6


def test_ending_the_gateway_ends_its_sessions_and_frees_what_they_had() -> None:
    with Serving() as serving:
        client = serving.client()
        client.empty((100,), "uint8")
        second = waiting(serving)
    for one in (client, second):
        assert one.is_closed()
        one.close()
    assert serving.device.memory.used_bytes == 0


# --- the time of a session ------------------------------------------------------------------------


def test_a_session_whose_time_is_over_is_told_and_closed(serving: Serving) -> None:
    with serving.client("board", options=" -timeout=1") as client:
        client.empty((100,), "uint8")
        reply = client.read_reply()
        assert reply == RemoteException(
            'RPCSessionTimeoutError: Your 1.0s session has expired, try to increase the "session_timeout" value.'
        )
        assert client.is_closed()
    serving.wait_until_free()


def test_a_call_in_which_the_time_of_a_session_is_over_is_answered_so_and_given_up(serving: Serving) -> None:
    with serving.client("board", options=" -timeout=1") as client:
        handle = client.look_up("mul")
        serving.opener.held.set()
        reply = client.request(CallFunc(handle, (2, 3)))
        assert isinstance(reply, RemoteException)
        assert reply.message.startswith("RPCSessionTimeoutError: Your 1.0s session")
        assert client.is_closed()
        serving.opener.held.clear()
    serving.wait_until_free()
    with serving.client() as client:
        assert client.call("mul", 2, 3) == 6


# --- hostile clients ------------------------------------------------------------------------------


def test_a_packet_that_is_too_large_is_answered_with_an_exception_and_the_client_is_cut_off() -> None:
    with Serving(limit_bytes=4096) as serving:
        with serving.client() as client:
            client.empty((100,), "uint8")
            client.socket.sendall(struct.pack("<Qi", 1 << 40, 7))
            reply = client.read_reply()
            assert isinstance(reply, RemoteException)
            assert "at most 4096 are taken" in reply.message
            assert client.is_closed()
        serving.wait_until_free()


def test_a_client_that_still_sends_what_is_too_large_reads_why_it_is_cut_off() -> None:
    with Serving(limit_bytes=4096) as serving, serving.client() as client:
        client.socket.sendall(struct.pack("<Q", 1 << 20) + bytes(1 << 20))
        reply = client.read_reply()
        assert isinstance(reply, RemoteException)
        assert "at most 4096" in reply.message
        assert client.socket.recv(1) == b""  # and no reset


@pytest.mark.parametrize(
    "body",
    [
        struct.pack("<i", 99),
        struct.pack("<i", 3),
        struct.pack("<iQi", 3, 5, 1 << 30),
        struct.pack("<ii", 9, -1),
        struct.pack("<iiiQ", 9, 1, 8, 1 << 60) + b"add",
        struct.pack("<iiiQiii", 17, 1, 7, 0, 1, 0, 1 << 30),
        struct.pack("<iii", 10, 1, 13),
        b"\x00",
    ],
    ids=["code", "short", "count", "negative", "text", "tensor", "index", "no code"],
)
def test_a_malformed_packet_is_an_exception_and_the_session_goes_on(serving: Serving, body: bytes) -> None:
    with serving.client() as client:
        client.look_up("nothing")
        client.socket.sendall(struct.pack("<Q", len(body)) + body)
        assert isinstance(client.read_reply(), RemoteException)
        assert client.call("add", 2, 3) == 5


def test_an_empty_packet_is_skipped(serving: Serving) -> None:
    with serving.client() as client:
        client.socket.sendall(bytes(8))
        assert client.call("add", 2, 3) == 5


def test_a_client_that_answers_is_cut_off(serving: Serving) -> None:
    with serving.client() as client:
        client.socket.sendall(NEW.encode_packet(Return((None,))))
        assert isinstance(client.read_reply(), RemoteException)
        assert client.is_closed()


@pytest.mark.parametrize("piece_bytes", [1 << 18, 1 << 16], ids=["whole", "in pieces"])
def test_a_client_that_does_not_read_is_dropped(piece_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_PIECE_BYTES", piece_bytes)
    with Serving(take_s=0.2) as serving:
        with serving.client() as client:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            tensor = client.empty((200_000,), "uint8")
            request = NEW.encode_packet(CopyFromRemote(tensor, 200_000))
            client.socket.settimeout(0.2)
            try:
                for _ in range(200):
                    client.socket.sendall(request)
            except (TimeoutError, ConnectionError):
                pass
            serving.wait_until(lambda: any("did not read" in line for line in serving.sessions))
        serving.wait_until_free()


def test_many_requests_at_once_are_answered_one_after_the_other(serving: Serving) -> None:
    with serving.client() as client:
        handle = client.look_up("mul")
        client.socket.sendall(b"".join(NEW.encode_packet(CallFunc(handle, (2, n))) for n in range(200)))
        replies = [client.read_reply() for _ in range(200)]
        assert replies == [Return((1, 2 * n)) for n in range(200)]


def test_a_client_holds_no_more_handles_than_there_is_room_for(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_MOST_HANDLES", 40)
    with serving.client() as client:
        for _ in range(40):
            client.look_up("mul")
        with pytest.raises(RefusedError, match="40 handles"):
            client.look_up("mul")


# --- opening --------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_one_clear_error(serving: Serving) -> None:
    host, port = serving.address
    with pytest.raises(PortError, match=rf"nothing can listen on {host}:{port}: .*--listen HOST:PORT"):
        Serving(gateway={"port": port}).__enter__()


def test_a_gateway_without_boards_is_refused() -> None:
    with pytest.raises(RequestError, match="one board or more"):
        Gateway([])


def test_boards_that_do_not_answer_are_given_up_together_and_not_one_after_the_other() -> None:
    begun: list[str] = []

    class Slow(Station):
        async def close(self) -> None:
            begun.append(self.name)
            async with asyncio.timeout(LIMIT_S):
                while len(begun) < 3:
                    await asyncio.sleep(0)
            await super().close()

    async def main() -> None:
        stations = [Slow(str(n), "key", InMemory(named(str(n))), call_s=2.0) for n in range(3)]
        async with Gateway(stations):
            assert begun == []

    asyncio.run(main())
    assert begun == ["0", "1", "2"]


def test_a_syscall_that_nobody_knows_is_an_exception_whatever_it_has(serving: Serving) -> None:
    with serving.client() as client:
        tensor = client.empty((4,), "int8")
        for args in ((), (tensor,), (1, 2), ("text",)):
            with pytest.raises(RefusedError, match="unknown packet code 134217744"):
                client.value(Syscall(134217744, args))
        assert client.call("add", 2, 3) == 5
