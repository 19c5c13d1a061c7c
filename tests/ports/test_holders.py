"""Who has a port open: other programs are named, this one and the other end of a pty are not."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from apis import Api
from forks import LIMIT_S, in_fork

from microrpc.errors import HandshakeTimeoutError
from microrpc.ports import holders as holders_module
from microrpc.ports.holders import holders, is_our_pty, is_pty, others
from microrpc.ports.opening import open_serial
from microrpc.wire.session import Timeouts

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has a port open")


@contextmanager
def program(fd: int) -> Iterator[int]:
    """A program that has `fd` open, and does nothing; its process."""
    code = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[fd]
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate()


@contextmanager
def board_on_a_pty() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another program that has both ends of a pty open, as a simulated board has; and the pty's name."""
    code = "import os, sys; m, s = os.openpty(); print(os.ttyname(s), flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as board:
        assert board.stdout is not None
        yield board, board.stdout.readline().strip()
        board.communicate()


@pytest.fixture
def pty() -> Iterator[tuple[int, int, str]]:
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, slave, os.ttyname(slave)
    os.close(slave)
    os.close(master)


def test_another_program_that_has_the_port_open_is_named(pty: tuple[int, int, str]) -> None:
    _, slave, name = pty
    assert others(name) == ""
    with program(slave) as pid:
        assert f"(process {pid})" in others(name)
        assert f"(process {pid})" in holders(name)
    assert others(name) == ""


@pytest.mark.parametrize(("name", "is_told"), [("microrpc", True), ("minicom", False), ("microrpc-like", False)])
def test_of_sharing_is_told_where_microrpc_has_the_port(
    monkeypatch: pytest.MonkeyPatch, name: str, is_told: bool
) -> None:
    monkeypatch.setattr(holders_module, "_find", lambda port: iter([7]))
    monkeypatch.setattr(holders_module, "_describe", lambda pid: f"{name} (process {pid})")
    assert ("`microrpc share /dev/ttyX` lets several programs use one board." in holders("/dev/ttyX")) is is_told


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            [],
            "another program: close it (`fuser /dev/ttyX` names it). "
            "If it is ModemManager, which probes new ports, wait some seconds, or stop it.",
        ),
        (["minicom"], "minicom (process 0): close it."),
        (["cat", "screen"], "cat (process 0), screen (process 1): close it."),
        (
            ["ModemManager"],
            "ModemManager (process 0): close it. "
            "If it is ModemManager, which probes new ports, wait some seconds, or stop it.",
        ),
    ],
)
def test_what_to_do_depends_on_who_was_found(monkeypatch: pytest.MonkeyPatch, found: list[str], said: str) -> None:
    monkeypatch.setattr(holders_module, "_find", lambda port: iter(range(len(found))))
    monkeypatch.setattr(holders_module, "_describe", lambda pid: f"{found[pid]} (process {pid})")
    assert holders("/dev/ttyX") == said


def test_the_board_behind_a_pty_is_not_named_beside_who_has_the_port() -> None:
    """As `microrpc sim` is: it has both ends open, and whoever closes it ends the board."""
    with board_on_a_pty() as (board, name):
        lent = os.open(name, os.O_RDWR | os.O_NOCTTY)
        with program(lent) as pid:
            os.close(lent)
            told = holders(name)
        assert f"(process {pid}): close it." in told
        assert f"(process {board.pid})" not in told


def test_a_link_to_the_port_names_the_same(pty: tuple[int, int, str], tmp_path: Path) -> None:
    link = str(tmp_path / "board")
    os.symlink(pty[2], link)
    assert is_pty(link)
    assert is_our_pty(link)
    with program(pty[1]) as pid:
        assert f"(process {pid})" in others(link)


def test_a_descriptor_of_this_very_program_is_no_other(pty: tuple[int, int, str], tmp_path: Path) -> None:
    line = tmp_path / "ttyUSB0"  # no pty, whose other end would tell
    with line.open("w"):
        assert holders(str(line)).startswith(f"this program (process {os.getpid()})")
        assert others(str(line)) == ""
    assert others(pty[2]) == ""
    assert holders(pty[2]).startswith(f"this program (process {os.getpid()}): close it")


def test_who_has_the_other_end_of_a_pty_is_no_other() -> None:
    with board_on_a_pty() as (board, name):
        assert f"(process {board.pid})" in holders(name)
        assert others(name) == ""
        assert is_pty(name)
        assert not is_our_pty(name)
        lent = os.open(name, os.O_RDWR | os.O_NOCTTY)
        assert f"this program (process {os.getpid()})" in holders(name)
        assert others(name) == ""
        os.close(lent)


def test_who_has_started_the_other_end_of_a_pty_is_no_other() -> None:
    """As `microrpc firmware run` does: its emulator has the other end, and it has the port itself open."""
    code = (
        "import os, subprocess, sys; m, s = os.openpty(); name = os.ttyname(s)\n"
        "with subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[m]) as emulator:\n"
        "    os.close(m); print(name, flush=True); sys.stdin.read(); emulator.communicate()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as lender:
        assert lender.stdout is not None
        name = lender.stdout.readline().strip()
        assert f"(process {lender.pid})" in holders(name)
        assert others(name) == ""
        lender.communicate()


def test_looking_is_bounded(pty: tuple[int, int, str], monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    monkeypatch.setattr(holders_module.os, "listdir", lambda path: [str(n) for n in range(10**4)])
    monkeypatch.setattr(holders_module, "_files_of", lambda pid, *paths: looked.append(pid) or [])
    times = iter(range(10**4))
    monkeypatch.setattr(holders_module.time, "thread_time", lambda: next(times) * 0.01)
    assert others(pty[2]) == ""
    assert looked == list(range(9999, 9988, -1))


def test_what_this_program_has_open_is_not_looked_at_for_each_port(
    pty: tuple[int, int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    files_of = holders_module._files_of

    def look(pid: int) -> Iterator[tuple[str, str]]:
        looked.append(pid)
        return files_of(pid)

    monkeypatch.setattr(holders_module, "_files_of", look)
    with program(pty[1]) as pid:
        assert f"(process {pid})" in others(pty[2])
    assert pid in looked
    assert os.getpid() not in looked
    assert len(looked) == len(set(looked)), "each process once"


def waits_of(looks: holders_module._Looks) -> int:
    """How many wait for the look that is next, beside the one that will take it."""
    look = looks._next
    return len(look.is_done._cond._waiters) if look is not None else 0  # type: ignore[attr-defined]


def test_who_asks_while_a_look_goes_on_shares_the_next_one(
    pty: tuple[int, int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, goes_on, asking = list[int](), threading.Event(), 8
    take = holders_module._Look.take

    def look(self: Any) -> None:
        looks.append(1)
        assert goes_on.wait(LIMIT_S)
        take(self)

    def wait_for(condition: Callable[[], bool]) -> None:
        until = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < until
            time.sleep(0.001)

    monkeypatch.setattr(holders_module._Look, "take", look)
    with ThreadPoolExecutor(asking) as pool:
        first = pool.submit(others, pty[2])
        wait_for(lambda: looks == [1])
        with program(pty[1]) as pid:  # since that look was begun: all who ask from now on are to see it
            later = [pool.submit(others, pty[2]) for _ in range(asking - 1)]
            wait_for(lambda: waits_of(holders_module._looks) == asking - 2)
            goes_on.set()
            assert all(f"(process {pid})" in one.result(LIMIT_S) for one in later)
        first.result(LIMIT_S)
    assert looks == [1, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_that_is_made_while_a_look_goes_on_can_look(
    pty: tuple[int, int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, goes_on = threading.Event(), threading.Event()
    take = holders_module._Look.take

    def look(self: Any) -> None:
        looks.set()
        assert goes_on.wait(LIMIT_S)

    monkeypatch.setattr(holders_module._Look, "take", look)
    looking = threading.Thread(target=others, args=[pty[2]])
    looking.start()
    assert looks.wait(LIMIT_S)
    monkeypatch.setattr(holders_module._Look, "take", take)
    try:
        assert in_fork(lambda: others(pty[2]) or "nobody") == "nobody"
    finally:
        goes_on.set()
        looking.join()


def test_what_no_system_tells_is_nobody() -> None:
    assert others("COM3") == ""
    assert not is_pty("/dev/ttyUSB0")
    assert is_pty("/dev/ttys004"), "as macOS calls them"
    assert not is_our_pty("/dev/ttys004")


def test_an_intruder_is_a_warning_that_names_it_at_opening(
    pty: tuple[int, int, str], caplog: pytest.LogCaptureFixture
) -> None:
    _, slave, name = pty
    open_serial(name, baud=115200).close()
    assert caplog.records == [], "the descriptor of this test is lent, not an intruder's"
    with program(slave) as pid:
        open_serial(name, baud=115200).close()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("microrpc.ports", logging.WARNING)
    assert f"{name} is open in " in caplog.text
    assert f"(process {pid}), too" in caplog.text


def test_an_intruder_is_named_where_no_session_comes_about(api: Api, pty: tuple[int, int, str]) -> None:
    _, slave, name = pty
    timeouts = Timeouts(retry_s=0.02, start_s=0.05, call_s=0.1)
    with program(slave) as pid, pytest.raises(HandshakeTimeoutError) as caught:
        api.connect(name, timeouts=timeouts)
    assert re.search(rf"open in .*\(process {pid}\), too.*: close it\.$", str(caught.value))
    termios.tcflush(slave, termios.TCIOFLUSH)
    with pytest.raises(HandshakeTimeoutError, match=r"may be deaf until it is\.$"):
        api.connect(name, timeouts=timeouts)
