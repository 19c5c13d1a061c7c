"""What a program's ELF file says of its functions and their stack."""

from __future__ import annotations

import dataclasses
import pathlib
import struct

import needs
import pytest

from microrpc.errors import FirmwareError
from microrpc.firmware.build import build
from microrpc.firmware.elf import Function, read_functions, read_stack_frames
from microrpc.firmware.project import load_port

ARM, RISCV = 40, 243
FUNCTION, OBJECT = 0x12, 0x11  # global ones
FRAMES = struct.pack("<IB", 0x1001, 24) + struct.pack("<IBB", 0x2000, 0x80 | 0x48, 0x02)  # 24, and 328 in two bytes


def elf(machine: int = ARM, frames: bytes = FRAMES, *, names_in: int = 1) -> bytes:
    """An ELF file of 32 bits with two functions and a variable, by hand."""
    names = b"\0.names\0.symtab\0.stack_sizes\0one\0two\0three\0"
    where = {
        name: names.index(name.encode() + b"\0")
        for name in (".names", ".symtab", ".stack_sizes", "one", "two", "three")
    }
    symbols = struct.pack("<IIIBBH", 0, 0, 0, 0, 0, 0)
    for name, address, size, info in (
        ("one", 0x1001, 40, FUNCTION),
        ("two", 0x2000, 8, FUNCTION),
        ("three", 5, 4, OBJECT),
    ):
        symbols += struct.pack("<IIIBBH", where[name], address, size, info, 0, 2)
    parts = [(0, 0, b"", 0, 0), (where[".names"], 3, names, 0, 0), (where[".symtab"], 2, symbols, 1, 16)]
    parts.append((where[".stack_sizes"], 1, frames, 0, 0))
    body, table = b"", b""
    for name, kind, data, link, entry in parts:
        table += struct.pack("<IIIIIIIIII", name, kind, 0, 0, 52 + len(body), len(data), link, 0, 1, entry)
        body += data
    header = b"\x7fELF\x01\x01\x01" + bytes(9)
    header += struct.pack("<HHIIIIIHHHHHH", 2, machine, 1, 0, 0, 52 + len(body), 0, 52, 0, 0, 40, len(parts), names_in)
    return header + body + table


def written(directory: pathlib.Path, data: bytes) -> pathlib.Path:
    path = directory / "program.elf"
    path.write_bytes(data)
    return path


def test_functions_are_named_without_what_marks_thumb_code(tmp_path: pathlib.Path) -> None:
    assert read_functions(written(tmp_path, elf())) == (Function("one", 0x1000, 40), Function("two", 0x2000, 8))
    assert read_functions(written(tmp_path, elf(RISCV)))[0] == Function("one", 0x1001, 40)


def test_frames_are_told_by_address(tmp_path: pathlib.Path) -> None:
    assert read_stack_frames(written(tmp_path, elf())) == {0x1000: 24, 0x2000: 328}
    assert read_stack_frames(written(tmp_path, elf(RISCV))) == {0x1001: 24, 0x2000: 328}
    assert read_stack_frames(written(tmp_path, elf(frames=b""))) == {}


@pytest.mark.parametrize("frames", [b"\0", FRAMES[:-1], FRAMES + b"\1\2\3\4", b"\0\0\0\0" + b"\xff" * 12])
def test_damaged_frames_are_told(tmp_path: pathlib.Path, frames: bytes) -> None:
    with pytest.raises(
        FirmwareError, match=r"program\.elf: is no ELF file, or a damaged one: \.stack_sizes ends within"
    ):
        read_stack_frames(written(tmp_path, elf(frames=frames)))


def test_sections_without_names_are_told(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FirmwareError, match="its sections have their names in section 9, of 4"):
        read_stack_frames(written(tmp_path, elf(names_in=9)))


@pytest.mark.parametrize("board", ["posix", "qemu_mps2_an385"])
def test_the_frames_of_a_program_are_those_of_its_functions(board: str) -> None:
    needs.zig()
    port = load_port(board)
    built = build(dataclasses.replace(port, flags=(*port.flags, "-fstack-size-section")))
    frames = read_stack_frames(built.elf)
    by_name = {one.name: frames.get(one.address) for one in read_functions(built.elf)}
    served = by_name["mrpc_serve"]
    assert served is not None
    assert 64 <= served <= 512
    assert len(frames) > 100
    assert read_stack_frames(build(port).elf) == {}
