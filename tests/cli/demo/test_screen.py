"""How the demonstration looks where a person looks on."""

from __future__ import annotations

import io
import re
import sys

import pytest
from rich.console import Console

from microrpc.cli.demo.screen import Screen
from microrpc.cli.progress import progress_bar


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


def test_a_narrow_terminal_is_shown_every_value_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = narrow(monkeypatch)
    screen = Screen()
    screen.check("largest packet", "2037 bytes, so its receive buffer has 2048", True)
    screen.row("frames", "139 sent, 139 received, 0 damaged")
    screen.frames([("0.1 ms", True, 3, "TERMINATE", "any session there was is over")])
    assert re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines() == [
        "  \N{CHECK MARK} largest packet             2037 ",
        "      bytes, so its receive buffer has ",
        "      2048",
        "    frames                     139 sent,",
        "      139 received, 0 damaged",
        "     0.1 ms  \N{RIGHTWARDS ARROW} board     3 B  TERMINATE ",
        "      any session there was is over",
    ]


def test_what_is_a_little_too_long_goes_on_under_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = narrow(monkeypatch)
    monkeypatch.setenv("COLUMNS", "60")
    Screen().row("requests", "61, answered in 1.49 ms (median; 1.04 ms to 9.94 ms)")
    assert terminal.getvalue().splitlines() == [
        "    requests                   61, answered in 1.49 ms ",
        " " * 31 + "(median; 1.04 ms to 9.94 ms)",
    ]


@pytest.mark.parametrize("columns", [0, 1, 2, 7])
def test_no_terminal_is_too_narrow(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = narrow(monkeypatch)
    monkeypatch.setenv("COLUMNS", str(columns))
    Screen().row("frames", "139 sent")
    assert "".join(terminal.getvalue().split()) == "frames139sent"


@pytest.mark.parametrize(("columns", "shown"), [(40, " 50%"), (80, "5/10 bytes")])
def test_a_progress_bar_takes_one_line_and_has_the_name_of_the_file_as_it_is(columns: int, shown: str) -> None:
    terminal = Terminal()
    console = Console(file=terminal, width=columns, force_terminal=True)
    with progress_bar("put [red]\x1b[2Jx.npy", console=console) as on_progress:
        assert on_progress is not None
        on_progress(5, 10)
    seen = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", terminal.getvalue())
    assert "put [red]\\x1b[2Jx.npy" in seen
    assert shown in seen
    assert max(map(len, re.split(r"[\r\n]", seen))) <= columns


def test_what_a_board_says_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = narrow(monkeypatch)
    Screen().row("log", "\x1b[2J\x07")
    assert "\x1b[2J" not in terminal.getvalue()
    assert "\\x1b[2J\\" in terminal.getvalue()
