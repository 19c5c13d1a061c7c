"""The dissector against our own decoder: the same fields, packet by packet (docs/wireshark.md)."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import describing
import fault_matrix
import golden
import needs
import numpy as np
import pytest
from mutations import SESSION, Maker
from wireshark import Piece, assert_equal, cut, decoded, dissected, write

import microrpc
from firmware_sim.line.faults import Double, Drop, Faults, Flip, Insert
from firmware_sim.running.simulate import SimBoard
from microrpc.capture.fields import FIELDS
from microrpc.connecting.blocking import open_board
from microrpc.connecting.wrap import tapped
from microrpc.wire.frames import encode_frame
from microrpc.wire.packets import (
    CopyAck,
    encode_packet,
)
from microrpc.wire.session import MessageType, Timeouts, encode_message

pytestmark = pytest.mark.tools

T = TypeVar("T")
MUTATED_BYTES = 2_000_000
STEP = 211  # of the positions of the fault matrix: each row has some, and a run takes seconds


@pytest.fixture(autouse=True)
def _needs_tshark() -> None:
    needs.program("tshark")


def assert_same(path: Path) -> list[list[dict[str, object]]]:
    """Hold the dissector to our decoder; give what both found."""
    expected = decoded(path)
    assert_equal(dissected(path, path.parent), expected)
    return expected


def recorded(name: str) -> list[Piece]:
    return [Piece(burst.dir == "host", burst.data) for burst in golden.load(name)]


# --- recordings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", golden.NAMES)
def test_a_golden_conversation_has_the_fields_of_our_own_decoder(name: str, tmp_path: Path) -> None:
    assert sum(map(len, assert_same(write(tmp_path / "x.pcapng", recorded(name))))) > 1


@pytest.mark.parametrize("size", [1, 7])
def test_bursts_that_are_cut_give_the_same_records(size: int, tmp_path: Path) -> None:
    pieces = recorded("fault_helloflip")
    found = assert_same(write(tmp_path / "cut.pcapng", cut(pieces, size)))
    whole = decoded(write(tmp_path / "whole.pcapng", pieces))

    def kinds(packets: list[list[dict[str, object]]]) -> list[object]:
        return [
            (record["microrpc.kind"], record.get("microrpc.arg"))
            for packet in packets
            for record in packet
            if record["microrpc.kind"] not in ("noise", "text")  # which are told for each packet
        ]

    assert kinds(found) == kinds(whole)


# --- the fault matrix, and the link on a bad line --------------------------------------------------------------


class Recording:
    """What passed, in order."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []

    def note(self, time_s: float, data: bytes, *, to_board: bool) -> None:
        if data:
            self.pieces.append(Piece(to_board, bytes(data)))


class RecordedLine(fault_matrix.Line):
    """A line of the matrix whose bytes are recorded as they arrive."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.recording = Recording()

    def _pass(self, direction: str, data: bytes, deliver: Callable[[bytes], None]) -> bytes:
        def note(arrived: bytes) -> None:
            self.recording.note(0.0, arrived, to_board=direction == "to-board")
            deliver(arrived)

        return super()._pass(direction, data, note)


@pytest.mark.parametrize("firmware", fault_matrix.FIRMWARES)
def test_the_conversations_of_the_fault_matrix_have_the_fields_of_our_own_decoder(
    firmware: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, _ = fault_matrix.undamaged(firmware)
    lines: list[RecordedLine] = []

    def make(*arguments: object) -> RecordedLine:
        lines.append(RecordedLine(*arguments))
        return lines[-1]

    monkeypatch.setattr(fault_matrix, "Line", make)
    for name, direction, kind in fault_matrix.ROWS:
        if name == firmware:
            for position in range(0, len(said[direction]), STEP):
                fault_matrix.run(fault_matrix.Fault(firmware, direction, kind, position))
    assert len(lines) >= 20
    found = assert_same(write(tmp_path / "x.pcapng", *(line.recording.pieces for line in lines)))
    assert any(record["microrpc.kind"] == "damaged" for packet in found for record in packet)


class Steps:
    """A function that tells how far it has come."""

    def __call__(self, steps: int) -> Iterator[tuple[int, int]]:
        for step in range(steps):
            yield step + 1, steps


def fails() -> None:
    raise ValueError("no sensor")


def on_a_bad_line(seed: int) -> list[Piece]:
    """Converse with a board over a line that damages and loses: look-ups, calls, copies, events, a description."""
    strikes = (Flip(rate=2e-4), Drop(rate=1e-4), Double(rate=1e-4), Insert(rate=1e-4))
    sim = SimBoard(microrpc.profile("loopback"), faults=Faults(strikes, seed=seed), seed=seed)
    describing.install(sim.device)
    sim.device.functions["steps"] = Steps()
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


@pytest.mark.parametrize("seed", range(3))
def test_the_link_on_a_bad_line_has_the_fields_of_our_own_decoder(seed: int, tmp_path: Path) -> None:
    found = assert_same(write(tmp_path / "x.pcapng", on_a_bad_line(seed)))
    names = {name for packet in found for record in packet for name in record}
    assert names >= {
        "microrpc.link.retransmission",
        "microrpc.link.window_requests",
        "microrpc.features",
        "microrpc.description",
        "microrpc.memory.heap",
        "microrpc.event.name",
        "microrpc.event.credit",
        "microrpc.progress.done",
        "microrpc.damage",
        "microrpc.response_time",
    }


# --- whatever bytes ----------------------------------------------------------------------------------------------


def test_two_megabytes_of_mutated_bytes_have_the_fields_of_our_own_decoder(tmp_path: Path) -> None:
    found = assert_same(write(tmp_path / "x.pcapng", Maker(seed=17).pieces(MUTATED_BYTES)))
    assert {name for packet in found for record in packet for name in record} == set(FIELDS)


def test_two_megabytes_of_noise_have_the_fields_of_our_own_decoder(tmp_path: Path) -> None:
    chance = random.Random(5)
    pieces = []
    for _ in range(MUTATED_BYTES // 500):
        data = chance.randbytes(500).replace(b"\x80", b"\xff\xfd").replace(b"\x00\x00", b"\xff\xff")
        pieces.append(Piece(chance.random() < 0.5, data))
    assert_same(write(tmp_path / "x.pcapng", pieces))


def test_a_long_message_is_put_together_and_one_that_is_too_long_is_refused(tmp_path: Path) -> None:
    long = encode_frame(encode_message(SESSION, MessageType.NORMAL, encode_packet(CopyAck(bytes(range(256)) * 4000))))
    too_long = b"\xff\xfd" + struct.pack("<I", (1 << 20) + 1) + b"text\n"
    found = assert_same(write(tmp_path / "x.pcapng", cut([Piece(False, long + too_long)], 4096)))
    kinds = [(record["microrpc.kind"], record.get("microrpc.damage")) for packet in found for record in packet]
    assert kinds == [("CopyAck", None), ("damaged", "too long"), ("text", None)]
