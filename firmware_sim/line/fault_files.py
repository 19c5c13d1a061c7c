"""Faults as text: a TOML file of them, and a line of TOML, which `Fault.__str__` writes."""

from __future__ import annotations

import dataclasses
import pathlib
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from firmware_sim.line.faults import (
    MOST,
    BrownOut,
    Burst,
    Delay,
    DelayEvents,
    Direction,
    Double,
    Drop,
    Fault,
    Faults,
    Flip,
    Garbage,
    HoldEvents,
    Insert,
    LoseEvents,
    Reset,
    Stuck,
    Unplug,
    Wedge,
)
from microrpc.boards.tables import Checker, Key, did_you_mean, parse_toml
from microrpc.errors import FaultsError

_KINDS: dict[str, type[Fault]] = {
    kind.kind(): kind
    for kind in (
        *(Flip, Drop, Double, Insert, Burst, Stuck),
        *(Garbage, Reset, Wedge, BrownOut, Delay, Unplug),
        *(LoseEvents, DelayEvents, HoldEvents),
    )
}


def load_faults(path: str | pathlib.Path, *, seed: int | None = None) -> Faults:
    """Read faults from a TOML file: `seed = N`, and a table `[[fault]]` for each, with its `kind` and fields.

    `seed` overrules the file's. Raises FaultsError, which names file, fault, key and reason.
    """
    path = pathlib.Path(path)
    table = _FILE_CHECKER.check(f"{path}: ", _FILE_CHECKER.load(path), _FILE_KEYS)
    faults = [_read(entry, f"{path}: fault {number}") for number, entry in enumerate(table.get("fault", []), 1)]
    return Faults(faults, table.get("seed", 0) if seed is None else seed)


def parse_fault(line: str) -> Fault:
    """Read one fault from a line such as `kind = "flip", rate = 1e-5`. Raises FaultsError."""
    try:
        if "\n" in line:
            raise ValueError("it has more than one line")
        table = parse_toml(f"fault = {{ {line} }}")["fault"]
    except ValueError as error:
        text = f'{line!r} does not describe a fault ({error}): write it as in: kind = "flip", rate = 1e-5'
        raise FaultsError(text) from error
    return _read(table, repr(line))


def _tables(value: object) -> object:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError("write each fault as a table of its own: [[fault]]")
    return value


def _positions(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, list) else (value,)


def _unknown_in_file(name: str, known: Iterable[str]) -> str:
    return f"{name}: unknown key; a file of faults has seed and [[fault]] tables{did_you_mean(name, known)}"


def _unknown_of_fault(name: str, known: Iterable[str]) -> str:
    fields = [one for one in known if one != "kind"]
    return f"{name}: unknown key; it has {', '.join(fields)}{did_you_mean(name, fields)}"


_FILE_KEYS = {"seed": Key(int, bounds=(-MOST - 1, MOST)), "fault": Key(object, read=_tables)}
_KIND_KEY = Key(str, choices=_KINDS, wanted=f"one of {', '.join(_KINDS)}")
_FIELD_KEYS: dict[object, Key] = {
    float: Key(float),
    int: Key(int),
    int | None: Key(int),
    bool: Key(bool),
    str | None: Key(str),
    Direction: Key(str, choices=Direction, wanted="to-board, to-host or both", read=Direction),
    tuple[int, ...]: Key(int | list, of=int, wanted="positions of bytes", read=_positions),
}

_FILE_CHECKER = Checker(FaultsError, unknown=_unknown_in_file)
_FAULT_CHECKER = Checker(FaultsError, unknown=_unknown_of_fault)


def _read(table: Mapping[str, object], where: str) -> Fault:
    kind = _KINDS[_FAULT_CHECKER.value(f"{where}: kind", table.get("kind"), _KIND_KEY)]
    where = f"{where} ({kind.kind()})"
    hints = typing.get_type_hints(kind)
    keys = {"kind": _KIND_KEY}
    for field in dataclasses.fields(kind):
        is_required = field.default is dataclasses.MISSING
        keys[field.name] = dataclasses.replace(_FIELD_KEYS[hints[field.name]], required=is_required)
    values = _FAULT_CHECKER.check(f"{where}: ", table, keys)
    del values["kind"]
    try:
        return kind(**values)
    except ValueError as error:
        raise FaultsError(f"{where}: {error}") from error
