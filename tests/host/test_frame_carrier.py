"""Several requests at once to a stock board: as many as its ring takes, and nothing wrong is ever believed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import microrpc
from firmware_sim.line.faults import Drop, Fault, Faults, Flip
from firmware_sim.line.settings import FirmwareTime, Uart
from firmware_sim.running.simulate import SimBoard, uart_of
from microrpc.client.board import Board
from microrpc.connecting.address import find_target
from microrpc.connecting.blocking import open_board
from microrpc.errors import HandshakeTimeoutError, MicroRpcError
from microrpc.wire.session import Timeouts

PACKET_BYTES = 256
RING_BYTES = PACKET_BYTES + 100
BAUD = 115200
PROFILE = dataclasses.replace(
    microrpc.profile("loopback"), packet_size_bytes=PACKET_BYTES, receive_ring_bytes=RING_BYTES, baud=BAUD
)
TIMEOUTS = Timeouts(retry_s=0.5, start_s=5.0, call_s=2.0)
DATA = np.random.default_rng(5).integers(0, 256, 900, dtype=np.uint8)


def open_stock(*faults: Fault, ring_bytes: int = RING_BYTES) -> tuple[SimBoard, Board]:
    sim = SimBoard(PROFILE, firmware="stock", faults=Faults(faults))
    return sim, open_board(sim.open_channel(), TIMEOUTS, seed=1, ring_bytes=ring_bytes)


def line_share(sim: SimBoard, board: Board, *, to_board: bool) -> float:
    """The share of the time in which the direction of a copy carried bytes."""
    array = board.empty((20_000,), "uint8")
    board.max_packet_bytes()
    data = np.random.default_rng(1).integers(0, 256, 20_000, dtype=np.uint8)
    if not to_board:
        array.write(data)
    start, state = sim.now(), sim.state
    if to_board:
        array.write(data)
        busy_s = sim.state.to_board_busy_s - state.to_board_busy_s
    else:
        assert np.array_equal(array.numpy(), data)
        busy_s = sim.state.to_host_busy_s - state.to_host_busy_s
    return busy_s / (sim.now() - start)


@pytest.mark.parametrize("to_board", [True, False])
def test_a_ring_that_is_known_keeps_the_line_busier(to_board: bool) -> None:
    alone = line_share(*open_stock(ring_bytes=0), to_board=to_board)
    together = line_share(*open_stock(), to_board=to_board)
    assert alone < 0.9
    assert together > alone + 0.08


def test_the_ring_never_overruns_although_it_is_used() -> None:
    sim, board = open_stock()
    array = board.array(np.full(5000, 0xFF, dtype=np.uint8))  # every byte takes two on the wire
    assert (array.numpy() == 0xFF).all()
    assert sim.state.bytes_overrun == 0
    assert board.array(np.zeros(5000, dtype=np.uint8)).numpy().sum() == 0
    assert sim.state.bytes_overrun == 0
    assert 0 < sim.state.ring_high_water_bytes <= RING_BYTES


def test_each_answer_gives_the_next_one_its_time() -> None:
    sim = SimBoard(PROFILE, firmware="stock")
    board = open_board(sim.open_channel(), Timeouts(call_s=0.1), seed=1, ring_bytes=RING_BYTES)
    array = board.empty((2500,), "uint8")
    board.max_packet_bytes()
    start = sim.now()
    array.write(np.zeros(2500, dtype=np.uint8))  # one batch
    assert sim.now() - start > 2 * 0.1
    assert board.stats.repeats == 0


def test_nothing_is_presumed_of_a_board_that_was_not_named() -> None:
    target = find_target("/dev/ttyACM0", board=None, baud=None, timeouts=None)
    assert target.ring_bytes == 0
    named = find_target("/dev/ttyACM0", board="nucleo_f746zg", baud=None, timeouts=None)
    assert named.ring_bytes == microrpc.profile("nucleo_f746zg").receive_ring_bytes
    assert named.ring_bytes > 0


OWN = """
name = "own"
description = "a board with the ring of an Arduino"
baud = 115200
packet_size_bytes = 256
heap_bytes = 16384
"""


@pytest.mark.parametrize("stated", ["", "receive_ring_bytes = 64"])
@pytest.mark.parametrize("to_board", [False, True])
def test_a_ring_that_no_profile_states_is_not_pipelined_into(tmp_path: Path, stated: str, to_board: bool) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN + stated)
    own = microrpc.load_profile(path)
    target = find_target("/dev/ttyACM0", board=own, baud=None, timeouts=None)
    assert target.ring_bytes == (64 if stated else 0)
    # Each request lies in the ring as a whole, or is read as it comes: two at once would be lost in part.
    uart = Uart(receive_ring_bytes=64, firmware=FirmwareTime(packet_s=0.01))
    sim = SimBoard(own, firmware="stock", uart=uart)
    board = open_board(sim.open_channel(), target.timeouts, seed=1, ring_bytes=target.ring_bytes)
    data = np.arange(2000, dtype=np.uint16)
    array = board.array(data) if to_board else board.empty(data.shape, data.dtype)
    if not to_board:
        array.numpy()
    assert (sim.state.bytes_overrun, board.stats.repeats) == (0, 0)
    assert board.function("add")(2, 3) == 5


def test_a_ring_that_nobody_states_is_simulated_as_in_microtvms_zephyr_project() -> None:
    unstated = dataclasses.replace(PROFILE, receive_ring_bytes=None)
    assert uart_of(unstated).receive_ring_bytes == PACKET_BYTES + 100
    assert uart_of(PROFILE).receive_ring_bytes == RING_BYTES


def test_an_error_of_the_board_ends_the_copy_and_the_next_request_is_right() -> None:
    _, board = open_stock()
    array = board.array_at(0x1000, DATA.shape, DATA.dtype)  # there is no memory
    with pytest.raises(microrpc.RemoteError):
        array.numpy()
    with pytest.raises(microrpc.RemoteError):
        array.write(DATA)
    assert board.function("add")(2, 3) == 5


def attempt(fault: Fault) -> str:
    """Copy there and back over a line with one fault; tell how it ended."""
    sim = SimBoard(PROFILE, firmware="stock", faults=Faults([fault]))
    try:
        board = open_board(sim.open_channel(), TIMEOUTS, seed=1, ring_bytes=RING_BYTES)
        assert np.array_equal(board.array(DATA).numpy(), DATA), f"wrong data after {fault}"
    except HandshakeTimeoutError:
        assert sim.device.is_dead, str(fault)
        return "dead"
    except MicroRpcError as error:
        return type(error).__name__
    assert board.function("add")(2, 3) == 5
    return "right"


@pytest.mark.parametrize("step", [13, pytest.param(1, marks=pytest.mark.long)])  # a prime: it meets all there is
@pytest.mark.parametrize("kind", [Flip, Drop])
@pytest.mark.parametrize("direction", ["to-board", "to-host"])
def test_damage_at_any_byte_of_pipelined_copies_gives_no_wrong_data(
    kind: type[Flip | Drop], direction: str, step: int
) -> None:
    sim, board = open_stock()
    board.array(DATA).numpy()
    size_bytes = sim.state.bytes_to_board if direction == "to-board" else sim.state.bytes_to_host
    ends = {attempt(kind(at=(at,), direction=direction)) for at in range(0, size_bytes, step)}  # type: ignore[arg-type]
    assert "right" in ends
    assert ends <= {"right", "dead", "CallTimeoutError", "DamagedReplyError"}
