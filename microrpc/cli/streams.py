"""What the command line prints to: a stream may be closed, full, gone, or know few characters."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import textwrap
from collections.abc import Iterator
from typing import TextIO

from microrpc.errors import printable, reason_of


class OutputError(Exception):
    """What was to be printed cannot be; the text says why."""


class ReaderGoneError(OutputError):
    """Whoever read the output has gone: nothing is left to be said."""


def prepare() -> None:
    """Make streams of the three of this process that can be printed to, or tell why not."""
    for name, flags in (("stdin", os.O_RDONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY)):
        stream = getattr(sys, name)
        if stream is None:
            # It was closed, and a port would get its number. Nobody misses stderr; of stdout the system says that it
            # cannot be written.
            mode = "r" if name == "stdin" else "w"
            stream = open(os.open(os.devnull, flags), mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
        if name != "stdin" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # what its encoding does not have


def settle() -> None:
    """Give up what cannot be printed any more: Python would try once again at the end, and complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Raise OutputError where stdout cannot be written."""
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGoneError from error
    except OSError as error:
        raise OutputError(f"cannot write to stdout: {reason_of(error)}") from error


def knows_unicode(stream: TextIO) -> bool:
    """Whether `stream` can say every character."""
    return (stream.encoding or "").lower().replace("-", "") == "utf8"


def say(text: str = "") -> None:
    """Print a line to stdout; a terminal is shown escapes for control characters. Raises OutputError."""
    with printing():
        print(printable(text, keep="\n\t") if sys.stdout.isatty() else text, flush=True)


def note(text: str) -> None:
    """Print a line to stderr, with escapes for control characters, if it can be."""
    with contextlib.suppress(OSError):
        print(printable(text, keep="\n\t"), file=sys.stderr, flush=True)


def note_log(text: str) -> None:
    """Print what a board logs to stderr."""
    for line in text.removesuffix("\n").split("\n"):
        note(f"board: {printable(line.removesuffix(chr(13)))}")


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())


@contextlib.contextmanager
def noting_builds() -> Iterator[None]:
    """Say on stderr when firmware is built: it can take seconds."""
    log, notes = logging.getLogger("microrpc.firmware"), _Notes()
    level = log.level
    log.addHandler(notes)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(notes)


def folded(line: str, columns: int, indent: int, *, first_indent: int = 0) -> str:
    """Give the lines that `line` takes: it goes on at a column, less far to the right where that leaves no room."""
    indent = indent if indent <= columns * 2 // 3 else columns // 6
    wrapper = textwrap.TextWrapper(columns, initial_indent=" " * first_indent, subsequent_indent=" " * indent)
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return wrapper.fill(line)
