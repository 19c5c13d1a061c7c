"""What the host says besides requests, and when it may (docs/link.md 8, 10)."""

from __future__ import annotations

import math
import struct

import pytest
from talking_board import Collected, sealed

from microrpc.host.events import EVENT_POLL_S, EventHost
from microrpc.host.link import LinkHost
from microrpc.host.notices import Notices
from microrpc.wire.frames import FrameDecoder
from microrpc.wire.link import LinkParameters
from microrpc.wire.session import MessageType

SESSION_ID = 0x2766
STATE = sealed(SESSION_ID, 0x25, struct.pack("<III", 1, 0, 0))
KEEP_ALIVE = sealed(SESSION_ID, 0x28, b"\0\0")
FORGOTTEN = sealed(SESSION_ID, 0x21, b"\0\0\3")


def make(
    *,
    events: bool = True,
    keep_alive_s: float = math.inf,
    byte_s: float = 0.0,
    window_bytes: int = 200,
    now: float = 0.0,
    takes_turns: bool = False,
) -> LinkHost:
    host = EventHost()
    host.sink = Collected()
    host.begin(SESSION_ID, 512, byte_s)
    notices = Notices(SESSION_ID, host if events else None, keep_alive_s=keep_alive_s, byte_s=byte_s, now=now)
    parameters = LinkParameters(window_requests=4, packet_bytes=512, window_bytes=window_bytes)
    return LinkHost(SESSION_ID, parameters, byte_s=byte_s, notices=notices, takes_turns=takes_turns)


def said(link: LinkHost) -> list[int]:
    """Take what is sent now; give the message types."""
    payloads = FrameDecoder().feed(b"".join(link.frames))
    link.frames.clear()
    return [payload[2] for payload in payloads if isinstance(payload, bytes)]


def test_one_is_out_at_most_until_it_is_answered() -> None:
    link = make()
    link.notify(0.0)
    assert said(link) == [MessageType.LINK_EVENT_ACK]
    link.notify(0.1)
    assert said(link) == []
    link.receive(STATE, 0.1)
    link.notify(0.1)
    assert said(link) == [MessageType.LINK_EVENT_ACK]


def test_one_that_is_not_answered_is_taken_for_lost_ever_later_until_something_is_heard() -> None:
    link = make()
    link.notify(now := 0.0)
    waits = []
    for _ in range(8):
        waits.append(round(link.notices.due_at - now, 6))
        now = link.notices.due_at
        link.notify(now)  # it is taken for lost
        assert not link.notices.out_bytes
        link.notify(now)
        assert link.notices.out_bytes
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    link.receive(FORGOTTEN, now)  # whatever it is
    assert link.notices.due_at == now + EVENT_POLL_S
    now = link.notices.due_at
    link.notify(now)
    link.notify(now)
    assert link.notices.due_at == pytest.approx(now + 2 * EVENT_POLL_S)


def test_on_a_slow_line_its_answer_may_stand_behind_all_that_was_credited() -> None:
    byte_s = 10 / 9600
    link = make(byte_s=byte_s)
    link.notify(0.0)
    size_bytes = link.notices.out_bytes
    assert link.notices.due_at == pytest.approx((2 * size_bytes + 512) * byte_s + EVENT_POLL_S)


def test_none_is_sent_beside_a_call() -> None:
    link = make()
    link.send_packet(b"packet", 0.0)
    said(link)
    link.notify(0.0)
    assert said(link) == []
    link.receive(FORGOTTEN, 0.1)
    link.notify(0.1)
    assert said(link) == [MessageType.LINK_EVENT_ACK]


def test_beside_copies_it_counts_in_the_window() -> None:
    link = make(window_bytes=200)
    assert link.try_send(link.prepare_write(0, memoryview(bytes(range(64)))), 0.0)
    assert link.try_send(link.prepare_write(64, memoryview(bytes(range(64)))), 0.0)
    link.notify(0.0)
    assert said(link)[-1] == MessageType.LINK_EVENT_ACK
    third = link.prepare_write(128, memoryview(bytes(range(64))))
    assert not link.try_send(third, 0.0)
    link.receive(STATE, 0.0)
    assert link.try_send(third, 0.0)


def test_it_waits_where_the_window_is_full() -> None:
    link = make(window_bytes=80)
    assert link.try_send(link.prepare_write(0, memoryview(bytes(range(64)))), 0.0)
    said(link)
    link.notify(0.0)
    assert said(link) == []
    link.receive(sealed(SESSION_ID, 0x21, b"\0\0\1"), 0.0)
    link.notify(0.0)
    assert said(link) == [MessageType.LINK_EVENT_ACK]
    assert link.try_send(link.prepare_write(0, memoryview(bytes(16))), 0.0)
    assert not link.has_room_beside_notice(512)


def test_a_line_of_one_direction_at_a_time_has_one_or_the_other_out() -> None:
    link = make(window_bytes=5000, takes_turns=True)
    link.notify(0.0)
    assert not link.try_send(link.prepare_read(0, 4), 0.0)
    link.receive(STATE, 0.0)
    assert link.try_send(link.prepare_read(0, 4), 0.0)
    said(link)
    link.notify(0.0)
    assert said(link) == []


def test_a_board_that_asks_for_nothing_gets_nothing() -> None:
    link = make(events=False)
    assert not link.notices.are_wanted
    assert link.notices.due_at == math.inf
    link.notify(1e9)
    link.receive(STATE, 1e9)
    link.receive(KEEP_ALIVE, 1e9)
    assert said(link) == []


# --- who is there ------------------------------------------------------------------------------------


def test_where_nothing_was_sent_for_a_while_the_host_says_that_it_is_there() -> None:
    link = make(events=False, keep_alive_s=1.0)
    link.notify(0.9)
    assert said(link) == []
    link.notify(1.0)
    [frame] = FrameDecoder().feed(link.frames[0])
    assert frame == KEEP_ALIVE
    said(link)
    assert link.notices.due_at == 1.2  # when it is taken for lost
    link.receive(KEEP_ALIVE, 1.01)
    assert link.notices.due_at == 2.0


def test_it_says_so_fifty_times_a_second_at_most_whatever_the_board_asks_for() -> None:
    link = make(events=False, keep_alive_s=0.001 / 3)
    link.notify(0.019)
    assert said(link) == []
    link.notify(0.02)
    assert said(link) == [0x28]


def test_a_request_says_so_too() -> None:
    link = make(events=False, keep_alive_s=1.0)
    link.send_packet(b"packet", 0.7)
    link.receive(FORGOTTEN, 0.8)
    assert link.notices.due_at == 1.7


def test_an_answer_to_one_kind_is_none_to_the_other() -> None:
    link = make(keep_alive_s=1.0)
    link.notify(0.0)
    link.receive(KEEP_ALIVE, 0.0)
    assert link.notices.out_bytes
    link.receive(STATE, 0.0)
    assert not link.notices.out_bytes
