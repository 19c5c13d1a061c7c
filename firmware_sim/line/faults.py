"""What goes wrong on a line and on a board, on demand and the same way each time.

    faults = Faults([Flip(rate=1e-5), Reset(at_byte=2000)], seed=7)
    line = UartLine(Device(), faults=faults)

Each fault draws its own random numbers, by its place in the list and by the position of a byte in its direction: how
the bytes are cut into pieces on their way does not matter. `firmware_sim.line.fault_files` reads them from TOML, and
`firmware_sim.line.injector` is where they strike.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from microrpc.errors import FaultsError
from microrpc.wire.checks import check_whole, show

_LATEST_S = 1e300  # a whole number may be more than any float
MOST = 2**63 - 1
"""What TOML's whole numbers go to, and as good as for ever."""
_MOST_GARBAGE_BYTES = 1 << 20
_SHORTEST_EVERY_S = 1e-5  # a board that resets for ever must leave time to go on


class Direction(enum.StrEnum):
    """Which way a byte goes."""

    TO_BOARD = "to-board"
    """From the host."""
    TO_HOST = "to-host"
    """From the board."""
    BOTH = "both"
    """Each way for itself."""


class Action(enum.Enum):
    """What a fault does to the board or its cable, as a verb for messages."""

    RESET = "the board was reset"
    """It boots anew."""
    WEDGE = "the board hangs"
    """It answers nothing until it is reset."""
    UNPLUG = "the cable was pulled"
    """The port goes away, and the power."""
    UNPLUG_POWERED = "the cable was pulled, the board has power"
    """The port goes away; the board keeps its power and memory."""
    PLUG = "the cable was put back"
    """The port is there again."""


def _check_count(name: str, value: int, most: int = MOST) -> None:
    if value > most:
        raise ValueError(f"{name} must be at most {most}, not {show(value)}")


def _direction(value: str) -> Direction:
    """Take a direction by its name, too: a text that is none would strike nothing, and say nothing."""
    try:
        return Direction(value)
    except ValueError:
        raise ValueError(f"direction must be to-board, to-host or both, not {show(value)}") from None


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong. Its kind, in files, is the name of its class in lower case, with hyphens."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not 0 <= value <= math.inf:
                raise ValueError(f"{field.name} must not be negative, and is {show(value)}")
            if isinstance(value, int) and field.name.endswith("_s") and value > _LATEST_S:
                raise ValueError(f"{field.name} must be at most {_LATEST_S:g} or infinite, not {show(value)}")
            if isinstance(value, int) and not field.name.endswith("_s"):
                _check_count(field.name, value)
            if field.name == "direction":
                object.__setattr__(self, field.name, _direction(value))

    @classmethod
    def kind(cls) -> str:
        """Give its name in files and on the command line."""
        return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in cls.__name__).lstrip("-")

    def __str__(self) -> str:
        """Give what `parse_fault` reads: its kind, and what is not as usual."""
        pairs = [f"kind = {json.dumps(self.kind())}"]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # as TOML wants it
                pairs.append(f"{field.name} = {text if value != math.inf else 'inf'}")
        return ", ".join(pairs)


# --- bytes ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ByteFault(Fault):
    """Strikes bytes of one direction or both: each with probability `rate`, or those at the positions `at`."""

    rate: float = 0.0
    at: tuple[int, ...] = ()
    direction: Direction = Direction.BOTH

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        if not self.rate <= 1:
            raise ValueError(f"rate must be from 0 to 1, not {self.rate:g}")
        _check_count("at", max(self.at, default=0))
        if any(position < 0 for position in self.at):
            raise ValueError(f"at counts bytes from 0, not {min(self.at)}")
        if bool(self.rate) == bool(self.at):
            raise ValueError("give it either a rate or at, the positions of bytes")

    def strike(self, byte: int, rng: random.Random) -> bytes:
        """Give what becomes of a byte that is struck."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Flip(ByteFault):
    """Bits flip: each one with probability `rate`, the bit error rate, or one of each byte at the positions `at`."""

    def strike(self, byte: int, rng: random.Random) -> bytes:
        """Flip a bit."""
        return bytes([byte ^ 1 << rng.randrange(8)])


@dataclass(frozen=True, slots=True)
class Drop(ByteFault):
    """A byte is lost."""

    def strike(self, byte: int, rng: random.Random) -> bytes:
        """Lose it."""
        return b""


@dataclass(frozen=True, slots=True)
class Double(ByteFault):
    """A byte arrives twice."""

    def strike(self, byte: int, rng: random.Random) -> bytes:
        """Give it twice."""
        return bytes([byte, byte])


@dataclass(frozen=True, slots=True)
class Insert(ByteFault):
    """A random byte arrives before a byte."""

    def strike(self, byte: int, rng: random.Random) -> bytes:
        """Put one before it."""
        return bytes([rng.randrange(256), byte])


@dataclass(frozen=True, slots=True)
class Burst(ByteFault):
    """Noise: `size_bytes` bytes, from the one that is struck on, become random ones."""

    size_bytes: int = 16

    def __post_init__(self) -> None:
        ByteFault.__post_init__(self)
        if self.size_bytes < 1:
            raise ValueError(f"size_bytes must be 1 or more, not {self.size_bytes}")

    def strike(self, byte: int, rng: random.Random) -> bytes:
        """Replace it."""
        return bytes([rng.randrange(256)])


@dataclass(frozen=True, slots=True)
class Stuck(Fault):
    """The line stands still: what is sent in `direction` from `at_s` on is lost, for `for_s` seconds or for ever."""

    at_s: float
    for_s: float = math.inf
    direction: Direction = Direction.BOTH


# --- the board and its cable ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Garbage(Fault):
    """The board sends `size_bytes` random bytes whenever it powers up, before its first message."""

    size_bytes: int

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        _check_count("size_bytes", self.size_bytes, _MOST_GARBAGE_BYTES)


@dataclass(frozen=True, slots=True)
class BoardFault(Fault):
    """Strikes when the byte number `at_byte` (from 0) of `direction` has been sent, or in a call.

    function: strikes in its call number `call`, counted from 1; "*" is any function.
    """

    at_byte: int | None = None
    direction: Direction = Direction.TO_BOARD
    function: str | None = None
    call: int = 1

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        if (self.at_byte is None) == (self.function is None):
            raise ValueError("give it either at_byte or function")
        if self.direction is Direction.BOTH:
            raise ValueError("direction must be to-board or to-host: at_byte counts the bytes of one")
        if self.call < 1:
            raise ValueError(f"call counts from 1, not {self.call}")


@dataclass(frozen=True, slots=True)
class Reset(BoardFault):
    """The board is reset."""


@dataclass(frozen=True, slots=True)
class Wedge(BoardFault):
    """The board hangs until it is reset."""


@dataclass(frozen=True, slots=True)
class BrownOut(Fault):
    """The supply is too weak: `every_s` after each boot the board resets, `times` times; for ever where it is None."""

    every_s: float
    times: int | None = None

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        if self.every_s < _SHORTEST_EVERY_S:
            raise ValueError(f"every_s must be {_SHORTEST_EVERY_S} or more, not {self.every_s:g}")


@dataclass(frozen=True, slots=True)
class Delay(Fault):
    """The board takes `by_s` longer for its reply number `reply`, counted from 1; for each reply where it is None."""

    by_s: float
    reply: int | None = None

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        if self.by_s == math.inf:
            raise ValueError("by_s must be finite; a board that never answers is a wedge")
        if self.reply == 0:
            raise ValueError("reply counts from 1, not 0")


@dataclass(frozen=True, slots=True)
class Unplug(Fault):
    """The cable is pulled at `at_s` and put back after `for_s`; the port is gone meanwhile.

    Unless it `keeps_power`, the board lives off the cable, and boots when it is back.
    """

    at_s: float
    for_s: float = math.inf
    keeps_power: bool = False


# --- what the board says of itself (docs/link.md 8) ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class LoseEvents(Fault):
    """Events of the board are lost: each one with probability `rate`, or each `every`th."""

    rate: float = 0.0
    every: int | None = None

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        if not self.rate <= 1:
            raise ValueError(f"rate must be from 0 to 1, not {self.rate:g}")
        if bool(self.rate) == bool(self.every):
            raise ValueError("give it either a rate or every, as in: every third one")


@dataclass(frozen=True, slots=True)
class DelayEvents(Fault):
    """Event number `event`, counted from 1, comes `by_s` later, each where it is None; no other event overtakes it."""

    by_s: float
    event: int | None = None

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        if self.by_s == math.inf:
            raise ValueError("by_s must be finite; an event that never comes is lost")
        if self.event == 0:
            raise ValueError("event counts from 1, not 0")


@dataclass(frozen=True, slots=True)
class HoldEvents(Fault):
    """Events that are sent from `at_s` on are held back for `for_s` seconds, and then come all at once."""

    at_s: float
    for_s: float

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        if self.for_s == math.inf:
            raise ValueError("for_s must be finite; events that never come are lost")


# --- all of them --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Faults:
    """The `faults` strike one after the other, in this order; `seed` decides where those with a rate do.

    Raises FaultsError for what is no seed: a whole number of 64 bits.
    """

    faults: Sequence[Fault] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole(self.seed, "seed", -MOST - 1, MOST, error=FaultsError)
