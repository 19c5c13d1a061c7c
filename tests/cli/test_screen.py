"""How the demonstration looks where a person looks on."""

from __future__ import annotations

import io
import re
import sys

import pytest

from microrpc.cli.screen import Screen


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def narrow(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 40 columns."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    return terminal


VERDICT = "all 18 checks hold; 278 frames, 152680 bytes in 421 ms"
FAILED = "2 of 18 checks fail: bytes back; relu_f32(float32[1024])"


def test_a_narrow_terminal_is_shown_the_verdict_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = narrow(monkeypatch)
    screen = Screen()
    screen.title("microrpc demo", "a simulated board, loopback, on /dev/pts/0")
    screen.section("A tensor of 65536 random bytes, there and back")
    screen.check("bytes back", "12 differ, the first is 7, and that is all", False)
    screen.passed(VERDICT)
    screen.failed(FAILED)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()
    assert max(map(len, lines)) <= 40
    told = " ".join(" ".join(lines).split())
    assert "\N{HORIZONTAL ELLIPSIS}" not in told
    for whole in (VERDICT, FAILED, "and that is all", "there and back", "on /dev/pts/0"):
        assert whole in told


def test_what_a_board_says_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = narrow(monkeypatch)
    Screen().row("log", "\x1b[2J\x07")
    assert "\x1b[2J" not in terminal.getvalue()
    assert "\\x1b[2J\\" in terminal.getvalue()
