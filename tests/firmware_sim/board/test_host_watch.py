"""Whether a board has a host: what its firmware is told, and when (docs/link.md 10)."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hand_made_link import CANCEL, INIT, KEEP_ALIVE, NORMAL, TERMINATE, LinkHand

from firmware_sim.board.clock import VirtualClock
from firmware_sim.board.demo import install


def make(host_timeout_ms: int = 500, **device_args: Any) -> tuple[LinkHand, list[bool], VirtualClock]:
    told: list[bool] = []
    clock = VirtualClock()
    hand = LinkHand(clock=clock, host_timeout_ms=host_timeout_ms, on_session=told.append, **device_args)
    install(hand.device)
    return hand, told, clock


def pass_time(hand: LinkHand, clock: VirtualClock, seconds: float) -> None:
    clock.sleep(seconds)
    hand.device.on_time()


def test_the_firmware_is_told_of_each_session_and_of_its_end() -> None:
    hand, told, _ = make()
    assert told == []
    hand.open()
    assert told == [True]
    hand.open()
    assert told == [True, False, True]
    hand.say(hand.plain(INIT, b"\1", 0x31))  # it takes the place of the one before
    assert told == [True, False, True, False, True]
    hand.say(hand.plain(TERMINATE))
    hand.say(hand.plain(TERMINATE))
    assert told == [True, False, True, False, True, False]


def test_a_board_that_boots_has_told_nobody_anything() -> None:
    hand, told, _ = make()
    hand.open()
    hand.device.reset()
    assert told == [True]
    assert hand.device.due == math.inf
    hand.open()
    assert told == [True, True]


def test_a_host_that_is_silent_is_gone_and_there_again_when_it_speaks() -> None:
    hand, told, clock = make()
    hand.open()
    assert hand.device.due == 0.5
    pass_time(hand, clock, 0.499)
    assert told == [True]
    pass_time(hand, clock, 0.001)
    assert told == [True, False]
    assert hand.device.due == math.inf
    assert hand.say(hand.about(KEEP_ALIVE, 0)) == [(KEEP_ALIVE, b"\0\0")]
    assert told == [True, False, True]
    assert hand.device.due == 1.0
    pass_time(hand, clock, 0.5)
    hand.say(hand.plain(TERMINATE))
    assert told == [True, False, True, False]


@pytest.mark.parametrize("good", ["keep-alive", "ack", "cancel", "call", "normal"])
def test_each_good_message_of_the_session_is_a_sign_of_life(good: str) -> None:
    hand, _, clock = make()
    hand.open()
    clock.sleep(0.3)
    packet = hand.call_packet("noop")
    wires = {
        "keep-alive": hand.about(KEEP_ALIVE, 0),
        "ack": hand.ack(0, 0),
        "cancel": hand.about(CANCEL, 5),
        "call": hand.call(0, "noop"),
        "normal": hand.plain(NORMAL, packet, hand.session_id),
    }
    hand.say(wires[good])
    assert hand.device.due == pytest.approx(0.8)


def test_damage_and_what_is_of_another_session_is_none() -> None:
    hand, _, clock = make()
    hand.open()
    clock.sleep(0.3)
    damaged = bytearray(hand.about(KEEP_ALIVE, 0))
    damaged[-1] ^= 1
    alien = hand.plain(KEEP_ALIVE, b"\0\0", hand.session_id)  # without a crc32
    hand.session_id ^= 0x100
    for wire in (bytes(damaged), alien, hand.about(KEEP_ALIVE, 0), b"noise"):
        hand.say(wire)
    assert hand.device.due == 0.5


def test_the_time_in_which_a_function_runs_does_not_count() -> None:
    hand, told, clock = make()
    hand.open()
    hand.say(hand.call(0, "sleep_ms", 2000))
    assert hand.device.due == 2.5
    hand.device.interleaves = True
    hand.say(hand.call(1, "work", 2, 1_000_000))
    assert hand.device.due == math.inf
    hand.device.go_on()
    hand.device.go_on()
    assert hand.device.due == 4.5
    assert clock.now() == 4.0
    assert told == [True]


def test_a_board_that_does_not_care_or_hangs_waits_for_nothing() -> None:
    hand, told, clock = make(0)
    hand.open()
    pass_time(hand, clock, 1e6)
    assert (hand.device.due, told) == (math.inf, [True])
    hand, told, clock = make()
    hand.open()
    hand.device.wedge()
    pass_time(hand, clock, 1.0)
    assert told == [True]


def test_without_the_link_a_silent_host_is_gone_too() -> None:
    hand, told, clock = make(link=False)
    hand.open()
    pass_time(hand, clock, 0.5)
    hand.say(hand.plain(NORMAL, hand.call_packet("noop"), hand.session_id))
    assert told == [True, False, True]
