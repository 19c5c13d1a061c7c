"""`microrpc log`: what a board says of its own accord, line by line."""

from __future__ import annotations

import contextlib
import enum
import logging
from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from microrpc.cli.common import (
    BaudOption,
    BoardFileOption,
    BoardOption,
    JsonLinesOption,
    OptionalPortArgument,
    find_board_port,
    open_board,
    print_json_line,
    reporting,
)
from microrpc.cli.port_options import with_port_options
from microrpc.cli.signals import StoppedError
from microrpc.cli.streams import note, say
from microrpc.errors import BoardError, RequestError, printable
from microrpc.ports.options import AS_THE_SYSTEM_DOES, PortOptions

_LISTEN_S = 1.0
_LOG, _TEXT = "microrpc.board", "microrpc.text"


class Level(enum.StrEnum):
    """Which lines are shown: those of this level, and above."""

    DEBUG = "debug"
    """What helps to find out what is wrong, and all else."""
    INFO = "info"
    """What goes on, lines without a level, and text beside frames."""
    WARNING = "warning"
    """What may be wrong."""
    ERROR = "error"
    """What is wrong."""


@with_port_options
def log(
    port: OptionalPortArgument = None,
    level: Annotated[Level, typer.Option("--level", help="Show lines of this level and above.")] = Level.DEBUG,
    board: BoardOption = None,
    board_file: BoardFileOption = None,
    baud: BaudOption = None,
    as_json: JsonLinesOption = False,
    options: PortOptions = AS_THE_SYSTEM_DOES,
) -> None:
    """Follow a board's log, and what it prints beside its frames.

    Until Ctrl-C. Each line has the board's time in seconds, its level and its text; a line without a level counts as
    info.
    """
    with reporting(as_json=as_json), contextlib.suppress(StoppedError):
        from microrpc.host.connection import Connection

        port, _ = find_board_port(port, board, board_file)
        with (
            _following(_print_json if as_json else _print, level),
            open_board(port, board, board_file, baud=baud, options=options, on_log=None) as opened,
        ):
            connection = opened.operations.connection
            if not isinstance(connection, Connection):
                raise RequestError(
                    f"{port} is a plain stream, over which no log comes: it is where the board's line is opened "
                    f"(`microrpc share` prints it on stderr)"
                )
            resets = 0
            while True:
                # A board that is in trouble may tell of it.
                try:
                    opened.pump.run(connection.listen, _LISTEN_S)
                except BoardError as error:
                    note(f"{error}; still listening")
                if opened.stats.resets > resets:
                    resets = opened.stats.resets
                    note(f"{port}: the board was reset")


class _Lines(logging.Handler):
    """Hands on what the loggers of boards are told, line by line."""

    def __init__(self, show: Callable[[logging.LogRecord, str], None]) -> None:
        super().__init__()
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        text = getattr(record, "board_text", None)
        if text is None:  # of the board, and not by it
            note(record.getMessage())
            return
        for line in text.removesuffix("\n").split("\n"):
            self._show(record, line.removesuffix("\r"))


@contextlib.contextmanager
def _following(show: Callable[[logging.LogRecord, str], None], level: Level) -> Iterator[None]:
    """Have `show` called with each line of at least this level: its record, and its text."""
    lines = _Lines(show)
    lines.setLevel(level.upper())
    loggers = [logging.getLogger(name) for name in (_LOG, _TEXT)]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.addHandler(lines)
    try:
        yield
    finally:
        for logger, was in zip(loggers, before, strict=True):
            logger.removeHandler(lines)
            logger.setLevel(was)


def _level_of(record: logging.LogRecord) -> str:
    return "text" if record.name == _TEXT else record.levelname.lower()


def _print(record: logging.LogRecord, text: str) -> None:
    time_us: int | None = record.board_time_us  # type: ignore[attr-defined]  # an extra one
    time = "-" if time_us is None else f"{time_us / 1e6:.6f}"
    say(f"{time:>11}  {_level_of(record):<7}  {printable(text, keep=chr(9))}".rstrip())


def _print_json(record: logging.LogRecord, text: str) -> None:
    time_us: int | None = record.board_time_us  # type: ignore[attr-defined]
    print_json_line({"board_time_us": time_us, "level": _level_of(record), "text": text})
