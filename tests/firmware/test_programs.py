"""Programs as files: which forms one has, and what is refused of one that somebody else built."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from firmware.test_elf import make_program

from microrpc.boards.catalogue import profile
from microrpc.errors import FirmwareError
from microrpc.firmware.images import ImageFormat, make_image
from microrpc.firmware.new import new_project
from microrpc.firmware.programs import Program, check_project, is_program, read_program
from microrpc.firmware.project import load_project

pytestmark = pytest.mark.usefixtures("own_cache")

PICO, SAMD51 = 0xE48BFF56, 0x55114460


@pytest.fixture
def elf(tmp_path: Path) -> Path:
    path = tmp_path / "firmware.elf"
    path.write_bytes(make_program([(1, 0x10000000, b"abcde")]))
    return path


def test_an_elf_file_can_be_all_and_other_files_only_what_they_are(elf: Path) -> None:
    assert [form for form in ("elf", "bin", "hex", "uf2") if Program(elf).can_be(form)] == ["elf", "bin", "hex", "uf2"]
    assert not Program(elf).can_be("bin", is_made=False)
    assert Program(elf).can_be("elf", is_made=False)
    hex_file = Program(elf.with_suffix(".hex"), "hex")
    assert [form for form in ("elf", "bin", "hex", "uf2") if hex_file.can_be(form)] == ["hex"]


@pytest.mark.parametrize("form", list(ImageFormat))
def test_a_form_that_is_made_is_kept_in_the_cache(elf: Path, own_cache: Path, form: ImageFormat) -> None:
    program = Program(elf, uf2_family=PICO)
    path = program.path_in(form)
    assert (path.parent, path.suffix) == (own_cache, f".{form}")
    assert path.read_bytes() == make_image(elf, form, uf2_family=PICO)
    assert program.path_in(form) == path
    path.write_bytes(b"cut")
    assert program.path_in(form) == path
    assert path.read_bytes() == make_image(elf, form, uf2_family=PICO)
    assert len(list(own_cache.iterdir())) == 1


@pytest.mark.parametrize(
    ("address", "is_there"),
    [(0, False), (0xFFFFFFF, False), (0x10000000, True), (0x10FFFFFB, True), (0x10FFFFFC, False), (0x20000000, True)],
)
def test_a_program_that_lies_where_the_chip_has_no_memory_is_refused(
    tmp_path: Path, address: int, is_there: bool
) -> None:
    elf = tmp_path / "other.elf"
    elf.write_bytes(make_program([(1, address, b"abcde")]))
    if is_there:
        assert Program(elf, uf2_family=PICO).path_in("uf2").stat().st_size >= 512
    else:
        where = f"it lies from 0x{address:08x} to 0x{address + 5:08x}, and this one has no memory there"
        with pytest.raises(FirmwareError, match=f"other.elf: is for another chip: {where}$"):
            Program(elf, uf2_family=PICO).path_in("uf2")
    assert Program(elf, uf2_family=SAMD51).path_in("uf2").stat().st_size >= 512  # where that has it is not known here


def test_the_form_that_it_has_is_the_file_itself(elf: Path, own_cache: Path) -> None:
    assert Program(elf).path_in("elf") == elf
    assert not own_cache.exists()


def test_a_cache_that_cannot_be_written_is_told(elf: Path, own_cache: Path) -> None:
    own_cache.write_text("in the way")
    with pytest.raises(FirmwareError, match=r"cache.*: cannot be written: "):
        Program(elf).path_in("hex")


def test_files_are_told_by_their_endings(tmp_path: Path) -> None:
    for name, expected in (("x.ELF", True), ("x.uf2", True), ("x.hex", True), ("x.bin", True), ("x.c", False)):
        (tmp_path / name).touch()
        assert is_program(tmp_path / name) is expected
    assert not is_program(tmp_path / "missing.elf")
    (tmp_path / "project.elf").mkdir()
    assert not is_program(tmp_path / "project.elf")


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("x.elf", b"MZ and more", "is no ELF file"),
        ("x.hex", b"\x7fELF", "is no Intel HEX: it does not begin with a colon"),
        ("x.uf2", b"UF2\n", "is no UF2 file"),
        ("x.uf2", b"\0" * 512, "is no UF2 file"),
        ("x.bin", b"", "is empty"),
    ],
)
def test_a_file_that_is_not_what_its_ending_says_is_refused(
    tmp_path: Path, name: str, data: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(FirmwareError, match=rf"{name}: {reason}$"):
        read_program(tmp_path / name)


def test_a_uf2_file_for_other_chips_is_refused(elf: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.uf2"
    path.write_bytes(make_image(elf, ImageFormat.UF2, uf2_family=SAMD51))
    with pytest.raises(FirmwareError, match=r"is for chips of the family 0x55114460, and this board is of 0xe48bff56"):
        read_program(path, PICO)
    assert read_program(path, SAMD51) == Program(path, "uf2", SAMD51)
    assert read_program(path).form == "uf2"
    path.write_bytes(make_image(elf, ImageFormat.UF2))  # names none
    assert read_program(path, PICO).form == "uf2"


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(FirmwareError, match=r"no\.elf: cannot be read: No such file or directory"):
        read_program(tmp_path / "no.elf")


def test_a_project_is_for_the_board_that_it_was_made_for(tmp_path: Path) -> None:
    for name, boards in (("rp2040", ("rpi_pico", "rp2040")), ("arduino_uno", ("arduino_uno", "simavr_uno"))):
        new_project(tmp_path / name, name)
        project = load_project(tmp_path / name)
        assert project.board == name
        for board in boards:  # an emulator runs the firmware of the hardware
            check_project(project, profile(board))
    with pytest.raises(FirmwareError, match=r"is for arduino_uno \(`build\.board`\), and not for arduino_mega"):
        check_project(project, profile("arduino_mega"))
    with pytest.raises(FirmwareError, match="is for arduino_uno"):
        check_project(project, profile("spresense"))
    check_project(dataclasses.replace(project, board=""), profile("arduino_mega"))  # it does not say


def test_a_program_begins_where_its_bytes_are_put(elf: Path, own_cache: Path) -> None:
    assert Program(elf).path_in("bin", address="0x10000000").read_bytes() == b"abcde"
    with pytest.raises(FirmwareError, match=r"begins at 0x10000000, and the board's flash .* written at 0x00080000$"):
        Program(elf).path_in("bin", address="0x80000")
    assert Program(elf).path_in("hex", address="0x80000").is_file()  # which has its addresses
