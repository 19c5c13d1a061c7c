"""Frames of a line, put in words."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from firmware_sim.running.loopback import LoopbackChannel
from microrpc.capture.trace import Trace
from microrpc.capture.words import DAMAGED, NOISE, Frame, FrameReader
from microrpc.connecting.blocking import open_board
from microrpc.connecting.wrap import RecordingChannel
from microrpc.errors import PortLostError, RemoteError
from microrpc.wire.frames import FrameEncoder, encode_frame
from microrpc.wire.link import encode_link_message
from microrpc.wire.session import MessageType, Timeouts, encode_log

LOG = FrameEncoder().encode(encode_log("hello"))


def told(trace: Trace) -> list[str]:
    return [f"{'>' if frame.to_board else '<'} {frame.kind} {frame.meaning}" for frame in trace.frames]


@pytest.fixture
def channel() -> RecordingChannel:
    device = Device()
    install(device)
    return RecordingChannel(LoopbackChannel(device))


def test_a_conversation_in_words(channel: RecordingChannel) -> None:
    with open_board(channel, Timeouts(), seed=1, link=False) as board:
        assert board.function("fadd")(0.5, 1) == 1.5
        with board.array(np.zeros((2, 3), "int16")) as array:
            array.numpy()
        board.function("reverse")(b"\1\2")
        board.function("reverse")(bytes(300))
        board.function("echo_str")('a "quoted" line\n' + 60 * "x")
        with pytest.raises(RemoteError):
            board.function("fail")()
    lines = told(channel.trace)
    for line in (
        "< TERMINATE I have booted",
        "> TERMINATE any session there was is over",
        '> GetGlobalFunc "fadd"',
        "> CallFunc fadd(0.5, 1)",
        "< Return 1.5",
        "> CopyToRemote 12 bytes to int16[6] at 0x20000000 +0",
        "> CopyFromRemote 12 bytes of int16[6] at 0x20000000 +0",
        "< CopyAck 12 bytes",
        "> CallFunc reverse(bytes:0102)",
        "> CallFunc reverse(300 bytes)",
        r'> CallFunc echo_str("a \"quoted\" line\nxxxxxxxxxxxxxxxxxxxxx...")',
        "> CallFunc fail()",
        '< Exception "fail: this function always fails"',
    ):
        assert line in lines, line
    assert any(re.fullmatch("< REPLY session 0x[0-9a-f]{4}; my nonce is 0x[0-9a-f]{2}", line) for line in lines)
    assert channel.trace.unfinished == []
    assert channel.frames == channel.trace.frames


def test_names_of_functions_are_forgotten_when_the_board_boots(channel: RecordingChannel) -> None:
    with open_board(channel, Timeouts(), seed=1, link=False) as board:
        add = board.function("add")
        channel.trace.note(0, FrameEncoder().encode(bytes([0, 0, MessageType.TERMINATE_SESSION])), to_board=False)
        add(1, 2)
    assert any(re.fullmatch(r"> CallFunc 0x8000[0-9a-f]+\(1, 2\)", line) for line in told(channel.trace))


def test_a_frame_as_a_line() -> None:
    frame = Frame(1.2345, True, b"1234", "INIT", "open a session", 4)
    assert frame.line(1.0) == "    234.5 ms  -> board     4 B  INIT            open a session"
    frame = Frame(1.2345, False, b"", DAMAGED, "bad crc", 0)
    assert frame.line(1.0) == "    234.5 ms  <- board     ? B  damaged         bad crc"


def test_damage_and_noise_are_told_where_they_were() -> None:
    trace = Trace()
    trace.note(1.0, b"\x01\x02", to_board=False)
    trace.note(2.0, b"\x03", to_board=False)
    trace.note(3.0, LOG, to_board=False)
    trace.note(4.0, LOG[:-1] + b"\x00", to_board=False)
    trace.note(5.0, LOG[:9], to_board=False)
    assert trace.unfinished == ["from the board"]
    trace.note(6.0, LOG, to_board=False)
    trace.note(7.0, b"\x04", to_board=True)
    noise, log, crc, cut, last, other = trace.frames
    assert (noise.time_s, noise.kind, noise.size_bytes, noise.to_board) == (1.0, NOISE, 3, False)
    assert (log.kind, log.meaning) == ("LOG", '"hello"')
    assert (crc.kind, crc.time_s) == (DAMAGED, 4.0)
    assert crc.meaning.startswith("bad crc: ")
    assert cut.meaning.startswith("short packet: the sender restarted")
    assert (last.kind, other.kind, other.to_board) == ("LOG", NOISE, True)
    assert trace.log_lines == [(3.0, "hello"), (6.0, "hello")]
    assert trace.unfinished == []
    assert (trace.frame_count, trace.bytes_to_board) == (6, 1)


def test_what_a_terminal_would_obey_is_escaped() -> None:
    trace = Trace()
    trace.note(0.0, FrameEncoder().encode(encode_log("\x1b[2J")), to_board=False)
    assert trace.frames[0].line(0.0).endswith(r'"\x1b[2J"')


def test_messages_that_are_none() -> None:
    trace = Trace()
    encode = FrameEncoder().encode
    for payload in (b"", b"\x01", b"\x01\x02\x77ab", b"\x01\x02\x10", b"\x01\x02\x10" + bytes(8) + b"\x63\0\0\0"):
        trace.note(0, encode(payload), to_board=True)
    assert told(trace)[:3] == [
        "> ? too short for a message",
        "> ? too short for a message",
        "> type 0x77 2 bytes",
    ]
    assert [line[:3] for line in told(trace)[3:]] == ["> ?", "> ?"]


def test_only_the_last_frames_are_kept_and_memory_is_bounded() -> None:
    trace = Trace(keep_frames=3)
    for number in range(20_000):
        trace.note(number, LOG, to_board=False)
    assert trace._pending_bytes < 1 << 17
    assert [frame.time_s for frame in trace.frames] == [19997, 19998, 19999]
    assert (trace.frame_count, trace.bytes_to_host) == (20_000, 20_000 * len(LOG))
    assert len(trace.log_lines) == 3
    trace.clear()
    assert (trace.frames, trace.frame_count, trace.log_lines, trace.bytes_to_host) == ([], 0, [], 0)


def test_the_names_that_are_kept_are_bounded(channel: RecordingChannel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microrpc.capture.words._MOST_NAMES", 2)
    with open_board(channel, Timeouts(), seed=1, link=False) as board:
        kept = [board.global_function(name) for name in ("add", "runtime.SystemLib", "tvm.testing.nop")]
        assert board.function("add")(1, 2) == 3
        assert kept
    channel.trace.frames  # noqa: B018  # decodes
    assert len(channel.trace._reader._names) <= 2


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=40) | st.binary(max_size=40).map(FrameEncoder().encode))))
def test_nothing_that_passes_breaks_it(pieces: list[tuple[bool, bytes]]) -> None:
    trace = Trace(keep_frames=5)
    for to_board, data in pieces:
        trace.note(0.0, data, to_board=to_board)
    assert all(frame.line(0.0).isprintable() for frame in trace.frames)


@given(st.binary(max_size=60), st.booleans())
def test_any_packet_is_told_in_words(body: bytes, to_board: bool) -> None:
    trace = Trace()
    trace.note(0.0, FrameEncoder().encode(b"\x01\x02\x10" + bytes(8) + body), to_board=to_board)
    (frame,) = trace.frames
    assert frame.line(0.0).isprintable()


def test_what_could_not_be_sent_is_recorded_too(channel: RecordingChannel) -> None:
    channel.close()
    with pytest.raises(PortLostError):
        channel.write(LOG, 1.0)
    assert told(channel.trace) == ['> LOG "hello"']


def test_what_crosses_a_link_is_told_by_what_it_carries_and_its_number(channel: RecordingChannel) -> None:
    with open_board(channel, Timeouts(), seed=1) as board:
        add = board.function("add")
        add(2, 3)
        with board.array(np.arange(6, dtype=np.uint8)) as array:
            array.numpy()
    said = told(channel.trace)
    assert said[4] == '> GetGlobalFunc "microrpc.link"'
    assert said[6:] == [
        '> GetGlobalFunc "add" #0',
        "< Return 0x8000000000000006 #0",
        "> CallFunc add(2, 3) #1",
        "< Return 5 #1",
        "> DevAllocDataWithScope uint8[6], nothing #2",
        "< Return 0x20000000 #2",
        "> WRITE 6 bytes to 0x20000000 #3",
        "< DONE #3",
        "> READ 6 bytes at 0x20000000 #4",
        "< DATA 6 bytes #4",
        "> DevFreeData Device(type=1, id=0), 0x20000000 #5",
        "< Return nothing #5",
        "> FreeHandle 0x8000000000000006, 10 #6",
        "< Return nothing #6",
        "> TERMINATE any session there was is over",
    ]


def test_a_complaint_over_a_link_is_told() -> None:
    reader = FrameReader()
    nak = encode_link_message(0x2766, MessageType.LINK_NAK, 7)
    (frame,) = reader.read(0.0, False, encode_frame(nak))
    assert (frame.kind, frame.meaning) == ("NAK", "something was damaged; I wait for #7")
    (damaged,) = reader.read(0.0, False, encode_frame(nak[:-1] + b"x"))
    assert (damaged.kind, damaged.meaning) == ("damaged", "crc32")
