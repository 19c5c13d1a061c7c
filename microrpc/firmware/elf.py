"""How large a program is: what its ELF file says of memory, without binutils."""

from __future__ import annotations

import pathlib
import struct
from dataclasses import dataclass

from microrpc.errors import FirmwareError

_ALLOCATED, _WRITABLE = 0x2, 0x1
_NO_BITS = 8
_MAGIC = b"\x7fELF"


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


def read_sizes(path: pathlib.Path) -> Sizes:
    """Add up the sections of an ELF file, of 32 or 64 bits and either byte order. Raises FirmwareError."""
    try:
        return _sizes(path.read_bytes())
    except OSError as error:
        raise FirmwareError(f"{path}: cannot be read: {error.strerror}") from error
    except (struct.error, ValueError, IndexError) as error:
        raise FirmwareError(f"{path}: is no ELF file, or a damaged one: {error}") from error


def _sizes(data: bytes) -> Sizes:
    if data[:4] != _MAGIC:
        raise ValueError(f"it begins with {data[:4].hex(' ') or 'nothing'}")
    width, order = data[4], data[5]
    if width not in (1, 2) or order not in (1, 2):
        raise ValueError(f"its class is {width}, its byte order {order}")
    end = "<" if order == 1 else ">"
    # Of the header: where the table of sections is, how long an entry is, and how many there are.
    (table,) = struct.unpack_from(end + ("I" if width == 1 else "Q"), data, 32 if width == 1 else 40)
    entry_bytes, count = struct.unpack_from(end + "HH", data, 46 if width == 1 else 58)
    # Of a section: type, flags, and after address and offset the size.
    section = struct.Struct(end + ("4xIIIII" if width == 1 else "4xIQQQQ"))
    if count and entry_bytes < section.size:
        raise ValueError(f"its sections have entries of {entry_bytes} bytes")
    if table + count * entry_bytes > len(data):
        raise ValueError("it ends before its table of sections")
    code = initialized = bss = 0
    for index in range(count):
        kind, flags, _, _, size = section.unpack_from(data, table + index * entry_bytes)
        if not flags & _ALLOCATED:
            continue
        if kind == _NO_BITS:
            bss += size
        elif flags & _WRITABLE:
            initialized += size
        else:
            code += size
    return Sizes(code, initialized, bss)
