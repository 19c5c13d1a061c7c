"""What a conversation came to."""

from __future__ import annotations

import struct

from golden import load

from microrpc.capture.records import RecordReader
from microrpc.capture.summary import Summary, is_wrong
from microrpc.wire.frames import encode_frame
from microrpc.wire.link import ReplyKind, RequestKind, encode_with_kind
from microrpc.wire.session import MessageType


def test_a_recording_without_faults_has_nothing_wrong() -> None:
    reader, summary = RecordReader(), Summary()
    for number, burst in enumerate(load("crt_2k")):
        for record in reader.read(number, 0, burst.dir == "host", burst.data):
            summary.add(record)
            assert not is_wrong(record)
    assert summary.words() == "504 frames to the board, 504 from it"


def test_one_of_a_kind_is_no_plural() -> None:
    reader, summary = RecordReader(), Summary()
    for to_board, data in ((True, encode_frame(b"\0\0\2")), (False, b"\0")):
        for record in reader.read(1, 0, to_board, data):
            summary.add(record)
    assert summary.words() == "1 frame to the board, 0 from it; 1 byte of noise"


def test_everything_that_goes_wrong_is_counted() -> None:
    reader, summary = RecordReader(), Summary()
    read = encode_frame(
        encode_with_kind(1, MessageType.LINK_REQUEST, 0, RequestKind.READ, struct.pack("<QI", 0x100, 3))
    )
    damaged = bytearray(read)
    damaged[10] ^= 1
    said = [read, read, bytes(damaged), b"hello\n", b"\0\1", encode_frame(b"\1"), encode_frame(b"\0\0\2")]
    wrong = []
    done = encode_frame(encode_with_kind(1, MessageType.LINK_REPLY, 5, ReplyKind.DONE, b""))
    write = encode_frame(encode_with_kind(1, MessageType.LINK_REQUEST, 5, RequestKind.WRITE, bytes(8)))
    for to_board, data in ((True, write), (False, done), (False, done)):
        for record in reader.read(1, 0, to_board, data):
            summary.add(record)
    for data in said:
        for record in reader.read(1, 0, True, data):
            summary.add(record)
            wrong.append(is_wrong(record))
    assert wrong == [False, False, True, False, True, True, False]
    assert summary.words() == (
        "5 frames to the board, 2 from it; 1 damaged; 1 malformed; 2 sent again by the link; "
        "1 unanswered; 6 bytes of text; 2 bytes of noise"
    )
