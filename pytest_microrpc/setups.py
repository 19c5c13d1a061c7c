"""What the command line and the marks say, checked: which board there is, and what a test needs of one."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from firmware_sim.board.device import Firmware
from firmware_sim.line.faults import Fault, Faults, load_faults
from firmware_sim.line.settings import Uart
from microrpc.boards.catalogue import load_profile, profile
from microrpc.boards.resets import check_can_be_reset
from microrpc.boards.schema import BoardKind, BoardProfile
from microrpc.boards.tables import did_you_mean
from microrpc.connecting.address import DEFAULT_PROFILE, SIMULATOR_SCHEME, is_emulated, is_started_here, named_board
from microrpc.errors import FaultsError, ProfileError

# --- the command line ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Setup:
    """What the tests run on: `board` as far as it was told, on `port` or wherever it is found."""

    board: BoardProfile | None
    port: str | None
    kind: BoardKind
    fault_seed: int | None
    firmware: Firmware

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
                return f"needs the board {wishes.board.name}: say with --board what is on {self.port}"
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
    """Read the options. Raises pytest.UsageError."""
    name, file, port = (config.getoption(option) for option in ("board", "board_file", "port"))
    is_sim_url = port is not None and port.startswith(SIMULATOR_SCHEME)
    url_name = named_board(port) if port is not None else ""
    given = [text for text, value in ((f"--port {port}", url_name), ("--board", name), ("--board-file", file)) if value]
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
    made = Setup(board, None if is_sim_url else port, kind, None, Firmware.ROBUST)
    fault_seed, firmware = config.getoption("fault_seed"), config.getoption("firmware")
    if not made.is_simulated:
        if fault_seed is not None or firmware is not None:
            option = "--firmware" if fault_seed is None else "--fault-seed"
            place = "an emulated board" if kind is BoardKind.EMULATED else "hardware"
            raise pytest.UsageError(f"{option} is for the simulator, and these tests run on {place}")
        processes = config.getoption("numprocesses", None)  # of pytest-xdist
        if isinstance(processes, int) and processes > 1 and not made.is_started_here:
            raise pytest.UsageError(f"one board cannot be shared by {processes} processes: run without -n")
    return dataclasses.replace(made, fault_seed=fault_seed, firmware=Firmware(firmware or Firmware.ROBUST))


# --- the marks ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a test needs of its board; `seed` and `fault_seed` are None where it does not say."""

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
            raise _error(item, mark_name, f"takes arguments by name only, not {mark.args[0]!r}")
        arguments |= mark.kwargs
    values: dict[str, Any] = {}
    for name, argument in arguments.items():
        if name not in _READERS:
            guess = did_you_mean(name, _READERS) or "."
            raise _error(item, mark_name, f"has no argument {name!r}{guess} There are: {', '.join(_READERS)}")
        try:
            values |= _READERS[name](argument, item.path.parent)
        except (ValueError, ProfileError, FaultsError) as error:
            raise _error(item, mark_name, f"{name}: {error}") from error
    if values.get("fault_seed") is None or values.get("seed") is not None:
        values["fault_seed"] = values.get("seed")
    return Wishes(**values)


def _error(item: pytest.Item, mark_name: str, text: str) -> pytest.UsageError:
    return pytest.UsageError(f"{item.nodeid}: @pytest.mark.{mark_name}: {text}")


def _read_profile(value: object, directory: pathlib.Path) -> dict[str, Any]:
    if isinstance(value, BoardProfile):
        return {"board": value}
    if isinstance(value, str):
        return {"board": profile(value)}
    raise ValueError(f"must be the name of a profile or a BoardProfile, not {value!r}")


def _read_functions(value: object, directory: pathlib.Path) -> dict[str, Any]:
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
    return {"functions": functions}


def _read_faults(value: object, directory: pathlib.Path) -> dict[str, Any]:
    if isinstance(value, str | os.PathLike):
        value = load_faults(directory / value)
    if isinstance(value, Faults):
        return {"faults": tuple(value.faults), "fault_seed": value.seed}
    faults = [value] if isinstance(value, Fault) else value
    if isinstance(faults, Sequence) and all(isinstance(fault, Fault) for fault in faults):
        return {"faults": tuple(faults)}
    raise ValueError(f"must be faults such as [Flip(rate=1e-4)], a Faults, or the path of a TOML file, not {value!r}")


def _read_firmware(value: object, directory: pathlib.Path) -> dict[str, Any]:
    if value not in list(Firmware):
        raise ValueError(f"must be {' or '.join(map(repr, map(str, Firmware)))}, not {value!r}")
    return {"firmware": Firmware(str(value))}


def _read_uart(value: object, directory: pathlib.Path) -> dict[str, Any]:
    if not isinstance(value, Uart):
        raise ValueError(f"must be a firmware_sim.uart.Uart, not {value!r}")
    return {"uart": value}


def _read_seed(value: object, directory: pathlib.Path) -> dict[str, Any]:
    if type(value) is not int or value < 0:
        raise ValueError(f"must be a whole number from 0 on, not {value!r}")
    return {"seed": value}


def _read_reset(value: object, directory: pathlib.Path) -> dict[str, Any]:
    if not isinstance(value, bool):
        raise ValueError(f"must be True or False, not {value!r}")
    return {"reset": value}


_READERS: dict[str, Callable[[object, pathlib.Path], dict[str, Any]]] = {
    "profile": _read_profile,
    "functions": _read_functions,
    "faults": _read_faults,
    "firmware": _read_firmware,
    "uart": _read_uart,
    "seed": _read_seed,
    "reset": _read_reset,
}
