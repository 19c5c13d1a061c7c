"""The host against every fault at every byte, and the table of it in docs/fault_matrix.md."""

from __future__ import annotations

import subprocess
import sys

import fault_matrix
import pytest
from fault_matrix import DIRECTIONS, ROWS, Fault, Kind, Line, MatrixError, Outcome, Program

from firmware_sim.board.link import LinkDevice
from microrpc.host.link import LinkHost


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.long), 13], ids=["every-byte", "some-bytes"])
@pytest.mark.parametrize(("firmware", "direction", "kind"), ROWS)
def test_a_fault_at_any_byte_ends_right_or_in_the_error_that_describes_it(
    firmware: str, direction: str, kind: Kind, step: int
) -> None:
    said, _ = fault_matrix.undamaged(firmware)
    outcomes = fault_matrix.tally(firmware, direction, kind, step)
    assert outcomes.total() == len(range(0, len(said[direction]), step)) > 300 // step
    if firmware != "stock" or direction == "to-host" or kind is Kind.CUT:
        assert outcomes[Outcome.RESET_NEEDED] == 0
    if firmware not in ("robust", "stock") and kind not in (Kind.CUT, Kind.INTERRUPT):
        assert outcomes[Outcome.REPORTED] == 0


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_table_in_the_document_is_what_comes_out() -> None:
    assert fault_matrix.documented() == fault_matrix.table(), "rewrite it: python tests/fault_matrix.py --write"


def test_the_conversation_has_every_byte_that_framing_cares_about_and_copies_in_blocks() -> None:
    said, _ = fault_matrix.undamaged("stock")
    for direction in DIRECTIONS:
        assert {b"\xff\xff", b"\xff\xfd", b"\xfe", b"\xfd"} <= {
            token for token in (b"\xff\xff", b"\xff\xfd", b"\xfe", b"\xfd") if token in said[direction]
        }
    assert len(fault_matrix.DATA) > fault_matrix.PACKET_SIZE_BYTES - 11 - 52


def test_flips_reach_every_bit() -> None:
    flips = {Fault("stock", "to-host", Kind.FLIP, position).apply(0)[0] for position in range(8)}
    assert flips == {1, 2, 4, 8, 16, 32, 64, 128}


def test_a_cut_loses_the_rest_of_what_is_being_sent_and_resets_the_board() -> None:
    line = Line("robust", Fault("robust", "to-host", Kind.CUT, 5))
    boot = bytes.fromhex("fefffd030000000000026677")
    assert line.read(1.0) == boot[:5]
    assert line.read(1.0) == boot  # of the reset
    assert (line.read(1.0), line.now()) == (b"", 1.0)
    line = Line("robust", Fault("robust", "to-board", Kind.CUT, 5))
    line.read(1.0)
    line.write(b"0123456789", 1.0)
    assert line.passed["to-board"] == b"0123456789"
    assert (line.device.stats.resets, line.read(1.0)) == (1, boot)


# --- the judge is judged ------------------------------------------------------------------------


def test_a_wrong_value_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault("robust", "to-host", Kind.FLIP, 0)
    fault_matrix.undamaged("robust")
    monkeypatch.setattr(Line, "_count", lambda line: 7)
    with pytest.raises(MatrixError, match=r"count\(\) gave 7, not 0(.|\n)*fault_matrix.py robust to-host flip 0"):
        fault_matrix.run(fault)


def test_a_call_that_is_executed_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    fault_matrix.undamaged("robust")
    count = Line._count
    monkeypatch.setattr(Line, "_count", lambda line: count(line) and count(line))
    with pytest.raises(MatrixError, match="1 calls were executed 2 times"):
        fault_matrix.run(Fault("robust", "to-host", Kind.FLIP, 0))


def test_an_exception_that_is_not_ours_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    fault_matrix.undamaged("robust")
    monkeypatch.setattr(Line, "read", lambda line, deadline: 1 // 0)
    with pytest.raises(MatrixError, match=r"ZeroDivisionError\(.*\) reached the program"):
        fault_matrix.run(Fault("robust", "to-host", Kind.FLIP, 0))


def test_damage_that_the_link_lets_through_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    said, _ = fault_matrix.undamaged("linked")
    fault = Fault("linked", "to-board", Kind.FLIP, len(said["to-board"]) - 10)
    assert fault_matrix.run(fault) is Outcome.RECOVERED
    monkeypatch.setattr(LinkHost, "_retransmit", lambda host, request, now: None)
    with pytest.raises(MatrixError, match="the link let CallTimeoutError"):
        fault_matrix.run(fault)


def test_a_call_over_the_link_that_is_executed_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    said, _ = fault_matrix.undamaged("linked")
    receive = LinkDevice.receive

    def forgetful(device: LinkDevice, payload: bytes) -> bytes | None:
        device.base = int.from_bytes(payload[3:5], "little")
        return receive(device, payload)

    monkeypatch.setattr(LinkDevice, "receive", forgetful)
    with pytest.raises(MatrixError, match="were executed"):
        fault_matrix.run(Fault("linked", "to-host", Kind.FLIP, len(said["to-host"]) - 10))


def test_a_wait_beyond_the_deadline_is_noticed() -> None:
    program = Program(Line("robust"))
    program.converse()
    with pytest.raises(MatrixError, match=r"took 7\.5 s where 7 s are allowed"):
        program._step(lambda: program.line.device.clock.sleep(7.5))


def test_a_board_that_is_out_of_reach_without_being_dead_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault("robust", "to-board", Kind.FLIP, 130)
    assert fault_matrix.run(fault) is Outcome.REPORTED
    passed = Line._pass

    def drop_later(line: Line, direction: str, data: bytes, *deliver: object) -> bytes:
        later = direction == "to-board" and len(line.passed[direction]) > 240
        return passed(line, direction, b"" if later else data, *deliver)  # type: ignore[arg-type]

    monkeypatch.setattr(Line, "_pass", drop_later)
    with pytest.raises(MatrixError, match="and the board is alive"):
        fault_matrix.run(fault)


@pytest.mark.parametrize("position", [3, 70])
def test_one_position_can_be_replayed_from_the_shell(position: int) -> None:
    command = Fault("stock", "to-board", Kind.FLIP, position).replay().split()
    root = fault_matrix.DOCUMENT.parent.parent
    done = subprocess.run([sys.executable, *command[1:]], capture_output=True, text=True, timeout=60, cwd=root)
    assert done.stderr == ""
    assert done.stdout.count("<- the fault") == 1
    assert done.stdout.splitlines()[-1].endswith(tuple(Outcome))
