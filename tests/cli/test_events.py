"""`microrpc events`, and a call that tells how far it has come and is interrupted: as a shell runs them."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import COMMAND, run

import microrpc
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.cli.progress import make_console, progress_bar

LIMIT_S = 30.0


@pytest.fixture
def server() -> Iterator[PtyServer]:
    with PtyServer(simulate(microrpc.profile("loopback"))) as served:
        yield served


@contextlib.contextmanager
def running(*args: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([*COMMAND, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


def wait_for_credit(server: PtyServer, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not server.device._events._credit_bytes:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)


def read_lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().rstrip("\n") for _ in range(count)]


def test_events_are_printed_a_line_each_as_they_come_and_what_was_missed_too(server: PtyServer) -> None:
    with running("events", server.path) as process:
        wait_for_credit(server, process)
        event = server.device.event
        server.do(lambda now: (event("sample", 7, 20.5), event("say", "a\x1b[2J", b"\x00\xff")))
        first, second = read_lines(process, 2)
        assert first.split()[1:] == ["sample", "7", "20.5"]
        assert float(first.split()[0]) >= 0.0
        assert second.split()[1:] == ["say", "a\\x1b[2J", "bytes:00ff"]

        def lose(now: float) -> None:
            server.device._events._credit_bytes = 0
            event("sample", 8)

        server.do(lose)
        assert read_lines(process, 1) == ["                (1 missed)"]
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=LIMIT_S)
        assert (process.returncode, out, error) == (0, "", "")


def test_events_of_one_name_are_printed_as_an_object_a_line(server: PtyServer) -> None:
    with running("events", server.path, "sample", "--json") as process:
        wait_for_credit(server, process)
        event = server.device.event
        server.do(lambda now: (event("other"), event("sample", 1, 2.5, "x", b"\x01", reliable=True)))
        [line] = read_lines(process, 1)
        shown = json.loads(line)
        assert shown.pop("time_us") >= 0
        assert shown == {
            "name": "sample",
            "values": [1, 2.5, "x", "01"],
            "number": 0,
            "missed": 0,
            "reliable": True,
            "boot": server.device.boot_id,
        }

        def lose(now: float) -> None:
            server.device._events._credit_bytes = 0
            event("other")

        server.do(lose)
        shown = json.loads(read_lines(process, 1)[0])
        assert (shown["name"], shown["values"], shown["missed"]) == (None, [], 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0


def test_a_board_without_events_is_an_error_that_says_what_it_needs() -> None:
    with PtyServer(simulate(microrpc.profile("loopback"), firmware="stock")) as server:
        result = run("events", server.path)
    assert (result.returncode, result.stdout) == (5, "")
    assert result.stderr.startswith("error: ")
    assert "link" in result.stderr


def test_a_reader_that_goes_ends_it(server: PtyServer) -> None:
    with running("events", server.path) as process:
        wait_for_credit(server, process)
        assert process.stdout is not None
        process.stdout.close()
        server.do(lambda now: server.device.event("sample"))
        assert process.wait(LIMIT_S) == 141


def test_a_call_that_is_interrupted_is_cancelled_on_the_board_and_says_so(server: PtyServer) -> None:
    with running("call", server.path, "work", 1_000_000, 50_000) as process:
        idle_at = time.monotonic()
        deadline = idle_at + LIMIT_S
        while time.monotonic() < idle_at + 0.1:  # a look-up keeps the board busy for less
            assert time.monotonic() < deadline
            time.sleep(0.001)
            if not server.device.is_busy:
                idle_at = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=LIMIT_S)
        assert (process.returncode, out) == (130, "")
        assert error == "work: cancelled, and the board is done with it\n"
    assert not server.device.is_busy


def test_a_call_that_cannot_be_cancelled_says_that_it_may_go_on() -> None:
    device, has_begun = simulate(microrpc.profile("loopback"), firmware="stock"), threading.Event()

    def hold() -> None:
        has_begun.set()
        time.sleep(0.5)

    device.function(hold)
    with PtyServer(device) as stock, running("call", stock.path, "hold") as process:
        assert has_begun.wait(LIMIT_S)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 130
        assert error == "hold: it may go on there: the board could not be told, or did not answer\n"


@pytest.mark.parametrize("total", [0, 10])
def test_the_bar_of_a_call_appears_when_the_function_tells_and_counts_no_bytes(
    monkeypatch: pytest.MonkeyPatch, total: int
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    console = make_console(stderr=True)
    console.width = 100
    with console.capture() as captured, progress_bar("work", console=console, counts_bytes=False) as on_progress:
        assert on_progress is not None
    assert captured.get() == "", "nothing was told"
    with console.capture() as captured, progress_bar("work", console=console, counts_bytes=False) as on_progress:
        assert on_progress is not None
        on_progress(5, total)
    assert "work" in captured.get()
    assert "bytes" not in captured.get()
    assert "B/s" not in captured.get()


def test_events_of_a_shared_board_are_printed_as_those_of_ones_own(server: PtyServer, tmp_path: Path) -> None:
    with running("share", server.path, "--socket", tmp_path / "b") as sharing:
        (url,) = read_lines(sharing, 1)
        with running("events", url) as one, running("events", url, "sample", "--json") as another:
            deadline = time.monotonic() + LIMIT_S
            streams = {one.stdout, another.stdout}
            while streams:  # each gets what is said once it has said that it listens
                assert time.monotonic() < deadline
                server.do(lambda now: server.device.event("sample", 7, reliable=True))
                streams -= set(select.select(list(streams), [], [], 0.1)[0])
            assert read_lines(one, 1)[0].split()[1:] == ["sample", "7"]
            (line,) = read_lines(another, 1)
            assert '"sample"' in line
