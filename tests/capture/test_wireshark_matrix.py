"""The dissector against our own decoder on the fault matrix (docs/fault_matrix.md): each byte damaged, each in turn."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fault_matrix
import needs
import pytest
from conversations import Recording
from wireshark import WIREGASM, Record, assert_equal, assert_same, decoded, dissected_by_4_4, write

FEW = 101  # every so many positions, which takes seconds; all of them take minutes
MOST_LINES = 500  # of one file


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


def recordings(firmware: str, step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    """Have each conversation of the matrix with a firmware, or one of so many."""
    said, _ = fault_matrix.undamaged(firmware)
    lines: list[RecordedLine] = []

    def make(*arguments: object) -> RecordedLine:
        lines.append(RecordedLine(*arguments))
        return lines[-1]

    monkeypatch.setattr(fault_matrix, "Line", make)
    for name, direction, kind in fault_matrix.ROWS:
        if name == firmware:
            for position in range(0, len(said[direction]), step):
                fault_matrix.run(fault_matrix.Fault(firmware, direction, kind, position))
                yield lines.pop().recording
                assert not lines


def files(firmware: str, step: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write captures of them, each line an interface."""
    of_all = recordings(firmware, step, monkeypatch)
    numbers = itertools.count()
    while some := list(itertools.islice(of_all, MOST_LINES)):
        yield write(folder / f"{next(numbers)}.pcapng", *(recording.pieces for recording in some))


def assert_damaged(found: list[list[Record]]) -> None:
    assert any(record["microrpc.kind"] == "damaged" for packet in found for record in packet)


def check(path: Path) -> None:
    """Hold the dissector to our decoder, of one capture with damage."""
    assert_damaged(assert_same(path))
    path.unlink()


@pytest.mark.tools
@pytest.mark.parametrize("firmware", fault_matrix.FIRMWARES)
def test_a_sample_has_the_fields_of_our_own_decoder(
    firmware: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs.program("tshark")
    for path in files(firmware, FEW, tmp_path, monkeypatch):
        check(path)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("firmware", fault_matrix.FIRMWARES)
def test_every_conversation_has_the_fields_of_our_own_decoder(
    firmware: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs.program("tshark")
    with ThreadPoolExecutor(1) as beside:  # tshark has the other core, where it is free
        checked = [beside.submit(check, path) for path in files(firmware, 1, tmp_path, monkeypatch)]
        assert len(checked) > 3900 // MOST_LINES
        for each in checked:
            each.result()


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("firmware", fault_matrix.FIRMWARES)
def test_a_sample_has_the_same_fields_in_lua_5_4(
    firmware: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs.program("node", "nodejs")
    for path in files(firmware, FEW, tmp_path, monkeypatch):
        [later] = dissected_by_4_4(needs.npm(WIREGASM), "microrpc.damage", path)
        expected = decoded(path)
        assert_equal(later.packets, expected)
        assert_damaged(expected)
