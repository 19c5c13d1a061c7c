"""How large the core of the device library is on a Cortex-M3, without what is the program's own or the compiler's."""

from __future__ import annotations

import pathlib
import re

import devices
import needs
import pytest

from benchmarks.core_size import CORES, core_size, flags, part_size, written
from microrpc.firmware.build import Compiler, build
from microrpc.firmware.project import load_port

KIB = 1024
MOST_RAM_BYTES = 512  # besides receive buffer and heap
MOST_OF_A_PART_BYTES = {
    "MICRORPC_DESCRIBE=1": 600,
    "MICRORPC_EVENTS=1": 600,
    "MICRORPC_RELIABLE_EVENTS=1": 350,
    "MICRORPC_PROGRESS=1": 400,
    "MICRORPC_MODELS=1": 2304,
}
TOO_LARGE = {"MICRORPC_PROGRESS=1": 528}  # the aim is missed: no larger than this meanwhile


@pytest.mark.parametrize("compiler", list(Compiler))
@pytest.mark.parametrize(
    ("cpu", "core", "most_bytes"),
    [
        ("cortex_m3", "without the link", 8 * KIB),
        ("cortex_m3", "with the link", 10 * KIB),
        ("cortex_m0", "with the link", 10 * KIB + KIB // 4),
    ],
)
def test_the_core_fits_its_flash_and_its_ram(compiler: Compiler, cpu: str, core: str, most_bytes: int) -> None:
    needs.zig()
    if compiler is Compiler.GCC:
        needs.program("arm-none-eabi-gcc", "gcc-arm-none-eabi")
    found = core_size(CORES[core], compiler, cpu)
    print(f"{found.compiler}, {cpu}, {core}: {found.flash_bytes} bytes of flash, {found.ram_bytes} of RAM")
    assert most_bytes * 3 // 4 < found.flash_bytes <= most_bytes
    assert 128 < found.ram_bytes <= MOST_RAM_BYTES


# --- the guide ------------------------------------------------------------------------------------

ROOT = pathlib.Path(__file__).parent.parent.parent
GUIDE = (ROOT / "docs" / "firmware.md").read_text(encoding="utf-8")
BENCHMARKS = (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8")
BOARDS = [board for board in devices.port_params() if board.values != ("posix",)]


def documented(row: str) -> tuple[int, int]:
    """What the table says of flash and RAM, in bytes."""
    found = re.search(rf"^\| {re.escape(row)} \| ([\d,]+) \| ([\d,]+) \|", GUIDE, flags=re.MULTILINE)
    assert found, row
    flash, ram = (int(number.replace(",", "")) for number in found.groups())
    return flash, ram


def skip_another(compiler: str) -> None:
    if f"as {compiler} builds it" not in GUIDE:
        pytest.skip(f"the guide has the sizes of another compiler than {compiler}")


@pytest.mark.parametrize("board", BOARDS)
def test_the_guide_has_todays_sizes(board: str) -> None:
    needs.zig()
    firmware = build(load_port(board))
    skip_another(firmware.compiler)
    assert documented(f"`{board}`") == (firmware.sizes.flash_bytes, firmware.sizes.ram_bytes)
    if f"microrpc firmware build {board}\nboard" in GUIDE:
        assert f"\nflash     {firmware.sizes.flash_bytes} bytes: {firmware.sizes.code_bytes} of code" in GUIDE
        assert f"\nRAM       {firmware.sizes.ram_bytes} bytes: {firmware.sizes.data_bytes} of data" in GUIDE


@pytest.mark.parametrize(("cpu", "core"), [*(("cortex_m3", core) for core in CORES), ("cortex_m0", "with the link")])
def test_the_guide_has_todays_sizes_of_the_core(cpu: str, core: str) -> None:
    needs.zig()
    found = core_size(CORES[core], cpu=cpu)
    skip_another(found.compiler)
    row = f"the core alone on a Cortex-{cpu[-2:].upper()}, {core}"
    assert documented(row) == (found.flash_bytes, found.ram_bytes)


@pytest.mark.parametrize("flag", flags())
def test_the_guide_has_todays_sizes_of_each_part(flag: str) -> None:
    needs.zig()
    found = part_size(flag)
    assert found.flash_bytes <= TOO_LARGE.get(flag, MOST_OF_A_PART_BYTES.get(flag, 2 * KIB))
    skip_another(found.compiler)
    assert documented(f"`{flag}`") == (found.flash_bytes, found.ram_bytes)


@pytest.mark.parametrize(
    "flag",
    [
        pytest.param(flag, marks=pytest.mark.xfail(strict=True, reason=f"{TOO_LARGE[flag]} bytes"))
        if flag in TOO_LARGE
        else flag
        for flag in MOST_OF_A_PART_BYTES
    ],
)
def test_a_part_takes_no_more_than_it_is_meant_to(flag: str) -> None:
    needs.zig()
    assert part_size(flag).flash_bytes <= MOST_OF_A_PART_BYTES[flag]


def test_the_parts_are_those_of_the_header() -> None:
    assert {"MICRORPC_LINK=0", "MICRORPC_OLD_TIME_EVALUATORS=0", *MOST_OF_A_PART_BYTES} < set(flags())


@pytest.mark.boards
def test_the_command_writes_the_guide_anew() -> None:
    needs.zig()
    skip_another(core_size(()).compiler)
    other = re.sub(
        r"^(\| (?:`MICRO|`qemu|the core).*? \|) [\d,]+ \| [\d,]+ \|", r"\1 1 | -1,234 |", GUIDE, flags=re.MULTILINE
    )
    other = re.sub(r"^flash     \d+ bytes: \d+", "flash     1 bytes: 1", other, flags=re.MULTILINE)
    assert other.count("-1,234") > 10
    assert written(other) == GUIDE
    with pytest.raises(ValueError, match=r"has 0 rows \| `\w+` \| flash \| RAM \|, and wants 1"):
        written("")


def test_the_benchmarks_have_todays_sizes_of_the_core() -> None:
    needs.zig()
    small, whole = core_size(CORES["without the link"]), core_size(CORES["with the link"])
    skip_another(whole.compiler)
    assert f"| {small.flash_bytes:,}, {whole.flash_bytes:,}; {whole.ram_bytes} |" in BENCHMARKS
