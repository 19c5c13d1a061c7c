"""What every command that opens a board can tell of it: --capture, --trace, --verbose (docs/capture.md)."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TextIO, get_type_hints

import typer

from microrpc.boards.files import WriteError, check_writable
from microrpc.cli.capturing import capturing
from microrpc.cli.common import explaining
from microrpc.cli.streams import note
from microrpc.errors import printable, reason_of

ON_STDERR = "-"
"""The FILE of --trace that it has where none is given."""

_TRACE = "--trace"
_HINTS: dict[str, Any] = {
    "capture": Annotated[
        Path | None,
        typer.Option(
            "--capture", metavar="FILE", help="Write all that crosses the line to FILE, for Wireshark and `decode`."
        ),
    ],
    "trace": Annotated[
        str | None, typer.Option(_TRACE, metavar="[=FILE]", help="Show each frame in words, on stderr or in FILE.")
    ],
    "verbose": Annotated[bool, typer.Option("--verbose", "-v", help="Say what is done, on stderr.")],
}
_DEFAULTS = {"capture": None, "trace": None, "verbose": False}


def with_trace_values(args: Sequence[str]) -> list[str]:
    """Give a command line in which a bare --trace says where to: it never takes what follows it for a file."""
    end = args.index("--") if "--" in args else len(args)
    return [f"{_TRACE}={ON_STDERR}" if arg == _TRACE else arg for arg in args[:end]] + list(args[end:])


def with_telling(
    command: Callable[..., None], *, takes_dashes: bool = False, captures: bool = True
) -> Callable[..., None]:
    """Give a command with these options besides its own; a `verbose` of its own means more there.

    takes_dashes: its arguments may look like options, so that -v is one in front of them alone. captures: False for one
    that writes a capture anyhow.
    """
    added = dict(_HINTS)
    if not captures:
        del added["capture"]
    if takes_dashes:
        text = "Say what is done, on stderr; in front of NAME also -v."
        added["verbose"] = Annotated[bool, typer.Option("--verbose", help=text)]
    own_verbose = "verbose" in inspect.signature(command).parameters
    if own_verbose:
        del added["verbose"]

    def run(*, capture: Path | None = None, trace: str | None, verbose: bool, **values: Any) -> None:
        as_json = values.get("as_json", False)
        with explaining(as_json=as_json), _apart(trace, capture), _tracing(trace), _saying(verbose), capturing(capture):
            command(**values, **({"verbose": verbose} if own_verbose else {}))

    return extended(command, run, added, _DEFAULTS)


def extended(
    command: Callable[..., None],
    run: Callable[..., None],
    added: Mapping[str, Any],
    defaults: Mapping[str, Any],
    *,
    without: str = "",
) -> Callable[..., None]:
    """Give `run` as typer is to read it: with the parameters of `command` but for `without`, and those of `added`."""

    @functools.wraps(command)
    def runs(**values: Any) -> None:
        run(**values)

    hints = {name: hint for name, hint in get_type_hints(command, include_extras=True).items() if name != without}
    runs.__annotations__ = {**hints, **added}
    kept = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(command).parameters.items()
        if name != without
    ]
    new = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=hint)
        for name, hint in added.items()
    ]
    runs.__signature__ = inspect.Signature([*kept, *new])  # type: ignore[attr-defined]  # what inspect looks for
    return runs


@contextlib.contextmanager
def _apart(trace: str | None, capture: Path | None) -> Iterator[None]:
    """Raise typer.BadParameter for one file that is to be both."""
    if trace not in (None, ON_STDERR) and capture is not None and _is_same(Path(trace), capture):
        raise typer.BadParameter(f"{_TRACE}={trace} and --capture {capture}: it cannot be both")
    yield


def _is_same(one: Path, other: Path) -> bool:
    if one.resolve() == other.resolve():
        return True
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there yet
        return False


@contextlib.contextmanager
def _tracing(target: str | None) -> Iterator[None]:
    """Show what the logger "microrpc.wire" says."""
    if target is None:
        yield
    elif target == ON_STDERR:
        with _listening("microrpc.wire", _Lines(note), logging.DEBUG):
            yield
    else:
        path = Path(target)
        try:
            check_writable(path)
            file = path.open("w", encoding="utf-8", buffering=1)
        except WriteError as error:
            raise WriteError(f"{_TRACE}: {error}") from error
        except OSError as error:
            raise WriteError(f"{_TRACE}: cannot write {path}: {reason_of(error)}") from error
        try:
            with _listening("microrpc.wire", _Lines(functools.partial(_write_line, file)), logging.DEBUG):
                yield
        finally:
            with contextlib.suppress(OSError):  # that was told
                file.close()


@contextlib.contextmanager
def _saying(is_wanted: bool) -> Iterator[None]:
    """Show what is done: which port, session, and what became of it."""
    if not is_wanted:
        yield
        return
    handler = _Lines(note)
    handler.setLevel(logging.INFO)
    handler.addFilter(_is_news)
    with _listening("microrpc", handler, logging.INFO):
        yield


def _is_news(record: logging.LogRecord) -> bool:
    """Whether nobody else of a command shows it: what boards log, and what is built, is shown in any case."""
    return not hasattr(record, "board_text") and record.name not in ("microrpc.firmware", "microrpc.wire")


class _Lines(logging.Handler):
    """Gives each record to a function, until that cannot take it."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write: Callable[[str], None] | None = write

    def emit(self, record: logging.LogRecord) -> None:
        if self._write is None:
            return
        try:
            self._write(record.getMessage())
        except OSError as error:
            self._write = None
            note(f"warning: {_TRACE}: it ends here: {reason_of(error)}")


def _write_line(file: TextIO, text: str) -> None:
    file.write(f"{printable(text)}\n")


@contextlib.contextmanager
def _listening(name: str, handler: logging.Handler, level: int) -> Iterator[None]:
    log = logging.getLogger(name)
    before = log.level
    log.addHandler(handler)
    log.setLevel(level)
    try:
        yield
    finally:
        log.setLevel(before)
        log.removeHandler(handler)
