"""What the commands share: options, opening a board, errors as one message and an exit code, output."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import io
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microrpc import errors
from microrpc.boards.files import WriteError, check_writable, is_own_output
from microrpc.cli import completing
from microrpc.cli.capturing import capture
from microrpc.cli.signals import StoppedError, until_signal
from microrpc.cli.streams import OutputError, ReaderGoneError, folded, knows_unicode, note, note_log, noting_builds, say
from microrpc.errors import BoardError, MicroRpcError, PortError, RemoteError, printable, reason_of
from microrpc.ports.options import AS_THE_SYSTEM_DOES, PortOptions

if TYPE_CHECKING:
    from microrpc.boards.schema import BoardProfile
    from microrpc.client.board import Board
    from microrpc.wire.session import Timeouts


_LONGEST_TIMEOUT_S = 86400.0
_NO_THREAD = "can't start new thread"  # what Python says where there is no memory for its stack
_OF_FILES = (errors.CaptureError, errors.FaultsError, errors.FirmwareError, errors.ProfileError)
_UsageError: Any = typer.BadParameter.__base__  # all that can be wrong with a command line; it has no public name


class ExitCode(enum.IntEnum):
    """What a command ends with; docs/errors.md has the errors that lead to each."""

    OK = 0
    DIFFERS = 1
    USAGE = 2
    PORT = 3
    BOARD = 4
    REQUEST = 5
    OUTPUT = 6
    INTERRUPTED = 130
    READER_GONE = 141


EXIT_CODES = """\b
Exit codes:
    0  done
    1  something differed, or the board answered with an error
    2  wrong usage
    3  the port cannot be opened, or was lost
    4  the board did not answer, was reset, or its answer was damaged
    5  the request cannot be made: no such function, too large, ...
    6  a file or the output cannot be read or written, or memory is full here
  130  interrupted; 143 and 129: ended by SIGTERM, SIGHUP (what goes on
       until then, as sim, share, log and events do, is done: 0)
  141  whoever read the output has gone"""
"""What `--help` says of them."""

# --- options --------------------------------------------------------------------------------------

PortArgument = Annotated[
    str,
    typer.Argument(
        metavar="PORT",
        show_default=False,
        autocompletion=completing.ports,
        help="/dev/ttyACM0, COM3, sim://, qemu://NAME, ...",
    ),
]
"""A port."""
OptionalPortArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="PORT",
        show_default=False,
        autocompletion=completing.ports,
        help="/dev/ttyACM0, COM3, ...; without it, where --board is plugged in.",
    ),
]
"""A port, or none: the board is then looked for."""
BoardOption = Annotated[
    str | None,
    typer.Option(
        "--board",
        metavar="NAME",
        autocompletion=completing.boards,
        help="Board profile (`microrpc boards` lists them). [default: loopback]",
    ),
]
"""--board"""
BoardFileOption = Annotated[
    Path | None,
    typer.Option("--board-file", metavar="FILE", help="Board profile of your own, a .toml file."),
]
"""--board-file"""
BaudOption = Annotated[
    int | None,
    typer.Option("--baud", metavar="N", min=1, help="Bits a second. [default: the profile's]"),
]
"""--baud"""
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout", metavar="S", help="Seconds to wait for a session, and for a reply. [default: the profile's]"
    ),
]
"""--timeout"""
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
"""--json"""
JsonLinesOption = Annotated[bool, typer.Option("--json", help="Print one JSON object a line instead of text.")]
"""--json, of what goes on"""


def examples(*lines: str) -> str:
    """Give an epilog that shows how a command is used."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


# --- errors ---------------------------------------------------------------------------------------


def exit_code(error: MicroRpcError) -> ExitCode:
    """Give the exit code for an error, by its family; where a file is what cannot be read or written, that is it."""
    if isinstance(error, _OF_FILES) and isinstance(error.__cause__, OSError):
        return ExitCode.OUTPUT
    if isinstance(error, RemoteError):
        return ExitCode.DIFFERS
    if isinstance(error, PortError):
        return ExitCode.PORT
    if isinstance(error, BoardError):
        return ExitCode.BOARD
    return ExitCode.REQUEST


@contextlib.contextmanager
def explaining(*, as_json: bool = False) -> Iterator[None]:
    """Turn what goes wrong into one message, if any, and typer.Exit with an exit code."""
    code: int = ExitCode.OUTPUT
    kind = message = shown = ""
    try:
        yield
        return
    except MicroRpcError as error:
        notes = (printable(note) for note in getattr(error, "__notes__", ()))
        code, kind, message = exit_code(error), type(error).__name__, "; ".join((str(error), *notes))
    except _UsageError as error:
        is_of_file = isinstance(error.__cause__, OSError)
        code = ExitCode.OUTPUT if is_of_file else ExitCode.USAGE
        kind, message = type(error.__cause__).__name__ if is_of_file else "UsageError", error.message
        if error.ctx is not None:  # typer's own: it tells how the command is used
            message, shown = error.format_message(), _as_typer_shows(error)
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except StoppedError as stopped:
        code = 128 + stopped.number  # as shells count it: 130 for Ctrl-C
    except ReaderGoneError:
        code = ExitCode.READER_GONE
    except OutputError as error:
        message = str(error)
    except WriteError as error:
        if isinstance(error.__cause__, BrokenPipeError):
            code = ExitCode.READER_GONE
        else:
            kind, message = "WriteError", str(error)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and str(error) != _NO_THREAD:
            raise
        kind, message = "MemoryError", f"this computer's memory does not suffice{f': {error}' if str(error) else ''}"
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        kind, message = type(error).__name__, f"{where}{reason_of(error)}"
    if message:
        _report(kind, message, shown or f"error: {message}", as_json=as_json)
    raise typer.Exit(code) from None


@contextlib.contextmanager
def reporting(*, as_json: bool = False) -> Iterator[None]:
    """Run what a command does: builds are told of, and what goes wrong is one message and an exit code."""
    with explaining(as_json=as_json), contextlib.nullcontext() if as_json else noting_builds():
        yield


def is_json_wanted(args: Sequence[str]) -> bool:
    """Whether a command line asks for JSON, as far as can be told without reading it: it may be wrong."""
    return "--json" in itertools.takewhile(lambda arg: arg != "--", args)


def _as_typer_shows(error: Any) -> str:
    text = io.StringIO()
    error.show(text)
    return text.getvalue().rstrip("\n")


def _report(kind: str, message: str, shown: str, *, as_json: bool) -> None:
    if as_json and kind:
        with contextlib.suppress(OutputError):
            print_json({"error": {"type": kind, "message": message}})
            return
    note(shown)


def check_file(path: Path, *, as_json: bool) -> bool:
    """Find out before the work whether what comes of it can be written; tell whether that is what is printed to.

    Raises WriteError, and typer.BadParameter where JSON would be mixed with it.
    """
    check_writable(path)
    is_stdout = is_own_output(path)
    if is_stdout and as_json:
        raise typer.BadParameter(f"{path} is what --json prints to: leave one of them out")
    return is_stdout


# --- output ---------------------------------------------------------------------------------------


def is_terminal(stream: Any) -> bool:
    """Whether a person looks at `stream`, on something that can show more than plain text."""
    return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"


def print_json(value: Any) -> None:
    """Print a value as JSON, indented for a person and in one line for a program."""
    _print_json(value, 2 if is_terminal(sys.stdout) else None)


def print_json_line(value: Any) -> None:
    """Print a value as JSON in one line: one of many."""
    _print_json(value, None)


def _print_json(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=not knows_unicode(sys.stdout), allow_nan=False)
    if sys.stdout.isatty():  # what `say` would escape as Python does is escaped as JSON does
        text = "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)
    say(text)


def say_pairs(pairs: Sequence[tuple[str, str]], *, say: Callable[[str], None] = say) -> None:
    """Print names and values in two columns. What a terminal has no room for goes on below, in the second one."""
    width = max(len(name) for name, _ in pairs)
    columns = terminal_columns()
    for name, value in pairs:
        line = f"{name:<{width}}  {value}"
        say(line if columns is None else folded(line, columns, width + 2))


def terminal_columns() -> int | None:
    """Give how wide the terminal is; None where nobody looks at what is printed."""
    return shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None


def say_columns(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in aligned columns."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        say("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def format_size(size_bytes: float) -> str:
    """Give a number of bytes with a fitting unit, 1 kB being 1000 bytes."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g} GB"


def format_time(seconds: float) -> str:
    """Give a time with a fitting unit."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


# --- boards ---------------------------------------------------------------------------------------


def find_profile(board: str | None, port: str | None = None, board_file: Path | None = None) -> BoardProfile:
    """Give the profile called `board`, or the one in `board_file`; else the one that a URL such as sim://NAME names.

    Raises ProfileError.
    """
    from microrpc.boards.catalogue import load_profile, profile
    from microrpc.connecting.address import DEFAULT_PROFILE, named_board

    if board_file is not None:
        if board is not None:
            raise typer.BadParameter("--board and --board-file: give one of them")
        return load_profile(board_file)
    if board is not None and board.endswith(".toml"):
        raise typer.BadParameter(f"--board {board}: takes a name; a file is given with --board-file")
    return profile(board or named_board(port or "") or DEFAULT_PROFILE)


def find_board_port(port: str | None, board: str | None, board_file: Path | None) -> tuple[str, BoardProfile]:
    """Give the port and the profile; where no port is named, the one that the board is plugged into.

    Raises ProfileError, and PortError where the port cannot be told.
    """
    from microrpc.connecting.address import find_target

    if port is None and board is None and board_file is None:
        raise typer.BadParameter("name a PORT (`microrpc ports` lists them), or the --board to look for")
    chosen = find_profile(board, port, board_file)
    return find_target(port, board=chosen, baud=None, timeouts=None).port, chosen


def timeouts_of(profile: BoardProfile, timeout_s: float | None) -> Timeouts:
    """Give how long is waited: what --timeout says for a session and for a call, and the profile for all else."""
    if timeout_s is None:
        return profile.timeouts
    if not 0 < timeout_s <= _LONGEST_TIMEOUT_S:
        raise typer.BadParameter(f"--timeout {timeout_s:g}: more than 0 seconds, and at most {_LONGEST_TIMEOUT_S:g}")
    return dataclasses.replace(profile.timeouts, start_s=timeout_s, call_s=timeout_s)


@contextlib.contextmanager
def open_board(
    port: str,
    board: str | None = None,
    board_file: Path | None = None,
    *,
    baud: int | None = None,
    timeout_s: float | None = None,
    options: PortOptions = AS_THE_SYSTEM_DOES,
    on_log: Callable[[str], None] | None = note_log,
) -> Iterator[Board]:
    """Open a board for a command; its log goes to stderr. After a signal it is closed within a second."""
    chosen = find_profile(board, port, board_file)
    with open_with(chosen, port, baud=baud, timeout_s=timeout_s, options=options, on_log=on_log) as opened:
        yield opened


@contextlib.contextmanager
def open_with(
    chosen: BoardProfile,
    port: str,
    *,
    baud: int | None = None,
    timeout_s: float | None = None,
    options: PortOptions = AS_THE_SYSTEM_DOES,
    on_log: Callable[[str], None] | None = note_log,
) -> Iterator[Board]:
    """Do as `open_board` does, with a profile that was found already."""
    from microrpc.client.pump import END_S
    from microrpc.connecting.blocking import connect

    timeouts = timeouts_of(chosen, timeout_s)
    with (
        until_signal(),
        connect(
            port,
            board=chosen,
            baud=baud,
            timeouts=timeouts,
            on_log=on_log,
            capture=capture(),
            **dataclasses.asdict(options),
        ) as opened,
    ):
        try:
            yield opened
        except StoppedError:
            opened.pump.close(within_s=END_S)
            raise
