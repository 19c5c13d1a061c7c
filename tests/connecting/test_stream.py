"""Servers of TVM at tvm://: our own client, whose packets have the old layout, behind the gateway."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import tvm_gateway
from apis import Api
from tvm_gateway import Serving

from firmware_sim.board.device import Device
from microrpc.boards.catalogue import profile
from microrpc.connecting.address import Target
from microrpc.connecting.openers import open_target
from microrpc.errors import PortBusyError, PortError, PortNotFoundError, RemoteError
from microrpc.wire.session import Timeouts

SOON = Timeouts(retry_s=0.1, start_s=0.3, call_s=2.0)
serving = pytest.fixture(tvm_gateway.serving)


def url_of(address: tuple[str, int], options: str = "") -> str:
    return f"tvm://{address[0]}:{address[1]}{options}"


def open_url(url: str) -> None:
    open_target(Target(url, profile("loopback"), 115200, SOON)).close()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        yield listener


def test_our_own_client_does_all_through_the_gateway(serving: Serving, api: Api) -> None:
    with api.connect(url_of(serving.address, "?key=board")) as board:
        assert board.function("add")(2, 3) == 5
        assert board.function("echo_str")("text é") == "text é"
        assert board.function("echo_bytes")(b"\0\xff") == b"\0\xff"
        assert board.function("adder")(5)(2) == 7
        with pytest.raises(RemoteError, match="want"):
            board.function("add")("x")
        data = np.arange(30_000, dtype="int32").reshape(3, -1)
        array = board.array(data)
        other = board.empty(data.shape, "int32")
        board.copy(array, other)
        assert np.array_equal(other.numpy(), data)
        x = board.array(np.arange(-4, 4, dtype="float32"))
        board.function("relu_f32")(x)
        assert list(x.numpy()) == [0, 0, 0, 0, 0, 1, 2, 3]
        assert len(board.time_evaluator("noop", number=1, repeat=2)().results) == 2
        del array, other, x


def test_a_board_that_another_client_has_is_told_and_given_when_it_is_free(serving: Serving, api: Api) -> None:
    busy = pytest.raises(PortBusyError, match=r"no answer within 0\.3 s: another client has the board")
    with serving.client(), busy:
        api.connect(url_of(serving.address), timeouts=SOON)
    serving.wait_until_free()
    with api.connect(url_of(serving.address)) as board:
        assert board.function("add")(2, 3) == 5


def test_the_key_says_which_board(api: Api) -> None:
    boards = {key: Device(seed=number) for number, key in enumerate(("one", "two"))}
    for key, device in boards.items():
        device.functions["who"] = lambda key=key: key
    with Serving(boards) as serving:
        for key in boards:
            with api.connect(url_of(serving.address, f"?key={key}")) as board:
                assert board.function("who")() == key
            serving.wait_until_free()
        with pytest.raises(PortNotFoundError, match="there is no board with this key"):
            api.connect(url_of(serving.address, "?key=three"))


@pytest.mark.parametrize("options", ["?kay=x", "?key=a&key=b", "?key=a%20b"])
def test_an_address_that_cannot_be_is_told(options: str) -> None:
    with pytest.raises(PortError, match=r"write tvm://HOST:PORT\?key=KEY"):
        open_url(url_of(("127.0.0.1", 9), options))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"HTTP/1.1 400", "48545450 arrived where a server of TVM begins with 71f20f00"),
        (b"\x71\xf2\x0f\x00\xff\xff\xff\x7f", "a key of 2147483647 bytes is announced"),
        (b"\x71\xf2\x0f\x00\xff\xff\xff\xff", "a key of -1 bytes is announced"),
        (b"\x72\xf2\x0f\x00", "there is no board with this key"),
        (b"\x71\xf2\x0f\x00\x01\x00\x00\x00ab", "a key of 1 bytes is announced, and 10 bytes came"),
        (b"", "the server closed the connection"),
        (b"\x71\xf2", "the server closed the connection"),
    ],
)
def test_what_is_no_server_of_tvm_is_one_clear_error(server: socket.socket, said: bytes, told: str) -> None:
    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(100)
            connection.sendall(said)

    answering = threading.Thread(target=answer)
    answering.start()
    with pytest.raises(PortError, match=told):
        open_url(url_of(server.getsockname()))
    answering.join()


def test_a_hello_may_come_in_any_pieces(server: socket.socket) -> None:
    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            assert connection.recv(100) == b"\x71\xf2\x0f\x00\x07\x00\x00\x00client:"
            for byte in b"\x71\xf2\x0f\x00\x07\x00\x00\x00server:":
                connection.sendall(bytes([byte]))
            connection.recv(1)

    answering = threading.Thread(target=answer)
    answering.start()
    open_url(url_of(server.getsockname()))
    answering.join()
