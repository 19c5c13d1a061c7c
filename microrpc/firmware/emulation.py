"""What runs a board: looked for, with one error for all that is missing; and the command that starts it."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil

from microrpc.errors import FirmwareError, PortNotFoundError
from microrpc.firmware import build as building
from microrpc.firmware.images import ImageFormat
from microrpc.firmware.programs import kept_image
from microrpc.firmware.project import FILE_NAME, Emulation, Project, read_project
from microrpc.firmware.running import run

_INSTALL = "apt-get install --no-install-recommends"
_ASK_S = 60.0  # for the answer of a compiler that is asked where a library is


def emulation_of(project: Project) -> Emulation:
    """Give what runs it. Raises FirmwareError where nothing here does."""
    if project.emulation is None:
        raise FirmwareError(
            f"{project.name} cannot be run here, for {project.file} names no [emulator]: "
            "`microrpc firmware flash` puts it on a board"
        )
    return project.emulation


def npm_directory() -> pathlib.Path:
    """Where packages of npm are looked for, `~/.cache/microrpc/npm` on Linux; it need not exist."""
    return building.cache_directory().parent / "npm"


def check_emulation(name: str, emulation: Emulation) -> None:
    """See that all is there that runs the board `name`; raises PortNotFoundError, which says what to install."""
    missing = [*_missing_programs(emulation), *_missing_libraries(name, emulation), *_missing_npm(emulation)]
    if missing:
        raise PortNotFoundError(name, f"{name} runs in " + "; and in ".join(missing))


def emulator_command(name: str, elf: pathlib.Path, emulation: Emulation) -> list[str]:
    """Give the command that runs the firmware in `elf`: with the board's UART on its standard streams, or a program.

    It is for the directory `emulation.root`, where there is one. An emulator of ours is built here, and other forms of
    the firmware are made. Raises PortNotFoundError and FirmwareError.
    """
    check_emulation(name, emulation)
    if emulation.root is not None:
        elf = elf.absolute()
    arguments = [_fill(argument, elf, emulation) for argument in emulation.args]
    if emulation.is_this_computer:
        return [str(elf), *arguments]
    if emulation.project:
        program = str(building.build(_own_project(name, emulation), compiler=building.Compiler.GCC).elf)
    else:
        program = _find_program(emulation) or emulation.program
    if not emulation.machine:
        return [program, *arguments]
    line = ("-chardev", "stdio,id=line,signal=off", "-serial", "chardev:line")
    return [
        *(program, "-machine", emulation.machine, "-display", "none", "-monitor", "none"),
        *(*arguments, *line, "-kernel", str(elf)),  # in the arguments may be the serial ports before that of the line
    ]


# --- what is missing --------------------------------------------------------------------------


def _missing_programs(emulation: Emulation) -> list[str]:
    program = emulation.program
    if not program or _find_program(emulation) is not None:
        return []
    if os.path.dirname(program):
        return [f"{program}, and there is no such program that can be run in {emulation.root or os.getcwd()}"]
    package = emulation.package or program
    if emulation.npm and shutil.which("npm") is None and "npm" not in package.split():
        package += " npm"
    return [f"{program}, which is not installed: {_INSTALL} {package}"]


def _find_program(emulation: Emulation) -> str | None:
    """Find a program in the path; one of the project's own, with a folder in front, from where it runs."""
    program = emulation.program
    if os.path.dirname(program) and emulation.root is not None:
        program = str(emulation.root / program)
    return shutil.which(program)


def _missing_npm(emulation: Emulation) -> list[str]:
    missing = [package for package in emulation.npm if not _has_npm(package)]
    if not missing:
        return []
    what = " and ".join(missing)
    return [f"{what} of npm, not installed: npm install --prefix {npm_directory()} {' '.join(missing)}"]


def _has_npm(package: str) -> bool:
    name, _, version = package.rpartition("@")
    try:
        text = (npm_directory() / "node_modules" / name / "package.json").read_text(encoding="utf-8")
        return bool(json.loads(text)["version"] == version)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _missing_libraries(name: str, emulation: Emulation) -> list[str]:
    """Tell whether the compiler, and the libraries, of an emulator of ours are missing."""
    if not emulation.project:
        return []
    project = _own_project(name, emulation)
    install = f"{_INSTALL} {emulation.package}" if emulation.package else "install what it is built with"
    try:
        (gcc,) = building.find_compiler(project, building.Compiler.GCC).command
    except FirmwareError as error:
        return [f"{emulation.project}, which cannot be built: {error}" + f" {emulation.package}".rstrip()]
    missing = [library for library in project.libraries if not _has_library(gcc, library)]
    return [f"{emulation.project}, which needs lib{', lib'.join(missing)}: {install}"] if missing else []


def _has_library(gcc: str, library: str) -> bool:
    """Whether the compiler finds a library: then it gives its path, else its bare name."""
    names = (f"lib{library}.so", f"lib{library}.a", f"lib{library}.dylib")
    return any(run([gcc, f"-print-file-name={name}"], None, _ASK_S).stdout.strip() not in ("", name) for name in names)


def _own_project(name: str, emulation: Emulation) -> Project:
    """Give the emulator of ours as what is built."""
    root = emulation.root or pathlib.Path()
    folder = root / emulation.project
    if not (folder / FILE_NAME).is_file():
        raise FirmwareError(f"{name} runs in {emulation.project}: there is no {folder / FILE_NAME}")
    return read_project(folder / FILE_NAME, root, folder.name)


# --- arguments --------------------------------------------------------------------------------


def _fill(argument: str, elf: pathlib.Path, emulation: Emulation) -> str:
    """Put files in the places of an argument."""
    return re.sub(r"\{(\w+)\}", lambda found: _file(found[1], elf, emulation), argument)


def _file(place: str, elf: pathlib.Path, emulation: Emulation) -> str:
    if place == "npm":
        return str(npm_directory())
    if place in ("elf", "script"):
        return str(elf)
    return str(kept_image(elf, ImageFormat(place), emulation.uf2_family))
