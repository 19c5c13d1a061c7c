"""What a kernel takes, as its PrimFunc says, and as firmware and hosts are told. Nothing here knows TVM."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass

from microrpc.errors import FirmwareError
from microrpc.firmware.tvm.workspace import aligned
from microrpc.wire.datatypes import DataType, DataTypeCode

SYMBOL_PREFIX = "__tvm_ffi_"
"""What TVM puts in front of a function's name."""

ADAPTER_SOURCES = ("microrpc_tvm.c", "microrpc_tvm_runtime.c")
"""What lies between a kernel and the device library, in the folder tvm/ of that."""

_C_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_LIBRARY = "_library_ctx"  # each generated file has a variable of that name, behind the prefix
_VALUE_BYTES = 16  # of a TVMFFIAny
_EXTENT_BYTES = 8
_TENSOR_BYTES = {32: 40, 64: 48}  # of a DLTensor, by the bits of an address


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument: a tensor with a `shape`, whose extents are numbers or names, or a number where that is None."""

    name: str
    """As its author calls it."""
    dtype: DataType
    """Of the elements, or of the number."""
    shape: tuple[int | str, ...] | None
    """Of a tensor."""

    @property
    def ndim(self) -> int:
        """How many dimensions it has; a number has none."""
        return len(self.shape) if self.shape is not None else 0


@dataclass(frozen=True, slots=True)
class Kernel:
    """A function that TVM compiles: its name in the system library, which is its `global_symbol`, and its arguments."""

    name: str
    """As hosts call it."""
    arguments: tuple[Argument, ...]
    """In their order: what it writes comes last."""
    gives: str = "None"
    """What it returns, as a signature says it."""

    @property
    def symbol(self) -> str:
        """What a linker calls it."""
        return SYMBOL_PREFIX + self.name

    @property
    def signature(self) -> str:
        """What hosts show of it (docs/description.md 3)."""
        names = _parameter_names([argument.name for argument in self.arguments])
        shown = [f"{name}: {_type(argument)}" for name, argument in zip(names, self.arguments, strict=True)]
        return f"{', '.join(shown)} -> {self.gives}"

    def frame_bytes(self, address_bits: int) -> int:
        """What a call takes of the workspace for the arguments, in bytes."""
        return frame_bytes([argument.ndim for argument in self.arguments], address_bits)


def frame_bytes(dimensions: Sequence[int], address_bits: int) -> int:
    """What a call takes of the workspace for arguments with so many dimensions each, in bytes."""
    return aligned(len(dimensions) * (_VALUE_BYTES + _TENSOR_BYTES[address_bits]) + _EXTENT_BYTES * sum(dimensions))


def check_name(name: str) -> str:
    """Give a kernel's name back. Raises FirmwareError where C does not take it."""
    if name == _LIBRARY:
        raise FirmwareError(f"{name!r}: is TVM's own: set another global_symbol")
    if not _C_NAME.fullmatch(name):
        raise FirmwareError(
            f"{name!r}: C takes no such name: set another global_symbol, of up to 63 letters, digits and _ "
            "with no digit at the beginning"
        )
    return name


def _type(argument: Argument) -> str:
    if argument.shape is not None:
        extents = (extent if isinstance(extent, int) else _identifier(extent) for extent in argument.shape)
        return f"{argument.dtype}[{', '.join(map(str, extents))}]"
    if argument.dtype.code == DataTypeCode.FLOAT:
        return "float"
    return "bool" if argument.dtype.bits == 1 else str(argument.dtype)


def _parameter_names(names: list[str]) -> list[str]:
    """Give a Python identifier for each name, no two the same."""
    found: list[str] = []
    for name in map(_identifier, names):
        unique, number = name, 1
        while unique in found:
            number += 1
            unique = f"{name}_{number}"
        found.append(unique)
    return found


def _identifier(name: str) -> str:
    found = re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
    return f"_{found}" if found[0].isdigit() or keyword.iskeyword(found) else found
