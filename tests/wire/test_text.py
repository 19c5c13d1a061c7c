"""Text beside frames: what is text, where its lines end, and what is never taken for it."""

from __future__ import annotations

import math

import pytest

from microrpc.wire.frames import FrameDecoder, Garbage, encode_frame
from microrpc.wire.text import HEARD_BYTES, SILENCE_S, TextReader, is_text


class Reader(TextReader):
    """A reader that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        super().__init__(self.lines.append)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"T = 21.5 C\r\n",
        b"\x1b[1;31mERROR\x1b[0m\t\x0b\x0c",
        b"autoboot: 3\x08\x08\x08 2\x07",
        "21.5 °C, 日本, \U0001f600".encode(),
        "日".encode()[:2],  # cut at its end
        "日".encode()[1:] + b"x",  # and at its beginning
        "\U0001f600".encode()[1:],
    ],
)
def test_text_is_what_is_printable_white_space_ansi_escapes_and_utf_8_that_may_be_cut(data: bytes) -> None:
    assert is_text(data)


@pytest.mark.parametrize(
    "data",
    [
        b"abc\0",
        b"\x01",
        b"\x7f",
        b"\xff",
        b"a\xe2b",  # begun and not continued
        b"a\x80",  # continued and not begun
        b"\x80\x80\x80\x80a",
        b"\xc0\x80",  # NUL, the long way
        b"\xed\xa0\x80",  # half a surrogate pair
        b"\xf5\x80\x80\x80",
        encode_frame(b"hello, hello, hello")[1:],
        encode_frame(b"hello, hello, hello")[2:],
    ],
)
def test_what_has_a_byte_that_no_text_has_is_none(data: bytes) -> None:
    assert not is_text(data)


def test_a_line_is_told_when_it_ends_however_it_arrives() -> None:
    text = b"one\r\n\r\n  \n two \r\nthree\n"
    for size in range(1, len(text) + 1):
        reader = Reader()
        for at in range(0, len(text), size):
            assert reader.feed(text[at : at + size], 0.0, 0) == b""
        assert reader.lines == ["one", " two", "three"]
        assert reader.size_bytes == len(text)


def test_a_line_goes_on_after_a_frame_in_the_middle_of_it() -> None:
    reader = Reader()
    reader.feed("a°b".encode()[:2], 0.0, 1)
    reader.feed("a°b".encode()[2:] + b"c\n", 0.0, 2)
    assert reader.lines == ["a°bc"]


def test_a_line_without_a_newline_ends_with_silence() -> None:
    reader = Reader()
    reader.feed(b">>> ", 10.0, 0)
    reader.feed(b"1", 10.0 + SILENCE_S * 0.99, 0)
    assert reader.lines == []
    reader.feed(b">>> ", 10.0 + SILENCE_S * 2, 0)
    assert reader.lines == [">>> 1"]
    reader.flush()
    assert reader.lines == [">>> 1", ">>>"]


def test_a_carriage_return_ends_a_line_too_and_with_a_newline_it_is_one_end() -> None:
    reader = Reader()
    reader.feed(b"10 %\r20 %\r\n30 %\r", 0.0, 0)
    reader.feed(b"\n40 %", 0.0, 0)
    assert reader.lines == ["10 %", "20 %", "30 %"]
    reader.flush()
    assert reader.lines == ["10 %", "20 %", "30 %", "40 %"]


def test_it_tells_when_a_line_that_has_begun_is_to_be_ended() -> None:
    reader = Reader()
    assert reader.ends_at == math.inf
    reader.feed(b">>> ", 10.0, 0)
    assert reader.ends_at == 10.0 + SILENCE_S
    reader.feed(b"1", 10.1, 0)
    assert reader.ends_at == 10.1 + SILENCE_S
    reader.flush()
    assert (reader.ends_at, reader.lines) == (math.inf, [">>> 1"])
    reader.feed(b"\0", 20.0, 0)  # what comes long after it need not be of that frame
    assert reader.ends_at == 20.0 + SILENCE_S
    reader.feed(b"\r\n", 20.0, 0)
    assert reader.ends_at == math.inf


def test_a_line_before_a_frame_is_ended_by_the_silence_behind_that() -> None:
    reader = Reader()
    for second in range(3):
        reader.feed(b"T = 21.5 C", float(second), second)
    reader.flush()
    assert reader.lines == ["T = 21.5 C"] * 3


@pytest.mark.parametrize("size_bytes", [1, 7, 1024, 100_000])
def test_no_character_is_cut_where_a_line_is_too_long(size_bytes: int) -> None:
    reader = Reader()
    data = ("a" + "日本語°" * 1000).encode()
    for at in range(0, len(data), size_bytes):
        assert reader.feed(data[at : at + size_bytes], 0.0, 0) == b""
    reader.flush()
    assert "".join(reader.lines) == data.decode()
    assert max(map(len, reader.lines)) <= 1024
    assert reader.quote() == f" The board printed {data.decode()[:58]!r}."  # 160 bytes end in the 59th character


def test_what_is_begun_before_silence_is_judged_by_itself() -> None:
    reader = Reader()
    assert reader.feed(b"ok", 0.0, 0) == b""
    assert reader.feed(b"\0\1\2", SILENCE_S, 0) == b"\0\1\2"
    assert reader.lines == ["ok"]


def test_a_nul_tells_that_the_whole_line_is_a_broken_frame_and_no_line_before_it() -> None:
    reader = Reader()
    assert reader.feed(b"fine\nlooks", 0.0, 0) == b""
    assert reader.feed(b" fine\0", 0.0, 0) == b"looks fine\0"
    assert reader.feed(b"text of the same frame", 0.0, 0) == b"text of the same frame"
    assert reader.feed(b"more\nagain\n", 0.0, 0) == b"more\n"
    assert reader.lines == ["fine", "again"]
    assert reader.feed(b"bad\0", 0.0, 0) == b"bad\0"
    assert reader.feed(b"good\n", 0.0, 1) == b""  # after a frame
    assert reader.lines == ["fine", "again", "good"]


def test_a_few_bytes_behind_a_damaged_frame_are_the_end_of_it_and_a_line_there_is_a_line() -> None:
    for data, lines in [(b"K", []), (b"12345678", []), (b"123456789", ["123456789"]), (b"OK\n", ["OK"])]:
        reader = Reader()
        reader.after_damage(1)
        assert reader.feed(data, 0.0, 1) == b""
        reader.flush()
        assert reader.lines == lines
        reader.feed(b"K", 0.0, 2)
        reader.flush()
        assert reader.lines == [*lines, "K"]


def test_the_memory_is_bounded_whatever_comes() -> None:
    reader = Reader()
    for _ in range(100):
        reader.feed(b"x" * 700, 0.0, 0)
        assert len(reader._line) + len(reader._unit) < 1024
        reader.feed(b"x" * 5000, 0.0, 0)
    reader.flush()
    assert max(map(len, reader.lines)) == 1024
    assert "".join(reader.lines) == "x" * 570_000
    assert reader.heard == b"x" * HEARD_BYTES
    for _ in range(100):
        assert reader.feed(b"\0" * 700, 0.0, 0) == b"\0" * 700
    assert (reader._unit, reader._line) == (b"", "")


def test_an_error_quotes_the_first_of_what_was_heard() -> None:
    reader = Reader()
    assert reader.quote() == ""
    reader.feed(b"\r\n", 0.0, 0)
    assert reader.quote() == ""
    reader.heard = b""
    reader.feed(b"\x1b[31mHardFault\r\nR0", 0.0, 0)
    assert reader.quote() == r" The board printed '\x1b[31mHardFault\r\nR0'."
    assert reader.lines == ["\x1b[31mHardFault", "R0"]


def test_no_frame_that_lost_a_byte_of_its_head_is_text() -> None:
    frame = encode_frame(b"\x12\x34\x10" + (80).to_bytes(8, "little") + b"A" * 72)
    for at in range(6):
        garbage = [item.data for item in FrameDecoder().feed(frame[:at] + frame[at + 1 :]) if isinstance(item, Garbage)]
        reader = Reader()
        assert [reader.feed(data, 0.0, 0) for data in garbage] == garbage
        assert reader.lines == []
