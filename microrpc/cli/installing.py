"""Putting what other people's programs load of ours where they look for it."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Annotated

import typer

import microrpc.capture
from microrpc.boards.files import WriteError, replacing
from microrpc.errors import reason_of

PLUGINS = Path(microrpc.capture.__file__).parent / "plugins"
"""Where they are in the package: a folder for each program."""
RemovalOption = Annotated[bool, typer.Option("--uninstall", help="Take it away again.")]
"""--uninstall, of the commands that have --install."""


def files_of(source: Path) -> dict[str, bytes]:
    """Give what there is to install of `source`, a file or a folder: what is in each file, by its path within."""
    if source.is_file():
        return {source.name: source.read_bytes()}
    paths = sorted(path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(source).as_posix(): path.read_bytes() for path in paths}


def is_installed(source: Path, folder: Path) -> bool | None:
    """Whether all of `source` is in `folder` as it is here; None where nothing of it is there."""
    there = {name: _read(folder / name) for name in files_of(source)}
    return None if not any(text is not None for text in there.values()) else there == files_of(source)


def install(source: Path, folder: Path) -> str:
    """Put `source`, a file or what is in a folder, into `folder`; tell what that came to. Raises WriteError."""
    before = is_installed(source, folder)
    if before:
        return f"{folder} has it already, as it is in this version"
    for name, text in files_of(source).items():
        target = folder / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f"cannot make {target.parent}: {reason_of(error)}") from error
        with replacing(target) as file:
            file.write(text)
    return f"installed into {folder}" if before is None else f"installed into {folder}, in place of another version"


def uninstall(source: Path, folder: Path) -> str:
    """Take what `install` put there out of `folder`, and the folder too where that leaves it empty and it was ours.

    Gives what that came to. Raises WriteError.
    """
    if is_installed(source, folder) is None:
        return f"{folder} has none"
    for name in files_of(source):
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise WriteError(f"cannot remove {folder / name}: {reason_of(error)}") from error
    if source.is_dir():
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)  # of the program that ran it
        with contextlib.suppress(OSError):
            folder.rmdir()
    return f"removed from {folder}"


def state(source: Path, folder: Path, command: str) -> str:
    """Say whether `source` is in `folder`, and which `command` puts it there where it is not."""
    there = is_installed(source, folder)
    if there is None:
        return f"not installed; `{command}` puts it into {folder}"
    return f"installed in {folder}" if there else f"{folder} has another version; `{command}` replaces it"


def check_wishes(*, wants_install: bool, wants_removal: bool) -> None:
    """Raise typer.BadParameter where both are wanted."""
    if wants_install and wants_removal:
        raise typer.BadParameter("--install and --uninstall are two wishes: give one")


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
