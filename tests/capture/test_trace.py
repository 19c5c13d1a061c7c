"""Frames of a line, put in words."""

from __future__ import annotations

import re
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from firmware_sim.running.loopback import LoopbackChannel
from microrpc.capture.messages import DAMAGED
from microrpc.capture.phrases import looked_up
from microrpc.capture.records import NOISE, TEXT
from microrpc.capture.trace import Trace
from microrpc.capture.words import Frame, FrameReader
from microrpc.connecting.blocking import open_board
from microrpc.connecting.wrap import RecordingChannel
from microrpc.errors import PortLostError, ProtocolError, RemoteError
from microrpc.wire.frames import FrameEncoder, encode_frame
from microrpc.wire.link import encode_link_message
from microrpc.wire.packets import CallFunc, PacketCode, Syscall, encode_packet
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


def test_of_progress_and_of_polls_in_a_row_only_the_last_are_kept_in_a_report() -> None:
    acked, stated, news = (
        "23 24 00000000 0010 00",
        "23 25 07000000 00000000 00000000",
        "23 25 07000000 01000000 00000000",
    )
    says = [(True, acked), (False, stated), (True, acked), (False, stated), (True, acked), (False, news)]
    says += [(False, f"23 27 0500 {done:02x}000000 09000000") for done in (1, 2, 3)]
    says += [(True, "23 26 0500"), (False, "23 27 0500 04000000 09000000")]
    bounded, whole = Trace(keep_frames=30), Trace()
    for time_s, (to_board, text) in enumerate(says):
        payload = bytes.fromhex("11" + text)
        for trace in (bounded, whole):
            trace.note(time_s, encode_frame(payload + struct.pack("<I", zlib.crc32(payload))), to_board=to_board)
    assert [frame.time_s for frame in whole.frames] == list(range(11))
    assert [frame.time_s for frame in bounded.frames] == [2, 3, 4, 5, 8, 9, 10]
    assert [frame.kind for frame in bounded.frames][:5] == ["EVENT_ACK", "EVENT_STATE"] * 2 + ["PROGRESS"]
    assert (bounded.frame_count, bounded.left_out, whole.left_out) == (11, 4, 0)
    bounded.clear()
    assert bounded.left_out == 0


def test_the_names_that_are_kept_are_bounded(channel: RecordingChannel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microrpc.capture.records._MOST_NAMES", 2)
    with open_board(channel, Timeouts(), seed=1, link=False) as board:
        kept = [board.global_function(name) for name in ("add", "runtime.SystemLib", "tvm.testing.nop")]
        assert board.function("add")(1, 2) == 3
        assert kept
    channel.trace.frames  # noqa: B018  # decodes
    assert len(channel.trace._reader._reader._matching._names) <= 2


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
    said = [re.sub("0x80000000000000[0-9a-f]{2}", "ADD", line) for line in told(channel.trace)]
    assert said[4:6] == [
        '> GetGlobalFunc "microrpc.link"',
        "< Return a link: 8 requests, 2148 bytes, messages of 2048",
    ]
    assert said[6] == '> GetGlobalFunc "microrpc.features"'
    assert said[7].startswith("< Return events, reliable, progress, cancel, describe, memory; description 0x")
    assert said[8:] == [
        '> GetGlobalFunc "add" #0',
        "< Return ADD #0",
        "> CALL add(2, 3) #1",
        "< Return 5 #1",
        "> DevAllocDataWithScope uint8[6], nothing #2",
        "< Return 0x20000000 #2",
        "> WRITE 6 bytes to 0x20000000 #3",
        "< DONE #3",
        "> READ 6 bytes at 0x20000000 #4",
        "< DATA 6 bytes #4",
        "> DevFreeData Device(type=1, id=0), 0x20000000 #5",
        "< Return nothing #5",
        "> FreeHandle ADD, 10 #6",
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


def sealed(text: str) -> bytes:
    """Give a payload from hex, with the crc32 behind it."""
    payload = bytes.fromhex(text)
    return payload + struct.pack("<I", zlib.crc32(payload))


EVENT = "6627 23 0c000000 01 15cd5b07 06 73616d706c65"  # reliable #12 "sample" at 123.456789 s


@pytest.mark.parametrize(
    ("payload", "told_as"),
    [
        (EVENT, 'EVENT reliable #12 "sample"() at 123.456789 s'),
        (
            f"{EVENT} 00 feffffffffffffff 02 000000000000f83f 0b 0200 686f 0c 0300 010203",
            'EVENT reliable #12 "sample"(-2, 1.5, "ho", bytes:010203) at 123.456789 s',
        ),
        ("6627 23 07000000 00 00000000 00", 'EVENT #7 ""() at 0.000000 s'),
        (f"{EVENT} 0b 0300 6162", "damaged crc32, or lengths that do not add up"),
        ("6627 24 05000000 0008 00", "EVENT_ACK 2048 bytes of events may come, reliable ones from #5 on"),
        (
            "6627 24 05000000 0008 01",
            "EVENT_ACK 2048 bytes of events may come, reliable ones from #5 on; send again what was lost",
        ),
        ("6627 25 78563412 07000000 03000000", "EVENT_STATE boot 0x12345678; next is #7, of reliable ones #3"),
        ("6627 25 78563412 07000000 030000", "damaged crc32, or lengths that do not add up"),
        ("6627 26 0500", "CANCEL end #5"),
        ("6627 26 0500 01", "CANCEL none that is to be taken: 1 bytes #5"),
        ("6627 27 0500 1e000000 64000000", "PROGRESS 30 of 100 #5"),
        ("6627 27 0500 1e0000", "PROGRESS none that is to be taken: 3 bytes #5"),
        ("6627 28 0000", "KEEP_ALIVE is anybody there?"),
        ("6627 20 0500 03 03000000 0900000000000000 01000000 00000000 0200000000000000", "CALL 0x9(2) #5"),
        ("6627 20 0500 03 01000000", "CALL Shutdown  #5"),
        ("6627 20 0500 03", "CALL ? "),
    ],
)
def test_events_and_long_calls_are_told_in_words(payload: str, told_as: str) -> None:
    (frame,) = FrameReader().read(0.0, False, encode_frame(sealed(payload)))
    assert f"{frame.kind} {frame.meaning}".startswith(told_as)
    (frame,) = FrameReader().read(0.0, False, encode_frame(sealed(payload)[:-1] + b"x"))
    assert (frame.kind, frame.meaning[:5]) == (DAMAGED, "crc32")


def test_an_event_of_many_values_is_told_in_few_words() -> None:
    name, text = 255 * "6e", "0b 0900" + 9 * "22"
    payload = sealed(f"6627 23 0c000000 00 00000000 ff {name} {300 * text}")
    (frame,) = FrameReader().read(0.0, False, encode_frame(payload))
    assert len(frame.meaning) < 1000
    assert frame.meaning.endswith("and 292 more) at 0.000000 s")


def test_what_a_board_tells_of_itself_is_told_in_words() -> None:
    device = Device(packet_size_bytes=128)
    features = 0x12345678_0BB8_33_01
    device.function(lambda: b"microrpc\t1\tabcd\n", name="microrpc.describe", registry="global")
    channel = RecordingChannel(LoopbackChannel(device))
    with open_board(channel, Timeouts(), seed=1, link=False) as board:
        board.memory()
        board.function("microrpc.describe")()
    said = told(channel.trace)
    assert "< Return 0 of 262144 bytes used, 262136 at once" in said
    assert '< Return 16 bytes, "microrpc\t1\tabcd\\n"' in said
    assert looked_up("microrpc.features", features) == (
        "events, reliable, describe, memory; a host is gone after 3000 ms; description 0x12345678"
    )
    assert looked_up("microrpc.features", 0x01) == "no feature that is known, 0x1"
    assert looked_up("microrpc.features", 0x3302) == "no feature that is known, 0x3302"
    assert looked_up("microrpc.features", 0) == "no features"
    assert looked_up("microrpc.link", 0) == "no link"
    assert looked_up("microrpc.link", 7) == "a link that nobody knows, 0x7"
    assert looked_up("add", 7) is None


def test_a_memory_report_that_is_none_is_told_as_it_is() -> None:
    device = Device()
    device.functions["microrpc.memory"] = lambda: 5
    channel = RecordingChannel(LoopbackChannel(device))
    with open_board(channel, Timeouts(), seed=1, link=False) as board, pytest.raises(ProtocolError):
        board.memory()
    assert "< Return 5" in told(channel.trace)


@pytest.mark.parametrize(
    ("text", "told_as"),
    [
        ("[W 0012.345678] hot", 'warning at 12.345678 s: "hot"'),
        ("[E ----.------] fire", 'error: "fire"'),
        ("[W 12.345678] hot", '"[W 12.345678] hot"'),
    ],
)
def test_a_level_before_a_line_of_the_log_is_told(text: str, told_as: str) -> None:
    (frame,) = FrameReader().read(0.0, False, encode_frame(encode_log(text)))
    assert (frame.kind, frame.meaning) == ("LOG", told_as)


def test_what_firmware_prints_is_told_line_by_line_however_it_arrives() -> None:
    trace = Trace()
    for at, data in enumerate([b"\x1b[31mHard", b"Fault\x1b[0m\r\nR0 = 1\n", b">>> ", LOG, b"x" * 300, b"y", b"\0"]):
        trace.note(float(at), data, to_board=False)
    assert [
        (frame.kind, frame.size_bytes, frame.line(0.0).split(frame.kind)[-1].strip()) for frame in trace.frames
    ] == [
        (TEXT, 20, r'"\x1b[31mHardFault\x1b[0m"'),
        (TEXT, 7, '"R0 = 1"'),
        (TEXT, 4, '">>> "'),
        ("LOG", 8, '"hello"'),
        (TEXT, 300, f'"{37 * "x"}..."'),
        (TEXT, 1, '"y"'),
        (NOISE, 1, "outside of any frame"),
    ]


def test_a_line_beside_a_broken_frame_is_told_as_text() -> None:
    trace = Trace()
    trace.note(0.0, b"T = 21.5 C\r\n\0\1rest\r\n\2\0OK\n", to_board=False)
    assert [(frame.kind, frame.meaning) for frame in trace.frames] == [
        (TEXT, '"T = 21.5 C"'),
        (NOISE, "outside of any frame"),
    ]


@pytest.mark.parametrize(
    ("payload", "told_as"),
    [
        ("0201 00 01", "INIT none that is to be taken: session 0x0102, then bytes:01"),
        ("0200 00 0100", "INIT none that is to be taken: session 0x0002, then bytes:0100"),
        ("0201 01", "REPLY none that is to be taken: session 0x0102, then nothing"),
        ("0201 02 00", "TERMINATE none that is to be taken: session 0x0102, then bytes:00"),
        ("0201 02", "TERMINATE session 0x0102 is over"),
        ("0000 02", "TERMINATE I have booted"),
    ],
)
def test_a_session_message_that_nobody_takes_is_told_as_such(payload: str, told_as: str) -> None:
    (frame,) = FrameReader().read(0.0, False, encode_frame(bytes.fromhex(payload)))
    assert f"{frame.kind} {frame.meaning}" == told_as


@pytest.mark.parametrize(
    ("packet", "told_as"),
    [
        (struct.pack("<ii", 4, 0), "Return no value at all"),
        (struct.pack("<iiii", 4, 2, 4, 4), "Return nothing, nothing"),
        (struct.pack("<ii", 4, -1), "? "),
        (b"\4", "? "),
    ],
)
def test_a_reply_that_no_board_should_give_is_told_too(packet: bytes, told_as: str) -> None:
    trace = Trace()
    for request in (None, Syscall(PacketCode.GET_GLOBAL_FUNC, ("f",)), CallFunc(1, ())):
        if request is not None:
            trace.note(0.0, encode_frame(b"\1\2\x10" + encode_packet(request)), to_board=True)
        trace.note(0.0, encode_frame(b"\1\2\x10" + bytes(8) + packet), to_board=False)
        trace.note(
            0.0, encode_frame(encode_link_message(0x201, MessageType.LINK_REPLY, 3, b"\0", packet)), to_board=False
        )
    lines = [line for line in told(trace) if line.startswith("<")]
    assert len(lines) == 6
    assert all(line.startswith(f"< {told_as}") for line in lines[:4])


@pytest.mark.parametrize(("kind", "name"), [(1, "WRITE"), (2, "READ")])
@pytest.mark.parametrize("size_bytes", [0, 7, 11, 13])
def test_a_message_of_the_link_that_is_too_short_is_told_too(kind: int, name: str, size_bytes: int) -> None:
    message = encode_link_message(0x201, MessageType.LINK_REQUEST, 3, bytes([kind]), bytes(size_bytes))
    (frame,) = FrameReader().read(0.0, True, encode_frame(message))
    assert frame.kind == name
    if size_bytes < 8:
        assert "address" in frame.meaning


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.sampled_from([*MessageType, 0x77]),
            st.sampled_from([b"", b"\0", b"\1", b"\2", b"\3", b"\4\0\0\0", b"\0\4\0\0\0", b"\0\3\0\0\0"]),
            st.binary(max_size=30),
        ),
        max_size=12,
    )
)
def test_no_message_of_any_type_breaks_it(messages: list[tuple[bool, int, bytes, bytes]]) -> None:
    trace = Trace()
    for to_board, message_type, head, body in messages:
        if message_type >= MessageType.LINK_REQUEST and message_type != 0x77:
            payload = encode_link_message(1, MessageType(message_type), 1, head, body)
        else:
            payload = b"\1\0" + bytes([message_type]) + bytes(8) + head + body
        trace.note(0.0, encode_frame(payload), to_board=to_board)
    assert len(trace.frames) == len(messages)
    assert all(frame.line(0.0).isprintable() for frame in trace.frames)
