"""The simulated board with robust firmware, its demonstration functions and the loopback channel."""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import golden
import numpy as np
import pytest

from firmware_sim import demo
from firmware_sim.device import Device, RealClock, Stats, VirtualClock
from firmware_sim.loopback import LoopbackChannel
from microrpc.codec import (
    RETURN_NONE,
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
    decode_packet,
    decode_result,
    encode_packet,
)
from microrpc.datatypes import (
    CPU,
    ArrayResult,
    DataType,
    FunctionHandle,
    ModuleHandle,
    OpaqueHandle,
    Tensor,
    TypeCode,
    UInt,
    Value,
)
from microrpc.datatypes import Device as BoardDevice
from microrpc.errors import PortLostError
from microrpc.framing import FrameDecoder, FrameEncoder, encode_frame
from microrpc.serving import FunctionError
from microrpc.session import MessageType, encode_message, step_nonce

BOOT = bytes.fromhex("fefffd030000000000026677")
HOST_NONCE = 0x26
F32 = DataType(2, 32)
U8 = DataType(1, 8)


def seed_that_answers(responder_nonce: int) -> int:
    """A seed with which a device answers its first INIT with this nonce."""
    return next(s for s in range(9999) if step_nonce(random.Random(s).randrange(1, 256)) == responder_nonce)


class Host:
    """The other end of the line, made of single steps and without a memory of its own."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.session_id = 0
        self.logs: list[str] = []
        self._encoder = FrameEncoder()
        self._decoder = FrameDecoder(1 << 24)

    def send(self, message_type: MessageType, body: bytes = b"", session_id: int = 0) -> None:
        self.device.receive(self._encoder.encode(encode_message(session_id, message_type, body)))

    def send_normal(self, body: bytes) -> None:
        self.send(MessageType.NORMAL, body, self.session_id)

    def messages(self) -> list[tuple[int, int, bytes]]:
        """What the device has said, as (session id, type, body); logs are set aside."""
        found = []
        for frame in self._decoder.feed(self.device.take_output()):
            assert isinstance(frame, bytes)
            session_id, message_type = struct.unpack_from("<HB", frame)
            if message_type == MessageType.LOG:
                assert session_id == 0
                self.logs.append(frame[3:].decode())
            else:
                found.append((session_id, message_type, frame[3:]))
        return found

    def open(self, nonce: int = HOST_NONCE) -> int:
        self.send(MessageType.TERMINATE_SESSION)
        self.messages()
        self.send(MessageType.START_SESSION_INIT, b"\x01", nonce)
        [(self.session_id, message_type, body)] = self.messages()
        assert (message_type, body, self.session_id & 0xFF) == (MessageType.START_SESSION_REPLY, b"\x01", nonce)
        return self.session_id

    def replies(self) -> list[Packet]:
        packets = []
        for session_id, message_type, body in self.messages():
            assert (session_id, message_type) == (self.session_id, MessageType.NORMAL)
            assert int.from_bytes(body[:8], "little") == len(body) - 8
            packets.append(decode_packet(body[8:]))
        return packets

    def exchange(self, request: Request) -> Packet:
        self.send_normal(encode_packet(request))
        [reply] = self.replies()
        return reply

    def syscall(self, code: PacketCode | int, *args: Value) -> Any:
        """The value that a syscall returned, or the text of its exception."""
        reply = self.exchange(Syscall(code, args))
        if isinstance(reply, RemoteException):
            return reply.message
        assert isinstance(reply, Return)
        [value] = reply.values
        return value

    def call_handle(self, handle: int, *args: Value) -> Any:
        """What a function returned, or the text of its exception."""
        reply = self.exchange(CallFunc(handle, args))
        if isinstance(reply, RemoteException):
            return reply.message
        assert isinstance(reply, Return)
        return decode_result(reply.values)

    def look_up(self, name: str) -> int:
        return int(self.syscall(PacketCode.GET_GLOBAL_FUNC, name))

    def call_global(self, name: str, *args: Value) -> Any:
        return self.call_handle(self.look_up(name), *args)

    def system_library(self) -> ModuleHandle:
        module = self.call_global("runtime.SystemLib")
        assert type(module) is ModuleHandle
        return module

    def function(self, name: str) -> Any:
        return self.call_global("tvm.rpc.server.ModuleGetFunction", self.system_library(), name, 1)

    def call(self, name: str, *args: Value) -> Any:
        return self.call_handle(self.function(name), *args)

    def alloc(self, size_bytes: int, alignment: int = 8) -> Any:
        return self.syscall(PacketCode.DEV_ALLOC_DATA, CPU, size_bytes, alignment, U8)

    def free(self, address: int) -> Any:
        return self.syscall(PacketCode.DEV_FREE_DATA, CPU, OpaqueHandle(address))

    def put(self, array: np.ndarray[Any, Any]) -> Tensor:
        """A tensor on the device with the contents of `array`."""
        tensor = Tensor(self.alloc(array.nbytes), CPU, DataType.from_numpy(array.dtype), array.shape)
        assert self.exchange(CopyToRemote(tensor, array.tobytes())) == RETURN_NONE
        return tensor

    def get(self, tensor: Tensor) -> np.ndarray[Any, Any]:
        reply = self.exchange(CopyFromRemote(tensor, tensor.size_bytes))
        assert isinstance(reply, CopyAck), reply
        return np.frombuffer(reply.data, tensor.dtype.numpy).reshape(tensor.shape)


@pytest.fixture
def device() -> Device:
    device = Device()
    demo.install(device)
    return device


@pytest.fixture
def host(device: Device) -> Host:
    host = Host(device)
    host.open()
    return host


# --- boot and session -------------------------------------------------------------------------


def test_a_board_says_terminate_when_it_is_powered_up() -> None:
    assert Device().take_output() == BOOT


def test_it_answers_the_handshake_with_the_bytes_of_the_recording() -> None:
    device = Device(seed=seed_that_answers(0x62))
    device.take_output()
    device.receive(bytes.fromhex("fefffd030000000000026677fffd0400000026000001fcc9"))
    assert device.take_output() == bytes.fromhex("fffd0400000026620101c60f")


def test_a_new_init_replaces_the_session_and_the_old_one_gets_no_answer(host: Host) -> None:
    old_id = host.session_id
    host.send(MessageType.START_SESSION_INIT, b"\x01", 0x31)
    [(new_id, _, _)] = host.messages()
    assert new_id == 0x31 | step_nonce(old_id >> 8) << 8
    host.send_normal(encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, ("add",))))
    assert host.messages() == []
    host.session_id = new_id
    assert host.look_up("add")


def test_after_terminate_there_is_no_session(host: Host) -> None:
    host.send(MessageType.TERMINATE_SESSION)
    host.send_normal(encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, ("add",))))
    assert host.messages() == []
    assert host.device.stats.messages_dropped == 1


def test_a_half_sent_packet_is_forgotten_with_its_session(host: Host) -> None:
    packet = encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, ("add",)))
    host.send_normal(packet[:9])
    host.open()
    assert host.look_up("add")


def test_after_shutdown_it_is_silent_until_a_new_session(host: Host) -> None:
    host.send_normal(encode_packet(Shutdown()))
    host.send_normal(encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, ("add",))))
    assert host.messages() == []
    host.open(0x77)
    assert host.look_up("add")


def test_any_split_of_the_bytes_gives_the_same_answers() -> None:
    whole, split = Device(), Device()
    bursts = [burst.data for burst in golden.load("crt_2k")[:40] if burst.dir == "host"]
    for data in bursts:
        whole.receive(data)
        for byte in data:
            split.receive(bytes([byte]))
    assert split.take_output() == whole.take_output()


def test_a_reset_loses_memory_handles_and_session_and_boots_with_another_nonce(host: Host, device: Device) -> None:
    tensor = host.put(np.arange(4, dtype=np.uint8))
    function = host.function("noop")
    old_id = host.session_id
    device.reset()
    assert device.take_output() == BOOT
    host.send_normal(encode_packet(CallFunc(function, ())))
    assert host.messages() == []
    assert host.open() != old_id
    assert host.call_handle(function) == f"no function has the handle 0x{function:x}; look it up again"
    assert "not inside an allocated block" in str(host.exchange(CopyFromRemote(tensor, 4)))
    assert device.memory.used_bytes == 0
    assert host.call("noop") is None


def test_a_function_may_reset_the_board_and_is_then_not_answered(host: Host, device: Device) -> None:
    device.function(device.reset, name="reboot")
    function = host.function("reboot")
    host.send_normal(encode_packet(CallFunc(function, ())))
    assert device.take_output() == BOOT


def test_memory_and_handles_survive_a_new_session(host: Host) -> None:
    tensor = host.put(np.arange(5, dtype=np.int16))
    function = host.function("add")
    host.open(0x99)
    assert host.get(tensor).tolist() == [0, 1, 2, 3, 4]
    assert host.call_handle(function, 1, 2) == 3


def test_two_boards_with_one_seed_say_the_same_and_with_two_seeds_do_not() -> None:
    ids = [Host(Device(seed=seed)).open() for seed in (7, 7, 8)]
    assert ids[0] == ids[1] != ids[2]


# --- damage on the line -----------------------------------------------------------------------


def test_a_damaged_frame_is_dropped_and_the_next_one_is_answered(host: Host, device: Device) -> None:
    frame = bytearray(
        encode_frame(
            encode_message(host.session_id, MessageType.NORMAL, encode_packet(Syscall(PacketCode.DEV_SET_DEVICE, ())))
        )
    )
    frame[20] ^= 1
    device.receive(bytes(frame))
    assert device.take_output() == b""
    assert host.call("add", 1, 1) == 2
    assert device.stats.frames_damaged == 1


def test_a_packet_that_is_restarted_in_the_middle_is_dropped(host: Host, device: Device) -> None:
    device.receive(encode_frame(b"123456789")[:-3])
    assert host.call("add", 2, 2) == 4


@pytest.mark.parametrize("packet_size_bytes", [256, 2048])
def test_a_message_that_fills_the_receive_buffer_exactly_is_taken(packet_size_bytes: int) -> None:
    host = Host(Device(packet_size_bytes=packet_size_bytes))
    host.open()
    size = packet_size_bytes - 11 - (4 + 40 + 8)
    tensor = host.put(np.full(size, 0xFF, np.uint8))
    assert host.get(tensor).tolist() == [0xFF] * size


def test_a_message_larger_than_the_receive_buffer_is_refused_with_a_line_in_the_log(host: Host, device: Device) -> None:
    address = host.alloc(2000)
    host.send_normal(encode_packet(CopyToRemote(Tensor(address, CPU, U8, (2000,)), bytes(2000 - 14))))
    assert host.replies() == []
    assert host.logs == ["a frame was refused: it announces 2049 bytes, and 2048 are accepted"]
    assert host.call("add", 3, 4) == 7


def test_replies_may_be_larger_than_the_receive_buffer(host: Host, device: Device) -> None:
    address = host.alloc(100_000)
    device.memory.view(address, 100_000)[:] = bytes(range(250)) * 400
    assert host.get(Tensor(address, CPU, U8, (100_000,))).tobytes() == bytes(range(250)) * 400


def test_stats_count_what_arrived(host: Host, device: Device) -> None:
    host.send(MessageType.LOG, b"nobody reads this")
    device.receive(b"\xff\xfd\x00\x00\x00\x00\x83\x45")
    device.reset()
    assert device.stats == Stats(frames_received=3, frames_damaged=1, messages_dropped=1, resets=1)


# --- packets and messages ---------------------------------------------------------------------


def test_two_packets_in_one_message_get_two_answers(host: Host) -> None:
    packet = encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, ("nothing",)))
    host.send_normal(packet + packet)
    assert host.replies() == [Return((OpaqueHandle(0),))] * 2


def test_a_packet_over_two_messages_gets_one_answer(host: Host) -> None:
    packet = encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, ("nothing",)))
    host.send_normal(packet[:13])
    assert host.replies() == []
    host.send_normal(packet[13:])
    assert host.replies() == [Return((OpaqueHandle(0),))]


def test_an_empty_packet_is_skipped(host: Host) -> None:
    host.send_normal(bytes(8))
    assert host.replies() == []
    assert host.call("add", 1, 0) == 1


def test_a_malformed_packet_gets_an_exception_and_the_next_one_its_answer(host: Host) -> None:
    host.send_normal(struct.pack("<Qi", 4, 77))
    assert isinstance(host.replies()[0], RemoteException)
    assert host.call("add", 1, 4) == 5


def test_a_packet_that_is_a_reply_gets_an_exception_and_silence_until_a_new_session(host: Host) -> None:
    host.send_normal(encode_packet(RETURN_NONE))
    assert host.replies() == [RemoteException("Return arrived at a server (docs/protocol.md, section 5)")]
    host.send_normal(encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, ("add",))))
    assert host.replies() == []
    host.open(0x12)
    assert host.look_up("add")


def test_init_server_is_accepted_without_arguments_only(host: Host) -> None:
    assert host.exchange(InitServer("0.8.0", ())) == RETURN_NONE
    assert host.exchange(InitServer("0.8.0", ())) == RETURN_NONE
    assert host.exchange(InitServer("0.8.0", ("rpc.LocalSession",))) == RemoteException(
        "Server has already been initialized"
    )
    assert "mismatch" in str(host.exchange(InitServer("0.7.0", ())))


def test_an_unknown_syscall_gets_an_exception(host: Host) -> None:
    assert host.syscall(99) == "unknown packet code 99"


# --- logs -------------------------------------------------------------------------------------


def test_logs_may_be_sent_before_a_session_and_between_a_request_and_its_reply(device: Device) -> None:
    host = Host(device)
    device.log("booted")
    host.messages()
    assert host.logs == ["booted"]
    host.open()
    function = host.function("log")
    host.send_normal(encode_packet(CallFunc(function, ("hello from device",))))
    log, reply = FrameDecoder().feed(device.take_output())
    assert log == b"\0\0\x03hello from device"
    assert isinstance(reply, bytes)
    assert reply[2] == MessageType.NORMAL


# --- what the runtime registers ---------------------------------------------------------------


def test_the_packet_size_limit_is_the_receive_buffer_minus_11() -> None:
    host = Host(Device(packet_size_bytes=8192))
    host.open()
    assert host.call_global("tvm.rpc.server.GetCRTMaxPacketSize") == 8181


def test_user_functions_are_in_the_system_library_unless_told_otherwise(device: Device, host: Host) -> None:
    @device.function
    def local() -> int:
        return 1

    @device.function(name="everywhere", registry="global")
    def ignored_name() -> int:
        return 2

    assert (host.look_up("local"), host.look_up("ignored_name")) == (0, 0)
    assert (host.call("local"), host.call_global("everywhere")) == (1, 2)
    assert host.function("everywhere") is None
    assert (local(), ignored_name()) == (1, 2)


def test_a_handle_stays_valid_until_it_was_freed_as_often_as_it_was_given_out(host: Host) -> None:
    first, second = host.function("add"), host.look_up("add")
    host.syscall(PacketCode.FREE_HANDLE, OpaqueHandle(second), int(TypeCode.FUNCTION))
    assert host.call_handle(first, 1, 2) == 3
    host.syscall(PacketCode.FREE_HANDLE, OpaqueHandle(first), int(TypeCode.FUNCTION))
    assert "look it up again" in host.call_handle(first, 1, 2)


def test_random_fill_fills_in_place_and_repeats_with_the_seed() -> None:
    results = []
    for _ in range(2):
        host = Host(Device(seed=5))
        host.open()
        tensors = [host.put(np.zeros(64, dtype)) for dtype in ("f4", "f8", "f2", "i4", "u1", "bool")]
        for tensor in tensors:
            assert host.call_global("tvm.contrib.random.random_fill", tensor) is None
        results.append([host.get(tensor) for tensor in tensors])
    for first, second in zip(*results, strict=True):
        assert first.tobytes() == second.tobytes()
        assert len(set(first.tolist())) > 1
    for floats in results[0][:3]:
        assert (floats >= 1).all()
        assert (floats <= 10).all()
    assert set(results[0][5].view(np.uint8).tolist()) == {0, 1}


class Timed:
    """A function on a device that takes a quarter of a second of virtual time, and its time evaluator."""

    def __init__(self, device: Device, host: Host, taken_s: float = 0.25) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.clock = device.clock
        self.host = host

        @device.function
        def timed(*args: object) -> None:
            self.calls.append(args)
            device.clock.sleep(taken_s)

    def __call__(
        self, *, number: int = 1, repeat: int = 1, ms: int = 0, zeros: int = 100, cooldown: tuple[int, int] = (0, 1),
        preproc: str = "", name: str = "timed", args: tuple[Value, ...] = (),
    ) -> Any:  # fmt: skip
        module = self.host.system_library()
        evaluator = self.host.call_global(
            "runtime.RPCTimeEvaluator", module, name, 1, 0, number, repeat, ms, zeros, *cooldown, 0, preproc
        )
        if isinstance(evaluator, str):
            return evaluator
        assert type(evaluator) is FunctionHandle
        result = self.host.call_handle(evaluator, *args)
        return list(struct.unpack(f"<{repeat}d", result)) if isinstance(result, bytes) else result


def test_the_time_evaluator_gives_the_mean_of_number_calls_for_each_repeat(device: Device, host: Host) -> None:
    timed = Timed(device, host)
    assert timed(number=4, repeat=3, args=(7, "x")) == [0.25, 0.25, 0.25]
    assert timed.calls == [(7, "x")] * 12


def test_the_time_evaluator_goes_on_until_min_repeat_ms(device: Device, host: Host) -> None:
    timed = Timed(device, host)
    assert timed(number=2, repeat=2, ms=1001) == [0.25, 0.25]
    assert len(timed.calls) == 2 * 6


def test_the_time_evaluator_gives_up_on_a_function_that_takes_no_time(device: Device, host: Host) -> None:
    timed = Timed(device, host, taken_s=0)
    assert timed(number=5, repeat=2, ms=10, zeros=4) == [0.0, 0.0]
    assert len(timed.calls) == 2 * 4 * 5


def test_the_time_evaluator_cools_down(device: Device, host: Host) -> None:
    timed = Timed(device, host)
    start = device.clock.now()
    assert timed(repeat=4, cooldown=(8000, 2)) == [0.25] * 4
    assert device.clock.now() - start == 4 * 0.25 + 2 * 8


def test_the_time_evaluator_prepares_each_repeat(device: Device, host: Host) -> None:
    prepared: list[object] = []
    device.function(prepared.append, name="prepare", registry="global")
    assert Timed(device, host)(number=3, repeat=2, preproc="prepare", args=(5,)) == [0.25, 0.25]
    assert prepared == [5, 5]


def test_the_time_evaluator_refuses_what_it_cannot_do(device: Device, host: Host) -> None:
    timed = Timed(device, host)
    assert timed(name="nothing") == "RPCTimeEvaluator: the module has no function nothing"
    assert timed(preproc="nothing") == "RPCTimeEvaluator: there is no function nothing to prepare with"
    assert timed(number=0) == "RPCTimeEvaluator: number=0 and repeat=1 must be positive"


def test_the_time_evaluator_passes_on_what_the_function_raises(device: Device, host: Host) -> None:
    assert Timed(device, host)(name="fail") == "fail: this function always fails"


def test_device_attributes_are_not_supported(host: Host) -> None:
    assert host.syscall(PacketCode.DEV_SET_DEVICE, CPU) == "SetDevice not supported"
    assert host.syscall(PacketCode.DEV_GET_ATTR, CPU, 0) == "GetAttr not supported"


# --- memory -----------------------------------------------------------------------------------


def test_allocations_are_aligned_and_do_not_overlap(host: Host) -> None:
    blocks = [(int(host.alloc(10, alignment)), 10) for alignment in (1, 8, 64, 256, 16)]
    assert [address % alignment for (address, _), alignment in zip(blocks, (1, 8, 64, 256, 16), strict=True)] == [0] * 5
    ends = sorted((start, start + size) for start, size in blocks)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ends))


def test_an_exhausted_heap_is_reported_and_can_be_used_again_after_a_free() -> None:
    host = Host(Device(heap_bytes=1000))
    host.open()
    address = host.alloc(900)
    assert host.alloc(200) == (
        "OutOfMemoryError: out of memory: 200 bytes asked for, the largest free block has 96 (900 of 1000 are in use)"
    )
    assert host.free(address) is None
    assert type(host.alloc(1000)) is OpaqueHandle


def test_a_double_free_and_an_unknown_address_are_refused(host: Host) -> None:
    address = host.alloc(16)
    assert host.free(address) is None
    assert host.free(address) == f"MemoryAccessError: cannot free 0x{address:x}: no block begins there"
    assert "cannot free 0x10" in host.free(0x10)


def test_copies_outside_a_block_are_refused_and_change_nothing(host: Host, device: Device) -> None:
    address = host.alloc(16)
    for tensor in (Tensor(address, CPU, U8, (17,)), Tensor(address, CPU, U8, (8,), 9), Tensor(0, CPU, U8, (1,))):
        refusal = host.exchange(CopyToRemote(tensor, b"\x55" * tensor.size_bytes))
        assert isinstance(refusal, RemoteException)
        assert "not inside an allocated block" in refusal.message
        assert isinstance(host.exchange(CopyFromRemote(tensor, tensor.size_bytes)), RemoteException)
    assert bytes(device.memory.view(address, 16)) == bytes(16)


def test_a_senseless_alloc_is_refused(host: Host) -> None:
    assert host.alloc(-1) == "MemoryAccessError: cannot allocate -1 bytes aligned to 8"
    assert host.alloc(8, 3) == "MemoryAccessError: cannot allocate 8 bytes aligned to 3"


def test_the_memory_of_a_board_is_there_to_look_at(host: Host, device: Device) -> None:
    tensor = host.put(np.arange(4, dtype=np.uint8))
    assert bytes(device.memory.view(tensor.data, 4)) == bytes(range(4))
    assert device.memory.blocks == {tensor.data: 4}


# --- demonstration functions ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "args", "result"),
    [
        ("add", (2, 3), 5),
        ("add", (1.5, 2.25), 3.75),
        ("add", (1, 0.5), 1.5),
        ("add", (2**63 - 1, 1), -(2**63)),
        ("add", ("x",), "add: want (int, int)"),
        ("add", (1, 2, 3), "add: want (int, int)"),
        ("mul", (6, 7), 42),
        ("mul", (0.5, 3), 1.5),
        ("mul", (2**62, 2), -(2**63)),
        ("mul", (None, 1), "mul: want (int, int)"),
        ("fadd", (1.5, 2.25), 3.75),
        ("echo_str", ("café ÿþ",), "café ÿþ"),
        ("echo_bytes", (b"\xff\xfe\x00",), b"\xff\xfe\x00"),
        ("reverse", ("abc",), "cba"),
        ("reverse", (b"\x00\xff",), b"\xff\x00"),
        ("describe", (1, 2.0, "s", None, True), "5:0,2,11,4,0"),
        ("describe", (UInt(1), OpaqueHandle(2), U8, CPU, b""), "5:1,3,5,6,12"),
        ("describe", (), "0:"),
        ("noop", (), None),
        ("fail", (), "fail: this function always fails"),
        ("fail_silent", (), ""),
        ("noop", (1,), "TypeError: noop() takes 0 positional arguments but 1 was given"),
    ],
)
def test_a_demonstration_function_gives(host: Host, name: str, args: tuple[Value, ...], result: Value) -> None:
    answer = host.call(name, *args)
    assert answer == result
    assert type(answer) is type(result)


def test_describe_knows_tensors_modules_and_functions(host: Host) -> None:
    tensor = host.put(np.zeros(2))
    assert host.call("describe", tensor, host.system_library(), FunctionHandle(host.function("add"))) == "3:7,9,10"


def test_sleep_ms_takes_time_of_the_boards_clock(host: Host, device: Device) -> None:
    start = device.clock.now()
    assert host.call("sleep_ms", 500) == 500
    assert device.clock.now() - start == 0.5


def test_log_reaches_the_host(host: Host) -> None:
    assert host.call("log", "hello") is None
    assert host.logs == ["hello"]


def test_tensor_functions_work_on_the_boards_memory(host: Host) -> None:
    a = host.put(np.array([[1, -2], [3, -4]], np.float32))
    b = host.put(np.array([[5, 6], [7, 8]], np.float32))
    out = host.put(np.zeros((2, 2), np.float32))
    host.call("add_f32", a, b, out)
    assert host.get(out).tolist() == [[6, 4], [10, 4]]
    host.call("matmul_f32", a, b, out)
    assert host.get(out).tolist() == [[-9, -10], [-13, -14]]
    host.call("relu_f32", a)
    assert host.get(a).tolist() == [[1, 0], [3, 0]]
    host.call("scale_f32", a, 2.5)
    assert host.get(a).tolist() == [[2.5, 0], [7.5, 0]]
    assert host.call("sum_f32", a) == 10.0
    bytes_ = host.put(np.array([255, 0, 41], np.uint8))
    host.call("inc_tensor", bytes_)
    assert host.get(bytes_).tolist() == [0, 1, 42]
    assert host.call("add_f32", a, b, bytes_).startswith("UFuncTypeError: Cannot cast")


def test_a_function_may_return_an_array_that_the_caller_frees(host: Host, device: Device) -> None:
    result = host.call("iota", 5)
    assert isinstance(result, ArrayResult)
    assert (result.tensor.dtype, result.tensor.shape, result.tensor.device) == (F32, (5,), CPU)
    assert host.get(result.tensor).tolist() == [0, 1, 2, 3, 4]
    assert host.syscall(PacketCode.FREE_HANDLE, result.handle, int(TypeCode.NDARRAY)) is None
    assert device.memory.used_bytes == 0


def test_a_function_may_return_a_function(host: Host) -> None:
    add_40 = host.call("adder", 40)
    assert type(add_40) is FunctionHandle
    assert host.call_handle(add_40, 2) == 42


def test_every_demonstration_function_says_what_it_does(device: Device) -> None:
    assert [name for name, function in device.system_library.items() if not function.__doc__] == []


# --- the recording ----------------------------------------------------------------------------


class Replay:
    """Maps the handles and addresses of a recorded device to those of ours."""

    def __init__(self) -> None:
        self.ours: dict[int, int] = {0: 0}

    def request(self, packet: Packet) -> Packet:
        match packet:
            case CallFunc(handle, args):
                return CallFunc(self.ours[handle], tuple(map(self.value, args)))
            case Syscall(code, args):
                return Syscall(code, tuple(map(self.value, args)))
            case CopyToRemote(tensor, data):
                return CopyToRemote(self.tensor(tensor), data)
            case CopyFromRemote(tensor, size_bytes):
                return CopyFromRemote(self.tensor(tensor), size_bytes)
        return packet

    def tensor(self, tensor: Tensor) -> Tensor:
        return Tensor(self.ours[tensor.data], tensor.device, tensor.dtype, tensor.shape, tensor.byte_offset)

    def value(self, value: Value) -> Value:
        if isinstance(value, Tensor):
            return self.tensor(value)
        if isinstance(value, OpaqueHandle | ModuleHandle | FunctionHandle):
            return type(value)(self.ours[int(value)])
        return value

    def learn(self, recorded: Packet, ours: Packet) -> Packet:
        """Take note of the handles in a reply; give the recorded reply with our handles in it."""
        if isinstance(recorded, Return) and isinstance(ours, Return):
            for theirs, mine in zip(recorded.values, ours.values, strict=True):
                if isinstance(theirs, OpaqueHandle) and isinstance(mine, OpaqueHandle) and theirs and mine:
                    self.ours[int(theirs)] = int(mine)
            return Return(tuple(map(self.value, recorded.values)))
        return recorded


def recorded_messages(name: str) -> Iterator[tuple[str, int, int, bytes]]:
    """The messages of a recording, as (who sent it, session id, type, body)."""
    decoders = {"host": FrameDecoder(1 << 20), "device": FrameDecoder(1 << 20)}
    for burst in golden.load(name):
        for payload in decoders[burst.dir].feed(burst.data):
            assert isinstance(payload, bytes)
            yield burst.dir, *struct.unpack_from("<HB", payload), payload[3:]


def test_the_host_of_the_recording_gets_the_answers_that_it_got_from_the_real_device() -> None:
    device = Device()
    demo.install(device)
    host, replay = Host(device), Replay()
    ours: list[tuple[int, int, bytes]] = host.messages()
    compared = 0
    for sender, session_id, message_type, body in recorded_messages("crt_2k"):
        if sender == "host" and message_type == MessageType.NORMAL:
            host.send_normal(encode_packet(replay.request(decode_packet(body[8:]))))
            ours += host.messages()
        elif sender == "host":
            host.send(MessageType(message_type), body, session_id)
            ours += host.messages()
        elif message_type == MessageType.LOG:
            assert host.logs.pop(0) == body.decode()
        elif message_type == MessageType.NORMAL:
            _, our_type, our_body = ours.pop(0)
            theirs, mine = decode_packet(body[8:]), decode_packet(our_body[8:])
            if mine != RemoteException(""):  # fail_silent, which repeats an older text on a real board
                assert (our_type, mine) == (message_type, replay.learn(theirs, mine))
            compared += 1
        else:
            our_id, our_type, our_body = ours.pop(0)
            assert (our_id & 0xFF, our_type, our_body) == (session_id & 0xFF, message_type, body)
            host.session_id = our_id
    assert (ours, host.logs) == ([], [])
    assert compared == 501


# --- loopback ---------------------------------------------------------------------------------


def test_the_loopback_gives_output_at_once_and_lets_virtual_time_pass_where_there_is_none() -> None:
    channel = LoopbackChannel(Device())
    assert channel.read(5.0) == BOOT
    assert channel.now() == 0.0
    assert channel.read(5.0) == b""
    assert channel.now() == 5.0
    assert channel.read(-np.inf) == b""
    assert channel.now() == 5.0


def test_a_read_without_an_end_is_an_error_and_no_hang() -> None:
    channel = LoopbackChannel(Device())
    channel.read(0.0)
    with pytest.raises(ValueError, match="must be finite"):
        channel.read(float("inf"))


@pytest.mark.parametrize("way", ["to_device", "to_host"])
def test_the_loopback_lets_a_test_damage_the_bytes_each_way(way: str) -> None:
    hook: dict[str, Callable[[bytes], bytes]] = {way: lambda data: data[1:]}
    channel = LoopbackChannel(Device(), **hook)  # type: ignore[arg-type]
    boot = channel.read(0.0)
    assert boot == (BOOT[1:] if way == "to_host" else BOOT)
    channel.write(encode_frame(encode_message(HOST_NONCE, MessageType.START_SESSION_INIT, b"\x01")), 0.0)
    assert (channel.read(0.0) == b"") == (way == "to_device")


def test_a_closed_loopback_is_refused_and_the_device_lives_on() -> None:
    device = Device()
    channel = LoopbackChannel(device, name="board")
    channel.close()
    channel.close()
    with pytest.raises(PortLostError, match="board was closed by this program"):
        channel.read(0.0)
    with pytest.raises(PortLostError):
        channel.write(b"", 0.0)
    assert device.take_output() == BOOT


def test_the_real_clock_grows_and_sleeps() -> None:
    clock = RealClock()
    start = clock.now()
    clock.sleep(0.001)
    clock.sleep(-1)
    assert clock.now() >= start + 0.001
    virtual = VirtualClock(2.0)
    virtual.sleep(-1)
    assert virtual.now() == 2.0


def test_a_device_of_another_type_is_not_there(host: Host) -> None:
    assert host.syscall(PacketCode.DEV_STREAM_SYNC, BoardDevice(2, 0), OpaqueHandle(0)) == (
        "there is no device (2, 0) here, only the CPU (1, 0)"
    )


# --- a monitor, and a board that hangs ----------------------------------------------------------


class Watcher:
    """A monitor that writes down what it learns; `refuse` names a function that must not run."""

    def __init__(self, refuse: str = "") -> None:
        self.seen: list[str] = []
        self.frames = b""
        self.refuse = refuse

    def before_packet(self) -> None:
        self.seen.append("packet")

    def before_call(self, name: str) -> None:
        self.seen.append(f"call {name}")
        if name == self.refuse:
            raise FunctionError("not now")

    def send(self, payload: bytes, frame: bytes) -> None:
        assert encode_frame(payload) in (frame, frame.removeprefix(b"\xfe"))
        self.seen.append("send")
        self.frames += frame

    def on_reset(self) -> None:
        self.seen.append("reset")


def test_a_monitor_learns_of_packets_calls_and_answers_and_takes_what_is_sent(host: Host, device: Device) -> None:
    add = host.look_up("add")
    device.monitor = watcher = Watcher()
    host.send_normal(encode_packet(CallFunc(add, (2, 3))))
    host.send_normal(encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, ("add",))))
    assert watcher.seen == ["packet", "call add", "send", "packet", "send"]
    assert device.take_output() == b""
    assert len(FrameDecoder().feed(watcher.frames)) == 2


def test_a_monitor_knows_functions_by_the_names_they_are_registered_under(host: Host, device: Device) -> None:
    device.function(lambda: 1, name="one", registry="global")
    one = host.look_up("one")
    device.monitor = watcher = Watcher()
    host.send_normal(encode_packet(CallFunc(one, ())))
    assert watcher.seen == ["packet", "call one", "send"]


def test_a_call_that_the_monitor_refuses_does_not_run(host: Host, device: Device) -> None:
    ran = []
    device.function(lambda: ran.append(1), name="once", registry="global")
    once = host.look_up("once")
    device.monitor = watcher = Watcher(refuse="once")
    host.send_normal(encode_packet(CallFunc(once, ())))
    [reply] = FrameDecoder().feed(watcher.frames)
    assert isinstance(reply, bytes)
    assert decode_packet(reply[11:]) == RemoteException("not now")
    assert ran == []


def test_a_monitor_learns_of_a_reset_before_the_boot_message(device: Device) -> None:
    device.monitor = watcher = Watcher()
    device.reset()
    assert watcher.seen == ["reset", "send"]
    assert watcher.frames == BOOT


@pytest.mark.parametrize("firmware", ["robust", "stock"])
def test_a_wedged_board_takes_and_says_nothing_until_it_is_reset(firmware: str) -> None:
    device = Device(firmware=firmware)  # type: ignore[arg-type]
    assert not device.is_dead
    device.take_output()
    device.wedge()
    assert device.is_dead
    device.receive(encode_frame(encode_message(HOST_NONCE, MessageType.START_SESSION_INIT, b"\x01")))
    device.log("help")
    assert device.take_output() == b""
    assert device.stats.frames_received == 0
    device.reset()
    assert not device.is_dead
    assert device.take_output() == BOOT


def test_a_board_that_hangs_in_a_function_does_not_answer_it(host: Host, device: Device) -> None:
    device.function(device.wedge, name="hang", registry="global")
    hang = host.look_up("hang")
    host.send_normal(encode_packet(CallFunc(hang, ())))
    assert device.take_output() == b""
