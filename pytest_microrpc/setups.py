"""What the command line says, checked: which boards there are, and what a test that needs others is told."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from firmware_sim.board.device import Firmware
from firmware_sim.line.faults import Faults
from microrpc.boards.catalogue import load_profile, profile, profiles
from microrpc.boards.files import WriteError, check_writable
from microrpc.boards.resets import check_can_be_reset
from microrpc.boards.schema import BoardKind, BoardProfile
from microrpc.boards.tables import did_you_mean
from microrpc.connecting.address import DEFAULT_PROFILE, SIMULATOR_SCHEME, is_emulated, is_started_here, named_board
from microrpc.errors import FaultsError, FirmwareError, PortError, ProfileError, reason_of
from microrpc.firmware.programs import check_project
from microrpc.firmware.project import Project, emulated_names, has_port, load_port, load_project
from microrpc.firmware.putting import Source, firmware_for
from pytest_microrpc.images import build_once, check_can_be_put
from pytest_microrpc.locks import real_name
from pytest_microrpc.rack import Rack, read_rack
from pytest_microrpc.wishes import Wishes

WAIT_S = 60.0
"""How long a test waits for boards that others have, in seconds, where nothing else is said."""
_INTERPRETED = "micropython"  # the profile of whatever board runs a script
FOUND = "auto"
"""Given as a port: those that the board is plugged into, by its USB ids."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What the tests run on: `board` as far as it was told, on `ports`, or where there are none wherever it is found.

    `kind` is what is behind a port. `firmware` is that of simulated boards, and `fault_seed` draws their faults: None
    where the command line has none. `project` is what the boards are to run, with `flash` put on them first where they
    are real. `wait_s`: how long a test waits for boards that others have. `is_required`: too few boards are a failure.
    `captures` is the directory of captures, None where none are wanted. rack: where the boards are labgrid's.
    """

    board: BoardProfile | None
    ports: tuple[str, ...]
    kind: BoardKind
    fault_seed: int | None
    firmware: Firmware
    project: Project | None = None
    flash: bool = False
    wait_s: float = WAIT_S
    is_required: bool = False
    captures: pathlib.Path | None = None
    rack: Rack | None = None

    @property
    def name(self) -> str:
        """What to call the board in messages."""
        return (self.board.name if self.board else ", ".join(self.ports)) or DEFAULT_PROFILE

    @property
    def is_simulated(self) -> bool:
        """Whether each test has simulated boards of its own; else connections serve more than one test."""
        return self.kind is BoardKind.SIMULATED

    @property
    def is_started_here(self) -> bool:
        """Whether the board's emulator is started for these tests, once for each board that a test asks for."""
        if self.ports:
            return is_emulated(self.ports[0])
        return self.kind is BoardKind.EMULATED and (
            self.project is not None or (self.board is not None and is_started_here(self.board))
        )

    @property
    def is_no_hardware(self) -> str | None:
        """Why a test of hardware cannot run on the board that was named, None where it can."""
        return f"needs hardware: {self.name} is emulated" if self.kind is BoardKind.EMULATED else None

    def source(self, wishes: Wishes) -> Source | None:
        """Give what must run on the board; None where that is not said. Raises FirmwareError where there is none."""
        if not isinstance(wishes.flash, bool):
            return wishes.flash
        if not (wishes.flash or self.flash or self.is_started_here):
            return None
        if self.project is not None:
            return self.project
        if self.is_started_here:
            return load_port(self._emulated_name)
        if self.board is None:
            raise FirmwareError(f"which firmware {self.name} takes is not known: say with --microrpc-board what it is")
        return firmware_for(self.board, self.ports[0] if self.ports else None)

    @property
    def _emulated_name(self) -> str:
        named = named_board(self.ports[0]) if self.ports else ""
        return named or (self.board.name if self.board is not None else "")

    def on(self, port: str) -> Setup:
        """Give the same for a real board on this port."""
        return dataclasses.replace(self, ports=(port,), kind=BoardKind.HARDWARE, rack=None)

    def lacks(self, wishes: Wishes) -> str | None:
        """Tell why a test with these wishes cannot run here, None where it can, or where it has too few boards."""
        if self.is_simulated:
            return None
        simulated = {"faults": wishes.faults, "uart": wishes.uart, "firmware": wishes.firmware}
        asked = [name for name, value in simulated.items() if value]
        if asked:
            return f"needs the simulator: {', '.join(asked)}"
        if wishes.board is not None:
            if self.board is None:
                return f"needs the board {wishes.board.name}: say with --microrpc-board what is on {self.name}"
            if wishes.board.name not in (self.board.name, self.project.board if self.project is not None else ""):
                return f"needs the board {wishes.board.name}, and this is {self.board.name}"
        if wishes.reset and not self.is_started_here:
            try:
                check_can_be_reset(self.board or profile(DEFAULT_PROFILE))
            except ProfileError as error:
                return f"needs a board that can be reset: {error}"
        if wishes.flash and self.rack is not None:
            return "needs firmware (flash=), which on a board of labgrid's is the business of labgrid's drivers"
        return self._lacks_firmware(wishes) if wishes.flash else None

    def lacks_behind_dut(self, wishes: Wishes) -> str | None:
        """Tell why a test with these wishes cannot run on the board behind the `dut` of pytest-embedded."""
        if wishes.flash:
            return "needs firmware (flash=), which pytest-embedded puts on the board behind its dut, and not microrpc"
        return self.lacks(wishes) or self.too_few(wishes.count)

    def _lacks_firmware(self, wishes: Wishes) -> str | None:
        try:
            source = self.source(wishes)
            if isinstance(source, pathlib.Path) and self.is_started_here:
                return f"needs hardware: {source.name} is a built program, and {self.name} is emulated"
            if self.board is None:
                raise FirmwareError(f"say with --microrpc-board what is on {self.name}")
            if isinstance(source, Project) and not self._is_own(source):
                check_project(source, self.board)
        except FirmwareError as error:
            return f"needs a board with other firmware: {error}"
        return None

    def _is_own(self, source: Project) -> bool:
        """Whether it is the project of the command line, or for the very board that this one is the twin of."""
        return source is self.project or (self.project is not None and source.board == self.project.board)

    def too_few(self, count: int, ports: Sequence[str] | None = None) -> str | None:
        """Tell why a test cannot have so many boards, None where it can, or where it is not known how many there are.

        ports: those that were found, in the place of those that were told.
        """
        there = self.ports if ports is None else ports
        if self.is_simulated or self.is_started_here or not there or count <= len(there):
            return None
        is_are = "there is 1" if len(there) == 1 else f"there are {len(there)}"
        remedy = (
            "Give --microrpc-port once for each" if self.rack is None else "Give each a target with a MicrorpcDriver"
        )
        return f"needs {count} boards, and {is_are}: {', '.join(there)}. {remedy}"

    def prepare(self, command: str) -> None:
        """Build the project that was named, for whoever wants it then; see that it can be flashed where it is to be.

        Raises pytest.UsageError. `command`: who does so.
        """
        is_flashed = self.flash and self.kind is BoardKind.HARDWARE
        if self.project is None and not is_flashed:
            return
        try:
            source = self.source(Wishes(flash=True))
            if is_flashed and source is not None and self.board is not None and self.ports:
                check_can_be_put(source, self.board, self.ports[0])
            if isinstance(source, Project):
                build_once(source, command, to_run=self.is_started_here)
        except (FirmwareError, PortError) as error:
            raise pytest.UsageError(str(error)) from error

    def __str__(self) -> str:
        runs = f" with {self.project.name}" if self.project is not None else ""
        if self.is_started_here:
            return f"emulated {self.name}{runs}"
        if not self.is_simulated:
            flashed = ", flashed first" if self.flash else ""
            on = f" on {', '.join(self.ports)}" if self.board and self.ports else ""
            return f"{self.name}{on}{runs}{flashed}"
        seed = "" if self.fault_seed is None else f", fault seed {self.fault_seed}"
        return f"simulated {self.name}, {self.firmware} firmware{seed}"


def read_setup(config: pytest.Config) -> Setup:
    """Read the options, and what the project's file says in their place. Raises pytest.UsageError."""
    for name in ("board", "board-file", "port", "capture"):
        given = config.getoption(f"microrpc_{name.replace('-', '_')}")
        if given == "" or (isinstance(given, list) and "" in given):  # such as a variable of a job that is not set
            raise pytest.UsageError(f"--microrpc-{name}: nothing is named: leave it out, or give it a value")
    try:
        made = _with_switches(_read_place(config) or _read_board(config), config)
        if made.flash and made.rack is not None:
            raise pytest.UsageError("--microrpc-flash: what is put on a board of labgrid's, its own drivers put there")
        if made.flash and not made.is_simulated:
            made.source(Wishes(flash=True))
    except (ProfileError, FirmwareError) as error:
        raise pytest.UsageError(str(error)) from error
    fault_seed, firmware = config.getoption("microrpc_fault_seed"), config.getoption("microrpc_firmware")
    if not made.is_simulated and (fault_seed is not None or firmware is not None):
        option = "--microrpc-firmware" if fault_seed is None else "--microrpc-fault-seed"
        place = "an emulated board" if made.kind is BoardKind.EMULATED else "hardware"
        raise pytest.UsageError(f"{option} is for the simulator, and these tests run on {place}")
    firmware = firmware or config.getini("microrpc_firmware") or Firmware.ROBUST
    if firmware not in list(Firmware):
        raise pytest.UsageError(f"microrpc_firmware: must be {' or '.join(Firmware)}, not {firmware!r}")
    try:
        Faults(seed=fault_seed or 0)
    except FaultsError as error:
        raise pytest.UsageError(f"--microrpc-fault-seed: {error}") from error
    return dataclasses.replace(made, fault_seed=fault_seed, firmware=Firmware(firmware))


def _with_switches(made: Setup, config: pytest.Config) -> Setup:
    text = config.getoption("microrpc_wait")
    text = text if text is not None else config.getini("microrpc_wait")
    wait_s = WAIT_S
    if text is not None:
        try:
            wait_s = float(text)
        except ValueError:
            wait_s = -1.0
        if not 0 <= wait_s <= 86400:  # no nan is
            raise pytest.UsageError(f"--microrpc-wait: must be seconds, from 0 to 86400, not {text!r}")
    flash, is_required = (
        bool(config.getoption(f"microrpc_{name}") or config.getini(f"microrpc_{name}")) for name in ("flash", "require")
    )
    return dataclasses.replace(made, flash=flash, wait_s=wait_s, is_required=is_required, captures=_captures(config))


def _captures(config: pytest.Config) -> pathlib.Path | None:
    """Make the directory of captures, where one is named. Raises pytest.UsageError."""
    given, base = config.getoption("microrpc_capture"), config.invocation_params.dir
    if given is None and (given := config.getini("microrpc_capture")) and config.inipath is not None:
        base = config.inipath.parent
    if not given:
        return None
    directory = pathlib.Path(base, given)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        check_writable(directory / "capture")
    except (OSError, WriteError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else error
        raise pytest.UsageError(f"--microrpc-capture {given}: no captures can be written there: {reason}") from error
    return directory


# --- which board, on which ports ----------------------------------------------------------------------


def _read_place(config: pytest.Config) -> Setup | None:
    """Give the boards of labgrid's environment; None where it has none, or the command line says what else is meant.

    Raises ProfileError.
    """
    is_told = any(config.getoption(f"microrpc_{option}") for option in ("board", "board_file", "port"))
    rack = None if is_told else read_rack(config)
    if rack is None:
        return None
    name = next(iter(rack.profiles)) if len(rack.profiles) == 1 else None
    board = profile(name) if name else None
    return Setup(board, tuple(rack.drivers), BoardKind.HARDWARE, None, Firmware.ROBUST, rack=rack)


def _read_board(config: pytest.Config) -> Setup:
    """Give what the command line says of the boards. Raises pytest.UsageError, ProfileError, FirmwareError."""
    name, file = (config.getoption(f"microrpc_{option}") for option in ("board", "board_file"))
    ports = _read_ports(config.getoption("microrpc_port") or config.getini("microrpc_port") or [])
    url_name = named_board(ports[0]) if ports else ""
    base = config.invocation_params.dir
    if not (name or file or url_name):
        name, file = config.getini("microrpc_board"), config.getini("microrpc_board_file")
        if config.inipath is not None:
            base = config.inipath.parent
            file = base / file if file else file
    folder = _folder(name, base) if name else None
    said = (
        (f"--microrpc-port {ports[0] if ports else ''}", url_name),
        ("--microrpc-board", name if folder is None or url_name else ""),
        ("--microrpc-board-file", file),
    )
    given = [text for text, value in said if value]
    if len(given) > 1:
        raise pytest.UsageError(f"{' and '.join(given)} each say which board it is: give one of them")
    own = load_profile(file) if file else None
    is_sim_url = bool(ports) and ports[0].startswith(SIMULATOR_SCHEME)
    if folder is not None and is_sim_url:
        if config.getoption("microrpc_board"):
            raise pytest.UsageError(f"--microrpc-port {ports[0]}: a simulated board runs no firmware, such as {name}")
        own, folder = own or _profile_of(_load(name, folder), is_emulated=False), None
    if folder is not None:
        return _of_project(_load(name, folder), own, ports)
    board = own or (profile(url_name) if url_name else _profile_named(name) if name else None)
    kind = board.kind if board is not None and not is_sim_url else BoardKind.SIMULATED
    if FOUND in ports:
        if board is None or board.kind is not BoardKind.HARDWARE:
            raise pytest.UsageError(f"--microrpc-port {FOUND}: say with --microrpc-board which real board to look for")
        ports = ()
    if ports and not is_sim_url and kind is BoardKind.SIMULATED:
        kind = BoardKind.HARDWARE
    return Setup(board, () if is_sim_url else ports, kind, None, Firmware.ROBUST)


def _profile_named(name: str) -> BoardProfile:
    """Give the profile of that name. Raises ProfileError for one that is neither a profile's nor a directory's."""
    known = profiles()
    if name not in known:
        guess = did_you_mean(name, known) or "."
        what = f"there is no board profile {name!r}, and no directory of that name{guess}"
        raise ProfileError(f"--microrpc-board: {what} `microrpc boards` lists the profiles")
    return known[name]


def _read_ports(given: Sequence[str]) -> tuple[str, ...]:
    ports = tuple(dict.fromkeys(given))
    names: dict[str, str] = {}
    for port in ports:
        if (other := names.setdefault(real_name(port), port)) != port:
            text = f"is {other} by another name: give each board once"
            raise pytest.UsageError(f"--microrpc-port {port}: {text}")
        if len(ports) > 1 and (port in (FOUND, SIMULATOR_SCHEME) or named_board(port)):
            raise pytest.UsageError(
                f"--microrpc-port {port}: stands for as many boards as a test asks for: give it alone, and once"
            )
    return ports


def _folder(name: str, base: pathlib.Path) -> pathlib.Path | None:
    """Give the directory that is meant, None where it is the name of a profile."""
    is_path = name in (".", "..") or any(mark and mark in name for mark in ("/", os.sep, os.altsep))
    path = base / name
    return path if is_path or (name not in profiles() and path.is_dir()) else None


def _load(name: str, folder: pathlib.Path) -> Project:
    if not folder.is_dir():
        raise FirmwareError(f"--microrpc-board {name}: there is no such directory")
    try:
        return load_project(folder)
    except FirmwareError as error:
        raise FirmwareError(f"--microrpc-board {name}: {error}") from error


def _of_project(project: Project, own: BoardProfile | None, ports: tuple[str, ...]) -> Setup:
    """Give the setup of boards that run `project`: emulated where that is possible and no port is named."""
    is_emulated_here = not ports and project.emulation is not None
    board = own or _profile_of(project, is_emulated=is_emulated_here)
    if is_emulated_here:
        return Setup(board, (), BoardKind.EMULATED, None, Firmware.ROBUST, project)
    if board is None and (not ports or FOUND in ports):
        text = f"{project.file}: build.board: is missing, so that no board can be looked for"
        raise FirmwareError(f"{text}: name the port with --microrpc-port")
    if board is not None:
        check_project(project, board)
    kind = board.kind if board is not None and board.kind is BoardKind.EMULATED else BoardKind.HARDWARE
    return Setup(board, () if FOUND in ports else ports, kind, None, Firmware.ROBUST, project)


def _profile_of(project: Project, *, is_emulated: bool) -> BoardProfile | None:
    """Give the profile of the board that a project was made for: of its emulated twin, where it is to be emulated.

    None for a real board that it does not tell. Raises ProfileError.
    """
    name = project.board or (_INTERPRETED if project.script is not None else "")
    known = profile(name) if name else None
    if not is_emulated or (known is not None and known.kind is BoardKind.EMULATED):
        return known
    known_profiles = profiles()
    for each in emulated_names() if known is not None and has_port(known.name) else ():
        twin = known_profiles.get(each)
        if twin is not None and twin.kind is BoardKind.EMULATED and load_port(each).is_same(load_port(name)):
            return twin
    # Of a board of the user's own: nothing is known of the USB ids of an emulator.
    return dataclasses.replace(known or profile(DEFAULT_PROFILE), kind=BoardKind.EMULATED, usb=())
