"""What the boards that a command opens are captured to: `--capture FILE`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from microrpc.boards.files import is_own_output

if TYPE_CHECKING:
    from microrpc.capture.file import CaptureFile

_CAPTURE: ContextVar[CaptureFile | None] = ContextVar("_CAPTURE", default=None)


def capture() -> CaptureFile | None:
    """Give what the boards that this command opens are captured to, if they are."""
    return _CAPTURE.get()


@contextlib.contextmanager
def capturing(path: Path | None) -> Iterator[None]:
    """Have the file open before any board is. Raises CaptureError, and typer.BadParameter for what is printed to."""
    if path is None:
        yield
        return
    if str(path) == "-" or is_own_output(path):
        raise typer.BadParameter(f"--capture {path}: what this command prints goes there; name a file, or >(PROGRAM)")
    from microrpc.capture.file import CaptureFile

    with CaptureFile(path) as file:
        token = _CAPTURE.set(file)
        try:
            yield
        finally:
            _CAPTURE.reset(token)
