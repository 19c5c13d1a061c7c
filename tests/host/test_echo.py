"""A half-duplex line (RS-485), on which what is sent comes back first: it is dropped, whole or damaged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from apis import Api

from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from firmware_sim.running.loopback import LoopbackChannel
from microrpc.client.board import Board
from microrpc.connecting.blocking import open_board
from microrpc.errors import (
    BoardResetError,
    CallTimeoutError,
    DamagedReplyError,
    HandshakeTimeoutError,
    StaleHandleError,
)
from microrpc.wire.frames import FRAME_START
from microrpc.wire.session import Timeouts

TIMEOUTS = Timeouts(retry_s=0.5, start_s=5.0, call_s=2.0)
KINDS = ("stock", "robust", "linked")
DATA = np.random.default_rng(3).integers(0, 256, 5000, dtype=np.uint8)


class EchoingLine:
    """A board in memory behind an adapter that hears itself; `damage` is done to what it hears, by its position."""

    name = "/dev/rs485"

    def __init__(self, kind: str, damage: Callable[[int, bytes], bytes] = lambda at, data: data) -> None:
        self.device = Device(firmware="stock" if kind == "stock" else "robust", seed=7, link=kind == "linked")
        install(self.device)
        self.device.function(self.count)
        self.executions = 0
        self.damage = damage
        self.echoed_bytes = 0
        self.most_frames_at_once = 0
        self._echo = b""
        self._inner = LoopbackChannel(self.device)

    def count(self) -> int:
        self.executions += 1
        return self.executions

    def write(self, data: bytes, deadline: float) -> None:
        requests = data.count(FRAME_START) - data.count(b"\xff\xfd\x03\0\0\0\0\0\x02")  # TERMINATE comes with INIT
        self.most_frames_at_once = max(self.most_frames_at_once, requests)
        self._echo += self.damage(self.echoed_bytes, data)
        self.echoed_bytes += len(data)
        self._inner.write(data, deadline)

    def read(self, deadline: float) -> bytes:
        echo, self._echo = self._echo, b""
        return echo or self._inner.read(deadline)

    def now(self) -> float:
        return self._inner.now()

    def close(self) -> None:
        self._inner.close()

    def open(self, api: Api | None = None) -> Board:
        opener = open_board if api is None else api.open_board
        board: Board = opener(self, TIMEOUTS, seed=1, ring_bytes=4096)
        return board


@pytest.mark.parametrize("kind", KINDS)
def test_calls_and_copies_are_right_over_a_line_with_an_echo(kind: str, api: Api) -> None:
    line = EchoingLine(kind)
    board = line.open(api)
    count = board.function("count")
    assert [count() for _ in range(5)] == [1, 2, 3, 4, 5]
    assert np.array_equal(board.array(DATA).numpy(), DATA)
    assert (board.link is not None) == (kind == "linked")
    stats = board.stats
    assert (stats.sessions, stats.resets, stats.repeats, stats.retransmissions, stats.frames_damaged) == (1, 0, 0, 0, 0)
    board.close()


@pytest.mark.parametrize("kind", KINDS)
def test_one_request_is_under_way_at_a_time_whatever_ring_and_window_take(kind: str) -> None:
    line = EchoingLine(kind)
    board = line.open()
    assert np.array_equal(board.array(DATA).numpy(), DATA)
    assert line.most_frames_at_once == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_reset_is_noticed_although_a_boot_says_what_the_host_does(kind: str) -> None:
    line = EchoingLine(kind)
    board = line.open()
    count = board.function("count")
    line.device.reset()
    with pytest.raises((BoardResetError, StaleHandleError)):
        count()
    assert board.function("count")() == 1
    assert board.stats.resets == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", ["flip", "drop", "insert"])
def test_a_damaged_echo_is_never_a_wrong_answer_nor_a_doubt_without_end(kind: str, fault: str) -> None:
    whole = EchoingLine(kind)
    board = whole.open()
    board.function("count")()
    board.array(DATA[:64]).numpy()
    outcomes = set()
    for position in range(0, whole.echoed_bytes, 11):

        def damage(start: int, data: bytes, position: int = position) -> bytes:
            at = position - start
            if not 0 <= at < len(data):
                return data
            hit = {"flip": bytes([data[at] ^ 1 << position % 8]), "drop": b"", "insert": b"\xff" + data[at : at + 1]}
            return data[:at] + hit[fault] + data[at + 1 :]

        line = EchoingLine(kind, damage)
        board = line.open()
        try:
            assert board.function("count")() == line.executions
            assert np.array_equal(board.array(DATA[:64]).numpy(), DATA[:64])
            outcomes.add("right")
        except (DamagedReplyError, CallTimeoutError):
            outcomes.add("reported")
        assert board.function("count")() == line.executions
        assert np.array_equal(board.array(DATA[:64]).numpy(), DATA[:64])
    assert outcomes == ({"right"} if kind == "linked" else {"right", "reported"})


def test_an_echo_that_is_late_is_dropped_too() -> None:
    """An INIT that was given up comes back: it must not be taken for the wish of a peer."""
    line = EchoingLine("robust")
    held: list[bytes] = []

    def hold(at: int, data: bytes) -> bytes:
        if at == 0:
            held.append(data)
            return b""
        return held.pop() + data if held else data

    line.damage = hold
    line._inner.to_host = lambda data: b"" if not line.echoed_bytes or held else data  # nor does the first REPLY come
    board = line.open()
    assert board.function("count")() == 1
    assert (board.stats.sessions, board.stats.resets) == (1, 0)


def test_where_only_the_echo_answers_the_error_says_so() -> None:
    line = EchoingLine("robust")
    line.device.wedge()
    line.device.take_output()  # its boot
    with pytest.raises(
        HandshakeTimeoutError, match=r"on /dev/rs485 within 5 s\. Only what was sent came back, \d+ bytes"
    ):
        line.open()
