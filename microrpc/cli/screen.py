"""How the demonstration looks: in colour on a terminal, else as plain text in stable lines."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from microrpc.cli.common import is_terminal, progress_bar
from microrpc.cli.streams import knows_unicode, printing, say
from microrpc.errors import printable

if TYPE_CHECKING:
    from rich.console import Console, OverflowMethod

    from microrpc.host.job import Progress

_LABEL_WIDTH = 26
_KIND_WIDTH = 14


@dataclass(frozen=True, slots=True)
class Check:
    """Something that was `shown` under its `name`, and whether it `holds`: is as it should be."""

    name: str
    shown: str
    holds: bool


class Screen:
    """Prints to stdout, or nothing where `is_silent`. `is_live`: whether a person looks on; `checks` are collected."""

    def __init__(self, *, is_silent: bool = False) -> None:
        self.checks: list[Check] = []
        self.is_live = not is_silent and is_terminal(sys.stdout)
        self._is_silent = is_silent
        self._console = _make_console() if self.is_live else None
        is_unicode = self.is_live and knows_unicode(sys.stdout)
        self._ok, self._wrong = ("✓", "✗") if is_unicode else ("ok", "DIFFERS")
        self._to_board, self._to_host = ("→ board", "← board") if is_unicode else ("-> board", "<- board")
        self._mark_width = max(len(self._ok), len(self._wrong))

    def title(self, name: str, text: str) -> None:
        """Print the first line."""
        self._print((name, "bold"), (f": {text}", ""), is_whole=True)

    def section(self, title: str) -> None:
        """Begin a section."""
        self._print()
        self._print((title, "bold cyan"), is_whole=True)

    def row(self, label: str, text: str) -> None:
        """Print what needs no check."""
        self._print((f"  {'':{self._mark_width}} {label:<{_LABEL_WIDTH}} {text}", ""))

    def check(self, label: str, text: str, holds: bool) -> None:
        """Print what was found under `label`, and whether it is as it should be."""
        self.checks.append(Check(label, text, holds))
        mark = f"  {self._ok if holds else self._wrong:<{self._mark_width}} "
        self._print(
            (mark, "green" if holds else "bold red"), (f"{label:<{_LABEL_WIDTH}} {text}", "" if holds else "red")
        )

    def frames(self, rows: Sequence[tuple[str, bool, int, str, str]]) -> None:
        """Print frames: when, whether it goes to the board, bytes, kind, meaning."""
        for when, to_board, size_bytes, kind, meaning in rows:
            arrow = self._to_board if to_board else self._to_host
            self._print(
                (f"  {when:>9}  ", "dim"),
                (arrow, "cyan" if to_board else "magenta"),
                (f" {size_bytes:>5} B  ", "dim"),
                (f"{kind:<{_KIND_WIDTH}}  ", "bold"),
                (meaning, ""),
            )

    def passed(self, text: str) -> None:
        """Print the good end."""
        self._print()
        self._print((text, "bold green"), is_whole=True)

    def failed(self, text: str) -> None:
        """Print the bad end."""
        self._print()
        self._print((text, "bold red"))

    @contextlib.contextmanager
    def progress(self, label: str) -> Iterator[Progress | None]:
        """Show a bar while a copy goes on, where a person looks on."""
        if self._console is None:
            yield None
            return
        with progress_bar(f"    {label:<{_LABEL_WIDTH}}", console=self._console) as on_progress:
            yield on_progress

    def _print(self, *parts: tuple[str, str], is_whole: bool = False) -> None:
        if self._is_silent:
            return
        if self._console is None:
            say("".join(text for text, _ in parts).rstrip())
            return
        from rich.text import Text

        # What is wrong is shown whole, whatever the width of the terminal.
        is_whole = is_whole or any("red" in style for _, style in parts)
        overflow: OverflowMethod = "fold" if is_whole else "ellipsis"
        text = Text.assemble(*((printable(text), style) for text, style in parts))
        with printing():
            self._console.print(text, no_wrap=not is_whole, overflow=overflow, crop=not is_whole)


def _make_console() -> Console:
    from rich.console import Console

    return Console(highlight=False)
