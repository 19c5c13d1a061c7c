"""The models of a project: `models.c` lists them, in the order of their numbers, for the port (docs/models.md 2).

Each is a `const microrpc_model_t` of its own C file, which whatever made it has written into the project.
"""

from __future__ import annotations

import hashlib
import pathlib
import re
from collections.abc import Mapping
from typing import Final

from microrpc.errors import FirmwareError, reason_of
from microrpc.firmware.project import FILE_NAME, read_project

LIST_FILE: Final = "models.c"
"""Of a project: the list of its models."""
MODELS_DEFINE: Final = "MICRORPC_MODELS"
"""What the library is built with, so that it serves them."""

_HEAD = "/* The models of this board, by their numbers; microrpc adds to this list. */"
_ENTRY = re.compile(r"^extern const microrpc_model_t model_(\w+);$", re.MULTILINE)
_DEFINITION = re.compile(r"\bboard_models\s*\[[^\]]*\]\s*=")
_DEFINES = re.compile(r"^defines[ \t]*=[ \t]*\[[ \t]*", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,47}")


def add_model(directory: pathlib.Path, name: str, files: Mapping[str, str]) -> int:
    """Put a model into the project in `directory`, or write it anew where it has one of that name; give its number.

    files: what is written, by their paths in the project; one of them defines `const microrpc_model_t model_NAME`.
    port.toml gets `MICRORPC_MODELS=1` where it says nothing of models. Raises FirmwareError, before anything is
    written where the name or the project is at fault.
    """
    check_model_name(name)
    port_file = _port_file_with_models(directory)
    names = listed_models(directory)
    if name not in names:
        names.append(name)
    try:
        for path, text in files.items():
            (directory / path).write_text(text, encoding="utf-8")
        (directory / LIST_FILE).write_text(_list(names), encoding="utf-8")
        if port_file is not None:
            (directory / FILE_NAME).write_text(port_file, encoding="utf-8")
    except OSError as error:
        raise FirmwareError(f"{directory}: cannot be written: {reason_of(error)}") from error
    return names.index(name)


def check_model_name(name: str) -> None:
    """Raise FirmwareError for what C cannot call a model."""
    if not _NAME.fullmatch(name):
        raise FirmwareError(
            f"a model cannot be called {name!r}: up to 48 letters, digits and _, and no digit at the beginning"
        )


def content_hash(*texts: str) -> int:
    """Give a hash of what a model is made of, for its table: 64 bits."""
    return int.from_bytes(hashlib.blake2b("\0".join(texts).encode(), digest_size=8).digest(), "little")


def listed_models(directory: pathlib.Path) -> list[str]:
    """Name the models of a project, by their numbers. Raises FirmwareError where another file of it lists them."""
    names: list[str] = []
    try:
        for path in filter(pathlib.Path.is_file, sorted(directory.glob("*.c"))):
            text = path.read_text(encoding="utf-8", errors="replace")
            if path.name == LIST_FILE and text.startswith(_HEAD):
                names = _ENTRY.findall(text)
            elif _DEFINITION.search(text):
                raise FirmwareError(
                    f"{path}: has a board_models of its own: take it out, or add the model there by hand"
                )
    except OSError as error:
        raise FirmwareError(f"{directory}: cannot be read: {reason_of(error)}") from error
    return names


def _port_file_with_models(directory: pathlib.Path) -> str | None:
    """Give the text of port.toml with MICRORPC_MODELS among its defines; None where it has it. Raises FirmwareError."""
    file = directory / FILE_NAME
    if not file.is_file():
        raise FirmwareError(f"{directory}: has no {FILE_NAME}: `microrpc firmware new` makes a directory that has")
    defines = read_project(file, directory, directory.name).defines
    for define in defines:
        if define.partition("=")[0] == MODELS_DEFINE:
            if define.partition("=")[2] == "0":
                raise FirmwareError(f"{file}: build.defines: {define} leaves models out: make it {MODELS_DEFINE}=1")
            return None
    text = file.read_text(encoding="utf-8")
    wanted = f'"{MODELS_DEFINE}=1"'
    if not defines and not _DEFINES.search(text):
        changed = text.replace("[build]\n", f"[build]\ndefines = [{wanted}]\n", 1)
    else:
        changed = _DEFINES.sub(f"defines = [{wanted}, ", text, count=1)
    if changed == text:
        raise FirmwareError(f"{file}: build.defines: add {wanted} to it")
    return changed


def _list(names: list[str]) -> str:
    lines = [_HEAD, '#include "functions.h"', ""]
    lines += [f"extern const microrpc_model_t model_{name};" for name in names]
    lines += ["", "const microrpc_model_t *const board_models[] = {"]
    lines += [f"    &model_{name}," for name in names]
    lines += ["};", "const size_t board_model_count = sizeof board_models / sizeof board_models[0];", ""]
    return "\n".join(lines)
