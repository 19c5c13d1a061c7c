"""`microrpc share` as a shell runs it: several programs at once on one board, one of them killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from commands import run
from processes import COMMAND, first_line, serve

import microrpc
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.errors import ClosedError, PortLostError

LIMIT_S = 30.0

WORKER = """
import sys, microrpc, numpy as np
with microrpc.connect(sys.argv[1]) as board:
    number = int(sys.argv[2])
    add, adder, inc = board.function("add"), board.function("adder"), board.function("inc_tensor")
    mine = adder(number)
    print("ready", flush=True)
    for turn in range(100):
        assert add(number, turn) == mine(turn) == number + turn
        data = np.arange(turn * 30, dtype="int32") * number
        array = board.array(data)
        inc(array)
        assert (array.numpy() == data + 1).all()
print("right")
"""

VICTIM = """
import sys, microrpc, numpy as np
board = microrpc.connect(sys.argv[1])
held = [board.array(np.zeros(1000)), board.function("adder")(1)]
sleep = board.function("sleep_ms")
print("ready", flush=True)
sleep(400)
"""


@contextlib.contextmanager
def share(*args: object, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run `microrpc share`."""
    process = subprocess.Popen(
        [*COMMAND, "share", *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=LIMIT_S)


@contextlib.contextmanager
def program(text: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    """Run a client, and wait until it says that it is ready."""
    process = subprocess.Popen([sys.executable, "-c", text, *map(str, args)], stdout=subprocess.PIPE, text=True)
    try:
        assert first_line(process) == "ready"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=LIMIT_S)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


@pytest.fixture
def board() -> Iterator[PtyServer]:
    with PtyServer(simulate(profile("loopback"))) as server:
        yield server


def test_a_client_that_is_killed_in_a_call_harms_no_other(board: PtyServer, tmp_path: Path) -> None:
    with share(board.path, "--socket", tmp_path / "b") as sharing, contextlib.ExitStack() as stack:
        url = first_line(sharing)
        assert url == f"unix://{tmp_path / 'b'}"
        victim = stack.enter_context(program(VICTIM, url))
        workers = [stack.enter_context(program(WORKER, url, number)) for number in range(1, 3)]
        victim.send_signal(signal.SIGKILL)
        for worker in workers:
            assert worker.communicate(timeout=LIMIT_S)[0] == "right\n"
            assert worker.returncode == 0
        wait_until(lambda: board.device.memory.used_bytes == 0)
        with microrpc.connect(url) as after:
            assert after.function("add")(2, 3) == 5


def test_no_log_comes_over_a_shared_board(board: PtyServer, tmp_path: Path) -> None:
    with share(board.path, "--socket", tmp_path / "b") as sharing:
        url = first_line(sharing)
        result = run("log", url)
    assert (result.code, result.out) == (5, "")
    assert f"{url} is a plain stream, over which no log comes" in result.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_cleanly_even_while_clients_use_it(
    board: PtyServer, tmp_path: Path, number: signal.Signals
) -> None:
    with share(board.path, "--socket", tmp_path / "b") as sharing:
        url = first_line(sharing)
        with microrpc.connect(url) as busy, microrpc.connect(url) as other, ThreadPoolExecutor() as pool:
            add, array = other.function("add"), other.array([1, 2, 3])
            sleep, held = busy.function("sleep_ms"), busy.array([4, 5])
            call = pool.submit(sleep, 400)
            wait_until(call.running)
            sharing.send_signal(number)
            assert sharing.wait(timeout=LIMIT_S) == 0
            assert not (tmp_path / "b").exists()
            wait_until(lambda: board.device.memory.used_bytes == 0)
            with pytest.raises((PortLostError, ClosedError)):
                add(1, 2)
            assert (array.shape, held.shape) == ((3,), (2,))
            call.exception(LIMIT_S)  # it was answered, or the stream had ended before
        assert sharing.stderr is not None
        assert sharing.stderr.read() == ""
    with microrpc.connect(board.path) as alone:  # the board is there for others at once
        assert alone.function("add")(2, 3) == 5


def test_a_signal_ends_it_while_the_board_does_not_answer(tmp_path: Path) -> None:
    board_fd, host_fd = os.openpty()
    try:
        with share(os.ttyname(host_fd), "--socket", tmp_path / "b") as sharing:
            assert os.read(board_fd, 1), "it has asked for a session"
            sharing.send_signal(signal.SIGTERM)
            assert sharing.wait(timeout=LIMIT_S) == 0
            assert not (tmp_path / "b").exists()
    finally:
        os.close(board_fd)
        os.close(host_fd)


def test_the_other_commands_take_it_for_a_board(board: PtyServer, tmp_path: Path) -> None:
    with share(board.path, "--socket", tmp_path / "b") as sharing:
        url = first_line(sharing)
        assert run("call", url, "add", "-2", "3").out == "1\n"
        info = run("info", url).out
        assert "system library  yes" in info
        assert "reliable link   not seen from here: it is between the board and whoever serves this stream" in info
        assert "heap            0 of 262144 bytes used" in info
        assert "features        events, reliable events, progress, cancelling" in info
        for command in ("functions", "stubs"):
            assert run(command, url).out == run(command, "sim://").out, "as on a board of one's own"
        failed = run("call", url, "fail")
        assert (failed.code, failed.err) == (1, "error: fail: this function always fails\n")
        logged = run("call", url, "log", "hello")
        assert (logged.code, logged.err) == (0, "")
        sharing.send_signal(signal.SIGTERM)
        assert sharing.communicate(timeout=LIMIT_S) == ("", "board: hello\n")


def test_a_board_that_goes_away_ends_it_with_a_clear_error(tmp_path: Path) -> None:
    with serve("--tcp", "127.0.0.1:0") as board, share(first_line(board), "--socket", tmp_path / "b") as sharing:
        assert first_line(sharing)
        board.kill()
        assert sharing.wait(timeout=LIMIT_S) == 3
        assert sharing.stderr is not None
        error = sharing.stderr.read()
    assert error.startswith("error: socket://127.0.0.1:")
    assert "went away" in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "b").exists()


def test_the_socket_has_a_default_place_and_is_not_taken_twice(board: PtyServer, tmp_path: Path) -> None:
    env = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    with share("sim://", env=env) as first:
        assert first_line(first) == f"unix://{tmp_path}/microrpc/sim.sock"
        with share("sim://", env=env) as second:
            assert second.wait(timeout=LIMIT_S) == 3
            assert second.stderr is not None
            assert "a board is shared there already" in second.stderr.read()
        assert run("call", f"unix://{tmp_path}/microrpc/sim.sock", "add", "2", "3").out == "5\n"


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        ((), 2, "name a PORT"),
        (("sim://", "--timeout", "0"), 2, "more than 0 seconds"),
        (("/dev/no_such_port",), 3, "there is no port"),
        (("sim://", "--socket", "/proc/b.sock"), 3, "name a --socket elsewhere"),
    ],
)
def test_a_wrong_use_is_one_clear_error(args: tuple[str, ...], code: int, text: str) -> None:
    result = run("share", *args)
    assert (result.code, result.out) == (code, "")
    assert text in result.err
    assert result.err.startswith("error: ")
    assert len(result.err.splitlines()) == 1


def test_the_examples_of_the_guide_run(tmp_path: Path) -> None:
    guide = (Path(__file__).parent.parent.parent / "docs" / "sharing.md").read_text(encoding="utf-8")
    client, program_ = re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL)
    path = str(tmp_path / "b")

    def output(example: str) -> str:
        code = example.replace("/tmp/board.sock", path)
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT_S, check=True
        ).stdout

    with share("sim://", "--socket", path) as sharing:
        assert first_line(sharing) == f"unix://{path}"
        assert output(client) == "5\n[0. 0. 0. 0. 0. 1. 2. 3.]\n"
        sharing.send_signal(signal.SIGTERM)
        assert sharing.wait(timeout=LIMIT_S) == 0
    assert output(program_) == f"unix://{path}\n5\n"
