"""Progress of long calls, and cancelling them (docs/link.md 9)."""

from __future__ import annotations

import struct

import pytest
from talking_board import ALL, CANCEL, COUNT, EVENTS, PROGRESS, SLOW, TalkingBoard, World, sealed

from microrpc.errors import CallCancelledError, CallTimeoutError, OutcomeUnknownError, RemoteError
from microrpc.host.link import LinkHost
from microrpc.wire.frames import FrameDecoder
from microrpc.wire.link import CALL, LinkParameters
from microrpc.wire.session import Timeouts

SESSION_ID = 0x2766
REQUEST, PACKET_KIND, CALL_KIND, CANCEL_TYPE = 0x20, 0, 3, 0x26


def world(**board: object) -> World:
    """Give one whose host has looked its functions up."""
    made = World(TalkingBoard(**board), timeouts=Timeouts(retry_s=0.5, start_s=5.0, call_s=5.0))  # type: ignore[arg-type]
    made.connection.events.sink.is_wanted = False  # type: ignore[misc]
    made.look_up("count")
    made.kinds()
    return made


def kinds_of_requests(one: World) -> set[int]:
    return {payload[5] for payload in one.sent if payload[2] == REQUEST}


def link(silence_s: float = 4.0) -> LinkHost:
    host = LinkHost(SESSION_ID, LinkParameters(4, 512, 512))
    host.send_packet(b"packet", 0.0, CALL, silence_s)
    host.frames.clear()
    return host


def progress(seq: int, done: int, total: int) -> bytes:
    return sealed(SESSION_ID, 0x27, struct.pack("<HII", seq, done, total))


# --- the state machine -------------------------------------------------------------------------------


def test_progress_proves_that_the_request_has_arrived() -> None:
    host = link()
    host.receive(progress(0, 1, 10), 0.1)
    assert host.progress == [(1, 10)]
    assert host.deadline == 2.1
    host.on_time(2.0)
    assert host.frames == []
    host.on_time(2.1)
    assert len(host.frames) == 1


@pytest.mark.parametrize(
    "message", [progress(1, 1, 10), sealed(SESSION_ID, 0x27, b"\0\0" + bytes(7)), sealed(SESSION_ID, 0x27, b"\0\0")]
)
def test_progress_of_nothing_that_is_under_way_is_dropped(message: bytes) -> None:
    host = link()
    deadline = host.deadline
    host.receive(message, 0.01)
    assert (host.progress, host.deadline) == ([], deadline)


def test_progress_of_a_packet_is_dropped() -> None:
    host = LinkHost(SESSION_ID, LinkParameters(4, 512, 512))
    host.send_packet(b"packet", 0.0)
    host.receive(progress(0, 1, 10), 0.01)
    assert host.progress == []


def test_after_damage_the_request_is_sent_again_although_it_has_arrived() -> None:
    host = link()
    host.receive(progress(0, 1, 10), 0.1)
    host.on_damage(0.2)
    assert len(host.frames) == 1
    host.frames.clear()
    host.receive(progress(0, 2, 10), 0.3)
    host.on_damage(0.4)
    assert len(host.frames) == 1, "whatever comes whole ends the damage"


def test_cancel_takes_the_place_of_its_request_in_all_repetitions() -> None:
    host = link()
    assert host.cancel(1.0)
    for strike in (
        lambda: host.on_damage(1.1),
        lambda: host.receive(sealed(SESSION_ID, 0x22, b"\0\0"), 1.2),
        lambda: host.on_time(host.deadline),
    ):
        assert FrameDecoder().feed(b"".join(host.frames)) == [sealed(SESSION_ID, 0x26, b"\0\0")]
        host.frames.clear()
        strike()
    assert len(host.frames) == 1
    reply = host.receive(sealed(SESSION_ID, 0x21, b"\0\0\0reply"), 2.0)
    assert reply is not None
    assert reply.body == b"reply"


def test_a_call_of_an_hour_is_asked_to_end_again_soon() -> None:
    host = link()
    for second in range(3600):
        host.receive(progress(0, second, 3600), float(second))
    host.cancel(3600.0)
    assert host.deadline < 3601


def test_nothing_can_be_cancelled_twice_nor_anything_but_a_call() -> None:
    host = link()
    assert host.cancel(0.1)
    assert not host.cancel(0.2)
    host = LinkHost(SESSION_ID, LinkParameters(4, 512, 512))
    assert not host.cancel(0.0)
    host.send_packet(b"packet", 0.0)
    assert not host.cancel(0.1)
    host.receive(sealed(SESSION_ID, 0x21, b"\0\0\3"), 0.2)
    host.try_send(host.prepare_read(0, 4), 0.2)
    assert not host.cancel(0.3)


def test_the_next_call_is_not_cancelled() -> None:
    host = link()
    host.cancel(0.1)
    host.receive(sealed(SESSION_ID, 0x21, b"\0\0\0reply"), 0.2)
    host.send_packet(b"packet", 0.3, CALL, 4.0)
    assert host.cancel(0.4)


# --- which requests ----------------------------------------------------------------------------------


@pytest.mark.parametrize("features", [PROGRESS, CANCEL, ALL])
def test_calls_go_as_call_where_the_board_announces_either(features: int) -> None:
    one = world(features=features)
    one.look_up("slow")
    assert kinds_of_requests(one) == {PACKET_KIND}
    one.kinds()
    one.call(COUNT)
    assert kinds_of_requests(one) == {CALL_KIND}


@pytest.mark.parametrize("features", [0, EVENTS])
def test_else_they_go_as_packet_and_cannot_be_cancelled(features: int) -> None:
    one = world(features=features)
    one.call(COUNT)
    assert kinds_of_requests(one) == {PACKET_KIND}
    assert not one.connection.cancel(one.now)


# --- progress ----------------------------------------------------------------------------------------


def test_a_function_of_an_hour_that_tells_each_second_is_waited_for() -> None:
    one = world(slow_s=3600.0)
    told: list[tuple[int, int]] = []
    assert one.call(SLOW, on_progress=lambda done, total: told.append((done, total))) == 3599
    assert told == [(second, 3600) for second in range(1, 3600)]
    assert one.board.slow_calls == 1
    assert len(one.sent) < 15, "it was repeated although it had arrived"
    assert one.call(COUNT) == 1


def test_without_progress_the_same_function_is_given_up() -> None:
    one = world(slow_s=3600.0, tells_s=4000.0)
    start = one.now
    with pytest.raises(CallTimeoutError):
        one.call(SLOW)
    assert one.now - start == pytest.approx(5.0, abs=0.1)


def test_who_falls_silent_is_given_up_after_the_longest_silence() -> None:
    one = world(slow_s=100.0)
    start = one.now
    one.at(start + 10.5, lambda: setattr(one.board.running, "tells_at", 1e9))
    with pytest.raises(CallTimeoutError):
        one.call(SLOW)
    assert one.now - start == pytest.approx(10 + 5, abs=0.1)


def test_a_timeout_of_the_callers_own_is_a_hard_limit() -> None:
    one = world(slow_s=3600.0)
    start = one.now
    with pytest.raises(CallTimeoutError):
        one.call(SLOW, timeout_s=7.5)
    assert one.now - start == pytest.approx(7.5, abs=0.1)


def test_a_reply_that_was_lost_is_asked_for_after_half_of_the_silence() -> None:
    one = world(slow_s=10.0)
    start = one.now
    one.at(start + 9.5, lambda: setattr(one, "damage", lambda data, to_board: data if to_board else b""))
    one.at(start + 10.5, lambda: setattr(one, "damage", lambda data, to_board: data))
    assert one.call(SLOW) == 9
    assert one.now - start == pytest.approx(9 + 2.5, abs=0.1)
    assert one.board.slow_calls == 1


def test_an_error_of_who_is_told_reaches_the_program_and_the_next_call_goes_on() -> None:
    one = world()

    def fail(done: int, total: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        one.call(SLOW, on_progress=fail)
    one.board.running = None
    assert one.call(COUNT) == 1


# --- cancelling --------------------------------------------------------------------------------------


def test_a_function_that_is_cancelled_ends_at_once_and_the_session_goes_on() -> None:
    one = world()
    start, sessions = one.now, one.connection.stats.sessions
    with pytest.raises(CallCancelledError, match="was cancelled while it ran, and ended with: stopped") as caught:
        one.call(SLOW, cancel_at=start + 3)
    assert caught.value.may_have_run
    assert one.now - start == pytest.approx(3.0, abs=0.1)
    assert one.call(COUNT) == 1
    assert one.connection.stats.sessions == sessions


def test_an_answer_that_comes_with_the_first_bytes_after_the_cancel_is_that_of_a_cancelled_call() -> None:
    one = world()

    def cancel() -> None:
        assert one.connection.cancel(one.now)
        one.board.running.is_cancelled = True  # type: ignore[union-attr]

    one.at(one.now + 2.5, cancel)
    with pytest.raises(CallCancelledError, match="was cancelled while it ran, and ended with: stopped"):
        one.call(SLOW)
    assert one.call(COUNT) == 1


def test_one_that_had_not_begun_does_not_run() -> None:
    one = world()
    one.damage = lambda data, to_board: b"" if to_board else data
    one.at(one.now + 1, lambda: setattr(one, "damage", lambda data, to_board: data))
    one.at(one.now + 0.5, lambda: None)
    with pytest.raises(CallCancelledError, match="before it began") as caught:
        one.call(SLOW, cancel_at=one.now + 0.5)
    assert not caught.value.may_have_run
    assert one.board.slow_calls == 0
    assert one.call(COUNT) == 1


def test_the_result_of_one_that_does_not_heed_it_is_given() -> None:
    one = world(slow_s=3.5, heeds_cancel=False)
    assert one.call(SLOW, cancel_at=one.now + 3) == 3
    assert one.call(COUNT) == 1


def test_who_does_not_end_is_given_up_after_a_while_and_may_have_run() -> None:
    one = world(heeds_cancel=False, slow_s=6.0)
    start = one.now
    with pytest.raises(CallCancelledError, match="did not end it within 1 s") as caught:
        one.call(SLOW, cancel_at=start + 3)
    assert caught.value.may_have_run
    assert isinstance(caught.value, OutcomeUnknownError)
    assert one.now - start == pytest.approx(4.0, abs=0.1)
    assert one.connection.trust.doubt
    assert one.call(COUNT, timeout_s=20) == 1


def test_a_limit_of_the_callers_own_holds_while_it_is_cancelled() -> None:
    one = world(heeds_cancel=False)
    start = one.now
    with pytest.raises(CallCancelledError, match=r"within 0\.5 s"):
        one.call(SLOW, timeout_s=3.5, cancel_at=start + 3)
    assert one.now - start == pytest.approx(3.5, abs=0.1)


def test_a_board_that_cannot_be_told_is_not() -> None:
    one = world(features=PROGRESS, slow_s=3.0)
    told: list[bool] = []
    one.at(one.now + 1.5, lambda: told.append(one.connection.cancel(one.now)))
    assert one.call(SLOW) == 2
    assert told == [False]


def test_what_an_operation_would_ask_next_is_not_asked() -> None:
    one = world(slow_s=3.5, heeds_cancel=False)
    done: list[int] = []

    def two_calls() -> object:
        done.append((yield from one.requests.call(SLOW, (), function="slow")))  # type: ignore[arg-type]
        yield from one.requests.call(COUNT, (), function="count")

    with pytest.raises(CallCancelledError, match="before all of it was done"):
        one.run(two_calls(), cancel_at=one.now + 3)  # type: ignore[arg-type]
    assert (done, one.board.calls) == ([3], 0)
    assert one.call(COUNT) == 1


def test_another_exception_of_a_function_that_was_not_cancelled_is_its_own() -> None:
    one = world()
    one.at(one.now + 2, lambda: setattr(one.board.running, "is_cancelled", True))
    with pytest.raises(RemoteError, match="stopped"):
        one.call(SLOW)


@pytest.mark.parametrize("lost", range(4))
def test_a_cancel_that_is_lost_is_sent_again(lost: int) -> None:
    one = world()
    start = one.now
    left = [lost]

    def lose(data: bytes, to_board: bool) -> bytes:
        if to_board and one.now >= start + 3 and left[0]:
            left[0] -= 1
            return b""
        return data

    one.damage = lose
    with pytest.raises(CallCancelledError, match="ended with: stopped"):
        one.call(SLOW, cancel_at=start + 3)
    assert [payload[2] for payload in one.sent].count(CANCEL_TYPE) == lost + 1
    assert one.board.slow_calls == 1
