"""Events and long calls of a line, counted."""

from __future__ import annotations

import struct
import zlib

import pytest

from microrpc.capture.tally import Tally


def sealed(text: str) -> bytes:
    payload = bytes.fromhex(text)
    return payload + struct.pack("<I", zlib.crc32(payload))


def event(number: int, *, reliable: bool = False) -> bytes:
    return sealed(f"6627 23 {number.to_bytes(4, 'little').hex()} {int(reliable):02x} 00000000 01 61")


def state(boot: int, next_number: int) -> bytes:
    return sealed(f"6627 25 {struct.pack('<III', boot, next_number, 9).hex()}")


@pytest.mark.parametrize(
    ("payloads", "counts"),
    [
        ([], (0, 0)),
        ([event(7), event(8)], (2, 0)),
        ([event(7), event(10), event(9), event(10)], (4, 2)),
        ([event(7), event(900, reliable=True), event(8)], (3, 0)),
        ([state(1, 5), event(5), state(1, 6)], (1, 0)),
        ([state(1, 5), event(6)], (1, 1)),
        ([state(1, 5), state(1, 8)], (0, 3)),
        ([event(4), state(1, 8)], (1, 0)),
        ([state(1, 5), event(5), state(2, 3), event(3)], (2, 3)),
        ([state(1, 0xFFFF_FFFE), event(1)], (1, 3)),
        ([event(3)[:-1] + b"x", event(4)], (1, 0)),
    ],
)
def test_the_numbers_of_plain_events_show_what_is_missed(payloads: list[bytes], counts: tuple[int, int]) -> None:
    tally = Tally()
    for payload in payloads:
        tally.note(payload, to_board=False)
    assert (tally.events, tally.missed) == counts


def test_a_cancel_that_is_repeated_counts_once() -> None:
    tally = Tally()
    for seq in (5, 5, 6, 6):
        tally.note(sealed(f"6627 26 {seq:02x}00"), to_board=True)
    tally.note(sealed("6627 26 0700")[:-1] + b"x", to_board=True)
    tally.note(sealed("6627 26 0800"), to_board=False)
    assert tally.words() == ["calls cancelled: 2"]


def test_it_is_told_in_words_and_forgotten() -> None:
    tally = Tally()
    assert tally.words() == []
    for payload in (b"", b"\1\2", event(1), event(3), sealed("6627 27 0500 1e000000 64000000")):
        tally.note(payload, to_board=False)
    tally.note(sealed("6627 27 0500 1e0000"), to_board=False)
    tally.note(sealed("6627 26 0500"), to_board=True)
    assert tally.words() == ["events: 2, missed: 1", "last progress: 30 of 100", "calls cancelled: 1"]
    tally.forget()
    assert tally.words() == []
    tally.note(event(5), to_board=False)
    assert tally.words() == ["events: 1, missed: 1"]
