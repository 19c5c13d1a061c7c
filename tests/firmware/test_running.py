"""Compilers that are run: nothing of one is left when nobody waits for it any more."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from microrpc.errors import FirmwareError
from microrpc.firmware import running
from microrpc.firmware.running import run, try_to_run

# It starts another process, which holds its pipes, says which one, and takes for ever, as compilers do.
PARENT = """
import pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path("part").write_text(str(child.pid))
pathlib.Path("part").rename("pid")
child.wait()
"""


def until(condition: object, within_s: float = 20.0) -> None:
    end = time.monotonic() + within_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text() if Path("/proc").is_dir() else False


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="processes have no groups here")
def test_what_was_stopped_is_gone_with_all_that_it_started(tmp_path: Path) -> None:
    stop, said = threading.Event(), []

    def build() -> None:
        with pytest.raises(FirmwareError, match=r"was ended: nobody waits for it") as error:
            run([sys.executable, "-c", PARENT], tmp_path, 60.0, stop)
        said.append(error)

    thread = threading.Thread(target=build)
    thread.start()
    until((tmp_path / "pid").exists)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert said
    until(lambda: is_gone(int((tmp_path / "pid").read_text())))


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="processes have no groups here")
def test_what_takes_too_long_does_not_go_on_in_what_it_started(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(FirmwareError, match=r"was ended: it took longer than 3 s"):
        run([sys.executable, "-c", PARENT], tmp_path, 3.0)
    assert time.monotonic() - start < 30  # the other process holds the pipes for ten minutes
    until(lambda: is_gone(int((tmp_path / "pid").read_text())))


def test_what_was_said_is_given_with_how_it_ended(tmp_path: Path) -> None:
    done = run([sys.executable, "-c", "import sys; print(1); print(2, file=sys.stderr); sys.exit(3)"], tmp_path, 60.0)
    assert (done.stdout.split(), done.stderr.split(), done.code) == (["1"], ["2"], 3)


def test_of_much_that_was_said_the_end_is_given(tmp_path: Path) -> None:
    done = run([sys.executable, "-c", "print('first' + 'x' * 2**20 + 'last', end='')"], tmp_path, 60.0)
    assert (len(done.stdout), done.stdout[:1], done.stdout[-5:]) == (2**20, "x", "xlast")


@pytest.mark.skipif(os.name == "nt", reason="there are no such signals")
@pytest.mark.parametrize(
    ("deed", "failure"),
    [
        ("pass", ""),
        ("sys.exit(3)", "ended with 3"),
        ("os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        ("os.kill(os.getpid(), 40)", "was killed by the signal 40"),
    ],
)
def test_how_a_program_failed_is_told_in_words(tmp_path: Path, deed: str, failure: str) -> None:
    assert run([sys.executable, "-c", f"import os, sys; {deed}"], tmp_path, 60.0).failure == failure


def test_a_program_that_never_stops_talking_is_ended_before_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_MOST_KEPT_BYTES", 2**22)
    talk = "import sys\nwhile True: print('x' * 9999, file=sys.stderr)"
    ran = try_to_run([sys.executable, "-c", talk], tmp_path, 60.0)
    assert (ran.code, ran.reason, ran.failure) == (None, *["was ended: it said more than 4 MiB"] * 2)
    assert len(ran.stderr) == 2**20
    enough = try_to_run([sys.executable, "-c", "print('x' * 2**21)"], tmp_path, 60.0)
    assert (enough.code, len(enough.stdout)) == (0, 2**20)


def test_what_cannot_be_started_is_told(tmp_path: Path) -> None:
    with pytest.raises(FirmwareError, match=r"no-such-compiler cannot be started: No such file"):
        run([str(tmp_path / "no-such-compiler")], tmp_path, 60.0)
