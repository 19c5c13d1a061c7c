"""A pty in the place of a port: it stays while programs come and go, and so does the link to it."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from microrpc.errors import PortError
from microrpc.ports.pty import HeldPty

pytestmark = pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no ptys")


def test_programs_open_it_one_after_the_other(tmp_path: Path) -> None:
    pty = HeldPty(tmp_path / "board")
    try:
        for said in (b"one\n", b"two\n"):
            program = os.open(pty.path, os.O_RDWR | os.O_NOCTTY)
            os.write(program, said)
            assert os.read(pty.fd, 99) == said
            os.write(pty.fd, said)
            assert os.read(program, 99) == said  # raw: no echo came first
            os.close(program)
        with pytest.raises(BlockingIOError):
            os.read(pty.fd, 99)
    finally:
        pty.close()


def test_the_link_is_replaced_and_goes_with_the_pty_but_nobody_elses(tmp_path: Path) -> None:
    link = tmp_path / "board"
    link.symlink_to("nowhere")
    pty = HeldPty(link)
    assert os.readlink(link) == pty.name
    later = HeldPty(link)
    pty.close()
    assert os.readlink(link) == later.name
    later.close()
    later.close()
    assert os.listdir(tmp_path) == []


def test_what_is_no_link_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "board").write_text("mine", encoding="utf-8")
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    with pytest.raises(PortError, match="exists and is no link: choose another path"):
        HeldPty(tmp_path / "board")
    with pytest.raises(PortError, match=r"cannot make the link .*: No such file or directory"):
        HeldPty(tmp_path / "none" / "board")
    assert (tmp_path / "board").read_text(encoding="utf-8") == "mine"
    assert before in (0, len(os.listdir("/proc/self/fd")))


def test_a_system_that_has_no_more_ptys_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def openpty() -> tuple[int, int]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "openpty", openpty)
    text = "no pty can be had (No space left on device): serve the board on a TCP port"
    with pytest.raises(PortError, match=re.escape(text)):
        HeldPty(no_ptys=": serve the board on a TCP port")
