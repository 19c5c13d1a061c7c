"""Stock firmware, with its faults, against the recordings of the real one (docs/protocol.md 6)."""

from __future__ import annotations

import struct

import golden
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_device import BOOT, HOST_NONCE, U8, Host, seed_that_answers

from firmware_sim import demo
from firmware_sim.device import Device, Firmware
from firmware_sim.port import Stats
from firmware_sim.stock import StockPort
from microrpc.codec import (
    RETURN_NONE,
    CallFunc,
    CopyFromRemote,
    CopyToRemote,
    InitServer,
    PacketCode,
    RemoteException,
    Reply,
    Request,
    Return,
    Shutdown,
    Syscall,
    decode_packet,
    encode_packet,
)
from microrpc.datatypes import CPU, DataType, ModuleHandle, OpaqueHandle, Tensor, TypeCode
from microrpc.framing import Damage, FrameDecoder, FrameEncoder, crc16, encode_frame
from microrpc.server import Done
from microrpc.session import MessageType, encode_message

LOOK_UP = encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, ("nothing",)))
NOT_FOUND = Return((OpaqueHandle(0),))


@pytest.fixture
def device() -> Device:
    device = Device(firmware="stock")
    demo.install(device)
    return device


@pytest.fixture
def host(device: Device) -> Host:
    host = Host(device)
    host.open()
    host.send_normal(LOOK_UP)  # which clears the buffer of what the handshake left there
    assert host.replies() == [NOT_FOUND]
    return host


def assert_dead(host: Host) -> None:
    """Nothing gets an answer, not even a new session, until the board is reset."""
    assert host.device.is_dead
    host.device.log("nothing is heard of this")
    host.send_normal(LOOK_UP)
    host.send(MessageType.START_SESSION_INIT, b"\x01", HOST_NONCE)
    assert host.device.take_output() == b""
    host.device.reset()
    assert host.device.take_output() == BOOT
    host.open()
    assert host.look_up("add")


def damaged(payload: bytes) -> bytes:
    """The frame of `payload` with a crc that is wrong."""
    frame = encode_frame(payload)
    return frame[:-1] + bytes([frame[-1] ^ 1])


# --- the recordings ---------------------------------------------------------------------------


class Script:
    """A serving session that gives the answers of a recording, and remembers what it was asked."""

    is_async = False

    def __init__(self, name: str) -> None:
        self.requests: list[Request] = []
        self._replies: list[Reply] = []
        for frame in FrameDecoder().feed(golden.stream(name, "device")[len(BOOT) - 1 :]):
            if isinstance(frame, Damage):  # the one reply that was damaged on its way: the handle of echo_str
                self._replies.append(Return((int(TypeCode.FUNCTION), OpaqueHandle(0x80008002))))
            elif frame[2] == MessageType.NORMAL:
                self._replies.append(decode_packet(frame[11:]))  # type: ignore[arg-type]

    def submit(self, request: Request, done: Done) -> None:
        self.requests.append(request)
        done(self._replies[len(self.requests) - 1])


def replay(name: str, first_responder_nonce: int) -> tuple[bytes, bytes, list[Request]]:
    """What the real device said in a recording, what ours says to the same bytes, and the requests that it executed."""
    encoder, output, script = FrameEncoder(), bytearray(), Script(name)

    def send(payload: bytes) -> None:
        output.extend(encoder.encode(payload))

    port = StockPort(script, send, Stats(), packet_size_bytes=2048)
    port.boot(seed_that_answers(first_responder_nonce))
    port.receive(golden.stream(name, "host"))
    return golden.stream(name, "device"), bytes(output), script.requests


def test_a_flipped_init_leaves_it_answering_the_init_before() -> None:
    recorded, ours, _ = replay("fault_initflip", 0xE6)
    assert ours == recorded
    initiators = [frame[0] for frame in FrameDecoder().feed(ours)[1:] if isinstance(frame, bytes)]
    assert bytes(initiators).hex(" ") == "01 e6 a7 e2 a5 e6 c6"


def test_a_byte_lost_from_an_init_kills_it() -> None:
    recorded, ours, _ = replay("fault_initdrop", 0x01)
    assert ours == recorded == BOOT


def test_a_flipped_call_is_executed_when_the_next_request_comes_which_is_eaten() -> None:
    recorded, ours, requests = replay("fault_callflip", 0x26)
    assert ours == recorded
    module, function = ModuleHandle(0x8000), OpaqueHandle(0x80028001)
    assert requests[6:8] == [
        CallFunc(function, (module, "echo_str", 1)),
        Syscall(PacketCode.FREE_HANDLE, (function, int(TypeCode.FUNCTION))),
    ]
    eaten = Syscall(PacketCode.FREE_HANDLE, (OpaqueHandle(module), int(TypeCode.MODULE)))
    assert eaten not in requests


@pytest.mark.parametrize(("name", "nonce"), [("fault_helloflip", 0x05), ("fault_replyflip", 0x85)])
def test_a_byte_flipped_on_the_way_to_the_host_changes_nothing_here(name: str, nonce: int) -> None:
    recorded, ours, _ = replay(name, nonce)
    assert len(ours) == len(recorded)
    assert sum(a != b for a, b in zip(ours, recorded, strict=True)) == 1


def test_a_byte_lost_on_the_way_to_the_host_changes_nothing_here() -> None:
    recorded, ours, _ = replay("fault_hellodrop", 0xC1)
    lost_at = 9  # the message type of its TERMINATE
    assert ours[:lost_at] + ours[lost_at + 1 :] == recorded


def test_it_answers_the_whole_of_the_undamaged_recording_byte_for_byte() -> None:
    recorded, ours, requests = replay("crt_2k", 0x62)
    log = encode_frame(b"\0\0\x03hello from device")  # said by a function, which the script does not run
    assert ours == recorded.replace(log, b"")
    assert len(requests) == 501


# --- one message behind -----------------------------------------------------------------------


def test_a_damaged_request_is_answered_when_the_next_one_comes(host: Host, device: Device) -> None:
    call = encode_packet(CallFunc(host.function("add"), (2, 3)))
    device.receive(damaged(encode_message(host.session_id, MessageType.NORMAL, call)))
    assert host.replies() == []
    host.send_normal(LOOK_UP)
    assert host.replies() == [Return((0, 5))]
    host.send_normal(LOOK_UP)
    assert host.replies() == [NOT_FOUND]
    assert device.stats.frames_damaged == 1


def test_packet_nbytes_is_not_looked_at_except_for_zero(host: Host) -> None:
    host.send_normal(b"\x99" * 8 + LOOK_UP[8:])
    assert host.replies() == [NOT_FOUND]
    host.send_normal(bytes(8) + LOOK_UP[8:])
    assert host.replies() == []
    host.send_normal(LOOK_UP)
    assert host.replies() == [NOT_FOUND]


def test_a_second_packet_in_a_message_is_lost(host: Host) -> None:
    host.send_normal(LOOK_UP + LOOK_UP)
    assert host.replies() == [NOT_FOUND]
    assert not host.device.is_dead


def test_two_frames_back_to_back_are_both_answered(host: Host, device: Device) -> None:
    frame = encode_frame(encode_message(host.session_id, MessageType.NORMAL, LOOK_UP))
    device.receive(frame + frame)
    assert host.replies() == [NOT_FOUND] * 2


def test_the_version_of_an_init_is_not_looked_at(host: Host) -> None:
    host.send(MessageType.START_SESSION_INIT, b"\x55", 0x44)
    [(session_id, message_type, body)] = host.messages()
    assert (session_id & 0xFF, message_type, body) == (0x44, MessageType.START_SESSION_REPLY, b"\x01")


def test_an_init_with_nonce_0_leaves_its_version_to_be_the_next_message(host: Host) -> None:
    host.send(MessageType.START_SESSION_INIT, b"\x01", 0)
    assert host.messages() == []
    host.send(MessageType.START_SESSION_INIT, b"\x01", 0x26)  # read as 01 26 00: an INIT of nonce 1
    assert [session_id & 0xFF for session_id, _, _ in host.messages()] == [1]


# --- what kills it ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (LOOK_UP[:30], "split over two messages"),
        (LOOK_UP[:5], "not even packet_nbytes"),
        (struct.pack("<Qi", 4, 0), "bad code"),
        (struct.pack("<Qi", 4, 8), "a code that goes the other way"),
        (encode_packet(RETURN_NONE), "a reply"),
        (encode_packet(CallFunc(1, (1, 2)))[:-1], "truncated arguments"),
        (struct.pack("<QiQiiQ", 28, 3, 1, 1, 8, 0), "bad type code"),
        (encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, (1,))), "wrong argument type"),
        (encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, ())), "too few arguments"),
        (encode_packet(Syscall(PacketCode.DEV_FREE_DATA, (CPU, 16))), "wrong type of handle"),
        (encode_packet(CopyFromRemote(Tensor(0, CPU, U8, (1,)), 1))[:-1], "truncated copy from"),
        (encode_packet(CopyToRemote(Tensor(0, CPU, U8, (4,)), bytes(4)))[:-1], "truncated copy to"),
        (encode_packet(InitServer("0.8.0", ()))[:-1], "truncated InitServer"),
        (encode_packet(Shutdown()), "shut down"),
    ],
)
def test_it_is_silent_until_reset_after(host: Host, packet: bytes, why: str) -> None:
    host.send_normal(packet)
    assert host.messages() == [], why
    assert_dead(host)


@pytest.mark.parametrize("tail", [b"\xff\xfd", b"\xff\x00"])
def test_it_exits_at_a_restart_or_an_invalid_escape_in_mid_packet(host: Host, tail: bytes) -> None:
    host.device.receive(encode_frame(b"12345")[:-4] + tail)
    assert_dead(host)


def test_a_no_op_in_mid_packet_does_no_harm(host: Host, device: Device) -> None:
    frame = b"\xff\xfd\x03\xff\xfe\0\0\0\0\0\x02"
    device.receive(b"\xff\xfe\xff\xff" + frame + crc16(frame).to_bytes(2, "little"))
    assert not device.is_dead
    assert device.stats.frames_damaged == 0


@pytest.mark.parametrize(
    ("session_id", "message_type"),
    [
        (0x1111, MessageType.NORMAL),
        (0, MessageType.LOG),
        (0x2222, MessageType.LOG),
    ],
)
def test_a_message_that_it_does_not_want_kills_it_on_the_packet_after(
    host: Host, session_id: int, message_type: MessageType
) -> None:
    host.send(message_type, LOOK_UP, session_id)
    assert not host.device.is_dead
    host.send(MessageType.TERMINATE_SESSION)
    assert_dead(host)


def test_a_normal_message_without_a_session_kills_it_on_the_packet_after(device: Device) -> None:
    host = Host(device)
    host.messages()
    host.send_normal(LOOK_UP)
    assert not device.is_dead
    host.send_normal(LOOK_UP)
    assert_dead(host)


def test_a_reply_ends_its_session_so_that_it_dies_on_the_request_after_the_next(host: Host) -> None:
    host.send(MessageType.START_SESSION_REPLY, b"\x01", 0x1234)
    host.send_normal(LOOK_UP)
    assert host.messages() == []
    assert not host.device.is_dead
    host.send_normal(LOOK_UP)
    assert_dead(host)


# --- the receive buffer -----------------------------------------------------------------------


def copy_of(message_size_bytes: int, address: int) -> bytes:
    """A CopyToRemote whose NORMAL message has this size."""
    size_bytes = message_size_bytes - 3 - 8 - (4 + 40 + 8)
    return encode_packet(CopyToRemote(Tensor(address, CPU, U8, (size_bytes,)), bytes(size_bytes)))


def test_a_message_may_fill_the_receive_buffer_exactly(host: Host) -> None:
    host.send_normal(copy_of(2048, host.alloc(2048)))
    assert host.replies() == [RETURN_NONE]


def test_one_byte_more_kills_it(host: Host) -> None:
    host.send_normal(copy_of(2049, host.alloc(2048)))
    assert_dead(host)


@pytest.mark.parametrize(("shorter_by", "dies"), [(4, False), (3, True)])
def test_the_first_message_after_an_init_has_4_bytes_less(host: Host, shorter_by: int, dies: bool) -> None:
    address = host.alloc(2048)
    host.send(MessageType.START_SESSION_INIT, b"\x01", 0x70)
    [(host.session_id, _, _)] = host.messages()
    host.send_normal(copy_of(2048 - shorter_by, address))
    assert host.device.is_dead is dies


def test_a_few_hundred_inits_in_a_row_kill_it() -> None:
    host = Host(Device(firmware="stock"))
    host.messages()
    for _ in range(2048 // 4):
        host.send(MessageType.START_SESSION_INIT, b"\x01", 1)
        assert len(host.messages()) == 1
    host.send(MessageType.START_SESSION_INIT, b"\x01", 1)
    assert host.messages() == []
    assert host.device.is_dead


# --- what it answers --------------------------------------------------------------------------


def test_an_unknown_syscall_gets_an_exception(host: Host) -> None:
    assert host.syscall(99, 1) == "unknown packet code 99"


def test_init_server_is_accepted_without_arguments(host: Host) -> None:
    assert host.exchange(InitServer("0.8.0", ())) == RETURN_NONE


def test_out_of_memory_has_no_text(host: Host) -> None:
    assert host.alloc(1 << 30) == ""


def test_an_empty_block_aliases_the_next_one(host: Host) -> None:
    empty = host.alloc(0)
    block = host.alloc(16)
    assert block == empty
    nothing = Tensor(empty, CPU, U8, (0,))
    assert host.exchange(CopyToRemote(nothing, b"")) == RETURN_NONE
    assert host.free(empty) is None
    assert host.exchange(CopyToRemote(Tensor(block, CPU, U8, (16,)), bytes(16))) == RETURN_NONE
    assert host.free(block) is None
    assert "cannot free" in host.free(block)


def test_a_scope_may_be_given_or_not(host: Host) -> None:
    tensor = Tensor(0, CPU, DataType(2, 32), (4,))
    for scope in (None, "global"):
        assert type(host.syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, tensor, scope)) is OpaqueHandle


def test_memory_survives_a_new_session_and_not_a_reset(host: Host, device: Device) -> None:
    address = host.alloc(64)
    empty = host.alloc(0)
    host.open(0x42)
    assert device.memory.blocks == {address: 64}
    device.reset()
    assert device.memory.blocks == {}
    host.messages()
    host.open()
    assert "cannot free" in host.free(empty)


def test_a_function_may_reset_the_board_and_is_then_not_answered(host: Host, device: Device) -> None:
    device.function(device.reset, name="reboot")
    host.send_normal(encode_packet(CallFunc(host.function("reboot"), ())))
    assert device.take_output() == BOOT


def test_functions_log_and_fail_as_on_any_board(host: Host) -> None:
    assert host.call("log", "hello") is None
    assert host.logs == ["hello"]
    assert host.call("fail") == "fail: this function always fails"
    assert host.exchange(CallFunc(12345, ())) == RemoteException("no function has the handle 0x3039; look it up again")


# --- whatever arrives -------------------------------------------------------------------------

PACKETS = [
    LOOK_UP,
    encode_packet(CallFunc(0x80000000, (1, "x", Tensor(0x20000000, CPU, U8, (4,))))),
    encode_packet(CopyToRemote(Tensor(0x20000000, CPU, U8, (2, 2)), b"data")),
    encode_packet(CopyFromRemote(Tensor(0x20000000, CPU, U8, (2, 2)), 4)),
    encode_packet(Syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, (Tensor(0, CPU, U8, (4,)), None))),
    encode_packet(Syscall(PacketCode.FREE_HANDLE, (OpaqueHandle(0x80000000), 10))),
    encode_packet(InitServer("0.8.0", ("x",))),
]


@settings(max_examples=300, deadline=None)
@given(
    firmware=st.sampled_from(list(Firmware)),
    packet=st.sampled_from(PACKETS),
    at=st.integers(0, 200),
    junk=st.binary(min_size=1, max_size=8),
)
def test_no_request_however_malformed_breaks_the_simulator(
    firmware: Firmware, packet: bytes, at: int, junk: bytes
) -> None:
    device = Device(firmware=firmware, heap_bytes=64)
    host = Host(device)
    host.open()
    at %= len(packet)
    host.send_normal(packet[:at] + junk + packet[at + len(junk) :])
    host.replies()
    device.reset()
    host.messages()
    host.open()
    assert host.look_up("runtime.SystemLib")


@settings(max_examples=200, deadline=None)
@given(
    firmware=st.sampled_from(list(Firmware)), data=st.lists(st.sampled_from(b"\xff\xfd\xfe\0\x01\x03\x10")).map(bytes)
)
def test_no_bytes_on_the_line_break_the_simulator(firmware: Firmware, data: bytes) -> None:
    device = Device(firmware=firmware)
    for _ in range(3):
        device.receive(data)
