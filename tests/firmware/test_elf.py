"""What an ELF file says: sizes are in test_build.py, on real programs. Here every byte is made by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from microrpc.errors import FirmwareError
from microrpc.firmware.elf import Image, Kind, Machine, Segment, read_image, read_machine, read_symbols

ARM = Machine(40, 32, True)
GLOBAL, LOCAL, WEAK = 0x12, 0x02, 0x22  # binding and type, as a symbol has them


def make_object(symbols: Sequence[tuple[str, int, int]], *, kind: int = 1, machine: int = 40) -> bytes:
    """Give an ELF file of 32 bits with `symbols`: name, binding and type, section (0: not defined)."""
    names, entries = b"\0", [bytes(16)]
    for name, info, section in symbols:
        entries.append(struct.pack("<IIIBBH", len(names), 0, 0, info, 0, section))
        names += name.encode() + b"\0"
    table = b"".join(entries)
    at = 52 + 3 * 40
    sections = [
        bytes(40),
        struct.pack("<10I", 0, 2, 0, 0, at, len(table), 2, 0, 4, 16),
        struct.pack("<10I", 0, 3, 0, 0, at + len(table), len(names), 0, 0, 1, 0),
    ]
    ident = b"\x7fELF\x01\x01\x01" + bytes(9)
    header = ident + struct.pack("<HHIIIIIHHHHHH", kind, machine, 1, 0, 0, 52, 0, 52, 0, 0, 40, 3, 0)
    return header + b"".join(sections) + table + names


def make_program(segments: Sequence[tuple[int, int, bytes]]) -> bytes:
    """Give an ELF file of 32 bits with `segments`: kind, physical address, bytes."""
    ident = b"\x7fELF\x01\x01\x01" + bytes(9)
    at = 52 + 32 * len(segments)
    header = ident + struct.pack("<HHIIIIIHHHHHH", 2, 40, 1, 0x101, 52, 0, 0, 52, 32, len(segments), 40, 0, 0)
    rows = content = b""
    for kind, address, data in segments:
        rows += struct.pack("<8I", kind, at + len(content), 0x2000_0000, address, len(data), len(data) + 8, 5, 4)
        content += data
    return header + rows + content


def test_an_object_tells_what_it_defines_for_others() -> None:
    data = make_object([("mine", GLOBAL, 1), ("weak", WEAK, 1), ("inner", LOCAL, 1), ("wanted", GLOBAL, 0)])
    found = read_symbols(data, "lib0.o")
    assert found.defined == ("mine", "weak")
    assert (found.kind, found.machine) == (Kind.OBJECT, ARM)


def test_an_absolute_symbol_is_none_of_a_section() -> None:
    assert read_symbols(make_object([("file", GLOBAL, 0xFFF1)]), "lib0.o").defined == ()


def test_a_machine_is_told_in_words() -> None:
    assert str(ARM) == "ARM, 32 bits, little-endian"
    assert str(Machine(4711, 64, False)) == "machine 4711, 64 bits, big-endian"


def test_a_program_tells_what_is_to_be_flashed_by_physical_address(tmp_path: Path) -> None:
    path = tmp_path / "x.elf"
    path.write_bytes(make_program([(1, 0x800, b"data"), (1, 0x100, b"code!"), (1, 0x900, b""), (6, 0, b"other")]))
    assert read_image(path) == Image(0x101, (Segment(0x100, b"code!"), Segment(0x800, b"data")))
    assert read_machine(path) == ARM


@pytest.mark.parametrize("length", range(0, 300, 7))
def test_a_file_that_is_cut_is_one_error(length: int) -> None:
    data = make_object([(f"symbol_{i}", GLOBAL, 1) for i in range(20)])
    with pytest.raises(FirmwareError, match=r"^lib0\.o: is no ELF file, or a damaged one"):
        read_symbols(data[:length], "lib0.o")


def test_a_damaged_byte_is_read_or_refused_with_one_error() -> None:
    data = make_object([("one", GLOBAL, 1), ("two", WEAK, 1)])
    refused = 0
    for at in range(len(data)):
        for value in (0x00, 0x7F, 0xFF):
            damaged = data[:at] + bytes([value]) + data[at + 1 :]
            try:
                read_symbols(damaged, "lib0.o")
            except FirmwareError:
                refused += 1
    assert refused > 50


def test_more_symbols_than_are_read_are_refused() -> None:
    data = bytearray(make_object([]))
    struct.pack_into("<I", data, 52 + 40 + 20, 16 * 100_000)  # the size of the table of symbols
    with pytest.raises(FirmwareError, match="has 100000 symbols, at most 65536 are read"):
        read_symbols(bytes(data), "lib0.o")


def test_a_name_without_an_end_is_refused() -> None:
    data = make_object([("n" * 600, GLOBAL, 1)])
    with pytest.raises(FirmwareError, match="name does not end within 512 bytes"):
        read_symbols(data, "lib0.o")


def test_a_segment_past_the_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.elf"
    path.write_bytes(make_program([(1, 0, b"abcdef")])[:-1])
    with pytest.raises(FirmwareError, match="a segment reaches past its end"):
        read_image(path)
