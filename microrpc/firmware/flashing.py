"""Putting a program into a board: by the command of its profile, a tool that is installed, or a boot drive.

docs/boards.md has what profiles say of it, `microrpc.boards.flashers` the tools.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import re
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from microrpc.boards import resets, strategies
from microrpc.boards.flashers import (
    FILE_PLACE,
    OWN_COMMAND,
    PORT_PLACE,
    PROGRAM_PLACES,
    CommandFlasher,
    DriveFlasher,
    Flasher,
)
from microrpc.boards.schema import BoardKind, BoardProfile
from microrpc.boards.tables import did_you_mean
from microrpc.errors import FirmwareError, printable
from microrpc.firmware import drives
from microrpc.firmware.drives import Drive, DriveTools, OnPiece
from microrpc.firmware.programs import Program, check_machine
from microrpc.firmware.running import try_to_run

_PLACE = re.compile("|".join(map(re.escape, (*PROGRAM_PLACES, FILE_PLACE, PORT_PLACE))))
_STTY_PORT = "-f" if sys.platform == "darwin" else "-F"
_MOST_SAID_CHARS = 2000  # of what a command said, in an error

OnNote = Callable[[str], None]
"""Told in a line what a person should do or know."""


def find_program(name: str) -> str | None:
    """Find a program: in the path, or beside the Python that runs this, where pip puts those of its packages."""
    return shutil.which(name) or shutil.which(name, path=os.path.dirname(sys.executable))


@dataclass(frozen=True, slots=True)
class FlashTools:
    """What flashing needs of the computer. Tests put others in.

    `find_program`: gives the path of a program, None where it is not installed. `touch`: opens a port at 1200 baud, and
    waits until it is back; `touch_only` does not wait. `is_there`: whether there is such a port. `drives`: of boot
    drives.
    """

    find_program: Callable[[str], str | None] = find_program
    touch: Callable[[str], None] = lambda port: strategies.touch(port, resets.TOOLS)
    touch_only: Callable[[str], None] = lambda port: strategies.touch_only(port, resets.TOOLS)
    is_there: Callable[[str], bool] = resets.TOOLS.is_there
    drives: DriveTools = field(default_factory=DriveTools)


TOOLS = FlashTools()
"""Those of this computer."""


@dataclass(frozen=True, slots=True)
class Flashing:
    """A `program`, the board that is to have it by its `profile`, and the `way` that was chosen: what `choose` gives.

    `others` are the ways that there are besides. `port` is the board's, None where it is not known; `drive` the
    directory of a boot drive that is there, or was named. `tools` are what it needs of the computer. `then` is what is
    done where it fails: a drive that a person can have appear, where a tool is installed that need not be for this.
    """

    profile: BoardProfile
    program: Program
    way: Flasher
    others: tuple[Flasher, ...] = ()
    port: str | None = None
    drive: pathlib.Path | None = None
    tools: FlashTools = TOOLS
    then: Flashing | None = None

    @property
    def has_touch(self) -> bool:
        """Whether the port is opened at 1200 baud first."""
        return self.way.touch and self.port is not None and self.drive is None

    def of(self, program: Program) -> Flashing:
        """Give the same of another program."""
        then = self.then.of(program) if self.then is not None else None
        return dataclasses.replace(self, program=program, then=then)

    @property
    def not_installed(self) -> str:
        """Say what tool is to be installed, and how; "" where none is."""
        way = self.way
        if isinstance(way, DriveFlasher) or way.tool == OWN_COMMAND or any(map(self.tools.find_program, way.programs)):
            return ""
        return f"{' or '.join(way.programs)} is not installed: {way.install}"

    def commands(self) -> list[list[str]]:
        """Give the words of what is done, as one could type it. Raises FirmwareError."""
        before = [["stty", _STTY_PORT, self.port or "", "1200"]] if self.has_touch else []
        if isinstance(self.way, CommandFlasher):
            return [*before, self._words(self.way)]
        file = self._file(self.way.form, self.way.address)
        drive = self.drive if self.drive is not None else pathlib.Path(self.way.name)
        return [*before, ["cp", str(file), str(drive / f"firmware.{self.way.form}")]]

    def run(
        self,
        *,
        stop: threading.Event | None = None,
        on_note: OnNote = lambda text: None,
        on_piece: OnPiece | None = None,
    ) -> Flasher:
        """Do it, and give the way that did; set `stop` in another thread to have it ended.

        `on_piece` is told of the copy to a drive. Raises FirmwareError, with the last words of a command that failed,
        and PortError where the port cannot be opened. Where this is interrupted, all that it has started is killed.
        """
        if isinstance(self.way, DriveFlasher):
            self._copy(self.way, stop, on_note, on_piece)
            return self.way
        try:
            self._run_command(self.way, stop)
        except FirmwareError as error:
            if self.then is None or (stop is not None and stop.is_set()):
                raise
            on_note(str(error))
            return self.then.run(stop=stop, on_note=on_note, on_piece=on_piece)
        return self.way

    def _file(self, form: str, address: str) -> pathlib.Path:
        check_machine(self.program, self.profile)
        return self.program.path_in(form, address=address)

    def _words(self, way: CommandFlasher) -> list[str]:
        values = {PORT_PLACE: self.port or ""}
        for place in (*PROGRAM_PLACES, FILE_PLACE):
            if any(place in word for word in way.words):
                form = place.strip("{}") if place != FILE_PLACE else _form_for(way, self.program)
                values[place] = str(self._file(form, way.address))
        program = self._installed(way) or way.words[0]
        return [program, *(_PLACE.sub(lambda found: values[found.group()], word) for word in way.words[1:])]

    def _installed(self, way: CommandFlasher) -> str | None:
        """Give the first name of the command's that is installed, as a path where it is not in the path."""
        for name in way.programs:
            if found := self.tools.find_program(name):
                return name if shutil.which(name) else found
        return None

    def _run_command(self, way: CommandFlasher, stop: threading.Event | None) -> None:
        words = self._words(way)
        if self.has_touch:
            self.tools.touch(self.port or "")
        ran = try_to_run(words, None, self.profile.flash_s, stop)
        reason = ran.failure
        if ran.code is not None and ran.code > 0 and way.success and way.success in ran.stdout:
            return
        if "took longer" in reason:
            reason += " (`flash_s`)"
        if reason:
            said = _last_words(ran.stdout, ran.stderr)
            raise self._failed(f"{shlex.join(words)} {reason}{said}{self._other_ways()}")

    def _copy(
        self,
        way: DriveFlasher,
        stop: threading.Event | None,
        on_note: OnNote,
        on_piece: OnPiece | None,
    ) -> None:
        tools = self.tools.drives
        file = self._file(way.form, way.address)
        others: Sequence[Drive] = ()
        if self.has_touch:
            others = drives.all_drives(way, tools)
            self.tools.touch_only(self.port or "")
        elif self.drive is None:
            remedy = drives.how_to_mount(way) or way.button
            what = f"its drive, {way.name}, is not there{f': {remedy}' if remedy else ''}"
            on_note(f"{what}. It is waited for, {drives.APPEAR_S:g} s at most")
        try:
            drive = (
                self.drive
                if self.drive is not None
                else drives.wait_for_drive(way, drives.APPEAR_S, but_not=others, stop=stop, tools=tools)
            )
            odd = drives.copy_to_drive(
                way, file, drive, timeout_s=self.profile.flash_s, stop=stop, on_piece=on_piece, tools=tools
            )
        except FirmwareError as error:
            raise self._failed(str(error)) from error
        if odd:
            on_note(odd)

    def _other_ways(self) -> str:
        """Give what there is besides, as the end of an error: a tool that is installed need not be the right one."""
        others = [
            f"{way.tool} ({way.button})" if isinstance(way, DriveFlasher) and way.button else way.tool
            for way in self.others
        ]
        return f"\nOther ways, with --tool: {', '.join(others)}" if others else ""

    def _failed(self, reason: str) -> FirmwareError:
        return FirmwareError(f"{self.port or self.profile.name}: it could not be flashed: {reason}")


def check_can_be_flashed(profile: BoardProfile, port: str | None = None) -> None:
    """Raise FirmwareError for a board that no program can be put into."""
    where = port or profile.name
    if profile.kind is BoardKind.EMULATED:
        text = "an emulated board is given its program when its emulator is started"
        raise FirmwareError(f"{where}: {text}: `microrpc firmware run {profile.name}` builds it and starts it")
    if profile.kind is BoardKind.SIMULATED and not profile.ways_to_flash:
        raise FirmwareError(f"{where}: is no real board, but a simulated one: `microrpc boards` lists those there are")
    if not profile.ways_to_flash:
        raise FirmwareError(
            f"{where}: microrpc does not know how a program is put into {profile.name}: "
            "state it in `flash` of a profile of your own (docs/boards.md), and name that with --board-file"
        )


def choose(
    profile: BoardProfile,
    program: Program,
    port: str | None = None,
    *,
    ways: Sequence[Flasher] | None = None,
    tool: str | None = None,
    drive: pathlib.Path | None = None,
    may_ask: bool = True,
    is_port_named: bool = True,
    is_shown_only: bool = False,
    tools: FlashTools = TOOLS,
) -> Flashing:
    """Choose the first way of the profile that is at hand; where none is, and `may_ask`, a drive that a person can have
    appear.

    ways: those of the program, where it is not for the profile to say. tool: only that of this name. drive: the
    directory of a boot drive, and no other way. is_port_named: whether somebody has said which port it is, so that a
    drive which is there besides is another board's. is_shown_only: where nothing is at hand, the first that would be if
    its tool were installed. Raises FirmwareError, which says of each way what it wants.
    """
    if ways is None:
        check_can_be_flashed(profile, port)
        ways = profile.ways_to_flash
    all_ways = tuple(ways)
    ways = _named(profile, ways, tool)
    if drive is not None:
        return _with_drive(profile, program, ways, port, drive, tools)
    wants: list[tuple[str, str]] = []
    later: Flashing | None = None  # after a tool that fails
    waited: Flashing | None = None  # where there is none
    shown: Flashing | None = None
    for way in ways:
        others = tuple(other for other in all_ways if other != way)
        flashing = Flashing(profile, program, way, others, port, tools=tools)
        if want := _missing(flashing) or flashing.not_installed:
            wants.append((way.tool, want))
            shown = shown or (flashing if is_shown_only and not _missing(flashing) else None)
            continue
        if isinstance(way, CommandFlasher):
            return dataclasses.replace(flashing, then=later if may_ask and way.tool != OWN_COMMAND else None)
        if flashing.has_touch and tools.is_there(port or ""):
            # Where the port is the chip's own it shows no drive: one that is there is another board's.
            if not is_port_named and (there := drives.all_drives(way, tools.drives)):
                text = f"one {profile.name} is on {port}, and another one shows the drive {there[0].place}"
                raise FirmwareError(f"{text}: say with --port or --drive which is meant")
            return flashing
        if (found := drives.find_drive(way, tools.drives)) is not None:
            return dataclasses.replace(flashing, drive=found)
        if flashing.has_touch:
            return flashing
        wants.append((way.tool, f"its drive, {way.name}, is not there: {drives.how_to_mount(way) or way.button}"))
        waited = waited or flashing
        later = later or (flashing if way.button else None)
    if waited is not None and may_ask:
        return waited
    if shown is not None:
        return shown
    rows = "".join(f"\n{name}: {want}" for name, want in wants)
    raise FirmwareError(f"{port or profile.name}: nothing here can put the program into {profile.name}:{rows}")


def flash(
    profile: BoardProfile,
    port: str,
    elf: pathlib.Path,
    *,
    stop: threading.Event | None = None,
    tools: FlashTools = TOOLS,
) -> None:
    """Put the program in the file `elf` into the board on `port`, which must be closed, with nobody beside it.

    Raises FirmwareError, with the command's last words where that failed, and PortError. Set `stop` in another thread
    to have it ended.
    """
    program = Program(elf, uf2_family=profile.uf2_family)
    choose(profile, program, port, may_ask=False, tools=tools).run(stop=stop)


async def flash_aside(profile: BoardProfile, port: str, elf: pathlib.Path) -> None:
    """Do as `flash` does, while the loop goes on. Where this is cancelled, what it has started is killed."""
    stop = threading.Event()
    work = asyncio.ensure_future(asyncio.to_thread(flash, profile, port, elf, stop=stop))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        with contextlib.suppress(Exception):
            await work
        raise


def _named(profile: BoardProfile, ways: Sequence[Flasher], tool: str | None) -> Sequence[Flasher]:
    found = [way for way in ways if tool in (None, way.tool)]
    if not found:
        names = [way.tool for way in ways]
        guess = did_you_mean(str(tool), names) or "."
        raise FirmwareError(f"{profile.name} has no way {tool!r} to be flashed{guess} It has: {', '.join(names)}")
    return found


def _with_drive(
    profile: BoardProfile,
    program: Program,
    ways: Sequence[Flasher],
    port: str | None,
    drive: pathlib.Path,
    tools: FlashTools,
) -> Flashing:
    way = next((way for way in ways if isinstance(way, DriveFlasher)), None)
    if way is None:
        raise FirmwareError(f"{drive}: {profile.name} is not flashed by a drive, but by {_names(ways)}")
    if not drive.is_dir():
        raise FirmwareError(f"{drive}: there is no such directory: name that at which the boot drive is mounted")
    if way.tool == "uf2" and (there := drives.board_id(drive)) != way.name:
        what = f"is the boot drive of {printable(there)}" if there else "is no boot drive, for it has no INFO_UF2.TXT"
        raise FirmwareError(f"{drive}: {what}: that of {way.name} is wanted")
    flashing = Flashing(profile, program, way, port=port, drive=drive, tools=tools)
    if want := _missing(flashing):
        raise FirmwareError(f"{drive}: {way.tool}: {want}")
    return flashing


def _names(ways: Sequence[Flasher]) -> str:
    return " or ".join(way.tool for way in ways)


def _missing(flashing: Flashing) -> str:
    """Say what a way wants that is not there, besides its tool or a drive; "" where nothing is missing."""
    way, program = flashing.way, flashing.program
    if isinstance(way, DriveFlasher):
        return "" if program.can_be(way.form) else f"takes a file .{way.form}, and {program.file.name} is none"
    forms = _forms_in(way.words)
    if not all(program.can_be(form) for form in forms):
        return f"takes a file .{' and '.join(forms)}, and {program.file.name} is none"
    if way.forms and not _form_for(way, program):
        made = "" if way.is_made else " that the board's own tools have made"
        return f"takes a file .{' or .'.join(way.forms)}{made}, and {program.file.name} is none"
    if way.needs_port and flashing.port is None:
        return "takes the board's port: name it with --port (`microrpc ports` lists those there are)"
    return ""


def _forms_in(words: Sequence[str]) -> list[str]:
    return [place.strip("{}") for place in PROGRAM_PLACES if any(place in word for word in words)]


def _form_for(way: CommandFlasher, program: Program) -> str:
    """Give the first form of those that the tool takes that the program has, or can be made; "" for none."""
    return next((form for form in way.forms if program.can_be(form, is_made=way.is_made)), "")


def _last_words(*said: str) -> str:
    """Give the end of what a command said, as the end of an error."""
    lines = "\n".join(text.strip() for text in said if text.strip())[-_MOST_SAID_CHARS:].splitlines()
    text = "\n".join(map(printable, lines))
    return f":\n{text}" if text else ""
