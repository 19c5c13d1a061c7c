"""One test uses `dut` of pytest-embedded and our `board`: with that plugin itself, on a board that prints, too."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import needs
import pytest

from firmware_sim.running.server import PtyServer, TcpServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from pytest_microrpc.locks import Lock

GUIDE = (Path(__file__).parent.parent.parent / "docs" / "testing.md").read_text(encoding="utf-8")
Run = Callable[..., str]


@pytest.fixture
def server() -> Iterator[PtyServer]:
    with PtyServer(simulate(profile("loopback"))) as server:
        install(server)
        yield server


def install(server: PtyServer | TcpServer) -> None:
    """Give the board a function that prints."""
    device = server.device
    device.function(lambda text: device._output.extend(text.encode()), name="say")


@contextlib.contextmanager
def printing(server: PtyServer, text: str) -> Iterator[None]:
    """Have the board print a text again and again, whatever else it does; it may have a number in it."""
    ended, numbers = threading.Event(), itertools.count(1)

    def print_next(now: float) -> None:
        server.device._output.extend(text.format(next(numbers)).encode())

    def print_all() -> None:
        while not ended.wait(0.03):
            server.do(print_next)

    thread = threading.Thread(target=print_all, daemon=True)
    thread.start()
    yield
    ended.set()
    thread.join(10)


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Run tests with pytest-embedded; give what that printed."""

    def run(
        source: str, port: str, *options: str, services: str = "serial", without: str = "labgrid", returns: int = 0
    ) -> str:
        pytester.makepyfile(
            test_it=f"import re, time, microrpc, pytest\nfrom firmware_sim.faults import Flip\n{source}"
        )
        command = [needs.tools(), "-m", "pytest", "-p", "no:cacheprovider", "-p", f"no:{without}", "--rootdir=.", "-rs"]
        command += ["--embedded-services", services, *(["--port", port] if "serial" in services else []), *options]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=pytester.path)
        assert ran.returncode == returns, ran.stdout + ran.stderr
        return ran.stdout

    return run


@pytest.mark.tools
def test_calls_and_text_of_one_board_in_one_test(run: Run, server: PtyServer) -> None:
    out = run(
        """
def test_board_first(board, dut):
    assert board.name == dut.serial.port
    assert board.function("add")(2, 3) == 5
    board.function("say")("hello from the board\\r\\n")
    dut.expect_exact("hello from the board")
    board.function("log")("a line of its log")
    dut.expect(r"a line of (its|the) log")
    assert board.function("add")(2, 4) == 6

def test_dut_first(dut, board):
    board.function("say")("and again\\r\\n")
    dut.expect_exact("and again")

def test_after_it_dut_alone(dut):
    with dut.serial.disable_redirect_thread(), microrpc.connect(dut.serial.port) as board:
        assert board.function("add")(2, 5) == 7

@pytest.mark.hardware
def test_it_is_hardware(dut, board): assert board.function("add")(2, 6) == 8
""",
        server.path,
    )
    assert "4 passed" in out


@pytest.mark.tools
def test_what_is_printed_comes_with_its_line_ends_and_a_prompt_without_one(run: Run, server: PtyServer) -> None:
    out = run(
        """
def test(board, dut):
    say = board.function("say")
    for number in range(20):
        say(f"line {number}\\r\\n")
    say("  prompt> ")
    for number in range(20):
        dut.expect_exact(f"line {number}\\r\\n", timeout=10)
    dut.expect_exact("  prompt> ", timeout=10)
""",
        server.path,
    )
    assert "1 passed" in out


@pytest.mark.tools
def test_the_example_of_the_guide_runs(run: Run, server: PtyServer) -> None:
    def measure(times: int) -> int:
        server.device._output.extend(b"measured %d times\r\n" % times)
        return 14 * times

    server.device.function(measure)
    (example,) = re.findall(r"```python\n(def test_measure\(dut, board\):\n.*?)```", GUIDE, flags=re.DOTALL)
    with printing(server, "ready\r\n"):
        assert "1 passed" in run(example, server.path)


@pytest.mark.tools
def test_nothing_of_a_board_that_prints_all_the_time_is_lost_and_no_reply_is_taken(run: Run, server: PtyServer) -> None:
    source = """
@pytest.fixture
def numbers(dut):
    def numbers(count):
        found = [int(dut.expect(r"tick (\\d+)\\.", timeout=20).group(1)) for _ in range(count)]
        assert found == list(range(found[0], found[0] + count)), found
        return found[-1]
    return numbers

def test(dut, numbers, request):
    last = numbers(5)  # by the reader of dut alone
    board = request.getfixturevalue("board")
    add = board.function("add")
    assert [add(2, number) for number in range(300)] == list(range(2, 302))
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        assert add(20, 22) == 42
    after = numbers(15)
    assert after == last + 15
    assert numbers(60) == after + 60  # the test waits, and asks nothing of the board

@pytest.fixture
def afterwards(dut, numbers):
    yield
    with_board = numbers(3)
    assert numbers(40) == with_board + 40  # the board is closed, the reader of dut is back

def test_afterwards(afterwards, board, numbers):
    assert board.function("add")(1, 2) == 3
    numbers(3)
"""
    with printing(server, "tick {}.\r\n"):
        assert "2 passed" in run(source, server.path)


@pytest.mark.tools
def test_what_hardware_does_not_have_is_skipped_and_reports_and_captures_are_there(
    run: Run, server: PtyServer, pytester: pytest.Pytester
) -> None:
    out = run(
        """
@pytest.mark.microrpc_board(faults=[Flip(rate=1)])
def test_faults(dut, board): assert 0
@pytest.mark.microrpc_board(functions={"gone": print})
def test_function(dut, board): assert 0
@pytest.mark.microrpc_board(profile="rpi_pico")
def test_profile(dut, board): assert 0
def test_fails(dut, board):
    board.function("add")(2, 3)
    assert 0
def test_sim(dut, board, sim_board): assert board.name == "sim://loopback"
""",
        server.path,
        "--microrpc-capture=kept",
        "--junitxml=out.xml",
        returns=1,
    )
    assert "1 failed, 1 passed, 3 skipped" in out
    for reason in (
        "needs the simulator: faults",
        f"needs function 'gone', which the board on {server.path} does not have",
        f"needs the board rpi_pico: say with --microrpc-board what is on {server.path}",
    ):
        assert reason in out
    assert "add(2, 3)" in out
    assert [path.name for path in (pytester.path / "kept").iterdir()] == ["test_it.py.test_fails.pcapng"]
    xml = (pytester.path / "out.xml").read_text()
    assert f'name="microrpc.port" value="{server.path}"' in xml
    assert "<system-out>" in xml


@pytest.mark.tools
def test_a_port_that_is_named_goes_before_the_one_of_dut(run: Run, server: PtyServer) -> None:
    source = "def test(dut, board): assert (board.name, dut.serial.port) == ('sim://rpi_pico', '{}')"
    assert "1 passed" in run(source.format(server.path), server.path, "--microrpc-port=sim://rpi_pico")


@pytest.mark.tools
def test_a_dut_without_a_serial_port_leaves_the_board_to_us(run: Run) -> None:
    source = """
def test(dut, board): assert board.name == "sim://loopback"
@pytest.mark.hardware
def test_hardware(dut, board): assert 0
"""
    out = run(source, "", services="")
    assert "1 passed, 1 skipped" in out
    assert "needs hardware: give --microrpc-port or --microrpc-board" in out


@pytest.mark.tools
def test_a_board_over_tcp_takes_one_client_at_a_time(run: Run) -> None:
    with TcpServer(simulate(profile("loopback"))) as server:
        install(server)
        source = """
def test(dut, board):
    assert board.function("add")(2, 3) == 5
    board.function("say")("over TCP\\r\\n")
    dut.expect_exact("over TCP")
@pytest.fixture
def after(dut):
    yield
    assert dut.serial.proc.is_open
def test_again(dut, after, board): assert board.function("add")(2, 4) == 6
"""
        assert "2 passed" in run(source, f"socket://{server.path.rpartition('/')[2]}")


@pytest.mark.tools
def test_two_duts_are_one_clear_error(run: Run, server: PtyServer) -> None:
    with PtyServer(simulate(profile("loopback"))) as other:
        ports = f"{server.path}|{other.path}"
        out = run("def test(dut, board): pass", ports, "--count", "2", returns=1)
    assert "`dut` is 2 boards, and `board` is one: connect to one of them" in out


@pytest.mark.tools
def test_two_runs_on_one_board_wait_for_each_other(run: Run, server: PtyServer, pytester: pytest.Pytester) -> None:
    source = """
def test_one(dut, board): assert [board.function("add")(2, number) for number in range(200)] == list(range(2, 202))
def test_dut_alone(dut): time.sleep(0.2)
def test_two(board, dut): assert [board.function("add")(3, number) for number in range(200)] == list(range(3, 203))
"""
    other = threading.Thread(target=lambda: outs.append(run(source, server.path)))
    outs: list[str] = []
    other.start()
    outs.append(run(source, server.path))
    other.join()
    assert [("3 passed" in out) for out in outs] == [True, True]


@pytest.mark.tools
def test_a_board_that_another_run_has_is_an_error_that_names_it(run: Run, server: PtyServer) -> None:
    lock = Lock(server.path)
    assert lock.take("pytest -n 4 others")
    try:
        out = run("def test(dut, board): assert 0", server.path, "--microrpc-wait=0.2", returns=1)
        told = f"other tests did not free a board within 0.2 s (--microrpc-wait): {server.path} is held by process "
        assert f"{told}{os.getpid()}: pytest -n 4 others" in out
        assert "1 passed" in run("def test(dut): pass", server.path)  # a project without boards of ours is left alone
    finally:
        lock.free()
    assert "1 passed" in run("def test(dut, board): pass", server.path)


@pytest.mark.tools
def test_a_board_that_other_tests_have_had_is_given_to_dut(run: Run, server: PtyServer) -> None:
    source = f"""
import microrpc.boards.finding, pytest_microrpc.desk
pytest_microrpc.desk.find_ports = lambda board: [{server.path!r}]
def test_alone(board): assert board.function("add")(2, 3) == 5
def test_both(dut, board): assert board.function("add")(2, 4) == 6
def test_alone_again(board): assert board.function("add")(2, 5) == 7
"""
    assert "3 passed" in run(source, server.path, "--microrpc-board=nucleo_f746zg", "--microrpc-wait=1")


@pytest.mark.tools
def test_with_labgrid_the_error_says_which_plugin_to_turn_off(run: Run, server: PtyServer) -> None:
    out = run("def test(dut, board): pass", server.path, without="nothing", returns=1)
    assert "both have a fixture `target`, and `dut` gets labgrid's: turn labgrid off" in out
    assert "1 error" in out


def test_without_pytest_embedded_a_dut_is_any_fixture(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
import pytest
@pytest.fixture
def dut(): pass
def test(dut, board): assert board.name == "sim://loopback"
"""
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
