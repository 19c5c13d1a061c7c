"""What the command line and the marks say, checked: which board there is, and what a test needs of one."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from firmware_sim.board.device import Firmware
from firmware_sim.line.fault_files import load_faults
from firmware_sim.line.faults import Fault, Faults
from firmware_sim.line.settings import Uart
from microrpc.boards.catalogue import load_profile, profile
from microrpc.boards.files import WriteError, check_writable
from microrpc.boards.resets import check_can_be_reset
from microrpc.boards.schema import BoardKind, BoardProfile
from microrpc.boards.tables import Checker, Key, did_you_mean
from microrpc.connecting.address import DEFAULT_PROFILE, SIMULATOR_SCHEME, is_emulated, is_started_here, named_board
from microrpc.errors import FaultsError, ProfileError

# --- the command line ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Setup:
    """What the tests run on: `board` as far as it was told, on `port` or wherever it is found.

    `kind` is what is behind the port. `firmware` is that of simulated boards, and `fault_seed` draws their faults: None
    where the command line has none. `captures` is the directory of captures, None where none are wanted.
    """

    board: BoardProfile | None
    port: str | None
    kind: BoardKind
    fault_seed: int | None
    firmware: Firmware
    captures: pathlib.Path | None = None

    @property
    def name(self) -> str:
        """What to call the board in messages."""
        return (self.board.name if self.board else self.port) or DEFAULT_PROFILE

    @property
    def is_simulated(self) -> bool:
        """Whether each test has a simulated board of its own; else one connection serves all."""
        return self.kind is BoardKind.SIMULATED

    @property
    def is_started_here(self) -> bool:
        """Whether the board's emulator is started for these tests."""
        if self.port is not None:
            return is_emulated(self.port)
        return self.board is not None and is_started_here(self.board)

    @property
    def is_no_hardware(self) -> str | None:
        """Why a test of hardware cannot run on the board that was named, None where it can."""
        return f"needs hardware: {self.name} is emulated" if self.kind is BoardKind.EMULATED else None

    def on(self, port: str) -> Setup:
        """Give the same for a real board on this port."""
        return dataclasses.replace(self, port=port, kind=BoardKind.HARDWARE)

    def lacks(self, wishes: Wishes) -> str | None:
        """Tell why a test with these wishes cannot run here, None where it can."""
        if self.is_simulated:
            return None
        simulated = {"faults": wishes.faults, "uart": wishes.uart, "firmware": wishes.firmware}
        asked = [name for name, value in simulated.items() if value]
        if asked:
            return f"needs the simulator: {', '.join(asked)}"
        if wishes.board is not None:
            if self.board is None:
                return f"needs the board {wishes.board.name}: say with --microrpc-board what is on {self.port}"
            if wishes.board.name != self.board.name:
                return f"needs the board {wishes.board.name}, and this is {self.board.name}"
        if wishes.reset and not self.is_started_here:
            try:
                check_can_be_reset(self.board or profile(DEFAULT_PROFILE))
            except ProfileError as error:
                return f"needs a board that can be reset: {error}"
        return None

    def __str__(self) -> str:
        if self.is_started_here:
            return f"emulated {self.name}"
        if not self.is_simulated:
            return f"{self.board.name} on {self.port}" if self.board and self.port else self.name
        seed = "" if self.fault_seed is None else f", fault seed {self.fault_seed}"
        return f"simulated {self.name}, {self.firmware} firmware{seed}"


def read_setup(config: pytest.Config) -> Setup:
    """Read the options, and what the project's file says in their place. Raises pytest.UsageError."""
    name, file, port = (config.getoption(f"microrpc_{option}") for option in ("board", "board_file", "port"))
    port = port if port is not None else config.getini("microrpc_port")
    is_sim_url = port is not None and port.startswith(SIMULATOR_SCHEME)
    url_name = named_board(port) if port is not None else ""
    if not (name or file or url_name):
        name, file = config.getini("microrpc_board"), config.getini("microrpc_board_file")
        if file and config.inipath is not None:
            file = config.inipath.parent / file
    said = ((f"--microrpc-port {port}", url_name), ("--microrpc-board", name), ("--microrpc-board-file", file))
    given = [text for text, value in said if value]
    if len(given) > 1:
        raise pytest.UsageError(f"{' and '.join(given)} each say which board it is: give one of them")
    try:
        board = load_profile(file) if file else profile(name or url_name) if name or url_name else None
    except ProfileError as error:
        raise pytest.UsageError(str(error)) from error
    kind = board.kind if board is not None else BoardKind.SIMULATED
    if is_sim_url:
        kind = BoardKind.SIMULATED
    elif port is not None and kind is BoardKind.SIMULATED:
        kind = BoardKind.HARDWARE
    made = Setup(board, None if is_sim_url else port, kind, None, Firmware.ROBUST, _captures(config))
    fault_seed, firmware = config.getoption("microrpc_fault_seed"), config.getoption("microrpc_firmware")
    if not made.is_simulated:
        if fault_seed is not None or firmware is not None:
            option = "--microrpc-firmware" if fault_seed is None else "--microrpc-fault-seed"
            place = "an emulated board" if kind is BoardKind.EMULATED else "hardware"
            raise pytest.UsageError(f"{option} is for the simulator, and these tests run on {place}")
        processes = config.getoption("numprocesses", None)  # of pytest-xdist
        if isinstance(processes, int) and processes > 1 and not made.is_started_here:
            raise pytest.UsageError(f"one board cannot be shared by {processes} processes: run without -n")
    firmware = firmware or config.getini("microrpc_firmware") or Firmware.ROBUST
    if firmware not in list(Firmware):
        raise pytest.UsageError(f"microrpc_firmware: must be {' or '.join(Firmware)}, not {firmware!r}")
    try:
        Faults(seed=fault_seed or 0)
    except FaultsError as error:
        raise pytest.UsageError(f"--microrpc-fault-seed: {error}") from error
    return dataclasses.replace(made, fault_seed=fault_seed, firmware=Firmware(firmware))


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
        raise pytest.UsageError(f"--microrpc-capture {given}: no captures can be written there: {error}") from error
    return directory


# --- the marks ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a test needs of its board (docs/testing.md has the arguments of the mark); what is None it does not say.

    `functions`, by name, must be there. `faults` with `fault_seed`, `firmware`, `uart` and `seed` are for the simulator
    alone. `reset`: the board must be reset first.
    """

    board: BoardProfile | None = None
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    fault_seed: int | None = None
    firmware: Firmware | None = None
    uart: Uart | None = None
    seed: int | None = None
    reset: bool = False


def read_wishes(item: pytest.Item, mark_name: str) -> Wishes:
    """Read the marks of a test, its class and its module; of each argument the closest counts.

    Raises pytest.UsageError.
    """
    arguments: dict[str, Any] = {}
    for mark in reversed(list(item.iter_markers(mark_name))):
        if mark.args:
            text = f"takes arguments by name only, not {mark.args[0]!r}"
            raise pytest.UsageError(f"{_prefix(item, mark_name)}{text}")
        arguments |= mark.kwargs
    asked = _CHECKER.check(_prefix(item, mark_name), arguments, _keys(item.path.parent))
    board, seed = asked.pop("profile", None), asked.get("seed")
    faults, fault_seed = asked.pop("faults", ((), None))
    return Wishes(board=board, faults=faults, fault_seed=fault_seed if seed is None else seed, **asked)


def _prefix(item: pytest.Item, mark_name: str) -> str:
    return f"{item.nodeid}: @pytest.mark.{mark_name}: "


def _unknown_argument(name: str, known: Iterable[str]) -> str:
    return f"has no argument {name!r}{did_you_mean(name, known) or '.'} There are: {', '.join(known)}"


_CHECKER = Checker(pytest.UsageError, unknown=_unknown_argument)


def _keys(directory: pathlib.Path) -> dict[str, Key]:
    """Give what each argument must be; the path of a file of faults is relative to `directory`."""
    firmwares = " or ".join(map(repr, map(str, Firmware)))
    return {
        "profile": Key(str | BoardProfile, wanted="the name of a profile or a BoardProfile", read=_read_profile),
        "functions": Key(object, read=_read_functions),
        "faults": Key(object, read=functools.partial(_read_faults, directory)),
        "firmware": Key(str, choices=Firmware, wanted=firmwares, read=Firmware),
        "uart": Key(Uart, wanted="a firmware_sim.uart.Uart"),
        "seed": Key(int, bounds=(0, 2**63 - 1), wanted="a whole number from 0 to 2**63 - 1"),
        "reset": Key(bool, wanted="True or False"),
    }


def _read_profile(value: str | BoardProfile) -> BoardProfile:
    return profile(value) if isinstance(value, str) else value


def _read_functions(value: object) -> dict[str, Callable[..., Any]]:
    if isinstance(value, Mapping):
        functions = dict(value)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        functions = {getattr(one, "__name__", None): one for one in value}
        if len(functions) < len(value):
            raise ValueError("two functions have the same name: give them as {name: function}")
    else:
        raise ValueError(f"must be a list of functions, or {{name: function}}, not {value!r}")
    for name, function in functions.items():
        if not callable(function):
            raise ValueError(f"must be functions, and {function!r} is none")
        if not isinstance(name, str) or name == "<lambda>":
            raise ValueError(f"{function!r} has no name of its own: give it as {{name: function}}")
    return functions


def _read_faults(directory: pathlib.Path, value: object) -> tuple[tuple[Fault, ...], int | None]:
    if isinstance(value, str | os.PathLike):
        value = load_faults(directory / value)
    if isinstance(value, Faults):
        return tuple(value.faults), value.seed
    faults = [value] if isinstance(value, Fault) else value
    if isinstance(faults, Sequence) and all(isinstance(fault, Fault) for fault in faults):
        return tuple(faults), None
    raise ValueError(f"must be faults such as [Flip(rate=1e-4)], a Faults, or the path of a TOML file, not {value!r}")
