"""The simulated board's side of the link, byte by byte and without a host (docs/link.md 1 to 3)."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import pytest

from firmware_sim.board.device import Device
from microrpc.wire.datatypes import CPU, DataType, OpaqueHandle, Tensor
from microrpc.wire.frames import FrameDecoder, encode_frame
from microrpc.wire.link import LinkParameters
from microrpc.wire.names import LINK_FUNCTION
from microrpc.wire.packets import (
    CallFunc,
    PacketCode,
    RemoteException,
    Request,
    Return,
    Shutdown,
    Syscall,
    decode_packet,
    encode_packet,
)
from microrpc.wire.session import MessageType

NONCE = 0x26
TERMINATE, INIT, NORMAL = MessageType.TERMINATE_SESSION, MessageType.START_SESSION_INIT, MessageType.NORMAL
REQUEST, REPLY, NAK, LOG = MessageType.LINK_REQUEST, MessageType.LINK_REPLY, MessageType.LINK_NAK, MessageType.LOG
SHUTDOWN = encode_packet(Shutdown())[8:]
LINK_LOOK_UP = Syscall(PacketCode.GET_GLOBAL_FUNC, (LINK_FUNCTION,))


class Host:
    """The other end of the line, made of single steps and without a memory of its own."""

    def __init__(self, **device_args: Any) -> None:
        self.device = Device(seed=1, **device_args)
        self.session_id = 0
        self._decoder = FrameDecoder(1 << 24)

    def send(self, kind: int, body: bytes = b"", session_id: int = 0) -> None:
        self.device.receive(encode_frame(struct.pack("<HB", session_id, kind) + body))

    def frame(self, seq: int, kind: int, body: bytes = b"", *, message_type: int = REQUEST) -> bytes:
        payload = struct.pack("<HBHB", self.session_id, message_type, seq, kind) + body
        return encode_frame(payload + struct.pack("<I", zlib.crc32(payload)))

    def answers(self) -> list[tuple[int, bytes]]:
        """What the board has said: type, and what follows it up to the crc32 where there is one."""
        found = []
        for payload in self._decoder.feed(self.device.take_output()):
            assert isinstance(payload, bytes)
            if payload[2] in (REPLY, NAK):
                assert payload[:2] == self.session_id.to_bytes(2, "little")
                assert zlib.crc32(payload[:-4]) == int.from_bytes(payload[-4:], "little")
                payload = payload[:-4]
            found.append((payload[2], payload[3:]))
        return found

    def open(self) -> None:
        self.device.take_output()
        self._decoder.reset()
        self.send(INIT, b"\x01", NONCE)
        [payload] = self._decoder.feed(self.device.take_output())
        assert isinstance(payload, bytes)
        self.session_id = int.from_bytes(payload[:2], "little")

    def ask(self, seq: int, kind: int, body: bytes = b"") -> tuple[int, int, bytes]:
        """Send a request; give the seq, kind and body of its reply."""
        self.device.receive(self.frame(seq, kind, body))
        [(message_type, content)] = self.answers()
        assert message_type == REPLY
        return int.from_bytes(content[:2], "little"), content[2], content[3:]

    def packet(self, seq: int, request: Request) -> Any:
        got_seq, kind, body = self.ask(seq, 0, encode_packet(request)[8:])
        assert (got_seq, kind) == (seq, 0)
        return decode_packet(body)

    def alloc(self, seq: int, size: int) -> int:
        tensor = Tensor(0, CPU, DataType.parse("uint8"), (size,))
        reply = self.packet(seq, Syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, (tensor, None)))
        return int(reply.values[0])


@pytest.fixture
def host() -> Host:
    host = Host()
    host.open()
    return host


def write(address: int, data: bytes) -> bytes:
    return struct.pack("<Q", address) + data


def read(address: int, size: int) -> bytes:
    return struct.pack("<QI", address, size)


def exception(answer: tuple[int, int, bytes]) -> str:
    _, kind, body = answer
    assert kind == 0
    packet = decode_packet(body)
    assert isinstance(packet, RemoteException)
    return packet.message


# --- negotiation ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device_args", "parameters"),
    [
        ({}, LinkParameters(8, 2048, 2148)),
        ({"packet_size_bytes": 256, "receive_ring_bytes": 64}, LinkParameters(8, 256, 64)),
        ({"link": False}, None),
        ({"firmware": "stock"}, None),
    ],
)
def test_a_look_up_gives_the_parameters_or_zero(device_args: dict[str, Any], parameters: LinkParameters | None) -> None:
    host = Host(**device_args)
    host.open()
    host.send(NORMAL, encode_packet(LINK_LOOK_UP), host.session_id)
    [(kind, body)] = host.answers()
    assert kind == NORMAL
    handle = parameters.handle if parameters is not None else 0
    assert decode_packet(body[8:]) == Return((OpaqueHandle(handle),))


def test_a_board_without_the_link_drops_its_messages_silently() -> None:
    host = Host(link=False)
    host.device.receive(host.frame(0, 0, encode_packet(LINK_LOOK_UP)[8:]))
    host.device.take_output()
    host.open()
    host.device.receive(host.frame(0, 0, encode_packet(LINK_LOOK_UP)[8:]))
    host.device.receive(b"noise" * 10)
    assert host.answers() == []


# --- requests ----------------------------------------------------------------------------------------


def test_packets_writes_and_reads_do_what_they_say(host: Host) -> None:
    address = host.alloc(0, 10)
    assert host.ask(1, 1, write(address + 2, b"\xffabc")) == (1, 1, b"")
    assert host.ask(2, 2, read(address + 1, 6)) == (2, 2, b"\x00\xffabc\x00")


@pytest.mark.parametrize("kind", [1, 2])
def test_what_is_not_inside_the_heap_is_refused_and_refused_again(host: Host, kind: int) -> None:
    address = host.alloc(0, 8)
    for seq, (at, size) in enumerate([(0, 1), (address + 1, 8), (address - 1, 8), (1 << 63, 8)], start=1):
        body = write(at, bytes(size)) if kind == 1 else read(at, size)
        first = exception(host.ask(seq, kind, body))
        assert "not inside an allocated block" in first
        assert exception(host.ask(seq, kind, body)) == first
    if kind == 2:
        assert "not inside" in exception(host.ask(5, 2, read(address, 0xFFFFFFFF)))


def test_a_write_that_is_repeated_changes_nothing(host: Host) -> None:
    address = host.alloc(0, 4)
    host.ask(1, 1, write(address, b"old!"))
    host.ask(2, 1, write(address, b"new!"))
    assert host.ask(1, 1, write(address, b"old!")) == (1, 1, b"")
    assert host.ask(1, 1, write(address, b"ol")) == (1, 1, b"")  # shorter this time
    assert host.ask(3, 2, read(address, 4)) == (3, 2, b"new!")


@pytest.mark.parametrize(
    ("kind", "body"), [(1, b"1234567"), (2, bytes(11)), (2, bytes(13)), (0, b""), (0, b"\xff" * 9), (0, SHUTDOWN)]
)
def test_a_malformed_body_is_answered_with_an_exception(host: Host, kind: int, body: bytes) -> None:
    assert exception(host.ask(0, kind, body)) == "malformed packet"
    assert host.packet(1, LINK_LOOK_UP).values[0] != 0


def test_a_call_runs_once_however_often_it_is_asked_for(host: Host) -> None:
    runs: list[int] = []
    host.device.functions["f"] = lambda: runs.append(1)
    handle = host.packet(0, Syscall(PacketCode.GET_GLOBAL_FUNC, ("f",))).values[0]
    first = host.packet(1, CallFunc(handle, ()))
    assert [host.packet(1, CallFunc(handle, ())) for _ in range(3)] == [first] * 3
    assert len(runs) == 1


@pytest.mark.parametrize("reply_bytes", [None, 29, 30])
def test_a_reply_that_is_longer_than_what_is_kept_is_forgotten(reply_bytes: int | None) -> None:
    host = Host(reply_bytes=reply_bytes)
    host.open()
    first = host.ask(0, 0, encode_packet(LINK_LOOK_UP)[8:])
    assert len(first[2]) == 30 - 10
    again = host.ask(0, 0, encode_packet(LINK_LOOK_UP)[8:])
    assert again == ((0, 3, b"") if reply_bytes == 29 else first)


def test_after_shutdown_packets_are_dropped_and_copies_are_answered(host: Host) -> None:
    address = host.alloc(0, 4)
    look_up = encode_packet(LINK_LOOK_UP)[8:]
    host.send(NORMAL, encode_packet(Shutdown()), host.session_id)
    for seq in (0, 1, 2):  # the last one, the next one, and one that is too early
        host.device.receive(host.frame(seq, 0, look_up))
    assert host.answers() == []
    assert host.device.stats.messages_dropped == 3
    assert host.ask(1, 1, write(address, b"data")) == (1, 1, b"")
    assert host.ask(2, 2, read(address, 4)) == (2, 2, b"data")
    host.device.receive(b"noise")
    assert host.answers() == [(NAK, b"\x03\x00")]
    host.device.receive(host.frame(3, 0, look_up))  # good, although it is dropped
    host.device.receive(b"noise")
    assert host.answers() == [(NAK, b"\x03\x00")]
    host.open()
    host.packet(0, LINK_LOOK_UP)


def test_a_shutdown_over_the_link_is_malformed_and_none(host: Host) -> None:
    assert exception(host.ask(0, 0, SHUTDOWN)) == "malformed packet"
    host.packet(1, LINK_LOOK_UP)


def test_a_frame_that_is_too_long_is_answered_with_nak_before_the_log(host: Host) -> None:
    host.packet(0, LINK_LOOK_UP)
    for byte in b"noise"[:1] + b"\xff\xfd\x01\x08\0\0":
        host.device.receive(bytes([byte]))
    log = (LOG, b"a frame was refused: it announces 2049 bytes, and 2048 are accepted")
    assert host.answers() == [(NAK, b"\x01\x00"), log]
    host.packet(1, LINK_LOOK_UP)
    for byte in b"\xff\xfd\x01\x08\0\0":
        host.device.receive(bytes([byte]))
    assert host.answers() == [(NAK, b"\x02\x00"), log]


def test_normal_messages_stay_possible_and_are_no_part_of_the_sequence(host: Host) -> None:
    host.packet(0, LINK_LOOK_UP)
    host.send(NORMAL, encode_packet(LINK_LOOK_UP), host.session_id)
    [(kind, _)] = host.answers()
    assert kind == NORMAL
    host.packet(1, LINK_LOOK_UP)


# --- sessions -------------------------------------------------------------------------------------------


def test_a_board_without_a_session_answers_a_request_with_terminate() -> None:
    host = Host()
    host.device.take_output()
    host.session_id = 0x2766
    for message_type in (REPLY, NAK, NORMAL):
        host.device.receive(host.frame(0, 0, message_type=message_type))
    assert host.answers() == []
    host.device.receive(host.frame(0, 0))
    assert host.answers() == [(TERMINATE, b"")]
    host.open()
    host.packet(0, LINK_LOOK_UP)
    host.send(TERMINATE)
    host.device.receive(host.frame(1, 0))
    assert host.answers() == [(TERMINATE, b"")]


def test_a_request_of_another_session_and_what_only_a_board_says_are_dropped(host: Host) -> None:
    frames = [host.frame(0, 0, message_type=message_type) for message_type in (REPLY, NAK)]
    host.session_id ^= 0x0100
    frames.append(host.frame(0, 0))
    host.session_id ^= 0x0100
    for frame in frames:
        host.device.receive(frame)
    assert host.answers() == []
    assert host.device.stats.messages_dropped == 3


def test_a_new_session_begins_with_seq_0_and_remembers_nothing(host: Host) -> None:
    host.packet(0, LINK_LOOK_UP)
    host.packet(1, LINK_LOOK_UP)
    host.open()
    host.device.receive(host.frame(1, 0, encode_packet(LINK_LOOK_UP)[8:]))
    assert host.answers() == [(NAK, b"\x00\x00")]
    host.packet(0, LINK_LOOK_UP)


def test_a_function_that_resets_its_board_is_not_answered(host: Host) -> None:
    host.device.functions["die"] = host.device.reset
    handle = host.packet(0, Syscall(PacketCode.GET_GLOBAL_FUNC, ("die",))).values[0]
    host.device.receive(host.frame(1, 0, encode_packet(CallFunc(handle, ()))[8:]))
    assert [kind for kind, _ in host.answers()] == [TERMINATE]


# --- damage ---------------------------------------------------------------------------------------------


def damages(host: Host) -> list[bytes]:
    """A wrong crc32 or crc16, an invalid escape, a restart inside a packet, one too long, bytes outside of any."""
    good = host.frame(1, 0)
    payload = bytearray(good[6:-2])
    payload[-1] ^= 1
    return [
        encode_frame(bytes(payload)),
        good[:-1] + bytes([good[-1] ^ 1]),
        b"\xff\xfd\x10\x00\x00\x00\xff\x00",
        good[:9] + b"\xff\xfd\x00\x00\x00\x00" + encode_frame(b"")[6:],
        b"\xff\xfd\x00\x00\x00\x7f",
        b"noise",
    ]


@pytest.mark.parametrize("index", range(6))
def test_damage_is_answered_with_nak_once_from_the_first_good_request_on(host: Host, index: int) -> None:
    damage = damages(host)[index]
    host.device.receive(damage)
    assert [answer for answer in host.answers() if answer[0] != LOG] == []
    host.packet(0, LINK_LOOK_UP)
    for expected in ([(NAK, b"\x01\x00")], []):
        host.device.receive(damage)
        assert [answer for answer in host.answers() if answer[0] != LOG] == expected
    host.packet(1, LINK_LOOK_UP)
    host.device.receive(damage)
    assert [answer for answer in host.answers() if answer[0] != LOG] == [(NAK, b"\x02\x00")]


def test_damage_after_the_session_is_dropped_silently(host: Host) -> None:
    host.packet(0, LINK_LOOK_UP)
    host.send(TERMINATE)
    host.device.receive(b"noise")
    assert host.answers() == []
    host.open()
    host.device.receive(b"noise")
    assert host.answers() == []


def test_nothing_is_sent_twice_of_its_own_accord(host: Host) -> None:
    host.packet(0, LINK_LOOK_UP)
    host.device.clock.sleep(1000.0)
    host.device.receive(b"")
    assert host.answers() == []
