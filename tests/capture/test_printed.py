"""What a board says to people, among its frames."""

from __future__ import annotations

from microrpc.capture.printed import Printed
from microrpc.wire.frames import encode_frame
from microrpc.wire.session import MessageType, encode_log, encode_message

REPLY = encode_frame(encode_message(0x0101, MessageType.NORMAL, b"no text\r\n"))
LOG = encode_frame(encode_log("of the log"))
LINE = b"one\r\n" + REPLY + b"prompt> " + LOG + b"\x1b[31mtwo \xc3\xa9\x00\r\n" + REPLY
SAID = b"one\r\nprompt> of the log\n\x1b[31mtwo \xc3\xa9\x00\r\n"


def test_what_is_printed_comes_as_it_is_and_the_log_in_its_place() -> None:
    assert Printed().feed(LINE) == SAID


def test_it_is_the_same_byte_by_byte_and_nothing_waits_for_its_line_to_end() -> None:
    printed, said = Printed(), b""
    for at in range(len(LINE)):
        said += printed.feed(LINE[at : at + 1])
        if LINE[: at + 1].endswith(b"prompt> "):
            assert said.endswith(b"prompt> ")
    assert said == SAID


def test_frames_that_are_damaged_or_mean_nothing_are_left_out() -> None:
    damaged = REPLY[:-1] + bytes([REPLY[-1] ^ 1])
    empty, short = encode_frame(b""), encode_frame(b"\x03")
    assert Printed().feed(b"a" + damaged + b"b" + empty + short + b"\xfe\xff\xfe" + b"c") == b"abc"
