"""How large the core of the device library is on a Cortex-M3, without what is the program's own or the compiler's."""

from __future__ import annotations

from typing import Final, NamedTuple

from microrpc.firmware.build import Compiler, build
from microrpc.firmware.project import firmware_directory, read_project

_NO_LINK = "MICRORPC_LINK=0"
_NO_RELEASE_ALL = "MICRORPC_RELEASE_ALL=0"
_NO_OLD_TIME_EVALUATORS = "MICRORPC_OLD_TIME_EVALUATORS=0"
CORES: Final[dict[str, tuple[str, ...]]] = {
    "with the link": (),
    "without the link": (_NO_LINK,),
    f"without the link, `{_NO_RELEASE_ALL}`": (_NO_LINK, _NO_RELEASE_ALL),
    f"without the link, `{_NO_OLD_TIME_EVALUATORS}`": (_NO_LINK, _NO_OLD_TIME_EVALUATORS),
    "without the link, both 0": (_NO_LINK, _NO_RELEASE_ALL, _NO_OLD_TIME_EVALUATORS),
}
"""What may be left out of it, and the definitions that do so."""


class CoreSize(NamedTuple):
    flash_bytes: int
    ram_bytes: int
    """Besides receive buffer and heap."""
    compiler: str


def core_size(defines: tuple[str, ...], compiler: Compiler = Compiler.ZIG) -> CoreSize:
    """Build it with `defines`, and the least program around it. Raises FirmwareError."""
    from elftools.elf.elffile import ELFFile  # in the extra dev; nothing else here needs it

    root = firmware_directory()
    project = read_project(root / "tests/size/port.toml", root, "size")
    firmware = build(project, compiler=compiler, defines=defines)
    with firmware.elf.open("rb") as file:
        sizes = {section.name: section["sh_size"] for section in ELFFile(file).iter_sections()}
    return CoreSize(sizes[".core_flash"], sizes[".core_ram"], firmware.compiler)
