"""Calls and events on bad lines: each reliable event comes once, in order, and of plain ones every gap is told.

In virtual time against the simulated board, which speaks whenever it likes, and against the library in C on an emulated
Cortex-M3, which speaks when it is told to. What strikes, and what the program does, is drawn from a seed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import needs
import numpy as np
import pytest
from event_judge import Judge
from relay import Relay, relayed

import microrpc
from benchmarks.reporting import speak_on_line
from firmware_sim.line.faults import Drop, Faults, Flip
from firmware_sim.running.simulate import SimBoard
from microrpc.connecting.blocking import open_board
from microrpc.errors import BoardResetError, OutcomeUnknownError
from microrpc.firmware.build import Firmware
from microrpc.firmware.emulator import Emulator, build_to_run, start_firmware
from microrpc.firmware.project import load_port
from microrpc.wire.session import Timeouts

PROFILE = dataclasses.replace(microrpc.profile("loopback"), baud=921600)
PATIENT = Timeouts(retry_s=0.5, start_s=60.0, call_s=60.0)
EMULATED_TIMEOUTS = Timeouts(retry_s=1.0, start_s=20.0, call_s=20.0)
RATES = (1e-5, 1e-4)
DROPS = 1e-5
SOME, ALL = range(3), range(100)
STEPS, EMULATED_STEPS = 40, 20
PLAIN, RELIABLE = "plain", "reliable"


class Speaker:
    """Lets a simulated board say both kinds of events, at any time, each with a number of its own and some bytes."""

    def __init__(self, sim: SimBoard, judge: Judge, rng: random.Random) -> None:
        self.due = float("inf")
        self._sim = sim
        self._judge = judge
        self._rng = rng
        self._said = 0

    def start(self) -> None:
        self.due = self._sim.now()

    def stop(self) -> None:
        self.due = float("inf")

    def say(self, now: float) -> None:
        self.say_one()
        self.due = now + self._rng.expovariate(100)

    def say_one(self) -> None:
        is_reliable = self._rng.random() < 0.5
        self._said += 1
        values = (self._said, self._rng.randbytes(self._rng.randrange(80)))
        name = RELIABLE if is_reliable else PLAIN
        self._judge.expect(values)
        accepted = self._sim.device.event(name, *values, reliable=is_reliable)
        self._judge.say(values, reliable=is_reliable, accepted=accepted)


class VirtualProgram:
    """A board that speaks and counts its calls, and a host that asks and listens."""

    def __init__(self, seed: int, bit_error_rate: float) -> None:
        self.rng = random.Random(seed)
        self.judge = Judge()
        self.executions = 0
        faults = Faults((Flip(rate=bit_error_rate), Drop(rate=DROPS)), seed=seed)
        self.sim = SimBoard(PROFILE, faults=faults, seed=seed)
        self.speaker = Speaker(self.sim, self.judge, self.rng)
        speak_on_line(self.sim, self.speaker)
        self.sim.function(self.count)
        self.board = open_board(self.sim.open_channel(), PATIENT, seed=seed, baud=PROFILE.baud)

    def count(self) -> int:
        """On the board: say something, and give how often it was called."""
        self.executions += 1
        for _ in range(self.rng.randrange(4)):
            self.speaker.say_one()
        return self.executions

    def reset(self) -> None:
        self.judge.on_reset()
        self.sim.reset()

    def run(self) -> None:
        self.board.on_event(None, self.judge.hear)
        self.board.poll(2.0)  # until the numbers are known
        self.speaker.start()
        for _ in range(STEPS):
            with contextlib.suppress(BoardResetError):  # it is told of each reset
                self.step()
        self.speaker.stop()
        with contextlib.suppress(BoardResetError):
            self.board.poll(0.1)
        self.board.poll(10.0)  # until the tail is known

    def step(self) -> None:
        match self.rng.choices(("call", "copy", "poll", "session", "reset"), (40, 15, 40, 8, 4))[0]:
            case "call":
                self.call()
            case "copy":
                data = np.frombuffer(self.rng.randbytes(self.rng.randrange(1, 8000)), np.uint8)
                with self.board.array(data) as array:
                    assert np.array_equal(array.numpy(), data)
            case "poll":
                self.board.poll(self.rng.uniform(0.0, 0.5))
            case "session":  # a doubt, and what comes of it
                with pytest.raises(OutcomeUnknownError):
                    self.board.function("sleep_ms")(200, timeout_s=0.05)
            case _:
                self.reset()

    def call(self) -> None:
        before = self.executions
        try:
            assert self.board.function("count")() == before + 1
        finally:
            assert self.executions <= before + 1
        assert self.executions == before + 1


def run_virtually(seed: int, rate: float) -> VirtualProgram:
    program = VirtualProgram(seed, rate)
    program.run()
    assert program.judge.verdict() == Counter(), (seed, program.judge.wrong[:3])
    return program


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("seeds", [SOME, pytest.param(ALL, marks=pytest.mark.long)], ids=["some-seeds", "100-seeds"])
@pytest.mark.timeout(900)
def test_on_a_noisy_line_reliable_events_come_once_and_the_gaps_of_plain_ones_are_told(
    rate: float, seeds: range
) -> None:
    programs = [run_virtually(seed, rate) for seed in seeds]
    boots = [boot for program in programs for boot in program.judge.boots]
    assert len(boots) > len(programs)
    assert sum(program.executions for program in programs) > 5 * len(programs)
    assert sum(len(boot.reliable_came) for boot in boots) > 100 * len(programs)
    assert sum(len(boot.plain_came) for boot in boots) > 100 * len(programs)
    if rate == max(RATES):
        assert sum(boot.missed for boot in boots) > 0
        assert sum(sum(program.sim.state.damaged.values()) for program in programs) > len(programs)


# --- the judge is judged --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Heard:
    """An event as the host gives it, or a gap."""

    number: int
    values: tuple[int, ...] = ()
    missed: int = 0
    reliable: bool = False
    boot: int = 7

    @property
    def is_gap(self) -> bool:
        return not self.values


@pytest.mark.parametrize(
    ("heard", "verdict"),
    [
        ([Heard(0, (1,)), Heard(1, (2,)), Heard(2, (3,))], {}),
        ([Heard(0, (1,)), Heard(2, (3,), missed=1)], {}),
        ([Heard(0, (1,)), Heard(1, missed=2)], {}),
        ([Heard(0, (1,)), Heard(1, (2,))], {"gaps not told": 1}),
        ([Heard(0, (1,)), Heard(2, (3,))], {"gaps not told": 1}),
        ([Heard(0, (1,)), Heard(1, missed=3)], {"gaps not told": 1}),
        ([Heard(0, (1,)), Heard(2, (3,)), Heard(1, (2,))], {"out of order": 1}),
        ([Heard(0, (1,)), Heard(1, (2,)), Heard(1, (2,)), Heard(2, (3,))], {"doubled": 1}),
        ([Heard(0, (1,)), Heard(1, (3,)), Heard(2, (2,))], {"wrong": 2}),
        ([Heard(0, (1,)), Heard(1, (2,)), Heard(2, (9,))], {"wrong": 1, "gaps not told": 1}),
    ],
)
def test_the_judge_finds_what_is_wrong_with_plain_events(heard: list[Heard], verdict: dict[str, int]) -> None:
    judge = Judge()
    for number in (1, 2, 3):
        judge.say((number,), reliable=False)
    for event in heard:
        judge.hear(event)
    assert judge.verdict() == verdict


@pytest.mark.parametrize(
    ("heard", "verdict"),
    [
        ((1, 2, 3), {}),
        ((1, 2), {"lost": 1}),
        ((1, 3), {"lost": 1}),
        ((1, 2, 2, 3), {"doubled": 1}),
        ((1, 3, 2), {"out of order": 1}),
    ],
)
@pytest.mark.parametrize("is_over", [False, True])
def test_the_judge_finds_what_is_wrong_with_reliable_events(
    heard: tuple[int, ...], verdict: dict[str, int], is_over: bool
) -> None:
    judge = Judge()
    for number in (1, 2, 3):
        judge.say((number,), reliable=True)
        judge.say((10 * number,), reliable=True, accepted=False)
    if is_over:
        judge.on_reset()  # what came last in the boot may be lost
        verdict = {} if heard == (1, 2) else verdict
    for number in heard:
        judge.hear(Heard(number - 1, (number,), reliable=True))
    assert judge.verdict() == verdict


# --- the library in C, on an emulated board -------------------------------------------------------------------


@pytest.fixture(scope="module")
def cortex_m3() -> Firmware:
    needs.emulated("qemu_mps2_an385")
    defines = [f"MICRORPC_{what}=1" for what in ("EVENTS", "RELIABLE_EVENTS", "PROGRESS")]
    return build_to_run(load_port("qemu_mps2_an385"), defines=defines)


class EmulatedProgram:
    """A board that speaks when it is told to, and a host that tells it, and listens.

    `emit` sends the values (i, bytes): the number of the bytes tells which boot an event is of, and which call.
    """

    def __init__(self, board: Any, relay: Relay, seed: int, boot: Any) -> None:
        self.board = board
        self.relay = relay
        self.rng = random.Random(seed)
        self.judge = Judge()
        self.calls = self.sizes = 0
        self._boot = boot
        self._bit_error_rate = 0.0

    def listen(self) -> None:
        self.board.on_event(None, self.judge.hear)
        self.board.poll(0.3)

    def run(self, bit_error_rate: float) -> None:
        self.relay.flip_rate, self.relay.drop_rate = bit_error_rate, DROPS
        for _ in range(EMULATED_STEPS):
            with contextlib.suppress(BoardResetError):  # it is told of each reset
                self.step()
        with contextlib.suppress(BoardResetError):
            self.board.poll(0.1)
        give_up_at = time.monotonic() + 10
        while self.judge.verdict() and time.monotonic() < give_up_at:  # until the tail is known, over this very line
            self.board.poll(0.1)
        self.relay.flip_rate = self.relay.drop_rate = 0.0
        self.board.poll(0.2)  # nothing comes twice

    def step(self) -> None:
        match self.rng.choices(("emit", "call", "poll", "session", "reset"), (50, 20, 20, 4, 2))[0]:
            case "emit":
                self.emit(self.rng.random() < 0.5, self.rng.randrange(1, 6))
            case "call":
                a, b = self.rng.getrandbits(40), self.rng.getrandbits(40)
                assert self.board.function("add")(a, b) == a + b
            case "poll":
                self.board.poll(self.rng.uniform(0.0, 0.1))
            case "session":
                with pytest.raises(OutcomeUnknownError):
                    self.board.function("sleep_ms")(100, timeout_s=0.02)
            case _:
                self.judge.on_reset()
                self._boot()

    def emit(self, is_reliable: bool, count: int) -> None:
        emit = self.board.function("emit")
        self.sizes += 1
        size = self.sizes
        events = [(i, bytes((i + k) & 255 for k in range(size))) for i in range(count)]
        for values in events:
            self.judge.expect(values)
        accepted = emit(RELIABLE if is_reliable else PLAIN, count, size, int(is_reliable))
        assert 0 <= accepted <= count
        for i, values in enumerate(events):
            self.judge.say(values, reliable=is_reliable, accepted=i < accepted)


@contextlib.contextmanager
def emulated(firmware: Firmware, seed: int) -> Iterator[EmulatedProgram]:
    with contextlib.ExitStack() as stack:
        emulators: list[Emulator] = [start_firmware(firmware)]
        stack.callback(lambda: emulators[-1].close())
        relay = stack.enter_context(relayed(emulators[0].port, seed=seed))

        def boot() -> None:
            emulators.append(start_firmware(firmware))
            relay.attach(emulators[-1].port)
            emulators[-2].close()

        board = stack.enter_context(microrpc.connect(relay.path, timeouts=EMULATED_TIMEOUTS))
        yield EmulatedProgram(board, relay, seed, boot)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("seeds", [range(1), pytest.param(ALL, marks=pytest.mark.long)], ids=["a-seed", "100-seeds"])
@pytest.mark.timeout(900)
def test_on_a_noisy_line_to_a_cortex_m3_reliable_events_come_once_and_gaps_are_told(
    cortex_m3: Firmware, rate: float, seeds: range
) -> None:
    came: Counter[str] = Counter()
    for seed in seeds:
        with emulated(cortex_m3, seed) as program:
            program.listen()
            program.run(rate)
            assert program.judge.verdict() == Counter(), (seed, program.judge.wrong[:3])
            came["struck"] += program.relay.struck
            for boot in program.judge.boots:
                came["reliable"] += len(boot.reliable_came)
                came["plain"] += len(boot.plain_came)
    assert came["reliable"] > 5 * len(seeds)
    assert came["plain"] > 5 * len(seeds)
    assert came["struck"] > 0 or rate < max(RATES)
