"""How the demonstration looks: in colour on a terminal, else as plain text in stable lines."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from microrpc.cli.common import is_terminal
from microrpc.cli.progress import make_console, progress_bar
from microrpc.cli.streams import knows_unicode, printing, say
from microrpc.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from microrpc.host.job import Progress

_LABEL_WIDTH = 26
_KIND_WIDTH = 14
_MEANING_COLUMN = 46


@dataclass(frozen=True, slots=True)
class Check:
    """Something that was `shown` under its `name`, and whether it `holds`: is as it should be."""

    name: str
    shown: str
    holds: bool


class Screen:
    """Prints to stdout, or nothing where `is_silent`. `is_live`: whether a person looks on; `checks` are collected.

    Where it is not `is_full` only what is marked `is_brief` is printed, with its section's title, and what differs.
    """

    def __init__(self, *, is_silent: bool = False, is_full: bool = True) -> None:
        self.checks: list[Check] = []
        self.is_live = not is_silent and is_terminal(sys.stdout)
        self._is_silent = is_silent
        self._is_full = is_full
        self._title = ""
        self._console = make_console() if self.is_live else None
        is_unicode = self.is_live and knows_unicode(sys.stdout)
        self._ok, self._wrong = ("✓", "✗") if is_unicode else ("ok", "DIFFERS")
        self._to_board, self._to_host = ("→ board", "← board") if is_unicode else ("-> board", "<- board")
        self._mark_width = max(len(self._ok), len(self._wrong))
        self._text_column = 2 + self._mark_width + 1 + _LABEL_WIDTH + 1

    def title(self, name: str, text: str) -> None:
        """Print the first line."""
        self._print((name, "bold"), (f": {text}", ""))

    def section(self, title: str) -> None:
        """Begin a section. Its title is printed with the first line of it."""
        self._title = title

    def row(self, label: str, text: str, *, is_brief: bool = False) -> None:
        """Print what needs no check."""
        if self._shows(is_brief):
            self._print((f"  {'':{self._mark_width}} {label:<{_LABEL_WIDTH}} {text}", ""), indent=self._text_column)

    def check(self, label: str, text: str, holds: bool, *, is_brief: bool = False) -> None:
        """Print what was found under `label`, and whether it is as it should be."""
        self.checks.append(Check(label, text, holds))
        if not self._shows(is_brief or not holds):
            return
        mark = f"  {self._ok if holds else self._wrong:<{self._mark_width}} "
        self._print(
            (mark, "green" if holds else "bold red"),
            (f"{label:<{_LABEL_WIDTH}} {text}", "" if holds else "red"),
            indent=self._text_column,
        )

    def _shows(self, is_brief: bool) -> bool:
        """Tell whether a line is printed, and print the title above it, where it is the first."""
        if not (self._is_full or is_brief):
            return False
        if self._title:
            self._print()
            self._print((self._title, "bold cyan"))
            self._title = ""
        return True

    def frames(self, rows: Sequence[tuple[str, bool, int, str, str]]) -> None:
        """Print frames: when, whether it goes to the board, bytes, kind, meaning. They are never brief."""
        if not self._shows(False):
            return
        for when, to_board, size_bytes, kind, meaning in rows:
            arrow = self._to_board if to_board else self._to_host
            self._print(
                (f"  {when:>9}  ", "dim"),
                (arrow, "cyan" if to_board else "magenta"),
                (f" {size_bytes:>5} B  ", "dim"),
                (f"{kind:<{_KIND_WIDTH}}  ", "bold"),
                (meaning, ""),
                indent=_MEANING_COLUMN,
            )

    def passed(self, text: str) -> None:
        """Print the good end."""
        self._print()
        self._print((text, "bold green"))

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

    def _print(self, *parts: tuple[str, str], indent: int = 0) -> None:
        """Print a line. What a narrow terminal has no room for goes on in the next one, from column `indent` on."""
        if self._is_silent:
            return
        if self._console is None:
            say("".join(text for text, _ in parts).rstrip())
            return
        from rich.text import Text

        text = Text.assemble(*((printable(text), style) for text, style in parts))
        with printing():
            for line in _folded(text, self._console, indent):
                self._console.print(line)


def _folded(text: Text, console: Console, indent: int) -> Iterator[Text]:
    """Give the lines that `text` takes; nothing of it is left out."""
    width = console.width
    first = text.wrap(console, width)[0]
    yield first
    rest = text[len(first) :]
    said = rest.plain.lstrip()
    if said:
        indent = indent if indent <= width * 2 // 3 else width // 6
        for line in rest[-len(said) :].wrap(console, width - indent):
            line.pad_left(indent)
            yield line
