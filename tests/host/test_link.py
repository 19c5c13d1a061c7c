"""The link's messages and its two state machines, rule by rule (docs/link.md 1 to 4); quotes are from there."""

from __future__ import annotations

import itertools
import math
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim.board.link import LinkDevice
from microrpc.host.blocks import Noise
from microrpc.host.link import LinkHost, LinkRequest
from microrpc.host.roundtrip import RoundTrip
from microrpc.wire.features import Feature
from microrpc.wire.frames import FrameDecoder, encode_frame
from microrpc.wire.link import (
    LinkParameters,
    ReplyKind,
    RequestKind,
    decode_link_message,
    encode_link_message,
    unpack_read,
    unpack_write,
)
from microrpc.wire.session import MessageType

SESSION_ID = 0x2766
PARAMETERS = LinkParameters(window_requests=4, packet_bytes=2048, window_bytes=5000)
REQUEST, REPLY, NAK = MessageType.LINK_REQUEST, MessageType.LINK_REPLY, MessageType.LINK_NAK
PACKET, WRITE, READ = RequestKind.PACKET, RequestKind.WRITE, RequestKind.READ


def slow_crc32(data: bytes) -> int:
    """docs/link.md 2, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def message(kind: MessageType, seq: int, content: str = "") -> bytes:
    """A message, put together by hand."""
    body = bytes.fromhex("6627") + bytes((kind,)) + seq.to_bytes(2, "little") + bytes.fromhex(content)
    return body + zlib.crc32(body).to_bytes(4, "little")


# --- 1. negotiation ---------------------------------------------------------------------------------


def test_the_parameters_lie_in_the_handle_as_the_table_says() -> None:
    parameters = LinkParameters(window_requests=0x08, packet_bytes=0x030201, window_bytes=0x060504)
    assert parameters.handle.to_bytes(8, "little") == bytes.fromhex("01 08 010203 040506")
    assert LinkParameters.from_handle(parameters.handle) == parameters


@given(st.integers(1, 32), st.integers(19, (1 << 24) - 1), st.integers(0, (1 << 24) - 1))
def test_every_handle_can_be_read_again(window_requests: int, packet_bytes: int, window_bytes: int) -> None:
    parameters = LinkParameters(window_requests, packet_bytes, window_bytes)
    assert 0 <= parameters.handle < 1 << 64
    assert LinkParameters.from_handle(parameters.handle) == parameters


@pytest.mark.parametrize(
    "handle",
    [
        0,  # stock firmware
        0x0008_0000_0800_0802,  # another version
        0x0008_0000_0800_0001,  # no window
        0x0008_0000_0800_2101,  # 33 requests
        0x0008_0000_0012_0801,  # no room for a byte of data
    ],
)
def test_a_handle_that_makes_no_sense_is_no_link(handle: int) -> None:
    assert LinkParameters.from_handle(handle) is None


# --- 2. messages ------------------------------------------------------------------------------------


def test_the_crc_is_the_usual_one() -> None:
    assert slow_crc32(b"123456789") == zlib.crc32(b"123456789") == 0xCBF43926


@pytest.mark.parametrize(
    ("kind", "seq", "content", "expected"),
    [
        (REQUEST, 0x0201, "00 0e00000000000000", "6627 20 0102 00 0e00000000000000 c23669a3"),  # PACKET
        (REQUEST, 0x0000, "01 0001000000000000 abcd", "6627 20 0000 01 0001000000000000 abcd c6f61826"),  # WRITE
        (REQUEST, 0xFFFF, "02 0001000000000000 40000000", "6627 20 ffff 02 0001000000000000 40000000 39bdbf8e"),  # READ
        (REPLY, 0x0000, "01", "6627 21 0000 01 3d460773"),  # DONE
        (REPLY, 0x0000, "02 abcd", "6627 21 0000 02 abcd 95a8ee1e"),  # DATA
        (REPLY, 0x0000, "03", "6627 21 0000 03 1127099d"),  # FORGOTTEN
        (NAK, 0x0302, "", "6627 22 0203 c143437d"),
    ],
)
def test_the_bytes_of_every_message_are_these(kind: MessageType, seq: int, content: str, expected: str) -> None:
    wire = bytes.fromhex(expected)
    assert encode_link_message(SESSION_ID, kind, seq, bytes.fromhex(content)) == wire
    assert int.from_bytes(wire[-4:], "little") == slow_crc32(wire[:-4])
    assert decode_link_message(wire) == (kind, seq, bytes.fromhex(content))


def test_a_message_with_any_bit_flipped_or_cut_anywhere_is_a_damaged_one() -> None:
    wire = message(REQUEST, 7, "01 0001000000000000 abcd")
    for bit in range(8 * len(wire)):
        flipped = bytearray(wire)
        flipped[bit // 8] ^= 1 << bit % 8
        assert decode_link_message(bytes(flipped)) is None
    for size in range(len(wire)):
        assert decode_link_message(wire[:size]) is None


def test_the_host_sends_requests_as_the_table_says() -> None:
    host = LinkHost(SESSION_ID, PARAMETERS)
    host.send_packet(bytes.fromhex("0e00000000000000"), 0.0)
    assert host.frames == [encode_frame(message(REQUEST, 0, "00 0e00000000000000"))]
    host = LinkHost(SESSION_ID, PARAMETERS)
    assert host.try_send(host.prepare_write(0x0102030405060708, memoryview(b"\xab\xff")), 0.0)
    assert host.try_send(host.prepare_read(0x100, 0x40), 0.0)
    assert host.frames == [
        encode_frame(message(REQUEST, 0, "01 0807060504030201 abff")),
        encode_frame(message(REQUEST, 1, "02 0001000000000000 40000000")),
    ]


def test_the_bodies_of_writes_and_reads_are_read_again() -> None:
    address, data = unpack_write(bytes.fromhex("0807060504030201 abff"))
    assert (address, bytes(data)) == (0x0102030405060708, b"\xab\xff")
    assert unpack_read(bytes.fromhex("0001000000000000 40000000")) == (0x100, 0x40)


# --- 3. the device ----------------------------------------------------------------------------------


class Board:
    """A device that notes what it executes."""

    def __init__(self, reply: bytes = b"reply", reply_bytes: int = 64, window_requests: int = 4) -> None:
        self.executed: list[tuple[RequestKind, bytes, bool]] = []
        self.reply = reply
        parameters = LinkParameters(window_requests, 2048, 5000)
        self.device = LinkDevice(SESSION_ID, parameters, self._execute, reply_bytes)

    def _execute(self, kind: RequestKind, body: bytes, check_only: bool) -> tuple[ReplyKind, bytes]:
        self.executed.append((kind, body, check_only))
        return {
            PACKET: (ReplyKind.PACKET, self.reply),
            WRITE: (ReplyKind.DONE, b""),
            READ: (ReplyKind.DATA, b"data"),
        }[kind]

    def take(self, seq: int, kind: RequestKind, body: bytes = b"body") -> str:
        """Let it take a request; give what it answers, in short."""
        return self.said(self.device.receive(encode_link_message(SESSION_ID, REQUEST, seq, bytes((kind,)), body)))

    def said(self, payload: bytes | None) -> str:
        if payload is None:
            return "-"
        answer = decode_link_message(payload)
        assert answer is not None
        assert payload[:2] == SESSION_ID.to_bytes(2, "little")
        kind, seq, content = answer
        if kind is NAK:
            assert content == b""
            return f"NAK {seq}"
        return f"{ReplyKind(content[0]).name} {seq} {content[1:].decode()}".strip()


def test_a_write_or_read_is_executed_and_answered_whatever_is_missing_before_it() -> None:
    board = Board()
    assert board.take(2, WRITE) == "DONE 2"
    assert board.take(3, READ) == "DATA 3 data"
    assert (board.device.base, board.device.done) == (0, 0b1100)
    assert board.take(0, WRITE) == "DONE 0"
    assert (board.device.base, board.device.done) == (1, 0b110)
    assert board.take(1, WRITE) == "DONE 1"
    assert (board.device.base, board.device.done) == (4, 0)  # "`base` moves over all set bits"
    assert len(board.executed) == 4


def test_a_packet_is_executed_only_where_nothing_is_missing_else_dropped_and_nak_sent() -> None:
    board = Board()
    assert board.take(1, PACKET) == "NAK 0"
    assert board.take(1, PACKET) == "NAK 0"  # this is no damage, of which it complains once
    assert board.take(0, PACKET) == "PACKET 0 reply"
    assert board.take(1, PACKET) == "PACKET 1 reply"
    assert len(board.executed) == 2


def test_the_last_packet_is_answered_from_memory_and_an_older_one_is_dropped() -> None:
    board = Board()
    board.take(0, PACKET)
    board.reply = b"other"
    assert board.take(0, PACKET) == "PACKET 0 reply"
    board.take(1, WRITE)
    assert board.take(0, PACKET) == "PACKET 0 reply"  # a copy in between changes nothing
    assert board.take(2, PACKET) == "PACKET 2 other"
    assert board.take(0, PACKET) == "-"
    assert board.take(2, PACKET) == "PACKET 2 other"
    assert [kind for kind, _, _ in board.executed] == [PACKET, WRITE, PACKET]


@pytest.mark.parametrize(("size", "again"), [(54, "PACKET 0 " + "x" * 54), (55, "FORGOTTEN 0")])
def test_a_reply_too_long_to_keep_is_told_as_forgotten(size: int, again: str) -> None:
    board = Board(b"x" * size, reply_bytes=64)
    assert board.take(0, PACKET) == "PACKET 0 " + "x" * size
    assert board.take(0, PACKET) == again
    assert board.take(0, PACKET) == again
    assert len(board.executed) == 1


def test_an_old_write_is_only_checked_and_an_old_read_is_executed_again() -> None:
    board = Board()
    for _ in range(2):
        assert board.take(0, WRITE) == "DONE 0"
        assert board.take(1, READ) == "DATA 1 data"
        assert board.take(3, WRITE) == "DONE 3"  # old by its bit, not by the base
    assert [check_only for kind, _, check_only in board.executed if kind is WRITE] == [False, False, True, True]
    assert len(board.executed) == 6
    assert board.device.base == 2


def test_what_is_past_the_window_is_not_allowed_and_dropped() -> None:
    board = Board(window_requests=4)
    board.device.known = Feature.CANCEL
    for kind in RequestKind:
        assert board.take(4, kind) == "-"
        assert board.take(0x7FFF, kind) == "-"
    assert not board.executed
    assert board.take(3, WRITE) == "DONE 3"


def test_sequence_numbers_wrap_around() -> None:
    board = Board()
    board.device.base = 65532
    board.take(65533, WRITE)
    board.take(65532, WRITE)
    assert board.device.base == 65534
    assert board.take(1, WRITE) == "DONE 1"
    assert board.take(65535, WRITE) == "DONE 65535"
    assert board.take(2, WRITE) == "-"
    assert board.take(65534, PACKET) == "PACKET 65534 reply"
    assert board.device.base == 0
    assert board.take(65534, PACKET) == "PACKET 65534 reply"
    assert board.take(0, PACKET) == "PACKET 0 reply"
    assert board.device.base == 2
    assert [kind for kind, _, _ in board.executed].count(PACKET) == 2


def test_damage_is_answered_with_nak_once_and_not_again_before_a_good_request() -> None:
    board = Board()
    damaged = message(REQUEST, 0, "00")[:-1] + b"?"
    assert board.said(board.device.on_damage()) == "-"  # "before, damage is dropped silently"
    assert board.said(board.device.receive(damaged)) == "-"
    board.take(0, PACKET)
    assert board.said(board.device.receive(damaged)) == "NAK 1"
    assert board.said(board.device.on_damage()) == "-"
    assert board.said(board.device.receive(damaged)) == "-"
    board.take(0, PACKET)
    assert board.said(board.device.on_damage()) == "NAK 1"


@pytest.mark.parametrize("content", ["", "04", "ff00"])
def test_a_request_of_an_unknown_kind_is_damage(content: str) -> None:
    board = Board()
    board.take(0, PACKET)
    assert board.said(board.device.receive(message(REQUEST, 1, content))) == "NAK 1"
    assert len(board.executed) == 1


def test_a_packet_counts_as_executed_before_it_runs() -> None:
    board = Board()
    answers: list[str] = []

    def nested(kind: RequestKind, body: bytes, check_only: bool) -> tuple[ReplyKind, bytes]:
        answers.append(board.take(0, PACKET))
        return ReplyKind.PACKET, b"reply"

    board.device.execute = nested
    assert board.take(0, PACKET) == "PACKET 0 reply"
    assert answers == ["FORGOTTEN 0"]


@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from([PACKET, WRITE, READ])), max_size=60))
def test_whatever_comes_every_packet_and_every_write_is_executed_at_most_once(
    requests: list[tuple[int, RequestKind]],
) -> None:
    board = Board()
    for seq, kind in requests:
        board.take(seq, kind, bytes((seq,)))
        assert board.device.done < 1 << PARAMETERS.window_requests
    once = [(kind, body) for kind, body, check_only in board.executed if kind is not READ and not check_only]
    assert len(once) == len(set(once))
    packets = [body for kind, body in once if kind is PACKET]
    assert packets == sorted(packets)


# --- 4. the host ------------------------------------------------------------------------------------


def reply(seq: int, content: str = "01") -> bytes:
    return message(REPLY, seq, content)


def seqs(host: LinkHost) -> list[int]:
    """Take what the host sends now; give the sequence numbers."""
    payloads = FrameDecoder().feed(b"".join(host.frames))
    host.frames.clear()
    return [int.from_bytes(payload[3:5], "little") for payload in payloads if isinstance(payload, bytes)]


def write(host: LinkHost, size: int = 10, now: float = 0.0) -> bool:
    return host.try_send(host.prepare_write(0x1000, memoryview(bytes(size))), now)


def host_with(requests: int, *, now: float = 0.0, byte_s: float = 0.0) -> LinkHost:
    """A host that has sent so many WRITEs."""
    host = LinkHost(SESSION_ID, PARAMETERS, byte_s=byte_s)
    for _ in range(requests):
        assert write(host, now=now)
    seqs(host)
    return host


def test_each_new_request_takes_the_next_seq_and_they_wrap_around() -> None:
    host = LinkHost(SESSION_ID, PARAMETERS)
    for seq in range(300):
        assert host.send_packet(b"call", 0.0) == seq
        assert host.receive(reply(seq, "00"), 0.0) is not None
    host.frames.clear()
    host._next_seq = 65534
    assert all(write(host) for _ in range(4))
    assert not write(host)
    assert seqs(host) == [65534, 65535, 0, 1]
    assert [host.receive(reply(seq), 0.0) is not None for seq in (65534, 65535, 1)] == [True, True, True]
    assert write(host)
    assert write(host)
    assert not write(host)  # 0 is unanswered, and the next would be 4
    assert seqs(host)[-2:] == [2, 3]


def test_no_seq_is_a_window_or_more_past_the_lowest_unanswered_one() -> None:
    host = host_with(4)
    for seq in (1, 2, 3):
        host.receive(reply(seq), 0.0)
    seqs(host)
    assert host.unanswered == 1
    assert not write(host)
    host.receive(reply(0), 0.0)
    assert write(host)
    assert seqs(host) == [4]


def test_a_deadline_allows_for_four_repetitions_of_each_packet_and_no_more() -> None:
    host = LinkHost(SESSION_ID, PARAMETERS, byte_s=0.01)
    for seq in range(2):
        assert host.send_packet(b"call", 0.0) == seq
        assert (host.repeats, host.repeats_s) == (0, 0.0)
        frame_s = len(host.frames[0]) * 0.01
        for count in range(1, 10):
            host.frames.clear()
            host.receive(message(NAK, seq), 0.0)
            assert (host.repeats, host.repeats_s) == (min(count, 4), pytest.approx(min(count, 4) * frame_s))
        host.frames.clear()
        assert host.receive(reply(seq, "00"), 0.0) is not None


def test_the_bytes_of_all_unanswered_requests_less_the_smallest_are_at_most_the_window() -> None:
    big = len(LinkHost(SESSION_ID, PARAMETERS).prepare_write(0x1000, memoryview(bytes(100))).frame)
    small = len(LinkHost(SESSION_ID, PARAMETERS).prepare_write(0x1000, memoryview(bytes(10))).frame)
    assert big - small == 90
    for window_bytes, may in ((big, True), (big - 1, False)):
        host = LinkHost(SESSION_ID, LinkParameters(8, 2048, window_bytes))
        assert write(host, 10)
        assert write(host, 100) is may  # small + big - small
    for window_bytes, may in ((big + small, True), (big + small - 1, False)):
        host = LinkHost(SESSION_ID, LinkParameters(8, 2048, window_bytes))
        assert write(host, 10)
        assert write(host, 100)
        assert write(host, 10) is may


def test_escapes_count_as_bytes_on_the_wire() -> None:
    plain = LinkHost(SESSION_ID, PARAMETERS).prepare_write(0x1000, memoryview(bytes(100)))
    escaped = LinkHost(SESSION_ID, PARAMETERS).prepare_write(0x1000, memoryview(b"\xff" * 100))
    assert len(escaped.frame) - len(plain.frame) >= 100
    host = LinkHost(SESSION_ID, LinkParameters(8, 2048, len(plain.frame)))
    assert host.try_send(host.prepare_write(0x1000, memoryview(b"\xff" * 100)), 0.0)
    assert not host.try_send(host.prepare_write(0x1000, memoryview(b"\xff" * 100)), 0.0)


def test_one_may_always_be_unanswered() -> None:
    host = LinkHost(SESSION_ID, LinkParameters(8, 2048, 0))
    assert write(host, 2000)
    assert not write(host, 1)


@given(st.integers(1, 8), st.integers(0, 600), st.lists(st.tuples(st.integers(0, 3), st.integers(1, 200)), max_size=80))
def test_whatever_is_answered_the_host_keeps_to_the_window(
    window_requests: int, window_bytes: int, steps: list[tuple[int, int]]
) -> None:
    host = LinkHost(SESSION_ID, LinkParameters(window_requests, 2048, window_bytes))
    for step, size in steps:
        if step < 2:
            write(host, size)
        elif host._unanswered:
            unanswered = sorted(host._unanswered)
            host.receive(reply(unanswered[size % len(unanswered)]), 0.0)
        sizes = [len(request.frame) for request in host._unanswered.values()]
        assert len(sizes) <= window_requests
        assert not sizes or max(host._unanswered) - min(host._unanswered) < window_requests
        assert len(sizes) < 2 or sum(sizes) - min(sizes) <= window_bytes


def test_a_later_reply_has_what_was_sent_before_it_sent_again_at_once() -> None:
    host = host_with(4)
    host.receive(reply(2), 0.0)
    assert seqs(host) == [0, 1]
    host.receive(reply(3), 0.0)
    assert seqs(host) == []  # they were sent again after 3
    assert host.retransmissions == 2


def test_of_one_that_was_sent_again_the_first_time_counts() -> None:
    host = host_with(3)
    host.receive(message(NAK, 0), 0.0)
    assert seqs(host) == [0]
    host.receive(reply(0), 0.0)  # to which of the two? to the first, perhaps: 1 and 2 may be on their way
    assert seqs(host) == []


def test_a_nak_has_the_one_sent_again_that_was_sent_longest_ago() -> None:
    host = host_with(3)
    for expected in (0, 1, 2, 0):
        host.receive(message(NAK, 0), 0.0)
        assert seqs(host) == [expected]


def test_damage_has_the_oldest_sent_again_once_and_not_again_before_a_good_message() -> None:
    host = host_with(3)
    host.on_damage(0.0)
    host.on_damage(0.0)
    host.receive(reply(0)[:-1] + b"?", 0.0)
    assert seqs(host) == [0]
    host.receive(reply(1), 0.0)
    seqs(host)
    host.receive(reply(1)[:-1] + b"?", 0.0)
    assert seqs(host) == [2]  # 0 was sent again later


def test_damage_while_nothing_is_unanswered_hides_none_later() -> None:
    host = LinkHost(SESSION_ID, PARAMETERS)
    host.on_damage(0.0)
    host.send_packet(b"call", 0.0)
    assert seqs(host) == [0]
    host.on_damage(0.0)
    assert seqs(host) == [0]


def test_a_storm_of_naks_makes_the_host_hold_no_more_than_its_window() -> None:
    host = host_with(4)
    for _ in range(10_000):
        host.receive(message(NAK, 0), 0.0)
    assert seqs(host) == [0, 1, 2, 3]
    assert host.noise.losses == 4


def test_what_is_not_a_reply_to_an_unanswered_request_is_dropped() -> None:
    host = host_with(2)
    strays = (reply(7), reply(0, ""), reply(0, "04"), message(REQUEST, 0, "00 0001"), message(REPLY, 0xFFFF, "01"))
    for stray in strays:
        assert host.receive(stray, 0.0) is None
    assert host.unanswered == 2
    assert host.receive(reply(0), 0.0) == (0, ReplyKind.DONE, b"", 10)
    assert host.receive(reply(0), 0.0) is None
    assert seqs(host) == []


def test_data_tells_how_much_of_a_read_is_done() -> None:
    host = LinkHost(SESSION_ID, PARAMETERS)
    assert host.try_send(host.prepare_read(0, 100), 0.0)
    assert host.receive(reply(0, "02" + "ab" * 40), 0.0) == (0, ReplyKind.DATA, b"\xab" * 40, 40)


# --- time ---------------------------------------------------------------------------------------------


def test_what_nothing_tells_of_is_sent_again_after_a_time_that_doubles() -> None:
    host = LinkHost(SESSION_ID, PARAMETERS)
    assert host.deadline == math.inf
    host.send_packet(b"call", 10.0)
    seqs(host)
    patience_s, now, waits = 0.15, 10.0, []
    for _ in range(6):
        host.on_time(math.nextafter(host.deadline, 0.0))
        assert seqs(host) == []
        waits.append(host.deadline - now)
        now = host.deadline
        host.on_time(now)
        assert seqs(host) == [0]
    assert waits == pytest.approx([patience_s, 2 * patience_s, 4 * patience_s, 1.0, 1.0, 1.0])
    assert host.receive(reply(0, "00"), now) is not None
    assert host.deadline == math.inf


def test_a_function_of_minutes_is_not_asked_for_every_second() -> None:
    host = LinkHost(SESSION_ID, PARAMETERS)
    host.send_packet(b"call", 0.0)
    seqs(host)
    times = []
    while host.deadline < 600:
        times.append(host.deadline)
        host.on_time(host.deadline)
    assert len(times) < 40
    assert all(later - earlier <= max(1.0, earlier / 4) + 1e-9 for earlier, later in itertools.pairwise(times))
    assert times[-1] > 450


def test_the_time_of_what_is_on_the_wire_is_waited_for_besides() -> None:
    host = LinkHost(SESSION_ID, PARAMETERS, byte_s=0.001)
    request = host.prepare_read(0, 100)
    host.try_send(request, 0.0)
    assert host.deadline == pytest.approx(0.001 * (len(request.frame) + 8 + 10 + 100) + 0.15)
    second = host.prepare_read(0, 50)
    host.try_send(second, 0.0)  # its reply comes after that of the first
    assert second.expected_at == pytest.approx(0.001 * (len(request.frame) + 18 + 100 + 18 + 50))


def test_nothing_is_on_the_wire_any_more_when_all_is_answered() -> None:
    host = LinkHost(SESSION_ID, PARAMETERS, byte_s=0.001)
    host.send_packet(bytes(1000), 0.0)
    host.receive(reply(0, "00"), 0.1)  # the line is faster than was said
    host.send_packet(bytes(10), 0.2)
    assert host.deadline == pytest.approx(0.2 + 0.001 * (28 + 18) + 0.02)


def test_a_request_that_was_lost_is_no_measure_of_the_round_trip() -> None:
    host = LinkHost(SESSION_ID, PARAMETERS)
    host.send_packet(b"call", 0.0)
    assert seqs(host) == [0]
    host.receive(message(NAK, 0), 0.1)
    assert seqs(host) == [0]
    host.receive(reply(0, "00"), 1.5)
    assert not host._packets.is_measured
    host.send_packet(b"call", 2.0)
    assert host.deadline == pytest.approx(2.15)
    host.receive(reply(1, "00"), 2.01)
    assert host._packets.smoothed_s == pytest.approx(0.01)
    host.send_packet(b"call", 3.0)
    assert host.deadline == pytest.approx(3.0 + 0.01 + 0.02)


def test_a_request_that_was_sent_again_because_of_time_is_taken_for_a_slow_one() -> None:
    host = LinkHost(SESSION_ID, PARAMETERS)
    host.send_packet(b"call", 1.0)
    host.on_time(1.2)
    assert host._packets.back_offs == 1
    host.receive(reply(0, "00"), 1.3)
    assert host._packets.smoothed_s == pytest.approx(0.3)  # from the first time on
    assert host._packets.back_offs == 0
    host.send_packet(b"call", 2.0)
    assert host.deadline == pytest.approx(2.0 + 0.3 + 4 * 0.15)


def test_after_each_reply_the_next_has_time_to_cross() -> None:
    host = LinkHost(SESSION_ID, PARAMETERS, byte_s=0.001)
    requests = [host.prepare_read(0, 100)]
    assert host.try_send(requests[0], 0.0)
    assert host.try_send(host.prepare_read(100, 100), 0.0)
    late = requests[0].expected_at + 1.0  # of bytes that were not expected, say
    host.receive(reply(0, "02" + "00" * 100), late)
    assert host.deadline == pytest.approx(late + 0.118 + min(host._copies.patience_s, 1.0))


def test_slow_functions_do_not_make_copies_slow_to_be_sent_again() -> None:
    host = LinkHost(SESSION_ID, PARAMETERS)
    host._packets.measure(1.5)
    assert write(host, now=0.0)
    host.receive(reply(0), 0.01)
    assert write(host, now=1.0)
    assert host.deadline == pytest.approx(1.0 + 0.01 + 0.02)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=20))
def test_the_round_trip_is_smoothed_as_in_rfc_6298(samples: list[float]) -> None:
    round_trip = RoundTrip()
    srtt = rttvar = None
    for sample in samples:
        round_trip.back_off()
        round_trip.measure(sample)
        if srtt is None or rttvar is None:
            srtt, rttvar = sample, sample / 2
        else:
            rttvar = 0.75 * rttvar + 0.25 * abs(srtt - sample)
            srtt = 0.875 * srtt + 0.125 * sample
        assert round_trip.smoothed_s == pytest.approx(srtt, abs=1e-12)
        assert round_trip.patience_s == pytest.approx(min(srtt + max(0.02, 4 * rttvar), 1.0), abs=1e-9)


# --- block size, and shorter repetitions ------------------------------------------------------------------


def test_blocks_are_as_large_as_the_packet_while_nothing_is_damaged() -> None:
    host = host_with(4)
    for seq in range(4):
        host.receive(reply(seq), 0.0)
    assert host.block_bytes == 2048 - 18


@pytest.mark.parametrize(
    ("bytes_passed", "losses", "best"), [(26_000, 1, 822), (2600, 4, 130), (100, 9, 32), (1e9, 1, 2030)]
)
def test_the_block_is_the_one_that_wastes_least(bytes_passed: float, losses: int, best: int) -> None:
    assert Noise(bytes_passed, losses).best_block_bytes(2048) == best
    if 32 < best < 2030:
        wasted = {size: 26 / size + (size + 26) * losses / bytes_passed for size in range(32, 2031)}
        assert abs(min(wasted, key=lambda size: wasted[size]) - best) <= 1


def test_the_noise_of_long_ago_is_forgotten() -> None:
    noise = Noise()
    noise.note_loss(100)
    assert noise.best_block_bytes(2048) == 50
    sizes = []
    for _ in range(400):
        noise.note_success(2000)
        sizes.append(noise.best_block_bytes(2048))
        assert noise.bytes_passed <= 128 * 1024
    assert sizes == sorted(sizes)
    assert noise.best_block_bytes(2048) == 2030


def noisy_host() -> LinkHost:
    return LinkHost(SESSION_ID, PARAMETERS, noise=Noise(10_000, 10))  # blocks of 161 bytes


@pytest.mark.parametrize(("size", "again"), [(1000, 161), (322, 322)])
def test_a_long_write_is_sent_again_shorter_with_the_same_seq_and_address(size: int, again: int) -> None:
    host = noisy_host()
    data = bytes(range(256)) * 4
    request = host.prepare_write(0x1000, memoryview(data)[:size])
    host.try_send(request, 0.0)
    host.frames.clear()
    host.on_time(1.0)
    [payload] = FrameDecoder().feed(b"".join(host.frames))
    address = "0010000000000000"
    assert payload == message(REQUEST, 0, "01" + address + data[:again].hex())
    answer = host.receive(reply(0), 1.0)
    assert answer is not None
    assert answer.size_bytes == again  # "DONE is as true of the shorter"


def test_a_long_read_is_sent_again_shorter_and_data_has_its_own_length() -> None:
    for answered in (161, 1000):
        host = noisy_host()
        host.try_send(host.prepare_read(0x1000, 1000), 0.0)
        host.frames.clear()
        host.on_time(1.0)
        assert FrameDecoder().feed(b"".join(host.frames)) == [message(REQUEST, 0, "02 0010000000000000 a1000000")]
        answer = host.receive(reply(0, "02" + "00" * answered), 1.0)
        assert answer is not None
        assert answer.size_bytes == answered


def test_a_packet_is_never_sent_again_shorter() -> None:
    host = noisy_host()
    host.send_packet(bytes(1000), 0.0)
    host.on_time(1.0)
    assert host.frames[0] == host.frames[1]


def test_losses_count_as_noise_but_slowness_does_not() -> None:
    host = host_with(2)
    host.on_time(1.0)
    assert host.noise.losses == 0
    host.frames.clear()
    host.receive(message(NAK, 0), 1.0)
    assert host.noise.losses == 1


def test_a_request_knows_how_long_its_reply_is() -> None:
    assert LinkRequest(READ, 0, b"", size_bytes=100).reply_bytes == 118
    assert LinkRequest(WRITE, 0, b"", size_bytes=100).reply_bytes == 18
