"""Stock firmware, with its faults, against the recordings of the real one (docs/protocol.md 6)."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import golden
import numpy as np
import pytest
from hand_made_host import BOOT, F32, HOST_NONCE, U8, Host
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim.board import demo as demo
from firmware_sim.board.clock import VirtualClock
from firmware_sim.board.device import Device, Firmware
from firmware_sim.board.evaluator import ArgumentCount
from firmware_sim.board.parts import Stats
from firmware_sim.board.stock import StockPort
from firmware_sim.running.loopback import LoopbackChannel
from firmware_sim.running.simulate import SimBoard
from microrpc.boards.catalogue import profile
from microrpc.connecting.blocking import open_board
from microrpc.errors import RequestError
from microrpc.serve.endpoint import Done
from microrpc.wire.crc import crc16
from microrpc.wire.datatypes import CPU, DataType, FunctionHandle, ModuleHandle, OpaqueHandle, Tensor, TypeCode
from microrpc.wire.frames import Damage, FrameDecoder, FrameEncoder, encode_frame
from microrpc.wire.packets import (
    RETURN_NONE,
    CallFunc,
    CopyAck,
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
from microrpc.wire.session import MessageType, Timeouts, encode_message, step_nonce

LOOK_UP = encode_packet(Syscall(PacketCode.GET_GLOBAL_FUNC, ("nothing",)))
NOT_FOUND = Return((OpaqueHandle(0),))


@pytest.fixture(params=list(Firmware))
def firmware(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(firmware: str, packet_size_bytes: int = 2048) -> Host:
    """A host with a session with a board, whose buffer is clear of what the handshake left there."""
    host = Host(Device(firmware=firmware, packet_size_bytes=packet_size_bytes))  # type: ignore[arg-type]
    demo.install(host.device)
    host.open()
    assert_in_step(host)
    return host


def assert_in_step(host: Host) -> None:
    """A look-up is answered with its answer."""
    host.send_normal(LOOK_UP)
    assert host.replies() == [NOT_FOUND]
    assert not host.device.is_dead


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


def call(function: int, *args: int) -> bytes:
    return encode_packet(CallFunc(function, args))


def copy_of(message_size_bytes: int, address: int, fill: int = 0) -> bytes:
    """A CopyToRemote whose NORMAL message has this size."""
    size_bytes = message_size_bytes - 3 - 8 - (4 + 40 + 8)
    return encode_packet(CopyToRemote(Tensor(address, CPU, U8, (size_bytes,)), bytes([fill]) * size_bytes))


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
            elif isinstance(frame, bytes) and frame[2] == MessageType.NORMAL:
                self._replies.append(decode_packet(frame[11:]))  # type: ignore[arg-type]

    def submit(self, request: Request, done: Done) -> None:
        self.requests.append(request)
        done(self._replies[len(self.requests) - 1])


def replay(name: str, first_responder_nonce: int) -> tuple[bytes, bytes, list[Request]]:
    """What the real device said in a recording, what ours says to the same bytes, and the requests that it executed."""
    encoder, output, script = FrameEncoder(), bytearray(), Script(name)

    def send(payload: bytes) -> None:
        output.extend(encoder.encode(payload))

    boot_ms = next(ms for ms in range(256) if step_nonce(ms) == first_responder_nonce)
    port = StockPort(script, send, Stats(), packet_size_bytes=2048, clock=VirtualClock(boot_ms / 1000))
    port.boot(0)
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


# --- the rules of docs/protocol.md 6, word by word: each docstring quotes one ------------------------


def test_it_registers_the_functions_of_the_runtime(firmware: str) -> None:
    """Functions that it registers itself: `runtime.SystemLib` (→ Module), `tvm.rpc.server.ModuleGetFunction` (Module,
    Str name, Int query_imports → PackedFunc or Null), `runtime.RPCTimeEvaluator` (→ PackedFunc that, called with the
    timed function's arguments, returns Bytes: repeat × f64 seconds), `tvm.rpc.server.GetCRTMaxPacketSize`,
    `tvm.contrib.random.random_fill` (tensor)."""  # noqa: RUF002
    host = opened(firmware)
    library = host.call_global("runtime.SystemLib")
    assert type(library) is ModuleHandle
    assert type(host.call_global("tvm.rpc.server.ModuleGetFunction", library, "add", 1)) is FunctionHandle
    assert host.call_global("tvm.rpc.server.ModuleGetFunction", library, "nothing", 1) is None
    evaluator = host.call_global("runtime.RPCTimeEvaluator", library, "sleep_ms", 1, 0, 2, 3, 0, 0, 0, 1, "")
    assert struct.unpack("<3d", host.call_handle(evaluator, 250)) == (0.25, 0.25, 0.25)
    assert host.call_global("tvm.rpc.server.GetCRTMaxPacketSize") == 2048 - 11
    tensor = host.put(np.zeros(8, np.float32))
    assert host.call_global("tvm.contrib.random.random_fill", tensor) is None
    assert host.get(tensor).all()


@pytest.mark.parametrize("packet_size_bytes", [2048, 8192, 256])
def test_a_message_may_fill_the_receive_buffer_and_one_byte_more_kills(firmware: str, packet_size_bytes: int) -> None:
    """The receive buffer (2048 bytes is common, 8192 and 256 exist) holds one message, unescaped: a frame payload of
    exactly its size works, one byte more kills the device."""
    host = opened(firmware, packet_size_bytes=packet_size_bytes)
    address = host.alloc(packet_size_bytes)
    host.send_normal(copy_of(packet_size_bytes, address, fill=0xFF))  # on the line it is nearly twice as long
    assert host.replies() == [RETURN_NONE]
    host.send_normal(copy_of(packet_size_bytes + 1, address))
    if firmware == "stock":
        assert_dead(host)
    else:
        assert host.replies() == []
        assert "a frame was refused" in host.logs[0]
        assert_in_step(host)


@pytest.mark.parametrize("opening", [["INIT"], ["INIT", "INIT"], ["TERMINATE", "INIT"]])
@pytest.mark.parametrize("excess_bytes", [0, 1])
def test_the_first_message_after_a_handshake_has_less_room(
    firmware: str, opening: list[str], excess_bytes: int
) -> None:
    """The bytes of START_SESSION_INIT and TERMINATE stay in it until the next NORMAL message has been handled, so the
    first NORMAL after an INIT may be at most 4 bytes shorter than the buffer (do something small first, such as asking
    for the limit),"""
    host = opened(firmware)
    address = host.alloc(2048)
    for message in opening:
        if message == "TERMINATE":
            host.send(MessageType.TERMINATE_SESSION)
        else:
            host.send(MessageType.START_SESSION_INIT, b"\x01", HOST_NONCE)
            [(host.session_id, _, _)] = host.messages()
    left_bytes = sum({"INIT": 4, "TERMINATE": 3}[message] for message in opening)
    host.send_normal(copy_of(2048 - left_bytes + excess_bytes, address))
    if firmware == "stock" and excess_bytes:
        assert_dead(host)
    else:
        assert host.replies() == [RETURN_NONE]
        host.send_normal(copy_of(2048, address))  # now there is room again
        assert host.replies() == [RETURN_NONE]


def test_a_few_hundred_inits_in_a_row_kill_it(firmware: str) -> None:
    """and a few hundred INITs in a row with nothing in between kill it."""
    host = Host(Device(firmware=firmware))  # type: ignore[arg-type]
    host.messages()
    for _ in range(2048 // 4):
        host.send(MessageType.START_SESSION_INIT, b"\x01", 1)
        assert len(host.messages()) == 1
    host.send(MessageType.START_SESSION_INIT, b"\x01", 1)
    assert len(host.messages()) == (firmware == "robust")
    assert host.device.is_dead == (firmware == "stock")


def test_two_frames_back_to_back_are_both_answered(firmware: str) -> None:
    """(Two whole frames back to back are both answered where nothing is lost.)"""
    host = opened(firmware)
    frame = encode_frame(encode_message(host.session_id, MessageType.NORMAL, LOOK_UP))
    host.device.receive(frame + frame)
    assert host.replies() == [NOT_FOUND] * 2


def test_a_second_packet_in_a_message_is_not_answered(firmware: str) -> None:
    """One NORMAL message must hold exactly one RPC packet: a second one in the same message is not answered,"""
    host = opened(firmware)
    host.send_normal(LOOK_UP + LOOK_UP)
    assert host.replies() == [NOT_FOUND] * (1 if firmware == "stock" else 2)
    assert_in_step(host)


def test_a_packet_that_is_split_over_two_messages_hangs_it(firmware: str) -> None:
    """one split over two messages is read past its end and hangs the device."""
    host = opened(firmware)
    host.send_normal(LOOK_UP[:30])
    if firmware == "stock":
        assert host.replies() == []
        assert_dead(host)
    else:
        assert host.replies() == [RemoteException("malformed packet")]
        assert_in_step(host)


def test_packet_nbytes_is_not_looked_at_except_for_zero(firmware: str) -> None:
    """A wrong packet_nbytes is ignored, except that 0 means "skip"."""
    host = opened(firmware)
    host.send_normal(bytes(8) + (LOOK_UP[8:] if firmware == "stock" else b""))  # on the robust one, an empty packet
    assert host.replies() == []
    assert_in_step(host)
    host.send_normal(b"\x99" * 8 + LOOK_UP[8:])
    if firmware == "stock":
        assert host.replies() == [NOT_FOUND]
    else:
        [refusal] = host.replies()  # of a packet that is larger than anything
        assert isinstance(refusal, RemoteException)
        host.open()
    assert_in_step(host)


def test_an_empty_block_aliases_the_next_one() -> None:
    """An alloc of 0 bytes aliases the next block."""
    host = opened("stock")
    empty = host.alloc(0)
    block = host.alloc(16)
    assert block == empty
    nothing = Tensor(empty, CPU, U8, (0,))
    assert host.exchange(CopyToRemote(nothing, b"")) == RETURN_NONE
    assert host.free(empty) is None
    assert host.exchange(CopyToRemote(Tensor(block, CPU, U8, (16,)), bytes(16))) == RETURN_NONE
    assert host.free(block) is None
    assert "cannot free" in host.free(block)
    robust = opened("robust")
    assert robust.alloc(0) != robust.alloc(16)


def test_a_damaged_request_is_answered_when_the_next_one_comes(firmware: str) -> None:
    """A frame with a wrong crc gets no answer, and stays in the receive buffer: the device then answers *the damaged
    message* when the next good one arrives, and stays one message behind.

    One message is eaten by each check; that is the cure."""
    host = opened(firmware)
    add = host.function("add")
    for x in range(3):
        host.device.receive(damaged(encode_message(host.session_id, MessageType.NORMAL, call(add, x, 3))))
        assert host.replies() == []
        host.send_normal(LOOK_UP)
        assert host.replies() == [Return((0, x + 3)) if firmware == "stock" else NOT_FOUND]
        assert_in_step(host)
    assert host.device.stats.frames_damaged == 3


def test_damage_after_damage_leaves_it_behind_until_a_request_is_handled(firmware: str) -> None:
    """and stays one message behind."""
    host = opened(firmware)
    host.device.receive(damaged(encode_message(0x0101, MessageType.START_SESSION_INIT, b"\x01")))
    answered = []
    for nonce in (0x31, 0x32, 0x33):
        host.send(MessageType.START_SESSION_INIT, b"\x01", nonce)
        answered += [session_id & 0xFF for session_id, _, _ in host.messages()]
    assert answered == ([0x01, 0x31, 0x32] if firmware == "stock" else [0x31, 0x32, 0x33])


def test_a_damaged_init_leaves_it_answering_with_the_old_nonce(firmware: str) -> None:
    """A damaged START_SESSION_INIT leaves it answering with the old nonce."""
    host = opened(firmware)
    host.device.receive(damaged(encode_message(0x44, MessageType.START_SESSION_INIT, b"\x01")))
    assert host.messages() == []
    host.send(MessageType.START_SESSION_INIT, b"\x01", 0x45)
    [(session_id, message_type, _)] = host.messages()
    assert message_type == MessageType.START_SESSION_REPLY
    assert session_id & 0xFF == (0x44 if firmware == "stock" else 0x45)


@pytest.mark.parametrize("tail", [b"\xff\xfd", b"\xff\x00"])
def test_it_exits_at_a_restart_or_an_invalid_escape_in_mid_packet(firmware: str, tail: bytes) -> None:
    """An invalid escape or a packet restarted in the middle (a host that was killed while sending) makes the plain port
    exit;"""
    host = opened(firmware)
    host.device.receive(encode_frame(b"12345")[:-4] + tail)
    if firmware == "stock":
        assert_dead(host)
    else:
        assert_in_step(host)


@pytest.mark.parametrize(("length", "crashes"), [(3, False), (200, True), (0xFFFF0005, True)])
def test_a_damaged_length_makes_it_crash_or_swallow(firmware: str, length: int, crashes: bool) -> None:
    """A damaged length makes it crash or swallow what follows."""
    host = opened(firmware)
    payload = encode_message(host.session_id, MessageType.TERMINATE_SESSION) + b"xy"
    size = length.to_bytes(4, "little").replace(b"\xff", b"\xff\xff")
    host.device.receive(b"\xff\xfd" + size + payload + b"\0\0")
    for _ in range(2):
        host.send_normal(LOOK_UP)
    assert host.replies() == ([] if firmware == "stock" else [NOT_FOUND] * 2)
    assert host.device.is_dead == (firmware == "stock" and crashes)


@pytest.mark.parametrize(
    ("session_id", "message_type"),
    [
        (0x1111, MessageType.NORMAL),
        (0, MessageType.LOG),
        (None, MessageType.LOG),
        (0x1234, MessageType.START_SESSION_REPLY),
    ],
)
def test_a_message_that_it_does_not_want_kills_it_on_the_packet_after(
    firmware: str, session_id: int | None, message_type: MessageType
) -> None:
    """A NORMAL message with a wrong session id, or with none established, a LOG sent to it, or a REPLY while
    established: it dies on the packet after."""
    host = opened(firmware)
    body = b"\x01" if message_type == MessageType.START_SESSION_REPLY else LOOK_UP
    host.send(message_type, body, host.session_id if session_id is None else session_id)
    assert not host.device.is_dead
    if firmware == "robust":
        assert_in_step(host)
        return
    if message_type == MessageType.START_SESSION_REPLY:  # it ends the session, so that the request is not wanted
        host.send_normal(LOOK_UP)
        assert host.messages() == []
        assert not host.device.is_dead
    host.send(MessageType.TERMINATE_SESSION)
    assert_dead(host)


def test_a_normal_message_without_a_session_kills_it_on_the_packet_after(firmware: str) -> None:
    """or with none established,"""
    host = Host(Device(firmware=firmware))  # type: ignore[arg-type]
    demo.install(host.device)
    host.messages()
    for _ in range(2):
        assert not host.device.is_dead
        host.send_normal(LOOK_UP)
        assert host.messages() == []
    if firmware == "stock":
        assert_dead(host)
    else:
        host.open()
        assert_in_step(host)


@pytest.mark.parametrize(
    ("packet", "why"),
    [
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
    ],
)
def test_a_malformed_packet_makes_it_loop_forever(firmware: str, packet: bytes, why: str) -> None:
    """A malformed RPC packet (bad code, truncated arguments, bad type code, wrong argument type of a syscall) makes it
    loop forever: the board is silent until reset."""
    host = opened(firmware)
    host.send_normal(packet)
    if firmware == "stock":
        assert host.messages() == [], why
        assert_dead(host)
    else:
        assert all(isinstance(reply, RemoteException) for reply in host.replies())
        host.open()
        assert_in_step(host)


def test_an_unknown_syscall_gets_an_exception(firmware: str) -> None:
    """An unknown syscall code is answered "Syscall not recognized".

    An unknown syscall code gets an Exception."""
    host = opened(firmware)
    assert host.syscall(99, 1) == ("Syscall not recognized" if firmware == "stock" else "unknown packet code 99")
    assert_in_step(host)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (PacketCode.DEV_GET_ATTR, "GetAttr not supported"),
        (PacketCode.DEV_SET_DEVICE, "SetDevice not supported"),
        (99, "Syscall not recognized"),
    ],
)
def test_what_is_refused_by_its_code_leaves_the_older_text(firmware: str, code: int, text: str) -> None:
    """DevGetAttr and DevSetDevice are answered "GetAttr not supported" and "SetDevice not supported" without a look at
    their arguments (wrong ones too), and that text does not become the text which later empty exceptions repeat."""
    host = opened(firmware)
    assert host.call("add", "x") == "add: want (int, int)"
    for args in ((), (1,), ("x", None), (CPU, 1, 2)):
        refused = host.syscall(code, *args)
        assert refused == text if firmware == "stock" else code == 99 or refused.startswith("wrong arguments")
    assert host.call("fail_silent") == ("add: want (int, int)" if firmware == "stock" else "")
    assert_in_step(host)


def test_any_memory_scope_is_accepted(firmware: str) -> None:
    """Any memory scope is accepted by DevAllocDataWithScope."""
    host = opened(firmware)
    for scope in (None, "", "global", "global.vtcm", "nonsense"):
        found = host.syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, Tensor(0, CPU, U8, (16,)), scope)
        is_known = firmware == "stock" or scope in (None, "", "global")
        assert type(found) is OpaqueHandle if is_known else found == "there is no such memory scope here"


def test_random_fill_of_no_tensor_has_no_text(firmware: str) -> None:
    """`random_fill` of something that is no tensor repeats an older text."""
    host = opened(firmware)
    older = "add: want (int, int)" if firmware == "stock" else "argument 0: Tensor expected"
    assert host.call("add", "x") == "add: want (int, int)"
    for args in ((), (1,), ("x",), (None,)):
        assert host.call_global("tvm.contrib.random.random_fill", *args) == older


NUMBER, REPEAT, MS, ZEROS, COOLDOWN = 2, 3, 0, 100, (0, 1)
FORMS = {
    8: (1, 0, NUMBER, REPEAT, MS, ""),
    10: (1, 0, NUMBER, REPEAT, MS, *COOLDOWN, ""),
    11: (1, 0, NUMBER, REPEAT, MS, ZEROS, *COOLDOWN, ""),
    12: (1, 0, NUMBER, REPEAT, MS, ZEROS, *COOLDOWN, 0, ""),
}


@pytest.mark.parametrize("taken", FORMS)
def test_the_time_evaluator_takes_the_arguments_of_its_version(firmware: str, taken: ArgumentCount) -> None:
    """The arguments of `runtime.RPCTimeEvaluator` differ by TVM version, with the same protocol version "0.8.0":

    | TVM | arguments | |---|---|

    | v0.8 | 8: Module, Str name, device_type, device_id, number, repeat, min_repeat_ms, Str f_preproc |

    | v0.9 | 10: cooldown_interval_ms, repeats_to_cooldown come before f_preproc |

    | v0.10 to v0.13, and the commit above | 11: limit_zero_time_iterations comes before those two |

    | v0.14 to v0.18 | 12: cache_flush_bytes comes after them, before f_preproc |

    A real device refuses the wrong number or types before it does anything ("not enough args",
    "runtime.RPCTimeEvaluator: one or more invalid arg types"). So a host tries the forms in turn (12, 11, 10, 8), and
    remembers which one the board took; a device of ours takes all four (a small build of the one in C the last
    two)."""
    host = Host(Device(firmware=firmware, time_evaluator_arguments=taken))  # type: ignore[arg-type]
    demo.install(host.device)
    host.open()
    for count, arguments in FORMS.items():
        made = host.call_global("runtime.RPCTimeEvaluator", host.system_library(), "sleep_ms", *arguments)
        if firmware == "robust" or count == taken:
            assert struct.unpack("<3d", host.call_handle(made, 250)) == (0.25, 0.25, 0.25)
        else:
            few, types = "not enough args", "runtime.RPCTimeEvaluator: one or more invalid arg types"
            assert made == (few if count < taken else types)


@pytest.mark.parametrize("count", [0, 7, 9, 13])
def test_a_time_evaluator_of_no_version_is_refused(count: int) -> None:
    with pytest.raises(RequestError, match=f"no time evaluator takes {count} arguments"):
        SimBoard(profile("loopback"), firmware="stock", time_evaluator_arguments=count)  # type: ignore[arg-type]


def test_it_has_the_arguments_of_its_commit() -> None:
    host = opened("stock")
    made = [
        host.call_global("runtime.RPCTimeEvaluator", host.system_library(), "noop", *arguments)
        for arguments in FORMS.values()
    ]
    assert [type(evaluator) is FunctionHandle for evaluator in made] == [count == 11 for count in FORMS]


def test_the_time_evaluator_tries_more_runs_until_it_took_long_enough(firmware: str) -> None:
    """What it returns runs the function `number` times between two looks at the clock, for each of the `repeat`
    figures. Where that took less than min_repeat_ms, it does so again, with more runs: as many as should do (and one),
    but 1.618 times as many at least. The last time counts, divided by its runs, and their number is where the next
    figure begins."""
    host = opened(firmware)
    host.device.function(lambda: runs.append(host.device.clock.sleep(0.25)), name="quarter")
    for ms, figures in ((0, [2, 2, 2]), (500, [2, 2, 2]), (600, [2 + 3, 3, 3]), (9999, [2 + 40, 40, 40])):
        runs: list[None] = []
        made = host.call_global(
            "runtime.RPCTimeEvaluator", host.system_library(), "quarter", 1, 0, 2, 3, ms, 0 if not ms else 1, 0, 1, ""
        )
        assert struct.unpack("<3d", host.call_handle(made)) == (0.25, 0.25, 0.25)
        assert len(runs) == sum(figures)


def test_the_time_evaluator_gives_up_on_what_takes_no_time(firmware: str) -> None:
    """A time of 0 is counted, and after limit_zero_time_iterations of them it gives up: 100 is TVM's default, and 0
    means that min_repeat_ms does nothing."""
    host = opened(firmware)
    runs: list[None] = []
    host.device.function(lambda: runs.append(None), name="nothing")
    for limit, count in ((0, 1), (1, 1), (100, 100)):
        runs.clear()
        made = host.call_global(
            "runtime.RPCTimeEvaluator", host.system_library(), "nothing", 1, 0, 2, 1, 10, limit, 0, 1, ""
        )
        assert struct.unpack("<d", host.call_handle(made)) == (0.0,)
        assert len(runs) == 2 * count


def test_a_shutdown_leaves_it_deaf(firmware: str) -> None:
    """A Shutdown too leaves it deaf until reset."""
    host = opened(firmware)
    host.send_normal(encode_packet(Shutdown()))
    if firmware == "stock":
        assert_dead(host)
    else:
        host.open()
        assert_in_step(host)


def test_an_error_may_have_no_text_or_that_of_an_older_one(firmware: str) -> None:
    """An error without text: an exception may be empty (out of memory) or repeat the text of an older error."""
    host = opened(firmware)
    out_of_memory = "" if firmware == "stock" else "out of memory: 1073741824 bytes asked for, the lar"
    assert host.alloc(1 << 30)[:50] == out_of_memory[:50]
    assert host.call("fail_silent") == ""
    assert host.call("fail") == "fail: this function always fails"
    older = "fail: this function always fails" if firmware == "stock" else ""
    assert host.call("fail_silent") == older
    assert host.call("add", "x") == "add: want (int, int)"
    host.open()  # a session does not clear it
    older = "add: want (int, int)" if firmware == "stock" else ""
    assert host.call("fail_silent") == older
    assert host.alloc(1 << 30)[:20] == (older or out_of_memory)[:20]
    host.device.reset()
    host.messages()
    host.open()
    assert host.call("fail_silent") == ""


def test_memory_survives_a_new_session_and_not_a_reset(firmware: str) -> None:
    """Allocations survive a new session (INIT again, or TERMINATE + INIT).

    They do not survive a reset."""
    host = opened(firmware)
    device = host.device
    tensor = host.put(np.arange(64, dtype=np.uint8))
    empty = host.alloc(0)
    host.open(0x42)  # TERMINATE + INIT
    assert device.memory.blocks[tensor.data] == 64
    host.send(MessageType.START_SESSION_INIT, b"\x01", 0x43)
    [(host.session_id, _, _)] = host.messages()
    assert host.get(tensor).tolist() == list(range(64))
    device.reset()
    assert device.memory.blocks == {}
    host.messages()
    host.open()
    assert "cannot free" in host.free(tensor.data)
    assert "cannot free" in host.free(empty)


def test_a_reboot_shows_as_a_terminate_and_perhaps_a_log(firmware: str) -> None:
    """When a board reboots, the host sees the bytes `FE FF FD 03 00 00 00 00 00 02 66 77` (TERMINATE), sometimes a LOG
    after it."""
    host = opened(firmware)
    host.device.reset()
    host.device.log("booted")
    assert host.device.take_output() == bytes.fromhex("FE FF FD 03 00 00 00 00 00 02 66 77") + encode_frame(
        b"\0\0\x03booted"
    )


def test_nonces_come_from_the_clock(firmware: str) -> None:
    """Device nonces come from a clock in some ports: two devices, or host and device, may well pick the same."""
    ids = [Host(Device(firmware=firmware, seed=seed, clock=VirtualClock(3.5))).open() for seed in (1, 2)]  # type: ignore[arg-type]
    assert (ids[0] == ids[1]) == (firmware == "stock")
    later = Host(Device(firmware=firmware, seed=1, clock=VirtualClock(3.501))).open()  # type: ignore[arg-type]
    assert (ids[0] == later) == (firmware == "robust")


def test_host_and_device_may_pick_the_same_nonce(firmware: str) -> None:
    """two devices, or host and device, may well pick the same."""
    same = 0
    for at in range(256):
        device = Device(firmware=firmware, seed=at, clock=VirtualClock(at / 1000))  # type: ignore[arg-type]
        demo.install(device)
        board = open_board(LoopbackChannel(device), Timeouts(), seed=1)
        same += board.session_id >> 8 == board.session_id & 0xFF
        assert board.function("add")(20, 22) == 42
        assert device.clock.now() == at / 1000
    assert same


def test_nothing_is_acknowledged_or_sent_again(firmware: str) -> None:
    """There is no acknowledgement or retransmission anywhere."""
    host = opened(firmware)
    host.send_normal(LOOK_UP)
    assert host.device.take_output() == encode_frame(
        encode_message(host.session_id, MessageType.NORMAL, encode_packet(NOT_FOUND))
    )
    host.device.clock.sleep(3600)
    host.device.receive(b"")
    assert host.device.take_output() == b""  # whether that answer arrived or not


def test_copies_are_unchecked(firmware: str) -> None:
    """It copies to and from CPU memory at data + byte_offset, unchecked; shape and dtype are ignored for CPU
    tensors."""
    host = opened(firmware)
    first, second = host.alloc(16), host.alloc(16)
    strange = Tensor(first, CPU, F32, (7, 7, 7), 1)
    assert host.exchange(CopyToRemote(strange, b"within")) == RETURN_NONE
    assert host.exchange(CopyFromRemote(strange, 6)) == CopyAck(b"within")
    beyond = Tensor(first, CPU, U8, (4,), second - first - 2)
    reply = host.exchange(CopyToRemote(beyond, b"over"))
    found = host.exchange(CopyFromRemote(Tensor(second, CPU, U8, (2,)), 2))
    if firmware == "stock":
        assert (reply, found) == (RETURN_NONE, CopyAck(b"er"))
    else:
        assert isinstance(reply, RemoteException)
        assert found == CopyAck(bytes(2))


NOT_OF_THE_DEVICE = {
    """User functions live in the system library more often than in the global registry: a client that looks a name up
    must try both.""": "what the host does: Board.function",
    """The C++ host's own receive buffer is fixed (8 KiB): with a 16 KiB device it spins forever. Ours has no such
    limit.""": "what a host does",
    """The UART ring buffer in front is as small as 64 bytes (Arduino) or the buffer + 100 (Zephyr), usually with no
    flow control: a host must never have more than one request in flight unless it knows better.""": (
        "the line in front of the device has that buffer, and the host that rule"
    ),
    "The C++ host sends no InitServer to CRT. Each of its array copies ends in a DevStreamSync.": "what a host does",
    """So after any doubt a host must not trust the next reply: it must start a new session, check that replies carry
    the new id, and check that the device is in step (ask something whose answer it knows, for instance a look-up of a
    name that cannot exist) before it goes on.""": "what the host does: test_conversation.py, test_fault_matrix.py",
    "Zephyr and Arduino ports survive the restart.": "only the plain port is modelled, as StockPort says",
}
"""The sentences of section 6 that no test here needs to show, and why."""


def section_6() -> list[str]:
    """The bullets of section 6, each in one line."""
    text = (Path(__file__).parent.parent.parent.parent / "docs" / "protocol.md").read_text(encoding="utf-8")
    section = text.partition("## 6. What stock firmware really does")[2].partition("\n## ")[0]
    return [flat(bullet) for bullet in re.findall(r"^\* (.*?)(?=^\* |^\w|\Z)", section, flags=re.DOTALL | re.MULTILINE)]


def flat(text: str) -> str:
    return " ".join(text.split())


def quotations() -> list[str]:
    """What the docstrings here quote, and what is said to need no test."""
    docs = [test.__doc__ for name, test in globals().items() if name.startswith("test_") and test.__doc__]
    return [flat(paragraph) for doc in docs for paragraph in doc.split("\n\n")] + list(map(flat, NOT_OF_THE_DEVICE))


def test_whatever_a_test_here_quotes_is_in_the_protocol() -> None:
    bullets = section_6()
    assert len(bullets) == 9 + 10
    assert [quote for quote in quotations() if not any(quote in it for it in bullets)] == []


def test_every_word_of_the_protocol_about_stock_firmware_is_quoted_by_a_test_here() -> None:
    quotes = sorted(quotations(), key=len, reverse=True)
    for bullet in section_6():
        for quote in quotes:
            bullet = bullet.replace(quote, "")
        assert bullet.split() == []


# --- what else it does --------------------------------------------------------------------------


def test_the_version_of_an_init_is_not_looked_at() -> None:
    host = opened("stock")
    host.send(MessageType.START_SESSION_INIT, b"\x55", 0x44)
    [(session_id, message_type, body)] = host.messages()
    assert (session_id & 0xFF, message_type, body) == (0x44, MessageType.START_SESSION_REPLY, b"\x01")


def test_an_init_with_nonce_0_leaves_its_version_to_be_the_next_message() -> None:
    host = opened("stock")
    host.send(MessageType.START_SESSION_INIT, b"\x01", 0)
    assert host.messages() == []
    host.send(MessageType.START_SESSION_INIT, b"\x01", 0x26)  # read as 01 26 00: an INIT of nonce 1
    assert [session_id & 0xFF for session_id, _, _ in host.messages()] == [1]


def test_a_no_op_in_mid_packet_does_no_harm() -> None:
    device = opened("stock").device
    frame = b"\xff\xfd\x03\xff\xfe\0\0\0\0\0\x02"
    device.receive(b"\xff\xfe\xff\xff" + frame + crc16(frame).to_bytes(2, "little"))
    assert not device.is_dead
    assert device.stats.frames_damaged == 0


def test_init_server_is_accepted_without_arguments() -> None:
    assert opened("stock").exchange(InitServer("0.8.0", ())) == RETURN_NONE


def test_an_address_outside_its_memory_gets_an_exception() -> None:
    host = opened("stock")
    end = host.device.memory.base_address + host.device.memory.size_bytes
    for address in (0, end - 1, 1 << 63):
        reply = host.exchange(CopyFromRemote(Tensor(address, CPU, U8, (2,)), 2))
        assert isinstance(reply, RemoteException)
        assert "outside the heap" in reply.message


def test_a_scope_may_be_given_or_not() -> None:
    host = opened("stock")
    tensor = Tensor(0, CPU, DataType(2, 32), (4,))
    for scope in (None, "global"):
        assert type(host.syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, tensor, scope)) is OpaqueHandle


def test_a_function_may_reset_the_board_and_is_then_not_answered() -> None:
    host = opened("stock")
    device = host.device
    device.function(device.reset, name="reboot")
    host.send_normal(encode_packet(CallFunc(host.function("reboot"), ())))
    assert device.take_output() == BOOT


def test_functions_log_and_fail_as_on_any_board() -> None:
    host = opened("stock")
    assert host.call("log", "hello") is None
    assert host.logs == ["hello"]
    assert host.call("fail") == "fail: this function always fails"
    assert host.exchange(CallFunc(12345, ())) == RemoteException(
        "no function or module has the handle 0x3039; look it up again"
    )


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
