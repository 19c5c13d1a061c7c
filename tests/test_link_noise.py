"""The link on bad lines, in virtual time: nothing is lost, done twice or wrong, and how much it costs (docs/link.md 5).

Every run is like the last: what strikes is drawn from a seed. `benchmarks/noise.py` does the same at length.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import microrpc
from firmware_sim.line.adapter import HostAdapter
from firmware_sim.line.faults import Burst, Delay, Direction, Double, Drop, Fault, Faults, Flip, Insert
from firmware_sim.line.settings import FirmwareTime, Uart
from firmware_sim.running.simulate import SimBoard, uart_of
from microrpc.client.board import Board
from microrpc.connecting.blocking import open_board
from microrpc.errors import OutcomeUnknownError
from microrpc.wire.session import Timeouts

PROFILE = microrpc.profile("loopback")
PATIENT = Timeouts(retry_s=0.5, start_s=60.0, call_s=60.0)
SEEDS = range(6)
COPY_BYTES = 1 << 16
CALLS = 60


class Program:
    """A board that counts its calls, on a line with faults, and a host that asks it."""

    def __init__(
        self,
        *faults: Fault,
        seed: int,
        uart: Uart | None = None,
        profile: microrpc.BoardProfile = PROFILE,
        timeouts: Timeouts = PATIENT,
    ) -> None:
        self.sim = SimBoard(profile, faults=Faults(faults, seed=seed), seed=seed, uart=uart)
        self.sim.function(self.count)
        self.executions = 0
        self.seed = seed
        self.board: Board = open_board(self.sim.open_channel(), timeouts, seed=seed, baud=profile.baud)

    def count(self) -> int:
        self.executions += 1
        return self.executions

    def copy(self, size: int) -> float:
        """Copy there and back; give the bytes a second."""
        data = np.random.default_rng(self.seed).integers(0, 256, size, dtype=np.uint8)
        array = self.board.empty(size, "uint8")
        start = self.sim.now()
        array.write(data)
        assert np.array_equal(array.numpy(), data)
        goodput = 2 * size / (self.sim.now() - start)
        array.free()
        return goodput

    def call(self, calls: int) -> None:
        """Call the counter; every call must be executed once, and answered."""
        count = self.board.function("count")
        before = self.executions
        for n in range(before + 1, before + calls + 1):
            assert count() == n
            assert self.executions == n


@functools.cache
def clean_goodput() -> float:
    return Program(seed=0).copy(COPY_BYTES)


# --- noise ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Noise:
    """What strikes, and the share of the clean line's goodput that must be left."""

    fault: Fault
    least_share: float


NOISES = {
    "bit errors 1e-6": Noise(Flip(rate=1e-6), 0.95),
    "bit errors 1e-5": Noise(Flip(rate=1e-5), 0.85),
    "bit errors 1e-4": Noise(Flip(rate=1e-4), 0.40),
    "bytes dropped 1e-4": Noise(Drop(rate=1e-4), 0.75),
}


@pytest.mark.parametrize("name", NOISES)
def test_on_a_noisy_line_nothing_is_lost_twice_or_wrong_and_most_of_the_goodput_is_left(name: str) -> None:
    noise = NOISES[name]
    struck = 0
    for seed in SEEDS:
        program = Program(noise.fault, seed=seed, timeouts=PROFILE.timeouts)
        program.call(1)
        session_id = program.board.session_id
        goodput = program.copy(COPY_BYTES)
        program.call(CALLS)
        struck += sum(program.sim.state.damaged.values())
        assert goodput / clean_goodput() >= noise.least_share, (name, seed)
        assert program.board.session_id == session_id
        assert not program.sim.device.memory.used_bytes
    assert struck >= len(SEEDS) / 2


def test_the_clean_line_loses_little_to_the_link() -> None:
    assert clean_goodput() > 0.98 * PROFILE.baud / 10


# --- anything -----------------------------------------------------------------------------------------------

RATES = st.floats(1e-6, 5e-4)
DIRECTIONS = st.sampled_from(Direction)  # `at` begins behind the question for the link, which is asked six times only
FAULTS = st.one_of(
    st.builds(Flip, rate=st.floats(1e-7, 1e-4), direction=DIRECTIONS),
    st.builds(Drop, rate=RATES, direction=DIRECTIONS),
    st.builds(Double, rate=RATES, direction=DIRECTIONS),
    st.builds(Insert, rate=RATES, direction=DIRECTIONS),
    st.builds(Burst, rate=st.floats(1e-6, 5e-5), direction=DIRECTIONS, size_bytes=st.integers(1, 64)),
    st.builds(Flip, at=st.lists(st.integers(300, 6000), min_size=1, max_size=30).map(tuple), direction=DIRECTIONS),
    st.builds(Drop, at=st.lists(st.integers(300, 6000), min_size=1, max_size=30).map(tuple), direction=DIRECTIONS),
    st.builds(Delay, by_s=st.floats(0.01, 0.5), reply=st.integers(1, 30)),
)
ADAPTERS = st.sampled_from([HostAdapter(), HostAdapter(poll_s=0.001, latency_timer_s=0.016)])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    faults=st.lists(FAULTS, max_size=4),
    seed=st.integers(0, 1 << 30),
    packet_bytes=st.sampled_from([128, 256, 2048]),
    ring_bytes=st.sampled_from([64, 300, 4096]),
    adapter=ADAPTERS,
)
def test_whatever_the_line_does_calls_run_once_and_copies_arrive(
    faults: list[Fault], seed: int, packet_bytes: int, ring_bytes: int, adapter: HostAdapter
) -> None:
    profile = dataclasses.replace(PROFILE, packet_size_bytes=packet_bytes, receive_ring_bytes=ring_bytes)
    uart = dataclasses.replace(uart_of(profile), adapter=adapter)
    program = Program(*faults, seed=seed, profile=profile, uart=uart)
    program.call(5)
    program.copy(3000)
    program.call(5)
    assert program.board.link is not None


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 1 << 30), rate=st.floats(1e-4, 2e-3), call_s=st.floats(0.05, 0.5))
def test_where_calls_run_into_their_deadlines_none_runs_twice_and_no_answer_is_anothers(
    seed: int, rate: float, call_s: float
) -> None:
    program = Program(Drop(rate=rate), seed=seed)
    count = program.board.function("count")
    last = 0
    for calls in range(1, 21):
        try:
            value = count(timeout_s=call_s)
        except OutcomeUnknownError:
            continue  # it may run until the next session
        assert last < value == program.executions <= calls
        last = value


# --- a board that is slow, with a small ring -----------------------------------------------------------------

SMALL = dataclasses.replace(PROFILE, packet_size_bytes=256, receive_ring_bytes=64)
BYTE_S = 10 / PROFILE.baud


@pytest.mark.parametrize("slowness", [0.5, 1.5, 2.0])
def test_a_slow_board_with_a_small_ring_loses_nothing_over_the_link(slowness: float) -> None:
    firmware = FirmwareTime(byte_s=slowness * BYTE_S, packet_s=0.005, functions={"count": 0.7})
    uart = dataclasses.replace(uart_of(SMALL), firmware=firmware)
    program = Program(seed=1, profile=SMALL, uart=uart)
    program.call(5)  # each is asked for again while it runs, so that the ring overflows
    program.copy(2000)
    program.call(2)
    assert program.sim.state.bytes_overrun > 0


@pytest.mark.parametrize("firmware", ["stock", "robust"])
def test_without_the_link_one_request_at_a_time_overruns_no_ring(firmware: str) -> None:
    times = FirmwareTime(byte_s=1.1 * BYTE_S, packet_s=0.005, functions={"count": 0.7})
    uart = dataclasses.replace(uart_of(SMALL), firmware=times)
    sim = SimBoard(SMALL, firmware=firmware, uart=uart)  # type: ignore[arg-type]
    executions: list[int] = []

    @sim.function
    def count() -> int:
        executions.append(1)
        return len(executions)

    board = open_board(sim.open_channel(), PATIENT, seed=1, link=False)
    count_on_board = board.function("count")
    assert [count_on_board() for _ in range(5)] == [1, 2, 3, 4, 5]
    data = np.random.default_rng(1).integers(0, 256, 3000, dtype=np.uint8)
    assert np.array_equal(board.array(data).numpy(), data)
    assert count_on_board() == 6
    assert sim.state.bytes_overrun == 0
