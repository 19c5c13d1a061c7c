"""The whole stack on a simulated board in virtual time: every kind of fault, both firmwares, and always the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hand_made_link import EVENT, EVENT_STATE, INIT, LinkHand

from firmware_sim.board.clock import VirtualClock
from firmware_sim.line.adapter import HostAdapter
from firmware_sim.line.faults import (
    BrownOut,
    Burst,
    Delay,
    Double,
    Drop,
    Fault,
    Faults,
    Flip,
    Garbage,
    Insert,
    Reset,
    Stuck,
    Unplug,
    Wedge,
)
from firmware_sim.line.settings import FirmwareTime, LineState, Rate, Uart
from firmware_sim.running.simulate import SimBoard, uart_of
from microrpc.boards.catalogue import profile
from microrpc.client.board import Board
from microrpc.connecting.blocking import open_board
from microrpc.errors import (
    BoardResetError,
    CallTimeoutError,
    ClosedError,
    HandshakeTimeoutError,
    MicroRpcError,
    OutcomeUnknownError,
    PortLostError,
    PortNotFoundError,
    RequestError,
)
from microrpc.wire.features import Feature
from microrpc.wire.session import Timeouts
from microrpc.wire.uart import FlowControl

BOARD = profile("loopback")
TIMEOUTS = Timeouts(retry_s=0.25, start_s=2.0, call_s=1.0)
# The longest that one operation may take: what is freed before it, and 3 attempts of a request, each after up to 3
# handshakes.
LONGEST_S = 4 * (TIMEOUTS.call_s + 3 * TIMEOUTS.start_s) + 1.0

RANDOM_FAULTS: list[Fault] = [
    Flip(rate=1e-4),
    Flip(rate=2e-3),
    Drop(rate=2e-3),
    Double(rate=2e-3),
    Insert(rate=2e-3),
    Burst(rate=1e-3),
]
OTHER_FAULTS: list[Fault] = [
    Flip(at=(100, 400, 700)),
    Stuck(at_s=0.2, for_s=0.5),
    Stuck(at_s=0.2),
    Garbage(50),
    Reset(at_byte=500),
    Reset(function="count", call=7),
    Wedge(at_byte=500),
    Wedge(function="count", call=7),
    BrownOut(every_s=0.4, times=3),
    BrownOut(every_s=0.1),
    Delay(by_s=1.5, reply=12),
    Delay(by_s=0.3),
    Unplug(at_s=0.3, for_s=0.5),
    Unplug(at_s=0.3, for_s=0.5, keeps_power=True),
]


def run(fault: Fault, firmware: str, seed: int) -> tuple[list[str], float, LineState]:
    """30 counted calls and a few copies; give what came of each, the time, and the state of the line."""
    sim = SimBoard(BOARD, firmware=firmware, faults=Faults([fault, Garbage(3)], seed))  # type: ignore[arg-type]
    executed: list[int] = []

    @sim.function
    def count(number: int) -> int:
        executed.append(number)
        return number * 3 + 1

    outcomes: list[str] = []
    board: Board | None = None
    data = np.arange(3000, dtype=np.uint8)

    def attempt(index: int) -> Any:
        nonlocal board
        if board is None:
            board = open_board(sim.open_channel(), TIMEOUTS, seed=1)
        if index % 10 == 9:
            array = board.array(data)
            assert np.array_equal(array.numpy(), data), "a wrong value"
            return array.free()
        return board.function("count")(index)

    for index in range(33):
        begin = sim.now()
        try:
            value = attempt(index)
            assert value in (None, index * 3 + 1), "a wrong value"
            outcomes.append("ok")
        except MicroRpcError as error:
            outcomes.append(f"{type(error).__name__}: {error}")
            if isinstance(error, OutcomeUnknownError) and not error.may_have_run:
                assert index not in executed
            if isinstance(error, PortLostError | ClosedError):
                board = None
            elif isinstance(error, PortNotFoundError):
                sim.sleep(0.2)
            elif isinstance(error, HandshakeTimeoutError) and sim.device.is_dead:
                sim.reset()
        assert sim.now() - begin <= LONGEST_S
    assert len(executed) == len(set(executed)), "a call was executed twice"
    if board is not None:
        board.close()
    return outcomes, sim.now(), sim.state


@pytest.mark.parametrize("firmware", ["robust", "stock"])
@pytest.mark.parametrize("fault", [*RANDOM_FAULTS, *OTHER_FAULTS], ids=str)
def test_no_fault_gives_a_wrong_value_or_a_second_call_and_all_of_it_repeats(fault: Fault, firmware: str) -> None:
    outcomes, now, state = run(fault, firmware, 1)
    assert (outcomes, now, state) == run(fault, firmware, 1)
    assert state.damaged.get(fault.kind(), 0) > 0, "the fault never struck"
    if fault in RANDOM_FAULTS:
        others = [run(fault, firmware, seed) for seed in (2, 3)]
        assert any((now, state) != (other_now, other_state) for _, other_now, other_state in others)
    is_hopeless = fault in (Stuck(at_s=0.2), BrownOut(every_s=0.1))
    assert ("ok" in outcomes[-3:]) != is_hopeless or fault in RANDOM_FAULTS


# --- the board --------------------------------------------------------------------------------


def test_a_board_has_booted_when_it_is_made_and_its_time_begins() -> None:
    sim = SimBoard(BOARD)
    assert sim.now() == 0.0
    with open_board(sim.open_channel(), BOARD.timeouts, seed=1) as board:
        assert board.function("add")(2, 3) == 5
    assert 0 < sim.now() < 0.1
    assert repr(sim) == f"<SimBoard loopback at {sim.now():.6f} s>"


def test_waiting_an_hour_costs_nothing() -> None:
    sim = SimBoard(BOARD, uart=Uart(firmware=FirmwareTime(functions={"add": 3600.0})))
    board = open_board(sim.open_channel(), BOARD.timeouts, seed=1)
    assert board.call(board.function("add"), [2, 3], timeout_s=4000) == 5
    assert 3600 < sim.now() < 3601
    with pytest.raises(CallTimeoutError):
        board.function("add")(2, 3)


def test_the_line_of_a_board_is_that_of_its_profile() -> None:
    uart = uart_of(BOARD)
    assert (uart.to_board, uart.to_host) == (Rate(115200), Rate(115200))
    assert (uart.receive_ring_bytes, uart.power_up_s) == (BOARD.receive_ring_bytes, BOARD.power_up_s)
    assert uart.flow_control is FlowControl.NONE


def test_a_cable_that_is_pulled_is_a_lost_port_until_it_is_opened_again() -> None:
    sim = SimBoard(BOARD)
    board = open_board(sim.open_channel(), BOARD.timeouts, seed=1)
    sim.unplug()
    with pytest.raises(PortLostError, match="the cable was pulled"):
        board.function("add")
    with pytest.raises(PortNotFoundError, match="its cable is pulled"):
        sim.open_channel()
    sim.plug()
    with open_board(sim.open_channel(), BOARD.timeouts, seed=1) as board:
        assert board.function("add")(2, 3) == 5


def test_a_channel_from_before_stays_lost_when_the_cable_is_back() -> None:
    sim = SimBoard(BOARD)
    channel = sim.open_channel()
    sim.unplug()
    sim.plug()
    for use in (lambda: channel.read(9.0), lambda: channel.write(b"\0", 9.0)):
        with pytest.raises(PortLostError, match="went away"):
            use()


def test_faults_injected_count_from_then_on() -> None:
    sim = SimBoard(BOARD)
    board = open_board(sim.open_channel(), BOARD.timeouts, seed=1)
    add = board.function("add")
    sim.inject(Wedge(function="add", call=2))
    assert add(1, 1) == 2
    with pytest.raises(CallTimeoutError):
        add(1, 1)
    sim.reset()
    with pytest.raises(BoardResetError):
        board.function("add")
    assert board.function("add")(1, 2) == 3
    assert sim.state.damaged == {"wedge": 1}
    assert board.epoch >= 1


# --- the channel ------------------------------------------------------------------------------


def test_a_read_comes_back_with_the_first_bytes_or_at_its_deadline() -> None:
    sim = SimBoard(BOARD)
    channel = sim.open_channel()
    boot = channel.read(5.0)
    assert (len(boot), channel.now()) == (12, pytest.approx(12 * 10 / 115200))
    assert channel.read(5.0) == b""
    assert channel.now() == 5.0
    assert channel.read(-math.inf) == b""
    assert channel.now() == 5.0
    with pytest.raises(ValueError, match="must be finite"):
        channel.read(math.inf)


def test_a_write_waits_for_room_until_its_deadline() -> None:
    sim = SimBoard(BOARD, uart=Uart(adapter=HostAdapter(buffer_bytes=100)))
    channel = sim.open_channel()
    channel.write(bytes(350), 9.0)
    assert channel.now() == pytest.approx(300 * 10 / 115200)
    with pytest.raises(CallTimeoutError, match="took only 50 of 350 bytes before the deadline"):
        channel.write(bytes(350), channel.now())


def test_a_write_to_a_board_that_stops_the_host_ends_at_its_deadline() -> None:
    uart = Uart(receive_ring_bytes=64, flow_control=FlowControl.RTS_CTS, adapter=HostAdapter(buffer_bytes=100))
    sim = SimBoard(BOARD, uart=uart)
    channel = sim.open_channel()
    sim.inject(Wedge(at_byte=0))
    # It is saying that it has booted, so its ring takes what comes; at 48 bytes of 64 it stops the host.
    with pytest.raises(CallTimeoutError, match="took only 148 of 350 bytes") as caught:
        channel.write(bytes(350), 9.0)
    assert not caught.value.may_have_run
    assert channel.now() == 9.0
    assert sim.state.bytes_overrun == 0


def test_a_closed_channel_is_refused_and_takes_nothing_from_the_line() -> None:
    sim = SimBoard(BOARD)
    channel = sim.open_channel()
    channel.close()
    sim.sleep(1.0)
    with pytest.raises(PortLostError, match="closed by this program"):
        channel.read(0.0)
    with pytest.raises(PortLostError, match="closed by this program"):
        channel.write(b"", 0.0)


def test_virtual_time_can_be_set_back_for_what_does_not_come_about() -> None:
    clock = VirtualClock()
    clock.move_to(5.0)
    clock.move_to(3.0)
    assert clock.now() == 5.0
    clock.set_to(3.0)
    assert clock.now() == 3.0


def test_a_simulated_board_sends_an_event_at_the_time_of_its_host() -> None:
    sim = SimBoard(profile("loopback"))
    hand = LinkHand(sim.device)
    channel = sim.open_channel()
    channel.write(hand.plain(INIT, b"\x01", 0x26), 10.0)
    hand.read(channel.read(10.0) + channel.read(10.0))
    channel.write(hand.ack(0, 1000), 10.0)
    assert [kind for kind, _ in hand.read(channel.read(10.0))] == [EVENT_STATE]
    sim.sleep(10.0 - sim.now())
    assert sim.event("ready", 1)
    assert sim.event("kept", b"x", reliable=True)
    heard = hand.read(channel.read(20.0) + channel.read(20.0))
    assert [(kind, body[4], int.from_bytes(body[5:9], "little")) for kind, body in heard[:1]] == [
        (EVENT, 0, 10_000_000)
    ]
    assert [kind for kind, _ in heard] == [EVENT, EVENT]
    with pytest.raises(RequestError, match="value 0 of the event"):
        sim.event("bad", 1 << 64)


def test_a_simulated_board_is_told_of_its_host_and_knows_what_it_was_made_with() -> None:
    told: list[tuple[float, bool]] = []
    sim = SimBoard(
        profile("loopback"),
        features=Feature.EVENTS,
        host_timeout_ms=1000,
        on_session=lambda begins: told.append((round(sim.now(), 1), begins)),
    )
    with open_board(sim.open_channel(), sim.profile.timeouts, seed=1) as board:
        assert board.function("add")(2, 3) == 5
        assert board.operations.connection.features.known == Feature.EVENTS
        assert board.operations.connection.features.host_timeout_ms == 1000
        assert not sim.event("sample", 1)
        assert not sim.event("sample", 1, reliable=True)
        sim.sleep(1.5)
    assert sim.device.stats.events_unsent == 2  # without credit, and of a kind that it does not know
    assert [begins for _, begins in told[:2]] == [True, False]
