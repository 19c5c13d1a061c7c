"""What a board profile holds, and how its TOML is checked.

`boards/loopback.toml` documents every key for those who write profiles, `microrpc.boards` knows where they lie.
"""

from __future__ import annotations

import enum
import math
import pathlib
import re
import tomllib
from dataclasses import dataclass, field
from typing import Any

from microrpc.boards.tables import did_you_mean
from microrpc.errors import ProfileError
from microrpc.ports.usb import UsbId
from microrpc.wire.session import Timeouts
from microrpc.wire.uart import FlowControl


class BoardKind(enum.StrEnum):
    """What is behind the port."""

    HARDWARE = "hardware"
    """A board on a serial port."""
    EMULATED = "emulated"
    """Firmware in an emulator: microrpc starts it where it has firmware of that name, else somebody else."""
    SIMULATED = "simulated"
    """The simulator that microrpc has with it."""


class ResetStrategy(enum.StrEnum):
    """How a board is reset over its port."""

    NONE = "none"
    """It cannot be reset over its port."""
    DTR_RTS = "dtr-rts"
    """By a sequence of DTR and RTS, on the open port."""
    TOUCH_1200 = "touch-1200"
    """By opening the port at 1200 baud and dropping DTR; the port goes away and comes back."""


@dataclass(frozen=True, slots=True)
class ResetStep:
    """One step of a sequence: `dtr` and `rts` are set, then it waits for `wait_s` seconds.

    True asserts a line (the low level), None leaves it as it is.
    """

    dtr: bool | None = None
    rts: bool | None = None
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Reset:
    """How a board is reset; `sequence` has the steps of "dtr-rts" and is empty for every other strategy."""

    strategy: ResetStrategy = ResetStrategy.NONE
    sequence: tuple[ResetStep, ...] = ()


@dataclass(frozen=True, slots=True)
class BoardProfile:
    """One board, as a file in `boards/` or one of the user's describes it (docs/boards.md)."""

    name: str
    """Lower case, digits and underscores; the file is called after it."""
    description: str
    """One line for people: what board, over which of its ports."""
    baud: int
    """Bits a second."""
    packet_size_bytes: int
    """The receive buffer of the firmware; the board's own answer to GetCRTMaxPacketSize, plus 11, overrules it."""
    receive_ring_bytes: int
    """The ring that the UART's interrupt fills, in front of the receive buffer."""
    heap_bytes: int
    """The memory that the simulated or emulated board gives to arrays."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    """In seconds; those of the session and of a call."""
    kind: BoardKind = BoardKind.HARDWARE
    """Whether it is real, emulated or simulated."""
    maker: str | None = None
    """Who makes the board."""
    mcu: str | None = None
    """The microcontroller, with its processor."""
    ram_bytes: int | None = None
    """What a firmware has in all, in one piece or several."""
    usb: tuple[UsbId, ...] = ()
    """The ids of the port that the host sees, which for many boards are those of a debug probe on them."""
    flow_control: FlowControl = FlowControl.NONE
    """How its port tells the host to wait."""
    reset: Reset = Reset()
    """How it is reset over its port."""
    power_up_s: float = 1.0
    """The longest time from a reset to the board's TERMINATE."""
    notes: str = ""
    """Where the facts come from, and what is particular."""


@dataclass(frozen=True, slots=True)
class _Key:
    """What a key must hold; the bounds are for numbers and belong to the range, the choices are for texts."""

    kind: type[str] | type[int] | type[float] | type[bool] | type[list[Any]] | type[dict[str, Any]]
    required: bool = False
    least: float = 0
    greatest: float = math.inf
    choices: type[enum.StrEnum] | None = None


KEYS = {
    "name": _Key(str, required=True),
    "description": _Key(str, required=True),
    "kind": _Key(str, choices=BoardKind),
    "maker": _Key(str),
    "mcu": _Key(str),
    "ram_bytes": _Key(int, least=1, greatest=2**40),
    "usb": _Key(list),
    "baud": _Key(int, required=True, least=1, greatest=2**31 - 1),
    "flow_control": _Key(str, choices=FlowControl),
    "packet_size_bytes": _Key(int, required=True, least=128, greatest=2**24),
    "receive_ring_bytes": _Key(int, least=1, greatest=2**25),
    "heap_bytes": _Key(int, required=True, least=1, greatest=2**32),
    "power_up_s": _Key(float, greatest=60.0),
    "notes": _Key(str),
    "timeouts": _Key(dict),
    "reset": _Key(dict),
}
"""The keys of a profile, and what each must hold."""
TIMEOUT_KEYS = {key: _Key(float, greatest=86400.0) for key in ("start_retry_s", "start_s", "call_s")}
"""Those of [timeouts], in seconds. A day is as good as for ever, and fits every clock."""
RESET_KEYS = {"strategy": _Key(str, required=True, choices=ResetStrategy), "sequence": _Key(list)}
"""Those of [reset]."""
STEP_KEYS = {"dtr": _Key(bool), "rts": _Key(bool), "wait_s": _Key(float, greatest=10.0)}
"""Those of a step in `reset.sequence`."""

_KIND_NAMES: dict[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}
_RING_SLACK_BYTES = 100  # microTVM's Zephyr project makes the ring that much larger than the receive buffer


def parse_profile(path: pathlib.Path, text: str) -> BoardProfile:
    """Check the `text` of a profile, which came from `path`. Raises ProfileError, with file, key and reason."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:  # its text names line and column
        raise ProfileError(f"{path}: not valid TOML: {error}") from error
    values = _values(f"{path}: ", table, KEYS)
    name = values["name"]
    if not name.isascii() or not name.replace("_", "").isalnum() or name != name.lower():
        raise ProfileError(f"{path}: name: must be lower case letters, digits and underscores, not {name!r}")
    if values.get("flow_control") is FlowControl.XON_XOFF:
        reason = "would lose every 0x11 and 0x13 of the frames, which are binary: use 'rts-cts' or 'none'"
        raise ProfileError(f"{path}: flow_control: 'xon-xoff' {reason}")
    if "usb" in values:
        values["usb"] = _usb_ids(f"{path}: usb", values["usb"])
    if "timeouts" in values:
        values["timeouts"] = _timeouts(f"{path}: timeouts.", values["timeouts"])
    if "reset" in values:
        values["reset"] = _reset(f"{path}: reset.", values["reset"], values.get("flow_control", FlowControl.NONE))
    values.setdefault("receive_ring_bytes", values["packet_size_bytes"] + _RING_SLACK_BYTES)
    return BoardProfile(**values)


def _timeouts(prefix: str, table: dict[str, object]) -> Timeouts:
    values = _values(prefix, table, TIMEOUT_KEYS)
    defaults = Timeouts()
    checked = Timeouts(
        retry_s=values.get("start_retry_s", defaults.retry_s),
        start_s=values.get("start_s", defaults.start_s),
        call_s=values.get("call_s", defaults.call_s),
    )
    if checked.retry_s > checked.start_s:
        reason = f"is {checked.retry_s:g}, more than timeouts.start_s ({checked.start_s:g}): it would never retry"
        raise ProfileError(f"{prefix}start_retry_s: {reason}")
    return checked


def _usb_ids(where: str, ids: list[object]) -> tuple[UsbId, ...]:
    found = []
    for one in ids:
        if not isinstance(one, str) or not re.fullmatch("[0-9a-fA-F]{4}:[0-9a-fA-F]{4}", one):
            raise ProfileError(f"{where}: must hold ids like '0483:374b' (vendor and product, in hex), not {one!r}")
        found.append(UsbId(int(one[:4], 16), int(one[5:], 16)))
    return tuple(found)


def _reset(prefix: str, table: dict[str, object], flow_control: FlowControl) -> Reset:
    values = _values(prefix, table, RESET_KEYS)
    strategy, steps = values["strategy"], values.get("sequence", [])
    if strategy is not ResetStrategy.DTR_RTS:
        if "sequence" in values:
            raise ProfileError(f"{prefix}sequence: belongs to the strategy 'dtr-rts', not to {str(strategy)!r}")
        return Reset(strategy)
    if not steps:
        example = "sequence = [{ dtr = false, wait_s = 0.1 }, { dtr = true }]"
        raise ProfileError(f"{prefix}sequence: must have steps for 'dtr-rts', for example {example}")
    return Reset(strategy, tuple(_step(f"{prefix}sequence[{i}]", step, flow_control) for i, step in enumerate(steps)))


def _step(where: str, step: object, flow_control: FlowControl) -> ResetStep:
    if not isinstance(step, dict):
        raise ProfileError(f"{where}: must be a table like {{ dtr = true, wait_s = 0.1 }}, not {step!r}")
    checked = ResetStep(**_values(f"{where}.", step, STEP_KEYS))
    if checked.dtr is None and checked.rts is None:
        raise ProfileError(f"{where}: must set dtr or rts, or both")
    if checked.rts is not None and flow_control is FlowControl.RTS_CTS:
        raise ProfileError(f"{where}.rts: cannot be set, the flow control 'rts-cts' has that line")
    return checked


def _values(prefix: str, table: dict[str, object], keys: dict[str, _Key]) -> dict[str, Any]:
    for name in table:
        if name not in keys:
            raise ProfileError(f"{prefix}{name}: unknown key{did_you_mean(name, keys)}")
    for name, key in keys.items():
        if key.required and name not in table:
            raise ProfileError(f"{prefix}{name}: is missing")
    return {name: _value(f"{prefix}{name}", value, keys[name]) for name, value in table.items()}


def _value(where: str, value: object, key: _Key) -> object:
    if key.kind is float and type(value) is int:
        value = float(value)
    if type(value) is not key.kind:
        kind = _KIND_NAMES.get(type(value), f"a {type(value).__name__}")
        hint = f": write [{where.rpartition(' ')[2]}] on a line of its own" if key.kind is dict else ""
        raise ProfileError(f"{where}: must be {_KIND_NAMES[key.kind]}, not {kind} ({value!r}){hint}")
    if isinstance(value, str):
        if key.required and not value.strip():
            raise ProfileError(f"{where}: must not be empty")
        if key.choices is not None:
            if value not in list(key.choices):
                choices = ", ".join(map(repr, map(str, key.choices)))
                raise ProfileError(f"{where}: must be one of {choices}, not {value!r}")
            return key.choices(value)
        return value.strip()
    if isinstance(value, float):
        if not 0 < value <= key.greatest:  # refuses nan too
            raise ProfileError(f"{where}: must be more than 0 and at most {key.greatest:g}, not {value:g}")
    elif isinstance(value, int) and not isinstance(value, bool) and not key.least <= value <= key.greatest:
        raise ProfileError(f"{where}: must be from {key.least:.0f} to {key.greatest:.0f}, not {value}")
    return value
