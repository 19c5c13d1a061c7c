"""How large the core of the device library is on a Cortex-M3, without what is the program's own or the compiler's."""

from __future__ import annotations

import pathlib
import shutil

import needs
import pytest
from elftools.elf.elffile import ELFFile

from microrpc.firmware.build import Compiler, build
from microrpc.firmware.project import firmware_directory, read_project

KIB = 1024
LIMITS = {"0": 8 * KIB, "1": 10 * KIB}  # of flash, without the link and with it
MOST_RAM_BYTES = 512  # besides receive buffer and heap


def sections(elf: pathlib.Path) -> dict[str, int]:
    """Give the size of each section in bytes."""
    with elf.open("rb") as file:
        return {section.name: section["sh_size"] for section in ELFFile(file).iter_sections()}


@pytest.mark.parametrize("link", ["0", "1"])
@pytest.mark.parametrize("compiler", list(Compiler))
def test_the_core_fits_its_flash_and_its_ram(compiler: Compiler, link: str) -> None:
    needs.zig()
    if compiler is Compiler.GCC and shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("needs arm-none-eabi-gcc: apt-get install --no-install-recommends gcc-arm-none-eabi")
    root = firmware_directory()
    firmware = build(
        read_project(root / "tests/size/port.toml", root, "size"), compiler=compiler, defines=[f"MICRORPC_LINK={link}"]
    )
    found = sections(firmware.elf)
    print(f"{firmware.compiler}, link {link}: {found['.core_flash']} bytes of flash, {found['.core_ram']} of RAM")
    assert 6 * KIB < found[".core_flash"] <= LIMITS[link]
    assert 128 < found[".core_ram"] <= MOST_RAM_BYTES
