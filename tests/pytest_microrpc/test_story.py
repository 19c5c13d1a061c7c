"""What the report of a failed test tells of events and long calls."""

from __future__ import annotations

import struct
import zlib

from microrpc.capture.trace import Trace
from microrpc.wire.frames import encode_frame
from pytest_microrpc.story import Story


def frame(text: str) -> bytes:
    payload = bytes.fromhex(text)
    return encode_frame(payload + struct.pack("<I", zlib.crc32(payload)))


def test_events_that_were_missed_progress_and_cancelled_calls_are_told() -> None:
    trace = Trace(keep_frames=1)
    for number in (1, 2, 5):
        trace.note(0.001 * number, frame(f"6627 23 {number:02x}000000 00 00000000 01 61"), to_board=False)
    trace.note(0.007, frame("6627 27 0500 1e000000 64000000"), to_board=False)
    trace.note(0.008, frame("6627 26 0500"), to_board=True)
    assert Story("a board", trace, 0.0).lines() == [
        "a board, frames: the last 1 of 5; times since the test began",
        "      8.0 ms  -> board     9 B  CANCEL          end #5",
        "on the line: events: 3, missed: 2; last progress: 30 of 100; calls cancelled: 1",
    ]
    trace.clear()
    trace.note(0.009, b"a line of text\n", to_board=False)
    assert not any("on the line" in line for line in Story("a board", trace, 0.0).lines())


def test_a_report_says_of_which_frames_it_has_only_the_last() -> None:
    trace = Trace(keep_frames=30)
    for done in (1, 2, 3):
        trace.note(0.001 * done, frame(f"6627 27 0500 {done:02x}000000 64000000"), to_board=False)
    assert Story("a board", trace, 0.0).lines() == [
        "a board, frames: the last 1 of 3; of progress and of polls in a row the last; times since the test began",
        "      3.0 ms  <- board    17 B  PROGRESS        3 of 100 #5",
        "on the line: last progress: 3 of 100",
    ]
