"""The device for MicroPython and the simulator's robust firmware: the same bytes, whatever is said to them."""

from __future__ import annotations

import pathlib
import random
import struct
from array import array
from collections import Counter
from collections.abc import Iterator
from typing import Any

import needs
import numpy as np
import pytest
import test_golden as golden
from micropython_board import InterpretedBoard, Interpreter, MicroPythonBoard
from test_every_device import RECORDED_PACKET_BYTES, Replay

from firmware import test_c_device as conversations
from firmware_sim.board.demo import FIRMWARE_NAME, FIRMWARE_VERSION, install
from firmware_sim.board.device import Device
from microrpc.wire.datatypes import CPU, DataType, ModuleHandle, OpaqueHandle, Tensor, Value
from microrpc.wire.events import EventAck, EventMessage, EventState, decode_event_news, encode_event_ack
from microrpc.wire.features import Feature
from microrpc.wire.frames import FrameDecoder, encode_frame
from microrpc.wire.packets import (
    CallFunc,
    Packet,
    RemoteException,
    Request,
    Return,
    decode_packet,
    encode_packet,
)
from microrpc.wire.session import MessageType, Session, encode_message


class Pair(conversations.Pair):
    """Both devices, freshly booted, the one for MicroPython in the place of the one in C."""

    def __init__(
        self,
        rng: random.Random,
        *,
        packet_bytes: int = 512,
        heap_bytes: int = 4096,
        interpreter: Interpreter | None = None,
    ) -> None:
        seed = rng.randrange(1 << 16)
        nonce = Session(seed)._nonce
        ring_bytes = packet_bytes + 100
        self.rng = rng
        options: dict[str, Any] = {
            "nonce": nonce,
            "packet_bytes": packet_bytes,
            "ring_bytes": ring_bytes,
            "memory_bytes": heap_bytes,
            "name": "test",
            "firmware": FIRMWARE_NAME,
            "version": FIRMWARE_VERSION,
        }
        self.c = InterpretedBoard(interpreter, **options) if interpreter else MicroPythonBoard(**options)  # type: ignore[assignment]
        self.python = Device(
            packet_size_bytes=packet_bytes,
            heap_bytes=heap_bytes,
            seed=seed,
            receive_ring_bytes=ring_bytes,
            board_name="test",
            firmware_name=FIRMWARE_NAME,
            firmware_version=FIRMWARE_VERSION,
            features=Feature.EVENTS | Feature.DESCRIBE | Feature.MEMORY,
        )
        self.python._events.boot_id = nonce
        install(self.python)
        for registry in (self.python.functions, self.python.system_library):
            for name in {*conversations.MODEL_FUNCTIONS, "emit", "work"} & set(registry):
                del registry[name]
        self.session_id = self.seq = 0
        self.handles = [0, conversations.SYSTEM_LIB]
        self.blocks = []
        self.heard = Counter()
        self._decoder = FrameDecoder()
        self.say(b"")


@pytest.mark.parametrize("seed", range(20))
def test_both_answer_the_same_to_whatever_is_right(seed: int) -> None:
    converse(seed, damage=0.0)


@pytest.mark.parametrize("seed", range(100, 140))
def test_both_answer_the_same_to_whatever_is_wrong(seed: int) -> None:
    converse(seed, damage=0.5)


def test_both_give_the_recorded_host_the_recorded_answers() -> None:
    pair, replay = Pair(random.Random(1), packet_bytes=2048, heap_bytes=1 << 18), Replay(RECORDED_PACKET_BYTES)
    pair.open()
    for exchange in golden.recorded_exchanges()[:-1]:
        *_, answer = pair.say_message(
            MessageType.NORMAL, encode_packet(replay.request(exchange.request))
        )  # behind logs
        replay.check(exchange.reply, decode_packet(answer[11:]))
    assert replay.failures == ["fail: this function always fails", "", "add: want (int, int)"]
    pair.close()


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interpreter]:
    needs.emulated("micropython")
    interpreter = Interpreter(pathlib.Path(tmp_path_factory.mktemp("interpreter")))
    yield interpreter
    interpreter.close()


@pytest.mark.boards
@pytest.mark.parametrize(("seed", "damage"), [(0, 0.0), (1, 0.0), (2, 0.0), (100, 0.5), (101, 0.5), (102, 0.5)])
def test_micropython_itself_answers_the_same(interpreter: Interpreter, seed: int, damage: float) -> None:
    converse(seed, damage=damage, interpreter=interpreter)


@pytest.mark.boards
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("True", (0, 1)),
        ("-(1 << 63)", (0, -(1 << 63))),
        ("1 << 63", "an int does not fit 64 bits"),
        ("1.5", (2, 1.5)),
        ("memoryview(b'ab')", (12, b"ab")),
        ("[1]", "a list cannot be told"),
        ("(1, 2)", "a tuple cannot be told, but (3, 9 or 10, handle)"),
        ("sys.exit(3)", "SystemExit: 3"),
        ("(lambda f: f(f))(lambda f: f(f))", "RuntimeError: maximum recursion depth exceeded"),
        ("(1 for _ in 'a')", "a generator cannot be told"),
        ("device.event('e', True)", (0, 0)),
        ("device.event('e', None)", "a NoneType cannot be told"),
        ("bytes(1 << 29)", "MemoryError: memory allocation failed, allocating 536870913 bytes"),
    ],
)
def test_what_a_function_gives_in_micropython_is_told_by_its_type(
    interpreter: Interpreter, text: str, told: object
) -> None:
    talk = Talk(InterpretedBoard(interpreter, evaluates=True, packet_bytes=512))
    reply = talk.ask(CallFunc(1 << 63 | 1 << 32 | 20, (text,)))
    assert (reply.message if isinstance(reply, RemoteException) else reply.values) == told  # type: ignore[union-attr]


def converse(seed: int, *, damage: float, interpreter: Interpreter | None = None) -> Counter[str]:
    pair = Pair(random.Random(seed), interpreter=interpreter)
    with np.errstate(all="ignore"):
        conversations.converse(pair, steps=250, damage=damage)
    pair.close()
    return pair.heard


# --- what programs use --------------------------------------------------------------------------------------


class Talk:
    """A conversation with a board of its own, over frames."""

    def __init__(self, board: Any) -> None:
        self.board = board
        self.board.receive(encode_frame(encode_message(5, MessageType.START_SESSION_INIT, b"\x01")))
        self.session_id = int.from_bytes(self.payloads()[-1][:2], "little")

    def payloads(self) -> list[bytes]:
        return [payload for payload in FrameDecoder().feed(self.board.take_output()) if isinstance(payload, bytes)]

    def say(self, message_type: int, body: bytes) -> list[bytes]:
        self.board.receive(encode_frame(encode_message(self.session_id, message_type, body)))
        return self.payloads()

    def ask(self, request: Request) -> Packet:
        (payload,) = self.say(MessageType.NORMAL, encode_packet(request))
        return decode_packet(payload[11:])

    def call(self, name: str, *arguments: Value) -> Any:
        """Give the values of the reply, or the text of an exception."""
        names = [known[0].decode() for known in self.board.device._registries[1]]
        reply = self.ask(CallFunc(1 << 63 | 1 << 32 | names.index(name), arguments))
        return reply.message if isinstance(reply, RemoteException) else reply.values  # type: ignore[union-attr]


@pytest.fixture
def talk() -> Iterator[Talk]:
    talk = Talk(MicroPythonBoard(with_demo=False, packet_bytes=512))
    yield talk
    talk.board.close()


@pytest.mark.parametrize(
    ("signature", "given", "taken"),
    [
        ("a: int, b: float -> None", (1, 2), (1, 2.0)),
        ("a: int, b: float -> None", (1,), "argument 1: Float expected"),
        ("a: int(0..7), b: uint16 [ms] = 10 -> float [mV]", (1,), (1,)),
        ("a: int(0..7), b: uint16 [ms] = 10 -> float [mV]", (1, "x"), "argument 1: Int expected"),
        ('a: str = "x, y: z -> [", b: bytes = None -> None', ("t", b"u", 3), ("t", b"u")),
        ("name: str, *values: any -> int", ("n", 1, b"2"), ("n", 1, b"2")),
        ("name: str, *values: int -> int", ("n", 1, b"2"), "argument 2: Int expected"),
        ("x: float32[n, k], y: any[...] -> None", (1, 2), "argument 0: float32 expected"),
        ("x: any[...] -> None", (1,), "argument 0: Tensor expected"),
        ("-> None", (1, 2), ()),
        ("", (1, None, "x"), (1, None, "x")),
        ("a: any, h: handle -> any", (1, OpaqueHandle(7)), (1, (3, 7))),
        ("a: any, b: any -> any", (1, 2, 3), (1, 2, 3)),
        ("a: any, b: int -> any", (1, 2, 3), (1, 2)),
        ("m: module -> None", (1,), "argument 0: Module expected"),
        ("a: bool -> None", (1,), (1,)),
    ],
)
def test_arguments_are_taken_as_the_signature_says(
    talk: Talk, signature: str, given: tuple[Value, ...], taken: object
) -> None:
    seen: list[object] = []
    talk.board.device.function(signature, name="f")(lambda *arguments: seen.append(arguments))
    reply = talk.call("f", *given)
    assert (seen or [reply]) == [taken]


def test_a_signature_without_an_arrow_is_refused(talk: Talk) -> None:
    with pytest.raises(ValueError, match=r"'x: int' is no signature, as 'x: float32\[n\], factor: float -> None' is"):
        talk.board.device.function("x: int")


def test_a_function_may_be_decorated_without_anything(talk: Talk) -> None:
    @talk.board.device.function
    def count(*arguments: object) -> int:
        return len(arguments)

    assert talk.call("count", 1, "x") == (0, 2)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, (4, None)),
        (True, (0, 1)),
        (-(1 << 63), (0, -(1 << 63))),
        (1.5, (2, 1.5)),
        ("h\u00e9", (11, "h\u00e9")),
        (bytearray(b"ab"), (12, b"ab")),
        (memoryview(b"ab"), (12, b"ab")),
        ((3, 7), (3, OpaqueHandle(7))),
        (1 << 63, "an int does not fit 64 bits"),
        ([1], "a list cannot be told"),
        ((1, 2), "a tuple cannot be told, but (3, 9 or 10, handle)"),
        ((3,), "a tuple cannot be told, but (3, 9 or 10, handle)"),
        (memoryview(array("h", (1, 2))), (12, b"\1\0\2\0")),
    ],
)
def test_what_a_function_gives_is_told_by_its_type(talk: Talk, given: object, told: object) -> None:
    talk.board.device.function("-> any", name="f")(lambda: given)
    assert talk.call("f") == told


def test_an_error_is_told_behind_its_name_and_a_failure_as_it_is(talk: Talk) -> None:
    def fail(error: BaseException) -> None:
        raise error

    talk.board.device.function("-> None", name="error")(lambda: fail(ValueError("too cold")))
    talk.board.device.function("-> None", name="failure")(lambda: fail(talk.board.module.Failure("too cold")))
    talk.board.device.function("-> None", name="memory")(lambda: fail(MemoryError("allocation failed")))
    assert talk.call("error") == "ValueError: too cold"
    assert talk.call("failure") == "too cold"
    assert talk.call("memory") == "MemoryError: allocation failed"
    talk.board.device.function("-> None", name="exit")(lambda: fail(SystemExit(3)))
    talk.board.device.function("-> None", name="interrupt")(lambda: fail(KeyboardInterrupt()))
    assert talk.call("exit") == "SystemExit: 3"
    with pytest.raises(KeyboardInterrupt):  # who sits at the REPL stops the program
        talk.call("interrupt")
    assert talk.call("error") == "ValueError: too cold"


def test_tensors_that_are_made_for_nothing_are_freed(talk: Talk) -> None:
    made: list[Any] = []

    def make(count: int) -> Any:
        made[:] = [talk.board.device.tensor((2, 3), "int16") for _ in range(count)]
        if count == 3:
            raise ValueError("three")
        made[-1][5] = -7
        return made[-1]

    talk.board.device.function("count: int -> int16[n, m]")(make)
    code, tensor, handle = talk.call("make", 2)
    assert (code, tensor.shape, str(tensor.dtype), tensor.data == handle) == (13, (2, 3), "int16", True)
    assert bytes(made[-1].data) == bytes(10) + b"\xf9\xff"
    assert [block[1] for block in talk.board.device._heap.blocks] == [12]
    assert talk.call("make", 3) == "ValueError: three"
    assert [block[1] for block in talk.board.device._heap.blocks] == [12]


def test_a_tensor_of_an_argument_is_given_back_as_a_copy(talk: Talk) -> None:
    talk.board.device.function("x: uint8[n] -> uint8[n]", name="same")(lambda x: x)
    address = talk.board.device._heap.alloc(4, 8, 0)
    talk.board.device._heap.view(address, 4)[:] = b"abcd"
    _, tensor, _ = talk.call("same", Tensor(address, CPU, DataType.parse("uint8"), (4,)))
    assert tensor.data != address
    assert bytes(talk.board.device._heap.view(tensor.data, 4)) == b"abcd"


def test_a_tensor_is_made_within_a_call_only_and_nothing_is_served_within_one(talk: Talk) -> None:
    with pytest.raises(talk.board.module.Failure, match="a tensor is made by the function that gives it"):
        talk.board.device.tensor((2,))
    talk.board.device.function("-> None", name="poll")(talk.board.device.poll)
    assert talk.call("poll") == "a function cannot poll"


def test_the_elements_of_a_tensor_are_numbers_of_its_type(talk: Talk) -> None:
    tensor = talk.board.module.Tensor(memoryview(bytearray(8)), (2,), "float32", 0)
    tensor[1] = 0.5
    assert (len(tensor), list(tensor), bytes(tensor.data[4:])) == (2, [0.0, 0.5], b"\0\0\0\x3f")
    with pytest.raises(IndexError):
        tensor[2]
    half = talk.board.module.Tensor(memoryview(bytearray(4)), (2,), "float16", 0)
    assert (len(half), half[3]) == (4, b"\0")


def test_an_event_goes_out_as_far_as_the_credit_does(talk: Talk) -> None:
    talk.board.clock.us = 77
    assert talk.board.device.event("before") is False
    ack = encode_event_ack(talk.session_id, EventAck(0, 60, False))
    talk.board.receive(encode_frame(ack))
    assert [decode_event_news(payload) for payload in talk.payloads()] == [EventState(1, 1, 0)]
    assert talk.board.device.event("sample", 1, -0.5, "h\u00e9", b"\xff") is True
    (payload,) = talk.payloads()
    event = decode_event_news(payload)
    assert isinstance(event, EventMessage)
    assert (event.number, event.time_us, event.name) == (1, 77, "sample")
    assert event.values == (1, -0.5, "h\u00e9", b"\xff")
    assert talk.board.device.event("sample", 1, -0.5) is False
    assert talk.board.device.event("x" * 255, "y" * 255) is False
    with pytest.raises(talk.board.module.Failure, match="the name of an event has at most 255 bytes"):
        talk.board.device.event("x" * 256)
    assert talk.board.device._events == 3


def test_a_line_of_the_log_has_a_level_and_the_time_of_32_bits(talk: Talk) -> None:
    for _ in range(10):  # the clock of the board wraps at 2^30, and is looked at before that
        talk.board.clock.us += 500_000_000
        talk.board.device.now_us()
    talk.board.device.log("warm", "warning")
    talk.board.device.log("as it is", None)
    us = 5_000_000_000 % (1 << 32)
    expected = f"[W {us // 10**6:04d}.{us % 10**6:06d}] warm"
    assert [payload[2:].decode() for payload in talk.payloads()] == ["\x03" + expected, "\x03as it is"]


def test_bytes_are_read_from_the_port_as_they_come(talk: Talk) -> None:
    talk.board.device.function("-> int", name="f")(lambda: 42)
    assert talk.board.device.poll(1) is False
    frame = encode_frame(encode_message(talk.session_id, MessageType.NORMAL, encode_packet(CallFunc(3 << 62 >> 1, ()))))
    talk.board.uart.bring(frame[:9])
    assert talk.board.device.poll(1) is True
    assert talk.payloads() == []
    talk.board.uart.bring(frame[9:])
    assert talk.board.device.poll(1) is True
    assert len(talk.payloads()) == 1


def test_a_port_that_takes_little_gets_all_and_one_that_takes_nothing_is_given_up(talk: Talk) -> None:
    talk.board.uart.most_bytes = 3
    talk.board.device.log("x" * 50, None)
    assert len(talk.payloads()[0]) == 53
    talk.board.uart.most_bytes = 0
    before_us = talk.board.clock.us
    talk.board.device.log("x", None)
    assert talk.board.clock.us - before_us == 1_000_000
    talk.board.uart.most_bytes = 100
    talk.board.device.log("again", None)
    assert talk.payloads()[-1][3:] == b"again"


def test_a_message_for_which_there_is_no_memory_is_lost_and_no_more(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk.board.device.function("-> int", name="f")(lambda: 42)

    def write(data: bytes) -> int:
        raise MemoryError

    init = encode_frame(encode_message(9, MessageType.START_SESSION_INIT, b"\x01"))
    with monkeypatch.context() as patch:
        patch.setattr(talk.board.device, "_write", write)
        talk.board.uart.bring(init)
        assert talk.board.device.poll(1) is True
    talk.board.receive(init)
    talk.session_id = int.from_bytes(talk.payloads()[-1][:2], "little")
    assert talk.call("f") == (0, 42)


def test_ctrl_c_ends_the_device_at_the_port_of_the_repl_only(talk: Talk) -> None:
    device, said = talk.board.device, list[int]()
    talk.board.clock.us += 150_000
    talk.board.uart.bring(b"\r\3")
    assert device.poll(1) is True  # over a UART of its own it is as other bytes
    device._uart, device._interrupt = None, said.append
    for wire in (b"\r\3", b"\3"):
        talk.board.clock.us += 90_000
        talk.board.uart.bring(wire)
        assert device.poll(1) is True  # soon after other bytes
    talk.board.clock.us += 150_000
    assert device.poll(0) is False
    talk.board.uart.bring(b"\3\4")
    assert device.poll(1) is True  # not alone
    assert said == [-1] * 4
    talk.board.clock.us += 150_000
    talk.board.uart.bring(b"\3")  # from a terminal
    with pytest.raises(KeyboardInterrupt):
        device.run()
    talk.board.clock.us += 150_000
    talk.board.uart.bring(b"\r\3\r\1")  # mpremote: what is behind it is for the REPL
    with pytest.raises(KeyboardInterrupt):
        device.run()
    assert said == [-1] * 5 + [3, -1, 3]
    assert talk.board.uart.read(10) == b"\r\1"


def test_a_uart_is_read_as_far_as_there_is_something(talk: Talk) -> None:
    counts: list[int] = []
    talk.board.uart.bring(b"x" * 40)
    device = talk.board.device
    device._waiting, read = lambda: 40 - sum(counts), device._read
    device._read = lambda count: counts.append(count) or read(count)
    assert device.poll(1) is True
    assert counts == [40]
    device._waiting = lambda: 0  # what poll said is not so
    device._read = lambda count: counts.append(count)
    talk.board.uart.bring(b"x")
    assert device.poll(1) is False
    assert counts == [40, 1]


@pytest.mark.parametrize("options", [{"packet_bytes": 127}, {"packet_bytes": 1 << 24}, {"ring_bytes": 1 << 24}])
def test_sizes_that_no_host_could_be_told_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(Exception, match="packet_bytes is at least 128, and ring_bytes below 2\\^24"):
        MicroPythonBoard(**options)


@pytest.mark.parametrize(("pause_us", "times"), [(100, 1), (0, 100)])
def test_a_call_is_timed_until_it_took_long_enough(talk: Talk, pause_us: int, times: int) -> None:
    runs: list[int] = []

    def pause() -> None:
        runs.append(1)
        talk.board.clock.us += pause_us

    talk.board.device.function("-> None")(pause)
    module = ModuleHandle(2 << 32 | 1 << 63)
    numbers = (1, 0, 10, 2, 5, 3, 0, 1, 0)
    reply = talk.ask(CallFunc(1 << 63 | 4, (module, "pause", *numbers, "")))
    assert isinstance(reply, Return)
    evaluator = reply.values[1]
    assert isinstance(evaluator, OpaqueHandle)
    reply = talk.ask(CallFunc(evaluator, ()))
    assert isinstance(reply, Return)
    seconds = struct.unpack("<2d", reply.values[1])  # type: ignore[arg-type]
    assert seconds == pytest.approx([pause_us / 1e6] * 2)
    assert len(runs) == (10 + 51 + 51 if pause_us else 60)
