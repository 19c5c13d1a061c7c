"""What a client of TVM uploads to have it run: objects and C sources, alone or in a tar, and the kernels in them.

An upload is anybody's bytes. It is unpacked in memory, within limits; what a tar says of places is not looked at.
"""

from __future__ import annotations

import enum
import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from microrpc.errors import FirmwareError, printable
from microrpc.firmware.elf import MAGIC, Kind, Machine, read_symbols
from microrpc.firmware.tvm.kernels import SYMBOL_PREFIX

MOST_MEMBERS = 64
"""Of an upload."""
MOST_MEMBER_BYTES = 16 * 2**20
"""Of one object."""
MOST_SOURCE_BYTES = 4 * 2**20
"""Of one C source."""
MOST_UNPACKED_BYTES = 32 * 2**20
"""Of all together, as a tar has them after it was unpacked."""
MOST_KERNELS = 1024
"""Of an upload."""

_GZIP = b"\x1f\x8b"
_TAR_AT, _TAR = 257, b"ustar"
_PACKED = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstandard"}
_RUNTIME = SYMBOL_PREFIX + "_"  # begins the names of what is not called
_ENTRY = "main"  # what every module of a single function has, besides that: one of them is enough
_NAME = re.compile(r"[A-Za-z_]\w{0,127}", re.ASCII)
_DEFINITION = re.compile(rf"\b{SYMBOL_PREFIX}(\w+)\s*\([^;{{}}()]*\)\s*\{{", re.ASCII)
# Whatever begins one of them is taken to its end, or to that of the line or the text: the time is linear in its length.
_NO_CODE = re.compile(
    r'"(?:[^"\\\n]++|\\.)*+"?' r"|'(?:[^'\\\n]++|\\.)*+'?" r"|/\*.*?(?:\*/|\Z)" r"|//[^\n]*", re.DOTALL
)


class Form(enum.StrEnum):
    """What a part of an upload is, by the ending that its file has."""

    OBJECT = ".o"
    """Compiled, for the board."""
    SOURCE = ".c"
    """C, which the board's compiler takes."""


@dataclass(frozen=True, slots=True)
class Part:
    """One object or source of an upload."""

    name: str
    """Without a place, for messages."""
    form: Form
    """What it is."""
    data: bytes
    """As it was uploaded."""
    machine: Machine | None
    """Whose code an object has; None for a source."""
    kernels: tuple[str, ...]
    """What it defines that can be called: NAME of each `__tvm_ffi_NAME`."""


def read_upload(name: str, data: bytes) -> tuple[Part, ...]:
    """Take an upload apart: an ELF object, a C source, or a tar of them, which may be packed with gzip.

    `name` is what the client calls it; the ending counts only where the bytes do not tell what they are.
    Raises FirmwareError, which says which part of it is wrong, and how.
    """
    place = _last_of(name)
    if data[:2] == _GZIP:
        data = _unpack(place, data)
    if data[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        parts = tuple(_read_part(member, content) for member, content in _members(place, data))
        if not parts:
            raise FirmwareError(f"{place}: has nothing in it: a tar of .o or .c files is wanted")
    else:
        parts = (_read_part(place, data),)
    _check_kernels(place, parts)
    return parts


def kernel_names(parts: tuple[Part, ...]) -> list[str]:
    """Name all that can be called of an upload, each once."""
    return list(dict.fromkeys(kernel for part in parts for kernel in part.kernels))


def check_machine(parts: tuple[Part, ...], board: str, machine: Machine) -> None:
    """Raise FirmwareError where an object is for another processor than the board has, which is `machine`."""
    for part in parts:
        if part.machine is not None and part.machine != machine:
            raise FirmwareError(
                f"{part.name}: is for {part.machine}, but {board} is {machine}: "
                f"compile it for a target of {board} (docs/tvm_tune.md)"
            )


def _last_of(path: str) -> str:
    """Give the last part of a path, of whatever system."""
    return printable(re.split(r"[/\\]", path)[-1][-128:]) or "the upload"


def _unpack(name: str, data: bytes) -> bytes:
    unpacking = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacking.decompress(data, MOST_UNPACKED_BYTES + 1)
    except zlib.error as error:
        raise FirmwareError(f"{name}: cannot be unpacked: {error}") from error
    if len(unpacked) > MOST_UNPACKED_BYTES:
        raise FirmwareError(f"{name}: has more than {MOST_UNPACKED_BYTES} bytes when it is unpacked")
    if not unpacking.eof:
        raise FirmwareError(f"{name}: cannot be unpacked: it ends too early")
    return unpacked


def _members(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Give what is in a tar, each with the last part of its name."""
    seen: set[str] = set()
    left_bytes = MOST_UNPACKED_BYTES
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                if member.isdir():
                    continue
                place = _last_of(member.name)
                if not member.isreg() or member.issparse():
                    raise FirmwareError(f"{name}: {place} is no plain file (a link, a device): leave it out")
                left_bytes -= member.size
                if member.size > MOST_MEMBER_BYTES or left_bytes < 0 or len(seen) == MOST_MEMBERS:
                    raise FirmwareError(
                        f"{name}: is too large: at most {MOST_MEMBERS} files are taken, of {MOST_MEMBER_BYTES} bytes "
                        f"each and {MOST_UNPACKED_BYTES} together"
                    )
                if place in seen:
                    raise FirmwareError(f"{name}: has two files called {place}")
                seen.add(place)
                file = tar.extractfile(member)
                content = file.read(MOST_MEMBER_BYTES) if file is not None else b""
                if len(content) != member.size:
                    raise FirmwareError(f"{name}: ends within {place}")
                yield place, content
    except (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError) as error:
        raise FirmwareError(f"{name}: is no tar, or a damaged one: {error}") from error


def _read_part(name: str, data: bytes) -> Part:
    if len(data) > MOST_MEMBER_BYTES:
        raise FirmwareError(f"{name}: has {len(data)} bytes, at most {MOST_MEMBER_BYTES} are taken")
    if data[:4] == MAGIC:
        return _read_object(name, data)
    for magic, packing in _PACKED.items():
        if data.startswith(magic):
            raise FirmwareError(f"{name}: is packed with {packing}: a tar is taken as it is, or packed with gzip")
    if not name.lower().endswith(Form.SOURCE):
        raise FirmwareError(f"{name}: is neither an object (ELF) nor a C source (.c) nor a tar of them")
    if len(data) > MOST_SOURCE_BYTES:
        raise FirmwareError(f"{name}: has {len(data)} bytes, of a C source at most {MOST_SOURCE_BYTES} are taken")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FirmwareError(f"{name}: is no C source: it is not UTF-8 text, at byte {error.start}") from error
    return Part(name, Form.SOURCE, data, None, tuple(_kernels_of(name, _definitions(text))))


def _read_object(name: str, data: bytes) -> Part:
    symbols = read_symbols(data, name)
    if symbols.kind != Kind.OBJECT:
        what = "a shared library" if symbols.kind == Kind.SHARED else "a whole program"
        raise FirmwareError(
            f"{name}: is {what}, and cannot be linked into firmware: "
            "export objects instead, with fcompile=tvm.support.tar.tar"
        )
    found = [symbol for symbol in symbols.defined if symbol.startswith(SYMBOL_PREFIX)]
    names = [symbol.removeprefix(SYMBOL_PREFIX) for symbol in found if not symbol.startswith(_RUNTIME)]
    return Part(name, Form.OBJECT, data, symbols.machine, tuple(_kernels_of(name, names)))


def _definitions(text: str) -> list[str]:
    # What is in comments and texts is put aside first: it may look like anything.
    bare = _NO_CODE.sub(" ", text)
    found = (match.group(1) for match in _DEFINITION.finditer(bare))
    return list(dict.fromkeys(name for name in found if not name.startswith("_")))


def _kernels_of(name: str, kernels: list[str]) -> Iterator[str]:
    for kernel in kernels:
        if not _NAME.fullmatch(kernel):
            raise FirmwareError(f"{name}: the kernel {printable(kernel[:128])} has a name that C does not take")
        yield kernel


def _check_kernels(name: str, parts: tuple[Part, ...]) -> None:
    owners: dict[str, str] = {}
    for part in parts:
        for kernel in part.kernels:
            if kernel in owners and kernel != _ENTRY:
                raise FirmwareError(f"{name}: {kernel} is in {owners[kernel]} and in {part.name}")
            owners.setdefault(kernel, part.name)
    if not owners:
        raise FirmwareError(f"{name}: has no kernel that TVM compiled: no function {SYMBOL_PREFIX}NAME is in it")
    if len(owners) > MOST_KERNELS:
        raise FirmwareError(f"{name}: has {len(owners)} kernels, at most {MOST_KERNELS} are taken")
