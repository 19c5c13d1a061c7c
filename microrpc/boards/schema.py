"""What a board profile holds, and how its TOML is checked.

`boards/loopback.toml` documents every key for those who write profiles, `microrpc.boards` knows where they lie.
"""

from __future__ import annotations

import enum
import pathlib
import re
from dataclasses import dataclass, field
from typing import Any

from microrpc.boards.flashers import PROGRAM_PLACES, TOOLS, DriveFlasher, Flasher, make_flashers, own_command
from microrpc.boards.strategies import STRATEGIES, ResetStep, ResetStrategy
from microrpc.boards.tables import Checker, Key, show_kind
from microrpc.errors import ProfileError
from microrpc.ports.options import PortOptions
from microrpc.ports.usb import UsbId
from microrpc.wire.checks import check_baud, check_seconds, check_whole, show
from microrpc.wire.names import LEAST_BUFFER_BYTES
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


@dataclass(frozen=True, slots=True)
class Reset:
    """How a board is reset; `sequence` is empty for a strategy that goes through no steps."""

    strategy: ResetStrategy | str = ResetStrategy.NONE
    """A text only where the strategy was put into `microrpc.boards.strategies.STRATEGIES` by somebody else."""
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
    heap_bytes: int
    """The memory that the simulated or emulated board gives to arrays."""
    receive_ring_bytes: int | None = None
    """The ring that the UART's interrupt fills, in front of the receive buffer; None where nobody states it. Then one
    request is under way at a time: a stock board dies of what its ring does not take."""
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
    dtr: bool | None = None
    """Its port's line DTR while the port is open: True asserts it, and so does None."""
    rts: bool | None = None
    """Its port's line RTS, likewise."""
    hang_up: bool | None = None
    """Whether closing the port drops both lines; None leaves it to the system."""
    low_latency: bool | None = None
    """Whether its port hands on at once what arrives; None leaves it to the system."""
    reset: Reset = Reset()
    """How it is reset over its port."""
    power_up_s: float = 1.0
    """The longest time from a reset to the board's TERMINATE."""
    flash: tuple[str, ...] = ()
    """The words of the command that puts a program into it, with places in them; empty where nobody states it."""
    flashers: tuple[Flasher, ...] = ()
    """The tools that do so, the first one being that to try first."""
    flash_s: float = 60.0
    """How long it may take, whichever it is."""
    uf2_family: int | None = None
    """The family of chips that a file of the form UF2 names for it."""
    notes: str = ""
    """Where the facts come from, and what is particular."""

    def __post_init__(self) -> None:
        """Check what a program made or replaced; a file is checked further. Raises ProfileError."""
        check_baud(self.baud, "baud", error=ProfileError)
        for name in ("packet_size_bytes", "heap_bytes", "receive_ring_bytes"):
            if name != "receive_ring_bytes" or self.receive_ring_bytes is not None:
                check_whole(getattr(self, name), name, 1, error=ProfileError)
        check_seconds(self.power_up_s, "power_up_s", error=ProfileError)
        check_seconds(self.flash_s, "flash_s", error=ProfileError)

    @property
    def port_options(self) -> PortOptions:
        """What is particular about its port: `dtr`, `rts`, `hang_up` and `low_latency`."""
        return PortOptions(self.dtr, self.rts, self.hang_up, self.low_latency)

    @property
    def has_own_usb(self) -> bool:
        """Whether its port is the chip's own, and so goes away while its bootloader shows a drive."""
        return any(isinstance(way, DriveFlasher) and way.touch for way in self.flashers)

    @property
    def ways_to_flash(self) -> tuple[Flasher, ...]:
        """The ways to put a program into it, the best first: its own command, then the tools."""
        return (own_command(self.flash), *self.flashers) if self.flash else self.flashers


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value.strip()


def _name(value: str) -> str:
    name = _text(value)
    if not name.isascii() or not name.replace("_", "").isalnum() or name != name.lower():
        raise ValueError(f"must be lower case letters, digits and underscores, not {name!r}")
    return name


def _usb_ids(ids: list[object]) -> tuple[UsbId, ...]:
    found = []
    for one in ids:
        if not isinstance(one, str) or not re.fullmatch("[0-9a-fA-F]{4}:[0-9a-fA-F]{4}", one):
            raise ValueError(f"must hold ids like '0483:374b' (vendor and product, in hex), not {show(one)}")
        found.append(UsbId(int(one[:4], 16), int(one[5:], 16)))
    return tuple(found)


def _flash(words: list[str]) -> tuple[str, ...]:
    if words and not any(place in word for word in words for place in PROGRAM_PLACES):
        raise ValueError(f"must say where the program's file stands: with {' or '.join(PROGRAM_PLACES)}")
    if words and not words[0].strip():
        raise ValueError("must begin with the name of a program")
    if any("\0" in word for word in words):
        raise ValueError("must have no NUL: no command takes one")
    return tuple(words)


def _flow_control(value: str) -> FlowControl:
    if value == FlowControl.XON_XOFF:
        reason = "would lose every 0x11 and 0x13 of the frames, which are binary: use 'rts-cts' or 'none'"
        raise ValueError(f"{value!r} {reason}")
    return FlowControl(value)


def _strategy(value: str) -> ResetStrategy | str:
    return ResetStrategy(value) if value in list(ResetStrategy) else value


KEYS = {
    "name": Key(str, required=True, read=_name),
    "description": Key(str, required=True, read=_text),
    "kind": Key(str, choices=BoardKind, read=BoardKind),
    "maker": Key(str, read=str.strip),
    "mcu": Key(str, read=str.strip),
    "ram_bytes": Key(int, bounds=(1, 2**40)),
    "usb": Key(list, read=_usb_ids),
    "baud": Key(int, required=True, bounds=(1, 2**31 - 1)),
    "flow_control": Key(str, choices=FlowControl, read=_flow_control),
    "dtr": Key(bool),
    "rts": Key(bool),
    "hang_up": Key(bool),
    "low_latency": Key(bool),
    "packet_size_bytes": Key(int, required=True, bounds=(LEAST_BUFFER_BYTES, 2**24)),
    "receive_ring_bytes": Key(int, bounds=(1, 2**25)),
    "heap_bytes": Key(int, required=True, bounds=(1, 2**32)),
    "power_up_s": Key(float, bounds=(0, 60)),
    "flash": Key(list, of=str, wanted="a list of texts", read=_flash),
    "flashers": Key(dict),
    "flash_s": Key(float, bounds=(0, 3600)),
    "uf2_family": Key(int, bounds=(0, 2**32 - 1)),
    "notes": Key(str, read=str.strip),
    "timeouts": Key(dict),
    "reset": Key(dict),
}
"""Those of a profile (docs/boards.md)."""
# A day is as good as for ever, and fits every clock.
TIMEOUT_KEYS = {key: Key(float, bounds=(0, 86400)) for key in ("start_retry_s", "start_s", "call_s", "cancel_s")}
"""Those of its table `timeouts`, in seconds."""
RESET_KEYS = {"strategy": Key(str, required=True, choices=STRATEGIES, read=_strategy), "sequence": Key(list)}
"""Those of its table `reset`."""
STEP_KEYS = {"dtr": Key(bool), "rts": Key(bool), "wait_s": Key(float, bounds=(0, 10))}
"""Those of each step of `reset.sequence`."""

FLASHER_KEYS = {tool: Key(dict) for tool in TOOLS}
"""Those of its table `flashers`: a table for each tool, whose keys are those of `TOOLS`."""

CHECKER = Checker(ProfileError, show=show_kind)
"""Reads and checks the TOML of profiles."""


def parse_profile(path: pathlib.Path, table: dict[str, Any]) -> BoardProfile:
    """Check the `table` of a profile, which came from `path`. Raises ProfileError, with file, key and reason."""
    values = CHECKER.check(f"{path}: ", table, KEYS)
    if "timeouts" in values:
        values["timeouts"] = _timeouts(f"{path}: timeouts.", values["timeouts"])
    if "reset" in values:
        values["reset"] = _reset(f"{path}: reset.", values["reset"], values.get("flow_control", FlowControl.NONE))
    if "flashers" in values:
        values["flashers"] = _flashers(f"{path}: flashers.", values["flashers"])
    if "rts" in values and values.get("flow_control") is FlowControl.RTS_CTS:
        raise ProfileError(f"{path}: rts: cannot be set, the flow control 'rts-cts' has that line")
    return BoardProfile(**values)


def _timeouts(prefix: str, table: dict[str, object]) -> Timeouts:
    values = CHECKER.check(prefix, table, TIMEOUT_KEYS)
    defaults = Timeouts()
    checked = Timeouts(
        retry_s=values.get("start_retry_s", defaults.retry_s),
        start_s=values.get("start_s", defaults.start_s),
        call_s=values.get("call_s", defaults.call_s),
        cancel_s=values.get("cancel_s", defaults.cancel_s),
    )
    if checked.retry_s > checked.start_s:
        reason = f"is {checked.retry_s:g}, more than timeouts.start_s ({checked.start_s:g}): it would never retry"
        raise ProfileError(f"{prefix}start_retry_s: {reason}")
    return checked


def _flashers(prefix: str, tables: dict[str, object]) -> tuple[Flasher, ...]:
    checked = CHECKER.check(prefix, tables, FLASHER_KEYS)
    return make_flashers(
        {tool: CHECKER.check(f"{prefix}{tool}.", table, TOOLS[tool].keys) for tool, table in checked.items()}
    )


def _reset(prefix: str, table: dict[str, object], flow_control: FlowControl) -> Reset:
    values = CHECKER.check(prefix, table, RESET_KEYS)
    name, steps = values["strategy"], values.get("sequence", [])
    with_steps = {str(other): way for other, way in STRATEGIES.items() if way is not None and way.has_sequence}
    if name not in with_steps:
        if "sequence" in values:
            owners = " or ".join(map(repr, with_steps))
            raise ProfileError(f"{prefix}sequence: belongs to the strategy {owners}, not to {str(name)!r}")
        return Reset(name)
    if not steps:
        example = "sequence = [{ dtr = false, wait_s = 0.1 }, { dtr = true }]"
        raise ProfileError(f"{prefix}sequence: must have steps for {str(name)!r}, for example {example}")
    return Reset(name, tuple(_step(f"{prefix}sequence[{i}]", step, flow_control) for i, step in enumerate(steps)))


def _step(where: str, step: object, flow_control: FlowControl) -> ResetStep:
    if not isinstance(step, dict):
        raise ProfileError(f"{where}: must be a table like {{ dtr = true, wait_s = 0.1 }}, not {show(step)}")
    checked = ResetStep(**CHECKER.check(f"{where}.", step, STEP_KEYS))
    if checked.dtr is None and checked.rts is None:
        raise ProfileError(f"{where}: must set dtr or rts, or both")
    if checked.rts is not None and flow_control is FlowControl.RTS_CTS:
        raise ProfileError(f"{where}.rts: cannot be set, the flow control 'rts-cts' has that line")
    return checked
