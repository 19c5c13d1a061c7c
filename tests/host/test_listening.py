"""Events over a whole connection: beside requests, over sessions, resets and a bad line (docs/link.md 7, 8, 10)."""

from __future__ import annotations

import math
import random
import struct

import pytest
from talking_board import ALL, COUNT, EVENTS, PROGRESS, SLOW, WINDOW_BYTES, TalkingBoard, World

from microrpc.errors import (
    BoardResetError,
    CallTimeoutError,
    FeatureMissingError,
    HandshakeTimeoutError,
)
from microrpc.host.copies import copy_from, copy_to
from microrpc.host.operation import AT_ONCE
from microrpc.host.stream import StreamConnection
from microrpc.wire.datatypes import CPU, DataType, OpaqueHandle, Tensor
from microrpc.wire.features import Feature, Features
from microrpc.wire.packets import Return, encode_packet
from microrpc.wire.session import Timeouts

ACK, REQUEST, KEEP_ALIVE, NORMAL = 0x24, 0x20, 0x28, 0x10
INT = b"\0" + struct.pack("<q", 5)


def emit(world: World, later_s: float, *, reliable: bool = False, count: int = 1) -> None:
    """Let the board send an event in a while."""
    for _ in range(count):
        world.at(world.now + later_s, lambda: world.board.emit(b"e", INT, reliable=reliable) and None)


def told(world: World) -> list[tuple[int, int]]:
    """Numbers of the plain events, and what was missed before them; -1 stands for a gap."""
    return [(-1 if event.is_gap else event.number, event.missed) for event in world.sink.plain()]


# --- what the board knows ----------------------------------------------------------------------------


def test_the_features_are_known_after_the_first_request() -> None:
    world = World(TalkingBoard(host_timeout_ms=3000))
    assert world.connection.features == Features()
    world.look_up("count")
    assert world.connection.features == Features(Feature(ALL), 3000)
    assert world.kinds()[:4] == [2, 0, NORMAL, NORMAL]


def test_they_are_asked_for_once_an_epoch() -> None:
    world = World()
    world.look_up("count")
    world.connection.trust.doubt = "a test"
    world.look_up("count")
    assert world.kinds().count(NORMAL) == 3  # and the proof of the second session
    world.board.features = EVENTS
    world.board.reset()
    world.connection.on_reset()
    assert world.connection.features == Features()
    world.listen(0.5)
    assert world.connection.features.known == Feature.EVENTS


# --- listening ---------------------------------------------------------------------------------------


def test_listening_takes_events_for_as_long_as_it_is_told() -> None:
    world = World()
    emit(world, 0.3, count=2)
    emit(world, 0.9)
    emit(world, 1.2)
    start = world.now
    assert world.listen(1.0) == 3
    assert world.now == pytest.approx(start + 1.0)
    assert world.listen(1.0) == 1
    assert told(world) == [(0, 0), (1, 0), (2, 0), (3, 0)]


def test_or_until_an_event_came() -> None:
    world = World()
    world.listen(0.1)
    start = world.now
    emit(world, 0.3)
    assert world.listen(1.0, until_event=True) == 1
    assert world.now == pytest.approx(start + 0.3, abs=0.01)
    assert world.listen(1.0, until_event=True) == 0


def test_while_all_is_quiet_the_host_asks_five_times_a_second() -> None:
    world = World()
    world.listen(1.0)
    world.kinds()
    world.listen(10.0)
    assert 49 <= world.kinds().count(ACK) <= 51


def test_the_last_event_that_was_lost_is_found_by_that() -> None:
    world = World()
    world.listen(0.5)
    world.damage = lambda data, to_board: data if to_board else b""
    world.board.emit(b"e", INT)
    world.board.emit(b"r", INT, reliable=True)
    world.listen(0.01)
    world.damage = lambda data, to_board: data
    world.listen(0.5)
    assert told(world) == [(-1, 1)]
    assert world.sink.reliable() == [(world.board.boot, 0)]


def test_listening_raises_nothing_where_the_board_falls_silent() -> None:
    world = World()
    world.listen(0.5)
    world.damage = lambda data, to_board: b""
    world.kinds()
    world.listen(60.0)
    assert 8 <= world.kinds().count(ACK) <= 12
    world.board.emit(b"e", INT)
    world.damage = lambda data, to_board: data if to_board else b""
    world.listen(0.01)
    world.damage = lambda data, to_board: data
    world.listen(10.1)
    assert told(world) == [(-1, 1)]


@pytest.mark.parametrize("features", [0, PROGRESS])
def test_a_board_that_sends_no_events_is_told_from_one_that_does(features: int) -> None:
    world = World(TalkingBoard(features=features))
    with pytest.raises(FeatureMissingError, match="firmware sends no events"):
        world.listen(1.0)
    assert world.connection.listens_at == math.inf
    assert ACK not in world.kinds()
    world.connection.events.sink.is_wanted = False  # type: ignore[misc]
    assert world.listen(1.0) == 0
    assert world.call(COUNT) == 1


def test_a_stream_whose_server_says_nothing_besides_has_none_and_cannot_be_cancelled() -> None:
    stream = StreamConnection(timeouts=Timeouts())
    assert (stream.features, stream.listens_at, stream.cancel(0.0)) == (Features(), math.inf, False)
    listening = stream.listen(1.0)
    assert listening.send(None) == AT_ONCE  # type: ignore[arg-type]
    assert listening.send((b"", 5.0)) == 6.0
    with pytest.raises(StopIteration) as stop:
        listening.send((b"", 6.0))
    assert stop.value.value == 0
    stream.events.sink = World().sink
    listening = stream.listen(1.0)
    for arrival in (None, (b"", 7.0), (b"", 7.0)):
        listening.send(arrival)  # type: ignore[arg-type]
    with pytest.raises(FeatureMissingError):
        listening.send((encode_packet(Return((OpaqueHandle(0),))), 7.0))


def test_it_tells_when_it_should_go_on() -> None:
    world = World()
    assert world.connection.listens_at == AT_ONCE
    world.listen(0.5)
    assert world.now <= world.connection.listens_at <= world.now + 0.2
    world.sink.has_room = False
    world.listen(0.5)
    assert world.connection.listens_at == math.inf
    world.sink.has_room = True
    assert world.connection.listens_at <= world.now
    world.sink.is_wanted = False
    assert world.connection.listens_at == AT_ONCE, "the board is to be told"
    world.listen(0.1)
    assert world.connection.listens_at == math.inf
    world.sink.is_wanted = True
    assert world.connection.listens_at == AT_ONCE
    world.connection.trust.doubt = "a test"
    assert world.connection.listens_at == AT_ONCE, "a session is to be opened"


def test_who_reads_too_slowly_blocks_nobody_and_loses_only_plain_events() -> None:
    world = World(TalkingBoard(keeps=1000))
    world.listen(0.5)
    world.sink.has_room = False
    emit(world, 0.0, count=400)
    emit(world, 0.0, count=400, reliable=True)
    assert world.listen(1.0) < 4096 / 27
    assert world.call(COUNT) == 1
    world.sink.has_room = True
    world.listen(3.0)
    assert world.sink.reliable() == [(world.board.boot, number) for number in range(400)]
    assert sum(missed + (number >= 0) for number, missed in told(world)) == 400


# --- beside requests ---------------------------------------------------------------------------------


def test_events_come_during_calls_and_are_asked_for_between_them() -> None:
    world = World(TalkingBoard(keeps=64))
    world.look_up("count")
    for number in range(400):
        emit(world, number / 400, reliable=number % 2 == 0)
    start = world.now
    while world.now < start + 1.1:
        world.call(COUNT)
    assert len(world.sink.events) == 400
    assert told(world) == [(number, 0) for number in range(200)]


def test_none_is_asked_for_while_a_call_is_unanswered() -> None:
    world = World(TalkingBoard(slow_s=3.0))
    world.listen(0.5)
    world.kinds()
    world.call(SLOW)
    kinds = world.kinds()
    assert ACK not in kinds[kinds.index(REQUEST) :]


def test_a_call_does_not_wait_for_the_answer_where_the_boards_ring_takes_both() -> None:
    world = World()
    world.look_up("count")
    world.now += 1.0
    world.kinds()
    world.writes = 0
    world.call(COUNT)
    assert (world.kinds(), world.writes) == ([ACK, REQUEST], 1)


def test_and_else_it_waits_for_it_but_not_for_long() -> None:
    world = World()
    world.look_up("count")
    link = world.connection.carrier.host  # type: ignore[attr-defined]
    link._budget = type(link._budget)(0, 4)
    world.now += 1.0
    world.kinds()
    world.writes = 0
    world.call(COUNT)
    assert (world.kinds(), world.writes) == ([ACK, REQUEST], 2)
    world.board.answers_events = False
    world.now += 1.0
    start = world.now
    world.call(COUNT)
    assert world.now - start == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("to_board", [True, False])
def test_events_come_beside_a_copy_which_stays_whole(to_board: bool) -> None:
    world = World()
    world.listen(0.3)
    size_bytes = 40_000
    data = bytearray(random.Random(1).randbytes(size_bytes))
    tensor = Tensor(0, CPU, DataType.parse("uint8"), (size_bytes,))
    expected = bytes(data)
    if not to_board:
        world.board.memory[:size_bytes] = data
        data = bytearray(size_bytes)
    for number in range(100):
        emit(world, number / 250, reliable=number % 2 == 0)
    world.kinds()
    unanswered_bytes: list[int] = []
    host = world.connection.carrier.host  # type: ignore[attr-defined]

    def watch(crossing: bytes, to_board: bool) -> bytes:
        sizes = [len(request.frame) for request in host._unanswered.values()]
        if host.notices.out_bytes:
            sizes.append(host.notices.out_bytes)
        if len(sizes) > 1:
            unanswered_bytes.append(sum(sizes) - min(sizes))
        return crossing

    world.damage = watch
    if to_board:
        world.run(copy_to(world.requests, memoryview(data), tensor))
    else:
        world.run(copy_from(world.requests, tensor, memoryview(data)))
    assert bytes(world.board.memory[:size_bytes] if to_board else data) == expected
    assert world.kinds().count(ACK) >= 2
    assert max(unanswered_bytes) <= WINDOW_BYTES
    world.listen(0.5)
    assert told(world) == [(number, 0) for number in range(50)]
    assert len(world.sink.reliable()) == len(world.board.accepted[world.board.boot])


def test_a_board_that_answers_no_acknowledgement_holds_up_no_copy() -> None:
    world = World(TalkingBoard(answers_events=False))
    world.look_up("count")
    link = world.connection.carrier.host  # type: ignore[attr-defined]
    link._budget = type(link._budget)(0, 4)  # where each keeps the other waiting
    data = bytes(range(250)) * 16
    tensor = Tensor(0, CPU, DataType.parse("uint8"), (4000,))
    world.run(copy_to(world.requests, memoryview(data), tensor))
    assert world.board.memory[:4000] == data


# --- sessions and resets -----------------------------------------------------------------------------


def test_after_doubt_the_subscription_is_renewed_and_reliable_events_come_once() -> None:
    world = World()
    emit(world, 0.3, count=3, reliable=True)
    world.listen(0.5)
    world.connection.trust.doubt = "a test"
    emit(world, 0.0, count=2)
    emit(world, 0.0, count=3, reliable=True)
    world.listen(1.0)
    assert world.sink.reliable() == [(world.board.boot, number) for number in range(6)]
    assert told(world) == [(-1, 2)]
    assert world.connection.stats.sessions == 2


@pytest.mark.parametrize("is_seen", [True, False])
def test_a_reset_renews_it_too_and_the_next_request_tells_of_the_reset(is_seen: bool) -> None:
    world = World()
    world.look_up("count")
    emit(world, 0.1, reliable=True)
    world.listen(0.5)
    world.board.reset()
    if not is_seen:
        world.board.output.clear()
    emit(world, 0.1, reliable=True)
    emit(world, 2.0, reliable=True)
    world.listen(3.0)
    assert world.sink.reliable() == [(1001, 0), (1002, 0), (1002, 1)]
    assert world.connection.stats.resets == 1
    with pytest.raises(BoardResetError, match="since the last request"):
        world.look_up("count")


def test_where_a_board_does_not_answer_a_new_session_listening_tells_so() -> None:
    world = World()
    world.listen(0.1)
    world.connection.trust.doubt = "a test"
    world.damage = lambda data, to_board: b""
    with pytest.raises(HandshakeTimeoutError):
        world.listen(1.0)


def test_over_a_port_that_was_opened_again_it_goes_on() -> None:
    world = World()
    world.listen(0.5)
    reopened: list[bool] = []
    world.connection.on_port_reopened(reopened.append, "/dev/other")
    emit(world, 1.0)
    world.listen(2.0)
    assert reopened == [False]
    assert told(world) == [(0, 0)]


# --- who is there ------------------------------------------------------------------------------------


def test_a_board_that_asks_for_it_hears_the_host_while_nothing_is_asked() -> None:
    world = World(TalkingBoard(features=0, host_timeout_ms=3000))
    world.sink.is_wanted = False
    assert world.sink.wakes == 0
    world.look_up("count")
    assert world.sink.wakes == 1, "somebody is to listen from now on"
    world.kinds()
    assert world.connection.listens_at == pytest.approx(world.now + 1.0, abs=0.1)
    world.listen(10.0)
    kinds = world.kinds()
    assert set(kinds) == {KEEP_ALIVE}
    assert len(kinds) in (9, 10)


def test_events_are_asked_for_often_enough_for_it() -> None:
    world = World(TalkingBoard(host_timeout_ms=3000))
    world.listen(10.0)
    assert KEEP_ALIVE not in world.kinds()


def test_a_board_that_has_lost_its_session_says_so() -> None:
    world = World(TalkingBoard(features=0, host_timeout_ms=3000))
    world.sink.is_wanted = False
    world.look_up("count")
    world.board.reset()
    world.board.output.clear()
    world.listen(3.0)
    assert world.connection.stats.resets == 1


def test_a_call_that_is_slow_beside_events_keeps_its_deadline() -> None:
    world = World(TalkingBoard(slow_s=50.0, tells_s=1000.0))
    for number in range(500):
        emit(world, number / 50)
    start = world.now
    with pytest.raises(CallTimeoutError):
        world.call(SLOW)
    assert world.now - start < 3.0
