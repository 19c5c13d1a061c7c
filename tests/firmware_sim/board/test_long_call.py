"""Long functions of the simulated board: PROGRESS, CANCEL, and what comes while one runs (docs/link.md 9)."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hand_made_link import (
    CALL,
    CANCEL,
    INIT,
    KEEP_ALIVE,
    NAK,
    NORMAL,
    PACKET,
    PROGRESS,
    SESSION_REPLY,
    TERMINATE,
    LinkHand,
    returned,
    thrown,
)

from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from firmware_sim.board.long_call import Cancelled
from microrpc.wire.features import Feature
from microrpc.wire.frames import encode_frame
from microrpc.wire.packets import decode_packet, decode_result

NOTHING: list[tuple[int, bytes]] = []


def progress(seq: int, done: int, total: int) -> tuple[int, bytes]:
    return PROGRESS, struct.pack("<HII", seq, done, total)


def make(**device_args: Any) -> LinkHand:
    """A board with the demonstration functions and one that tells what befell it; long functions wait to go on."""
    hand = LinkHand(seed=7, **device_args)
    install(hand.device)
    hand.open()
    hand.device.interleaves = True
    return hand


@pytest.fixture
def hand() -> LinkHand:
    return make()


def go_on(hand: LinkHand) -> list[tuple[int, bytes]]:
    hand.device.go_on()
    return hand.read(hand.device.take_output())


# --- progress -----------------------------------------------------------------------------------------


def test_each_yield_of_a_call_tells_how_far_it_has_come(hand: LinkHand) -> None:
    assert hand.say(hand.call(0, "work", 3, 100)) == [progress(0, 1, 3)]
    assert hand.device.is_busy
    assert go_on(hand) == [progress(0, 2, 3)]
    assert go_on(hand) == [progress(0, 3, 3)]
    assert go_on(hand) == [returned(0, 3)]
    assert not hand.device.is_busy
    assert hand.device.clock.now() == pytest.approx(300e-6)


def test_a_device_that_nobody_drives_runs_a_long_function_to_its_end_at_once(hand: LinkHand) -> None:
    hand.device.interleaves = False
    assert hand.say(hand.call(0, "work", 2, 100)) == [progress(0, 1, 2), progress(0, 2, 2), returned(0, 2)]


@pytest.mark.parametrize(("kind", "features"), [(PACKET, Feature.PROGRESS | Feature.CANCEL), (CALL, Feature.CANCEL)])
def test_nobody_is_told_who_did_not_ask_or_by_a_board_that_does_not_know_it(kind: int, features: Feature) -> None:
    hand = make(features=features)
    assert hand.say(hand.call(0, "work", 1, 0, kind=kind)) == NOTHING
    assert go_on(hand) == [returned(0, 1)]


def test_a_normal_message_is_answered_when_its_long_functions_have_ended_and_then_the_next_packet_of_it(
    hand: LinkHand,
) -> None:
    packets = hand.call_packet("work", 1, 0) + hand.call_packet("noop") + hand.call_packet("work", 2, 0)
    steps = [hand.say(hand.plain(NORMAL, packets, hand.session_id)), *(go_on(hand) for _ in range(3))]
    results = [[decode_result(decode_packet(body[8:]).values) for _, body in step] for step in steps]  # type: ignore[union-attr]
    assert results == [[], [1, None], [], [2]]


def test_a_call_is_damage_to_a_board_that_knows_neither() -> None:
    hand = make(features=None)
    hand.say(hand.call(0, "noop", kind=PACKET))
    assert hand.say(hand.call(1, "noop")) == [(NAK, b"\1\0")]


def test_progress_is_given_as_numbers_of_32_bits_and_what_is_none_fails(hand: LinkHand) -> None:
    @hand.device.function
    def odd() -> Iterator[Any]:
        yield -1, 1 << 40
        yield
        yield "half"

    assert hand.say(hand.call(0, "odd")) == [progress(0, 0, 0xFFFFFFFF)]
    assert go_on(hand) == NOTHING
    assert go_on(hand) == [
        thrown(0, "a long function yields done and total, two whole numbers, or nothing; not 'half'")
    ]
    assert not hand.device.is_busy


def test_what_a_long_function_raises_and_gives_reaches_the_host_as_that_of_any_other(hand: LinkHand) -> None:
    @hand.device.function
    def fails() -> Iterator[Any]:
        yield
        raise ValueError("no")

    @hand.device.function
    def pair() -> Iterator[Any]:
        yield
        return {1, 2}

    @hand.device.function
    def ends() -> Iterator[Any]:
        yield
        sys.exit(3)

    hand.say(hand.call(0, "fails"))
    assert go_on(hand) == [thrown(0, "ValueError: no")]
    hand.say(hand.call(1, "ends"))
    assert go_on(hand) == [thrown(1, "SystemExit: 3")]
    hand.say(hand.call(2, "pair"))
    [(_, body)] = go_on(hand)
    assert b"UnsupportedValueError" in body


def test_ctrl_c_in_a_long_function_goes_on_to_the_program_and_the_board_can_be_reset(hand: LinkHand) -> None:
    ended = []

    @hand.device.function
    def waits() -> Iterator[Any]:
        try:
            yield
            raise KeyboardInterrupt
        finally:
            ended.append(True)

    hand.say(hand.call(0, "waits"))
    with pytest.raises(KeyboardInterrupt):
        go_on(hand)
    assert ended == [True]
    hand.device.reset()
    assert not hand.device.is_busy


def test_stock_firmware_runs_a_long_function_to_its_end_at_once() -> None:
    hand = LinkHand(firmware="stock")
    install(hand.device)
    hand.open()
    hand.device.interleaves = True
    answers = hand.say(hand.plain(NORMAL, hand.call_packet("work", 2, 100), hand.session_id))
    assert [kind for kind, _ in answers] == [NORMAL]


# --- cancelling ---------------------------------------------------------------------------------------


def test_a_cancel_of_the_running_call_ends_it_at_its_next_yield(hand: LinkHand) -> None:
    assert hand.say(hand.call(0, "work", 9, 0)) == [progress(0, 1, 9)]
    assert hand.say(hand.about(CANCEL, 0)) == NOTHING
    assert go_on(hand) == [thrown(0, "cancelled")]
    assert hand.say(hand.about(CANCEL, 0)) == [thrown(0, "cancelled")]  # the reply is kept
    assert hand.say(hand.call(0, "work", 9, 0)) == [thrown(0, "cancelled")]
    assert hand.say(hand.call(1, "noop"))[0][0] == 0x21


def test_a_function_may_clean_up_or_go_on_when_it_is_cancelled(hand: LinkHand) -> None:
    seen: list[int] = []

    @hand.device.function
    def stubborn() -> Iterator[Any]:
        for step in range(3):
            try:
                yield step, 3
            except Cancelled:
                seen.append(step)
        return 5

    hand.say(hand.call(0, "stubborn"))
    hand.say(hand.about(CANCEL, 0))
    assert [go_on(hand) for _ in range(3)] == [[progress(0, 1, 3)], [progress(0, 2, 3)], [returned(0, 5)]]
    assert seen == [0, 1, 2]


def test_a_cancel_of_another_call_or_of_a_packet_or_that_is_damaged_is_dropped_without_a_nak(hand: LinkHand) -> None:
    hand.say(hand.call(0, "noop"))
    wrong = bytearray(hand.about(CANCEL, 1))
    wrong[12] ^= 1
    strangers = [hand.about(CANCEL, 0), hand.about(CANCEL, 2), bytes(wrong), b"noise", hand.about(KEEP_ALIVE, 0)]
    strangers += [hand.call(1, "work", 2, 0), hand.ack(0, 1000), hand.plain(CANCEL, b"\1\0", hand.session_id)]
    hand.say(hand.call(1, "work", 2, 0))
    assert [hand.say(wire) for wire in strangers] == [NOTHING] * len(strangers)
    assert go_on(hand) == [progress(1, 2, 2)]
    assert go_on(hand) == [returned(1, 2)]
    hand.say(hand.call(2, "work", 1, 0, kind=PACKET))
    assert hand.say(hand.about(CANCEL, 2)) == NOTHING
    assert go_on(hand) == [returned(2, 1)]


def test_a_cancel_of_what_has_not_come_takes_its_place(hand: LinkHand) -> None:
    runs: list[int] = []
    hand.device.function(lambda: runs.append(1), name="count")
    first = thrown(0, "cancelled before it began")
    assert hand.say(hand.about(CANCEL, 0)) == [first]
    assert hand.say(hand.call(0, "count")) == [first]
    assert hand.say(hand.about(CANCEL, 2)) == [(NAK, b"\1\0")]  # the one before it is missing
    assert hand.say(hand.about(CANCEL, 1 + 8)) == NOTHING  # past the window
    hand.say(hand.call(1, "count"))
    assert hand.say(hand.about(CANCEL, 0)) == NOTHING  # old, and not the last one
    assert runs == [1]


def test_the_reply_of_a_cancelled_call_that_is_too_long_to_keep_is_forgotten() -> None:
    hand = make(reply_bytes=20)
    assert hand.say(hand.about(CANCEL, 0)) == [thrown(0, "cancelled before it began")]
    assert hand.say(hand.about(CANCEL, 0)) == [(0x21, b"\0\0\3")]


@pytest.mark.parametrize("kind", [PACKET, CALL, NORMAL])
def test_a_terminate_cancels_whatever_runs_and_is_acted_on_when_it_was_answered(hand: LinkHand, kind: int) -> None:
    if kind == NORMAL:
        hand.say(hand.plain(NORMAL, hand.call_packet("work", 9, 0), hand.session_id))
    else:
        hand.say(hand.call(0, "work", 9, 0, kind=kind))
    assert hand.say(hand.plain(TERMINATE)) == NOTHING
    [(_, body)] = go_on(hand)
    assert body.endswith(b"cancelled")
    assert hand.say(hand.about(CANCEL, 0)) == [(TERMINATE, b"")]


def test_of_several_that_end_the_session_the_last_one_counts(hand: LinkHand) -> None:
    hand.say(hand.call(0, "work", 9, 0))
    old_id = hand.session_id
    for wire in (hand.plain(INIT, b"\1", 0x11), hand.plain(TERMINATE), hand.plain(INIT, b"\1", 0x22)):
        assert hand.say(wire) == NOTHING
    hand.device.go_on()
    output = hand.device.take_output()
    cut = output.rindex(b"\xff\xfd")
    assert hand.read(output[:cut]) == [thrown(0, "cancelled")]
    assert hand.read(output[cut:]) == [(SESSION_REPLY, b"\1")]
    assert hand.session_id & 0xFF == 0x22
    assert hand.session_id != old_id


def test_an_init_or_terminate_that_no_session_would_take_cancels_nothing(hand: LinkHand) -> None:
    hand.say(hand.call(0, "work", 2, 0))
    strangers = [(INIT, b"\2", 5), (INIT, b"\1", 0), (INIT, b"\1", 0x105), (INIT, b"", 5), (TERMINATE, b"\0", 0)]
    for message_type, body, session_id in [*strangers, (TERMINATE, b"", hand.session_id ^ 0x100)]:
        assert hand.say(hand.plain(message_type, body, session_id)) == NOTHING
    assert go_on(hand) == [progress(0, 2, 2)]


@pytest.mark.parametrize("size_bytes", range(1, 18))
def test_a_cancel_may_come_in_pieces_and_from_within_the_same_write(hand: LinkHand, size_bytes: int) -> None:
    wire = hand.call(0, "work", 99, 0) + hand.about(CANCEL, 0)
    call_bytes = len(wire) - 17
    assert hand.say(wire[: call_bytes + size_bytes]) == [progress(0, 1, 99)]
    assert go_on(hand) == ([progress(0, 2, 99)] if size_bytes < 17 else [thrown(0, "cancelled")])
    if size_bytes < 17:
        hand.say(wire[call_bytes + size_bytes :])
        assert go_on(hand) == [thrown(0, "cancelled")]


def test_a_frame_that_began_while_the_function_ran_goes_on_when_it_has_ended(hand: LinkHand) -> None:
    wire = hand.about(KEEP_ALIVE, 0)
    hand.say(hand.call(0, "work", 1, 0))
    hand.say(wire[:10])
    assert go_on(hand) == [returned(0, 1)]
    assert hand.say(wire[10:]) == [(KEEP_ALIVE, b"\0\0")]


def test_a_longer_frame_that_began_while_the_function_ran_is_damage_when_it_has_ended(hand: LinkHand) -> None:
    wire = hand.call(1, "noop")
    hand.say(hand.call(0, "work", 1, 0))
    hand.say(wire[:10])
    go_on(hand)
    assert hand.say(wire[10:]) == [(NAK, b"\1\0")]
    assert hand.say(wire)[0][0] == 0x21


def test_a_frame_of_16_bytes_is_heard_and_one_of_17_is_not(hand: LinkHand) -> None:
    hand.say(hand.call(0, "work", 1, 0))
    before = hand.device.stats.frames_received
    hand.say(encode_frame(bytes(16)) + encode_frame(bytes(17)) + encode_frame(bytes(16)))
    assert hand.device.stats.frames_received == before + 2


def test_a_board_without_cancel_reads_nothing_while_a_function_runs() -> None:
    hand = make(features=Feature.PROGRESS)
    assert hand.device.listens
    assert hand.say(hand.call(0, "work", 2, 0) + hand.about(CANCEL, 0)) == [progress(0, 1, 2)]
    assert not hand.device.listens
    assert hand.say(b"noise") == NOTHING
    assert go_on(hand) == [progress(0, 2, 2)]
    assert go_on(hand) == [returned(0, 2), returned(0, 2), (NAK, b"\1\0")]


def test_a_board_that_hangs_in_a_long_function_takes_what_comes_and_loses_it() -> None:
    hand = make(features=Feature.PROGRESS)
    hand.say(hand.call(0, "work", 2, 0))
    hand.device.wedge()
    assert hand.device.listens
    assert hand.say(b"noise") == NOTHING


# --- the end of a board -------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [Device.reset, Device.wedge])
def test_a_board_that_is_reset_or_hangs_ends_the_function(hand: LinkHand, end: Callable[[Device], None]) -> None:
    seen: list[str] = []

    @hand.device.function
    def held() -> Iterator[Any]:
        try:
            while True:
                yield
        finally:
            seen.append("closed")
            yield  # which Python refuses, and the board does not mind

    hand.say(hand.call(0, "held"))
    end(hand.device)
    assert seen == ["closed"]
    assert not hand.device.is_busy
    assert go_on(hand) == ([(TERMINATE, b"")] if end is Device.reset else NOTHING)
    hand.device.reset()
    hand.open()
    assert hand.say(hand.call(0, "noop"))[0][0] == 0x21


@pytest.mark.parametrize("steps", [0, 1])
def test_a_long_function_that_resets_its_board_is_not_answered_and_ends_at_its_yield(
    hand: LinkHand, steps: int
) -> None:
    seen: list[str] = []

    @hand.device.function
    def die() -> Iterator[Any]:
        for _ in range(steps):
            yield
        hand.device.reset()
        try:
            yield 1, 2
        finally:
            seen.append("closed")

    answers = hand.say(hand.call(0, "die"))
    if steps:
        answers = go_on(hand)
    assert answers == [(TERMINATE, b"")]
    assert seen == ["closed"]
    assert not hand.device.is_busy


# --- the time evaluator -------------------------------------------------------------------------------


def evaluator(hand: LinkHand, name: str, *, number: int = 1, repeat: int = 1) -> int:
    """The handle of one that is made."""
    evaluate = hand.device.functions["runtime.RPCTimeEvaluator"]
    library = hand.device.system_library
    hand.device.functions["timed"] = evaluate(library, name, 1, 0, number, repeat, 0, 0, 0, 0, "")
    return len(hand.device.functions)


def test_the_time_evaluator_reports_between_its_repeats_and_not_of_what_it_times(hand: LinkHand) -> None:
    evaluator(hand, "sleep_ms", repeat=3)
    assert hand.say(hand.call(0, "timed", 10)) == [progress(0, 1, 3)]
    assert go_on(hand) == [progress(0, 2, 3)]
    [(_, body)] = go_on(hand)
    assert struct.unpack("<3d", body[-24:]) == pytest.approx([0.01] * 3)


def test_a_long_function_that_is_timed_is_heard_of_only_when_it_is_cancelled(hand: LinkHand) -> None:
    evaluator(hand, "work", number=2)
    assert hand.say(hand.call(0, "timed", 2, 1000)) == NOTHING
    assert [go_on(hand) for _ in range(3)] == [NOTHING] * 3
    [(_, body)] = go_on(hand)
    assert struct.unpack("<d", body[-8:]) == pytest.approx([0.002])
    hand.say(hand.call(1, "timed", 2, 1000))
    hand.say(hand.about(CANCEL, 1))
    assert go_on(hand) == [thrown(1, "cancelled")]


def test_the_time_evaluator_is_cancelled_between_its_repeats(hand: LinkHand) -> None:
    evaluator(hand, "noop", repeat=1000)
    hand.say(hand.call(0, "timed"))
    hand.say(hand.about(CANCEL, 0))
    assert go_on(hand) == [thrown(0, "cancelled")]
