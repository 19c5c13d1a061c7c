"""Faults at work: what becomes of the bytes on a line, and what happens to the board behind it."""

from __future__ import annotations

import functools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from firmware_sim.line.faults import (
    Action,
    BoardFault,
    BrownOut,
    Burst,
    ByteFault,
    Delay,
    DelayEvents,
    Direction,
    Fault,
    Faults,
    Flip,
    Garbage,
    HoldEvents,
    LoseEvents,
    Reset,
    Stuck,
    Unplug,
)
from microrpc.errors import FaultsError
from microrpc.wire.checks import show

_ROUNDING = 1e-6  # of a byte's time: times are sums of floats


class Injector:
    """The faults of one line, at work. `counts` tells how often each kind struck.

    What a stuck line loses, no other fault sees; resets and hangs count the bytes as they are sent. The others strike
    one after the other, in the order in which they were given.
    """

    def __init__(self, faults: Faults) -> None:
        self.counts: Counter[str] = Counter()
        self.on_strike: Callable[[str], None] | None = None
        """Told in words of each fault that strikes, as it does."""
        self._seed = faults.seed
        self._added = 0
        self._ways = {Direction.TO_BOARD: _Way(), Direction.TO_HOST: _Way()}
        self._in_calls: list[_CallCounter] = []
        self._delays: list[_ReplyCounter] = []
        self._garbage: list[tuple[Garbage, random.Random]] = []
        self._supplies: list[_Supply] = []
        self._timed: list[_Timed] = []
        self._of_events: list[_EventCounter] = []
        self._held: list[tuple[float, bytes]] = []  # when an event leaves, and its frame
        for fault in faults.faults:
            self.add(fault, 0.0)

    def add(self, fault: Fault, now: float) -> None:
        """Let one more fault strike; its bytes, calls, replies and times count from now on. Raises FaultsError."""
        if not isinstance(fault, Fault):
            raise FaultsError(f"a fault is one of `firmware_sim.faults`, such as Reset(at_byte=20), not {show(fault)}")
        index = self._added
        self._added += 1
        count = functools.partial(self._count, fault)
        for direction, way in self._ways.items():
            if isinstance(fault, ByteFault) and fault.direction in (direction, Direction.BOTH):
                strike = functools.partial(self._count_byte, fault, direction, way.bytes_sent)
                way.strikers.append(_Striker(fault, random.Random(f"{self._seed}/{index}/{direction}"), strike))
            elif isinstance(fault, Stuck) and fault.direction in (direction, Direction.BOTH):
                way.silencers.append(_Silencer(now + fault.at_s, now + fault.at_s + fault.for_s, count))
            elif isinstance(fault, BoardFault) and fault.at_byte is not None and fault.direction is direction:
                way.triggers.append((way.bytes_sent + fault.at_byte + 1, fault))
                way.triggers.sort(key=lambda trigger: trigger[0])
        if isinstance(fault, BoardFault) and fault.function is not None:
            self._in_calls.append(_CallCounter(fault))
        elif isinstance(fault, Delay):
            self._delays.append(_ReplyCounter(fault))
        elif isinstance(fault, LoseEvents | DelayEvents | HoldEvents):
            self._of_events.append(_EventCounter(fault, random.Random(f"{self._seed}/{index}"), now))
        elif isinstance(fault, Garbage):
            self._garbage.append((fault, random.Random(f"{self._seed}/{index}")))
        elif isinstance(fault, BrownOut):
            self._supplies.append(_Supply(fault))
            self._schedule_brown_out(self._supplies[-1], now)
        elif isinstance(fault, Unplug):
            pull = Action.UNPLUG_POWERED if fault.keeps_power else Action.UNPLUG
            self._schedule(_Timed(now + fault.at_s, pull, fault))
            self._schedule(_Timed(now + fault.at_s + fault.for_s, Action.PLUG, fault))

    def _count(self, fault: Fault, times: int = 1, where: str = "") -> None:
        self.counts[fault.kind()] += times
        if self.on_strike is not None:
            self.on_strike(f"fault: {fault.kind()}{where}{f', {times} times' if times > 1 else ''}")

    def _count_byte(self, fault: Fault, direction: Direction, begin: int, position: int) -> None:
        """Count a fault of the byte at a position since the fault is there; told is where that is on the whole line."""
        self._count(fault, 1, f" at byte {begin + position} {direction.value.replace('-', ' the ')}")

    def _schedule(self, timed: _Timed) -> None:
        if timed.at < math.inf:
            self._timed.append(timed)
            self._timed.sort(key=lambda timed: timed.at)

    def _schedule_brown_out(self, supply: _Supply, boot: float) -> None:
        if supply.left > 0:
            self._schedule(_Timed(boot + supply.fault.every_s, Action.RESET, supply.fault, supply))

    # --- what passes, and what time does ---------------------------------------------------------

    def bytes_to_action(self, direction: Direction) -> float:
        """How many more bytes of `direction` may cross until something happens to the board, at the last of them."""
        way = self._ways[direction]
        return way.triggers[0][0] - way.bytes_sent if way.triggers else math.inf

    def carry(self, data: bytes, direction: Direction, end: float, byte_s: float = 0.0) -> tuple[bytes, list[Action]]:
        """Give what becomes of `data`, whose last byte has crossed at the time `end`, and what happens thereafter.

        byte_s: the time between two of its bytes.
        """
        way = self._ways[direction]
        way.bytes_sent += len(data)
        if way.silencers:
            data = self._silence(data, way.silencers, end, byte_s)
        for striker in way.strikers:
            data = striker.carry(data)
        actions = []
        while way.triggers and way.triggers[0][0] <= way.bytes_sent:
            _, fault = way.triggers.pop(0)
            self._count(fault)
            actions.append(_action_of(fault))
        return data, actions

    def _silence(self, data: bytes, silencers: list[_Silencer], end: float, byte_s: float) -> bytes:
        is_lost = bytearray(len(data))
        for silencer in silencers:
            silencer.silence(is_lost, end, byte_s)
        return bytes(byte for byte, lost in zip(data, is_lost, strict=True) if not lost) if any(is_lost) else data

    def next_action_at(self) -> float:
        """When the next thing happens by itself, infinity where nothing will."""
        return self._timed[0].at if self._timed else math.inf

    def next_at(self) -> float:
        """When the next thing happens by itself, or the next event leaves that was held back; infinity for never."""
        at = self.next_action_at()
        return min(at, self._held[0][0]) if self._held else at

    def take_due(self, now: float) -> Iterator[Action]:
        """Give what happens by itself until `now`."""
        while self._timed and self._timed[0].at <= now:
            timed = self._timed.pop(0)
            if timed.supply is not None:
                timed.supply.left -= 1
            if timed.action is not Action.PLUG:
                self._count(timed.fault)
            yield timed.action

    # --- what the board does ----------------------------------------------------------------------

    def on_boot(self, at: float) -> bytes:
        """Give the garbage that the board sends as it powers up, and note when its supply fails again."""
        self._timed = [timed for timed in self._timed if timed.supply is None or timed.at < at]
        for supply in self._supplies:
            self._schedule_brown_out(supply, at)
        for fault, _ in self._garbage:
            self._count(fault)
        return b"".join(rng.randbytes(fault.size_bytes) for fault, rng in self._garbage)

    def on_power_loss(self) -> None:
        """Note that a supply that is not there cannot fail."""
        self._timed = [timed for timed in self._timed if timed.supply is None]

    def on_call(self, name: str) -> Action | None:
        """Tell what happens in the call of `name` that begins now."""
        struck = [watched.fault for watched in self._in_calls if watched.strikes(name)]
        if not struck:
            return None
        self._count(struck[0])
        return _action_of(struck[0])

    def on_reply(self) -> float:
        """Give how much longer the board takes for its next reply, in seconds."""
        struck = [watched.fault for watched in self._delays if watched.strikes()]
        for fault in struck:
            self._count(fault)
        return sum(fault.by_s for fault in struck)

    def lets_pass(self, frame: bytes, now: float, *, is_event: bool) -> bool:
        """Tell whether an EVENT, or an EVENT_STATE, that is sent `now` leaves at once.

        Else it is lost, or `take_released` gives it. None of them overtakes another (docs/link.md 8).
        """
        leaves_at = now
        for watched in self._of_events if is_event else ():
            if (later := watched.leaves_at(leaves_at, now)) != leaves_at:
                self._count(watched.fault)
                leaves_at = later
        if leaves_at == math.inf or (leaves_at == now and not self._held):
            return leaves_at == now
        self._held.append((max(leaves_at, self._held[-1][0]) if self._held else leaves_at, frame))
        return False

    def take_released(self, now: float) -> Iterator[tuple[float, bytes]]:
        """Give the events that leave by `now`, and when each of them does."""
        while self._held and self._held[0][0] <= now:
            yield self._held.pop(0)

    def forget_held(self) -> None:
        """Lose the events that are held back."""
        self._held.clear()


class _Way:
    """The faults of one direction, and how many bytes were sent there."""

    def __init__(self) -> None:
        self.bytes_sent = 0
        self.silencers: list[_Silencer] = []
        self.strikers: list[_Striker] = []
        self.triggers: list[tuple[int, BoardFault]] = []  # after how many bytes sent, in order


class _Supply:
    """A weak supply, and how often it will still fail."""

    def __init__(self, fault: BrownOut) -> None:
        self.fault = fault
        self.left = math.inf if fault.times is None else fault.times


class _Timed(NamedTuple):
    """What happens by itself, and when; `supply` is what fails then."""

    at: float
    action: Action
    fault: Fault
    supply: _Supply | None = None


class _CallCounter:
    """Counts the calls until a fault strikes in one."""

    def __init__(self, fault: BoardFault) -> None:
        self.fault = fault
        self._calls = 0

    def strikes(self, name: str) -> bool:
        """Take note of a call."""
        if self.fault.function not in (name, "*"):
            return False
        self._calls += 1
        return self._calls == self.fault.call


class _ReplyCounter:
    """Counts the replies until one is delayed."""

    def __init__(self, fault: Delay) -> None:
        self.fault = fault
        self._replies = 0

    def strikes(self) -> bool:
        """Take note of a reply."""
        self._replies += 1
        return self.fault.reply in (None, self._replies)


class _EventCounter:
    """Counts the events that a fault concerns; its times count from `begin`."""

    def __init__(self, fault: LoseEvents | DelayEvents | HoldEvents, rng: random.Random, begin: float) -> None:
        self.fault = fault
        self._rng = rng
        self._begin = begin
        self._events = 0

    def leaves_at(self, at: float, now: float) -> float:
        """Give when an event leaves that is sent `now`, and would leave `at`."""
        self._events += 1
        fault = self.fault
        if isinstance(fault, LoseEvents):
            is_lost = self._rng.random() < fault.rate if fault.every is None else self._events % fault.every == 0
            return math.inf if is_lost else at
        if isinstance(fault, DelayEvents):
            return at + fault.by_s if fault.event in (None, self._events) else at
        begin = self._begin + fault.at_s
        return max(at, begin + fault.for_s) if begin <= now < begin + fault.for_s else at


def _action_of(fault: BoardFault) -> Action:
    return Action.RESET if isinstance(fault, Reset) else Action.WEDGE


class _Striker:
    """A byte fault in one direction: it knows beforehand where it strikes next, so that a byte costs nothing.

    A site is the position of a byte; for flips with a rate, it is that of a bit.
    """

    def __init__(self, fault: ByteFault, rng: random.Random, count: Callable[[int], None]) -> None:
        self._fault = fault
        self._rng = rng
        self._count = count
        self._position = 0
        self._scale = 8 if isinstance(fault, Flip) and fault.rate else 1
        self._length = fault.size_bytes if isinstance(fault, Burst) else 1
        self._sites = self._find_sites()
        self._site = next(self._sites)
        self._burst_left = 0

    def _find_sites(self) -> Iterator[float]:
        rate, rng = self._fault.rate, self._rng
        if not rate:
            yield from sorted(set(self._fault.at))
            while True:
                yield math.inf
        site = -1
        while True:
            gap = math.log(1.0 - rng.random()) / math.log1p(-rate) if rate < 1 else 0.0
            site += int(min(gap, 1e18)) + 1
            yield site

    def carry(self, data: bytes) -> bytes:
        """Strike."""
        start, self._position = self._position, self._position + len(data)
        if self._site >= self._position * self._scale and not self._burst_left:
            return data
        out, done = bytearray(), 0
        while done < len(data):
            if not self._burst_left:
                clean = int(min(self._site, self._position * self._scale)) // self._scale - start
                out += data[done:clean]
                done = clean
                if done == len(data):
                    break
                self._burst_left = self._length
                if self._scale == 1:
                    self._count(start + done)
            out += self._strike(data[done], start + done)
            done += 1
            self._burst_left -= 1
            while not self._burst_left and self._site < (start + done) * self._scale:
                self._site = next(self._sites)
        return bytes(out)

    def _strike(self, byte: int, position: int) -> bytes:
        if self._scale == 1:
            return self._fault.strike(byte, self._rng)
        while self._site < (position + 1) * self._scale:
            byte ^= 1 << int(self._site) % self._scale
            self._count(position)
            self._site = next(self._sites)
        return bytes([byte])


class _Silencer:
    """A line that stands still."""

    def __init__(self, begin: float, end: float, count: Callable[[int], None]) -> None:
        self._begin = begin
        self._end = end
        self._count = count

    def silence(self, is_lost: bytearray, end: float, byte_s: float) -> None:
        """Mark what is lost of bytes of which the last one has crossed at the time `end`."""

        def position(at: float) -> int:
            """Find the first byte that has not crossed before the time `at`."""
            if byte_s and at < math.inf:
                first = len(is_lost) - 1 - math.floor((end - at) / byte_s + _ROUNDING)
            else:
                first = 0 if end >= at else len(is_lost)
            return max(0, min(first, len(is_lost)))

        lost = slice(position(self._begin), position(self._end))
        if count := is_lost[lost].count(0):
            is_lost[lost] = b"\1" * len(is_lost[lost])
            self._count(count)
