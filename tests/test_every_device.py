"""The host end to end, the same tests on every device: the simulator, and the C library here and in emulators."""

from __future__ import annotations

import dataclasses
import math
import os
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import needs
import numpy as np
import pytest
import test_golden as golden
from devices import DEVICES, RECORDED, SIMULATOR, Device, Part, params_of, takes

import microrpc
from firmware_sim.board.demo_models import MODELS
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.client.board import Board
from microrpc.connecting.blocking import open_board
from microrpc.errors import FunctionNotFoundError, RemoteError
from microrpc.firmware.emulator import start_emulated
from microrpc.ports.channel import Channel
from microrpc.ports.opening import open_serial
from microrpc.wire.datatypes import CPU, DataType, FunctionHandle, ModuleHandle, OpaqueHandle, Tensor, Value
from microrpc.wire.frames import encode_frame
from microrpc.wire.model import ModelTable, decode_model, decode_profile
from microrpc.wire.names import MODEL_LAYER_FUNCTION, MODEL_PROFILE_FUNCTION, MODEL_RUN_FUNCTION, MODELS_FUNCTION
from microrpc.wire.packets import (
    CallFunc,
    CopyAck,
    CopyFromRemote,
    CopyToRemote,
    Packet,
    PacketCode,
    RemoteException,
    Request,
    Return,
    Shutdown,
    Syscall,
)
from microrpc.wire.session import MessageType, Timeouts, encode_message

DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", "float32", "float64")
UNBOUNDED = 1 << 31
RECORDED_PACKET_BYTES = 2037  # of the recorded board
TIMEOUTS = Timeouts(retry_s=1.0, start_s=20.0, call_s=20.0)  # an emulator on a busy computer


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make each test for the devices that have what it takes."""
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", params_of(metafunc.function), indirect=True, scope="module")


class Started(NamedTuple):
    """A device that runs."""

    device: Device
    port: str

    @property
    def name(self) -> str:
        return self.device.name


@pytest.fixture(scope="module")
def device(request: pytest.FixtureRequest) -> Iterator[Started]:
    """Give a device and its port; it stays the same through all tests."""
    found = DEVICES[request.param]
    if found.name == SIMULATOR:
        server = PtyServer(simulate(profile("loopback")))
        server.start()
        yield Started(found, server.path)
        server.close()
    else:
        needs.emulated(found.name)
        with start_emulated(found.name) as emulator:
            yield Started(found, emulator.port)


@pytest.fixture(params=[True, False], ids=["link", "stock-protocol"])
def board(device: Started, request: pytest.FixtureRequest) -> Iterator[Board]:
    """Give a session of its own for each test, with the link and without."""
    with microrpc.connect(device.port, timeouts=TIMEOUTS, link=request.param) as board:
        assert board.stats.retransmissions == 0
        yield board


@pytest.fixture
def room_bytes(board: Board, device: Started) -> int:
    """How large all tensors may be together, each with its header: a small board says it, in others all have room."""
    return board.memory().largest_free_bytes if device.device.is_small else UNBOUNDED


@pytest.fixture
def text_bytes(board: Board, device: Started) -> int:
    """How long an argument may be: what the largest packet of a small board leaves for it."""
    return board.max_packet_bytes() - 64 if device.device.is_small else UNBOUNDED


# --- calls --------------------------------------------------------------------------------------------------


@takes("add")
def test_whole_numbers_of_64_bits_come_back_exactly(board: Board) -> None:
    add = board.function("add")
    assert (add(2, 3), add(-(1 << 63), 1), add(1 << 62, -1)) == (5, 1 - (1 << 63), (1 << 62) - 1)


@takes("mul")
def test_products_of_64_bits_come_back_exactly(board: Board) -> None:
    mul = board.function("mul")
    assert (mul(1 << 62, 2), mul(-7, 6)) == (-(1 << 63), -42)


@takes("add", "mul", "fadd", Part.FLOAT64)
def test_numbers_come_back_exactly(board: Board) -> None:
    add, mul, fadd = (board.function(name) for name in ("add", "mul", "fadd"))
    assert (add(0.1, 0.2), mul(2.5, 4), fadd(1e300, 1e300)) == (0.1 + 0.2, 10.0, 2e300)


@takes("add", "mul", "fadd")
def test_numbers_that_32_bits_hold_come_back_exactly(board: Board) -> None:
    add, mul, fadd = (board.function(name) for name in ("add", "mul", "fadd"))
    assert (add(0.5, -0.25), mul(2.5, 4), fadd(2.0**33, 1024)) == (0.25, 10.0, 2.0**33 + 1024)
    assert (mul(-0.5, 2.0**-148), mul(2.0, 2.0**126)) == (-(2.0**-149), 2.0**127)


@takes("echo_str", "echo_bytes", "reverse")
def test_texts_and_bytes_come_back_exactly(board: Board, text_bytes: int) -> None:
    echo_str, echo_bytes, reverse = (board.function(name) for name in ("echo_str", "echo_bytes", "reverse"))
    text = "h\u00e9\u20acllo \U0001f600"
    assert (echo_str(text), echo_str(""), reverse(text)) == (text, "", text[::-1])
    assert echo_bytes(b"") == b""
    at_once = min(256, text_bytes // 2)  # what is reversed lies beside it
    for at in range(0, 256, at_once):
        some_bytes = bytes(range(at, min(at + at_once, 256)))
        assert (echo_bytes(some_bytes), reverse(some_bytes)) == (some_bytes, some_bytes[::-1])
    many = b"\xff" * min(700, text_bytes)
    assert echo_bytes(many) == many


@takes("describe", Part.TENSORS, Part.HANDLES)
def test_arguments_arrive_with_their_types(board: Board) -> None:
    library = board.system_library()
    with board.empty((2,), "int8") as array:
        arguments = (1, 2.0, None, "s", b"b", array, DataType.parse("int8"), CPU, OpaqueHandle(1), library)
        assert board.function("describe")(*arguments) == "10:0,2,4,11,12,7,5,6,3,9"


@takes("adder")
def test_a_function_that_a_function_returned_is_called_and_freed(board: Board) -> None:
    add_40, add_half = board.function("adder")(40), board.function("adder")(0.5)
    assert (add_40(2), add_half(1), add_40(-40)) == (42, 1.5, 0)
    add_40.free()
    assert add_half(2) == 2.5


@takes("fail", "fail_silent", "echo_str", "add")
def test_what_fails_on_the_board_is_raised_with_its_text(board: Board) -> None:
    with pytest.raises(RemoteError, match="fail: this function always fails"):
        board.function("fail")()
    with pytest.raises(RemoteError, match="gave no text"):
        board.function("fail_silent")()
    with pytest.raises(RemoteError, match="argument 0: Str expected"):
        board.function("echo_str")(1)
    with pytest.raises(FunctionNotFoundError):
        board.function("no.such.function")
    assert board.function("add")(1, 1) == 2


@takes("log")
def test_a_line_of_the_log_arrives_before_the_reply(device: Started) -> None:
    lines: list[str] = []
    with microrpc.connect(device.port, timeouts=TIMEOUTS, on_log=lines.append) as board:
        board.function("log")("hello from the board")
        assert lines == ["hello from the board"]


@takes("sleep_ms", Part.CLOCK)
def test_a_call_is_timed_on_the_board(board: Board) -> None:
    timing = board.time_evaluator("sleep_ms", number=2, repeat=3)(2)
    assert len(timing.results) == 3
    assert all(0.00199 < seconds < 10 for seconds in timing.results)


@takes(Part.TENSORS, Part.MEMORY)
def test_it_is_told_what_is_used_of_the_memory(board: Board, device: Started, room_bytes: int) -> None:
    before = board.memory()
    size = min(1000, room_bytes // 16 * 8)
    assert before.used_bytes + before.free_bytes == before.heap_bytes
    assert before.largest_free_bytes <= before.free_bytes - 8
    with board.array(np.zeros(size, "uint8")):
        during = board.memory()
    assert during.used_bytes == before.used_bytes + size + 8
    assert during.most_used_bytes >= during.used_bytes
    board.collect()
    after = board.memory()
    assert (after.used_bytes, after.most_used_bytes) == (before.used_bytes, during.most_used_bytes)
    assert after.stack_bytes == device.device.stack_bytes
    if after.stack_bytes is None:
        assert after.most_stack_bytes is None
    else:
        assert after.most_stack_bytes is not None
        # One of less than 1 KiB is half full and more, never all of it.
        most = 1 / 2 if after.stack_bytes >= 1024 else 7 / 8
        assert 300 < after.most_stack_bytes < after.stack_bytes * most


# --- tensors ------------------------------------------------------------------------------------------------


@takes(Part.TENSORS)
@pytest.mark.parametrize("dtype", DTYPES + FLOATS)
def test_tensors_of_every_type_come_back_exactly(board: Board, room_bytes: int, dtype: str) -> None:
    rows = min(7, room_bytes // (13 * np.dtype(dtype).itemsize))
    data = np.random.default_rng(3).bytes(rows * 13 * np.dtype(dtype).itemsize)
    sent = (np.frombuffer(data, np.uint8) & 1).view(bool) if dtype == "bool" else np.frombuffer(data, dtype)
    sent = sent.reshape(rows, 13)
    with board.array(sent) as array:
        assert array.numpy().tobytes() == sent.tobytes()


@takes(Part.TENSORS, Part.MEMORY)
def test_copies_of_many_blocks_arrive_whole(board: Board, room_bytes: int) -> None:
    size = min(20_001, room_bytes // 2 - 32)  # two of them
    sent = np.random.default_rng(4).integers(0, 256, size, np.uint8)
    with board.array(sent) as array:
        assert (array.numpy() == sent).all()
        with board.empty(sent.shape, "uint8") as other:
            array.copy_to(other)
            assert (other.numpy(verify=True) == sent).all()


@takes("add_f32", "relu_f32", "scale_f32", "sum_f32", Part.TENSORS)
def test_functions_work_on_tensors_in_place(board: Board, room_bytes: int) -> None:
    x = np.linspace(-3, 3, min(51, room_bytes // 12 - 2), dtype=np.float32)  # three of them
    with board.array(x) as a, board.array(x[::-1].copy()) as b, board.empty(x.shape, "float32") as out:
        board.function("add_f32")(a, b, out)
        assert (out.numpy() == x + x[::-1]).all()
        board.function("relu_f32")(a)
        board.function("scale_f32")(a, 2.5)
        assert (a.numpy() == np.maximum(x, 0) * np.float32(2.5)).all()
        assert board.function("sum_f32")(a) == pytest.approx(float(a.numpy().sum()), rel=1e-5)


@takes("inc_tensor", Part.TENSORS)
@pytest.mark.parametrize("dtype", [*DTYPES[1:], "float32", "float64"])
def test_elements_are_incremented_in_their_own_type(board: Board, device: Started, dtype: str) -> None:
    kind = np.dtype(dtype)
    last = kind.type(1.5) if kind.kind == "f" else np.iinfo(kind).max
    sent = np.array([0, 1, 255 if kind.itemsize > 1 else 5, last], kind)
    with board.array(sent) as array, np.errstate(over="ignore"):
        if dtype == "float64" and not device.device.has([Part.FLOAT64]):
            with pytest.raises(RemoteError, match="inc_tensor: the dtype is not supported"):
                board.function("inc_tensor")(array)
            assert (array.numpy() == sent).all()
            return
        board.function("inc_tensor")(array)
        assert (array.numpy() == sent + kind.type(1)).all()


@takes("matmul_f32", Part.TENSORS)
def test_matrices_are_multiplied(board: Board) -> None:
    a, b = np.arange(12, dtype=np.float32).reshape(3, 4), np.arange(20, dtype=np.float32).reshape(4, 5)
    with board.array(a) as left, board.array(b) as right, board.empty((3, 5), "float32") as out:
        board.function("matmul_f32")(left, right, out)
        assert (out.numpy() == a @ b).all()
        with pytest.raises(RemoteError, match="the shapes do not match"):
            board.function("matmul_f32")(left, left, out)


@takes("iota", Part.TENSORS, Part.MEMORY)
def test_a_tensor_that_a_function_returned_is_read_and_freed(board: Board, room_bytes: int) -> None:
    iota = board.function("iota")
    few, many = (min(count, room_bytes // 8) for count in (300, 1000))
    for _ in range(200):  # more than fit the heap of any board, if they were not freed
        with iota(few) as array:
            assert array.shape == (few,)
    with iota(many) as array:
        assert (array.numpy() == np.arange(many, dtype=np.float32)).all()


@takes(Part.TENSORS, Part.RANDOM)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "bool"])
def test_a_tensor_is_filled_at_random_on_the_board(board: Board, room_bytes: int, dtype: str) -> None:
    count = min(100, room_bytes // np.dtype(dtype).itemsize)
    with board.empty((count,), dtype) as array:
        board.global_function("tvm.contrib.random.random_fill")(array)
        found = array.numpy()
    assert len(set(found.tolist())) > (1 if dtype == "bool" else count * 9 // 10)
    if found.dtype.kind == "f":
        assert ((found >= 1) & (found < 2)).all()


# --- models -------------------------------------------------------------------------------------------------


def read_table(board: Board, number: int) -> ModelTable:
    """Give the table of a model, read in pages."""
    data = b""
    while page := board.function(MODELS_FUNCTION)(number, len(data)):
        data += page
    return decode_model(data)


@takes(Part.TENSORS, Part.MODELS)
def test_the_tables_of_its_models_are_those_of_every_device(board: Board) -> None:
    assert [read_table(board, number) for number in range(2)] == [model.table for model in MODELS]
    assert board.function(MODELS_FUNCTION)(len(MODELS), 0) is None


@takes(Part.TENSORS, Part.MODELS)
def test_models_give_what_they_give_on_every_device(board: Board) -> None:
    rng = np.random.default_rng(5)
    run = board.function(MODEL_RUN_FUNCTION)
    with board.empty((1, 4), "float32") as x, board.empty((1, 3), "float32") as y:
        for _ in range(5):
            given = rng.normal(size=(1, 4)).astype(np.float32)
            x.write(given)
            assert run(0, x, y) is None
            np.testing.assert_array_equal(y.numpy(), reference(0, given)[0])
    with board.empty((1, 8), "int8") as x, board.empty((1, 4), "int8") as y:
        for _ in range(5):
            given = rng.integers(-128, 128, (1, 8), np.int8)
            x.write(given)
            run(1, x, y)
            np.testing.assert_array_equal(y.numpy(), reference(1, given)[0])


def reference(number: int, given: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], dict[int, np.ndarray[Any, Any]]]:
    """Give the output of a demonstration model, and those of its layers."""
    table = MODELS[number].table
    layers: dict[int, np.ndarray[Any, Any]] = {}

    def done(layer: int, output: np.ndarray[Any, Any] | None) -> None:
        if output is not None:
            layers[layer] = output.copy().reshape(1, -1)

    output = np.zeros(table.outputs[0].shape, table.outputs[0].dtype.numpy)
    MODELS[number].run([given], [output], done)
    return output, layers


@takes(Part.TENSORS, Part.MODELS)
def test_the_layers_of_a_model_are_timed_and_looked_into(board: Board) -> None:
    given = np.array([[1.0, -2.0, 0.5, 3.0]], np.float32)
    expected, layers = reference(0, given)
    with board.array(given) as x, board.empty((1, 3), "float32") as y, board.empty((1, 8), "float32") as hidden:
        profile = decode_profile(board.function(MODEL_PROFILE_FUNCTION)(0, x, y), 3)
        assert 0 <= sum(profile.layers_us) <= profile.total_us < 10**6
        np.testing.assert_array_equal(y.numpy(), expected)
        for layer in (0, 1):
            board.function(MODEL_LAYER_FUNCTION)(0, layer, hidden, x, y)
            np.testing.assert_array_equal(hidden.numpy(), layers[layer])
        assert (layers[0] < 0).any()


@takes(Part.TENSORS, Part.MODELS)
def test_what_a_model_does_not_take_is_refused_with_what_it_takes(board: Board) -> None:
    run, layer = board.function(MODEL_RUN_FUNCTION), board.function(MODEL_LAYER_FUNCTION)
    with (
        board.empty((1, 4), "float32") as x,
        board.empty((1, 3), "float32") as y,
        board.empty((4,), "float32") as flat,
        board.empty((1, 3), "int32") as whole,
        board.empty((1, 8), "int8") as small,
        board.empty((1, 4), "int8") as out,
    ):
        for arguments, complaint in (
            ((0, flat, y), r"argument 1: x: float32\[1, 4\] expected"),
            ((0, x, whole), r"argument 2: y: float32\[1, 3\] expected"),
            ((0, x), "3 arguments expected, not 2"),
            ((0, x, 1), r"argument 2: y: float32\[1, 3\] expected"),
            ((2, x, y), "there is no such model: there are 2"),
            (("0", x, y), "argument 0: Int expected"),
        ):
            with pytest.raises(RemoteError, match=complaint):
                run(*arguments)
        for arguments, complaint in (
            ((0, 3, x, x, y), "there is no such layer: there are 3"),
            ((0, 0, x, x, y), r"argument 2: dense_1: float32\[1, 8\] expected"),
            ((0, 2, y, x, y), "argument 4 shares memory with another one"),
            ((1, 1, out, small, out), "the output of this layer cannot be had"),
        ):
            with pytest.raises(RemoteError, match=complaint):
                layer(*arguments)
        run(0, x, y)


@takes(Part.TENSORS)
def test_what_the_heap_cannot_give_is_refused_with_its_reason(board: Board) -> None:
    with pytest.raises(RemoteError, match="out of memory: 1073741824 bytes asked for, the largest free block has"):
        board.empty((1 << 30,), "uint8")
    with board.array(np.arange(10, dtype=np.uint8)) as array:
        outside = board.array_at(array.handle + 8, (10,), "uint8")
        with pytest.raises(RemoteError, match=r"10 bytes at 0x[0-9a-f]+ are not inside an allocated block"):
            outside.numpy()
        with pytest.raises(RemoteError, match="are not inside an allocated block"):
            outside.write(np.zeros(10, np.uint8))
        assert (array.numpy() == np.arange(10)).all()


# --- what goes wrong on the line ----------------------------------------------------------------------------


@takes("add")
def test_hundreds_of_calls_are_answered_in_their_order(board: Board) -> None:
    add = board.function("add")
    assert [add(number, 1) for number in range(300)] == list(range(1, 301))


@takes("add")
def test_a_new_session_begins_whatever_the_last_one_left(device: Started) -> None:
    rng = random.Random(5)
    for _ in range(10):
        channel = open_serial(device.port, baud=115200)
        half = encode_frame(encode_message(0x1234, MessageType.NORMAL, rng.randbytes(100)))
        channel.write(rng.choice((half[: rng.randrange(len(half))], rng.randbytes(50), b"\xff")), channel.now() + 5)
        channel.close()
        with microrpc.connect(device.port, timeouts=TIMEOUTS) as board:
            assert board.function("add")(20, 22) == 42


@takes("add")
def test_a_storm_of_inits_leaves_the_device_well(device: Started) -> None:
    channel = open_serial(device.port, baud=115200)
    init = encode_frame(encode_message(0x33, MessageType.START_SESSION_INIT, b"\x01"))
    for _ in range(4):
        channel.write(init * 100, channel.now() + 20)
        while channel.read(channel.now() + 0.1):
            pass  # its replies, which nobody would take
    channel.close()
    with microrpc.connect(device.port, timeouts=TIMEOUTS) as board:
        assert board.function("add")(20, 22) == 42


class FaultyWire:
    """A channel that flips bits at a rate, both ways, seeded."""

    def __init__(self, channel: Channel, rate: float, seed: int) -> None:
        self.name = channel.name
        self.flipped = 0
        self._channel = channel
        self._rate = rate
        self._to_host, self._to_board = np.random.default_rng(seed).spawn(2)

    def _damage(self, data: bytes, rng: np.random.Generator) -> bytes:
        bits = np.flatnonzero(rng.random(8 * len(data)) < self._rate)
        self.flipped += len(bits)
        changed = np.frombuffer(data, np.uint8).copy()
        np.bitwise_xor.at(changed, bits >> 3, (1 << (bits & 7)).astype(np.uint8))
        return changed.tobytes()

    def read(self, deadline: float) -> bytes:
        return self._damage(self._channel.read(deadline), self._to_host)

    def write(self, data: bytes, deadline: float) -> None:
        self._channel.write(self._damage(data, self._to_board), deadline)

    def now(self) -> float:
        return self._channel.now()

    def close(self) -> None:
        self._channel.close()


@takes("inc_tensor", Part.TENSORS, Part.MEMORY)
@pytest.mark.timeout(0 if "MICRORPC_NOISE" in os.environ else 120)
def test_over_a_line_that_flips_bits_every_call_runs_once_and_every_copy_arrives(device: Started) -> None:
    """The variable MICRORPC_NOISE asks for more, as "CALLS,COPIES"; a copy is of up to 16 KiB, there and back."""
    calls, copies = (int(number) for number in os.environ.get("MICRORPC_NOISE", "200,1").split(","))
    wire = FaultyWire(open_serial(device.port, baud=115200), 1e-4, seed=6)
    with open_board(wire, TIMEOUTS, seed=7) as board:
        inc = board.function("inc_tensor")
        with board.array(np.zeros(1, np.int64)) as counter:
            for done in range(calls):
                inc(counter)
                if done % 100 == 99:
                    assert counter.numpy()[0] == done + 1  # none lost, none twice
            size = min(16384, board.memory().largest_free_bytes) if device.device.is_small else 16384
            for seed in range(copies):
                sent = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
                with board.array(sent) as array:
                    assert (array.numpy() == sent).all()
        assert wire.flipped > 10
        assert board.stats.retransmissions > 0


# --- the recording of the real host -------------------------------------------------------------------------


class Replay:
    """The requests of the recorded C++ host, with the handles and addresses that this device gave."""

    def __init__(self, packet_bytes: int) -> None:
        self.packet_bytes = packet_bytes
        self.known: dict[int, int] = {0: 0}
        self.failures: list[str] = []
        self.sizes: dict[int, int] = {}

    def request(self, recorded: Request) -> Request:
        match recorded:
            case CallFunc(handle, args):
                return CallFunc(self.known[handle], tuple(map(self.value, args)))
            case Syscall(code, args):
                return Syscall(code, tuple(map(self.value, args)))
            case Shutdown():
                return recorded
        return dataclasses.replace(recorded, tensor=self.value(recorded.tensor))  # type: ignore[type-var, union-attr]

    def value(self, value: Value) -> Any:
        if isinstance(value, OpaqueHandle | ModuleHandle | FunctionHandle):
            return type(value)(self.known[int(value)])
        if isinstance(value, Tensor):
            return dataclasses.replace(value, data=self.known[value.data])
        return value

    def check(self, recorded: Packet | None, given: Packet) -> None:
        """Compare a reply with the recorded one, and learn what this device calls things."""
        if isinstance(recorded, Return):
            assert isinstance(given, Return), given
            assert len(given.values) == len(recorded.values)
            for old, new in zip(recorded.values, given.values, strict=True):
                assert type(old) is type(new)
                if isinstance(old, OpaqueHandle):
                    assert (old == 0) == (new == 0)
                    self.known[int(old)] = int(new)  # type: ignore[call-overload]
                else:
                    assert new == (self.packet_bytes if old == RECORDED_PACKET_BYTES else old)
        elif isinstance(recorded, CopyAck):
            assert given == recorded
        else:
            assert isinstance(recorded, RemoteException)
            assert isinstance(given, RemoteException)
            self.failures.append(given.message)

    @property
    def used_bytes(self) -> int:
        """What this device has given of its heap."""
        return sum(self.sizes.values())

    def allocated_bytes(self, request: Request) -> int:
        """Give what a request takes of the heap, with the header of a block; 0 for one that allocates nothing."""
        if not isinstance(request, Syscall) or request.code is not PacketCode.DEV_ALLOC_DATA_WITH_SCOPE:
            return 0
        tensor: Any = request.args[0]
        return math.prod(tensor.shape) * tensor.dtype.numpy.itemsize + 8

    def allocates_float64(self, request: Request) -> bool:
        tensor: Any = request.args[0] if self.allocated_bytes(request) else None  # type: ignore[union-attr]
        return tensor is not None and tensor.dtype == DataType.parse("float64")

    def note_sizes(self, recorded: Request, reply: Packet | None) -> None:
        """Note what was allocated and freed."""
        if size_bytes := self.allocated_bytes(recorded):
            assert isinstance(reply, Return)
            self.sizes[int(reply.values[0])] = size_bytes  # type: ignore[arg-type]
        elif isinstance(recorded, Syscall) and recorded.code is PacketCode.DEV_FREE_DATA:
            del self.sizes[int(recorded.args[1])]  # type: ignore[arg-type]

    def uses(self, request: Request, lost: set[int]) -> bool:
        """Whether a request is about something that this device had no memory for."""
        values: list[Any] = [*getattr(request, "args", ()), getattr(request, "tensor", None)]
        return any((value.data if isinstance(value, Tensor) else value) in lost for value in values if value)


@takes(*RECORDED.split(), Part.TENSORS, Part.MEMORY)
def test_the_recorded_host_gets_the_recorded_answers(device: Started) -> None:
    lost: set[int] = set()
    with microrpc.connect(device.port, timeouts=TIMEOUTS, link=False) as board:
        replay = Replay(board.max_packet_bytes() if device.device.is_small else RECORDED_PACKET_BYTES)
        heap_bytes = board.memory().largest_free_bytes
        block_bytes = UNBOUNDED if replay.packet_bytes == RECORDED_PACKET_BYTES else replay.packet_bytes - 128
        exchanges = golden.recorded_exchanges()
        assert len(exchanges) == 502
        for exchange in exchanges[:-1]:
            recorded = exchange.request
            if replay.uses(recorded, lost):
                continue
            if replay.allocates_float64(recorded) and not device.device.has([Part.FLOAT64]):
                lost.add(int(exchange.reply.values[0]))  # type: ignore[arg-type, union-attr]
                continue
            given = ask(board, replay.request(recorded), block_bytes)
            if isinstance(given, RemoteException) and given.message.startswith("out of memory"):
                assert device.device.lacks_room_to_replay
                assert isinstance(recorded, Syscall)
                assert recorded.code is PacketCode.DEV_ALLOC_DATA_WITH_SCOPE
                # In a tiny heap, what the host holds of functions counts: a timer has 50 bytes.
                full_bytes = heap_bytes * (3 / 4 if heap_bytes > 1024 else 1 / 2)
                assert replay.used_bytes + replay.allocated_bytes(recorded) > full_bytes
                assert isinstance(exchange.reply, Return)
                lost.add(int(exchange.reply.values[0]))  # type: ignore[arg-type]
                continue
            replay.check(exchange.reply, given)
            replay.note_sizes(recorded, exchange.reply)
    # As recorded, but for the second one: the real runtime repeats the older text there (docs/protocol.md 6).
    assert replay.failures == ["fail: this function always fails", "", "add: want (int, int)"]


def ask(board: Board, request: Request, block_bytes: int) -> Packet:
    """Give the answer; a block that is too large for this board goes in pieces."""
    try:
        match request:
            case CopyToRemote(tensor, data) if len(bytes(data)) > block_bytes:
                for at in range(0, len(bytes(data)), block_bytes):
                    piece = dataclasses.replace(tensor, byte_offset=tensor.byte_offset + at)
                    given = board.request(CopyToRemote(piece, bytes(data)[at : at + block_bytes]))
                return given
            case CopyFromRemote(tensor, size_bytes) if size_bytes > block_bytes:
                got = b""
                while len(got) < size_bytes:
                    piece = dataclasses.replace(tensor, byte_offset=tensor.byte_offset + len(got))
                    answer = board.request(CopyFromRemote(piece, min(block_bytes, size_bytes - len(got))))
                    assert isinstance(answer, CopyAck)
                    got += bytes(answer.data)
                return CopyAck(got)
        return board.request(request)
    except RemoteError as error:
        return RemoteException(error.message)


@takes(Part.TENSORS, Part.MODELS)
def test_a_model_is_run_timed_looked_into_and_held_against_a_data_set(board: Board) -> None:
    mlp, quantised = board.model("mlp"), board.model("quantised")
    x = (np.random.default_rng(2).integers(-80, 80, (40, 4)) / 8).astype(np.float32)
    y = np.concatenate([mlp(sample[np.newaxis]) for sample in x])
    assert mlp.validate(x, y, rtol=0, atol=0)
    wrong = y.copy()
    wrong[33, 2] += 0.5
    result = mlp.validate(x, wrong)
    assert (result.samples, result.failed, result.first_failed) == (40, 1, 33)
    assert result.worst is not None
    assert (result.worst.difference.index, result.worst.difference.error) == ((0, 2), 0.5)
    layers = mlp.layer_outputs(x[:1])
    assert list(layers) == ["dense_1", "relu_1", "dense_2"]
    assert (np.maximum(layers["dense_1"], 0) == layers["relu_1"]).all()
    assert mlp.first_difference(x[:1], reference={**layers, "relu_1": layers["relu_1"] + 1}).name == "relu_1"  # type: ignore[union-attr]
    assert quantised(np.zeros((1, 8), np.float32)).tolist() == [[0.25, 0.5, 0.75, 0.0]]
    report = mlp.profile(x[:1], repeat=3)
    assert sum(layer.time_us for layer in report.layers) <= report.total_us <= report.call_us * 1.5 + 1000
    assert report.memory is not None
