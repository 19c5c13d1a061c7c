"""Lock files of boards: whose turn it is, what is told of who has one, and what a killed process leaves."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from microrpc.errors import PortError
from pytest_microrpc import locks
from pytest_microrpc.locks import Lock, holding, take_free, turn_of

HOLD = """
import sys
from pytest_microrpc.locks import Lock
lock = Lock(sys.argv[1])
print(lock.take("the other tests"), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "microrpc" / "locks"


def hold(what: str) -> subprocess.Popen[str]:
    """Have another process hold a lock, until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


def test_a_lock_is_had_by_one_and_freed_for_the_next() -> None:
    one, other = Lock("/dev/x"), Lock("/dev/x")
    assert one.take("mine")
    assert one.take("mine")
    assert not other.take("other")
    assert other.holder == f"process {os.getpid()}: mine"
    one.free()
    one.free()
    assert other.take("other")
    assert not one.take("mine")
    other.free()


def test_links_to_a_port_are_that_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "port").touch()
    (tmp_path / "link").symlink_to(tmp_path / "port")
    one, other = Lock(str(tmp_path / "port")), Lock(str(tmp_path / "link"))
    assert one.take("a")
    assert not other.take("b")
    monkeypatch.chdir(tmp_path)
    assert not Lock("link").take("b")
    assert Lock("tcp://host:1").take("b")
    one.free()


def test_what_is_noted_outlives_its_writer(tmp_path: Path) -> None:
    one, other = Lock("/dev/x"), Lock("/dev/x")
    one.take("a command that is longer than the next")
    one.note(flashed="this")
    one.free()
    assert other.take("b")
    assert other.noted() == {"pid": os.getpid(), "command": "b", "flashed": "this"}
    other.free()


def test_a_file_that_is_none_of_ours_is_told_as_unknown(directory: Path) -> None:
    lock = Lock("/dev/x")
    assert lock.take("a")
    for text in ("", "[1]", "{", "\xff"):
        (file,) = directory.iterdir()
        file.write_text(text, encoding="latin-1")
        assert lock.noted() == {}
        assert Lock("/dev/x").holder == "process unknown: unknown"
    lock.free()


def test_a_killed_process_holds_nothing() -> None:
    process, lock = hold("/dev/x"), Lock("/dev/x")
    assert not lock.take("mine")
    assert lock.holder == f"process {process.pid}: the other tests"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    assert lock.take("mine")
    lock.free()


def test_after_the_cache_was_emptied_all_who_come_later_meet_again(directory: Path) -> None:
    one, other = Lock("/dev/x"), Lock("/dev/x")
    assert one.take("a")
    shutil.rmtree(directory)
    assert other.take("b"), "the file of the first is gone, and with it what it says"
    assert not Lock("/dev/x").take("c")
    one.free()
    assert not Lock("/dev/x").take("c")
    other.free()


def test_a_file_that_is_removed_or_replaced_while_it_is_locked_is_no_lock(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_lock = locks._lock

    def replaced(fd: int) -> bool:
        [path] = directory.iterdir()
        path.unlink()
        if is_made_anew:
            path.touch()
        return real_lock(fd)

    for is_made_anew in (False, True):
        lock = Lock(f"/dev/x{is_made_anew}")
        shutil.rmtree(directory, ignore_errors=True)
        with monkeypatch.context() as patched:
            patched.setattr(locks, "_lock", replaced)
            assert not lock.take("a")
        assert lock.take("a")
        lock.free()


def test_a_directory_that_cannot_be_written_is_one_clear_error(directory: Path) -> None:
    directory.parent.mkdir()
    directory.write_text("a file")
    with pytest.raises(PortError, match=r"locks/\w+\.json: cannot be written: .*XDG_CACHE_HOME"):
        Lock("/dev/x").take("a")


def test_a_file_system_without_locks_is_told_and_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int) -> bool:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks, "_lock", refuse)
    with pytest.raises(PortError, match=r"locks/\w+\.json: cannot be locked: No locks available\. .*XDG_CACHE_HOME"):
        take_free(some(2), 1, "a", 60)


def test_a_full_disk_is_one_clear_error_and_leaves_the_board_free(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    lock = Lock("/dev/x")
    with monkeypatch.context() as patch:
        patch.setattr(locks.os, "write", fill)
        with pytest.raises(PortError, match=r"cannot be written: No space left on device"):
            lock.take("a")
    assert Lock("/dev/x").take("b")


def test_a_child_that_a_test_has_forked_holds_nothing() -> None:
    lock = Lock("/dev/x")
    assert lock.take("a")
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:  # it has the file open, as its parent
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    try:
        lock.free()
        other = Lock("/dev/x")
        assert other.take("b")
        other.free()
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(child, 0)


def test_holding_waits_as_long_as_told(directory: Path) -> None:
    with holding(Lock("x"), "a", 0) as has:
        assert has
        with holding(Lock("x"), "b", 0.1) as has_too:
            assert not has_too
    with holding(Lock("x"), "b", 0) as has:
        assert has


# --- several --------------------------------------------------------------------------------------


def some(count: int) -> list[Lock]:
    return [Lock(f"/dev/x{number}") for number in range(count)]


def test_free_ones_are_taken_all_or_none() -> None:
    mine = Lock("/dev/x0")
    assert mine.take("mine")
    taken = take_free(some(3), 2, "two", 0)
    assert taken is not None
    assert [lock.what for lock in taken] == ["/dev/x1", "/dev/x2"]
    assert take_free(some(3), 1, "one", 0.1) is None
    taken[0].free()
    assert take_free(some(3), 2, "two", 0.1) is None
    assert Lock("/dev/x1").take("it was not kept by who wanted two")
    taken[1].free()
    mine.free()


def test_who_waits_for_no_board_has_its_turn_after_those_who_look_just_then() -> None:
    turn = turn_of(some(2))
    assert turn.take("another process, for a moment")
    looking = threading.Timer(0.1, turn.free)
    looking.start()
    taken = take_free(some(2), 1, "mine", 0)
    looking.join()
    assert taken is not None
    taken[0].free()


def test_who_wants_two_has_its_turn_before_those_who_want_one() -> None:
    """Four who want one, again and again, never leave two of the boards free together but for the turn."""
    is_over, counts = threading.Event(), [0, 0]

    def want_one() -> None:
        while not is_over.is_set():
            if (taken := take_free(some(2), 1, "one", 20)) is not None:
                counts[0] += 1
                is_over.wait(0.03)
                taken[0].free()

    threads = [threading.Thread(target=want_one) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        deadline = time.monotonic() + 20
        while counts[0] < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        for _ in range(3):
            taken = take_free(some(2), 2, "two", 20)
            assert taken is not None
            for lock in taken:
                lock.free()
            counts[1] += 1
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert counts[1] == 3
    assert locks.POLL_S < 1
