"""The command that puts a program into a board: what it is given, and what comes of it when it fails."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
import time
from pathlib import Path

import pytest
from firmware.test_elf import make_program

from microrpc.boards.catalogue import profile
from microrpc.boards.schema import BoardProfile
from microrpc.errors import FirmwareError
from microrpc.firmware.flashing import flash_aside

NOTE = """
import sys
sizes = [len(open(file, 'rb').read()) for file in sys.argv[3:]]
open(sys.argv[1], 'w').write(repr(sys.argv[2:]) + ' ' + repr(sizes))
"""


@pytest.fixture
def elf(tmp_path: Path) -> Path:
    path = tmp_path / "firmware.elf"
    path.write_bytes(make_program([(1, 0x100, b"abcde")]))
    return path


def board(*words: str, flash_s: float = 20.0) -> BoardProfile:
    return dataclasses.replace(profile("loopback"), flash=words, flash_s=flash_s)


def run(board: BoardProfile, elf: Path) -> None:
    asyncio.run(flash_aside(board, "/dev/ttyACM0", elf))


def test_the_command_is_given_the_port_and_the_program_in_each_form(elf: Path, tmp_path: Path) -> None:
    note = tmp_path / "note"
    run(board(sys.executable, "-c", NOTE, str(note), "{port} x{x}", "{elf}", "{bin}", "{hex}", "{uf2}"), elf)
    said = note.read_text()
    assert said.startswith(f"['/dev/ttyACM0 x{{x}}', '{elf}', ")
    # 5 bytes are a row of 22 characters of Intel HEX; where it begins takes 20 more, and its end 12.
    assert said.endswith(f"[{elf.stat().st_size}, 5, {22 + 20 + 12}, 512]")
    assert [part.rpartition(".")[2] for part in said.split("'")[3:-1:2]] == ["elf", "bin", "hex", "uf2"]
    assert not [path for path in said.split("'")[5:-1:2] if os.path.exists(path)]  # they are gone afterwards


def test_no_shell_reads_the_command(elf: Path, tmp_path: Path) -> None:
    run(board(sys.executable, "-c", "pass", "{elf}", f"; touch {tmp_path / 'no'}", "$(touch no)"), elf)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["firmware.elf"]


def test_a_command_that_fails_gives_its_last_words(elf: Path) -> None:
    words = "import sys; print('no probe \\x1b[2J'); sys.stderr.write('found\\n'); sys.exit(3)"
    with pytest.raises(FirmwareError, match=r"(?s)^/dev/ttyACM0: it could not be flashed: .*ended with 3:\n") as caught:
        run(board(sys.executable, "-c", words, "{elf}"), elf)
    assert "no probe" in str(caught.value)
    assert "found" in str(caught.value)
    assert "\x1b" not in str(caught.value)
    begins = "print('it ' + 'begins'); print('.' * 4000); print('it ' + 'ends'); raise SystemExit(1)"
    with pytest.raises(FirmwareError, match=r"it ends$") as caught:
        run(board(sys.executable, "-c", begins, "{elf}"), elf)
    assert "it begins" not in str(caught.value)


def test_a_command_that_is_not_there_is_told(elf: Path) -> None:
    with pytest.raises(FirmwareError, match=r"no-such-flasher .*cannot be started: No such file or directory"):
        run(board("no-such-flasher", "{elf}"), elf)


def test_a_command_that_hangs_is_killed_with_what_it_started(elf: Path, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    hangs = (
        "import subprocess as s, sys; p = s.Popen(['sleep', '60']); print(p.pid, file=open(sys.argv[1], 'w')); p.wait()"
    )
    with pytest.raises(FirmwareError, match=r"was ended: it took longer than 3 s \(`flash_s`\)"):
        run(board(sys.executable, "-c", hangs, str(note), "{elf}", flash_s=3.0), elf)
    deadline = time.monotonic() + 20
    while _runs(int(note.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(int(note.read_text()))


def test_a_program_that_a_command_leaves_running_holds_nobody_up(elf: Path) -> None:
    leaves = "import subprocess; subprocess.Popen(['sleep', '30'])"
    began = time.monotonic()
    run(board(sys.executable, "-c", leaves, "{elf}"), elf)
    assert time.monotonic() - began < 20


def test_a_board_without_a_way_is_told_where_it_is_stated(elf: Path) -> None:
    with pytest.raises(FirmwareError, match=r"does not know how a program is put into spresense: state it in `flash`"):
        run(profile("spresense"), elf)


def _runs(pid: int) -> bool:
    """Whether a process runs: one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False
