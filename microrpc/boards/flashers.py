"""The tools that put a program into a board: a row of `TOOLS` for each, and what profiles say of them (docs/boards.md).

A tool is a command that is run, or a drive that a bootloader shows and that a file is copied to. How either is done
stands in `microrpc.firmware.flashing`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from microrpc.boards.tables import Key
from microrpc.errors import ProfileError

PROGRAM_PLACES = ("{elf}", "{bin}", "{hex}", "{uf2}")
"""What stands in a command for the path of a program, as a file of that form."""
FILE_PLACE = "{file}"
"""What stands in it for the program in the first of the forms that the tool takes."""
PORT_PLACE = "{port}"
"""What stands in it for the board's port, which is closed meanwhile."""
OWN_COMMAND = "flash"
"""The name of the command that a profile states whole."""


@dataclass(frozen=True, slots=True)
class CommandFlasher:
    """A command that puts a program into a board: what its `tool` is in profiles.

    `words` are its arguments, with places in them; `forms` are those that `FILE_PLACE` stands for, the best first.
    `programs` are the names that it may be installed by, `install` says how it is. `is_made` is False where only a
    file that somebody else made will do: nothing here makes one of an ELF file. With `touch` the port, where it is
    known, is opened at 1200 baud first, upon which the board's bootloader starts. `address` is where a file of the form
    "bin", which has none, is put, "" where that is not known. What it says when the board has the program is `success`,
    where its exit code does not tell.
    """

    tool: str
    words: tuple[str, ...]
    programs: tuple[str, ...]
    install: str
    forms: tuple[str, ...] = ()
    is_made: bool = True
    touch: bool = False
    address: str = ""
    success: str = ""

    @property
    def needs_port(self) -> bool:
        """Whether it cannot do without the board's port."""
        return any(PORT_PLACE in word for word in self.words)


@dataclass(frozen=True, slots=True)
class DriveFlasher:
    """A drive that a program's file is copied to: what its `tool` is in profiles.

    `name` tells it from other drives: the Board-ID in its INFO_UF2.TXT with the tool "uf2", else its label. `form` is
    that of the file, `address` as a command has it. `button` says what a person does to have the drive appear; with
    `touch` it appears, too, when the port is opened at 1200 baud.
    """

    tool: str
    form: str
    name: str
    button: str = ""
    touch: bool = False
    address: str = ""


Flasher = CommandFlasher | DriveFlasher
"""One way to put a program into a board."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that profiles may name: the `keys` of its table, and what `make` makes of its name and of the table."""

    keys: Mapping[str, Key]
    make: Callable[[str, Mapping[str, Any]], Flasher]


def own_command(words: tuple[str, ...]) -> CommandFlasher:
    """Give the way that a profile states whole, as the words of a command."""
    return CommandFlasher(OWN_COMMAND, words, words[:1], "it is the `flash` of the profile, which may name another")


def make_flashers(tables: Mapping[str, Mapping[str, Any]]) -> tuple[Flasher, ...]:
    """Give the ways of a profile's `flashers`, in its order, of tables that were checked."""
    return tuple(TOOLS[tool].make(tool, table) for tool, table in tables.items())


def _command(
    words: Callable[[Mapping[str, Any]], list[str]],
    install: str,
    *,
    keys: Mapping[str, Key],
    forms: tuple[str, ...] = (),
    programs: tuple[str, ...] = (),
    is_made: bool = True,
    success: str = "",
) -> Tool:
    """Give the row of a command; `words` makes its arguments, without the program, of the table in the profile."""

    def make(tool: str, table: Mapping[str, Any]) -> Flasher:
        names = programs or (tool,)
        all_words = (names[0], *words(table))
        touch, address = table.get("touch", False), table.get("address", "")
        return CommandFlasher(tool, all_words, names, install, forms, is_made, touch, address, success)

    return Tool({**keys, "touch": Key(bool)}, make)


def _uf2(tool: str, table: Mapping[str, Any]) -> Flasher:
    return DriveFlasher(tool, "uf2", table["board_id"], table.get("button", ""), table.get("touch", False))


def _drive(tool: str, table: Mapping[str, Any]) -> Flasher:
    return DriveFlasher(tool, table["form"], table["label"], table.get("button", ""), address=table.get("address", ""))


def _openocd(table: Mapping[str, Any]) -> list[str]:
    files = [word for name in table["config"] for word in ("-f", name)]
    before = [word for command in table.get("commands", ()) for word in ("-c", command)]
    # The braces are Tcl's: what is between them is one word, whatever the path has in it.
    return [*files, *before, "-c", f"program {{{FILE_PLACE}}} verify reset exit"]


def _check_address(text: str) -> str:
    try:
        int(text, 0)
    except ValueError:
        raise ProfileError(f"{text!r} is no address: write it as 0x08000000") from None
    return text


_TEXT, _TEXTS = Key(str, required=True), Key(list, required=True, of=str, wanted="a list of texts")
_MORE = Key(list, of=str, wanted="a list of texts")
_ADDRESS = Key(str, required=True, read=_check_address)
_BAUD = Key(int, required=True, bounds=(1, 2**31 - 1))

TOOLS: dict[str, Tool] = {
    "uf2": Tool({"board_id": _TEXT, "button": Key(str), "touch": Key(bool)}, _uf2),
    "drive": Tool(
        {
            "label": _TEXT,
            "form": Key(str, required=True, choices=("hex", "bin", "uf2")),
            "button": Key(str),
            "address": dataclasses.replace(_ADDRESS, required=False),
        },
        _drive,
    ),
    "pyocd": _command(
        # Without --no-wait it waits for a probe for ever.
        lambda table: ["load", "--no-wait", "-t", table["target"], FILE_PLACE],
        "pip install pyocd",
        keys={"target": _TEXT},
        forms=("elf", "hex"),
    ),
    "openocd": _command(
        _openocd,
        "apt-get install openocd, or pip install openocd-esp32",
        keys={"config": _TEXTS, "commands": _MORE},
        forms=("elf", "hex"),
        programs=("openocd", "openocd-esp32"),
    ),
    "st-flash": _command(
        lambda table: ["--reset", "write", FILE_PLACE, table["address"]],
        "apt-get install stlink-tools",
        keys={"address": _ADDRESS},
        forms=("bin",),
    ),
    "picotool": _command(
        lambda table: ["load", "-f", "-x", FILE_PLACE],
        "apt-get install picotool, or from Raspberry Pi's page of it",
        keys={},
        forms=("uf2", "elf"),
    ),
    "avrdude": _command(
        lambda table: [
            *("-p", table["part"], "-c", table["programmer"], "-P", PORT_PLACE, "-b", str(table["baud"])),
            *(*table.get("args", ()), "-U", f"flash:w:{FILE_PLACE}:i"),
        ],
        "apt-get install avrdude",
        keys={"part": _TEXT, "programmer": _TEXT, "baud": _BAUD, "args": _MORE},
        forms=("hex",),
    ),
    "bossac": _command(
        lambda table: [f"--port={PORT_PLACE}", *table["args"], FILE_PLACE, "-R"],
        "apt-get install bossa-cli",
        keys={"args": _TEXTS, "address": dataclasses.replace(_ADDRESS, required=False)},
        forms=("bin",),
    ),
    "dfu-util": _command(
        lambda table: ["-d", table["usb"], "-a", "0", "-s", f"{table['address']}:leave", "-D", FILE_PLACE],
        "apt-get install dfu-util",
        keys={"usb": _TEXT, "address": _ADDRESS},
        forms=("bin",),
        # A board that starts the program at once does not answer any more, which is an exit code of 74.
        success="File downloaded successfully",
    ),
    # Without --port it tries every serial port of the computer.
    "esptool": _command(
        lambda table: ["--chip", table["chip"], "--port", PORT_PLACE, "write_flash", table["address"], FILE_PLACE],
        "pip install esptool",
        keys={"chip": _TEXT, "address": _ADDRESS},
        forms=("bin",),
        programs=("esptool", "esptool.py"),
        is_made=False,
    ),
}
"""All tools that a profile may name in `flashers`, in no order: the profile's is what counts."""
