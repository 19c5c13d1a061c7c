"""Putting what other people's programs load of ours where they look for it."""

from __future__ import annotations

from pathlib import Path

import microrpc.capture
from microrpc.boards.files import WriteError, replacing
from microrpc.errors import reason_of

PLUGINS = Path(microrpc.capture.__file__).parent / "plugins"
"""Where they are in the package: a folder for each program."""


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


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
