"""The tools that profiles may name: the command of each, word by word, and what is refused of their tables."""

from __future__ import annotations

import pathlib

import pytest

from microrpc.boards.catalogue import load_profile, profiles
from microrpc.boards.flashers import TOOLS, CommandFlasher, DriveFlasher
from microrpc.boards.schema import BoardKind, BoardProfile
from microrpc.errors import ProfileError

GOOD = 'name = "mine"\ndescription = "d"\nbaud = 115200\npacket_size_bytes = 2048\nheap_bytes = 4096\n'


def load(directory: pathlib.Path, text: str) -> BoardProfile:
    path = directory / "mine.toml"
    path.write_text(GOOD + text)
    return load_profile(path)


@pytest.mark.parametrize(
    ("tool", "table", "words"),
    [
        ("pyocd", 'target = "rp2040"', "pyocd load --no-wait -t rp2040 {file}"),
        (
            "openocd",
            'config = ["a.cfg", "b.cfg"]\ncommands = ["adapter speed 5000"]',
            "openocd -f a.cfg -f b.cfg -c|adapter speed 5000|-c|program {{file}} verify reset exit",
        ),
        ("openocd", 'config = ["a.cfg"]', "openocd -f a.cfg -c|program {{file}} verify reset exit"),
        ("st-flash", 'address = "0x08000000"', "st-flash --reset write {file} 0x08000000"),
        ("picotool", "", "picotool load -f -x {file}"),
        (
            "avrdude",
            'part = "atmega328p"\nprogrammer = "arduino"\nbaud = 115200\nargs = ["-D"]',
            "avrdude -p atmega328p -c arduino -P {port} -b 115200 -D -U flash:w:{file}:i",
        ),
        ("bossac", 'args = ["-e", "-w"]', "bossac --port={port} -e -w {file} -R"),
        (
            "dfu-util",
            'usb = "2341:035b"\naddress = "0x08040000"',
            "dfu-util -d 2341:035b -a 0 -s 0x08040000:leave -D {file}",
        ),
        (
            "esptool",
            'chip = "esp32s2"\naddress = "0x10000"',
            "esptool --chip esp32s2 --port {port} write_flash 0x10000 {file}",
        ),
    ],
)
def test_the_command_of_each_tool(tool: str, table: str, words: str, tmp_path: pathlib.Path) -> None:
    (way,) = load(tmp_path, f"[flashers.{tool}]\n{table}\n").ways_to_flash
    assert isinstance(way, CommandFlasher)
    first, *rest = words.split("|")
    assert way.words == (*first.split(), *rest)
    assert (way.tool, way.programs[0], way.touch) == (tool, tool, False)
    assert way.needs_port == ("{port}" in words)


def test_there_is_a_test_of_the_command_of_every_tool() -> None:
    tested = {mark.args[1][i][0] for mark in test_the_command_of_each_tool.pytestmark for i in range(len(mark.args[1]))}  # type: ignore[attr-defined]
    assert tested | {"uf2", "drive"} == TOOLS.keys()


def test_drives_are_told_by_name(tmp_path: pathlib.Path) -> None:
    text = '[flashers.uf2]\nboard_id = "RPI-RP2"\nbutton = "hold it"\ntouch = true\n'
    text += '[flashers.drive]\nlabel = "MICROBIT"\nform = "hex"\n'
    assert load(tmp_path, text).ways_to_flash == (
        DriveFlasher("uf2", "uf2", "RPI-RP2", "hold it", True),
        DriveFlasher("drive", "hex", "MICROBIT"),
    )


def test_the_order_is_that_of_the_profile_and_its_own_command_comes_first(tmp_path: pathlib.Path) -> None:
    text = 'flash = ["mine", "{hex}"]\n[flashers.picotool]\ntouch = true\n[flashers.pyocd]\ntarget = "x"\n'
    own, picotool, pyocd = load(tmp_path, text).ways_to_flash
    assert (own.tool, picotool.tool, pyocd.tool) == ("flash", "picotool", "pyocd")
    assert isinstance(own, CommandFlasher)
    assert own.words == ("mine", "{hex}")
    assert picotool.touch


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[flashers.pyodc]\ntarget = "x"', "flashers.pyodc: unknown key; did you mean 'pyocd'?"),
        ("[flashers.pyocd]", "flashers.pyocd.target: is missing"),
        ("[flashers.pyocd]\ntarget = 3", "flashers.pyocd.target: must be a text, not a whole number (3)"),
        ('[flashers.pyocd]\ntarget = "x"\nspeed = 1', "flashers.pyocd.speed: unknown key"),
        ('[flashers.drive]\nlabel = "X"\nform = "elf"', "flashers.drive.form: must be one of 'hex', 'bin', 'uf2'"),
        ('[flashers.st-flash]\naddress = "flash"', "flashers.st-flash.address: 'flash' is no address: write it as 0x"),
        ("[flashers.openocd]\nconfig = [1]", "flashers.openocd.config: must be a list of texts"),
        (
            '[flashers.avrdude]\npart = "m328p"\nprogrammer = "arduino"\nbaud = 0',
            "flashers.avrdude.baud: must be from 1 to 2147483647, not 0",
        ),
        ("[flashers]\nuf2 = true", "flashers.uf2: must be a table"),
    ],
)
def test_what_is_wrong_is_refused_with_the_key(text: str, reason: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ProfileError) as caught:
        load(tmp_path, text + "\n")
    assert str(caught.value).startswith(f"{tmp_path / 'mine.toml'}: {reason}")


def test_a_bundled_board_that_takes_bare_bytes_says_where_they_are_put() -> None:
    ways = [(board.name, way) for board in profiles().values() for way in board.flashers]
    bare = [
        (name, way)
        for name, way in ways
        if (way.form == "bin" if isinstance(way, DriveFlasher) else "bin" in way.forms and way.is_made)
    ]
    assert len(bare) > 8
    assert [name for name, way in bare if not way.address] == []


def test_no_board_that_is_emulated_or_simulated_is_flashed() -> None:
    for board in profiles().values():
        if board.kind is not BoardKind.HARDWARE:
            assert board.ways_to_flash == (), board.name


def test_a_bundled_board_that_takes_uf2_says_which_family_of_chips_it_is() -> None:
    for board in profiles().values():
        takes_uf2 = any(
            (way.form == "uf2") if isinstance(way, DriveFlasher) else "uf2" in way.forms for way in board.ways_to_flash
        )
        assert not takes_uf2 or board.uf2_family is not None, board.name
