"""The simulated board with robust firmware, its demonstration functions and the loopback channel."""

from __future__ import annotations

import itertools
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import golden
import numpy as np
import pytest
from hand_made_host import BOOT, F32, HOST_NONCE, U8, Host

from firmware_sim.board import demo as demo
from firmware_sim.board.clock import RealClock, VirtualClock
from firmware_sim.board.device import Device
from firmware_sim.board.parts import Stats
from firmware_sim.running.loopback import LoopbackChannel
from microrpc.errors import PortLostError
from microrpc.serve.local import FunctionError
from microrpc.wire.datatypes import (
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
from microrpc.wire.datatypes import Device as BoardDevice
from microrpc.wire.frames import FrameDecoder, encode_frame
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
    decode_packet,
    encode_packet,
)
from microrpc.wire.session import MessageType, encode_message, step_nonce


def seed_that_answers(responder_nonce: int) -> int:
    """A seed with which a device answers its first INIT with this nonce."""
    return next(s for s in range(9999) if step_nonce(random.Random(s).randrange(1, 256)) == responder_nonce)


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
    look_up = encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, ("nothing",)))
    host.send_normal(look_up + encode_packet(Shutdown()) + look_up + b"rest")
    assert host.replies() == [Return((OpaqueHandle(0),))]
    for body in (look_up, bytes(8), b"rest", encode_packet(Shutdown())):
        host.send_normal(body)
    assert host.messages() == []
    assert host.device.stats.messages_dropped == 4
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
    function, add_2 = host.function("noop"), host.call("adder", 2)
    old_id = host.session_id
    device.reset()
    assert device.take_output() == BOOT
    host.send_normal(encode_packet(CallFunc(function, ())))
    assert host.messages() == []
    assert host.open() != old_id
    assert host.call_handle(add_2) == f"no function or module has the handle 0x{add_2:x}; look it up again"
    assert host.call_handle(function) is None
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


LOOK_UP = encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, ("nothing",)))
MALFORMED = RemoteException("malformed packet")
NOTHING = Return((OpaqueHandle(0),))


@pytest.mark.parametrize(
    ("body", "replies"),
    [
        (b"", []),
        (bytes(8), []),
        (bytes(8) + LOOK_UP + bytes(16) + LOOK_UP, [NOTHING, NOTHING]),
        (LOOK_UP[:-1], [MALFORMED]),
        (LOOK_UP[:13], [MALFORMED]),
        (LOOK_UP[13:], [MALFORMED]),
        (bytes(7), [MALFORMED]),
        (LOOK_UP + bytes(7), [NOTHING, MALFORMED]),
        (LOOK_UP + LOOK_UP[:-1], [NOTHING, MALFORMED]),
        (struct.pack("<Q", 2**64 - 1) + LOOK_UP, [MALFORMED]),
        (struct.pack("<Q", len(LOOK_UP) - 9) + LOOK_UP[8:-1] + LOOK_UP, [MALFORMED, NOTHING]),
        (struct.pack("<Q", len(LOOK_UP) - 8 + 7) + LOOK_UP[8:] + bytes(7) + LOOK_UP, [MALFORMED, NOTHING]),
    ],
)
def test_a_message_holds_whole_packets(host: Host, body: bytes, replies: list[Packet]) -> None:
    host.send_normal(body)
    assert host.replies() == replies
    host.send_normal(LOOK_UP)
    assert host.replies() == [NOTHING]


def request_with(type_code: int, value: bytes) -> bytes:
    """A look-up, after its packet_nbytes, with one argument."""
    return struct.pack("<iii", 9, 1, type_code) + value


def raw_tensor(ndim: int, extents: bytes, device_type: int = 1) -> bytes:
    return struct.pack("<QiiiBBH", 0, device_type, 0, ndim, 1, 8, 1) + extents + bytes(8)


@pytest.mark.parametrize(
    "packet",
    [
        b"\x09\0\0",
        *(struct.pack("<i", code) for code in (-1, 0, 3, 4, 5, 6, 7, 8, 9, 10)),
        *(encode_packet(reply)[8:] for reply in (RETURN_NONE, RemoteException("no"), CopyAck(b"data"))),
        encode_packet(Shutdown())[8:] + b"x",
        encode_packet(InitServer("0.8.0", ()))[8:-1],
        struct.pack("<iQ", 2, 2**64 - 1) + b"0.8.0",
        struct.pack("<ii", 9, -1),
        struct.pack("<ii", 9, 2**31 - 1),
        struct.pack("<iii", 9, 2, 4),
        struct.pack("<ii", 9, 0) + b"x",
        *(request_with(code, bytes(24)) for code in (-1, 8, 13, 14, 15)),
        request_with(0, bytes(7)),
        request_with(11, struct.pack("<Q", 2**64 - 1)),
        request_with(12, struct.pack("<Q", 3) + b"ab"),
        request_with(6, struct.pack("<ii", 128, 0)),
        request_with(7, raw_tensor(1, struct.pack("<q", -1))),
        request_with(7, raw_tensor(-1, b"")),
        request_with(7, raw_tensor(2, bytes(8))),
        request_with(7, raw_tensor(2**31 - 1, bytes(8))),
        request_with(7, raw_tensor(0, b"", device_type=2**31 - 1)),
        struct.pack("<i", 6) + raw_tensor(0, b"") + bytes(7),
        struct.pack("<i", 6) + raw_tensor(0, b"", device_type=129) + bytes(8),
        struct.pack("<i", 7) + raw_tensor(0, b"") + struct.pack("<Q", 2) + b"x",
        struct.pack("<iQi", 3, 2**63, 1),
    ],
)
def test_what_is_not_exactly_one_request_is_malformed(host: Host, packet: bytes) -> None:
    host.send_normal(struct.pack("<Q", len(packet)) + packet + LOOK_UP)
    assert host.replies() == [MALFORMED, NOTHING]


def test_a_device_of_a_negative_type_is_one_that_is_not_there(host: Host) -> None:
    packet = struct.pack("<iiiii", 18, 1, 6, -1, -2)
    host.send_normal(struct.pack("<Q", len(packet)) + packet)
    assert host.replies() == [RemoteException("there is no device (-1, -2) here, only the CPU (1, 0)")]


def test_init_server_is_accepted_without_arguments_only(host: Host) -> None:
    assert host.exchange(InitServer("0.8.0", ())) == RETURN_NONE
    assert host.exchange(InitServer("0.8.0", ())) == RETURN_NONE
    again = RemoteException("Server has already been initialized")
    assert host.exchange(InitServer("0.8.0", ("rpc.LocalSession",))) == again
    assert host.exchange(InitServer("0.7.0", (None,))) == again
    for version in ("0.7.0", "0.8.0\0", "", "0.8"):
        assert host.exchange(InitServer(version, ())) == RemoteException(
            "protocol version mismatch: this device speaks 0.8.0"
        )


def test_an_unknown_syscall_gets_an_exception(host: Host) -> None:
    assert host.syscall(99) == "unknown packet code 99"
    assert host.syscall(2**31 - 1, 1, "x") == "unknown packet code 2147483647"
    assert host.syscall(9, 1, "x") == "wrong arguments of packet code 9"


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


def test_handles_are_those_of_the_registries_in_their_order(host: Host, device: Device) -> None:
    names = [
        "runtime.SystemLib", "tvm.rpc.server.ModuleGetFunction", "tvm.rpc.server.GetCRTMaxPacketSize",
        "tvm.contrib.random.random_fill", "runtime.RPCTimeEvaluator", "microrpc.crc32", "microrpc.release_all",
        "microrpc.describe", "microrpc.memory", "microrpc.models", "microrpc.model.run", "microrpc.model.profile",
        "microrpc.model.layer", "add",
    ]  # fmt: skip
    assert list(device.functions) == names
    assert [host.look_up(name) for name in names] == [2**63 + index for index in range(len(names))]
    assert host.system_library() == 2**63 + 2 * 2**32
    for index, name in enumerate(device.system_library):
        assert host.function(name) == FunctionHandle(2**63 + 2**32 + index)
    handle = OpaqueHandle(host.function("add"))
    assert host.syscall(PacketCode.FREE_HANDLE, handle, int(TypeCode.FUNCTION)) is None
    assert host.call_handle(handle, 1, 2) == 3
    assert host.syscall(PacketCode.FREE_HANDLE, handle, int(TypeCode.MODULE)) == (
        f"no object of type 9 has the handle 0x{handle:x}"
    )


def test_a_board_describes_itself_in_pages_of_its_receive_buffer() -> None:
    device = Device(packet_size_bytes=128, board_name="lab", firmware_version="2")

    @device.function(signature="a: int -> int", doc="Double it.")
    def double(a):  # type: ignore[no-untyped-def]  # said outright
        return 2 * a

    @device.function(registry="global")
    def halve(a: float) -> float:
        """Halve it."""
        return a / 2

    host = Host(device)
    host.open()
    body = b"lab\t\t2\ndouble\ta: int -> int\tDouble it.\nhalve\ta: float -> float\tHalve it.\n"
    whole = b"microrpc\t1\t%08x\t%d\t" % (zlib.crc32(body), len(body)) + body
    assert host.call_global("microrpc.describe", 0) == whole[:88]
    assert host.call_global("microrpc.describe", 88) == whole[88:]
    assert host.call_global("microrpc.describe", len(whole)) == b""
    assert host.call_global("microrpc.describe") == "argument 0: Int expected"
    assert device.description_hash == zlib.crc32(body)


def test_stock_firmware_tells_nothing_of_itself() -> None:
    device = Device(firmware="stock", board_name="lab")
    assert device.description_hash == 0
    assert "microrpc.describe" not in device.functions


def test_stock_firmware_has_no_functions_of_ours() -> None:
    assert [name for name in Device(firmware="stock").functions if name.startswith("microrpc.")] == []


def test_release_all_frees_what_was_allocated_over_the_wire_and_nothing_else(host: Host, device: Device) -> None:
    buffer = device.memory.alloc(1000)  # the firmware's own
    device.memory.view(buffer, 4)[:] = b"kept"
    assert host.call_global("microrpc.release_all") == 0
    data, empty, freed = host.alloc(100), host.alloc(0), host.alloc(8)
    assert host.free(freed) is None
    array, function = host.call("iota", 10), host.call("adder", 5)
    assert len(device.memory.blocks) == 5
    host.open(0x42)  # what earlier sessions have left, too
    assert host.call_global("microrpc.release_all") == 100 + 1 + 40 + 64
    assert device.memory.blocks == {buffer: 1000}
    assert bytes(device.memory.view(buffer, 4)) == b"kept"
    assert "no function" in host.call_handle(function, 1)
    assert "cannot free" in host.free(data)
    assert "cannot free" in host.free(empty)
    assert "no object" in host.syscall(PacketCode.FREE_HANDLE, array.handle, int(TypeCode.NDARRAY))
    assert host.alloc(4) == data
    assert host.call("add", 1, 2) == 3
    assert host.call_global("microrpc.release_all") == 4
    device.reset()
    host.messages()
    host.open()
    assert host.call_global("microrpc.release_all") == 0


def test_the_memory_report_counts_what_is_used_and_what_was(host: Host, device: Device) -> None:
    def report() -> tuple[int, ...]:
        return struct.unpack("<6I", host.call_global("microrpc.memory"))

    heap = device.memory.size_bytes
    assert report() == (heap, 0, heap - 8, 0, 0, 0)
    first, second = host.alloc(100), host.alloc(0)
    assert report() == (heap, 117, heap - 24 - 112, 117, 0, 0)
    assert host.free(first) is None
    assert report() == (heap, 9, heap - 16 - 112, 117, 0, 0)
    assert host.free(second) is None
    host.open()
    assert report() == (heap, 0, heap - 8, 117, 0, 0)
    device.reset()
    host.messages()
    host.open()
    assert report() == (heap, 0, heap - 8, 0, 0, 0)


def test_release_all_prepares_nothing_that_is_timed(host: Host) -> None:
    arguments = (host.system_library(), "noop", 1, 0, 1, 1, 0, 100, 0, 1, 0)
    data = host.alloc(8)
    assert type(host.call_global("runtime.RPCTimeEvaluator", *arguments, "add")) is FunctionHandle
    refused = host.call_global("runtime.RPCTimeEvaluator", *arguments, "microrpc.release_all")
    assert refused == "RPCTimeEvaluator: no function has that name"
    assert host.free(data) is None


def test_a_checksum_is_that_of_the_tensors_bytes(host: Host) -> None:
    assert host.call_global("microrpc.crc32", host.put(np.frombuffer(b"123456789", np.uint8)), "more") == 0xCBF43926
    assert host.call_global("microrpc.crc32", 1) == "argument 0: Tensor expected"


@pytest.mark.parametrize(
    ("name", "args", "text"),
    [
        ("tvm.rpc.server.ModuleGetFunction", (), "argument 0: Module expected"),
        ("tvm.rpc.server.ModuleGetFunction", (FunctionHandle(2**63), "add"), "argument 0: Module expected"),
        ("tvm.rpc.server.ModuleGetFunction", (ModuleHandle(2**63 + 2**33),), "argument 1: Str expected"),
        ("tvm.rpc.server.ModuleGetFunction", (ModuleHandle(2**63 + 2**33), b"add"), "argument 1: Str expected"),
        ("tvm.rpc.server.ModuleGetFunction", (ModuleHandle(2**63), "add"),
         "no function or module has the handle 0x8000000000000000; look it up again"),
        ("tvm.rpc.server.ModuleGetFunction", (ModuleHandle(1), "add"),
         "no function or module has the handle 0x1; look it up again"),
        ("tvm.contrib.random.random_fill", (), "argument 0: Tensor expected"),
        ("runtime.RPCTimeEvaluator", (ModuleHandle(2**63 + 2**33), "add", *(1,) * 8), "argument 10: Int expected"),
        ("runtime.RPCTimeEvaluator", (ModuleHandle(2**63 + 2**33), "add", *(1,) * 4, UInt(1), *(1,) * 4, ""),
         "argument 6: Int expected"),
        ("runtime.RPCTimeEvaluator", (ModuleHandle(2**63 + 2**33), "add", *(1,) * 9, 5), "argument 11: Str expected"),
    ],
)  # fmt: skip
def test_the_runtimes_functions_check_their_arguments(
    host: Host, name: str, args: tuple[Value, ...], text: str
) -> None:
    assert host.call_global(name, *args) == text


def test_the_runtimes_functions_look_at_no_further_arguments(host: Host) -> None:
    library = host.call_global("runtime.SystemLib", 1)
    assert host.call_global("tvm.rpc.server.GetCRTMaxPacketSize", "x") == 2037
    get = "tvm.rpc.server.ModuleGetFunction"
    assert host.call_global(get, library, "add") == host.call_global(get, library, "add", None, 2)
    assert host.call_global(get, library, "runtime.SystemLib") is None


def word(n: int) -> int:
    """The n-th word of random_fill, as docs/device.md has it."""
    mask = 2**32 - 1
    z = n * 0x9E3779B9 & mask
    z = (z ^ z >> 16) * 0x21F0AAAD & mask
    z = (z ^ z >> 15) * 0x735A2D97 & mask
    return z ^ z >> 15


FILL = "tvm.contrib.random.random_fill"


WORDS = struct.pack("<6I", *map(word, range(1, 7)))


def fractions(dtype: str, count: int) -> bytes:
    """The words as floats that have the sign and exponent of 1."""
    size = np.dtype(dtype).itemsize
    fraction, one = {2: (0x3FF, 0x3C00), 4: (0x7FFFFF, 0x3F800000), 8: (0xFFFFFFFFFFFFF, 0x3FF << 52)}[size]
    words = (int.from_bytes(WORDS[at : at + size], "little") for at in range(0, count * size, size))
    return b"".join((value & fraction | one).to_bytes(size, "little") for value in words)


@pytest.mark.parametrize(
    ("dtype", "count", "drawn", "expected"),
    [
        (U8, 6, 2, WORDS[:6]),
        (DataType(0, 32), 2, 2, WORDS[:8]),
        (DataType(1, 64, 3), 1, 6, WORDS),
        (DataType(0, 16), 3, 2, WORDS[:6]),
        (DataType(4, 16), 3, 2, WORDS[:6]),
        (DataType(1, 1), 5, 2, bytes(byte & 1 for byte in WORDS[:5])),
        (DataType(2, 16), 3, 2, fractions("f2", 3)),
        (F32, 2, 2, fractions("f4", 2)),
        (DataType(2, 32, 2), 1, 2, fractions("f4", 2)),
        (DataType(2, 64), 2, 4, fractions("f8", 2)),
        (F32, 0, 0, b""),
        (U8, 0, 0, b""),
    ],
)
@pytest.mark.parametrize("firmware", ["robust", "stock"])
def test_random_fill_draws_the_words_that_the_page_says(
    firmware: str, dtype: DataType, count: int, drawn: int, expected: bytes
) -> None:
    host = Host(Device(firmware=firmware, seed=5))  # type: ignore[arg-type]
    host.open()
    address = host.alloc(64)
    more = Tensor(address, CPU, DataType(1, 32), (1,), 56)
    for _ in range(2):
        tensor = Tensor(address, CPU, dtype, (count,))
        assert host.call_global(FILL, tensor) is None
        assert host.exchange(CopyFromRemote(tensor, tensor.size_bytes)) == CopyAck(expected)
        host.call_global(FILL, more)
        assert host.get(more).tolist() == [word(drawn + 1)]
        host.device.reset()
        host.messages()
        host.open()
        address = host.alloc(64)


def test_the_random_words_go_on_past_the_32nd_bit(device: Device, host: Host) -> None:
    device._session.random_words._drawn = 2**32 - 2
    tensor = host.put(np.zeros(4, np.uint32))
    assert host.call_global(FILL, tensor) is None
    assert host.get(tensor).tolist() == [word(n) for n in (2**32 - 1, 2**32, 2**32 + 1, 2**32 + 2)]
    floats = host.put(np.zeros((20, 20), np.float32))
    host.call_global(FILL, floats)
    assert 1 <= host.get(floats).min() < 1.1
    assert 1.9 < host.get(floats).max() < 2


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
    for preproc in ("nothing", "timed"):  # one that prepares is in the global registry
        assert timed(preproc=preproc, number=0) == "RPCTimeEvaluator: no function has that name"
    for name in ("nothing", "", "runtime.SystemLib"):
        assert timed(name=name) == "RPCTimeEvaluator: no function has that name"
    for number, repeat in ((0, 1), (1, 0), (-(2**63), 1)):
        assert timed(number=number, repeat=repeat) == "RPCTimeEvaluator: number and repeat must be positive"
    assert device.memory.used_bytes == 0


def test_the_time_evaluator_passes_on_what_the_function_raises(device: Device, host: Host) -> None:
    assert Timed(device, host)(name="fail") == "fail: this function always fails"
    assert Timed(device, host)(name="fadd", args=(1.0,)) == "argument 1: Float expected"


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
    assert host.alloc(200) == "out of memory: 200 bytes asked for, the largest free block has 80"
    assert host.free(address) is None
    assert host.alloc(993) == "out of memory: 993 bytes asked for, the largest free block has 992"
    assert type(host.alloc(992)) is OpaqueHandle
    assert host.alloc(0) == "out of memory: 0 bytes asked for, the largest free block has 0"


def test_a_double_free_and_an_unknown_address_are_refused(host: Host) -> None:
    address = host.alloc(16)
    assert host.free(address) is None
    assert host.free(address) == f"cannot free 0x{address:x}: no block begins there"
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
    assert host.alloc(-1) == "cannot allocate -1 bytes aligned to 8"
    assert host.alloc(8, 3) == "cannot allocate 8 bytes aligned to 3"


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
        ("noop", (1, "x"), None),
        ("add", (UInt(1), 1), "add: want (int, int)"),
        ("add", (1, OpaqueHandle(1)), "add: want (int, int)"),
        ("add", (1,), "add: want (int, int)"),
        ("add", (), "add: want (int, int)"),
        ("mul", (1, UInt(1)), "mul: want (int, int)"),
        ("mul", (-(2**63), -1), -(2**63)),
        ("mul", (2**62 + 1, 0.5), 2.0**61),
        ("fadd", (1, 2), 3.0),
        ("fadd", (2**63 - 1, 0), 2.0**63),
        ("fadd", (1, 2, "more"), 3.0),
        ("fadd", (1,), "argument 1: Float expected"),
        ("fadd", ("1", 2), "argument 0: Float expected"),
        ("fadd", (UInt(1), 2), "argument 0: Float expected"),
        ("adder", (), "argument 0: Float expected"),
        ("adder", (None,), "argument 0: Float expected"),
        ("echo_str", (), "argument 0: Str expected"),
        ("echo_str", (b"x",), "argument 0: Str expected"),
        ("echo_str", ("x", 1), "x"),
        ("echo_bytes", ("x",), "argument 0: Bytes expected"),
        ("reverse", ("éa\u20ac\U0001f600",), "\U0001f600\u20acaé"),
        ("reverse", ("\udc80\udcbfa\n\udc80\udcffb",), "b\udcff\n\udc80a\udc80\udcbf"),
        ("reverse", ("",), ""),
        ("reverse", (b"",), b""),
        ("reverse", ("ab", 1), "ba"),
        ("reverse", (1,), "argument 0: Bytes expected"),
        ("reverse", (), "argument 0: Bytes expected"),
        ("sleep_ms", (1.5,), "argument 0: Int expected"),
        ("sleep_ms", (-5,), -5),
        ("log", (b"x",), "argument 0: Str expected"),
        ("iota", (2.0,), "argument 0: Int expected"),
        ("iota", (-1,), "iota: want 0 to 1048576"),
        ("iota", (1048577,), "iota: want 0 to 1048576"),
        ("iota", (1048576,), "out of memory: 4194304 bytes asked for, the largest free block has 262136"),
        ("fail", (1,), "fail: this function always fails"),
    ],
)
def test_a_demonstration_function_gives(host: Host, name: str, args: tuple[Value, ...], result: Value) -> None:
    answer = host.call(name, *args)
    assert answer == result
    assert type(answer) is type(result)


def test_describe_knows_tensors_modules_and_functions(host: Host) -> None:
    tensor = host.put(np.zeros(2))
    functions = (FunctionHandle(host.function("add")), host.call("adder", 1))
    assert host.call("describe", tensor, host.system_library(), *functions) == "4:7,9,10,10"


def test_sleep_ms_takes_time_of_the_boards_clock(host: Host, device: Device) -> None:
    start = device.clock.now()
    assert host.call("sleep_ms", 500) == 500
    assert device.clock.now() - start == 0.5


def test_log_reaches_the_host(host: Host) -> None:
    assert host.call("log", "hello") is None
    assert host.logs == ["hello"]


def test_what_is_not_utf_8_in_a_log_goes_as_it_came(host: Host, device: Device) -> None:
    host.send_normal(encode_packet(CallFunc(host.function("log"), ("a\udcff\udc80",))))
    assert FrameDecoder().feed(device.take_output())[0] == b"\0\0\x03a\xff\x80"


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
    assert host.call("add_f32", a, b, bytes_) == "argument 2: float32 expected"
    flat = host.put(np.zeros(4, np.float32))
    assert host.call("add_f32", a, a, flat) is None  # it is the size that counts
    assert host.get(flat).tolist() == [5, 0, 15, 0]
    lanes = Tensor(flat.data, CPU, DataType(2, 32, 2), (2,))
    small = Tensor(flat.data, CPU, F32, (3,))
    assert host.call("relu_f32", lanes) == "argument 0: float32 expected"
    assert host.call("scale_f32", flat) == "argument 1: Float expected"
    assert host.call("scale_f32", flat, 2) is None
    for tensors in ((small, a, b), (a, small, b), (a, b, small)):
        assert host.call("add_f32", *tensors) == "the tensors have different sizes"
    for tensors in ((flat, a, b), (a, flat, b), (a, b, flat)):
        assert host.call("matmul_f32", *tensors) == "matmul_f32: the shapes do not match"


def test_matmul_takes_2_dimensions_that_match(host: Host) -> None:
    address = host.alloc(64)
    for extents, is_right in [((2, 3, 3, 4, 2, 4), True), ((2, 0, 0, 4, 2, 4), True), ((0, 3, 3, 0, 0, 0), True),
                              ((2, 3, 2, 4, 2, 4), False), ((2, 3, 3, 4, 2, 3), False),
                              ((2, 3, 3, 4, 3, 4), False)]:  # fmt: skip
        tensors = [Tensor(address, CPU, F32, extents[at : at + 2]) for at in (0, 2, 4)]
        expected = None if is_right else "matmul_f32: the shapes do not match"
        assert host.call("matmul_f32", *tensors) == expected


def test_arithmetic_of_tensors_warns_of_nothing_and_keeps_what_is_no_number(host: Host) -> None:
    nan, inf = float("nan"), float("inf")
    x = host.put(np.array([nan, -inf, -1, -0.0, 3e38], np.float32))
    host.call("scale_f32", x, 1e300)
    assert str(host.get(x).tolist()) == "[nan, -inf, -inf, nan, inf]"
    x = host.put(np.array([nan, -inf, -0.0, 1], np.float32))
    host.call("relu_f32", x)
    assert str(host.get(x).tolist()) == "[nan, 0.0, -0.0, 1.0]"
    assert host.call("sum_f32", host.put(np.array([inf, -inf], np.float32))) != 0


def test_sums_are_added_up_in_order(host: Host) -> None:
    values = np.array([2**24, *[1] * 40, -(2**24), 1, 2**-30], np.float32)
    total = np.float32(0)
    for value in values:
        total += value
    assert total == 1
    assert host.call("sum_f32", host.put(values)) == total
    assert host.call("sum_f32", host.put(np.zeros(0, np.float32))) == 0.0
    assert str(host.call("sum_f32", host.put(np.array([-0.0], np.float32)))) == "0.0"
    a, b = host.put(values.reshape(1, -1)), host.put(np.ones((len(values), 1), np.float32))
    out = host.put(np.zeros((1, 1), np.float32))
    host.call("matmul_f32", a, b, out)
    assert host.get(out).tolist() == [[total]]


@pytest.mark.parametrize(
    ("dtype", "is_right"),
    [(DataType(code, bits, lanes), True) for code in (0, 1) for bits in (8, 16, 32, 64) for lanes in (1, 3)]
    + [(F32, True), (DataType(2, 64, 2), True)]
    + [(DataType(2, 16), False), (DataType(4, 16), False), (DataType(1, 1), False)],
)
def test_inc_tensor_counts_in_the_types_of_a_processor(host: Host, dtype: DataType, is_right: bool) -> None:
    tensor = Tensor(host.alloc(64), CPU, dtype, (2,))
    host.exchange(CopyToRemote(tensor, b"\xff" * tensor.size_bytes if dtype.code < 2 else bytes(tensor.size_bytes)))
    assert host.call("inc_tensor", tensor) == (None if is_right else "inc_tensor: the dtype is not supported")
    reply = host.exchange(CopyFromRemote(tensor, tensor.size_bytes))
    assert isinstance(reply, CopyAck)
    found = np.frombuffer(reply.data, dtype.numpy.base)
    if is_right:
        assert (found == (0 if dtype.code < 2 else 1)).all()


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
    assert host.call_handle(add_40, 2, "more") == 42
    assert host.call_handle(add_40, 0.5) == 40.5
    assert host.call_handle(add_40, 2**63 - 1) == -(2**63) + 39
    assert host.call_handle(add_40, UInt(2)) == "argument 0: Float expected"
    assert host.call_handle(host.call("adder", 0.5), 2) == 2.5
    assert host.device.memory.blocks == {add_40: 64, add_40 + 64: 64}
    assert host.syscall(PacketCode.FREE_HANDLE, OpaqueHandle(add_40), int(TypeCode.FUNCTION)) is None
    assert "look it up again" in host.call_handle(add_40, 2)


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
