"""What real clients of TVM said to stock servers, said to a gateway: every answer has the shape that they had there."""

from __future__ import annotations

import socket
import struct
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import tvm_golden
from tvm_gateway import LIMIT_S, Serving

from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from microrpc.serve.local import BoardArray, FunctionError, Module
from microrpc.wire.datatypes import DataType, ModuleHandle, ObjectHandle, OpaqueHandle, Tensor, Value
from microrpc.wire.datatypes import Device as BoardDevice
from microrpc.wire.packets import (
    RETURN_NONE,
    CallFunc,
    CopyAck,
    CopyFromRemote,
    CopyToRemote,
    InitServer,
    Packet,
    PacketCode,
    RemoteException,
    Return,
    Shutdown,
    Syscall,
)
from microrpc.wire.tvm.layout import NEW, OLD, Layout

# What a board does not have, or answers more of: by what is looked up or asked, what is answered here instead.
ANSWER = struct.pack("<ii", 0xFF271, 12) + b"server:board"
NO_OBJECTS = {"t.shape", "t.list", "rpc.testing.GetShapeSize"}


def board() -> Device:
    """Give a board with the functions of the recorded server, as far as a board can have them."""
    device = Device(seed=7)
    other = Module({"vadd": _vadd})

    def function(name: str, give: Any) -> None:
        device.function(give, name=name)

    function("t.add", lambda a, b: a + b)
    function("t.kind", lambda *args: ", ".join(type(arg).__name__ for arg in args))
    function("t.nothing", lambda *args: None)
    function("t.float", lambda: 0.5)
    function("t.bool", lambda: 1)
    function("t.shortstr", lambda: "short")
    function("t.longstr", lambda: "a longer string")
    function("t.emptystr", lambda: "")
    function("t.nulstr", lambda: "a")
    function("t.bytes", lambda: b"\x00\x01")
    function("t.longbytes", lambda: bytes(range(30)))
    function("t.dtype", lambda: DataType.parse("float32"))
    function("t.device", lambda: BoardDevice(1, 0))
    function("t.tensor", lambda: np.arange(6, dtype="float32").reshape(2, 3))
    function("t.func", lambda n: lambda m: n + m)
    function("t.module", lambda: other)
    function("t.raise", _raise)
    function("t.raise_type", _raise)
    function("vadd", _vadd)
    function("main", _vadd)
    return device


def _raise(*args: object) -> None:
    raise FunctionError("boom")


def _vadd(a: BoardArray, b: BoardArray, c: BoardArray) -> None:
    if not isinstance(c, np.ndarray):
        raise FunctionError("argument 2: Tensor expected")
    c.flat[:] = (a.ravel() + b.ravel())[: c.size]


class Loading:
    """Has nothing to build: the board has the function already."""

    def __init__(self, station: Any) -> None:
        self.station = station

    async def load(self, name: str, data: bytes) -> None:
        await self.station.restart_with(name)


def shape_of(packet: Packet) -> str:
    """Give what kind of answer it is: of a Return its values by type, of a result its type index besides."""
    if not isinstance(packet, Return):
        return type(packet).__name__
    kinds = [type(value).__name__ for value in packet.values]
    if len(kinds) > 1:
        kinds[0] = {11: "65", 12: "66"}.get(packet.values[0], str(packet.values[0]))  # type: ignore[arg-type]
    return f"Return({', '.join(kinds)})"


@dataclass
class Player:
    """Says what was recorded, with the handles that this server gave in the place of those that the other did."""

    socket: socket.socket
    layout: Layout = NEW

    def __post_init__(self) -> None:
        self.ours: dict[int, list[int]] = defaultdict(list)

    def play(self, request: Packet, answer: Packet) -> Packet:
        """Say one thing; give what is answered where `answer` was recorded."""
        self.socket.sendall(self.layout.encode_packet(self.translated(request)))
        got = self.read_reply()
        for theirs, ours in zip(_handles(answer), _handles(got), strict=False):
            self.ours[theirs].append(ours)
        return got

    def read_reply(self) -> Packet:
        return self.layout.decode_packet(self.read(struct.unpack("<Q", self.read(8))[0]))

    def translated(self, request: Packet) -> Packet:
        if isinstance(request, CallFunc):
            return CallFunc(self.handle(request.handle), tuple(map(self.value, request.args)))
        if isinstance(request, CopyFromRemote | CopyToRemote):
            return replace(request, tensor=self.value(request.tensor))
        if isinstance(request, Syscall):
            is_last = request.code in (PacketCode.FREE_HANDLE, PacketCode.DEV_FREE_DATA)
            return Syscall(request.code, tuple(self.value(arg, is_last=is_last) for arg in request.args))
        return request

    def value(self, value: Value, *, is_last: bool = False) -> Any:
        if isinstance(value, Tensor):
            return replace(value, data=self.handle(value.data))
        if isinstance(value, ObjectHandle):
            return ObjectHandle(self.handle(value.handle), value.type_index)
        if isinstance(value, OpaqueHandle | ModuleHandle):
            return type(value)(self.handle(value, is_last=is_last))
        return value

    def handle(self, theirs: int, *, is_last: bool = False) -> int:
        known = self.ours.get(theirs)
        if not known:
            return int(theirs)
        return known.pop() if is_last else known[-1]

    def read(self, size_bytes: int) -> bytes:
        data = b""
        while len(data) < size_bytes:
            more = self.socket.recv(size_bytes - len(data))
            assert more, "it was closed"
            data += more
        return data


def _handles(answer: Packet) -> list[int]:
    """Give the handles and addresses in a reply."""
    if not isinstance(answer, Return):
        return []
    found: list[int] = []
    for value in answer.values:
        if isinstance(value, Tensor):
            found.append(value.data)
        elif isinstance(value, OpaqueHandle) and value:
            found.append(int(value))
    return found


def conversation(name: str, connection: int) -> tuple[bytes, bytes, list[tuple[Packet, Packet]]]:
    """Give both hellos of a recorded connection, and its requests with their answers."""
    found = {one.sender: one.data for one in tvm_golden.streams(name) if one.connection == connection}
    client, server = found["client"], found["server"]
    requests = [NEW.decode_packet(packet[8:]) for packet in tvm_golden.packets_of(client)]
    answers = [NEW.decode_packet(packet[8:]) for packet in tvm_golden.packets_of(server)]
    assert isinstance(requests.pop(), Shutdown)
    return tvm_golden.hello_of(client), tvm_golden.hello_of(server), list(zip(requests, answers, strict=True))


@pytest.mark.parametrize(
    ("name", "connection", "key"),
    [
        ("tvm027_direct", 1, ""),
        ("tvm026_direct", 1, ""),
        ("tvm025_direct", 1, ""),
        ("tvm027_module", 1, ""),
        ("tvm027_misc", 1, "board"),
        ("tvm027_misc", 4, "board"),
        ("tvm027_metaschedule", 1, "ms:1"),
    ],
)
def test_every_answer_has_the_shape_that_it_had_there(name: str, connection: int, key: str) -> None:
    hello, answer, said = conversation(name, connection)
    differences: list[str] = []
    with Serving({key or "": board()}, make_loader=Loading) as serving:
        with socket.create_connection(serving.address, timeout=LIMIT_S) as connected:
            connected.sendall(hello)
            player = Player(connected)
            assert player.read(len(answer)) == answer or key == "ms:1"
            objects: set[int] = set()
            asked = ""
            for request, recorded in said:
                got = player.play(request, recorded)
                if isinstance(request, Syscall) and request.code == PacketCode.GET_GLOBAL_FUNC:
                    asked = str(request.args[0])
                    if asked in NO_OBJECTS:
                        assert got == Return((OpaqueHandle(0),))
                        objects.update(_handles(recorded))
                        continue
                if _is_about(request, objects):  # of a kind that no board has
                    assert isinstance(got, RemoteException)
                    if isinstance(request, Syscall):
                        objects.discard(request.args[0])  # type: ignore[arg-type]
                    objects.update(_handles(recorded))
                    continue
                objects.difference_update(_handles(recorded))  # the same address, another thing
                if _is_prepared(request):
                    assert isinstance(got, RemoteException)
                    objects.update(_handles(recorded))
                elif isinstance(request, InitServer) and isinstance(got, Return):
                    assert isinstance(recorded, Return)  # in which nobody looks at what it is
                elif _is_known_of_a_board(request):
                    assert shape_of(got) == "Return(int)"
                elif shape_of(got) != shape_of(recorded).replace("2, bool", "1, int"):  # a board has no Bool
                    differences.append(f"{request} after {asked}: {shape_of(recorded)} there, {got} here")
            connected.sendall(NEW.encode_packet(Shutdown()))
            assert connected.recv(1) == b""
        serving.wait_until_free()
    assert not differences, "\n".join(differences)


def _is_prepared(request: Packet) -> bool:
    """Whether it asks for a time evaluator with a function that prepares each figure."""
    return isinstance(request, CallFunc) and len(request.args) == 12 and request.args[-1] != ""


def _is_known_of_a_board(request: Packet) -> bool:
    """Whether it asks for what a CPU does not tell, and a board does: the memory that is free."""
    return isinstance(request, Syscall) and request.code == PacketCode.DEV_GET_ATTR and request.args[1] == 15


def _is_about(request: Packet, objects: set[int]) -> bool:
    """Whether a request is one of a thing that is not there."""
    if isinstance(request, CallFunc):
        return request.handle in objects or any(isinstance(arg, ObjectHandle) for arg in request.args)
    if isinstance(request, Syscall) and request.code == PacketCode.FREE_HANDLE:
        return request.args[0] in objects
    return False


# --- TVM up to 0.20 -------------------------------------------------------------------------------


def test_what_a_client_of_old_said_to_a_board_has_the_same_answers_in_its_layout() -> None:
    requests = [OLD.decode_packet(packet[8:]) for packet in dict(tvm_golden.old_packets("host"))["crt_2k"]]
    answers = [OLD.decode_packet(packet[8:]) for packet in dict(tvm_golden.old_packets("device"))["crt_2k"]]
    assert isinstance(requests.pop(), Shutdown)
    device = Device(seed=7)
    install(device)
    with Serving({"board": device}) as serving:
        with socket.create_connection(serving.address, timeout=LIMIT_S) as connected:
            connected.sendall(tvm_golden.HELLO_OF_A_CLIENT)
            player = Player(connected, OLD)
            assert player.read(len(ANSWER)) == ANSWER
            said = zip(requests, answers, strict=True)
            player.play(InitServer("0.8.0", ()), RETURN_NONE)
            for request, recorded in said:
                got = player.play(request, recorded)
                if isinstance(recorded, CopyAck):
                    assert got == recorded
                elif recorded == Return((0, 2037)):  # the board's limit, where a gateway has none
                    assert got == Return((0, 1 << 62))
                else:
                    assert shape_of(got) == shape_of(recorded), request
            connected.sendall(OLD.encode_packet(Shutdown()))
            assert connected.recv(1) == b""
        serving.wait_until_free()


@pytest.mark.parametrize(
    ("name", "stream"), tvm_golden.old_clients(), ids=[name for name, _ in tvm_golden.old_clients()]
)
def test_what_old_hosts_said_may_come_at_once_and_is_answered_in_their_layout(name: str, stream: bytes) -> None:
    """The handles are another board's, so that all but look-ups and allocations is refused."""
    requests = [OLD.decode_packet(packet[8:]) for packet in tvm_golden.packets_of(stream)]
    with Serving({"board": board()}) as serving:
        with socket.create_connection(serving.address, timeout=LIMIT_S) as connected:
            connected.sendall(stream)
            player = Player(connected, OLD)
            assert player.read(len(ANSWER)) == ANSWER
            for request in requests:
                if isinstance(request, Shutdown):
                    break
                reply = player.read_reply()
                assert isinstance(reply, Return | CopyAck | RemoteException)
                if isinstance(request, InitServer):
                    assert isinstance(reply, Return)
        serving.wait_until_free()
