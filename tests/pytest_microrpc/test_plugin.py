"""The pytest plugin, in test runs of its own."""

from __future__ import annotations

import re
import shlex
import socket
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

import microrpc
import microrpc.boards.finding
import microrpc.connecting.openers.serial
import microrpc.firmware.emulator
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.errors import HandshakeTimeoutError
from microrpc.firmware.project import Project
from microrpc.ports.channel import SerialChannel
from microrpc.ports.opening import open_serial
from microrpc.serve.endpoint import ServerEndpoint
from microrpc.serve.local import LocalSession
from pytest_microrpc import place

ROOT = Path(__file__).parent.parent.parent
GUIDE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
SHORT_PROFILE = """
name = "short"
description = "gives up early"
baud = 115200
packet_size_bytes = 2048
heap_bytes = 65536
{kind}
[timeouts]
start_retry_s = 0.05
start_s = 0.2
call_s = 0.3
"""

Run = Callable[..., pytest.RunResult]


def block(with_text: str, language: str = "python") -> str:
    """Give the example of the guide that has a text in it."""
    (found,) = (text for text in re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL) if with_text in text)
    return str(found)


def errors(result: pytest.RunResult) -> str:
    return "\n".join(line for line in result.errlines if line.startswith("ERROR"))


def conversation(result: pytest.RunResult) -> str:
    """The section of the only report that has one."""
    (section,) = re.findall(
        r"^-+ microrpc conversation -+\n(.*?)(?=^[-=_]{3})", result.stdout.str(), re.MULTILINE | re.DOTALL
    )
    return str(section)


# --- the fixtures, in the simulator -----------------------------------------------------------


def test_a_board_needs_nothing(run: Run) -> None:
    result = run("def test(board): assert board.function('add')(2, 3) == 5 and board.name == 'sim://loopback'")
    result.assert_outcomes(passed=1)
    assert "microrpc:" not in result.stdout.str()


def test_each_test_has_a_board_of_its_own(run: Run) -> None:
    test = """
    board.kept = board.array(np.zeros(8))
    assert sim_board.device.memory.used_bytes == 64
    sim_board.function(lambda: 1, name="mine")
    assert board.function("mine")() == 1
"""
    other = """
    assert sim_board.device.memory.used_bytes == 0
    with pytest.raises(microrpc.FunctionNotFoundError):
        board.function("mine")
"""
    run(f"def test_1(board, sim_board):{test}def test_2(sim_board, board):{other}").assert_outcomes(passed=2)


def test_sim_board_alone_does_not_connect(run: Run) -> None:
    run("""
def test(sim_board):
    assert sim_board.state.bytes_to_board == 0
    with microrpc.open_board(sim_board.open_channel(), sim_board.profile.timeouts) as board:
        assert board.function("add")(1, 1) == 2
    assert 0
""").stdout.fnmatch_lines(["*CALL*add(1, 1)*"])


def test_waiting_takes_no_time(run: Run) -> None:
    start = time.monotonic()
    result = run("""
def test(board, sim_board):
    sleep_ms = board.function("sleep_ms")
    assert sleep_ms(100_000, timeout_s=200) == 100_000
    add = board.function("add")
    sim_board.device.wedge()
    with pytest.raises(microrpc.CallTimeoutError):
        add(1, 2)
""")
    result.assert_outcomes(passed=1)
    assert time.monotonic() - start < 20


def test_a_board_that_hangs_or_is_gone_is_closed_all_the_same(run: Run) -> None:
    run("""
def test_hangs(board, sim_board):
    board.kept = board.array(np.zeros(8))
    sim_board.device.wedge()
def test_gone(board, sim_board):
    board.kept = board.array(np.zeros(8))
    sim_board.unplug()
def test_closed(board):
    board.close()
""").assert_outcomes(passed=3)


def test_a_board_does_not_outlive_its_test(run: Run) -> None:
    run("""
import gc, weakref
BOARDS = []
def test_1(board, sim_board):
    BOARDS.extend([weakref.ref(board), weakref.ref(sim_board)])
def test_2():
    gc.collect()
    assert [ref() for ref in BOARDS] == [None, None]
""").assert_outcomes(passed=2)


# --- the mark ---------------------------------------------------------------------------------


def test_a_profile(run: Run) -> None:
    run("""
@pytest.mark.microrpc_board(profile="arduino_due")
def test_name(board, sim_board):
    assert board.name == "sim://arduino_due"
    assert sim_board.profile == microrpc.profile("arduino_due")
@pytest.mark.microrpc_board(profile=microrpc.profile("rpi_pico"))
def test_profile(board):
    assert board.name == "sim://rpi_pico"
""").assert_outcomes(passed=2)


def test_functions(run: Run) -> None:
    run("""
def one(): return 1
@pytest.mark.microrpc_board(functions=[one])
def test_list(board): assert board.function("one")() == 1
@pytest.mark.microrpc_board(functions={"uno": one, "due": lambda: 2})
def test_names(board): assert board.function("uno")() + board.function("due")() == 3
""").assert_outcomes(passed=2)


def test_faults_firmware_uart_and_seed(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makefile(".toml", noise='seed = 5\n[[fault]]\nkind = "reset"\nfunction = "add"\n')
    result = run("""
from firmware_sim.uart import Uart, Rate
RESET = Reset(function="add")
def check(board):
    with pytest.raises(microrpc.BoardResetError):
        board.function("add")(1, 2)
@pytest.mark.microrpc_board(faults=RESET)
def test_one(board): check(board)
@pytest.mark.microrpc_board(faults=[RESET])
def test_list(board): check(board)
@pytest.mark.microrpc_board(faults=Faults([RESET], seed=3))
def test_faults(board): check(board)
@pytest.mark.microrpc_board(faults="noise.toml")
def test_file(board): check(board)
@pytest.mark.microrpc_board(firmware="stock")
def test_firmware(sim_board): assert sim_board.device.firmware == "stock"
@pytest.mark.microrpc_board(uart=Uart(to_board=Rate(1200)))
def test_uart(board, sim_board):
    assert sim_board.line.uart.to_board.baud == 1200
    assert sim_board.now() > 0.05
IDS = []
@pytest.mark.microrpc_board(seed=9)
def test_seed(board): IDS.append(board.session_id)
@pytest.mark.microrpc_board(seed=9)
def test_same_seed(board): assert board.session_id == IDS[0]
@pytest.mark.microrpc_board(seed=10)
def test_other_seed(board): assert board.session_id != IDS[0]
""")
    result.assert_outcomes(passed=9)


def test_of_each_argument_the_closest_counts(run: Run) -> None:
    run("""
def one(): return 1
pytestmark = pytest.mark.microrpc_board(profile="arduino_due", functions=[one], firmware="stock")
@pytest.mark.microrpc_board(firmware="robust")
class TestIt:
    @pytest.mark.microrpc_board(profile="rpi_pico")
    def test(self, board, sim_board):
        assert (sim_board.profile.name, sim_board.device.firmware) == ("rpi_pico", "robust")
        assert board.function("one")() == 1
""").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("[1]", "takes arguments by name only, not [1]"),
        ("fault=[]", "has no argument 'fault'; did you mean 'faults'? There are: profile, functions, faults*"),
        ("zzz=1", "has no argument 'zzz'. There are: profile, functions, faults*"),
        ("firmware=['stock']", "firmware: must be 'robust' or 'stock', not ['stock']"),
        ("profile='nucleo'", "profile: there is no board profile 'nucleo'*"),
        ("profile=1", "profile: must be the name of a profile or a BoardProfile, not 1"),
        ("functions=print", "functions: must be a list of functions, or {name: function}, not <built-in*"),
        ("functions=[1]", "functions: must be functions, and 1 is none"),
        ("functions=[lambda: 1]", "functions: <function*has no name of its own: give it as {name: function}"),
        ("functions=[print, print]", "functions: two functions have the same name*"),
        ("faults=['flip']", "faults: must be faults such as*not ['flip']"),
        ("faults='none.toml'", "faults: *none.toml: cannot be read*"),
        ("firmware='fast'", "firmware: must be 'robust' or 'stock', not 'fast'"),
        ("uart=9600", "uart: must be a firmware_sim.uart.Uart, not 9600"),
        ("seed=True", "seed: must be a whole number from 0 to 2**63 - 1, not True"),
        ("seed=2**63", "seed: must be a whole number from 0 to 2**63 - 1, not 9223372036854775808"),
        ("reset=1", "reset: must be True or False, not 1"),
    ],
)
def test_a_wrong_mark_is_one_clear_error(run: Run, arguments: str, message: str) -> None:
    result = run(f"@pytest.mark.microrpc_board({arguments})\ndef test(board): pass\ndef test_other(): pass")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([_literal(f"ERROR: test_it.py::test: @pytest.mark.microrpc_board: {message}")])
    assert len(errors(result).splitlines()) == 1


def _literal(pattern: str) -> str:
    return pattern.replace("[", "[[]")


def test_a_test_of_hardware_is_skipped_here(run: Run) -> None:
    result = run("@pytest.mark.hardware\ndef test(board): assert 0")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*test_it.py:*needs hardware: give --microrpc-port or --microrpc-board"])


# --- options ----------------------------------------------------------------------------------

TELL = """
def test(board, sim_board):
    print(sim_board.profile.name, sim_board.device.firmware)
    assert not board
"""


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "loopback robust"),
        (["--microrpc-board", "loopback"], "loopback robust"),
        (["--microrpc-port", "sim://"], "loopback robust"),
        (["--microrpc-port", "sim://arduino_due"], "arduino_due robust"),
        (["--microrpc-port", "sim://", "--microrpc-board", "arduino_due"], "arduino_due robust"),
        (["--microrpc-board-file", "short.toml"], "short robust"),
        (["--microrpc-firmware", "stock"], "loopback stock"),
    ],
)
def test_what_is_simulated(run: Run, pytester: pytest.Pytester, options: list[str], told: str) -> None:
    pytester.makefile(".toml", short=SHORT_PROFILE.format(kind='kind = "simulated"'))
    result = run(TELL, *options)
    result.stdout.fnmatch_lines([told])
    if options:
        result.stdout.fnmatch_lines([f"microrpc: simulated {told.split()[0]}, {told.split()[1]} firmware"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--microrpc-board", "rpi_pic"],
            "--microrpc-board: there is no board profile 'rpi_pic', and no directory of that name; "
            "did you mean 'rpi_pico'? `microrpc boards` lists the profiles",
        ),
        (["--microrpc-board-file", "none.toml"], "none.toml: cannot be read*"),
        (
            ["--microrpc-board", "loopback", "--microrpc-board-file", "x.toml"],
            "--microrpc-board and --microrpc-board-file each say which board it is*",
        ),
        (
            ["--microrpc-board", "loopback", "--microrpc-port", "sim://rpi_pico"],
            "--microrpc-port sim://rpi_pico and --microrpc-board each say*",
        ),
        (["--microrpc-port", "/dev/x", "--microrpc-firmware", "stock"], "--microrpc-firmware is for the simulator*"),
        (["--microrpc-port", "/dev/x", "--microrpc-fault-seed", "0"], "--microrpc-fault-seed is for the simulator*"),
        (
            ["--microrpc-fault-seed", "9" * 30],
            "--microrpc-fault-seed: seed is a whole number from -9223372036854775808 to*",
        ),
    ],
)
def test_wrong_options_are_one_clear_error(run: Run, options: list[str], message: str) -> None:
    result = run("def test(): pass", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert len(errors(result).splitlines()) == 1


@pytest.mark.parametrize(
    ("settings", "options", "told"),
    [
        (["microrpc_board_file = short.toml"], [], "short robust"),
        (["microrpc_port = sim://rpi_pico", "microrpc_firmware = stock"], [], "rpi_pico stock"),
        (["microrpc_board = rpi_pico"], ["--microrpc-board", "loopback"], "loopback robust"),
        (["microrpc_board = arduino_due"], ["--microrpc-board-file", "sub/short.toml"], "short robust"),
        (["microrpc_board_file = short.toml"], ["--microrpc-port", "sim://rpi_pico"], "rpi_pico robust"),
        (
            ["microrpc_board = arduino_due", "microrpc_port = /dev/none"],
            ["--microrpc-port", "sim://"],
            "arduino_due robust",
        ),
    ],
)
def test_what_the_projects_file_says_holds_where_the_command_line_does_not(
    run: Run,
    pytester: pytest.Pytester,
    settings: list[str],
    options: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytester.mkdir("sub")
    (pytester.path / "sub" / "short.toml").write_text(SHORT_PROFILE.format(kind='kind = "simulated"'))
    pytester.makefile(".toml", short=SHORT_PROFILE.format(kind='kind = "simulated"'))
    pytester.makeini("\n".join(["[pytest]", *settings]))
    run(TELL, *options).stdout.fnmatch_lines([told])


def test_a_path_in_the_projects_file_is_relative_to_it(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makefile(".toml", short=SHORT_PROFILE.format(kind='kind = "simulated"'))
    pytester.makeini("[pytest]\nmicrorpc_board_file = short.toml")
    monkeypatch.chdir(pytester.mkdir("sub"))
    run(TELL, "..").stdout.fnmatch_lines(["short robust"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["microrpc_board = nucleo"], "--microrpc-board: there is no board profile 'nucleo', and no directory of*"),
        (["microrpc_firmware = fast"], "microrpc_firmware: must be robust or stock, not 'fast'"),
    ],
)
def test_a_wrong_setting_is_one_clear_error(
    run: Run, pytester: pytest.Pytester, settings: list[str], message: str
) -> None:
    pytester.makeini("\n".join(["[pytest]", *settings]))
    result = run("def test(): pass")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])


EMBEDDED = """
def pytest_addoption(parser):
    group = parser.getgroup("embedded")
    for name in ("port", "baud", "target", "count", "app-path", "build-dir", "erase-all", "flash-port", "port-location",
                 "port-mac", "cache-dir", "embedded-services", "board", "board-file", "firmware", "fault-seed"):
        group.addoption(f"--{name}")
    for name in ("port", "board", "board_file", "firmware"):
        parser.addini(name, "of another plugin")
"""


def test_the_short_names_of_options_are_left_to_other_plugins(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(embedded=EMBEDDED)
    pytester.syspathinsert()
    result = run(TELL, "-p", "embedded", "--port", "/dev/x", "--board", "y", "--microrpc-port", "sim://rpi_pico")
    result.stdout.fnmatch_lines(["rpi_pico robust"])


def test_an_old_name_that_nobody_has_now_is_told_the_new_one(run: Run) -> None:
    result = run("def test(board): pass", "--port=/dev/x", "--fault-seed", "3")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "*unrecognized arguments: --port=/dev/x --fault-seed*",
            "  microrpc's --fault-seed: is called --microrpc-fault-seed now",
            "  microrpc's --port: is called --microrpc-port now",
        ]
    )


def test_an_emulated_board_is_no_simulator_either(run: Run) -> None:
    for options in (
        ["--microrpc-board", "posix"],
        ["--microrpc-port", "emulated://posix"],
        ["--microrpc-board", "posix", "--microrpc-port", "/dev/x"],
    ):
        result = run("def test(): pass", *options, "--microrpc-fault-seed", "0")
        result.stderr.fnmatch_lines(
            ["ERROR: --microrpc-fault-seed is for the simulator, and these tests run on an emulated board"]
        )
    result = run("def test(): pass", "--microrpc-port", "qemu://x")
    result.stderr.fnmatch_lines(["ERROR: there is no board profile 'qemu_x'*"])


def test_the_marks_and_options_are_described(pytester: pytest.Pytester) -> None:
    pytester.runpytest_inprocess("--markers").stdout.fnmatch_lines(
        ["@pytest.mark.microrpc_board(profile, *", "@pytest.mark.hardware: *"]
    )
    pytester.runpytest_inprocess("--help").stdout.fnmatch_lines(
        ["microrpc: *", "*--microrpc-board=NAME|DIR*", "*--microrpc-fault-seed=N*"]
    )


def test_a_project_without_boards_does_not_pay(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import sys\ndef test(): assert not {'numpy', 'microrpc', 'firmware_sim'} & sys.modules.keys()")
    pytester.runpytest_subprocess("-p", "no:hypothesispytest").assert_outcomes(passed=1)


# --- the report -------------------------------------------------------------------------------

NOISY = """
@pytest.mark.microrpc_board(faults=[Flip(rate=1e-3), Drop(at=(500,), direction=Direction.TO_HOST)], seed=3)
@pytest.mark.parametrize("text", ["a-b c", "c"])
def test_noisy(board, text):
    board.function("log")("a line of the log")
    for number in range(1000):
        board.function("add")(number, 1)
"""


def test_a_report_of_few_frames_begins_with_the_first(run: Run) -> None:
    told = conversation(
        run("""
def test(board):
    assert board.function("add")(20, 22) == 43
""")
    )
    lines = told.splitlines()
    assert re.fullmatch(r"sim://loopback, frames: \d+; times since the test began", lines[0])
    assert re.fullmatch(r" +0\.0 ms  -> board     3 B  TERMINATE       any session there was is over", lines[1])


def test_what_was_said_is_in_the_report(run: Run) -> None:
    told = conversation(
        run("""
import microrpc, pytest

def test(board, sim_board):
    board.function("log")("a line that is longer than what a frame is told in")
    sim_board.device.take_output()
    sim_board.reset()
    sim_board.sleep(3)
    with pytest.raises(microrpc.BoardResetError):
        board.function("add")
    assert board.function("add")(20, 22) == 43
""")
    )
    assert re.match(r"sim://loopback, frames: the last 30 of \d+; times since the test began\n", told)
    for part in (
        r" <- board +4 B  REPLY +session 0x",
        r" -> board +\d+ B  CALL +add\(20, 22\) #1$",
        r" <- board +42 B  Return +42 #1$",
        r" <- board +3 B  TERMINATE +I have booted$",
        r"^ +\d+\.\d ms  a line that is longer than what a frame is told in$",
        r"^the board: resets: 1$",
    ):
        assert re.search(part, told, re.MULTILINE), part
    assert "log of the board:" in told.splitlines()
    assert "replay" not in told


def test_only_the_last_frames_are_told(run: Run) -> None:
    told = conversation(
        run("def test(board):\n    while board.function('add')(1, 2): board.n = board.function('nope')")
    )
    assert len(told.splitlines()) < 50
    long = conversation(run("def test(board):\n    for i in range(99): board.function('add')(i, 0)\n    assert 0"))
    assert re.match(r"sim://loopback, frames: the last 30 of \d{3};", long)
    assert "add(98, 0)" in long


def test_no_frames_lost_bytes_and_a_dead_board_are_told(run: Run) -> None:
    told = conversation(run("def test(sim_board):\n    sim_board.unplug()\n    assert 0"))
    assert told == "sim://loopback: no frames were seen\nthe board: its cable is pulled\n"
    told = conversation(
        run("""
def test(sim_board):
    channel = sim_board.open_channel()
    sim_board.reset()
    channel.write(bytes(10), 1.0)
    sim_board.sleep(3)
    sim_board.device.wedge()
    assert 0
""")
    )
    assert "-> board    10 B  noise           outside of any frame" in told
    assert "the board: bytes lost, it was off or booting: 10; resets: 1; it is silent until it is reset" in told


def test_a_frame_that_broke_off_is_told(run: Run) -> None:
    told = conversation(
        run("""
def test(board, sim_board):
    sim_board.inject(Drop(at=tuple(range(20, 1000)), direction=Direction.TO_HOST))
    board.function("add")
""")
    )
    assert "a frame from the board was begun and did not end" in told


def test_faults_are_told_with_the_line_that_replays_them(run: Run, pytester: pytest.Pytester) -> None:
    result = run(NOISY, "--microrpc-firmware=robust", "--microrpc-port=sim://arduino_due", "-k", "a-b")
    told = conversation(result)
    assert "damaged" in told
    assert 'faults: kind = "flip", rate = 0.001; kind = "drop", at = [500], direction = "to-host"; seed 3;' in told
    assert re.search(r"struck: flip \d", told)
    (line,) = re.findall("^replay: (.*)$", told, re.MULTILINE)
    words = shlex.split(line)
    assert words[:2] == ["pytest", "test_it.py::test_noisy[a-b c]"]
    assert words[-2:] == ["--microrpc-fault-seed", "3"]
    assert "-k" not in words
    again = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, cwd=pytester.path)
    assert again.returncode == 1
    assert told in again.stdout
    other = run(NOISY, "--microrpc-port=sim://arduino_due", "-k", "a-b", "--microrpc-fault-seed", "4")
    assert "seed 4" in conversation(other)
    assert conversation(other).replace("seed 4", "seed 3") != told


def test_the_line_replays_from_another_directory_and_with_what_pytest_was_told(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.mkdir("sub")
    pytester.makepyfile(extra="import os\nRATE = 1e-3\n")
    pytester.makepyfile(
        test_it="""
import extra
def test(board, sim_board):
    from firmware_sim.faults import Flip
    sim_board.inject(Flip(rate=extra.RATE))
    while True:
        board.function("add")(1, 2)
"""
    )
    pytester.makefile(".ini", other="[pytest]\npythonpath = .\n")
    monkeypatch.chdir(pytester.path / "sub")
    arguments = ["-c", "../other.ini", "-p", "extra", "-pno:cacheprovider", "-o", "console_output_style=count", "-v"]
    result = pytester.runpytest_subprocess(*arguments, "--rootdir=..", "../test_it.py", "--microrpc-fault-seed", "8")
    told = conversation(result)
    (line,) = re.findall("^replay: (.*)$", told, re.MULTILINE)
    assert line == (
        "pytest ../test_it.py::test -c ../other.ini -p extra -pno:cacheprovider "
        "-o console_output_style=count --rootdir=.. --microrpc-fault-seed 8"
    )
    again = subprocess.run([sys.executable, "-m", *shlex.split(line)], capture_output=True, text=True)
    assert told in again.stdout


def test_a_board_that_cannot_be_opened_is_told_of(run: Run) -> None:
    result = run("@pytest.mark.microrpc_board(faults=[Stuck(at_s=0)])\ndef test(board): pass")
    result.assert_outcomes(errors=1)
    assert "-> board     4 B  INIT" in conversation(result)
    assert "replay: pytest test_it.py::test" in conversation(result)


def test_a_test_that_passes_or_needs_no_board_has_no_section(run: Run) -> None:
    result = run("def test(): assert 0\ndef test_board(board): board.function('add')")
    result.assert_outcomes(failed=1, passed=1)
    assert "microrpc conversation" not in result.stdout.str()


# --- an emulated board ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["posix", "qemu_mps2_an385"])
def test_one_emulator_serves_all_tests(run: Run, name: str) -> None:
    needs.emulated(name)
    result = run(
        f"NAME = {name!r}"
        """
from firmware_sim.uart import Uart
ask = pytest.mark.microrpc_board
def blink(): pass
PORTS = []
def test_1(board):
    assert board.function("add")(1, 2) == 3
    board.kept = board.array(np.zeros(100))
    PORTS.append(board.name)
def test_2(board):
    with pytest.raises(microrpc.StaleHandleError):
        board.kept.numpy()
    assert PORTS == [board.name]
    board.close()
@ask(functions={"add": print})
def test_3(board):
    assert PORTS == [board.name]
    assert board.function("add")(1, 2) == 3
    PORTS.append(board.empty((8,), "uint8").detach())
@ask(reset=True)
def test_begins_anew(board):
    is_anew = board.empty((8,), "uint8").detach() == PORTS[1]
    assert is_anew or NAME == "posix"  # a program of this computer has its heap elsewhere each time
@ask(functions=[blink])
def test_function(board): assert 0
@ask(faults=[Flip(rate=1)], uart=Uart())
def test_faults(board): assert 0
@ask(profile="loopback")
def test_other_board(board): assert 0
def test_sim(sim_board): assert 0
@pytest.mark.hardware
def test_hardware(board): assert 0
""",
        f"--microrpc-board={name}",
    )
    result.assert_outcomes(passed=4, skipped=5)
    result.stdout.fnmatch_lines([f"microrpc: emulated {name}"])
    result.stdout.fnmatch_lines_random(
        [
            f"*needs function 'blink', which {name} does not have",
            "*needs the simulator: faults, uart",
            f"*needs the board loopback, and this is {name}",
            "*needs the simulator: sim_board",
            f"*needs hardware: {name} is emulated",
        ]
    )


def test_an_emulator_that_died_is_started_again(run: Run) -> None:
    needs.emulated("posix")
    result = run(
        """
def test_dies(request, board): request.getfixturevalue("_microrpc_desk")._places["#1"]._emulator.close()
def test_next(board): assert board.function("add")(1, 2) == 3
def test_fails(board): assert board.function("add")(1, 2) == 4
""",
        "--microrpc-port=emulated://posix",
    )
    result.assert_outcomes(passed=2, failed=1)
    assert "add(1, 2)" in conversation(result)


def test_an_emulated_board_has_its_ring_and_no_line(run: Run) -> None:
    needs.emulated("posix")
    result = run(
        """
def test(board):
    assert board.stats.to_board.baud is None
    assert board.operations.connection.frames.ring_bytes == microrpc.profile("posix").receive_ring_bytes > 0
""",
        "--microrpc-port=emulated://posix",
    )
    result.assert_outcomes(passed=1)


def test_an_emulator_that_does_not_start_is_tried_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def start(project: Project, command: str, *, to_run: bool) -> None:
        started.append(project.name)
        raise microrpc.PortError(project.name, "it ended at once")

    monkeypatch.setattr(place, "build_once", start)
    source = "def test_1(board): pass\ndef test_2(board): pass\n"
    result = run(source + "@pytest.mark.microrpc_board(reset=True)\ndef test_3(board): pass", "--microrpc-board=posix")
    result.assert_outcomes(errors=3)
    assert started == ["posix"]
    told = "*the emulator did not start before, so it is not tried again: it ended at once"
    result.stdout.fnmatch_lines([told, told])


def test_a_board_in_an_emulator_that_somebody_started_is_no_hardware(run: Run, server: PtyServer) -> None:
    result = run(
        """
def test(board): assert board.function("add")(1, 2) == 3
@pytest.mark.microrpc_board(reset=True)
def test_reset(board): assert 0
@pytest.mark.hardware
def test_hardware(board): assert 0
""",
        "--microrpc-board=posix",
        f"--microrpc-port={server.path}",
    )
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines([f"microrpc: posix on {server.path}"])
    result.stdout.fnmatch_lines_random(["*needs a board that can be reset: *", "*needs hardware: posix is emulated"])


# --- hardware: a board on a pty ---------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[PtyServer]:
    with PtyServer(simulate(profile("loopback"))) as server:
        yield server


def test_one_connection_serves_all_tests_and_each_finds_the_memory_free(run: Run, server: PtyServer) -> None:
    result = run(
        """
SEEN = []
@pytest.mark.hardware
def test_1(board):
    board.kept = board.array(np.zeros(100))
    SEEN.append((board, board.session_id))
@pytest.mark.microrpc_board(functions={"add": None or print})
def test_2(board):
    assert SEEN == [(board, board.session_id)]
    with pytest.raises(microrpc.StaleHandleError):
        board.kept.numpy()
    board.function("log")("only of this test")
    assert board.function("add")(2, 3) == 6
""",
        f"--microrpc-port={server.path}",
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([f"microrpc: {server.path}"])
    told = conversation(result)
    assert "only of this test" in told
    assert "INIT" not in told
    assert "DevAlloc" not in told
    assert server.device.memory.used_bytes == 0


def test_a_connection_that_a_test_left_closed_or_lost_is_opened_again(run: Run, server: PtyServer) -> None:
    result = run(
        """
def test_closed(board): board.close()
def test_next(board): assert board.function("add")(1, 2) == 3
def test_lost(board): board.pump._channel.close()
def test_after(board): assert board.function("add")(1, 2) == 3
""",
        f"--microrpc-port={server.path}",
    )
    result.assert_outcomes(passed=4)


def test_what_hardware_does_not_have_is_skipped(run: Run, server: PtyServer) -> None:
    result = run(
        """
from firmware_sim.uart import Uart
ask = pytest.mark.microrpc_board
def blink(): pass
def test_sim(sim_board): assert 0
def test_sim_later(request): request.getfixturevalue("sim_board")
@ask(functions=[blink])
def test_function(board): assert 0
@ask(faults=[Flip(rate=1)], uart=Uart())
def test_faults(board): assert 0
@ask(firmware="robust")
def test_firmware(board): assert 0
@ask(profile="loopback")
def test_profile(board): assert 0
@ask(reset=True)
def test_reset(board): assert 0
@ask(seed=1)
def test_seed(board): assert board.function("add")(1, 2) == 3
""",
        "--microrpc-port",
        server.path,
    )
    result.assert_outcomes(skipped=7, passed=1)
    for reason in (
        "needs the simulator: sim_board",
        f"needs function 'blink', which {server.path} does not have",
        "needs the simulator: faults, uart",
        "needs the simulator: firmware",
        f"needs the board loopback: say with --microrpc-board what is on {server.path}",
        "needs a board that can be reset: loopback cannot be reset over its port",
    ):
        assert reason in result.stdout.str()


def test_what_the_profile_says_of_line_and_ring_is_used(run: Run, server: PtyServer) -> None:
    result = run(
        """
def test(board):
    profile = microrpc.profile("nucleo_f746zg")
    assert board.stats.to_board.baud == profile.baud
    assert board.operations.connection.frames.ring_bytes == profile.receive_ring_bytes
""",
        "--microrpc-board=nucleo_f746zg",
        f"--microrpc-port={server.path}",
    )
    result.assert_outcomes(passed=1)


def test_another_board_on_the_desk_is_a_reason_to_skip(run: Run, server: PtyServer) -> None:
    result = run(
        """
@pytest.mark.microrpc_board(profile="rpi_pico")
def test_other(board): assert 0
@pytest.mark.microrpc_board(profile="nucleo_f746zg")
def test_this(board): assert board.name.startswith("/")
""",
        "--microrpc-board=nucleo_f746zg",
        f"--microrpc-port={server.path}",
    )
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [f"microrpc: nucleo_f746zg on {server.path}", "SKIPPED*needs the board rpi_pico, and this is nucleo_f746zg"]
    )


def test_the_port_of_a_board_is_found(run: Run, server: PtyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    (usb, *_) = profile("nucleo_f746zg").usb
    port = SimpleNamespace(device=server.path, vid=usb.vendor_id, pid=usb.product_id, serial_number=None, location=None)
    monkeypatch.setattr(microrpc.boards.finding, "serial_ports", lambda: [port])
    source = "@pytest.mark.hardware\ndef test(board): assert board.function('add')(1, 2) == 3"
    run(source, "--microrpc-board=nucleo_f746zg").assert_outcomes(passed=1)
    monkeypatch.setattr(microrpc.boards.finding, "serial_ports", list)
    result = run(source, "--microrpc-board=nucleo_f746zg")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*PortNotFoundError: no nucleo_f746zg is plugged in*"])


def test_a_reset_begins_anew(run: Run, server: PtyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_reset(port: str, board: microrpc.BoardProfile, **options: object) -> tuple[SerialChannel, float]:
        server.reset()
        return open_serial(port, baud=board.baud), 0.1

    monkeypatch.setattr(microrpc.connecting.openers.serial, "open_reset", open_reset)
    result = run(
        """
reset = pytest.mark.microrpc_board(reset=True)
def test_1(board): pass
@reset
def test_2(board): board.function("add")(1, 2)
@reset
def test_3(board): board.function("add")(1, 2)
""",
        "--microrpc-board=arduino_due",
        f"--microrpc-port={server.path}",
    )
    result.assert_outcomes(passed=3)
    assert server.device.stats.resets == 2
    run("@pytest.mark.microrpc_board(reset=True)\ndef test(board): pass").assert_outcomes(passed=1)


def test_a_silent_board_is_waited_for_once(run: Run, server: PtyServer, pytester: pytest.Pytester) -> None:
    pytester.makefile(".toml", short=SHORT_PROFILE.format(kind=""))
    server.device.wedge()
    source = "".join(f"def test_{number}(board): pass\n" for number in range(5))
    start = time.monotonic()
    result = run(source, "--microrpc-board-file=short.toml", f"--microrpc-port={server.path}")
    assert time.monotonic() - start < 10
    result.assert_outcomes(errors=5)
    text = result.stdout.str()
    assert len(re.findall(r"^E +microrpc\.errors\.HandshakeTimeoutError", text, re.MULTILINE)) == 1
    assert text.count("the board was silent before, so it is not tried again: ") >= 4


@pytest.mark.parametrize("asks", [True, False])
def test_a_board_that_hangs_in_a_test_is_not_waited_for_by_all_that_follows(
    run: Run, server: PtyServer, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, asks: bool
) -> None:
    pytester.makefile(".toml", short=SHORT_PROFILE.format(kind=""))
    monkeypatch.setattr(microrpc, "the_server", server, raising=False)
    waited: list[str] = []
    begin = HandshakeTimeoutError.__init__

    def note(error: HandshakeTimeoutError, *args: object) -> None:
        waited.append(str(args))
        begin(error, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(HandshakeTimeoutError, "__init__", note)
    source = f"""
def test_hangs(board):
    board.kept, add = board.array(np.zeros(8)), board.function("add")
    microrpc.the_server.device.wedge()
    if {asks}: add(2, 3)
def test_one(board): pass
def test_two(board): pass
"""
    result = run(source, "--microrpc-board-file=short.toml", f"--microrpc-port={server.path}")
    result.assert_outcomes(failed=int(asks), passed=int(not asks), errors=2)
    assert len(waited) == 1 + asks, waited


def test_a_board_that_goes_silent_does_not_hold_up_the_end(
    run: Run, server: PtyServer, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makefile(".toml", short=SHORT_PROFILE.format(kind=""))
    monkeypatch.setattr(microrpc, "the_server", server, raising=False)
    start = time.monotonic()
    result = run(
        "def test(board):\n    board.kept = board.array(np.zeros(8))\n    microrpc.the_server.device.wedge()",
        "--microrpc-board-file=short.toml",
        f"--microrpc-port={server.path}",
    )
    result.assert_outcomes(passed=1)
    assert time.monotonic() - start < 10


def test_a_port_that_is_not_there_is_one_clear_error(run: Run) -> None:
    result = run("def test(board): pass", "--microrpc-port=/dev/none")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E*PortNotFoundError: there is no port /dev/none*"])


def test_a_server_without_frames_serves_as_well(run: Run) -> None:
    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            while data := connection.recv(4096):
                endpoint.feed(data)
                connection.sendall(endpoint.take_output())

    endpoint = ServerEndpoint(session=LocalSession({"add": lambda a, b: a + b}))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=[listener], daemon=True).start()
        source = "def test(board): assert board.function('add')(1, 2) == 4"
        result = run(source, f"--microrpc-port=tcp://127.0.0.1:{listener.getsockname()[1]}")
    result.stdout.fnmatch_lines(["E*assert 3 == 4", "tcp://127.0.0.1:*: no frames were seen"])


# --- tracebacks ---------------------------------------------------------------------------------

FAILING = """
import asyncio
import microrpc.aio

def fail(board):
    board.function("fail")()

def test_blocking(board):
    fail(board)

def test_asyncio():
    async def fail_too():
        async with microrpc.aio.connect("sim://") as board:
            function = await board.function("fail")
            await function()
    asyncio.run(fail_too())

def test_chained(board):
    try:
        board.function("fail")()
    except microrpc.RemoteError as error:
        raise ValueError("mine") from error
"""


def test_tracebacks_end_at_the_line_of_the_test(run: Run) -> None:
    result = run(FAILING)
    result.assert_outcomes(failed=3)
    told = result.stdout.str()
    assert re.findall(r"^(\S+\.py):\d+: \w*Error", told, re.MULTILINE) == ["test_it.py"] * 4
    for line in (">*fail(board)", '*board.function("fail")()', ">*await function()"):
        result.stdout.fnmatch_lines_random([line])
    assert not re.search(r"^\S*(microrpc|firmware_sim)/\S*\.py:\d+", told, re.MULTILINE)


def test_a_fixture_that_fails_is_its_error_alone(run: Run) -> None:
    result = run("def test(board): pass", "--microrpc-port=/dev/none")
    told = result.stdout.str()
    assert not re.search(r"^\S*(microrpc|firmware_sim|serial)/\S*\.py:\d+", told, re.MULTILINE)
    result.stdout.fnmatch_lines(["E*PortNotFoundError: there is no port /dev/none*"])


def test_a_full_trace_has_the_frames_of_the_library_and_so_has_an_error_that_is_none_of_ours(run: Run) -> None:
    assert re.search(r"microrpc/client/pump\.py:\d+", run(FAILING, "--full-trace", "-k", "blocking").stdout.str())
    mistake = """
def test(board, monkeypatch):
    monkeypatch.setattr("microrpc.host.requests.encode_packet", None)
    board.function("add")
"""
    assert re.search(r"microrpc/client/pump\.py:\d+: in run$", run(mistake).stdout.str(), re.MULTILINE)


# --- the guide --------------------------------------------------------------------------------


def test_what_is_skipped_for_want_of_functions_is_told_and_fails_where_they_are_required(
    run: Run, server: PtyServer
) -> None:
    source = """
def gone(): pass
pytestmark = pytest.mark.microrpc_board(functions=[gone])
def test_one(board): assert 0
def test_two(board): assert 0
@pytest.mark.skip(reason="not today")
def test_three(board): assert 0
"""
    port = f"--microrpc-port={server.path}"
    result = run(source, port, "-r", "", "-q")
    result.assert_outcomes(skipped=3)
    told = "microrpc: 2 tests were skipped for want of functions in the board's firmware (-rs names them; "
    assert f"{told}--microrpc-require fails)" in result.stdout.lines
    result = run(source, port, "--microrpc-require")
    result.assert_outcomes(errors=2, skipped=1)
    assert f"needs function 'gone', which {server.path} does not have (--microrpc-require)" in result.stdout.str()
    assert "microrpc: 2" not in result.stdout.str()


def test_the_example_of_the_guide_runs(pytester: pytest.Pytester, server: PtyServer) -> None:
    example, on_events, failing = map(block, ("def relu(x)", "LoseEvents", "test_relu_on_a_bad_line"))
    on_two, noise = block("test_a_number_goes_from_board_to_board"), block("[[fault]]", "toml")
    pytester.makefile(".toml", noise=noise)
    pytester.makepyfile(test_relu=example)
    strict = ("-W", "error", "--strict-markers", "-rs")
    pytester.runpytest_inprocess(*strict).assert_outcomes(passed=5, skipped=1)
    on_hardware = pytester.runpytest_inprocess(*strict, f"--microrpc-port={server.path}")
    on_hardware.assert_outcomes(passed=2, skipped=4)
    on_hardware.stdout.fnmatch_lines(["*needs function 'relu', which * does not have"])
    assert "microrpc: " not in pytester.runpytest_inprocess(*strict).stdout.str()

    pytester.makepyfile(test_relu=f"{example}\n{on_events}\n{on_two}")
    pytester.runpytest_inprocess(*strict).assert_outcomes(passed=7, skipped=1)

    pytester.makepyfile(test_relu=f"{example}\n{failing}")
    shown = re.findall(r"```text\n-+ microrpc conversation -+\n(.*?)```", GUIDE, flags=re.DOTALL)
    told = conversation(pytester.runpytest_inprocess(*strict))
    assert [_without_times(told)] == [_without_times(text) for text in shown]
    command = shlex.split(told.rpartition("replay: ")[2])
    assert conversation(pytester.run(sys.executable, "-m", *command)) == told


def _without_times(text: str) -> str:
    return re.sub(r"^ *\d+\.\d ms", "T", text, flags=re.MULTILINE)


def test_the_guide_has_every_option_argument_and_fixture() -> None:
    from pytest_microrpc.wishes import _keys

    words = (
        r"--microrpc-board NAME\|DIR",
        "--microrpc-board-file PATH",
        "--microrpc-port PATH",
        "--microrpc-fault-seed N",
        "--microrpc-firmware",
        "--microrpc-capture DIR",
        "--microrpc-flash",
        "--microrpc-wait S",
        "--microrpc-require",
        "board",
        "boards",
        "sim_boards",
        "sim_board",
    )
    for name in (*words, "hardware", "microrpc_board", *(f"{name}=" for name in _keys(Path()))):
        assert f"`{name}" in GUIDE, name
