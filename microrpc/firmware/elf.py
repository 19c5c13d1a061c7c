"""What an ELF file says, without binutils: how large a program is, whose code it has, what an object defines."""

from __future__ import annotations

import enum
import pathlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from microrpc.errors import FirmwareError

MAGIC = b"\x7fELF"
"""What an ELF file begins with."""

_ALLOCATED, _WRITABLE = 0x2, 0x1
_SYMBOLS, _NO_BITS = 2, 8  # kinds of sections
_LOADED = 1  # the kind of a segment that is put into memory
_LOCAL = 0  # the binding of a symbol that only its own object sees
_FUNCTION = 2  # the kind of a symbol
_ARM = 40  # whose Thumb functions have odd addresses
_STACK_SIZES = ".stack_sizes"
_LEAST_RESERVED = 0xFF00  # of the indices of sections: no section has those
# Objects may be a stranger's: what they can have us keep is bounded.
_MOST_SYMBOLS, _MOST_NAME_BYTES = 65536, 512


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a program takes. What is initialized takes both: it lies in flash, and is copied to RAM at the start."""

    code_bytes: int
    """Code and constants."""
    data_bytes: int
    """Variables with an initial value."""
    bss_bytes: int
    """Variables that begin as 0, and what is set aside for stack and heap."""

    @property
    def flash_bytes(self) -> int:
        """What lies in flash, in bytes: code, and what variables begin with."""
        return self.code_bytes + self.data_bytes

    @property
    def ram_bytes(self) -> int:
        """What lies in RAM, in bytes: all variables, stack and heap."""
        return self.data_bytes + self.bss_bytes


class Kind(enum.IntEnum):
    """What an ELF file is."""

    OBJECT = 1
    """What a compiler made of one source, for a linker."""
    PROGRAM = 2
    """A program at fixed addresses."""
    SHARED = 3
    """A program, or a library, for any address."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Whose instructions an ELF file has."""

    number: int
    """As the ELF header has it."""
    bits: int
    """32 or 64."""
    is_little_endian: bool
    """Of what lies in memory."""

    @property
    def name(self) -> str:
        """What it is called, as "ARM"."""
        return _MACHINES.get(self.number, f"machine {self.number}")

    def __str__(self) -> str:
        return f"{self.name}, {self.bits} bits, {'little' if self.is_little_endian else 'big'}-endian"


_MACHINES = {
    3: "x86",
    8: "MIPS",
    20: "PowerPC",
    40: "ARM",
    62: "x86-64",
    83: "AVR",
    94: "Xtensa",
    183: "AArch64",
    195: "ARC",
    243: "RISC-V",
}


@dataclass(frozen=True, slots=True)
class Symbols:
    """What an object has for others."""

    kind: int
    """One of `Kind`, or another number."""
    machine: Machine
    """Whose code it is."""
    defined: tuple[str, ...]
    """What it defines for other objects: functions and variables, weak ones too, each once, in its order."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a program."""

    name: str
    """As a linker calls it."""
    address: int
    """Without what marks it as Thumb code."""
    size_bytes: int
    """Of its code."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a program as it is to lie in flash."""

    address: int
    """Where it is loaded, which for what is copied to RAM at the start is not where it is used."""
    data: bytes
    """What lies there."""


@dataclass(frozen=True, slots=True)
class Image:
    """What of a program is to be put into a board."""

    entry: int
    """Where it begins."""
    segments: tuple[Segment, ...]
    """What is not empty, by address."""


def read_sizes(path: pathlib.Path) -> Sizes:
    """Add up the sections of an ELF file, of 32 or 64 bits and either byte order. Raises FirmwareError."""
    return _Elf(_read(path), str(path)).sizes()


def read_machine(path: pathlib.Path) -> Machine:
    """Tell whose instructions an ELF file has. Raises FirmwareError."""
    return _Elf(_read(path), str(path)).machine


def read_image(path: pathlib.Path) -> Image:
    """Give what of a program is to be put into a board. Raises FirmwareError."""
    return _Elf(_read(path), str(path)).image()


def read_symbols(data: bytes, name: str) -> Symbols:
    """Tell what an object has for others; `name` is what it is called in errors. Raises FirmwareError."""
    return _Elf(data, name).symbols()


def read_functions(path: pathlib.Path) -> tuple[Function, ...]:
    """Name the functions of a program, local ones too, in the order of its table. Raises FirmwareError."""
    return _Elf(_read(path), str(path)).functions()


def read_stack_frames(path: pathlib.Path) -> dict[int, int]:
    """What each function takes of the stack, in bytes, by its address: of a program built with -fstack-size-section.

    Functions that were compiled without are not in it. Raises FirmwareError.
    """
    return _Elf(_read(path), str(path)).stack_frames()


def _read(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FirmwareError(f"{path}: cannot be read: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class _Symbol:
    name: str
    info: int  # binding and kind
    section: int
    address: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Section:
    name_at: int  # in the section that has the names of all
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    entry_bytes: int


class _Elf:
    """The bytes of an ELF file, which may be anybody's: nothing in it is believed to lie within the file."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self._name = name
        if data[:4] != MAGIC:
            raise self._damaged(f"it begins with {data[:4].hex(' ') or 'nothing'}")
        if len(data) < 52:
            raise self._damaged("it ends within its header")
        width, order = data[4], data[5]
        if width not in (1, 2) or order not in (1, 2):
            raise self._damaged(f"its class is {width}, its byte order {order}")
        self._is_wide = width == 2
        self._order = "<" if order == 1 else ">"
        self.kind, number = self._unpack("HH", 16)
        self.machine = Machine(number, 64 if self._is_wide else 32, order == 1)

    def sizes(self) -> Sizes:
        code = initialized = bss = 0
        for section in self._sections():
            if not section.flags & _ALLOCATED:
                continue
            if section.kind == _NO_BITS:
                bss += section.size
            elif section.flags & _WRITABLE:
                initialized += section.size
            else:
                code += section.size
        return Sizes(code, initialized, bss)

    def symbols(self) -> Symbols:
        sections = self._sections()
        defined = dict.fromkeys(
            name for section in sections if section.kind == _SYMBOLS for name in self._defined(section, sections)
        )
        return Symbols(self.kind, self.machine, tuple(defined))

    def functions(self) -> tuple[Function, ...]:
        sections = self._sections()
        return tuple(
            Function(symbol.name, self._address(symbol.address), symbol.size_bytes)
            for section in sections
            if section.kind == _SYMBOLS
            for symbol in self._symbols_in(section, sections)
            if symbol.info & 0xF == _FUNCTION and symbol.section != 0
        )

    def stack_frames(self) -> dict[int, int]:
        sections = self._sections()
        (names_in,) = self._unpack("H", 62 if self._is_wide else 50)
        if names_in >= len(sections):
            raise self._damaged(f"its sections have their names in section {names_in}, of {len(sections)}")
        names = self._piece(sections[names_in].offset, sections[names_in].size, "the names of its sections")
        frames: dict[int, int] = {}
        for section in sections:
            if self._name_at(names, section.name_at, "a section's name") == _STACK_SIZES:
                frames.update(self._frames_in(self._piece(section.offset, section.size, _STACK_SIZES)))
        return frames

    def _frames_in(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Give address and size of each function: the size has seven bits a byte, the lowest first (LEB128)."""
        width = 8 if self._is_wide else 4
        order: Literal["little", "big"] = "little" if self.machine.is_little_endian else "big"
        at = 0
        while at < len(data):
            address = int.from_bytes(data[at : at + width], order)
            at += width
            size = shift = 0
            while True:
                if at >= len(data) or shift > 63:
                    raise self._damaged(f"{_STACK_SIZES} ends within an entry, or has one that is too long")
                size |= (data[at] & 0x7F) << shift
                at, shift = at + 1, shift + 7
                if data[at - 1] < 0x80:
                    break
            yield self._address(address), size

    def _address(self, address: int) -> int:
        return address & ~1 if self.machine.number == _ARM else address

    def image(self) -> Image:
        # Of the header: where it begins, and where its table of segments is.
        entry, table = self._unpack("QQ" if self._is_wide else "II", 24)
        entry_bytes, count = self._unpack("HH", 54 if self._is_wide else 42)
        found = []
        for at in self._entries(table, entry_bytes, count, "segments", 56 if self._is_wide else 32):
            if self._is_wide:  # kind, offset, physical address, size in the file
                kind, offset, address, size = self._unpack("I4xQ8xQQ", at)
            else:
                kind, offset, address, size = self._unpack("II4xII", at)
            if kind == _LOADED and size:
                found.append(Segment(address, self._piece(offset, size, "a segment")))
        return Image(entry, tuple(sorted(found, key=lambda segment: segment.address)))

    def _sections(self) -> list[_Section]:
        # Of the header: where the table of sections is, how long an entry is, and how many there are.
        (table,) = self._unpack("Q" if self._is_wide else "I", 40 if self._is_wide else 32)
        entry_bytes, count = self._unpack("HH", 58 if self._is_wide else 46)
        found = []
        for at in self._entries(table, entry_bytes, count, "sections", 64 if self._is_wide else 40):
            layout = "IIQ8xQQI12xQ" if self._is_wide else "III4xIII8xI"
            found.append(_Section(*self._unpack(layout, at)))
        return found

    def _defined(self, table: _Section, sections: list[_Section]) -> Iterator[str]:
        for symbol in self._symbols_in(table, sections):
            if symbol.section != 0 and symbol.section < _LEAST_RESERVED and symbol.info >> 4 != _LOCAL:
                yield symbol.name

    def _symbols_in(self, table: _Section, sections: list[_Section]) -> Iterator[_Symbol]:
        if table.link >= len(sections):
            raise self._damaged(f"its symbols have their names in section {table.link}, of {len(sections)}")
        names = self._piece(sections[table.link].offset, sections[table.link].size, "its names")
        size = 24 if self._is_wide else 16
        if table.entry_bytes != size:
            raise self._damaged(f"its symbols have {table.entry_bytes} bytes each")
        if table.size // size > _MOST_SYMBOLS:
            raise self._damaged(f"it has {table.size // size} symbols, at most {_MOST_SYMBOLS} are read")
        for at in self._entries(table.offset, size, table.size // size, "symbols", size):
            if self._is_wide:
                start, info, section, address, size_bytes = self._unpack("IBxHQQ", at)
            else:
                start, address, size_bytes, info, section = self._unpack("IIIBxH", at)
            yield _Symbol(self._name_at(names, start, "a symbol's name"), info, section, address, size_bytes)

    def _name_at(self, names: bytes, start: int, what: str) -> str:
        end = names.find(b"\0", start, start + _MOST_NAME_BYTES)
        if end < 0:
            raise self._damaged(f"{what} does not end within {_MOST_NAME_BYTES} bytes")
        return names[start:end].decode("utf-8", "replace")

    def _entries(self, table: int, entry_bytes: int, count: int, what: str, least: int) -> range:
        """Give where each entry of a table begins."""
        if count and entry_bytes < least:
            raise self._damaged(f"its {what} have entries of {entry_bytes} bytes")
        if table + count * entry_bytes > len(self._data):
            raise self._damaged(f"it ends before its table of {what}")
        return range(table, table + count * entry_bytes, entry_bytes) if count else range(0)

    def _piece(self, offset: int, size: int, what: str) -> bytes:
        if offset + size > len(self._data):
            raise self._damaged(f"{what} reaches past its end")
        return self._data[offset : offset + size]

    def _unpack(self, layout: str, at: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(self._order + layout, self._data, at)
        except struct.error as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, why: str) -> FirmwareError:
        return FirmwareError(f"{self._name}: is no ELF file, or a damaged one: {why}")
