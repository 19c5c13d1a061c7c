"""What the marks of a test say, checked: what it needs of its board, or of several."""

from __future__ import annotations

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
from microrpc.boards.catalogue import profile
from microrpc.boards.schema import BoardProfile
from microrpc.boards.tables import Checker, Key, did_you_mean
from microrpc.client.board import Board
from microrpc.errors import FunctionNotFoundError
from microrpc.firmware.programs import FORMS
from microrpc.firmware.putting import Source, find_source
from pytest_microrpc.options import LACKS_FUNCTION, REQUIRE

MOST_BOARDS = 64
"""How many one test may ask for."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a test needs of its board (docs/testing.md has the arguments of the mark); what is None it does not say.

    `functions`, by name, must be there. `faults` with `fault_seed`, `firmware`, `uart` and `seed` are for the simulator
    alone. `reset`: the board must be reset first. `flash`: the firmware, or with True that of the command line, must be
    on it. `count`: how many boards it is to have; all else holds for each.
    """

    board: BoardProfile | None = None
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    fault_seed: int | None = None
    firmware: Firmware | None = None
    uart: Uart | None = None
    seed: int | None = None
    reset: bool = False
    flash: bool | Source = False
    count: int = 1


def skip_without(board: Board, wishes: Wishes, name: str, *, is_required: bool) -> None:
    """Skip the test where the board, called `name`, lacks a function that it wishes; fail it if that `is_required`."""
    for function in wishes.functions:
        try:
            board.function(function)
        except FunctionNotFoundError:
            lack = f"{LACKS_FUNCTION}{function!r}, which {name} does not have"
            if is_required:
                pytest.fail(f"{lack} ({REQUIRE})", pytrace=False)
            pytest.skip(lack)


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
    """Give what each argument must be; paths of faults and of firmware are relative to `directory`."""
    firmwares = " or ".join(map(repr, map(str, Firmware)))
    return {
        "profile": Key(str | BoardProfile, wanted="the name of a profile or a BoardProfile", read=_read_profile),
        "functions": Key(object, read=_read_functions),
        "faults": Key(object, read=functools.partial(_read_faults, directory)),
        "firmware": Key(str, choices=Firmware, wanted=firmwares, read=Firmware),
        "uart": Key(Uart, wanted="a firmware_sim.uart.Uart"),
        "seed": Key(int, bounds=(0, 2**63 - 1), wanted="a whole number from 0 to 2**63 - 1"),
        "reset": Key(bool, wanted="True or False"),
        "flash": Key(object, read=functools.partial(_read_flash, directory)),
        "count": Key(int, bounds=(1, MOST_BOARDS), wanted=f"a whole number from 1 to {MOST_BOARDS}"),
    }


def _read_profile(value: str | BoardProfile) -> BoardProfile:
    return profile(value) if isinstance(value, str) else value


def _read_flash(directory: pathlib.Path, value: object) -> bool | Source:
    if isinstance(value, bool):
        return value
    if isinstance(value, str | os.PathLike):
        path = directory / value
        if path.suffix.lower().removeprefix(".") in FORMS and not path.is_dir():
            return path  # whether it was built already is asked where a board is to have it
        return find_source(path)
    raise ValueError(f"must be True, or the path of a firmware project or of a built program, not {value!r}")


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
