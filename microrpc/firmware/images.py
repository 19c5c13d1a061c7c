"""What flashers take of a program besides its ELF file: raw bytes, Intel HEX, UF2. Made without binutils."""

from __future__ import annotations

import enum
import pathlib
import struct
from collections.abc import Callable, Iterator

from microrpc.errors import FirmwareError
from microrpc.firmware.elf import Image, Segment, read_image

MOST_BYTES = 64 * 2**20
"""From the first to the last byte of an image: a program whose pieces lie further apart is for no flash."""

_ERASED = b"\xff"
_HEX_ROW_BYTES = 16
_HEX_DATA, _HEX_END, _HEX_UPPER, _HEX_START = 0, 1, 4, 5  # kinds of records
_UF2_MAGIC, _UF2_END = (0x0A324655, 0x9E5D5157), 0x0AB16F30
_UF2_BLOCK_BYTES, _UF2_ROOM_BYTES = 256, 476
_UF2_FILE_BLOCK_BYTES = 512
_UF2_HAS_FAMILY = 0x2000


class ImageFormat(enum.StrEnum):
    """A form that a program can be written in; as a text, the ending of the file."""

    BIN = "bin"
    """The bytes as they lie in flash, from the first one on; what is between its pieces is 0xFF."""
    HEX = "hex"
    """Intel HEX, with addresses."""
    UF2 = "uf2"
    """For boards that show up as a disk."""


def make_image(elf: pathlib.Path, form: ImageFormat, *, uf2_family: int | None = None) -> bytes:
    """Give the program in the file `elf` in another form; `uf2_family` is the family of chips that UF2 names, if any.

    Raises FirmwareError for what is no ELF file, and for a program that lies where no such file can say.
    """
    image = read_image(elf)
    if not image.segments:
        raise FirmwareError(f"{elf}: has nothing to be put into flash")
    first = image.segments[0].address
    end = max(segment.address + len(segment.data) for segment in image.segments)
    if end - first > MOST_BYTES or end > 1 << 32:
        raise FirmwareError(f"{elf}: lies from 0x{first:x} to 0x{end:x}: that is too much for a .{form} file")
    return _WRITERS[form](image, uf2_family)


def uf2_family_of(path: pathlib.Path, block: bytes) -> int | None:
    """Give the family of chips that the first block of the UF2 file `path` names, None where it names none.

    Raises FirmwareError for what is no block of UF2.
    """
    if len(block) != _UF2_FILE_BLOCK_BYTES or struct.unpack_from("<2I", block) != _UF2_MAGIC:
        raise FirmwareError(f"{path}: is no UF2 file")
    flags, family = struct.unpack_from("<I", block, 8)[0], int(struct.unpack_from("<I", block, 28)[0])
    return family if flags & _UF2_HAS_FAMILY else None


def _bin(image: Image, family: int | None) -> bytes:
    whole = bytearray()
    first = image.segments[0].address
    for segment in image.segments:
        at = segment.address - first
        whole.extend(_ERASED * (at - len(whole)))
        whole[at : at + len(segment.data)] = segment.data
    return bytes(whole)


def _hex(image: Image, family: int | None) -> bytes:
    return "".join(f":{row.hex().upper()}{-sum(row) & 0xFF:02X}\n" for row in _hex_rows(image)).encode()


def _hex_rows(image: Image) -> Iterator[bytes]:
    upper = 0
    for segment in image.segments:
        # No row goes on where the upper half of the address is another one.
        for address, data in _pieces(segment, _HEX_ROW_BYTES):
            if address >> 16 != upper:
                upper = address >> 16
                yield _hex_row(0, _HEX_UPPER, struct.pack(">H", upper))
            yield _hex_row(address & 0xFFFF, _HEX_DATA, data)
    yield _hex_row(0, _HEX_START, struct.pack(">I", image.entry & 0xFFFF_FFFF))
    yield _hex_row(0, _HEX_END, b"")


def _hex_row(address: int, kind: int, data: bytes) -> bytes:
    return struct.pack(">BHB", len(data), address, kind) + data


def _pieces(segment: Segment, size: int) -> Iterator[tuple[int, bytes]]:
    """Cut a segment at each multiple of `size`, into pieces and their addresses."""
    address, end = segment.address, segment.address + len(segment.data)
    while address < end:
        next_address = min(address - address % size + size, end)
        yield address, segment.data[address - segment.address : next_address - segment.address]
        address = next_address


def _uf2(image: Image, family: int | None) -> bytes:
    # Blocks are whole pages of flash, which bootloaders write one by one: what two segments share is one block.
    pages: dict[int, bytearray] = {}
    for segment in image.segments:
        for address, data in _pieces(segment, _UF2_BLOCK_BYTES):
            page = pages.setdefault(address // _UF2_BLOCK_BYTES, bytearray(_ERASED * _UF2_BLOCK_BYTES))
            at = address % _UF2_BLOCK_BYTES
            page[at : at + len(data)] = data
    flags = _UF2_HAS_FAMILY if family is not None else 0
    return b"".join(
        struct.pack(
            "<8I",
            *_UF2_MAGIC,
            flags,
            number * _UF2_BLOCK_BYTES,
            _UF2_BLOCK_BYTES,
            index,
            len(pages),
            family or 0,
        )
        + bytes(page).ljust(_UF2_ROOM_BYTES, b"\0")
        + struct.pack("<I", _UF2_END)
        for index, (number, page) in enumerate(sorted(pages.items()))
    )


_WRITERS: dict[ImageFormat, Callable[[Image, int | None], bytes]] = {
    ImageFormat.BIN: _bin,
    ImageFormat.HEX: _hex,
    ImageFormat.UF2: _uf2,
}
