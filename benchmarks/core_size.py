"""How large the core of the device library is on a Cortex-M3, and what each part of it adds.

`python -m benchmarks.core_size` prints it, and with `--write` puts it into docs/firmware.md. The core is what is not
the program's own or the compiler's. A part's size is that of the core with it less that of the core without it.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import pathlib
import re
from typing import Final, NamedTuple

from microrpc.boards.catalogue import profiles
from microrpc.boards.files import replacing
from microrpc.boards.schema import BoardKind
from microrpc.firmware.build import Compiler, build
from microrpc.firmware.elf import Sizes
from microrpc.firmware.new import DEFINES
from microrpc.firmware.project import Gcc, firmware_directory, load_port, port_names, read_project

GUIDE: Final = pathlib.Path(__file__).parent.parent / "docs" / "firmware.md"
CORES: Final[dict[str, tuple[str, ...]]] = {
    "with the link": (),
    "without the link": ("MICRORPC_LINK=0",),
    "as `microrpc firmware new` has it": DEFINES,
}
"""Whole cores, and the definitions that make them."""
_NEEDS = {"MICRORPC_RELIABLE_EVENTS=1": ("MICRORPC_EVENTS=1",)}
_ROW = "the core alone on a Cortex-M3, {}"
_M0_ROW = "the core alone on a Cortex-M0, with the link"


class CoreSize(NamedTuple):
    flash_bytes: int
    ram_bytes: int
    """Besides receive buffer and heap."""
    compiler: str


@functools.cache
def core_size(defines: tuple[str, ...], compiler: Compiler = Compiler.ZIG, cpu: str = "cortex_m3") -> CoreSize:
    """Build it with `defines`, and the least program around it; `cpu` is zig's name of it. Raises FirmwareError."""
    from elftools.elf.elffile import ELFFile  # in the extra dev; nothing else here needs it

    root = firmware_directory()
    project = read_project(root / "tests/size/port.toml", root, f"size_{cpu}")
    gcc = Gcc("arm-none-eabi-", (f"-mcpu={cpu.replace('_', '-')}", "-mthumb"))
    project = dataclasses.replace(project, cpu=cpu, gcc=gcc)
    firmware = build(project, compiler=compiler, defines=defines)
    with firmware.elf.open("rb") as file:
        sizes = {section.name: section["sh_size"] for section in ELFFile(file).iter_sections()}
    return CoreSize(sizes[".core_flash"], sizes[".core_ram"], firmware.compiler)


# --- its parts --------------------------------------------------------------------------------


def flags() -> list[str]:
    """Give what the header says can be left out, as "NAME=0", and what can be switched on, as "NAME=1"."""
    header = (firmware_directory() / "include" / "microrpc_parts.h").read_text(encoding="utf-8")
    found = re.findall(r"^#ifndef (MICRORPC_\w+)\n#define \1 (1|MICRORPC_BY_DEFAULT|0)$", header, flags=re.MULTILINE)
    return [f"{name}={int(value != '1')}" for name, value in found]


def part_size(flag: str) -> CoreSize:
    """Give what the part takes that `flag` leaves out or switches on, beside the link and what the part needs."""
    needs = _NEEDS.get(flag, ())
    changed, usual = core_size((*needs, flag)), core_size(needs)
    sign = 1 if flag.endswith("=1") else -1
    flash_bytes, ram_bytes = (sign * (changed[index] - usual[index]) for index in range(2))
    return CoreSize(flash_bytes, ram_bytes, usual.compiler)


# --- the guide --------------------------------------------------------------------------------


def documented_ports() -> dict[str, bool]:
    """Name the ports that have a row, and tell whether they are run here: an image that two boards have is one row."""
    boards, ports = profiles(), map(load_port, port_names())
    kept = (port for port in ports if port.emulation is None or boards[port.name].kind is BoardKind.EMULATED)
    return {port.name: port.emulation is not None for port in kept}


def rows() -> dict[str, tuple[int, int]]:
    """Give all rows of the guide's tables that have sizes, with flash and RAM in bytes."""
    found: dict[str, tuple[int, int]] = {}
    for project in map(load_port, documented_ports()):
        if project.script is None:
            found[f"`{project.name}`"] = _sizes(build(project).sizes)
    for core, defines in CORES.items():
        found[_ROW.format(core)] = core_size(defines)[:2]
    found[_M0_ROW] = core_size((), cpu="cortex_m0")[:2]
    for flag in flags():
        found[f"`{flag}`"] = part_size(flag)[:2]
    return found


def _sizes(sizes: Sizes) -> tuple[int, int]:
    return sizes.flash_bytes, sizes.ram_bytes


def written(guide: str) -> str:
    """Give the text of the guide with today's sizes. Raises ValueError where it has no row for one."""
    for row, (flash_bytes, ram_bytes) in rows().items():
        pattern = rf"^\| {re.escape(row)} \| -?[\d,]+ \| -?[\d,]+ \|"
        guide, count = re.subn(pattern, f"| {row} | {flash_bytes:,} | {ram_bytes:,} |", guide, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"{GUIDE.name} has {count} rows | {row} | flash | RAM |, and wants 1")
    for board in re.findall(r"^\$ microrpc firmware build (\w+)\nboard ", guide, flags=re.MULTILINE):
        sizes = build(load_port(board)).sizes
        flash = f"flash     {sizes.flash_bytes} bytes: {sizes.code_bytes} of code, {sizes.data_bytes} of data"
        ram = f"RAM       {sizes.ram_bytes} bytes: {sizes.data_bytes} of data, {sizes.bss_bytes} of zeros and stack"
        guide = re.sub(r"^flash     \d+ bytes:.*\nRAM       \d+ bytes:.*", f"{flash}\n{ram}", guide, flags=re.MULTILINE)
    return guide


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.core_size", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the sizes into docs/firmware.md")
    if parser.parse_args().write:
        text = written(GUIDE.read_text(encoding="utf-8"))
        with replacing(GUIDE) as file:
            file.write(text.encode())
    for row, (flash_bytes, ram_bytes) in rows().items():
        print(f"{row:70} {flash_bytes:8,} {ram_bytes:8,}")


if __name__ == "__main__":
    main()
