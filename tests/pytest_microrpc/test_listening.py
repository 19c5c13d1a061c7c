"""What hears the line of a test, and the captures that come of it."""

from __future__ import annotations

import errno
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis.core  # noqa: F401
import pytest

from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.boards.files import WriteError
from microrpc.capture.pcapng import Packet, read_blocks
from microrpc.wire.frames import FrameDecoder
from pytest_microrpc import listening
from pytest_microrpc.listening import Listener, capture_name

SOURCE = """
import pytest
from firmware_sim.faults import Flip
def test_passes(board): board.function("add")(2, 3)
@pytest.mark.microrpc_board(seed=3)
def test_fails(board):
    board.function("add")(2, 3)
    assert 0
@pytest.mark.parametrize("what", ["a/b", "a:b", "", "\\u00e4", "x" * 300])
def test_each(board, what): assert 0
class TestOne:
    def test_fails(self, board): assert 0
"""

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Run a file of tests with captures in the folder `kept`."""

    def run(source: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(test_it=source)
        return pytester.runpytest_inprocess(
            "-W", "error", "-p", "no:cacheprovider", "--microrpc-capture=kept", *options
        )

    return run


@pytest.fixture
def server() -> Iterator[PtyServer]:
    with PtyServer(simulate(profile("loopback"))) as server:
        yield server


def packets(path: Path) -> list[Packet]:
    with path.open("rb") as file:
        return list(read_blocks(file))


def frames(path: Path, *, to_board: bool) -> list[bytes]:
    decoder = FrameDecoder()
    data = b"".join(packet.data for packet in packets(path) if packet.to_board is to_board)
    return [item for item in decoder.feed(data) if isinstance(item, bytes)]


# --- captures of failing tests ------------------------------------------------------------------------


def test_a_test_that_failed_leaves_all_that_crossed_the_line_and_says_where(
    run: Run, pytester: pytest.Pytester
) -> None:
    result = run(SOURCE)
    result.assert_outcomes(passed=1, failed=7)
    kept = pytester.path / "kept"
    names = sorted(path.name for path in kept.iterdir())
    assert names[0] == "test_it.py.TestOne.test_fails.pcapng"
    assert names[-1] == "test_it.py.test_fails.pcapng"
    assert len(names) == 7
    assert all(re.fullmatch(r"test_it\.py\.test_each[\w.-]*-[0-9a-f]{8}\.pcapng", name) for name in names[1:-1])
    result.stdout.fnmatch_lines_random([f"capture: kept/{name}" for name in names])

    path = kept / "test_it.py.test_fails.pcapng"
    assert {packet.interface for packet in packets(path)} == {"sim://loopback"}
    assert any(b"add" in frame for frame in frames(path, to_board=True))
    assert frames(path, to_board=False)
    times = [packet.time_ns for packet in packets(path)]
    assert times == sorted(times)
    assert 20_000_000 < times[-1] - times[0] < 200_000_000, "the board's own time, of a line of 115200 baud"


def test_it_has_what_only_the_simulator_knows(run: Run, pytester: pytest.Pytester) -> None:
    run("""
import pytest, microrpc
from firmware_sim.faults import Flip
@pytest.mark.microrpc_board(faults=[Flip(rate=1e-3)], seed=1)
def test(board, sim_board):
    with pytest.raises(microrpc.MicroRpcError):
        for number in range(20):
            board.function("add")(2, number)
        sim_board.unplug()
        board.function("add")(2, 3)
    sim_board.plug()
    microrpc.open_board(sim_board.open_channel(), sim_board.profile.timeouts, seed=0).close()
    assert 0
""")
    (path,) = (pytester.path / "kept").iterdir()
    comments = [comment for packet in packets(path) for comment in packet.comments]
    assert any("flip" in comment for comment in comments), comments
    assert "port lost" in comments
    assert "port opened again" in comments


def test_on_hardware_a_capture_begins_with_its_test(run: Run, pytester: pytest.Pytester, server: PtyServer) -> None:
    source = """
def test_1(board): board.function("add")(2, 11111)
def test_2(board):
    board.function("add")(2, 22222)
    assert 0
def test_3(board): board.function("add")(2, 33333)
"""
    run(source, f"--microrpc-port={server.path}").assert_outcomes(passed=2, failed=1)
    (path,) = (pytester.path / "kept").iterdir()
    sent = b"".join(frames(path, to_board=True))
    assert [value.to_bytes(8, "little") in sent for value in (11111, 22222, 33333)] == [False, True, False]


def test_a_board_that_never_answered_has_its_silence_on_file(
    run: Run, pytester: pytest.Pytester, server: PtyServer
) -> None:
    server.device.wedge()
    short = 'name = "short"\ndescription = "x"\nbaud = 115200\npacket_size_bytes = 2048\nheap_bytes = 65536\n'
    pytester.makefile(".toml", short=f"{short}[timeouts]\nstart_retry_s = 0.05\nstart_s = 0.2\ncall_s = 0.3\n")
    result = run(
        "def test(board): pass",
        "--microrpc-board-file=short.toml",
        f"--microrpc-port={server.path}",
        "--junitxml=x.xml",
    )
    result.assert_outcomes(errors=1)
    path = pytester.path / "kept" / "test_it.py.test.pcapng"
    assert len(frames(path, to_board=True)) > 2
    assert len(frames(path, to_board=False)) == 1, "that it has booted"
    assert f'value="kept/{path.name}"' in (pytester.path / "x.xml").read_text()


def test_the_folder_can_stand_in_the_projects_file(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nmicrorpc_capture = of the project\n")
    pytester.makepyfile(**{"sub/test_it": "def test(board): assert 0"})
    pytester.runpytest_inprocess("sub", "-p", "no:cacheprovider")
    assert [path.name for path in (pytester.path / "of the project").iterdir()] == ["sub.test_it.py.test.pcapng"]


def test_a_folder_that_cannot_be_is_told_before_any_test(run: Run, pytester: pytest.Pytester) -> None:
    (pytester.path / "kept").write_text("a file")
    result = run("def test(board): pass")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --microrpc-capture kept: no captures can be written there: *"])


def test_a_file_that_cannot_be_written_is_told_and_the_report_is_there_all_the_same(
    run: Run, pytester: pytest.Pytester
) -> None:
    (pytester.path / "kept" / "test_it.py.test.pcapng").mkdir(parents=True)
    result = run("def test(board): assert 0", "--junitxml=x.xml")
    result.stdout.fnmatch_lines(
        ["sim://loopback, frames: *", "capture: none, for it cannot write *: it is a directory"]
    )
    assert "microrpc.capture" not in (pytester.path / "x.xml").read_text()


class FullDisk(io.BytesIO):
    """A file that nothing can be written into."""

    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_cannot_be_kept_is_told_and_the_test_goes_on(
    run: Run, monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester
) -> None:
    monkeypatch.setattr(listening.tempfile, "SpooledTemporaryFile", lambda size: FullDisk())
    result = run("def test(board):\n    assert board.function('add')(1, 2) == 3\n    assert 0")
    result.stdout.fnmatch_lines(
        [
            "E*assert 0",
            "*add(1, 2)*",
            "capture: none, for it cannot keep what crosses the line: No space left on device",
        ]
    )
    assert list((pytester.path / "kept").iterdir()) == []


# --- names --------------------------------------------------------------------------------------------


def test_no_two_tests_share_a_file() -> None:
    nodes = [
        *("a/test_b.py::test", "a/test_b.py::test[x]", "a/test_b.py::test[X/x]", "a/test_b.py::test[X:x]"),
        *("a/test_b.py::T::test", "a.test_b.py::test", "a/test_b.py::" + "t" * 300, "a/test_b.py::" + "t" * 301),
        *("../test_b.py::test", "a b/test_b.py::test", "a_b/test_b.py::test", "\u00e4::\udc80", "CON", "::"),
    ]
    names = [capture_name(node) for node in nodes]
    assert len(set(names)) == len(nodes)
    for name in names:
        assert re.fullmatch(r"[\w.-]{1,175}", name, flags=re.ASCII), name
        assert not name.startswith("."), name
    assert names[0] == "a.test_b.py.test.pcapng"
    assert names[4] == "a.test_b.py.T.test.pcapng"


# --- memory -------------------------------------------------------------------------------------------


def test_what_is_long_is_not_kept_in_memory_and_is_complete(tmp_path: Path) -> None:
    listener = Listener("a port", captures=True)
    listener.begin()
    for number in range(300):
        listener.note(number * 0.001, bytes([number & 0x7F]) * 10_000, to_board=False)
    assert getattr(listener._spool, "_rolled", None) is True
    listener.save(tmp_path / "x.pcapng")
    assert sum(len(packet.data) for packet in packets(tmp_path / "x.pcapng")) == 3_000_000
    listener.note(1.0, b"more", to_board=True)
    listener.save(tmp_path / "x.pcapng")
    assert packets(tmp_path / "x.pcapng")[-1].data == b"more"
    listener.begin()
    listener.save(tmp_path / "x.pcapng")
    assert packets(tmp_path / "x.pcapng") == []
    listener.end()


def test_without_captures_there_is_nothing_to_save(tmp_path: Path) -> None:
    listener = Listener("a port", captures=False)
    listener.begin()
    listener.note(0.0, b"text\n", to_board=False)
    listener.save(tmp_path / "x.pcapng")
    assert not (tmp_path / "x.pcapng").exists()
    assert listener.trace.frame_count == 1


def test_a_folder_that_went_away_is_one_error(tmp_path: Path) -> None:
    listener = Listener("a port", captures=True)
    listener.begin()
    with pytest.raises(WriteError, match="there is no directory"):
        listener.save(tmp_path / "gone" / "x.pcapng")
    listener.end()
