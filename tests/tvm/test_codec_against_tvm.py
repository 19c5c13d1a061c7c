"""TVM's own server understands what our codec encodes, and our codec what it answers."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import needs
import pytest

from microrpc.wire.datatypes import (
    CPU,
    ArrayResult,
    DataType,
    Device,
    FunctionHandle,
    ModuleHandle,
    ObjectHandle,
    OpaqueHandle,
    Tensor,
    Value,
)
from microrpc.wire.packets import (
    PROTOCOL_VERSION,
    CallFunc,
    CopyAck,
    CopyFromRemote,
    CopyToRemote,
    InitServer,
    Packet,
    PacketCode,
    RemoteException,
    Request,
    Return,
    Shutdown,
    Syscall,
)
from microrpc.wire.reader import PacketReader
from microrpc.wire.tvm.hello import MAGIC, MISMATCH, encode_hello, encode_refusal
from microrpc.wire.tvm.layout import NEW
from microrpc.wire.tvm.values import ByteArray, LongText

pytestmark = pytest.mark.tvm
DEADLINE_S = 15.0  # of one reply; a server forks, and imports nothing


class Client:
    """A client of our own, which says what the codec encodes."""

    def __init__(self, port: int, key: str = "client:board", args: tuple[Value, ...] = ()) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        self._socket.settimeout(DEADLINE_S)
        self._packets = PacketReader()
        self._socket.sendall(encode_hello(key))
        self.answer = self._read(4)
        self._is_served = self.answer == struct.pack("<i", MAGIC)
        if self._is_served:
            self.server_key = self._read(struct.unpack("<i", self._read(4))[0]).decode()
            self.opened = self.ask(InitServer(PROTOCOL_VERSION, args))

    def _read(self, size_bytes: int) -> bytes:
        data = b""
        while len(data) < size_bytes and (piece := self._socket.recv(size_bytes - len(data))):
            data += piece
        return data

    def ask(self, request: Request) -> Packet:
        """Give the reply, which encodes to its own bytes again."""
        self._socket.sendall(NEW.encode_packet(request))
        while (body := self._packets.next_packet()) is None:
            data = self._socket.recv(1 << 16)
            assert data, "the server closed"
            self._packets.feed(data)
        reply = NEW.decode_packet(body)
        assert NEW.encode_packet(reply)[8:] == body
        return reply

    def value(self, code: PacketCode, *args: Value) -> Value:
        reply = self.ask(Syscall(code, args))
        assert isinstance(reply, Return), reply
        (value,) = reply.values
        return value

    def look_up(self, name: str) -> int:
        handle = self.value(PacketCode.GET_GLOBAL_FUNC, name)
        assert isinstance(handle, OpaqueHandle)
        return int(handle)

    def call(self, function: str | int, *args: Value) -> Value | ArrayResult:
        handle = self.look_up(function) if isinstance(function, str) else function
        reply = self.ask(CallFunc(handle, args))
        assert isinstance(reply, Return), reply
        return NEW.decode_result(reply.values)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Say goodbye where it is served, after which the server serves the next; in any case close."""
        with self._socket:
            if kind is None and self._is_served:
                self._socket.sendall(NEW.encode_packet(Shutdown()))
                assert self._socket.recv(1) == b""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    script = Path(__file__).parent / "serve_functions.py"
    command = [needs.tvm(), str(script), "board"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()


@pytest.fixture
def client(port: int) -> Iterator[Client]:
    with Client(port) as client:
        assert client.opened == Return((None,))
        yield client


@pytest.mark.parametrize("key", ["client:board", "client:board -timeout=30"])
def test_the_hello_is_answered(port: int, key: str) -> None:
    with Client(port, key) as client:
        assert client.server_key == "server:board"
        assert client.opened == Return((None,))


def test_another_key_is_refused(port: int) -> None:
    with Client(port, "client:other") as client:
        assert client.answer == encode_refusal(MISMATCH)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (5, "int"),
        (-(2**63), "int"),
        (True, "bool"),
        (False, "bool"),
        (0.1, "float"),
        (None, "NoneType"),
        ("text é", "str"),
        ("", "str"),
        (b"a\0\xff", "Bytes"),
        (b"longer than seven \0", "Bytes"),
        (DataType(2, 16, 4), "dtype"),
        (DataType(6, 8), "dtype"),
        (Device(1, 0), "Device"),
        (OpaqueHandle(0x1234), "c_void_p"),
    ],
)
def test_each_value_arrives_as_what_it_is_and_comes_back(client: Client, value: Value, kind: str) -> None:
    assert client.call("t.kind", value) == kind
    back = client.call("t.echo", value)
    assert back == value
    assert type(back) is (ByteArray if type(value) is bytes else type(value))


def test_many_values_of_all_kinds_are_one_call(client: Client) -> None:
    values: tuple[Value, ...] = (1, True, 0.5, None, "a", b"b", LongText("c\0d"), CPU, DataType(0, 8), OpaqueHandle(1))
    assert client.call("t.count", *values) == len(values)
    assert client.call("t.count") == 0
    assert client.call("t.count", *range(200)) == 200
    assert client.call("t.nothing") is None


def test_the_text_of_a_str_is_whole_with_its_nuls(client: Client) -> None:
    assert client.call("t.echo", LongText("longer than\0seven")) == "longer than"  # results end at the first
    assert client.call("t.kind", LongText("a\0b")) == "String"


def test_tensors_are_allocated_filled_passed_read_and_freed(client: Client) -> None:
    dtype, data = DataType(2, 32), struct.pack("<6f", *range(6))
    address = client.value(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, Tensor(0, CPU, dtype, (2, 3)), None)
    assert isinstance(address, OpaqueHandle)
    tensor = Tensor(int(address), CPU, dtype, (2, 3))
    assert client.ask(CopyToRemote(tensor, data)) == Return((None,))
    assert client.ask(CopyFromRemote(tensor, 24)) == CopyAck(data)
    assert client.call("t.total", tensor) == 15.0
    first, part = Tensor(int(address), CPU, dtype, (2,)), Tensor(int(address), CPU, dtype, (2,), 8)
    assert client.ask(CopyFromRemote(part, 8)) == CopyAck(data[8:16])
    assert client.value(PacketCode.COPY_AMONG_REMOTE, part, first, OpaqueHandle(0)) is None
    assert client.ask(CopyFromRemote(tensor, 8)) == CopyAck(data[8:16])
    assert client.value(PacketCode.DEV_STREAM_SYNC, CPU, OpaqueHandle(0)) is None
    assert client.value(PacketCode.DEV_FREE_DATA, CPU, address) is None
    scoped = client.value(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, Tensor(0, CPU, dtype, ()), "global")
    assert isinstance(scoped, OpaqueHandle)
    assert client.value(PacketCode.DEV_FREE_DATA, CPU, scoped) is None


def test_a_tensor_that_is_returned_is_read_and_freed_by_its_owner(client: Client) -> None:
    result = client.call("t.tensor", 4)
    assert isinstance(result, ArrayResult)
    assert (result.tensor.shape, result.tensor.dtype, result.tensor.device) == ((4,), DataType(2, 32), CPU)
    assert client.ask(CopyFromRemote(result.tensor, 16)) == CopyAck(struct.pack("<4f", *range(4)))
    assert client.value(PacketCode.FREE_HANDLE, result.handle) is None


def test_functions_modules_and_objects_are_handles(client: Client) -> None:
    adder = client.call("t.adder", 3)
    assert isinstance(adder, FunctionHandle)
    assert client.call(int(adder), 4) == 7
    assert client.call("t.kind", adder) == "Function"
    assert client.value(PacketCode.FREE_HANDLE, OpaqueHandle(adder)) is None
    module = client.call("ffi.SystemLib")
    assert isinstance(module, ModuleHandle)
    assert client.call("t.kind", module) == "Module"
    assert client.call("tvm.rpc.server.ModuleGetFunction", module, "no_such", True) is None
    for name, index in (("t.shape", 69), ("t.array", 71)):
        value = client.call(name)
        assert isinstance(value, ObjectHandle)
        assert value.type_index == index
        back = client.call("t.echo", ObjectHandle(value.handle))
        assert isinstance(back, ObjectHandle)
        assert back.type_index == index
        assert client.call("t.text", ObjectHandle(value.handle))
        assert client.value(PacketCode.FREE_HANDLE, OpaqueHandle(value.handle)) is None


def test_what_fails_is_an_exception_and_the_next_request_is_served(client: Client) -> None:
    reply = client.ask(CallFunc(client.look_up("t.fail"), ("no luck",)))
    assert isinstance(reply, RemoteException)
    assert "no luck" in reply.message
    assert client.look_up("no.such") == 0
    assert client.value(PacketCode.DEV_GET_ATTR, CPU, 0) == 1
    assert client.value(PacketCode.DEV_GET_ATTR, CPU, 1) is None
    assert client.call("t.echo", 5) == 5


def test_session_constructors_are_asked_for_by_their_names(port: int) -> None:
    with Client(port, args=(LongText("no.such.constructor"), LongText("x"), 1, LongText(""), False)) as client:
        assert isinstance(client.opened, RemoteException)
        assert "Cannot find session constructor no.such.constructor" in client.opened.message
