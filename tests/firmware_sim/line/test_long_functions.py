"""Events and long functions on a simulated line: exact times, and what goes wrong meanwhile (docs/link.md 8 to 10)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from hand_made_link import (
    CANCEL,
    EVENT,
    EVENT_STATE,
    INIT,
    KEEP_ALIVE,
    PROGRESS,
    REPLY,
    SESSION_REPLY,
    TERMINATE,
    LinkHand,
    thrown,
)

from firmware_sim.board.clock import VirtualClock
from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from firmware_sim.line.faults import DelayEvents, Fault, Faults, HoldEvents, LoseEvents, Reset, Unplug, Wedge
from firmware_sim.line.settings import FirmwareTime, Rate, Uart
from firmware_sim.line.uart import UartLine
from microrpc.wire.features import Feature
from microrpc.wire.uart import FlowControl

BYTE_S = 10 / 115200
PROGRESS_BYTES = 8 + 17  # the frame, and its payload
REPLY_BYTES = 8 + 6 + 32 + 4
Heard = tuple[float, int, bytes]


class Line:
    """A board on a line, and its host; times are told from the moment that the session was open."""

    def __init__(self, uart: Uart | None = None, *, faults: tuple[Fault, ...] = (), **device_args: Any) -> None:
        self.device = Device(seed=7, **device_args)
        install(self.device)
        self.hand = LinkHand(self.device)
        self.line = UartLine(self.device, uart or Uart(to_board=Rate(115200), to_host=Rate(115200)))
        self.begin = self.now = 0.0
        self.say(self.hand.plain(TERMINATE) + self.hand.plain(INIT, b"\1", 0x26))
        assert [kind for _, kind, _ in self.listen(1.0)] == [TERMINATE, SESSION_REPLY]
        self.begin = self.now
        for fault in faults:
            self.line.inject(fault, self.now)

    def say(self, wire: bytes) -> None:
        assert self.line.write(wire, self.now) == len(wire)

    def listen(self, seconds: float) -> list[Heard]:
        """What is heard until then: the time of each message's last byte, its type, and what follows."""
        until = self.now + seconds
        found: list[Heard] = []
        while True:
            heard = self.hand.read(self.line.read(self.now))
            found += [(self.now - self.begin, kind, body) for kind, body in heard]
            at = self.line.next_event()
            if at is None or at > until:
                self.now = until
                return found
            self.now = max(self.now, at)

    def event(self, name: str, *values: int, reliable: bool = False) -> bool:
        return self.line.event(self.now, name, *values, reliable=reliable)


def times(heard: list[Heard], kind: int) -> list[float]:
    return [at for at, one, _ in heard if one == kind]


# --- long functions -----------------------------------------------------------------------------------


def test_progress_is_heard_when_it_happens_and_its_sending_takes_the_boards_time() -> None:
    line = Line()
    wire = line.hand.call(0, "work", 3, 1_000_000)
    line.say(wire)
    heard = line.listen(10)
    begun = len(wire) * BYTE_S
    expected = [begun + step * (1 + PROGRESS_BYTES * BYTE_S) for step in (1, 2, 3)]
    assert times(heard, PROGRESS) == pytest.approx(expected, abs=1e-9)
    [replied] = times(heard, REPLY)
    assert replied == pytest.approx(expected[-1] + REPLY_BYTES * BYTE_S, abs=1e-9)


def test_an_hour_is_cancelled_in_its_midst_at_the_end_of_the_step() -> None:
    line = Line()
    line.say(line.hand.call(0, "work", 3600, 1_000_000))
    assert len(line.listen(1800.5)) == 1796  # PROGRESS takes 2 ms of each step
    line.say(line.hand.about(CANCEL, 0))
    *steps, (at, kind, body) = line.listen(10)
    assert [one for _, one, _ in steps] == [PROGRESS]  # of the step in which it came
    assert (kind, body) == thrown(0, "cancelled")
    assert at - steps[0][0] == pytest.approx((8 + 39) * BYTE_S, abs=1e-9)
    assert line.listen(3600) == []
    assert not line.device.is_busy


def test_how_often_anybody_looks_changes_nothing() -> None:
    def run(step_s: float) -> list[tuple[int, bytes]]:
        line = Line()
        line.say(line.hand.call(0, "work", 5, 300_000))
        heard = []
        while line.now < 3:
            heard += line.hand.read(line.line.read(line.now))
            if line.now == 1.75:
                line.say(line.hand.about(CANCEL, 0))
            line.now += step_s
        return heard

    assert run(0.25) == run(0.015625)


def test_a_cancel_waits_in_the_ring_for_the_next_yield_and_other_bytes_go_lost_there_without_a_nak() -> None:
    line = Line(Uart(receive_ring_bytes=64))
    line.say(line.hand.call(0, "work", 2, 1_000_000))
    line.listen(0.5)
    line.say(b"x" * 30 + line.hand.about(KEEP_ALIVE, 0) + line.hand.about(CANCEL, 0))
    line.listen(0.1)
    assert line.line.state.ring_bytes == 64
    assert [kind for _, kind, _ in line.listen(1)] == [PROGRESS, REPLY]
    assert line.line.state.ring_bytes == 0


@pytest.mark.parametrize("flow_control", [FlowControl.NONE, FlowControl.RTS_CTS])
def test_a_board_without_cancel_reads_its_ring_when_the_function_has_ended(flow_control: FlowControl) -> None:
    line = Line(Uart(receive_ring_bytes=64, flow_control=flow_control), features=Feature.PROGRESS)
    line.say(line.hand.call(0, "work", 2, 1_000_000))
    line.listen(0.5)
    line.say(line.hand.about(CANCEL, 0) + line.hand.about(KEEP_ALIVE, 0))
    heard = [kind for _, kind, _ in line.listen(10)]
    assert heard == [PROGRESS, PROGRESS, REPLY, REPLY, KEEP_ALIVE]


def test_reading_the_ring_in_a_yield_takes_the_time_of_its_bytes() -> None:
    def end_of(noise: bytes) -> float:
        line = Line(Uart(firmware=FirmwareTime(byte_s=1e-3)))
        line.say(line.hand.call(0, "work", 2, 1_000_000))
        line.listen(0.5)
        line.say(noise)
        return times(line.listen(10), REPLY)[0]

    assert end_of(b"x" * 40) - end_of(b"") == pytest.approx(40e-3, abs=1e-9)


def test_a_function_that_only_waits_to_be_cancelled_lets_time_go_on() -> None:
    line = Line()

    @line.device.function
    def wait() -> Iterator[Any]:
        while True:
            yield

    line.say(line.hand.call(0, "wait"))
    assert line.listen(0.01) == []
    line.say(line.hand.about(CANCEL, 0))
    [(_, kind, body)] = line.listen(0.01)
    assert (kind, body) == thrown(0, "cancelled")


@pytest.mark.parametrize(
    "fault",
    [
        Reset(at_byte=60),
        Wedge(at_byte=60),
        Unplug(at_s=1.5, for_s=1.0),
        Reset(function="work"),
        Wedge(function="work"),
    ],
    ids=str,
)
def test_what_happens_to_the_board_ends_the_function(fault: Fault) -> None:
    line = Line(faults=(fault,))
    ended: list[int] = []

    @line.device.function(name="work")
    def work() -> Iterator[Any]:
        try:
            for step in range(100):
                line.device.clock.sleep(1)
                yield step, 100
        finally:
            ended.append(step)

    line.say(line.hand.call(0, "work"))
    line.listen(1.2)
    line.say(line.hand.about(KEEP_ALIVE, 0) * 2)
    heard = line.listen(20)
    assert not line.device.is_busy
    assert REPLY not in [kind for _, kind, _ in heard]
    assert ended == ([] if getattr(fault, "function", None) else [1])
    line.line.reset(line.now)
    line.listen(1)
    line.say(line.hand.plain(INIT, b"\1", 0x26))
    assert [kind for _, kind, _ in line.listen(1)] == [SESSION_REPLY]


def test_a_cable_that_is_pulled_from_a_board_with_power_does_not_end_the_function() -> None:
    line = Line(faults=(Unplug(at_s=1.5, for_s=1.0, keeps_power=True),))
    line.say(line.hand.call(0, "work", 4, 1_000_000))
    heard = line.listen(10)
    assert [kind for _, kind, _ in heard] == [PROGRESS, PROGRESS, PROGRESS, REPLY]


# --- events -------------------------------------------------------------------------------------------


def test_an_event_is_sent_at_once_with_the_time_at_which_it_happened() -> None:
    line = Line()
    line.say(line.hand.ack(0, 1000))
    assert [kind for _, kind, _ in line.listen(0.5)] == [EVENT_STATE]
    assert line.event("a")
    [(at, kind, body)] = line.listen(1)
    assert kind == EVENT
    assert at == pytest.approx(0.5 + (8 + 18) * BYTE_S, abs=1e-9)
    assert int.from_bytes(body[5:9], "little") == 1_500_000


def test_an_event_from_without_waits_for_a_processor_that_is_busy() -> None:
    line = Line()
    line.say(line.hand.ack(0, 1000) + line.hand.call(0, "sleep_ms", 2000))
    line.listen(0.5)
    assert line.event("a")
    assert [kind for _, kind, _ in line.listen(5)] == [REPLY, EVENT]


def test_an_event_comes_between_the_steps_of_a_long_function() -> None:
    line = Line()
    line.say(line.hand.ack(0, 1000) + line.hand.call(0, "work", 3, 1_000_000))
    assert [kind for _, kind, _ in line.listen(0.5)] == [EVENT_STATE]
    line.event("a")
    assert [kind for _, kind, _ in line.listen(5)] == [PROGRESS, EVENT, PROGRESS, PROGRESS, REPLY]


def test_events_are_lost_each_third_one() -> None:
    line = Line(faults=(LoseEvents(every=3),))
    line.say(line.hand.ack(0, 1000))
    line.listen(0.1)
    for index in range(7):
        line.event("a", index)
    numbers = [body[0] for _, kind, body in line.listen(1) if kind == EVENT]
    assert numbers == [0, 1, 3, 4, 6]
    assert line.line.state.damaged == {"lose-events": 2}


def test_events_are_lost_by_chance_the_same_way_each_time() -> None:
    def run(seed: int) -> list[int]:
        device = Device(seed=7)
        hand = LinkHand(device)
        line = UartLine(device, faults=Faults([LoseEvents(rate=0.5)], seed=seed))
        line.write(hand.plain(INIT, b"\1", 0x26), 0.5)
        hand.read(line.read(1.0))
        line.write(hand.ack(0, 0xFFFF), 1.0)
        line.advance(2.0)
        for index in range(200):
            line.event(2.0 + index, "a")
        return [body[0] for kind, body in hand.read(line.read(1e3)) if kind == EVENT]

    assert run(1) == run(1) != run(2)
    assert 70 < len(run(1)) < 130


def test_an_event_that_is_delayed_is_overtaken_by_replies_and_not_by_what_is_told_of_events() -> None:
    line = Line(faults=(DelayEvents(by_s=1.0, event=2),))
    line.say(line.hand.ack(0, 1000))
    line.listen(0.5)
    for index in range(3):
        line.event("a", index)
    heard = line.listen(0.4)
    assert [body[0] for _, _, body in heard] == [0]
    line.say(line.hand.ack(0, 1000) + line.hand.about(KEEP_ALIVE, 0))
    heard = line.listen(5)
    assert [kind for _, kind, _ in heard] == [KEEP_ALIVE, EVENT, EVENT, EVENT_STATE]
    frame_s = (8 + 18 + 9) * BYTE_S
    assert heard[1][0] == pytest.approx(0.5 + frame_s + 1.0 + frame_s, abs=1e-9)  # counted from when it was to leave


def test_events_that_are_held_back_come_in_one_burst_and_in_their_order() -> None:
    line = Line(faults=(HoldEvents(at_s=1.0, for_s=2.0),))
    line.say(line.hand.ack(0, 1000))
    line.listen(0.5)
    heard = []
    for index in range(8):
        line.event("a", index)
        heard += line.listen(0.375)
    frame_s = (8 + 18 + 9) * BYTE_S
    held = [3.0 + (1 + index) * frame_s for index in range(5)]
    expected = [0.5 + frame_s, 0.875 + frame_s, *held, 3.125 + frame_s]
    assert [body[0] for _, kind, body in heard if kind == EVENT] == list(range(8))
    assert times(heard, EVENT) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("fault", [Reset(at_byte=30), Wedge(at_byte=30)], ids=str)
def test_events_that_are_held_back_are_lost_with_their_board(fault: Fault) -> None:
    line = Line(faults=(HoldEvents(at_s=0, for_s=2.0), fault))
    line.say(line.hand.ack(0, 1000))
    line.listen(0.1)
    assert line.event("a")
    line.say(line.hand.about(KEEP_ALIVE, 0))
    assert EVENT not in [kind for _, kind, _ in line.listen(5)]


# --- the host -----------------------------------------------------------------------------------------


def test_a_silent_host_is_taken_for_gone_on_time_and_not_while_a_function_runs() -> None:
    told: list[tuple[float, bool]] = []
    clock = VirtualClock()
    line = Line(clock=clock, host_timeout_ms=500, on_session=lambda begins: told.append((clock.now(), begins)))
    del told[:]
    line.say(line.hand.call(0, "sleep_ms", 2000))
    [(at, _, _)] = line.listen(10)
    answered = line.begin + at
    assert told == [(pytest.approx(answered), True), (pytest.approx(answered + 0.5), False)]
    line.say(line.hand.about(KEEP_ALIVE, 0))
    line.listen(0.1)
    assert [begins for _, begins in told] == [True, False, True]


def test_what_arrives_while_a_host_is_taken_for_gone_is_not_lost() -> None:
    told: list[bool] = []
    line = Line(Uart(receive_ring_bytes=1), host_timeout_ms=500, on_session=told.append)
    del told[:]
    message = line.hand.about(KEEP_ALIVE, 0)
    line.say(message)
    line.listen(
        2 * len(message) * BYTE_S + 0.5 - 0.5e-3
    )  # 0.5 s from the end of the answer, but for half a millisecond
    line.say(message)  # 5 bytes of it have crossed when the board has heard nothing for 500 ms
    assert [kind for _, kind, _ in line.listen(0.1)] == [KEEP_ALIVE]
    assert told == [True, False, True]


def test_a_line_where_nothing_is_to_come_says_so() -> None:
    line = Line()
    line.listen(1)
    assert line.line.next_event() is None
    assert line.device.due == math.inf
