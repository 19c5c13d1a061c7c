"""Which messages of the link were sent again: the same one of a session, a second time."""

from __future__ import annotations

import pytest

from microrpc.capture.repeats import Repeats
from microrpc.wire.frames import encode_frame
from microrpc.wire.link import encode_link_message
from microrpc.wire.session import MessageType

REQUEST, REPLY = MessageType.LINK_REQUEST, MessageType.LINK_REPLY


def message(seq: int, body: bytes = b"body", *, kind: MessageType = REQUEST, session_id: int = 0x1234) -> bytes:
    return encode_frame(encode_link_message(session_id, kind, seq, body))


LONG = bytes(100)


def damaged(frame: bytes) -> bytes:
    return frame[:60] + b"?" + frame[61:]


TOO_SHORT = encode_frame(bytes((0x34, 0x12, REQUEST, 1, 0)))


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
        (message(0xFFFF, session_id=0xFFFF), message(0xFFFF, session_id=0xFFFF), True),
        (message(0xFFFF, session_id=0xFFFF), message(0xFFFE, session_id=0xFFFF), False),
        (message(1), b"\xfe\xff\xfe" + message(1), True),
        (message(1), message(1)[:-1] + b"\0", False),
        (damaged(message(1, LONG)), message(1, LONG), True),
        (message(1, LONG), damaged(message(1, LONG)), False),
        (TOO_SHORT, TOO_SHORT, False),
        (b"text", b"text", False),
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
    for seq in range(600):
        repeats.is_repeated(message(seq))
    assert repeats.is_repeated(message(400))
    assert not repeats.is_repeated(message(0))
    assert len(repeats._seen) + len(repeats._seen_before) <= 512
