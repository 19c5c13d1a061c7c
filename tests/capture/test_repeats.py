"""Which messages of the link were sent again: the same one of a session, a second time."""

from __future__ import annotations

import struct

import pytest

from microrpc.capture.repeats import Repeats
from microrpc.wire.session import MessageType

REQUEST, REPLY = MessageType.LINK_REQUEST, MessageType.LINK_REPLY


def message(seq: int, body: bytes = b"body", *, kind: MessageType = REQUEST, session_id: int = 0x1234) -> bytes:
    return struct.pack("<HBH", session_id, kind, seq) + body


@pytest.mark.parametrize(
    ("before", "after", "is_repeated"),
    [
        (message(1), message(1), True),
        (message(1, kind=REPLY), message(1, kind=REPLY), True),
        (message(1), message(2), False),
        (message(1), message(1, b"another"), False),
        (message(1), message(1, kind=REPLY), False),
        (message(1), message(1, session_id=0x1235), False),
        (message(1, kind=MessageType.LINK_EVENT_ACK), message(1, kind=MessageType.LINK_EVENT_ACK), False),
        (message(1, b""), message(1, b""), False),
    ],
)
def test_the_same_request_or_reply_a_second_time_is_one(before: bytes, after: bytes, is_repeated: bool) -> None:
    repeats = Repeats()
    assert repeats.is_repeated(before) is False
    assert repeats.is_repeated(after) is is_repeated


def test_a_message_may_come_as_often_as_it_likes() -> None:
    repeats = Repeats()
    assert [repeats.is_repeated(message(1)) for _ in range(4)] == [False, True, True, True]


def test_what_is_remembered_is_bounded_and_what_was_seen_last_stays() -> None:
    repeats = Repeats()
    repeats.is_repeated(message(0))
    for seq in range(1, 256):
        repeats.is_repeated(message(seq))
    assert repeats.is_repeated(message(0)), "of 256 the first is known, and is now the last"
    repeats.is_repeated(message(256))
    assert repeats.is_repeated(message(0))
    assert not repeats.is_repeated(message(1)), "which went for it"
