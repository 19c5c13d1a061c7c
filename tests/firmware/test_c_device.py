"""The device library in C and the simulator's robust firmware: the same bytes, whatever is said to them.

docs/device.md is what both are written from. The Python device is fed byte by byte, the one in C in pieces of any size.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import random
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from c_board import CBoard

from firmware_sim.board.clock import VirtualClock
from firmware_sim.board.demo import FIRMWARE_NAME, FIRMWARE_VERSION, install
from firmware_sim.board.device import Device
from microrpc.wire.datatypes import (
    CPU,
    DataType,
    FunctionHandle,
    ModuleHandle,
    OpaqueHandle,
    Tensor,
    TypeCode,
    UInt,
    Value,
)
from microrpc.wire.datatypes import Device as BoardDevice
from microrpc.wire.features import Feature, Features
from microrpc.wire.frames import Damage, FrameDecoder, encode_frame
from microrpc.wire.link import ReplyKind, RequestKind, encode_link_message
from microrpc.wire.model import ModelTensor, encode_model
from microrpc.wire.names import (
    DESCRIBE_FUNCTION,
    FEATURES_FUNCTION,
    LINK_FUNCTION,
    MEMORY_FUNCTION,
    MODEL_LAYER_FUNCTION,
    MODEL_PROFILE_FUNCTION,
    MODEL_RUN_FUNCTION,
    MODELS_FUNCTION,
    RELEASE_FUNCTION,
)
from microrpc.wire.packets import (
    CallFunc,
    CopyFromRemote,
    CopyToRemote,
    InitServer,
    PacketCode,
    RemoteException,
    Request,
    Return,
    Shutdown,
    Syscall,
    decode_packet,
    encode_packet,
)
from microrpc.wire.session import HEADER_SIZE_BYTES, MessageType, Session, encode_message

PACKET_BYTES = 512
HEAP_BYTES = 4096
MODEL_FUNCTIONS = (MODELS_FUNCTION, MODEL_RUN_FUNCTION, MODEL_PROFILE_FUNCTION, MODEL_LAYER_FUNCTION)
FUNCTIONS = tuple(
    index for index in range(20) if index != 18
)  # in the system library: not sleep_ms, on a clock that stands
GLOBAL_NAMES = (
    "runtime.SystemLib",
    "tvm.rpc.server.ModuleGetFunction",
    "tvm.rpc.server.GetCRTMaxPacketSize",
    "tvm.contrib.random.random_fill",
    "runtime.RPCTimeEvaluator",
    "microrpc.crc32",
    RELEASE_FUNCTION,
    DESCRIBE_FUNCTION,
    MEMORY_FUNCTION,
    *MODEL_FUNCTIONS,
    "add",
    LINK_FUNCTION,
    "no.such.function",
    "",
)
DTYPES = (
    *map(
        DataType.parse,
        ("float32", "float32", "int8", "uint16", "int64", "bool", "float16", "int32x2", "handle", "int4"),
    ),
    DataType(2, 8),
    DataType(0, 8, 0),
)
_BYTE = DataType.parse("uint8")
SYSTEM_LIB = 2 << 32 | 1 << 63


@functools.cache
def c_features() -> Feature:
    """What the library in C was built with, of docs/link.md 7."""
    with CBoard() as board:
        look_up = encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, (FEATURES_FUNCTION,)))
        board.receive(encode_frame(encode_message(5, MessageType.START_SESSION_INIT, b"\x01")))
        session_id = int.from_bytes(_payloads(board)[-1][:2], "little")
        board.receive(encode_frame(encode_message(session_id, MessageType.NORMAL, look_up)))
        reply = decode_packet(_payloads(board)[0][11:])
        assert isinstance(reply, Return)
        [handle] = reply.values
        assert isinstance(handle, int)
        return Features.from_handle(handle).known


def _payloads(board: CBoard) -> list[bytes]:
    return [payload for payload in FrameDecoder().feed(board.take_output()) if isinstance(payload, bytes)]


class Pair:
    """Both devices, freshly booted, and what their answers told."""

    def __init__(self, rng: random.Random, *, packet_bytes: int = PACKET_BYTES, heap_bytes: int = HEAP_BYTES) -> None:
        self.rng = rng
        seed = rng.randrange(1 << 16)
        nonce = Session(seed)._nonce  # before the first INIT steps it
        ring_bytes = packet_bytes + 100
        self.c = CBoard(
            packet_size_bytes=packet_bytes,
            ring_bytes=ring_bytes,
            reply_bytes=packet_bytes,
            heap_bytes=heap_bytes,
            nonce=nonce,
            step_us=0,
        )
        self.python = Device(
            packet_size_bytes=packet_bytes,
            heap_bytes=heap_bytes,
            seed=seed,
            receive_ring_bytes=ring_bytes,
            board_name="test",
            firmware_name=FIRMWARE_NAME,
            firmware_version=FIRMWARE_VERSION,
            features=c_features() or None,
        )
        self.python._events.boot_id = nonce * 0x9E3779B9 % (1 << 32)
        self.python.memory.base_address = self.c.heap_address
        install(self.python)
        self.session_id = 0
        self.seq = 0
        self.handles: list[int] = [0, SYSTEM_LIB]
        self.blocks: list[int] = []
        self.heard: Counter[str] = Counter()
        self._decoder = FrameDecoder()
        self.say(b"")

    def say(self, wire: bytes) -> list[bytes]:
        """Send bytes to both; give the payloads of their answers, which must be equal to the byte."""
        piece_bytes = 1 if len(wire) < 10_000 else 997
        for at in range(0, len(wire), piece_bytes):
            self.python.receive(wire[at : at + piece_bytes])
        expected = self.python.take_output()
        for piece in self._pieces(wire):
            self.c.receive(piece)
        answered = self.c.take_output()
        assert answered == expected, f"after {wire.hex(' ')}"
        payloads = self._decoder.feed(expected)
        assert not any(isinstance(payload, Damage) for payload in payloads)
        answers = [payload for payload in payloads if isinstance(payload, bytes)]
        for answer in answers:
            self._take_note(answer)
        return answers

    def _take_note(self, answer: bytes) -> None:
        message_type = MessageType(answer[2])
        packet = answer[11:] if message_type is MessageType.NORMAL else answer[6:-4]
        if message_type is MessageType.LINK_REPLY:
            self.heard[f"LINK {ReplyKind(answer[5]).name}"] += 1
        elif message_type is MessageType.NORMAL:
            self.heard[f"NORMAL {PacketCode(packet[0]).name}"] += 1
        else:
            self.heard[message_type.name] += 1
        if message_type is MessageType.NORMAL or (message_type is MessageType.LINK_REPLY and not answer[5]):
            reply = decode_packet(packet)
            if isinstance(reply, RemoteException):
                self.heard[reply.message] += 1

    def _pieces(self, wire: bytes) -> Iterator[bytes]:
        while wire:
            size = self.rng.choice((1, 3, 17, len(wire)))
            yield wire[:size]
            wire = wire[size:]

    def say_message(self, message_type: int, body: bytes = b"", session_id: int | None = None) -> list[bytes]:
        """Send one message, and take note of a session that it opened."""
        header = struct.pack("<HB", self.session_id if session_id is None else session_id, message_type)
        answers = self.say(encode_frame(header + body))
        for answer in answers:
            if answer[2] == MessageType.START_SESSION_REPLY:
                self.session_id = int.from_bytes(answer[:2], "little")
                self.seq = 0
        return answers

    def open(self) -> None:
        """Open a session."""
        self.say_message(MessageType.TERMINATE_SESSION, session_id=0)
        self.say_message(MessageType.START_SESSION_INIT, b"\x01", session_id=self.rng.randrange(1, 256))

    def ask(self, packet: bytes, *, over_link: bool) -> None:
        """Send one packet, from packet_nbytes on, and learn from the answer."""
        if over_link:
            payloads = self.say(encode_frame(self.link_request(RequestKind.PACKET, packet[8:])))
            replies = [payload[6:-4] for payload in payloads if payload[2] == MessageType.LINK_REPLY]
        else:
            payloads = self.say_message(MessageType.NORMAL, packet)
            replies = [payload[11:] for payload in payloads if payload[2] == MessageType.NORMAL]
        for reply in replies:
            self.learn(reply)

    def link_request(self, kind: int, body: bytes, seq: int | None = None) -> bytes:
        """Give the payload of a LINK_REQUEST, the next one where no seq is given."""
        if seq is None:
            seq, self.seq = self.seq, self.seq + 1
        return encode_link_message(self.session_id, MessageType.LINK_REQUEST, seq & 0xFFFF, bytes((kind,)), body)

    def learn(self, reply: bytes) -> None:
        """Remember handles and addresses."""
        packet = decode_packet(reply)
        if isinstance(packet, Return):
            for value in packet.values:
                if isinstance(value, OpaqueHandle) and value:
                    self.handles.append(int(value))
                    if not value >> 63:
                        self.blocks.append(int(value))

    def close(self) -> None:
        """Free the one in C."""
        self.c.close()


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    pair = Pair(random.Random(getattr(request, "param", 0)))
    yield pair
    pair.close()


# --- what is said -----------------------------------------------------------------------------------------


def pick_address(pair: Pair) -> int:
    rng = pair.rng
    heap = pair.c.heap_address
    if pair.blocks and rng.random() < 0.8:
        return rng.choice(pair.blocks[-4:]) + rng.choice((0, 0, 0, 0, 4, 1, 2, 16, 63, 64))
    return rng.choice((heap, heap + HEAP_BYTES - 8, heap + HEAP_BYTES, heap - 1, 0, 1 << 63, (1 << 64) - 4))


def pick_tensor(pair: Pair) -> Tensor:
    rng = pair.rng
    address = pick_address(pair)
    offset = rng.choice((0, 0, 0, 4, (1 << 64) - 4))
    shape = rng.choice(((4,), (2, 3), (), (0,), (1, 2, 2), (64,), (1 << 33, 1 << 33), (1 << 62, 0)))
    device = CPU if rng.random() < 0.95 else BoardDevice(2, 0)
    return Tensor((address - offset) % (1 << 64), device, rng.choice(DTYPES), shape, offset)


def pick_value(pair: Pair) -> Value:
    rng = pair.rng
    choices: tuple[Callable[[], Value], ...] = (
        lambda: rng.choice((0, 1, -1, 7, 64, 1 << 62, -(1 << 63), rng.randrange(1 << 20))),
        lambda: rng.choice((0.0, 1.5, -2.25, 1e300)),
        lambda: rng.choice(("", "abc", "h\u00e9\u20acllo", "add")),
        lambda: rng.randbytes(rng.choice((0, 1, 8, 40))),
        lambda: pick_tensor(pair),
        lambda: pick_tensor(pair),
        lambda: None,
        lambda: UInt(rng.randrange(1 << 16)),
        lambda: OpaqueHandle(rng.choice(pair.handles)),
        lambda: ModuleHandle(rng.choice((SYSTEM_LIB, *pair.handles))),
        lambda: FunctionHandle(rng.choice(pair.handles)),
        lambda: rng.choice(DTYPES),
        lambda: CPU,
    )
    return rng.choice(choices)()


SIGNATURES: dict[PacketCode, tuple[Callable[[Pair], Value], ...]] = {
    PacketCode.GET_GLOBAL_FUNC: (lambda pair: pair.rng.choice(GLOBAL_NAMES),),
    PacketCode.FREE_HANDLE: (
        lambda pair: OpaqueHandle(pair.rng.choice(pair.handles)),
        lambda pair: pair.rng.choice((9, 10, 13, 13, 7, -1)),
    ),
    PacketCode.DEV_SET_DEVICE: (lambda _: CPU,),
    PacketCode.DEV_GET_ATTR: (lambda _: CPU, lambda _: 0),
    PacketCode.DEV_ALLOC_DATA: (
        lambda _: CPU,
        lambda pair: pair.rng.choice((0, 1, 16, 64, 64, 100, 1000, 5000, -1, 1 << 40)),
        lambda pair: pair.rng.choice((8, 8, 8, 1, 64, 256, 3, 0, -8, 1 << 30, 1 << 31, 1 << 62)),
        lambda pair: pair.rng.choice(DTYPES),
    ),
    PacketCode.DEV_FREE_DATA: (lambda _: CPU, lambda pair: OpaqueHandle(pick_address(pair))),
    PacketCode.DEV_STREAM_SYNC: (lambda _: CPU, lambda _: OpaqueHandle(0)),
    PacketCode.COPY_AMONG_REMOTE: (pick_tensor, pick_tensor, lambda _: OpaqueHandle(0)),
    PacketCode.DEV_ALLOC_DATA_WITH_SCOPE: (
        lambda pair: Tensor(
            0, CPU, pair.rng.choice(DTYPES), pair.rng.choice(((4,), (3, 5), (1 << 40,), (1 << 40,) * 3))
        ),
        lambda pair: pair.rng.choice((None, "global", "", "local")),
    ),
    PacketCode.DEV_CREATE_STREAM: (lambda pair: pair.rng.choice((CPU, BoardDevice(1, 1), BoardDevice(-1, -7))),),
    PacketCode.DEV_FREE_STREAM: (lambda _: CPU, lambda _: OpaqueHandle(0)),
    PacketCode.DEV_SET_STREAM: (lambda _: CPU, lambda _: OpaqueHandle(0)),
}


def make_syscall(pair: Pair) -> Syscall:
    rng = pair.rng
    code = rng.choice(tuple(SIGNATURES))
    args = tuple(make(pair) for make in SIGNATURES[code])
    if rng.random() < 0.1:
        args = tuple(rng.sample((*args, pick_value(pair)), rng.randrange(len(args) + 2)))
    return Syscall(code if rng.random() < 0.97 else rng.choice((21, 99, (1 << 31) - 1)), args)


TIME_EVALUATOR = 1 << 63 | 4
RELEASE_ALL = 1 << 63 | 6
DESCRIBE = 1 << 63 | 7
PREPARATIONS = ("", "", "", *GLOBAL_NAMES)


def make_evaluator(pair: Pair) -> CallFunc:
    """Ask for a function that times another; the clocks of both devices stand still."""
    rng = pair.rng
    name = rng.choice(("noop", "adder", "fail", "no.such.function", "log"))
    numbers = (1, 0, rng.choice((0, 1, 3)), rng.choice((-1, 1, 2, 4)), rng.choice((0, 10)), 2, 0, 1, 0)
    rest = rng.choice((0, 2, 3, 4, 4, 4, 1))  # of the numbers that not every TVM version has
    numbers = numbers[: 5 + rest] if rest != 2 else numbers[:5] + numbers[6:8]
    return CallFunc(TIME_EVALUATOR, (ModuleHandle(SYSTEM_LIB), name, *numbers, rng.choice(PREPARATIONS)))


def make_request(pair: Pair) -> Request:
    rng = pair.rng
    if rng.random() < 0.03:
        return make_evaluator(pair)
    if rng.random() < 0.02:
        return CallFunc(DESCRIBE, (rng.choice((0, -1, 1 << 40, rng.randrange(2000))),))
    kind = rng.random()
    if kind < 0.4:
        function = rng.choice(FUNCTIONS) | 1 << 32 | 1 << 63
        if rng.random() < 0.3:
            function = rng.choice(
                (*pair.handles, *(index | 1 << 63 for index in range(len(GLOBAL_NAMES) - 2) if index != 4))
            )
        tensor = pick_tensor(pair)
        args = tuple(pick_value(pair) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 5))))
        return CallFunc(
            function,
            rng.choice(
                (args, args, (tensor,), (tensor, 2.5), (tensor, tensor, tensor), (3, 4), (rng.choice((-1, 40)),))
            ),
        )
    if kind < 0.7:
        return make_syscall(pair)
    tensor = pick_tensor(pair)
    if kind < 0.83:
        return CopyToRemote(tensor, rng.randbytes(rng.choice((0, 1, 16, 64, 300))))
    if kind < 0.97:
        return CopyFromRemote(tensor, rng.choice((0, 1, 16, 64, 1000, 1 << 40, (1 << 64) - 1)))
    return InitServer(rng.choice(("0.8.0", "0.9.0")), rng.choice(((), ("rpc.LocalSession",))))


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Change a few bytes, cut some out, or double some."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(4):
            case 0:
                changed[at : at + 1] = bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFD, 0xFE, 0xFF, rng.randrange(256)))])
            case 1 if at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            case 2:
                del changed[at : at + rng.choice((1, 2, 4, 8))]
            case _:
                changed[at:at] = changed[at : at + rng.choice((1, 4, 8))]
    return bytes(changed)


def converse(pair: Pair, *, steps: int, damage: float) -> None:
    """Say `steps` things, each mutated at some level with the probability `damage`."""
    rng = pair.rng
    pair.open()
    for _ in range(steps):
        request = make_request(pair)
        # Of an evaluator the damage may be a number of repetitions that takes years.
        is_damaged = rng.random() < damage and getattr(request, "handle", 0) != TIME_EVALUATOR
        packet = encode_packet(request)
        kind = rng.random()
        if kind < 0.45:
            if is_damaged:
                packet = mutated(rng, packet)
            pair.ask(packet, over_link=False)
        elif kind < 0.65:
            if is_damaged:
                packet = packet[:8] + mutated(rng, packet[8:])
            pair.ask(packet, over_link=True)
        elif kind < 0.8:
            copy(pair, is_damaged=is_damaged)
        elif kind < 0.85:
            packets = b"".join((packet, bytes(8 * rng.randrange(2)), encode_packet(make_request(pair))))
            pair.say_message(MessageType.NORMAL, packets + rng.choice((b"", b"", b"\0", bytes(7))))
        elif kind < 0.9 and is_damaged:
            frame = encode_frame(encode_message(pair.session_id, MessageType.NORMAL, packet))
            pair.say(rng.choice((mutated(rng, frame), frame[: rng.randrange(len(frame))], rng.randbytes(20))))
        elif kind < 0.94:
            message_type = rng.choice((*MessageType, MessageType.START_SESSION_INIT, 0x77))
            session_id = rng.choice((pair.session_id, 0, rng.randrange(1, 1 << 8), rng.randrange(1 << 16)))
            pair.say_message(message_type, rng.choice((b"\x01", b"", b"\x02", b"\x01\0", b"hello")), session_id)
        elif kind < 0.95:
            pair.say_message(MessageType.NORMAL, encode_packet(Shutdown()))
        if kind > 0.985 or not pair.session_id:
            pair.open()


def copy(pair: Pair, *, is_damaged: bool) -> None:
    """Say a WRITE or READ of the link, an old or an early one now and then."""
    rng = pair.rng
    address = struct.pack("<Q", pick_address(pair))
    seq = None if rng.random() < 0.7 else pair.seq + rng.randrange(-10, 10)
    if rng.random() < 0.5:
        payload = pair.link_request(RequestKind.WRITE, address + rng.randbytes(rng.choice((0, 1, 16, 64))), seq)
    else:
        body = address + struct.pack("<I", rng.choice((0, 1, 16, 64, 1 << 31)))
        payload = pair.link_request(RequestKind.READ, body[: rng.choice((12, 12, 12, 11))], seq)
    if is_damaged:
        kinds = (RequestKind.PACKET, 3, 255)
        payload = rng.choice((mutated(rng, payload), pair.link_request(rng.choice(kinds), rng.randbytes(9), seq)))
    pair.say(encode_frame(payload))


# --- tests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", range(20), indirect=True)
def test_both_answer_the_same_to_whatever_is_right(pair: Pair) -> None:
    with np.errstate(all="ignore"):
        converse(pair, steps=250, damage=0.0)


@pytest.mark.parametrize("pair", range(100, 140), indirect=True)
def test_both_answer_the_same_to_whatever_is_wrong(pair: Pair) -> None:
    with np.errstate(all="ignore"):
        converse(pair, steps=250, damage=0.5)


def test_the_conversations_reach_all_that_a_device_can_answer() -> None:
    heard: Counter[str] = Counter()
    for seed in range(40):
        pair = Pair(random.Random(1000 + seed))
        with np.errstate(all="ignore"):
            converse(pair, steps=250, damage=0.3)
        pair.close()
        heard += pair.heard
    texts = {re.sub(r"0x[0-9a-f]+|-?\b[0-9]+\b", "N", text) for text in heard}
    assert ANSWERS - texts == set()


@pytest.mark.parametrize("over_link", [False, True])
@pytest.mark.parametrize("count", range(6, 15))
def test_both_take_the_same_arguments_of_a_time_evaluator(count: int, over_link: bool) -> None:
    pair = Pair(random.Random(count))
    pair.open()
    numbers = (1, 0, 2, 3, 4, *[0] * 8)
    odd: list[tuple[int, Value]] = [(2, 1)]  # which is as it should be
    for at in range(2, count - 1):
        odd += ((at, value) for value in (0, -1, -(1 << 63), "", None, 1.5))
        if at in {2, 3, 6}:  # neither repetitions nor a cool-down, which would not end
            odd += ((at, 1 << 40), (at, (1 << 63) - 1))
    made: list[tuple[str, int, Value]] = []
    preparations = ("", "add", "nothing", RELEASE_FUNCTION)
    for preparation in preparations:
        for at, value in odd:
            arguments: list[Value] = [ModuleHandle(SYSTEM_LIB), "noop", *numbers][: count - 1]
            if count > 10 and value != "":  # then it is no cool-down, which has no end where the clock stands still
                arguments[7] = 5
            if at < len(arguments):
                arguments[at] = value
            pair.ask(encode_packet(CallFunc(TIME_EVALUATOR, (*arguments, preparation))), over_link=over_link)
            made += [(preparation, at, value) for _ in pair.blocks]
            for block in pair.blocks:
                pair.ask(encode_packet(CallFunc(block, ())), over_link=over_link)
                pair.ask(free_handle(block, TypeCode.FUNCTION), over_link=over_link)
            pair.blocks.clear()
    is_form = count in {8, 10, 11, 12}
    assert [(preparation, 2, 1) in made for preparation in preparations] == [is_form, is_form, False, False]
    pair.close()


@pytest.mark.parametrize("over_link", [False, True])
def test_both_take_messages_of_more_than_64_kib(over_link: bool) -> None:
    pair = Pair(random.Random(400), packet_bytes=70_000, heap_bytes=300_000)
    pair.open()
    pair.ask(encode_packet(Syscall(PacketCode.DEV_ALLOC_DATA, (CPU, 200_000, 8, _BYTE))), over_link=over_link)
    (block,) = pair.blocks
    for size in (65_400, 65_535, 65_536, 65_537, 69_900, 69_940, 70_001):
        data, tensor = (bytes(range(251)) * 300)[:size], Tensor(block, CPU, _BYTE, (size,))
        pair.ask(encode_packet(CopyToRemote(tensor, data)), over_link=over_link)
        pair.ask(encode_packet(CopyFromRemote(tensor, size)), over_link=over_link)
        if over_link:
            address = struct.pack("<Q", block)
            pair.say(encode_frame(pair.link_request(RequestKind.WRITE, address + data[::-1])))
            pair.say(encode_frame(pair.link_request(RequestKind.READ, address + struct.pack("<I", size))))
    packet = encode_packet(Syscall(PacketCode.DEV_CREATE_STREAM, (CPU,)))
    for size in (65_535, 65_536, 69_999, 70_000, 70_001):  # of a payload
        pair.say_message(MessageType.NORMAL, packet + bytes(size - len(packet) - HEADER_SIZE_BYTES))
    assert (pair.heard["NORMAL COPY_ACK"], pair.heard["LINK DATA"]) == ((0, 7) if over_link else (7, 0))
    assert pair.heard["LOG"] == (4 if over_link else 3)
    pair.close()


@pytest.mark.parametrize("over_link", [False, True])
@pytest.mark.parametrize("pair", range(200, 210), indirect=True)
def test_both_release_the_same(pair: Pair, over_link: bool) -> None:
    rng = pair.rng
    pair.open()
    for _ in range(30):
        iota, adder = (1 << 63 | 1 << 32 | list(pair.python.system_library).index(name) for name in ("iota", "adder"))
        allocate = Syscall(PacketCode.DEV_ALLOC_DATA, (CPU, rng.choice((0, 1, 100)), 8, DataType.parse("uint8")))
        for request in rng.choices((allocate, CallFunc(iota, (7,)), CallFunc(adder, (5,))), k=rng.randrange(6)):
            pair.ask(encode_packet(request), over_link=over_link)
        if rng.random() < 0.3:
            pair.open()  # what earlier sessions have left, too
        pair.ask(encode_packet(CallFunc(RELEASE_ALL, rng.choice(((), ("more",))))), over_link=over_link)
        for block in rng.sample(pair.blocks, min(3, len(pair.blocks))):
            pair.ask(encode_packet(CallFunc(block, (1,))), over_link=over_link)
            pair.ask(free_handle(block, rng.choice((TypeCode.FUNCTION, TypeCode.NDARRAY))), over_link=over_link)
            pair.ask(encode_packet(CopyFromRemote(Tensor(block, CPU, _BYTE, (1,)), 1)), over_link=over_link)


@pytest.mark.parametrize("time_us", [0, 12_345_678, 0xFFFF_FFFF])
def test_both_write_the_same_lines_with_a_level(time_us: int) -> None:
    python = Device(clock=VirtualClock(time_us / 1e6))
    for code, level in enumerate((logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)):
        with CBoard(step_us=time_us) as c:  # which is what its clock shows first
            for board in (c, python):
                board.take_output()
            c.log("h\u00e9llo", code)
            python.log("h\u00e9llo", level)
            line = c.take_output()
            assert line == python.take_output()
            [payload] = FrameDecoder().feed(line)
            assert payload == b"\0\0\x03[%c %04d.%06d] h\xc3\xa9llo" % (b"DIWE"[code], *divmod(time_us, 10**6))


@pytest.mark.parametrize("over_link", [False, True])
@pytest.mark.parametrize("pair", range(250, 260), indirect=True)
def test_both_tell_the_same_of_their_memory(pair: Pair, over_link: bool) -> None:
    rng = pair.rng
    pair.open()
    look_up = encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, (MEMORY_FUNCTION,)))
    pair.ask(look_up, over_link=over_link)
    memory = pair.handles.pop()
    assert memory == 1 << 63 | list(pair.python.functions).index(MEMORY_FUNCTION)
    reports = set()
    for _ in range(60):
        size, alignment = rng.choice((0, 1, 7, 100, 500, 1500, 4000)), rng.choice((1, 8, 8, 64))
        allocate = Syscall(PacketCode.DEV_ALLOC_DATA, (CPU, size, alignment, _BYTE))
        pair.ask(encode_packet(allocate), over_link=over_link)
        if rng.random() < 0.4 and pair.blocks:
            block = pair.blocks.pop(rng.randrange(len(pair.blocks)))
            pair.ask(encode_packet(Syscall(PacketCode.DEV_FREE_DATA, (CPU, OpaqueHandle(block)))), over_link=over_link)
        if rng.random() < 0.05:
            pair.ask(encode_packet(CallFunc(RELEASE_ALL, ())), over_link=over_link)
        pair.ask(encode_packet(CallFunc(memory, ())), over_link=over_link)
        reports.add(pair.python.functions[MEMORY_FUNCTION]())
    assert len(reports) > 20


# --- models -----------------------------------------------------------------------------------------------


MODELS, MODEL_RUN, MODEL_PROFILE, MODEL_LAYER = (1 << 63 | GLOBAL_NAMES.index(name) for name in MODEL_FUNCTIONS)


@pytest.mark.parametrize("over_link", [False, True])
@pytest.mark.parametrize("packet_bytes", [128, 131, 500])
def test_both_tell_the_same_table_of_a_model_from_every_offset(packet_bytes: int, over_link: bool) -> None:
    pair = Pair(random.Random(packet_bytes), packet_bytes=packet_bytes)
    pair.open()
    room_bytes = packet_bytes - 56  # without the request, which takes a multiple of 8
    for number, model in enumerate(pair.python.models):
        whole = encode_model(model.table)
        for offset in range(len(whole) + 2):
            page = page_of(pair, CallFunc(MODELS, (number, offset)), over_link=over_link)
            assert page == whole[offset : offset + room_bytes]
    assert [model.table.name for model in pair.python.models] == ["mlp", "quantised"]
    pair.close()


def pick_model_tensor(pair: Pair, wanted: ModelTensor, block: int) -> Value:
    """Give what a model wants, at `block`; now and then something near it."""
    rng = pair.rng
    if rng.random() < 0.05:
        return pick_value(pair)
    dtype = wanted.dtype if rng.random() < 0.95 else rng.choice(DTYPES)
    shape = (
        wanted.shape if rng.random() < 0.95 else rng.choice(((), (1,), (*wanted.shape, 1), wanted.shape[:1], (1, 5)))
    )
    offset = rng.choice((0,) * 12 + (1, 4, 8))
    return Tensor(block, CPU, dtype, shape, offset)


def make_model_call(pair: Pair, blocks: list[int]) -> CallFunc:
    """Ask for a table, a run, its times, or the output of a layer; mostly as it should be."""
    rng = pair.rng
    number = rng.choice((0, 0, 0, 1, 1, 1, 2, -1, 1 << 40))
    table = pair.python.models[number % 2].table
    function = rng.choice((MODELS, MODEL_RUN, MODEL_PROFILE, MODEL_LAYER, MODEL_LAYER))
    wanted = [*table.inputs, *table.outputs]
    numbers: tuple[Value, ...] = (number,)
    if function == MODELS:
        return CallFunc(function, (number, rng.choice((0, 100, -1, 1 << 40, "")))[: rng.choice((2, 2, 1))])
    if function == MODEL_LAYER:
        layer = rng.choice((0, 1, 2, 3, -1, 65536))
        known = table.layers[layer].output if 0 <= layer < len(table.layers) else None
        wanted.insert(0, known or table.outputs[0])
        numbers = (number, layer if rng.random() < 0.95 else None)
    places = rng.sample(blocks, len(wanted)) if rng.random() < 0.9 else rng.choices(blocks, k=len(wanted))
    tensors = [pick_model_tensor(pair, tensor, place) for tensor, place in zip(wanted, places, strict=True)]
    if rng.random() < 0.05:
        tensors = tensors[:-1] if rng.random() < 0.5 else [*tensors, 1]
    return CallFunc(function, (*numbers, *tensors) if rng.random() < 0.97 else tuple(tensors))


def test_both_run_models_alike() -> None:
    heard: Counter[str] = Counter()
    for seed in range(300, 308):
        pair = Pair(random.Random(seed))
        rng = pair.rng
        pair.open()
        for _ in range(4):
            pair.ask(encode_packet(Syscall(PacketCode.DEV_ALLOC_DATA, (CPU, 40, 8, _BYTE))), over_link=False)
        blocks = pair.blocks[-4:]
        for step in range(200):
            if step % 4 == 0:  # floats of any size below 2, and int8 of any
                data = bytes(byte & (0xBF if at % 4 == 3 else 0xFF) for at, byte in enumerate(rng.randbytes(40)))
                to = Tensor(rng.choice(blocks), CPU, _BYTE, (40,))
                pair.ask(encode_packet(CopyToRemote(to, data)), over_link=False)
            pair.ask(encode_packet(make_model_call(pair, blocks)), over_link=rng.random() < 0.5)
            read = CopyFromRemote(Tensor(rng.choice(blocks), CPU, _BYTE, (40,)), 40)
            pair.ask(encode_packet(read), over_link=False)
        pair.close()
        heard += pair.heard
    said = "\n".join(heard)
    for text in (
        "3 arguments expected, not 2",
        "5 arguments expected, not 6",
        "there is no such model: there are 2",
        "there is no such layer: there are 3",
        "the output of this layer cannot be had",
        "argument 1: x: float32[1, 4] expected",
        "argument 4: y: int8[1, 4] expected",
        "argument 2: sums: int32[1, 4] expected",
        "argument 2 shares memory with another one",
        "argument 3 shares memory with another one",
    ):
        assert text in said


def describe(pair: Pair, offset: int, *, over_link: bool) -> bytes:
    """Give the page that both answer with."""
    return page_of(pair, CallFunc(DESCRIBE, (offset,)), over_link=over_link)


def page_of(pair: Pair, call: CallFunc, *, over_link: bool) -> bytes:
    """Give the bytes that both return."""
    packet = encode_packet(call)
    if over_link:
        (payload,) = pair.say(encode_frame(pair.link_request(RequestKind.PACKET, packet[8:])))
        reply = decode_packet(payload[6:-4])
    else:
        (payload,) = pair.say_message(MessageType.NORMAL, packet)
        reply = decode_packet(payload[11:])
    assert isinstance(reply, Return)
    code, page = reply.values
    assert code == TypeCode.BYTES
    assert isinstance(page, bytes)
    return page


@pytest.mark.parametrize("over_link", [False, True])
@pytest.mark.parametrize("packet_bytes", [128, 129, 135, 136, 500, 2048])
def test_both_describe_themselves_with_the_same_bytes_from_every_offset(packet_bytes: int, over_link: bool) -> None:
    pair = Pair(random.Random(packet_bytes), packet_bytes=packet_bytes)
    pair.open()
    room_bytes = packet_bytes - 40  # without the request, which takes a multiple of 8
    whole = bytes(pair.python.description)
    for offset in range(len(whole) + 2):
        assert describe(pair, offset, over_link=over_link) == whole[offset : offset + room_bytes]
    pair.close()


@pytest.mark.parametrize("over_link", [False, True])
def test_the_pages_of_every_packet_size_make_the_same_description(over_link: bool) -> None:
    wholes = set()
    for packet_bytes in range(128, 2049, 7):
        pair = Pair(random.Random(packet_bytes), packet_bytes=packet_bytes, heap_bytes=64)
        pair.open()
        whole = b""
        while page := describe(pair, len(whole), over_link=over_link):
            whole += page
        wholes.add(whole)
        pair.close()
    (whole,) = wholes
    head, version, digest, size, body = whole.split(b"\t", 4)
    assert (head, version, int(size), int(digest, 16)) == (b"microrpc", b"1", len(body), zlib.crc32(body))
    first, *lines, rest = body.split(b"\n")
    assert first == b"test\tmicrorpc demonstration\t1"
    assert lines[0].startswith(b"add\ta: any, b: any -> any\tGive the sum")
    assert b"matmul_f32\ta: float32[n, k], b: float32[k, m], out: float32[n, m] -> None\tCompute" in body
    assert (
        b'describe\t*arguments: any -> str\tGive the number of the arguments and the type code of each, as "2:0' in body
    )
    assert (len(lines), lines[-1], rest) == (23, lines[0], b"")


@pytest.mark.parametrize("pair", [700], indirect=True)
def test_both_have_the_same_room_for_a_page_beside_other_packets(pair: Pair) -> None:
    packets = encode_packet(CallFunc(DESCRIBE, (0,))) + encode_packet(CallFunc(DESCRIBE, (1600,)))
    for size in range(0, PACKET_BYTES - len(packets) - HEADER_SIZE_BYTES + 1, 8):
        pair.open()
        answers = pair.say_message(MessageType.NORMAL, packets + bytes(size))
        assert len(answers) == 2
    assert 0 < pair.heard["the result is too long"] < 2 * PACKET_BYTES // 8


def free_handle(handle: int, kind: TypeCode) -> bytes:
    return encode_packet(Syscall(PacketCode.FREE_HANDLE, (OpaqueHandle(handle), kind)))


def test_both_take_a_session_message_only_where_it_is_exact() -> None:
    pair = Pair(random.Random(300))
    ask = encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, ("add",)))
    lived: Counter[str] = Counter()
    for message_type in (MessageType.START_SESSION_INIT, MessageType.TERMINATE_SESSION):
        for body in (b"", b"\x01", b"\x02", b"\x01\0", b"\0\0\0\0"):
            for wanted in (0, 1, 0xFF, 0x100, 0x101, 0xFFFF, None):
                for has_session in (True, False):
                    pair.say_message(MessageType.TERMINATE_SESSION, session_id=0)
                    if has_session:
                        pair.open()
                    known = pair.session_id
                    session_id = known if wanted is None else wanted
                    is_begun = bool(pair.say_message(message_type, body, session_id))
                    is_open = bool(pair.say_message(MessageType.NORMAL, ask, known))
                    lived[f"{message_type.name} begun {is_begun}, the session before it goes on: {is_open}"] += 1
                    exact = message_type is MessageType.START_SESSION_INIT and body == b"\x01" and 0 < session_id < 256
                    assert is_begun == exact
                    ends = message_type is MessageType.TERMINATE_SESSION and body == b"" and session_id in {0, known}
                    assert is_open == (has_session and not ends and not is_begun)
    assert len(lived) == 5
    pair.close()


# The kinds of messages, and the texts of exceptions with N for their numbers.
ANSWERS = {
    *("START_SESSION_REPLY", "TERMINATE_SESSION", "LOG", "LINK_NAK"),
    *("LINK PACKET", "LINK DONE", "LINK DATA", "NORMAL RETURN", "NORMAL EXCEPTION", "NORMAL COPY_ACK"),
    "",
    "malformed packet",
    "unknown packet code N",
    "wrong arguments of packet code N",
    "Server has already been initialized",
    "protocol version mismatch: this device speaks N.N.N",
    "SetDevice not supported",
    "GetAttr not supported",
    "there is no device (N, N) here, only the CPU (N, N)",
    "there is no such memory scope here",
    "the tensors have different sizes",
    "cannot allocate N bytes aligned to N",
    "out of memory: N bytes asked for, the largest free block has N",
    "cannot free N: no block begins there",
    "N bytes at N are not inside an allocated block",
    "no function or module has the handle N; look it up again",
    "no object of type N has the handle N",
    "argument N: the dtype is not supported",
    "argument N: the tensor is not aligned",
    "argument N: Int expected",
    "argument N: Float expected",
    "argument N: Str expected",
    "argument N: Bytes expected",
    "argument N: Tensor expected",
    "argument N: float32 expected",
    "argument N: Module expected",
    "RPCTimeEvaluator: no function has that name",
    "RPCTimeEvaluator: number and repeat must be positive",
    "fail: this function always fails",
    "iota: want N to N",
    "add: want (int, int)",
}


# --- events and long calls: what comes while a function runs is given to both at its first look at the port -----

needs_events = pytest.mark.skipif(
    "(Feature.EVENTS | Feature.CANCEL) not in c_features()",
    reason="the library in C is built without events and cancelling",
)
EMIT, WORK, NOOP = ((1 << 32 | 1 << 63) + index for index in (20, 21, 5))
LONG_STEPS = 40
ACK, CANCEL, KEEP_ALIVE = MessageType.LINK_EVENT_ACK, MessageType.LINK_CANCEL, MessageType.LINK_KEEP_ALIVE


class LongPair(Pair):
    """Both devices, whose long functions hear what was fed before."""

    def __init__(self, rng: random.Random) -> None:
        self.fed = b""
        self.next_reliable = 0
        super().__init__(rng)
        self.python.interleaves = True
        self._receive = self.python.receive
        self.python.receive = self._receive_and_run  # type: ignore[method-assign]

    def feed(self, wire: bytes) -> None:
        """Have both hear this when a function looks at its port next."""
        self.fed += wire
        feed = self.c._library.board_feed
        feed.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t]
        feed(self.c._board, wire, len(wire), self.rng.choice((4, 7, 16)))

    def _receive_and_run(self, data: bytes) -> None:
        self._receive(data)
        while self.python.is_busy:
            fed, self.fed = self.fed, b""
            self._receive(fed)
            self.python.go_on()

    def _take_note(self, answer: bytes) -> None:
        super()._take_note(answer)
        if answer[2] == MessageType.LINK_EVENT_STATE:
            self.next_reliable = int.from_bytes(answer[11:15], "little")

    def sealed(self, message_type: int, body: bytes, *, session_id: int | None = None) -> bytes:
        """Give the frame of a message with a crc32, that of the session where none is given."""
        payload = struct.pack("<HB", self.session_id if session_id is None else session_id, message_type) + body
        return encode_frame(payload + struct.pack("<I", zlib.crc32(payload)))


def make_long_call(pair: LongPair) -> CallFunc:
    rng = pair.rng
    if rng.random() < 0.4:
        return CallFunc(WORK, (rng.choice((1, 2, 5)), 0))
    if rng.random() < 0.1:
        return CallFunc(NOOP, ())
    name = rng.choice(("", "a", "sample", "h\u00e9", "x" * 60))
    return CallFunc(EMIT, (name, rng.choice((0, 1, 3)), rng.choice((-1, 0, 1, 30)), rng.choice((0, 1, 1))))


def make_seq(pair: LongPair) -> int:
    return (pair.seq + pair.rng.choice((0, 0, 0, -1, -1, -2, 1, 7, 8, 1000))) & 0xFFFF


def make_small(pair: LongPair) -> bytes:
    """Give one of the short messages of a host."""
    rng = pair.rng
    ack = struct.pack(
        "<IHB",
        (pair.next_reliable + rng.choice((0, 0, -1, 1, -2, 5, 1 << 31))) & 0xFFFFFFFF,
        rng.choice((0, 17, 60, 200, 2000, 0xFFFF)),
        rng.choice((0, 1, 2, 255)),
    )
    message_type, body = rng.choice(
        (
            (ACK, ack),
            (ACK, ack),
            (ACK, ack + b"\0"),
            (CANCEL, struct.pack("<H", make_seq(pair))),
            (CANCEL, struct.pack("<H", make_seq(pair))),
            (CANCEL, b"\0"),
            (KEEP_ALIVE, struct.pack("<H", rng.choice((0, 5)))),
            (KEEP_ALIVE, b""),
            (rng.choice((MessageType.LINK_EVENT, MessageType.LINK_EVENT_STATE, MessageType.LINK_PROGRESS)), ack),
        )
    )
    session_id = pair.session_id ^ rng.choice((0,) * 12 + (0x100,))
    return pair.sealed(message_type, body, session_id=session_id)


def make_heard(pair: LongPair) -> bytes:
    """Give what a function may hear while it runs."""
    rng = pair.rng
    choices = (
        b"",
        pair.sealed(CANCEL, struct.pack("<H", pair.seq & 0xFFFF)),
        make_small(pair),
        encode_frame(struct.pack("<HBB", rng.choice((5, 0, 256)), 0, rng.choice((1, 1, 2)))),
        encode_frame(struct.pack("<HB", rng.choice((0, pair.session_id, 7)), 2)),
        encode_frame(pair.link_request(RequestKind.CALL, bytes(30), pair.seq + 1)),
        b"noise",
        encode_frame(rng.randbytes(rng.choice((15, 16, 17, 18)))),
    )
    heard = b"".join(rng.choice(choices) for _ in range(rng.choice((1, 1, 2, 3))))
    return mutated(rng, heard) if heard and rng.random() < 0.2 else heard


def step_long(pair: LongPair) -> None:
    rng = pair.rng
    kind = rng.random()
    if kind < 0.45:
        call = make_long_call(pair)
        packet = encode_packet(call)
        if call.handle == WORK and not pair.fed:
            pair.feed(make_heard(pair))
        if rng.random() < 0.15:
            answers = pair.say_message(MessageType.NORMAL, packet)
        else:
            request = rng.choice((RequestKind.CALL, RequestKind.CALL, RequestKind.PACKET))
            seq = None if rng.random() < 0.8 else make_seq(pair)
            answers = pair.say(encode_frame(pair.link_request(request, packet[8:], seq)))
    elif kind < 0.85:
        answers = pair.say(make_small(pair))
    elif kind < 0.9:
        answers = pair.say(mutated(rng, make_small(pair)))
    elif kind < 0.94:
        answers = pair.say(b"noise")
    else:
        answers = pair.say_message(*rng.choice(((2, b"", 0), (0, b"\1", 9), (0, b"\1", 9))))
    for answer in answers:
        if answer[2] == MessageType.START_SESSION_REPLY:
            pair.session_id, pair.seq = int.from_bytes(answer[:2], "little"), 0
        elif answer[2] == MessageType.LINK_NAK:
            pair.seq = int.from_bytes(answer[3:5], "little")
        elif answer[2] == MessageType.TERMINATE_SESSION:
            pair.open()


def converse_long(seed: int) -> Counter[str]:
    pair = LongPair(random.Random(seed))
    try:
        pair.open()
        for _ in range(LONG_STEPS):
            step_long(pair)
        return pair.heard
    finally:
        pair.close()


@needs_events
@pytest.mark.parametrize("seed", range(60))
def test_both_answer_the_same_bytes_with_events_and_long_calls(seed: int) -> None:
    converse_long(seed)


@needs_events
def test_the_conversations_reach_all_that_a_device_can_say_then() -> None:
    heard = sum((converse_long(seed) for seed in range(30)), Counter())
    wanted = {"LINK_EVENT", "LINK_EVENT_STATE", "LINK_PROGRESS", "LINK_KEEP_ALIVE", "LINK_NAK", "LINK FORGOTTEN"}
    wanted |= {"cancelled", "cancelled before it began", "TERMINATE_SESSION"}
    wanted -= {"LINK FORGOTTEN"}  # all replies fit what is kept
    assert wanted <= heard.keys()
