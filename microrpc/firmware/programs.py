"""A program that is to be put into a board, in the form of a file that a tool takes."""

from __future__ import annotations

import contextlib
import hashlib
import pathlib
from dataclasses import dataclass

from microrpc.boards.files import WriteError, replacing
from microrpc.boards.schema import BoardProfile
from microrpc.errors import FirmwareError, reason_of
from microrpc.firmware import build as building
from microrpc.firmware.elf import read_image, read_machine
from microrpc.firmware.images import ImageFormat, make_image, uf2_family_of
from microrpc.firmware.project import Project, has_port, load_port

ELF = "elf"
"""The form that all others are made of; as a text, the ending of the file."""
FORMS = (ELF, *map(str, ImageFormat))
"""All forms of a program."""

_CODE = {"Cortex-": "ARM", "AVR": "AVR", "Xtensa": "Xtensa", "RISC-V": "RISC-V"}  # by a word of a profile's `mcu`
# What a bootloader writes to, by family: a block for elsewhere it ignores, and then it never starts the program.
_MEMORY = {0xE48BFF56: ((0x10000000, 0x11000000), (0x20000000, 0x20042000))}  # RP2040: flash, SRAM


@dataclass(frozen=True, slots=True)
class Program:
    """A program, as a `file` of a `form`. `uf2_family`: of the chips that a file of the form UF2 is to name, if any."""

    file: pathlib.Path
    form: str = ELF
    uf2_family: int | None = None

    def can_be(self, form: str, *, is_made: bool = True) -> bool:
        """Whether there is a file of that form, or with `is_made` one can be made."""
        return form == self.form or (is_made and self.form == ELF)

    def path_in(self, form: str, *, address: str = "") -> pathlib.Path:
        """Give the path of the program in that form; where it is made it is kept in the cache.

        A file of the form "bin" is put at `address`, where that is known. Raises FirmwareError, also for a program that
        is to lie elsewhere, or is for another chip than the family that UF2 names.
        """
        if form == self.form:
            return self.file
        if form == ImageFormat.BIN and address:
            _check_start(self.file, int(address, 0))
        if form == ImageFormat.UF2 and self.uf2_family is not None and self.uf2_family in _MEMORY:
            _check_addresses(self.file, self.uf2_family)
        return kept_image(self.file, ImageFormat(form), self.uf2_family)


def _check_start(elf: pathlib.Path, address: int) -> None:
    segments = read_image(elf).segments
    if segments and segments[0].address != address:
        where = f"begins at 0x{segments[0].address:08x}, and the board's flash that is written at 0x{address:08x}"
        raise FirmwareError(f"{elf}: is for another chip, or another place: it {where}")


def _check_addresses(elf: pathlib.Path, family: int) -> None:
    for segment in read_image(elf).segments:
        end = segment.address + len(segment.data)
        if not any(first <= segment.address and end <= last for first, last in _MEMORY[family]):
            where = f"0x{segment.address:08x} to 0x{end:08x}"
            raise FirmwareError(f"{elf}: is for another chip: it lies from {where}, and this one has no memory there")


def kept_image(elf: pathlib.Path, form: ImageFormat, uf2_family: int | None) -> pathlib.Path:
    """Give another form of a program, as a file in the cache whose name tells of its content.

    Raises FirmwareError.
    """
    data = make_image(elf, form, uf2_family=uf2_family)
    path = building.cache_directory() / f"{elf.stem}-{hashlib.sha256(data).hexdigest()[:16]}.{form}"
    if not _is_kept_whole(path, data):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                file.write(data)
        except WriteError as error:
            raise FirmwareError(str(error)) from error
        except OSError as error:
            raise FirmwareError(f"{path}: cannot be written: {reason_of(error)}") from error
    return path


def _is_kept_whole(path: pathlib.Path, data: bytes) -> bool:
    with contextlib.suppress(OSError):
        return building.is_kept(path) and path.read_bytes() == data
    return False


def is_program(path: pathlib.Path) -> bool:
    """Whether `path` is a file that somebody has built, by its ending."""
    return path.suffix.lower().removeprefix(".") in FORMS and path.is_file()


def read_program(path: pathlib.Path, uf2_family: int | None = None) -> Program:
    """Give the program in a file that somebody has built, whose form its ending tells.

    Raises FirmwareError for a file whose content is of another form, or that names another family of chips.
    """
    form = path.suffix.lower().removeprefix(".")
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise FirmwareError(f"{path}: cannot be read: {reason_of(error)}") from error
    if not head:
        raise FirmwareError(f"{path}: is empty")
    if form == ELF and not head.startswith(b"\x7fELF"):
        raise FirmwareError(f"{path}: is no ELF file")
    if form == ImageFormat.HEX and not head.startswith(b":"):
        raise FirmwareError(f"{path}: is no Intel HEX: it does not begin with a colon")
    if form == ImageFormat.UF2:
        check_family(path, uf2_family_of(path, head), uf2_family)
    return Program(path.resolve(), form, uf2_family)


def check_machine(program: Program, board: BoardProfile) -> None:
    """Raise FirmwareError for a program whose code is of another kind than the `mcu` of the board names."""
    wanted = [name for word, name in _CODE.items() if word in (board.mcu or "")]
    if program.form != ELF or not wanted:
        return
    machine = read_machine(program.file)
    if machine.name not in wanted:
        text = f"has code for {machine}, and {board.name} has a {board.mcu}"
        raise FirmwareError(f"{program.file}: is for another board: it {text}")


def check_project(project: Project, board: BoardProfile) -> None:
    """Raise FirmwareError for a project that was made for another board, as far as it says for which."""
    check_family(project.file, project.uf2_family, board.uf2_family)
    wanted = project.board
    if not wanted or wanted == board.name:
        return
    if has_port(wanted) and has_port(board.name) and load_port(wanted).is_same(load_port(board.name)):
        return
    text = f"is for {wanted} (`build.board`), and not for {board.name}"
    raise FirmwareError(f"{project.file}: {text}: `microrpc firmware new --board {board.name}` makes one that is")


def check_family(file: pathlib.Path, family: int | None, wanted: int | None) -> None:
    """Raise FirmwareError where `file` is for another family of chips than is `wanted`, as far as both are known."""
    if family is not None and wanted is not None and family != wanted:
        raise FirmwareError(f"{file}: is for chips of the family 0x{family:08x}, and this board is of 0x{wanted:08x}")
