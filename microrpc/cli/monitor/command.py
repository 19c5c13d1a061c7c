"""`microrpc monitor`: what crosses a line, as it happens or as it was written down, in words."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from microrpc.cli.common import (
    BaudOption,
    BoardFileOption,
    BoardOption,
    JsonLinesOption,
    find_board_port,
    is_terminal,
    reporting,
)
from microrpc.cli.decode import Direction, RawOption, print_records, print_records_json
from microrpc.cli.port_options import with_port_options
from microrpc.cli.signals import StoppedError, until_signal
from microrpc.cli.streams import note
from microrpc.errors import counted
from microrpc.ports.options import AS_THE_SYSTEM_DOES, PortOptions

if TYPE_CHECKING:
    from microrpc.boards.schema import BoardProfile
    from microrpc.capture.writer import CaptureWriter
    from microrpc.cli.monitor.source import Source
    from microrpc.gateway.through import Through

_FIRST_S = 1.0
Show: TypeAlias = Callable[..., None]
"""What shows a source on a terminal, until somebody quits."""
_EXTRA = "the monitor's screen is an extra, and these are its lines without it: pip install 'microrpc[tui]'"


@partial(with_port_options, tells=False)
def monitor(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="PORT|FILE",
            show_default=False,
            help="A port to stand at, a capture to look at, or - for stdin; without it, where --board is plugged in.",
        ),
    ] = None,
    through: Annotated[
        Path | None,
        typer.Option("--through", metavar="PATH", help="Of a port: link PATH to what a program opens in its place."),
    ] = None,
    reconnect: Annotated[
        bool, typer.Option("--reconnect", help="Of a port: where it goes away, wait a minute for it to come back.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Of a file: show what is written to it later, too.")] = False,
    raw: RawOption = None,
    keep: Annotated[
        int, typer.Option("--keep", metavar="N", min=100, max=1_000_000, help="Rows to keep on the screen.")
    ] = 20_000,
    plain: Annotated[bool, typer.Option("--plain", help="Print lines, as where stdout is no terminal.")] = False,
    as_json: JsonLinesOption = False,
    board: BoardOption = None,
    board_file: BoardFileOption = None,
    baud: BaudOption = None,
    options: PortOptions = AS_THE_SYSTEM_DOES,
) -> None:
    """Show what crosses a board's line, live and in words.

    Frame by frame, with live figures, filters and details. At a PORT it stands between the board and any program, which
    opens the path that is shown in place of the port. A FILE is a capture, of --capture or `microrpc capture`; with
    --follow, or from a pipe, it is shown as it grows. On the screen the key ? tells of the others.
    """
    from microrpc.cli.monitor.source import is_file

    with reporting(as_json=as_json):
        show = None if plain or as_json else _screen()
        if source is None or not is_file(source):
            if follow or raw is not None:
                option = "--follow" if follow else "--raw"
                raise typer.BadParameter(
                    f"{option} is of files, and {source or '--board'} is a port: it is live anyway"
                )
            port, profile = find_board_port(source, board, board_file)
            _watch_port(port, profile, show, keep, through, reconnect, baud, options, as_json=as_json)
            return
        of_ports = {"through": through, "reconnect": reconnect or None, "board": board, "board-file": board_file}
        for name, value in (of_ports | dataclasses.asdict(options)).items():
            if value is not None:
                raise typer.BadParameter(f"--{name.replace('_', '-')} is of ports, and {source} is a file")
        _watch_file(source, show, keep, baud, follow, raw, as_json=as_json)


def _watch_port(
    port: str,
    profile: BoardProfile,
    show: Show | None,
    keep: int,
    link: Path | None,
    reconnect: bool,
    baud: int | None,
    options: PortOptions,
    *,
    as_json: bool,
) -> None:
    from microrpc.cli.monitor.source import open_line

    def make(taps: list[CaptureWriter], on_news: Callable[[str], None]) -> Through:
        from microrpc.gateway.through import Through

        return Through(
            port, taps, board=profile, baud=baud, options=options, link=link, reconnect=reconnect, on_news=on_news
        )

    source, through = open_line(make, (lambda text: note(f"{port}: {text}")) if show is None else None)
    with contextlib.closing(source):
        if show is not None:
            title = f"{through.port} @ {through.baud}, a program opens {through.path}"
            show(source, title, keep=keep, baud=through.baud, clock=time.time)
            _raise_end(source)
        else:
            note(f"{through.port} is at {through.path} until Ctrl-C")
            _print_live(source, as_json=as_json)


def _watch_file(
    name: str, show: Show | None, keep: int, baud: int | None, follow: bool, raw: Direction | None, *, as_json: bool
) -> None:
    from microrpc.cli.monitor.source import STDIN, open_file

    stdin_fd = _take_stdin() if name == STDIN and show is not None else 0
    is_live = follow or not os.path.isfile(name)
    raw_to_board = None if raw is None else raw is Direction.TO_BOARD
    source = open_file(name, follows=follow, raw_to_board=raw_to_board, stdin_fd=stdin_fd)
    with contextlib.closing(source):
        if show is None:
            if is_live:
                _print_live(source, as_json=as_json)
            else:
                _print(source, as_json=as_json)
            return
        if not is_live and source.feed.wait(_FIRST_S):
            _raise_end(source)  # one that is no capture at all needs no screen
        show(source, "stdin" if name == STDIN else name, keep=keep, baud=baud, clock=time.time if is_live else None)
        _raise_end(source)


def _raise_end(source: Source) -> None:
    """Raise the error, if any, that ended it."""
    if isinstance(source.feed.end, BaseException):
        raise source.feed.end


def _screen() -> Show | None:
    """Give what shows it all on a terminal; None where there is none, or what it takes is missing."""
    if not (is_terminal(sys.stdout) and is_terminal(sys.stderr)):  # textual writes to both
        return None
    if importlib.util.find_spec("textual") is None:
        note(_EXTRA)
        return None
    from microrpc.cli.monitor.alone import show

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


def _print_live(source: Source, *, as_json: bool) -> None:
    """Print what comes until it ends, or a signal does."""
    try:
        with until_signal():
            _print(source, as_json=as_json)
    except StoppedError:
        if unshown := source.end():
            note(f"{unshown} packets came that were not printed any more")


def _print(source: Source, *, as_json: bool) -> None:
    """Print a line for each frame, as `microrpc decode` does."""
    from microrpc.capture.rows import NOTE
    from microrpc.capture.watching import RowReader
    from microrpc.cli.monitor.feed import packets_of

    reader = RowReader()
    start_ns: int | None = None
    for packet in packets_of(source.feed):
        start_ns = packet.time_ns if start_ns is None else start_ns
        records = [row.record for row in reader.read(packet) if row.kind != NOTE]
        if as_json:
            print_records_json(packet, records, packet.comments)
        else:
            print_records(records, packet.comments, (packet.time_ns - start_ns) / 1e9)
        if left_out := source.take_left_out():
            note(f"{counted(left_out, 'packet')} came too fast to be printed: left out")
