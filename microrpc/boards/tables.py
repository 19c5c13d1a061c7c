"""Reading TOML, and checking a table against the keys that it may have: each failure is one error with key and reason.

Profiles, files of faults, `port.toml` and the marks of tests are all read with it, each with an error of its own.
"""

from __future__ import annotations

import math
import pathlib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any

from microrpc.boards.files import read_whole
from microrpc.errors import MicroRpcError, reason_of
from microrpc.wire.checks import did_you_mean as did_you_mean
from microrpc.wire.checks import show

_MOST_BYTES = 2**20
_KIND_NAMES: dict[object, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


def unknown_key(name: str, known: Iterable[str]) -> str:
    """Say that a table has a key which is not one of those known."""
    return f"{name}: unknown key{did_you_mean(name, known)}"


def show_kind(value: object) -> str:
    """Give a value of TOML with its kind: those who write TOML by hand may not see that quotes make it a text."""
    return f"{_KIND_NAMES.get(type(value), f'a {type(value).__name__}')} ({show(value)})"


def parse_toml(text: str) -> dict[str, Any]:
    """Read TOML. Raises ValueError, which names line and column of what is none."""
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


@dataclass(frozen=True, slots=True)
class Key:
    """What a key must hold."""

    kind: type | UnionType
    """A whole number is a number too, and is turned into one."""
    required: bool = False
    """An empty list or table is as good as none."""
    bounds: tuple[float, float] | None = None
    """Of a whole number, both are allowed; of a number, the lower one is not."""
    choices: Iterable[str] | None = None
    """Looked at anew each time."""
    of: type | UnionType | None = None
    """What each item is, where the value is a list."""
    wanted: str = ""
    """What must be there, in words, where kind, bounds and choices do not say it well enough."""
    read: Callable[[Any], object] | None = None
    """Makes of a good value what is asked for. Its ValueError, or error of ours, is the reason for an error."""


@dataclass(frozen=True, slots=True)
class Checker:
    """Reads and checks tables of one sort, and raises its `error` with a text that says where, which key, and why."""

    error: Callable[[str], Exception]
    unknown: Callable[[str, Iterable[str]], str] = unknown_key
    """Gives the text for an unknown key, and is told those known."""
    show: Callable[[object], str] = show
    """Gives a value that is of another kind than it must be, as it is shown in the error's text."""

    def load(self, path: pathlib.Path) -> dict[str, Any]:
        """Give the table in a file of TOML."""
        try:
            return parse_toml(read_whole(path, _MOST_BYTES).decode("utf-8"))
        except OSError as error:
            raise self.error(f"{path}: cannot be read: {reason_of(error)}") from error
        except UnicodeDecodeError as error:
            raise self.error(f"{path}: is not UTF-8 text, at byte {error.start}") from error
        except ValueError as error:
            raise self.error(f"{path}: not valid TOML: {error}") from error

    def check(self, prefix: str, table: Mapping[str, object], keys: Mapping[str, Key]) -> dict[str, Any]:
        """Give the values of a table, each as its key reads it; `prefix` is what stands in front of a key in errors."""
        for name in table:
            if name not in keys:
                raise self.error(f"{prefix}{self.unknown(name, keys)}")
        for name, key in keys.items():
            if key.required and table.get(name) in (None, [], {}):
                raise self.error(f"{prefix}{name}: is missing")
        return {name: self.value(f"{prefix}{name}", value, keys[name]) for name, value in table.items()}

    def value(self, where: str, value: object, key: Key) -> Any:
        """Give one value as its key reads it; `where` is what stands in front of the reason in an error."""
        if key.kind is float and _is(value, int):
            value = _as_float(value)
        if not _is(value, key.kind) or (key.of is not None and not _holds(value, key.of)):
            wanted = key.wanted or _KIND_NAMES[key.kind]
            hint = f": write [{where.rpartition(' ')[2]}] on a line of its own" if key.kind is dict else ""
            raise self.error(f"{where}: must be {wanted}, not {self.show(value)}{hint}")
        if key.bounds is not None and not _is_within(value, key.bounds):
            raise self.error(f"{where}: must be {key.wanted or _range(value, key.bounds)}, not {_show_number(value)}")
        if key.choices is not None and value not in (choices := list(key.choices)):
            wanted = key.wanted or f"one of {', '.join(map(repr, map(str, choices)))}"
            raise self.error(f"{where}: must be {wanted}, not {show(value)}{did_you_mean(str(value), choices)}")
        if key.read is None:
            return value
        try:
            return key.read(value)
        except (ValueError, MicroRpcError) as error:
            raise self.error(f"{where}: {error}") from error


def _is(value: object, kind: type | UnionType) -> bool:
    return isinstance(value, kind) and (kind in (bool, object) or not isinstance(value, bool))


def _holds(value: object, kind: type | UnionType) -> bool:
    return not isinstance(value, list) or all(_is(item, kind) for item in value)


def _is_within(value: Any, bounds: tuple[float, float]) -> bool:
    least, greatest = bounds
    is_enough = value > least if isinstance(value, float) else value >= least
    return bool(is_enough and value <= greatest)  # no nan is


def _as_float(number: Any) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _range(value: object, bounds: tuple[float, float]) -> str:
    least, greatest = bounds
    if isinstance(value, float):
        return f"more than {least:g} and at most {greatest:g}"
    return f"from {least:.0f} to {greatest:.0f}"


def _show_number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else show(value)
