"""`microrpc firmware flash`: from sources, or from a file, to a board that answers."""

from __future__ import annotations

import os
import re
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microrpc.cli import completing
from microrpc.cli.common import (
    BoardFileOption,
    JsonOption,
    find_profile,
    open_with,
    print_json,
    reporting,
    say_pairs,
)
from microrpc.cli.firmware import CompilerOption, DefineOption, compiler_named
from microrpc.cli.info import Seen, look_at
from microrpc.cli.progress import progress_bar
from microrpc.cli.signals import until_signal
from microrpc.cli.streams import note, say
from microrpc.cli.telling import with_telling

if TYPE_CHECKING:
    from microrpc.boards.schema import BoardProfile
    from microrpc.firmware.build import Firmware
    from microrpc.firmware.flashing import Flashing
    from microrpc.firmware.programs import Program
    from microrpc.firmware.project import Project

_ANY = "micropython"  # the profile of whatever board has an interpreter


@with_telling
def flash(
    target: Annotated[
        str,
        typer.Argument(
            metavar="PORT|BOARD",
            autocompletion=completing.ports_and_boards,
            show_default=False,
            help="/dev/ttyACM0, COM3, ..., or the board's name: rpi_pico, arduino_uno, ... (`microrpc boards`).",
        ),
    ],
    project: Annotated[
        str | None,
        typer.Argument(
            metavar="PROJECT",
            show_default=False,
            help="A project's directory, or a file .elf, .uf2, .hex or .bin. [default: the demonstration]",
        ),
    ] = None,
    tool: Annotated[
        str | None,
        typer.Option("--tool", metavar="NAME", help="How: uf2, pyocd, ... [default: the first that is at hand]"),
    ] = None,
    drive: Annotated[
        Path | None,
        typer.Option("--drive", metavar="DIR", help="Where the board's boot drive is mounted. [default: found]"),
    ] = None,
    port: Annotated[
        str | None,
        typer.Option(
            "--port",
            metavar="PORT",
            autocompletion=completing.ports,
            help="The port of the BOARD. [default: found by its USB ids]",
        ),
    ] = None,
    board: Annotated[
        str | None,
        typer.Option(
            "--board",
            metavar="NAME",
            autocompletion=completing.boards,
            help="The board behind the PORT. [default: as its USB ids tell]",
        ),
    ] = None,
    board_file: BoardFileOption = None,
    define: DefineOption = None,
    compiler: CompilerOption = "zig",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build, print what would be done, and leave the board alone.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Build firmware, put it on a board, and show what came up.

    How that is done the board's profile says (`microrpc boards NAME`): a copy to its boot drive, or a tool that is
    installed. A PORT tells which board it is by its USB ids, or with --board.
    """
    with reporting(as_json=as_json), until_signal():
        from microrpc.firmware.flashing import choose
        from microrpc.firmware.putting import choose_for, firmware_for, with_built

        given = _find_project(project, has_defines=bool(define), is_zig=compiler == "zig")
        profile, named_port = _find_board(target, board, board_file, port, may_be_any=_is_script(given))
        source = given if given is not None else firmware_for(profile, named_port)
        at = named_port
        if at is None and (drive is None or not profile.has_own_usb):
            at = _port_of(profile)
        chosen = partial(choose, tool=tool, drive=drive, is_port_named=named_port is not None, is_shown_only=dry_run)
        # Before anything is built: what is missing is told at once.
        flashing = choose_for(source, profile, at, chosen=chosen)
        if not dry_run:
            _check_port(flashing)
        built = None
        if not isinstance(source, Path):
            from microrpc.firmware.build import build

            built = build(source, compiler=compiler_named(compiler), defines=define or ())
            flashing = with_built(flashing, built)
        if dry_run:
            _show_commands(flashing, built, as_json=as_json)
            return
        used, seen = _flash(flashing, as_json=as_json)
        if seen is not None:
            _check_is_it(seen, flashing.program)
        if as_json:
            shown = {"board": profile.name, "tool": used, "file": str(flashing.program.file)}
            print_json({**shown, "info": seen.as_json if seen is not None else None})
        elif seen is not None:
            say_pairs(seen.pairs)
        else:
            text = f"{profile.name} has the program, and no port of it is known"
            say(f"{text}: `microrpc info PORT` shows what it is, where you know the port")


# --- which board, and which program -------------------------------------------------------------


def _find_board(
    target: str, board: str | None, board_file: Path | None, port: str | None, *, may_be_any: bool
) -> tuple[BoardProfile, str | None]:
    """Give the profile of the board, and its port where that was named; `may_be_any`: with an interpreter.

    Raises ProfileError and PortError.
    """
    from microrpc.boards.catalogue import profile, profiles
    from microrpc.connecting.address import SIMULATOR_SCHEME, is_emulated, named_board
    from microrpc.firmware.project import FILE_NAME

    if Path(target, FILE_NAME).is_file():
        text = f"{target}: is a project: name the board, or its port, before it"
        raise typer.BadParameter(f"{text}: microrpc firmware flash BOARD {target}")
    if _is_port(target):
        if port is not None:
            raise typer.BadParameter(f"{target} and --port {port}: name the port once")
        if board is not None or board_file is not None:
            return find_profile(board, None, board_file), target
        if named := named_board(target):
            if target.startswith(SIMULATOR_SCHEME):
                raise typer.BadParameter(f"{target}: a simulated board takes no firmware")
            if is_emulated(target) and named not in profiles():
                raise typer.BadParameter(f"{target}: an emulated board is given its program when its emulator starts")
            return profile(named), target
        return profile(_ANY) if may_be_any else _board_behind(target), target
    if board is not None:
        raise typer.BadParameter(f"{target} and --board {board}: name the board once")
    if board_file is None:
        return _profile_of(target), port
    chosen = find_profile(None, None, board_file)
    if chosen.name != target:
        raise typer.BadParameter(f"{target}: {board_file} is the profile of {chosen.name}")
    return chosen, port


def _profile_of(target: str) -> BoardProfile:
    """Give the profile of that name. Raises ProfileError, which says what there is for any other board."""
    from microrpc.boards.catalogue import profile, profiles
    from microrpc.errors import ProfileError
    from microrpc.firmware.new import FOR_ANY

    try:
        return profile(target)
    except ProfileError as error:
        if target in profiles():
            raise
        raise ProfileError(f"{error}. {FOR_ANY}") from error


def _is_port(target: str) -> bool:
    is_path = "/" in target or "\\" in target
    return is_path or re.fullmatch(r"(?i)com\d+", target) is not None


def _board_behind(port: str) -> BoardProfile:
    """Give the board that a port's USB ids tell. Raises PortError where they tell none, or several."""
    from microrpc.boards.catalogue import profiles
    from microrpc.boards.finding import boards_behind
    from microrpc.errors import PortError
    from microrpc.ports.refusal import no_such_port
    from microrpc.ports.usb import serial_ports

    device = os.path.realpath(port) if os.name != "nt" else port
    there = next((each for each in serial_ports() if each.device.upper() == device.upper()), None)
    if there is None and not os.path.exists(port):
        raise no_such_port(port)
    known = profiles()
    names = boards_behind(there, known.values()) if there is not None else []
    if len(names) != 1:
        seen = f"it may be {' or '.join(names)}" if names else "its USB id tells none"
        raise PortError(port, f"{port}: say which board is behind it with --board: {seen}")
    return known[names[0]]


def _check_port(flashing: Flashing) -> None:
    """Raise PortNotFoundError where the tool takes a port that is not there: it would say so later, and less of it."""
    from microrpc.boards.flashers import CommandFlasher
    from microrpc.ports.refusal import no_such_port

    way, port = flashing.way, flashing.port or ""
    is_taken = isinstance(way, CommandFlasher) and way.needs_port
    if is_taken and os.path.isabs(port) and not os.path.exists(port):  # else it is COM3, or an address that it knows
        raise no_such_port(port)


def _port_of(profile: BoardProfile) -> str | None:
    """Give the port that a board is plugged into, None where there is none that its USB ids tell."""
    from microrpc.boards.finding import find_port
    from microrpc.errors import PortNotFoundError

    if not profile.usb:
        return None
    try:
        return find_port(profile)
    except PortNotFoundError:
        return None  # its bootloader runs, or a debug probe does it all


def _find_project(project: str | None, *, has_defines: bool, is_zig: bool) -> Path | Project | None:
    """Give the file that was built, or what is to be built; None where nothing is named. Raises FirmwareError."""
    from microrpc.firmware.putting import find_source

    source = find_source(project) if project is not None else None
    if isinstance(source, Path) and (has_defines or not is_zig):
        raise typer.BadParameter(f"{'--define' if has_defines else '--compiler'}: {source} is built already")
    return source


def _is_script(given: Path | Project | None) -> bool:
    return given is not None and not isinstance(given, Path) and given.script is not None


# --- what is done -------------------------------------------------------------------------------


def _show_commands(flashing: Flashing, built: Firmware | None, *, as_json: bool) -> None:
    commands = flashing.commands()
    if as_json:
        print_json(
            {
                "board": flashing.profile.name,
                "tool": flashing.way.tool,
                "file": str(flashing.program.file),
                "flash_bytes": built.sizes.flash_bytes if built is not None and built.compiler else None,
                "commands": commands,
            }
        )
        return
    if built is not None and built.compiler:
        note(f"{built.project.name}: {built.sizes.flash_bytes} bytes of flash, {built.elf}")
    if flashing.not_installed:
        note(flashing.not_installed)
    for words in commands:
        say(shlex.join(words))


def _check_is_it(seen: Seen, program: Program) -> None:
    """Warn where what answers has a name that is not in the program: a tool may end with 0 and have done nothing."""
    from microrpc.firmware.putting import strange_names

    identity = seen.as_json["identity"]
    names = strange_names(program, [identity["board"], identity["firmware"]]) if identity is not None else []
    if names:
        text = f"what answers on {seen.as_json['port']} calls itself {' and '.join(map(repr, names))}"
        note(f"warning: {text}, which the program does not: it is another board, or has its old program still")


def _flash(flashing: Flashing, *, as_json: bool) -> tuple[str, Seen | None]:
    """Do it, and give the tool that did, and what the board then is; None where its port is not known."""
    from microrpc.boards.booting import BootedPort
    from microrpc.errors import MicroRpcError

    profile = flashing.profile
    booted = BootedPort(profile, flashing.port)  # what it is must be known before it goes
    if not as_json:
        note(f"flashing {profile.name} with {flashing.way.tool} ...")
    with progress_bar(f"to {profile.name}") as on_piece:
        tool = flashing.run(on_note=note, on_piece=on_piece).tool
    if not booted.can_be_known:
        return tool, None
    if not as_json:
        note("waiting for it to boot ...")
    try:
        return tool, booted.look(lambda name: _look(profile, name))
    except MicroRpcError as error:
        error.add_note(f"{profile.name} was flashed with {tool} before")
        raise


def _look(profile: BoardProfile, port: str) -> Seen:
    with open_with(profile, port) as opened:
        return look_at(opened, port, profile, profile.baud)
