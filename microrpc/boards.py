"""Board profiles: what the host must know about a board before it speaks to it, one TOML file each.

`boards/loopback.toml` documents every key. A profile of your own is a file of the same form: `load_profile(path)`.
"""

from __future__ import annotations

import difflib
import functools
import math
import pathlib
import tomllib
from dataclasses import dataclass, field

from microrpc.errors import ProfileError
from microrpc.session import Timeouts

__all__ = ["BoardProfile", "load_profile", "profile", "profiles"]


@dataclass(frozen=True, slots=True)
class BoardProfile:
    """One board."""

    name: str
    """Lower case, digits and underscores; the file is called after it."""
    description: str
    baud: int
    """Bits a second."""
    packet_size_bytes: int
    """The receive buffer of the firmware; the board's own answer to GetCRTMaxPacketSize, plus 11, overrules it."""
    heap_bytes: int
    """The memory that the simulated board gives to arrays."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    maker: str | None = None
    mcu: str | None = None
    notes: str = ""
    """Where the figures come from."""


@dataclass(frozen=True, slots=True)
class _Key:
    """What a key must hold; the bounds are for numbers and belong to the range."""

    kind: type[str] | type[int] | type[float]
    required: bool = False
    least: float = 0
    greatest: float = math.inf


_KEYS = {
    "name": _Key(str, required=True),
    "description": _Key(str, required=True),
    "maker": _Key(str),
    "mcu": _Key(str),
    "baud": _Key(int, required=True, least=1, greatest=2**31 - 1),
    "packet_size_bytes": _Key(int, required=True, least=128, greatest=2**24),
    "heap_bytes": _Key(int, required=True, least=1, greatest=2**32),
    "notes": _Key(str),
}
# The order is that of the fields of Timeouts. A day is as good as for ever, and fits every clock.
_TIMEOUT_KEYS = {key: _Key(float, greatest=86400.0) for key in ("start_retry_s", "start_s", "call_s")}
_TABLES = ("timeouts",)

_KIND_NAMES: dict[type, str] = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def load_profile(path: str | pathlib.Path) -> BoardProfile:
    """Read and check one profile. Raises ProfileError, which names the file, the key and the reason."""
    path = pathlib.Path(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path}: is not UTF-8 text, at byte {error.start}") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:  # its text names line and column
        raise ProfileError(f"{path}: not valid TOML: {error}") from error
    return _checked(path, table)


def profile(name: str) -> BoardProfile:
    """The bundled profile of that name. Raises ProfileError for an unknown name, which lists the known ones."""
    known = profiles()
    if name not in known:
        guess = _did_you_mean(name, known)
        raise ProfileError(f"there is no board profile {name!r}{guess}. Known: {', '.join(known)} (`microrpc boards`)")
    return known[name]


def profiles() -> dict[str, BoardProfile]:
    """All bundled profiles by name, in the order of the names. Raises ProfileError when one is wrong."""
    return dict(_load_all(_bundled_directory()))


@functools.cache
def _load_all(directory: pathlib.Path) -> dict[str, BoardProfile]:
    found = {}
    for path in sorted(directory.glob("*.toml")):
        board = load_profile(path)
        if board.name != path.stem:
            raise ProfileError(f"{path}: name: is {board.name!r}, but the file is called {path.name!r}")
        found[board.name] = board
    if not found:
        raise ProfileError(f"{directory}: no board profiles there: the installation is incomplete, install it again")
    return found


def _bundled_directory() -> pathlib.Path:
    """`microrpc/_boards` in an installed wheel, `boards` beside the package in a source checkout."""
    package = pathlib.Path(__file__).resolve().parent
    installed = package / "_boards"
    return installed if installed.is_dir() else package.parent / "boards"


def _checked(path: pathlib.Path, table: dict[str, object]) -> BoardProfile:
    timeout_table = table.pop("timeouts", {})
    if not isinstance(timeout_table, dict):
        raise ProfileError(f"{path}: timeouts: must be a table: write [timeouts] on a line of its own")
    values = _values(path, table, _KEYS, "")
    timeouts = _values(path, timeout_table, _TIMEOUT_KEYS, "timeouts.")
    name = str(values["name"])
    if not name.isascii() or not name.replace("_", "").isalnum() or name != name.lower():
        raise ProfileError(f"{path}: name: must be lower case letters, digits and underscores, not {name!r}")
    defaults = Timeouts()
    checked = Timeouts(
        retry_s=timeouts.get("start_retry_s", defaults.retry_s),  # type: ignore[arg-type]
        start_s=timeouts.get("start_s", defaults.start_s),  # type: ignore[arg-type]
        call_s=timeouts.get("call_s", defaults.call_s),  # type: ignore[arg-type]
    )
    if checked.retry_s > checked.start_s:
        reason = f"is {checked.retry_s:g}, more than timeouts.start_s ({checked.start_s:g}): it would never retry"
        raise ProfileError(f"{path}: timeouts.start_retry_s: {reason}")
    return BoardProfile(timeouts=checked, **values)  # type: ignore[arg-type]


def _values(
    path: pathlib.Path, table: dict[str, object], keys: dict[str, _Key], prefix: str
) -> dict[str, str | int | float]:
    for name in table:
        if name not in keys:
            guess = _did_you_mean(name, [*keys, *([] if prefix else _TABLES)])
            raise ProfileError(f"{path}: {prefix}{name}: unknown key{guess}")
    for name, key in keys.items():
        if key.required and name not in table:
            raise ProfileError(f"{path}: {prefix}{name}: is missing")
    return {name: _value(f"{path}: {prefix}{name}", value, keys[name]) for name, value in table.items()}


def _value(where: str, value: object, key: _Key) -> str | int | float:
    if key.kind is float and type(value) is int:
        value = float(value)
    if not isinstance(value, key.kind) or isinstance(value, bool):
        kind = _KIND_NAMES.get(type(value), f"a {type(value).__name__}")
        raise ProfileError(f"{where}: must be {_KIND_NAMES[key.kind]}, not {kind} ({value!r})")
    if isinstance(value, str):
        if key.required and not value.strip():
            raise ProfileError(f"{where}: must not be empty")
        return value.strip()
    if isinstance(value, float):
        if not 0 < value <= key.greatest:  # refuses nan too
            raise ProfileError(f"{where}: must be more than 0 and at most {key.greatest:g}, not {value:g}")
    elif not key.least <= value <= key.greatest:
        raise ProfileError(f"{where}: must be from {key.least:.0f} to {key.greatest:.0f}, not {value}")
    return value


def _did_you_mean(name: str, known: list[str] | dict[str, BoardProfile]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
