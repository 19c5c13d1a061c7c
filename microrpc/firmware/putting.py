"""What is put into a board, from a project or from a file that was built: checked and chosen before it is built.

`microrpc firmware flash` and the pytest plugin go through here; `microrpc.firmware.flashing` does it.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable

from microrpc.boards.schema import BoardProfile
from microrpc.errors import FirmwareError
from microrpc.firmware.build import Firmware
from microrpc.firmware.flashing import Flashing, check_can_be_flashed, choose
from microrpc.firmware.programs import ELF, Program, check_project, is_program, read_program
from microrpc.firmware.project import Project, has_port, load_port, load_project
from microrpc.firmware.scripts import SCRIPT, copying

Source = pathlib.Path | Project
"""A file that somebody has built, or what is to be built."""


def find_source(where: str | pathlib.Path) -> Source:
    """Give the file that was built, or the project in that directory. Raises FirmwareError."""
    path = pathlib.Path(where)
    return path if is_program(path) else load_project(where)


def firmware_for(profile: BoardProfile, port: str | None = None) -> Project:
    """Give microrpc's own firmware for a board. Raises FirmwareError where there is none, or it cannot be flashed."""
    source = load_port(profile.name) if has_port(profile.name) else None
    if source is None or source.script is None:
        check_can_be_flashed(profile, port)
    if source is None:
        text = f"microrpc has no firmware for {profile.name}"
        raise FirmwareError(f"{text}: name a PROJECT, or a file .elf, .uf2, .hex or .bin that was built for it")
    return source


def choose_for(
    source: Source, profile: BoardProfile, port: str | None, *, chosen: Callable[..., Flashing] = choose
) -> Flashing:
    """Choose how `source` is put into a board, before it is built; `chosen` is `choose`, with more arguments of it.

    Raises FirmwareError, also for a project that was made for another board.
    """
    if isinstance(source, pathlib.Path):
        return chosen(profile, read_program(source, profile.uf2_family), port)
    if source.script is not None:
        script = source.root / source.script
        return chosen(profile, Program(script, SCRIPT), port, ways=[copying(script, port)])
    check_project(source, profile)
    return chosen(profile, Program(pathlib.Path("firmware.elf")), port)


def with_built(flashing: Flashing, built: Firmware) -> Flashing:
    """Give what puts into the board what was built since it was chosen."""
    project, family = built.project, flashing.profile.uf2_family
    if project.script is not None:
        return flashing
    return flashing.of(Program(built.elf, uf2_family=family if project.uf2_family is None else project.uf2_family))


def strange_names(program: Program, names: Iterable[str]) -> list[str]:
    """Give those `names` that a board which answers tells of itself, and that are not in the program.

    A tool may end with 0 and have done nothing. Only an ELF file has them as they are.
    """
    if program.form != ELF:
        return []
    content = program.file.read_bytes()
    return [name for name in names if name.encode() not in content]
