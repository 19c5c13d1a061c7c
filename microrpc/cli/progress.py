"""What a person is shown while a copy goes on."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from microrpc.cli.common import is_terminal
from microrpc.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

    from microrpc.host.job import Progress

_WIDE_COLUMNS = 80


def make_console(*, stderr: bool = False) -> Console:
    """Make what shows colours on a terminal."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if console.width < 1:  # COLUMNS=0: nobody knows
        console.width = _WIDE_COLUMNS
    return console


@contextlib.contextmanager
def progress_bar(what: str, *, console: Console | None = None, counts_bytes: bool = True) -> Iterator[Progress | None]:
    """Show a bar with rate and time left while something goes on, or on a narrow terminal the part that is done.

    It goes to `console`, or to stderr where a person looks at that, from the first that is told on, and vanishes at the
    end. `counts_bytes`: what is told are bytes, as those of a copy. Gives what `on_progress` takes.
    """
    if console is None and not is_terminal(sys.stderr):
        yield None
        return
    from rich import progress

    console = console or make_console(stderr=True)
    counts = progress.MofNCompleteColumn()
    columns: list[progress.ProgressColumn] = [progress.TextColumn("{task.description}", markup=False)]
    if console.width >= _WIDE_COLUMNS:
        columns += [
            progress.BarColumn(bar_width=20, complete_style="cyan", finished_style="cyan"),
            *([progress.DownloadColumn(), progress.TransferSpeedColumn()] if counts_bytes else [counts]),
            progress.TimeRemainingColumn(compact=True),
        ]
    else:
        columns += [progress.TaskProgressColumn()]
    bar = progress.Progress(*columns, console=console, transient=True)
    task = bar.add_task(printable(what), total=None)

    def show(done: int, total: int) -> None:
        bar.start()  # which does nothing from the second time on
        bar.update(task, completed=done, total=total or None)

    try:
        yield show
    finally:
        bar.stop()
