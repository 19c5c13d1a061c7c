"""Inputs of a model as they are written on the command line, and data sets in files (docs/using_models.md).

    x.npy  @x.npy  NAME=x.npy   a file             [[1, 2.5]]  NAME=[[1, 2.5]]   numbers, as JSON has them
    tensor:float32[1,4]         zeros

Reading them opens no port, so a mistake costs nothing.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from microrpc.cli.literals import Array, load_npy, parse_literal, read_array
from microrpc.errors import UnsupportedValueError, reason_of
from microrpc.wire.checks import show

_NPY = ".npy"
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError)


def parse_inputs(texts: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Give the inputs that were written, those without a name and those with one. Raises typer.BadParameter."""
    given: list[Any] = []
    named: dict[str, Any] = {}
    for text in texts:
        name, value = split_name(text)
        data = _parse_input(value)
        if not name:
            given.append(data)
        elif name in named:
            raise typer.BadParameter(f"--input {name}=: it is given twice")
        else:
            named[name] = data
    return given, named


def split_name(text: str) -> tuple[str, str]:
    """Give the name before a `=`, "" where there is none, and what is behind it."""
    name, equals, value = text.partition("=")
    return (name, value) if equals and not name.startswith(("@", "[")) else ("", text)


def _parse_input(text: str) -> Any:
    if text.startswith("@"):
        return _read_npy(Path(text[1:]))
    if text.endswith(_NPY):
        return _read_npy(Path(text))
    if text.startswith("tensor:"):
        return parse_literal(text)
    try:
        return _numbers(json.loads(text))
    except (ValueError, RecursionError):
        raise typer.BadParameter(
            f"{show(text)} is no input of a model: write FILE.npy, [[1, 2.5]] or tensor:float32[1,4], with NAME= "
            f"before it where there are several"
        ) from None


def _numbers(value: Any) -> Any:
    """Give what JSON had, where it is numbers and lists of them. Raises ValueError."""
    if isinstance(value, list):
        return [_numbers(element) for element in value]
    if not isinstance(value, int | float):
        raise ValueError
    return value


def _read_npy(path: Path) -> Array:
    if path.suffix != _NPY:
        raise typer.BadParameter(f"{path}: an input is a .npy file, which knows its data type and shape")
    return read_array(path)


def read_arrays(path: Path) -> dict[str, Array]:
    """Read all arrays of a .npz file, by their names. Raises typer.BadParameter where it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {}
            for member in archive.infolist():
                if not member.filename.endswith(_NPY):
                    raise ValueError(f"{show(member.filename)} in it is no array")
                with archive.open(member) as file:
                    arrays[member.filename.removesuffix(_NPY)] = load_npy(file, member.file_size)
            return arrays
    except OSError as error:
        raise typer.BadParameter(f"cannot read {path}: {reason_of(error)}") from error
    except UnsupportedValueError as error:
        raise typer.BadParameter(f"{path}: {error}") from None
    except (*_ZIP_ERRORS, RuntimeError) as error:  # RuntimeError: it wants a password
        raise typer.BadParameter(f"{path} is not a .npz file that numpy reads: {error}") from None
    except MemoryError:
        raise typer.BadParameter(f"{path} is larger than the memory that there is") from None


def pick(arrays: dict[str, Array], names: Sequence[str], word: str, path: Path) -> dict[str, Array]:
    """Give the arrays of a .npz file for the tensors called `names`: those of their names, or the one called `word`.

    Raises typer.BadParameter.
    """
    if len(names) == 1 and word in arrays:
        return {names[0]: arrays[word]}
    missing = [name for name in names if name not in arrays]
    if missing:
        there = ", ".join(map(show, arrays)) or "nothing"
        either = f", or {word!r}" if len(names) == 1 else ""
        raise typer.BadParameter(f"{path} has {there}, and no {', '.join(map(show, missing))}{either}")
    return {name: arrays[name] for name in names}
