"""The decoder for sigrok and PulseView says what our own reader of frames says."""

from __future__ import annotations

import ast
import random
import struct
import zlib

import golden
import pytest
from sigrok_decoder import FOLDER, Chunk, Stubbed, expected, recording

from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from firmware_sim.running.loopback import LoopbackChannel
from microrpc.connecting.blocking import open_board
from microrpc.connecting.wrap import tapped
from microrpc.wire.events import (
    EventAck,
    EventMessage,
    EventState,
    encode_event,
    encode_event_ack,
    encode_event_body,
    encode_event_state,
)
from microrpc.wire.frames import FrameDecoder, encode_frame
from microrpc.wire.link import encode_link_message
from microrpc.wire.session import MessageType, Timeouts, encode_log, encode_message


class _Chunks:
    def __init__(self) -> None:
        self.chunks: list[Chunk] = []

    def note(self, time_s: float, data: bytes, *, to_board: bool) -> None:
        self.chunks.append((to_board, bytes(data)))


@pytest.fixture(scope="module")
def conversation() -> list[Chunk]:
    """A conversation over the link, with what a board tells of itself."""
    import numpy as np

    chunks = _Chunks()
    device = Device()
    install(device)
    channel = tapped(chunks)(LoopbackChannel(device))
    with open_board(channel, Timeouts(), seed=1) as board:
        assert board.function("add")(2, 3) == 5
        with board.array(np.arange(600, dtype="float32")) as array:
            array.numpy()
        board.memory()
        board.functions()
        board.function("echo_str")("a\nb\x1b[0m" + 50 * "x")
        board.function("reverse")(b"\xff\xfd\xfe\xff")
        with pytest.raises(Exception, match="always fails"):
            board.function("fail")()
    return chunks.chunks


def compare(chunks: list[Chunk], *, board: str = "rx") -> Stubbed:
    """Hold the decoder against our own reader, chunk by chunk; what a malformed packet is called may differ."""
    stubbed = Stubbed(board)
    for chunk, wanted in zip(chunks, expected(chunks), strict=True):
        said = stubbed.feed(*chunk)
        for mine, right in zip(said, wanted, strict=True):
            if right[1].startswith("? ") or "Exception ?" in right[1]:
                assert (mine[0], mine[1][:2]) == (right[0], "? ")
            elif right[1].startswith("CALL ? "):
                assert mine[1].startswith("CALL ? ")
            else:
                assert mine == right
    return stubbed


@pytest.mark.parametrize("name", golden.NAMES)
def test_golden_recordings_are_told_as_our_own_decoder_tells_them(name: str) -> None:
    compare(recording(name))


def test_a_conversation_over_the_link_is_told_as_our_own_decoder_tells_it(conversation: list[Chunk]) -> None:
    out = compare(conversation).out
    said = " ".join(one[4][0] for one in out if one[0] == "annotation")
    for word in ("add(2, 3)", "a link: ", "WRITE ", "READ ", "DATA ", "bytes used", "DONE", "events, reliable"):
        assert word in said, word


def test_damage_is_told_as_our_own_decoder_tells_it(conversation: list[Chunk]) -> None:
    chance = random.Random(7)
    for _ in range(40):
        damaged = []
        for to_board, data in conversation[:60]:
            wire = bytearray(data)
            for _ in range(chance.choice((0, 0, 1, 3))):
                at = chance.randrange(len(wire))
                wire[at : at + chance.choice((0, 1, 1, 1, 4))] = chance.choice(
                    (
                        b"",
                        b"\xff",
                        b"\xfe",
                        b"\xff\xfd",
                        b"\xff\xfe",
                        b"\xff\xff",
                        b"hi\r\n",
                        b"caf\xc3\xa9\rx\n",
                        bytes(2),
                    )
                )
            if wire:
                damaged.append((to_board, bytes(wire)))
        compare(damaged)


def test_payloads_that_are_wrong_within_good_frames_are_told_as_our_own_decoder_tells_them(
    conversation: list[Chunk],
) -> None:
    payloads = []
    decoders = {True: FrameDecoder(), False: FrameDecoder()}
    for to_board, data in [*conversation, *recording("crt_2k")[:200]]:
        payloads += [(to_board, one) for one in decoders[to_board].feed(data) if isinstance(one, bytes)]
    chance = random.Random(3)
    wrong = []
    for to_board, payload in payloads * 6:
        changed = bytearray(payload[:400])
        for _ in range(chance.choice((0, 1, 2))):
            changed[chance.randrange(len(changed))] = chance.choice((0, 1, 3, 7, 11, 12, 13, 0x7F, 0xFF))
        if len(changed) >= 9 and 0x20 <= changed[2] < 0x29:  # of the link, whose crc32 is to be right
            changed[-4:] = struct.pack("<I", zlib.crc32(changed[:-4]))
        wrong.append((to_board, encode_frame(bytes(changed))))
    compare(wrong)


def test_messages_that_hosts_and_boards_seldom_send_are_told_as_our_own_decoder_tells_them() -> None:
    event = EventMessage(7, True, 1_500_000, "sample", (1, -2.5, 'q"', b"\0\1", *range(9)))
    link = (
        (MessageType.LINK_NAK, b""),
        (MessageType.LINK_CANCEL, b""),
        (MessageType.LINK_CANCEL, b"x"),
        (MessageType.LINK_PROGRESS, struct.pack("<II", 3, 9)),
        (MessageType.LINK_PROGRESS, b"\0"),
        (MessageType.LINK_KEEP_ALIVE, b""),
        (MessageType.LINK_REQUEST, b"\1short"),
        (MessageType.LINK_REQUEST, b"\2short"),
        (MessageType.LINK_REQUEST, b"\x09"),
        (MessageType.LINK_REPLY, b"\3"),
        (MessageType.LINK_REPLY, b"\x09"),
    )
    payloads = [
        b"",
        b"\1",
        encode_event(5, encode_event_body(event)),
        encode_event(5, encode_event_body(event._replace(is_reliable=False, values=(1,)))),
        encode_event(5, encode_event_body(event)[:-1]),
        encode_event_ack(5, EventAck(3, 1000, True)),
        encode_event_ack(5, EventAck(3, 0, False)),
        encode_event_state(5, EventState(0xABC, 4, 5)),
        encode_event_state(5, EventState(0xABC, 4, 5))[:-1] + b"\0",
        *(encode_link_message(5, kind, 9, content) for kind, content in link),
        encode_link_message(5, MessageType.LINK_NAK, 9)[:-1],
        *map(encode_log, ("", "plain", "[W 0012.345678] warm", "[E ----.------] no clock", "[E 9999.999999] late")),
        encode_message(0, MessageType.LOG, b"\xff\xe2\x82"),
        encode_message(0x105, MessageType.START_SESSION_INIT, b"\1"),
        encode_message(5, MessageType.START_SESSION_REPLY, b""),
        encode_message(5, MessageType.TERMINATE_SESSION),
        encode_message(0, MessageType.TERMINATE_SESSION, b"x"),
        encode_message(5, MessageType.NORMAL, bytes(8)),
        bytes((1, 2, 0x77, 4)),
    ]
    for payload in payloads:
        for to_board in (False, True):
            compare([(to_board, encode_frame(payload))]) if payload else None
    assert Stubbed().feed(True, encode_frame(b"")) == [("to-board", "? too short for a message (0 B, session 0x0000)")]


def test_the_board_may_be_on_either_line() -> None:
    compare(recording("crt_2k")[:50], board="tx")


def test_annotations_span_their_frame_from_its_first_byte_to_its_last() -> None:
    stubbed = Stubbed()
    frame = encode_frame(encode_log("\xff\xff"))
    stubbed.feed(False, b"\xfe" + frame + b"text\n" + frame, pause_bytes=0)
    spans = [(one[1], one[2]) for one in stubbed.out if one[0] == "annotation"]
    first, size = 11, 10 * len(frame)
    text = first + size
    assert spans == [(first, first + size - 2), (text, text + 48), (text + 50, text + 50 + size - 2)]


def test_payloads_come_out_as_binary_data_by_direction() -> None:
    stubbed = Stubbed()
    stubbed.feed(True, encode_frame(b"to it \xff"))
    stubbed.feed(False, encode_frame(b"from it"))
    assert [one[3:] for one in stubbed.out if one[0] == "binary"] == [(0, b"to it \xff"), (1, b"from it")]


def test_text_without_an_end_of_line_is_told_after_a_pause_and_noise_in_bounded_pieces() -> None:
    stubbed = Stubbed()
    assert stubbed.feed(False, b"login: ", pause_bytes=19) == []
    assert stubbed.feed(False, b"me ", pause_bytes=20) == [("text", 'text "login: me " (from the board)')]
    assert [text for _, text in stubbed.feed(True, bytes(9000))] == [
        f"noise {size} bytes outside of any frame (to the board)" for size in (4096, 4096, 808)
    ]


@pytest.mark.parametrize("what", ["INVALID STOPBIT", "PARITY ERROR", "BREAK"])
def test_faults_that_the_uart_saw_are_shown(what: str) -> None:
    stubbed = Stubbed()
    stubbed.decoder.decode(5, 9, [what, 0, 0])
    [(_, first, last, row, texts)] = stubbed.out
    assert (first, last, row, texts[1]) == (5, 9, 6, what.lower())


def test_a_decoder_that_is_reset_forgets_what_it_saw() -> None:
    stubbed = Stubbed()
    stubbed.feed(False, b"\xff\xfd\x09")
    stubbed.decoder.reset()
    assert stubbed.feed(False, encode_frame(encode_log("x"))) == [("log", 'LOG "x" (4 B, session 0x0000)')]


def test_it_runs_in_the_python_3_4_that_pulseview_brings_for_windows() -> None:
    for path in (FOLDER / "microrpc").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 4))
        imported = {node.names[0].name for node in ast.walk(tree) if isinstance(node, ast.Import)}
        assert imported <= {"binascii", "re", "struct", "zlib", "sigrokdecode"}, path
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)], path
