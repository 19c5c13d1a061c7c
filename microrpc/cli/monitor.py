"""`microrpc monitor`: what crosses a line, as it happens or as it was written down, in words."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microrpc.cli.common import BaudOption, BoardFileOption, BoardOption, find_profile, is_terminal, reporting
from microrpc.cli.port_options import with_port_options
from microrpc.cli.signals import StoppedError, until_signal
from microrpc.cli.streams import note, say
from microrpc.errors import printable
from microrpc.ports.options import AS_THE_SYSTEM_DOES, PortOptions

if TYPE_CHECKING:
    from microrpc.capture.writer import CaptureWriter
    from microrpc.cli.monitor_source import Source
    from microrpc.gateway.through import Through

_EXTRA = "the monitor's screen is an extra, and these are its lines without it: pip install 'microrpc[tui]'"


@partial(with_port_options, tells=False)
def monitor(
    source: Annotated[
        str,
        typer.Argument(
            metavar="PORT|FILE",
            show_default=False,
            help="A port to stand at, or a capture to look at; - is stdin.",
        ),
    ],
    through: Annotated[
        Path | None,
        typer.Option("--through", metavar="PATH", help="Of a port: link PATH to what a program opens in its place."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Of a file: show what is written to it from now on.")
    ] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Print lines, as where stdout is no terminal.", show_default=False)
    ] = False,
    keep: Annotated[
        int, typer.Option("--keep", metavar="N", min=100, max=1_000_000, help="Rows to keep on the screen.")
    ] = 20_000,
    board: BoardOption = None,
    board_file: BoardFileOption = None,
    baud: BaudOption = None,
    options: PortOptions = AS_THE_SYSTEM_DOES,
) -> None:
    """Show what crosses a board's line, frame by frame in words, with live figures, filters and details.

    At a PORT it stands between the board and any program, which opens the path that is shown in place of the port. A
    FILE is a capture, of `connect(capture=...)`, --capture or `microrpc capture`; with --follow, or from a named pipe,
    it is shown as it grows. On the screen the key ? tells of the others.
    """
    from microrpc.cli.monitor_source import STDIN, is_file, open_file, open_line

    with reporting():
        shows = None if plain else _screen()
        if not is_file(source):
            if follow:
                raise typer.BadParameter(f"--follow is of files, and {source} is a port: it is live anyway")
            profile = find_profile(board, source, board_file)

            def make(taps: list[CaptureWriter]) -> Through:
                from microrpc.gateway.through import Through

                return Through(source, taps, board=profile, baud=baud, options=options, link=through, on_news=note_)

            news: list[str] = []
            note_ = note if shows is None else news.append
            opened, line = open_line(make)
            title = f"{line.port} @ {line.baud}, a program opens {through or line.path}"
            if shows is None:
                note(f"open {through or line.path} in place of {line.port}")
            _run(opened, shows, title, keep, line.baud, time.time)
            return
        if through is not None:
            raise typer.BadParameter(f"--through is of ports, and {source} is a file")
        stdin_fd = _take_stdin() if source == STDIN and shows is not None else 0
        is_live = follow or not os.path.isfile(source)
        opened = open_file(source, follows=follow, stdin_fd=stdin_fd)
        title = "stdin" if source == STDIN else source
        _run(opened, shows, title, keep, baud, time.time if is_live else None)


def _screen() -> Callable[..., None] | None:
    """Give what shows it all on a terminal; None where there is none, or what it takes is missing."""
    if not (is_terminal(sys.stdout) and is_terminal(sys.stderr)):  # textual writes to both
        return None
    if importlib.util.find_spec("textual") is None:
        note(_EXTRA)
        return None
    from microrpc.cli.monitor_view import show

    return show


def _take_stdin() -> int:
    """Let the keyboard be stdin, for the screen; give what was that, to read the capture from."""
    capture = os.dup(0)
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
    except OSError as error:
        raise typer.BadParameter("there is no terminal for the keys: give --plain") from error
    os.dup2(terminal, 0)
    os.close(terminal)
    return capture


def _run(
    source: Source,
    shows: Callable[..., None] | None,
    title: str,
    keep: int,
    baud: int | None,
    clock: Callable[[], float] | None,
) -> None:
    """Show what comes until it ends, or somebody ends it; an error that ended it is raised."""
    with contextlib.closing(source):
        if shows is not None:
            shows(source, title, keep=keep, baud=baud, clock=clock)
            if isinstance(source.feed.end, BaseException):
                raise source.feed.end
        elif clock is None:
            _print(source)
        else:
            with contextlib.suppress(StoppedError), until_signal():
                _print(source)


def _print(source: Source) -> None:
    """Print a line for each frame."""
    from microrpc.capture.watching import RowReader
    from microrpc.capture.words import frame_of
    from microrpc.cli.monitor_feed import packets_of

    reader = RowReader()
    start_ns: int | None = None
    for packet in packets_of(source.feed):
        for comment in packet.comments:
            say(f"{'':>9}     [{printable(comment)}]")
        for row in reader.read(packet):
            start_ns = row.record.time_ns if start_ns is None else start_ns
            say(frame_of(row.record, (row.record.time_ns - start_ns) / 1e9).line(0.0))
        if left_out := source.take_left_out():
            note(f"{left_out} packets came faster than they could be printed, and are left out")
