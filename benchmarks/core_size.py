"""How large the core of the device library is on a Cortex-M3, without what is the program's own or the compiler's."""

from __future__ import annotations

from typing import NamedTuple

from microrpc.firmware.build import Compiler, build
from microrpc.firmware.project import firmware_directory, read_project


class CoreSize(NamedTuple):
    flash_bytes: int
    ram_bytes: int
    """Besides receive buffer and heap."""
    compiler: str


def core_size(*, link: bool, compiler: Compiler = Compiler.ZIG) -> CoreSize:
    """Build it with the least program around it. Raises FirmwareError."""
    from elftools.elf.elffile import ELFFile  # in the extra dev; nothing else here needs it

    root = firmware_directory()
    project = read_project(root / "tests/size/port.toml", root, "size")
    firmware = build(project, compiler=compiler, defines=[f"MICRORPC_LINK={link:d}"])
    with firmware.elf.open("rb") as file:
        sizes = {section.name: section["sh_size"] for section in ELFFile(file).iter_sections()}
    return CoreSize(sizes[".core_flash"], sizes[".core_ram"], firmware.compiler)
