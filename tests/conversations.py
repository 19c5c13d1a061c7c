"""Conversations on a line, byte by byte, as captures have them."""

from __future__ import annotations

from collections.abc import Iterator

import describing
import golden
import numpy as np
import pytest
from wireshark import Piece

import microrpc
from firmware_sim.line.faults import Double, Drop, Faults, Flip, Insert
from firmware_sim.running.simulate import SimBoard
from microrpc.connecting.blocking import open_board
from microrpc.connecting.wrap import tapped
from microrpc.wire.session import Timeouts


class Recording:
    """What passed, in order."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []

    def note(self, time_s: float, data: bytes, *, to_board: bool) -> None:
        if data:
            self.pieces.append(Piece(to_board, bytes(data)))


def recorded(name: str) -> list[Piece]:
    return [Piece(burst.dir == "host", burst.data) for burst in golden.load(name)]


def steps(count: int) -> Iterator[tuple[int, int]]:
    """Tell how far it has come."""
    for step in range(count):
        yield step + 1, count


def fails() -> None:
    raise ValueError("no sensor")


def on_a_bad_line(seed: int) -> list[Piece]:
    """Converse with a board over a line that damages and loses: look-ups, calls, copies, events, a description."""
    strikes = (Flip(rate=2e-4), Drop(rate=1e-4), Double(rate=1e-4), Insert(rate=1e-4))
    sim = SimBoard(microrpc.profile("loopback"), faults=Faults(strikes, seed=seed), seed=seed)
    describing.install(sim.device)
    sim.device.functions["steps"] = steps
    sim.device.functions["fails"] = fails
    recording = Recording()
    timeouts = Timeouts(retry_s=0.5, start_s=60.0, call_s=60.0)
    with open_board(sim.open_channel(), timeouts, seed=seed, wrap=tapped(recording)) as board:
        board.on_event(None, lambda event: None)
        assert board.functions()
        board.memory()
        assert board.function("sum")(1, 2, 3) == 6
        with pytest.raises(microrpc.RemoteError):
            board.function("fails")()
        board.function("steps")(5)
        array = board.empty(40_000, "uint8")
        array.write(np.random.default_rng(seed).integers(0, 256, 40_000, dtype=np.uint8))
        array.numpy()
        for number in range(20):
            sim.device.event("said", number, 0.5, "text \xe9", b"\xff\xfd", reliable=number % 2 == 0)
        board.poll(2.0)
    return recording.pieces
