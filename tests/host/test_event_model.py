"""The host's events against every behaviour of a bad line, within small bounds (docs/link.md 8).

The host is the real one, the device a model of a few lines. The line carries messages in order, and may lose and double
them, the second one at any later time; what is damaged or cut is lost, to either side. The host's timer may fire at any
moment, a new session may begin and the board may be reset, seen or unseen. All interleavings with two faults are
explored, an early timer counted as one; MICRORPC_MODEL_FAULTS=3 takes minutes.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from talking_board import Collected, event_body, sealed

from microrpc.host.events import EventHost, _Phase
from microrpc.wire.events import Event, decode_event_ack

FAULTS = int(os.environ.get("MICRORPC_MODEL_FAULTS", "2"))
CREDIT_BYTES = 45  # of two events
KEEPS = 2
PROGRAMS = ["pp", "rr", "pr", *(pytest.param(program, marks=pytest.mark.long) for program in ("ppp", "rrr", "prpr"))]


@dataclass(frozen=True)
class Device:
    """What docs/link.md 8 says of the device; each step gives another one, and what it sends."""

    boot: int = 1
    session: int = 1
    credit: int = 0
    next_plain: int = 0
    next_number: int = 0
    oldest: int = 0
    next_reliable: int = 0

    def emit(self, kind: str) -> tuple[Device, tuple[bytes, ...]]:
        if kind == "p":
            after, said = self._send(self.next_plain, 0)
            return dataclasses.replace(after, next_plain=self.next_plain + 1), said
        if self.next_number - self.oldest == KEEPS:
            return self, ()
        return dataclasses.replace(self, next_number=self.next_number + 1)._send_reliable()

    def _send(self, number: int, flags: int) -> tuple[Device, tuple[bytes, ...]]:
        payload = sealed(self.session, 0x23, event_body(number, flags, 0, b"n", b""))
        if len(payload) > self.credit:
            return self, ()
        return dataclasses.replace(self, credit=self.credit - len(payload)), (payload,)

    def _send_reliable(self) -> tuple[Device, tuple[bytes, ...]]:
        after, all_said = self, ()
        while after.next_reliable < after.next_number:
            sent, said = after._send(after.next_reliable, 1)
            if not said:
                break
            after = dataclasses.replace(sent, next_reliable=after.next_reliable + 1)
            all_said += said
        return after, all_said

    def hear(self, message: bytes) -> tuple[Device, tuple[bytes, ...]]:
        ack = decode_event_ack(message)
        assert ack is not None
        after = dataclasses.replace(self, credit=ack.credit_bytes)
        if ack.credit_bytes and self.oldest <= ack.wanted <= self.next_number:
            again = ack.wanted if ack.is_lost else max(self.next_reliable, ack.wanted)
            after = dataclasses.replace(after, oldest=ack.wanted, next_reliable=again)
        state = sealed(self.session, 0x25, struct.pack("<III", self.boot, self.next_plain, after.next_reliable))
        after, said = after._send_reliable()
        return after, (state, *said)

    def begin(self, session: int) -> Device:
        return dataclasses.replace(self, session=session, credit=0, next_reliable=self.oldest)


@dataclass
class World:
    """Both ends, the line between them, and what is left of the program."""

    host: EventHost
    sink: Collected
    device: Device
    program: str
    is_out: bool = False
    to_device: tuple[bytes, ...] = ()
    to_host: tuple[bytes, ...] = ()
    strays: tuple[tuple[str, bytes], ...] = ()
    lost_boots: int = 0
    seen: list[Event] = field(default_factory=list)

    def key(self) -> tuple[object, ...]:
        """Everything that decides what may come; times do not, as the timer may fire at any moment."""
        host = self.host
        state = (host._phase, host._is_first, host._boot, host._was_reset, host._skips, host._next_plain, host._wanted)
        return (
            *(state, host._is_lost, host._was_lost, host._has_taken, self.device, self.program, self.is_out),
            *(self.to_device, self.to_host, self.strays, tuple(self.sink.events)),
        )

    def check(self) -> None:
        """Compare what the program was told with what it may be told at any time."""
        expected: dict[tuple[int, bool], int] = {}
        for event in self.sink.events:
            first = event.number if event.is_gap else event.number - event.missed
            key = (event.boot, event.reliable)
            assert first == expected.get(key, 0), f"lost, doubled or out of order: {self.sink.events}"
            assert not (event.reliable and event.missed), "a reliable event is missed"
            expected[key] = first + event.missed + (not event.is_gap)

    @property
    def is_over(self) -> bool:
        """Whether the program knows of everything that happened in this boot."""
        plain = sum(
            e.missed + (not e.is_gap) for e in self.sink.events if e.boot == self.device.boot and not e.reliable
        )
        reliable = [e.number for e in self.sink.events if e.boot == self.device.boot and e.reliable]
        is_known = plain == self.device.next_plain and reliable == list(range(self.device.next_number))
        return not self.program and is_known

    # --- what may happen next --------------------------------------------------------------------

    def successors(self) -> Iterator[tuple[str, int, World]]:
        """Give each thing that may happen: its name, what it costs in faults, and the world after it."""
        for lane in ("to_device", "to_host"):
            messages = getattr(self, lane)
            if messages:
                first, rest = messages[0], messages[1:]
                yield f"{lane}: arrives", 0, self._after(lane, first, rest)
                yield f"{lane}: lost", 1, self._after(lane, None, rest)
                doubled = self._after(lane, first, rest)
                doubled.strays += ((lane, first),)
                yield f"{lane}: doubled", 1, doubled
        for index, (lane, message) in enumerate(self.strays):
            stray = self._after(lane, message, getattr(self, lane))
            stray.strays = self.strays[:index] + self.strays[index + 1 :]
            yield f"{lane}: its double", 0, stray
        is_quiet = not self.to_device and not self.to_host and not self.strays
        if self.program:
            world = self._copy()
            world.device, said = self.device.emit(self.program[0])
            world.program, world.to_host = self.program[1:], self.to_host + said
            yield "the board says something", 0, world
        if self.host.due_at == -math.inf and not self.is_out:
            yield "an acknowledgement is due", 0, self._acknowledge()
        else:
            yield "the timer", 0 if is_quiet else 1, self._acknowledge()
        yield "a new session", 1, self._new_session(self.device)
        reset = Device(boot=self.device.boot + 1)
        seen = self._new_session(reset)
        seen.host._was_reset = True
        yield "a reset", 1, seen
        yield "a reset that nobody saw", 1, self._new_session(reset)

    def _acknowledge(self) -> World:
        world = self._copy()
        world.to_device += (world.host.make_ack(0.0),)
        world.is_out = True
        return world

    def _new_session(self, device: Device) -> World:
        world = self._copy()
        session = self.device.session + 1
        world.device = device.begin(session)
        world.host.begin(session, CREDIT_BYTES, 1.0)
        world.to_device = world.to_host = world.strays = ()
        world.is_out = False
        return world

    def _after(self, lane: str, message: bytes | None, rest: tuple[bytes, ...]) -> World:
        world = self._copy()
        setattr(world, lane, rest)
        if message is not None and lane == "to_device":
            world.device, said = world.device.hear(message)
            world.to_host += said
        elif message is not None and world.host.receive(message, 0.0):
            world.is_out = False
        world.check()
        return world

    def _copy(self) -> World:
        world = copy.copy(self)
        world.host, world.sink = copy.copy(self.host), copy.copy(self.sink)
        world.sink.events = list(self.sink.events)
        world.host.sink = world.sink
        return world


def start(program: str) -> World:
    """Give a world in which the program has subscribed."""
    host, sink = EventHost(), Collected()
    host.sink = sink
    host.begin(1, CREDIT_BYTES, 1.0)
    world = World(host, sink, Device(), program)
    while world.host._phase is not _Phase.ON or world.is_out:
        world = next(after for name, cost, after in world.successors() if not cost and "says" not in name)
    return world


def finish(world: World) -> None:
    """Let everything arrive, and the timer fire only when the line is quiet."""
    for _ in range(200):
        if world.is_over:
            return
        world = next(after for _, cost, after in world.successors() if cost == 0)
    raise AssertionError("it goes on for ever without coming to an end")


def explore(program: str, faults: int) -> int:
    """Visit every state within the bound, and from each the end on a good line; give how many there are."""
    first = start(program)
    best = {first.key(): faults}
    stack = [(first, faults)]
    while stack:
        world, left = stack.pop()
        finish(world)
        for _, cost, after in world.successors():
            key = after.key()
            if cost <= left and best.get(key, -1) < left - cost:
                best[key] = left - cost
                stack.append((after, left - cost))
    return len(best)


@pytest.mark.parametrize("program", PROGRAMS)
def test_whatever_the_line_does_reliable_events_come_once_and_every_gap_is_known(program: str) -> None:
    assert explore(program, FAULTS) > 200, "the bound is too small to mean anything"


# --- the model itself -----------------------------------------------------------------------------


def test_the_model_finds_a_host_that_takes_what_comes_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microrpc.host.events.distance", lambda number, other: max(number - other, 0))
    with pytest.raises(AssertionError, match="doubled"):
        explore("rr", 1)


def test_the_model_finds_a_host_that_does_not_ask_again(monkeypatch: pytest.MonkeyPatch) -> None:
    on_state = EventHost._on_state

    def careless(self: EventHost, state: object) -> None:
        on_state(self, state)  # type: ignore[arg-type]
        self._is_lost = False

    monkeypatch.setattr(EventHost, "_on_state", careless)
    with pytest.raises(AssertionError, match="for ever"):
        explore("r", 1)


def test_the_model_finds_a_host_that_goes_on_with_the_numbers_of_another_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EventHost, "_is_other_boot", lambda self, state, is_first: False)
    with pytest.raises(AssertionError):
        explore("rr", 1)
