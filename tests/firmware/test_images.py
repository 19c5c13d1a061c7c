"""Programs in the forms that flashers take: each is checked against bytes that were written by hand."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from firmware.test_elf import make_program

from microrpc.errors import FirmwareError
from microrpc.firmware.images import ImageFormat, make_image


@pytest.fixture
def elf(tmp_path: Path) -> Path:
    """A program of two pieces with a gap of 3 bytes, over the boundary of 64 KiB."""
    path = tmp_path / "x.elf"
    path.write_bytes(make_program([(1, 0x0000_FFFE, b"\x01\x02\x03"), (1, 0x0001_0004, b"\x04")]))
    return path


def test_a_bin_has_the_bytes_as_they_lie_in_flash(elf: Path) -> None:
    assert make_image(elf, ImageFormat.BIN) == b"\x01\x02\x03\xff\xff\xff\x04"


def test_a_hex_has_addresses_and_checksums(elf: Path) -> None:
    assert make_image(elf, ImageFormat.HEX) == (
        b":02FFFE000102FE\n:020000040001F9\n:0100000003FC\n:0100040004F7\n:0400000500000101F5\n:00000001FF\n"
    )


def test_a_uf2_has_whole_pages_and_the_family(elf: Path) -> None:
    data = make_image(elf, ImageFormat.UF2, uf2_family=0xE48BFF56)
    assert len(data) == 2 * 512
    head = struct.unpack_from("<8I", data)
    assert head == (0x0A324655, 0x9E5D5157, 0x2000, 0xFF00, 256, 0, 2, 0xE48BFF56)
    assert data[32 : 32 + 256] == b"\xff" * 254 + b"\x01\x02"
    assert data[508:512] == bytes.fromhex("306fb10a")
    second = struct.unpack_from("<8I", data, 512)
    assert second[3:7] == (0x10000, 256, 1, 2)
    assert data[512 + 32 : 512 + 38] == b"\x03\xff\xff\xff\x04\xff"


def test_a_uf2_without_a_family_names_none(elf: Path) -> None:
    head = struct.unpack_from("<8I", make_image(elf, ImageFormat.UF2))
    assert (head[2], head[7]) == (0, 0)


def test_a_program_whose_pieces_lie_far_apart_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.elf"
    path.write_bytes(make_program([(1, 0, b"a"), (1, 0x2000_0000, b"b")]))
    with pytest.raises(FirmwareError, match=r"lies from 0x0 to 0x20000001: that is too much for a \.bin file"):
        make_image(path, ImageFormat.BIN)


def test_a_program_without_anything_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.elf"
    path.write_bytes(make_program([]))
    with pytest.raises(FirmwareError, match="has nothing to be put into flash"):
        make_image(path, ImageFormat.HEX)
