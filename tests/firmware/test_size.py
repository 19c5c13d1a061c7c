"""How large the core of the device library is on a Cortex-M3, without what is the program's own or the compiler's."""

from __future__ import annotations

import shutil

import needs
import pytest

from benchmarks.core_size import core_size
from microrpc.firmware.build import Compiler

KIB = 1024
LIMITS = {False: 17 * KIB // 2, True: 10 * KIB}  # of flash, without the link and with it
MOST_RAM_BYTES = 512  # besides receive buffer and heap


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("compiler", list(Compiler))
def test_the_core_fits_its_flash_and_its_ram(compiler: Compiler, link: bool) -> None:
    needs.zig()
    if compiler is Compiler.GCC and shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("needs arm-none-eabi-gcc: apt-get install --no-install-recommends gcc-arm-none-eabi")
    found = core_size(link=link, compiler=compiler)
    print(f"{found.compiler}, link {link}: {found.flash_bytes} bytes of flash, {found.ram_bytes} of RAM")
    assert 6 * KIB < found.flash_bytes <= LIMITS[link]
    assert 128 < found.ram_bytes <= MOST_RAM_BYTES
