"""Who has a port open: other programs are named, this one and the other end of a pty are not."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from apis import Api

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
    code = "import os, sys; m, s = os.openpty(); print(os.ttyname(s), flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as board:
        assert board.stdout is not None
        name = board.stdout.readline().strip()
        assert f"(process {board.pid})" in holders(name)
        assert others(name) == ""
        assert is_pty(name)
        assert not is_our_pty(name)
        lent = os.open(name, os.O_RDWR | os.O_NOCTTY)
        assert f"this program (process {os.getpid()})" in holders(name)
        assert others(name) == ""
        os.close(lent)
        board.communicate()


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
