"""What an ELF file says, without binutils: how large a program is, whose code it has, what an object defines."""

from __future__ import annotations

import enum
import pathlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from microrpc.errors import FirmwareError

MAGIC = b"\x7fELF"
"""What an ELF file begins with."""

_ALLOCATED, _WRITABLE = 0x2, 0x1
_SYMBOLS, _NO_BITS = 2, 8  # kinds of sections
_LOADED = 1  # the kind of a segment that is put into memory
_LOCAL = 0  # the binding of a symbol that only its own object sees
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

    def __str__(self) -> str:
        name = _MACHINES.get(self.number, f"machine {self.number}")
        return f"{name}, {self.bits} bits, {'little' if self.is_little_endian else 'big'}-endian"


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


def _read(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FirmwareError(f"{path}: cannot be read: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class _Section:
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
            layout = "4xIQ8xQQI12xQ" if self._is_wide else "4xII4xIII8xI"
            kind, flags, offset, size, link, each = self._unpack(layout, at)
            found.append(_Section(kind, flags, offset, size, link, each))
        return found

    def _defined(self, table: _Section, sections: list[_Section]) -> Iterator[str]:
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
                start, info, section = self._unpack("IBxH", at)
            else:
                start, info, section = self._unpack("I8xBxH", at)
            if section == 0 or section >= _LEAST_RESERVED or info >> 4 == _LOCAL:
                continue
            end = names.find(b"\0", start, start + _MOST_NAME_BYTES)
            if end < 0:
                raise self._damaged(f"a symbol's name does not end within {_MOST_NAME_BYTES} bytes")
            yield names[start:end].decode("utf-8", "replace")

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
