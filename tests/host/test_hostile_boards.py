"""Boards that break the rules of docs/link.md 7 to 10: the host ends what it does in time, in an answer or an error."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable

import pytest
from talking_board import ALL, COUNT, LINK, PROGRESS, SLOW, TalkingBoard, World, event_body, sealed

from microrpc.errors import CallCancelledError, CallTimeoutError
from microrpc.host.copies import copy_to
from microrpc.wire.datatypes import CPU, DataType, Tensor
from microrpc.wire.features import Feature
from microrpc.wire.session import Timeouts

REPEAT_S = 0.002  # how often a board says what nobody asked for: as fast as the line carries it


def world(*, wants_events: bool = True, **board: object) -> World:
    """Give one whose host has looked its functions up."""
    made = World(TalkingBoard(**board), timeouts=Timeouts(retry_s=0.5, start_s=5.0, call_s=5.0))  # type: ignore[arg-type]
    made.sink.is_wanted = wants_events
    made.look_up("count")
    made.kinds()
    return made


def flood(one: World, *makes: Callable[[int], tuple[int, bytes]], every_s: float = REPEAT_S) -> None:
    """Have the board say all the time what these make of a number: a message type, and its body."""
    said = 0

    def say() -> None:
        nonlocal said
        for make in makes:
            kind, body = make(said)
            one.board.say(sealed(one.board.session.session_id, kind, body))
            said += 1
        one.at(one.now + every_s, say)

    one.at(one.now, say)


def told(done: int, *, seq: int | None = None) -> Callable[[int], tuple[int, bytes]]:
    """Give what makes a PROGRESS of the last request that came, or of `seq`."""
    return lambda said: (0x27, struct.pack("<HII", said % 2**16 if seq is None else seq, done, 10))


def plain(said: int) -> tuple[int, bytes]:
    return 0x23, event_body(said, 0, 0, b"flood", bytes(0))


def reliable(said: int) -> tuple[int, bytes]:
    return 0x23, event_body(said * 7, 1, 0, b"flood", bytes(0))


def state(said: int) -> tuple[int, bytes]:
    return 0x25, struct.pack("<III", said % 3, said * 2**30 % 2**32, said * 2**30 % 2**32)


def keep_alive(said: int) -> tuple[int, bytes]:
    return 0x28, bytes(2)


def nonsense(said: int) -> tuple[int, bytes]:
    return 0x20 + said % 9, bytes(said % 40)


FLOODS = {
    "events without credit": (plain,),
    "reliable events out of order": (reliable,),
    "states": (state,),
    "states and events": (state, plain, reliable),
    "keep-alives": (keep_alive,),
    "progress of any seq": (told(99),),
    "all of it": (plain, reliable, state, keep_alive, told(3), nonsense),
}


@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.parametrize("wants_events", [False, True])
def test_a_flood_holds_up_no_call_no_copy_and_no_listening(name: str, wants_events: bool) -> None:
    one = world(wants_events=wants_events)
    flood(one, *FLOODS[name])
    start = one.now
    for count in range(1, 21):
        assert one.call(COUNT) == count
    data = bytes(range(256)) * 8
    one.run(copy_to(one.requests, memoryview(data), Tensor(64, CPU, DataType.parse("uint8"), (len(data),))))
    assert one.board.memory[64 : 64 + len(data)] == data
    assert one.now - start < 2.0
    if wants_events:
        before = one.now
        one.kinds()
        one.listen(2.0)
        assert one.now - before == pytest.approx(2.0, abs=0.01)
        assert len(one.kinds()) < 2.0 / REPEAT_S, "the host answers a flood with another"
    assert one.connection.stats.sessions == 1
    assert len(one.connection.carrier.host.progress) == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_flood_of_progress_does_not_put_off_a_limit_of_the_programs_own(is_cancelled: bool) -> None:
    one = world(slow_s=math.inf, tells_s=1e9, wants_events=False, heeds_cancel=False)
    seq = len(one.board.executed) - 1
    flood(one, told(1, seq=seq + 1), told(2**32 - 1, seq=seq + 1))
    start = one.now
    with pytest.raises(CallCancelledError if is_cancelled else CallTimeoutError):
        one.call(SLOW, timeout_s=3.0, cancel_at=start + 1.0 if is_cancelled else math.inf)
    assert one.now - start == pytest.approx(2.0 if is_cancelled else 3.0, abs=0.1)


def test_progress_on_a_slow_line_does_not_either() -> None:
    one = World(
        TalkingBoard(slow_s=1000.0, tells_s=0.1), baud=9600, timeouts=Timeouts(retry_s=0.5, start_s=5.0, call_s=5.0)
    )
    one.sink.is_wanted = False
    one.look_up("count")
    start = one.now
    with pytest.raises(CallTimeoutError):
        one.call(SLOW, timeout_s=20.0)
    assert one.now - start == pytest.approx(20.0, abs=0.2)


def test_a_flood_of_progress_without_a_limit_is_ended_by_cancelling() -> None:
    one = world(slow_s=math.inf, tells_s=1e9, wants_events=False, heeds_cancel=False)
    seq = len(one.board.executed) - 1
    heard: list[tuple[int, int]] = []
    flood(one, told(7, seq=seq + 1))
    start = one.now
    with pytest.raises(CallCancelledError):
        one.call(SLOW, on_progress=lambda *news: heard.append(news), cancel_at=start + 60.0)
    assert one.now - start == pytest.approx(61.0, abs=0.1)
    assert len(heard) > 1000


def test_progress_behind_the_reply_is_that_of_no_call() -> None:
    one = world(wants_events=False)
    heard: list[tuple[int, int]] = []
    answer = one.board.answer

    def answer_and_tell(seq: int, packet: object) -> None:
        answer(seq, packet)  # type: ignore[arg-type]
        one.board.say(sealed(one.board.session.session_id, 0x27, struct.pack("<HII", seq, 1, 2)))

    one.board.answer = answer_and_tell  # type: ignore[method-assign, assignment]
    for count in range(1, 6):
        assert one.call(COUNT, on_progress=lambda *news: heard.append(news)) == count
    assert heard == []


@pytest.mark.parametrize("complains", [False, True])
def test_a_board_that_announces_calls_and_knows_none_is_given_up_in_time(complains: bool) -> None:
    one = world(wants_events=False)
    on_request = one.board.on_request

    def refuse_calls(seq: int, cancels: bool, content: bytes) -> None:
        if content[:1] != b"\x03":
            on_request(seq, cancels, content)
        elif complains:
            one.board.has_complained = False
            one.board.complain()

    one.board.on_request = refuse_calls  # type: ignore[method-assign]
    start = one.now
    with pytest.raises(CallTimeoutError):
        one.call(COUNT)
    assert one.now - start == pytest.approx(5.0, abs=0.3)
    assert one.board.calls == 0
    assert one.look_up("count") == COUNT


@pytest.mark.parametrize("repeats", [1, 2])
def test_what_tells_the_features_may_be_damaged_at_any_byte(repeats: int) -> None:
    """The answer is a frame of its own, so it is the one with the features' handle."""
    for at in range(34):
        one = World(TalkingBoard(), timeouts=Timeouts(retry_s=0.5, start_s=5.0, call_s=5.0))
        one.sink.is_wanted = False
        handle = one.board.handle
        left = repeats

        def damage(data: bytes, to_board: bool, at: int = at, handle: int = handle) -> bytes:
            nonlocal left
            if to_board or left == 0 or struct.pack("<Q", handle) not in data:
                return data
            left -= 1
            begin = data.index(b"\xff\xfd")
            damaged = bytearray(data)
            if begin + at < len(damaged):
                damaged[begin + at] ^= 0x04
            return bytes(damaged)

        one.damage = damage
        assert one.look_up("count") == COUNT
        assert left == 0
        assert one.connection.features.known == ALL, at
        assert one.connection.link is not None
        assert one.connection.link.handle == LINK
        assert one.call(COUNT) == 1
        assert one.now < 120.0


@pytest.mark.parametrize(
    ("handle", "known"),
    [
        (0, Feature(0)),
        (2 | ALL << 8, Feature(0)),
        (0xFFFF_FFFF_FFFF_FFFF, Feature(0)),
        (0xFFFF_FFFF_FFFF_FF01, Feature(63)),
        (1 | 2 << 8, Feature.RELIABLE),
        (1 | PROGRESS << 8 | 1 << 16, Feature.PROGRESS),  # a host timeout of a millisecond
    ],
)
def test_whatever_the_features_are_calls_go_on(handle: int, known: Feature, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TalkingBoard, "handle", handle)
    one = world()
    assert one.connection.features.known == known
    for count in range(1, 6):
        assert one.call(COUNT) == count
    one.kinds()
    one.sink.is_wanted = False
    one.listen(2.0)
    assert len(one.kinds()) <= 102, "it says that it is there fifty times a second at most"


class Liar:
    """Has a board say anything at all that is whole, drawn from a seed: messages of the link, of sessions, and text."""

    def __init__(self, one: World, seed: int) -> None:
        self.one = one
        self.random = random.Random(seed)

    def begin(self) -> None:
        self.one.at(self.one.now + self.random.expovariate(100), self._say)

    def _say(self) -> None:
        source, board = self.random, self.one.board
        session_id = board.session.session_id
        small = source.choice((0, 1, 2, 3, 255, 2**16 - 1, 2**31, 2**32 - 1))
        seq = struct.pack("<H", source.choice((board.base, board.base - 1, board.base + 1, small)) % 2**16)
        numbers = struct.pack("<II", small % 2**32, source.randrange(2**32))
        junk = source.randbytes(source.randrange(24))
        kind = source.choice((0x20, 0x22, 0x23, 0x23, 0x24, 0x25, 0x25, 0x26, 0x27, 0x27, 0x28, 0x29, 3))
        body = {
            0x23: event_body(small % 2**32, source.randrange(4), source.randrange(2**32), source.randbytes(3), junk),
            0x25: struct.pack("<I", source.randrange(2)) + numbers,
            0x27: seq + numbers,
            0x28: bytes(2),
        }.get(kind, seq)
        if source.random() < 0.2:
            body = junk
        board.say(sealed(session_id, kind, body) if kind != 3 else struct.pack("<HB", 0, 3) + junk)
        self.begin()


@pytest.mark.parametrize("seed", [*range(10), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(10, 100))])
def test_whatever_a_board_says_besides_calls_run_once_and_copies_are_whole(seed: int) -> None:
    one = world(slow_s=1.0, tells_s=0.3)
    liar = Liar(one, seed)
    liar.begin()
    start, source = one.now, liar.random
    for count in range(1, 30):
        match source.randrange(4):
            case 0:
                one.listen(source.uniform(0, 0.5), until_event=source.random() < 0.5)
            case 1:
                data = source.randbytes(source.randrange(1, 3000))
                one.run(copy_to(one.requests, memoryview(data), Tensor(64, CPU, DataType.parse("uint8"), (len(data),))))
                assert one.board.memory[64 : 64 + len(data)] == data
            case 2:
                assert one.call(SLOW, on_progress=lambda done, total: None) == 3
            case _:
                one.sink.is_wanted = not one.sink.is_wanted
        assert one.call(COUNT) == count
    assert one.board.calls == 29
    assert one.now - start < 29 * 2.0
    assert one.connection.stats.sessions == 1
    reliable = one.sink.reliable()
    assert len(one.sink.events) < 100 * (one.now - start) + 1000
    assert len(reliable) <= len(one.sink.events)
