"""Several boards: simulated, emulated, and on a desk that others use as well."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import hypothesis.core  # noqa: F401
import needs
import pytest

import microrpc.boards.finding
from firmware_sim.board.device import Firmware
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.boards.schema import BoardKind
from microrpc.errors import PortBusyError
from pytest_microrpc import desk, locks
from pytest_microrpc.locks import Lock
from pytest_microrpc.setups import Setup

Run = Callable[..., pytest.RunResult]
LIMIT_S = 60
FLAGS = re.MULTILINE | re.DOTALL
TWO = "pytestmark = pytest.mark.microrpc_board(count=2)\n"


@contextlib.contextmanager
def serving(count: int) -> Iterator[list[PtyServer]]:
    """Have so many boards on ptys."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(PtyServer(simulate(profile("loopback")))) for _ in range(count)]


@pytest.fixture
def two() -> Iterator[list[PtyServer]]:
    with serving(2) as servers:
        yield servers


def ports(servers: list[PtyServer]) -> list[str]:
    return [f"--microrpc-port={server.path}" for server in servers]


SHORT_PROFILE = """
name = "short"
description = "gives up early"
baud = 115200
packet_size_bytes = 2048
heap_bytes = 65536
[timeouts]
start_retry_s = 0.05
start_s = 0.2
call_s = 0.3
"""


# --- simulated, emulated --------------------------------------------------------------------------


def test_simulated_boards_are_each_its_own(run: Run) -> None:
    result = run(
        TWO
        + """
def one(): return 1
@pytest.mark.microrpc_board(functions=[one])
def test(boards, sim_boards, board, sim_board):
    assert len(boards) == len(sim_boards) == 2
    assert (boards[0], sim_boards[0]) == (board, sim_board)
    assert [each.function("one")() for each in boards] == [1, 1]
    boards[0].kept = boards[0].array(np.zeros(8))
    assert [sim.device.memory.used_bytes for sim in sim_boards] == [64, 0]
    assert boards[0].session_id != boards[1].session_id
    sim_boards[1].unplug()
    assert boards[0].function("add")(1, 2) == 3
    with pytest.raises(microrpc.PortLostError):
        boards[1].function("add")(1, 2)
def test_same_each_time(boards):
    assert [board.session_id for board in boards] == SEEN.setdefault("ids", [board.session_id for board in boards])
test_same_again = test_same_each_time
SEEN = {}
@pytest.mark.microrpc_board(count=1)
def test_closest(boards, sim_boards): assert len(boards) == len(sim_boards) == 1
"""
    )
    result.assert_outcomes(passed=4)


def test_the_conversation_with_each_board_is_told(run: Run) -> None:
    told = run(
        TWO
        + "def test(boards):\n    boards[0].function('add')(1, 2)\n    boards[1].function('add')(3, 4)\n    assert 0"
    ).stdout.str()
    (section,) = re.findall(r"^-+ microrpc conversation -+\n(.*?)\n[-=]", told, FLAGS)
    one, other = section.split("\n\n")
    for number, part, call in ((1, one, "add(1, 2)"), (2, other, "add(3, 4)")):
        assert part.startswith(f"sim://loopback #{number}, frames: ")
        assert re.findall(r"add\(\d, \d\)", part) == [call]


def test_noise_differs_between_boards_and_is_the_same_each_time(run: Run) -> None:
    source = (
        TWO
        + """
@pytest.mark.microrpc_board(faults=[Flip(rate=1e-4)], seed=3)
def test(boards, sim_boards):
    for board in boards:
        assert (board.array(np.arange(4000)).numpy() == np.arange(4000)).all()
    print("struck", [sim.line.state.bytes_to_board for sim in sim_boards], [sim.state.damaged for sim in sim_boards])
    assert 0
"""
    )
    first, again = (re.findall("^struck .*", run(source).stdout.str(), re.MULTILINE) for _ in range(2))
    assert first == again != []
    one, other = re.findall(r"\[(\d+), (\d+)\]", first[0])[0]
    assert one != other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("count=0", "count: must be a whole number from 1 to 64, not 0"),
        ("count=65", "count: must be a whole number from 1 to 64, not 65"),
        ("count='2'", "count: must be a whole number from 1 to 64, not '2'"),
        ("flash=1", "flash: must be True, or the path of a firmware project or of a built program, not 1"),
        ("flash='none'", "flash: there is no firmware for*"),
    ],
)
def test_a_wrong_mark_is_one_clear_error(run: Run, arguments: str, message: str) -> None:
    result = run(f"@pytest.mark.microrpc_board({arguments})\ndef test(board): pass")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: test_it.py::test: @pytest.mark.microrpc_board: {message}"])


def test_emulated_boards_are_each_started(run: Run) -> None:
    needs.emulated("posix")
    result = run(
        """
SEEN = []
def test_one(board):
    SEEN.append(board)
@pytest.mark.microrpc_board(count=2)
def test_two(boards):
    assert boards[0] is SEEN[0]
    handles = [board.empty((8,), "uint8").detach() for board in boards]
    assert len({board.session_id for board in boards}) == 2 or len(set(handles)) == 2
    assert [board.function("add")(1, 2) for board in boards] == [3, 3]
def test_one_again(board):
    assert board is SEEN[0]
@pytest.mark.microrpc_board(count=2)
def test_told(boards): assert [board.function("add")(1, 2) for board in boards] == 4
""",
        "--microrpc-board=posix",
    )
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["posix, frames: *", "posix #2, frames: *"])


# --- on a desk ------------------------------------------------------------------------------------


def test_all_ports_that_were_given_are_used(run: Run, two: list[PtyServer]) -> None:
    result = run(
        """
SEEN = []
def test_one(board): SEEN.append(board)
@pytest.mark.microrpc_board(count=2)
def test_two(boards):
    assert boards[0] is SEEN[0]
    assert [board.function("add")(1, 2) for board in boards] == [3, 3]
    SEEN.append(boards[1])
@pytest.mark.microrpc_board(count=2)
def test_two_again(boards): assert boards == SEEN
@pytest.mark.microrpc_board(count=3)
def test_three(boards): assert 0
""",
        *ports(two),
    )
    result.assert_outcomes(passed=3, skipped=1)
    result.stdout.fnmatch_lines([f"microrpc: {two[0].path}, {two[1].path}"])
    result.stdout.fnmatch_lines(
        [f"*needs 3 boards, and there are 2: {two[0].path}, {two[1].path}. Give --microrpc-port once for each"]
    )


def test_too_few_boards_are_a_failure_where_that_was_said(run: Run, two: list[PtyServer]) -> None:
    source = TWO + "def test(boards): assert 0"
    result = run(source, ports(two)[0], "--microrpc-require")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*needs 2 boards, and there is 1: *(--microrpc-require)"])


def test_ports_in_the_projects_file(run: Run, two: list[PtyServer], pytester: pytest.Pytester) -> None:
    pytester.makeini(
        f"[pytest]\nmicrorpc_port = {two[0].path} {two[1].path}\nmicrorpc_wait = 3\nmicrorpc_require = true"
    )
    run(TWO + "def test(boards): assert len(boards) == 2").assert_outcomes(passed=1)
    run(TWO + "def test(boards): assert len(boards) == 2", ports(two)[0]).assert_outcomes(errors=1)
    pytester.makepyprojecttoml(f"[tool.pytest.ini_options]\nmicrorpc_port = {[two[1].path, two[0].path]}")
    (pytester.path / "tox.ini").unlink()
    run(TWO + f"def test(boards): assert boards[0].name == {two[1].path!r}").assert_outcomes(passed=1)


def test_all_boards_that_are_plugged_in_are_used(
    run: Run, two: list[PtyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    (usb, *_) = profile("nucleo_f746zg").usb
    there = [
        SimpleNamespace(device=server.path, vid=usb.vendor_id, pid=usb.product_id, serial_number=None, location=None)
        for server in two
    ]
    monkeypatch.setattr(microrpc.boards.finding, "serial_ports", lambda: there)
    source = TWO + "def test(boards): assert [board.function('add')(1, 2) for board in boards] == [3, 3]"
    for options in ([], ["--microrpc-port=auto"]):
        run(source, "--microrpc-board=nucleo_f746zg", *options).assert_outcomes(passed=1)
    monkeypatch.setattr(microrpc.boards.finding, "serial_ports", lambda: there[:1])
    result = run(source, "--microrpc-board=nucleo_f746zg")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines([f"*needs 2 boards, and there is 1: {two[0].path}.*"])
    run(source, "--microrpc-board=nucleo_f746zg", "--microrpc-require").assert_outcomes(errors=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--microrpc-port=sim://", "--microrpc-port=/dev/x"], "--microrpc-port sim://: stands for as many boards*"),
        (["--microrpc-port=/dev/x", "--microrpc-port=qemu://x"], "--microrpc-port qemu://x: stands for as many*"),
        (["--microrpc-port=auto", "--microrpc-port=/dev/x"], "--microrpc-port auto: stands for as many boards*"),
        (["--microrpc-port=auto"], "--microrpc-port auto: say with --microrpc-board which real board to look for"),
        (["--microrpc-port=auto", "--microrpc-board=posix"], "--microrpc-port auto: say with --microrpc-board which*"),
        (["--microrpc-wait=soon"], "--microrpc-wait: must be seconds, from 0 to 86400, not 'soon'"),
        (["--microrpc-wait=nan"], "--microrpc-wait: must be seconds, from 0 to 86400, not 'nan'"),
        (["--microrpc-wait=-1"], "--microrpc-wait: must be seconds, from 0 to 86400, not '-1'"),
    ],
)
def test_wrong_options_are_one_clear_error(run: Run, options: list[str], message: str) -> None:
    result = run("def test(): pass", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])


def test_a_board_that_is_named_twice_is_one_clear_error(
    run: Run, two: list[PtyServer], pytester: pytest.Pytester
) -> None:
    (pytester.path / "link").symlink_to(two[1].path)
    result = run(f"{TWO}def test(boards): assert 0", *ports(two), "--microrpc-port=link")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = f"ERROR: --microrpc-port link: is {two[1].path} by another name: give each board once"
    assert result.stderr.lines[0] == text
    run("def test(board): pass", *ports(two), *ports(two)).assert_outcomes(passed=1)


@pytest.mark.parametrize("option", ["board", "board-file", "port", "capture"])
def test_an_option_without_a_value_is_not_taken_for_none(run: Run, option: str) -> None:
    """A job whose variable is not set would run on the simulator, and pass."""
    result = run("def test(board): pass", f"--microrpc-{option}=")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = f"ERROR: --microrpc-{option}: nothing is named: leave it out, or give it a value"
    assert result.stderr.lines[0] == text


def test_a_silent_board_of_two_is_named(run: Run, two: list[PtyServer], pytester: pytest.Pytester) -> None:
    pytester.makefile(".toml", short=SHORT_PROFILE)
    two[1].device.wedge()
    source = "@pytest.mark.microrpc_board(count=2)\ndef test(boards): pass\ndef test_one(board): pass"
    result = run(source, "--microrpc-board-file=short.toml", *ports(two))
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([f"E*HandshakeTimeoutError*{two[1].path}*"])
    result.stdout.fnmatch_lines([f"short on {two[1].path}, frames: *"])


# --- with others ----------------------------------------------------------------------------------


def test_a_board_that_others_have_is_waited_for_and_then_told_of(run: Run, two: list[PtyServer]) -> None:
    lock = Lock(two[0].path)
    assert lock.take("pytest tests/of_others")
    source = "def test(board): assert board.function('add')(1, 2) == 3"
    result = run(source, ports(two)[0], "--microrpc-wait=0.2")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "E*PortBusyError: other tests did not free a board within 0.2 s (--microrpc-wait): "
            f"{two[0].path} is held by process {os.getpid()}: pytest tests/of_others"
        ]
    )
    assert not re.search(r"^\S+\.py:\d+: ", result.stdout.str(), re.MULTILINE), "it is told without any traceback"
    run(source, *ports(two), "--microrpc-wait=0").assert_outcomes(passed=1)
    result = run(TWO + "def test(boards): pass", *ports(two), "--microrpc-wait=0.2")
    result.stdout.fnmatch_lines(
        [f"E*did not free 2 boards within 0.2 s*: {two[0].path} is held by process*: pytest tests/of_others"]
    )
    threading.Timer(0.3, lock.free).start()
    run(source, ports(two)[0], f"--microrpc-wait={LIMIT_S}").assert_outcomes(passed=1)


def test_boards_are_free_again_at_the_end(run: Run, two: list[PtyServer]) -> None:
    run(TWO + "def test(boards): pass\ndef test_fails(boards): assert 0", *ports(two))
    for server in two:
        lock = Lock(server.path)
        assert lock.take("next")
        lock.free()


class Crowd:
    """Boards that notice whether two tests use one at once, and let the first go on when all are in use."""

    def __init__(self, servers: list[PtyServer], *, together: int) -> None:
        self.servers = servers
        self.uses: dict[str, int] = {}
        self._barrier = threading.Barrier(together)
        self._inside: set[str] = set()
        self.troubles: list[str] = []
        for server in servers:
            server.device.function(self._enter(server.path), name="enter")
            server.device.function(self._leave(server.path), name="leave")

    def _enter(self, path: str) -> Callable[[], int]:
        def enter() -> int:
            if path in self._inside:
                self.troubles.append(f"{path} was entered twice")
            self._inside.add(path)
            self.uses[path] = self.uses.get(path, 0) + 1
            if self.uses[path] == 1:
                self._barrier.wait(LIMIT_S)
            return self.uses[path]

        return enter

    def _leave(self, path: str) -> Callable[[], int]:
        def leave() -> int:
            if path not in self._inside:
                self.troubles.append(f"{path} was left, and nobody was in")
            self._inside.discard(path)
            return 0

        return leave


CROWD = """
import pytest
@pytest.mark.parametrize("number", range(24))
def test(board, number):
    board.function("enter")(timeout_s=50)
    board.function("leave")()
    with open("sessions", "a") as file:
        print(board.name, board.session_id, file=file)
"""


@pytest.mark.boards
def test_four_processes_use_four_boards_and_none_is_used_by_two(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=CROWD)
    with serving(4) as servers:
        crowd = Crowd(servers, together=4)
        result = pytester.runpytest_subprocess("-n", "4", "-p", "no:cacheprovider", *ports(servers))
        result.assert_outcomes(passed=24)
        assert crowd.troubles == []
        assert len(crowd.uses) == 4
        sessions = set((pytester.path / "sessions").read_text().splitlines())
        assert len(sessions) == 4, "each board was connected to once"


MIXED = """
import pytest
def use(boards):
    for board in boards:
        board.function("enter")(timeout_s=50)
    for board in boards:
        board.function("leave")()
@pytest.mark.parametrize("number", range(12))
def test_one(boards, number): use(boards)
@pytest.mark.microrpc_board(count=2)
@pytest.mark.parametrize("number", range(6))
def test_two(boards, number): use(boards)
@pytest.mark.microrpc_board(count=3)
@pytest.mark.parametrize("number", range(3))
def test_three(boards, number): use(boards)
"""


@pytest.mark.boards
def test_processes_that_want_more_boards_than_there_are_take_turns(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=MIXED)
    with serving(3) as servers:
        crowd = Crowd(servers, together=1)
        result = pytester.runpytest_subprocess("-n", "4", "-p", "no:cacheprovider", *ports(servers))
        result.assert_outcomes(passed=21)
        assert crowd.troubles == []
        assert sum(crowd.uses.values()) == 12 + 2 * 6 + 3 * 3


@pytest.mark.boards
def test_a_killed_process_frees_its_board(pytester: pytest.Pytester, run: Run, two: list[PtyServer]) -> None:
    entered = threading.Event()
    two[0].device.function(lambda: entered.set() or 0, name="enter")
    pytester.makepyfile(test_it="def test(board):\n    board.function('enter')()\n    import time\n    time.sleep(600)")
    options = ["-m", "pytest", "-p", "no:cacheprovider", ports(two)[0]]
    other = subprocess.Popen([sys.executable, *options], cwd=pytester.path, stdout=subprocess.DEVNULL)
    try:
        assert entered.wait(LIMIT_S)
        result = run("def test(board): pass", ports(two)[0], "--microrpc-wait=0")
        result.stdout.fnmatch_lines([f"E*PortBusyError*is held by process {other.pid}: *pytest*"])
        other.send_signal(signal.SIGKILL)
        other.wait(LIMIT_S)
        start = time.monotonic()
        run("def test(board): assert board.function('add')(1, 2) == 3", ports(two)[0]).assert_outcomes(passed=1)
        assert time.monotonic() - start < LIMIT_S
    finally:
        other.kill()
        other.wait()


# --- a desk by itself ---------------------------------------------------------------------------------


def is_free(port: str) -> bool:
    lock = Lock(port)
    has = lock.take("another")
    lock.free()
    return has


def bare_desk(*ports: str, processes: int) -> desk.Desk:
    setup = Setup(None, ports, BoardKind.HARDWARE, None, Firmware.ROBUST, wait_s=0.0)
    return desk.Desk(setup, locks.Run("run", "pytest", processes))


@pytest.mark.parametrize(("processes", "is_kept"), [(1, True), (2, False)])
def test_a_board_is_kept_from_test_to_test_where_there_are_enough(
    tmp_path: Path, processes: int, is_kept: bool
) -> None:
    port = str(tmp_path / "a")
    one = bare_desk(port, processes=processes)
    one.take(1)
    assert not is_free(port)
    one.tidy()
    assert is_free(port) is not is_kept
    one.close()
    assert is_free(port)


def test_who_waits_for_two_boards_does_not_keep_one(tmp_path: Path) -> None:
    ports = [str(tmp_path / name) for name in "ab"]
    one, other = bare_desk(*ports, processes=1), Lock(ports[1])
    one.take(1)
    assert other.take("another")
    with pytest.raises(PortBusyError):
        one.take(2)
    assert is_free(ports[0])
    other.free()
