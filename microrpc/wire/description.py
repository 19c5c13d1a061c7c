"""What a board tells of itself: who it is, and what its functions are (docs/description.md 1, 2).

The text comes in pages, each of which may be damaged by nothing, but be of another boot: `parse_head` tells how much
belongs together, `parse_description` whether it does.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from functools import cached_property

from microrpc.errors import ProtocolError, SignatureError
from microrpc.wire.checks import show
from microrpc.wire.grammar import parse_signature
from microrpc.wire.names import DESCRIBE_FUNCTION
from microrpc.wire.parameters import Signature

MOST_BYTES = 2**18
"""The longest description that is read, in bytes, without its head."""
MOST_FUNCTIONS = 4096
"""The most functions that one has."""

_HEAD = re.compile(rb"microrpc\t1\t([0-9a-f]{8})\t([0-9]{1,9})\t")
_OTHER_FORMAT = re.compile(rb"microrpc\t(?!1\t)[^\t\n]*\t")
_LONGEST_HEAD_BYTES = len(b"microrpc\t1\t01234567\t123456789\t")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a board is: the names of `board` and `firmware`, and the firmware's `version`; each may be empty.

    hash: of all that it tells of itself, as 8 digits in hex; firmware that tells the same has the same.
    """

    board: str
    firmware: str
    version: str
    hash: str

    def __str__(self) -> str:
        names = " ".join(part for part in (self.firmware, self.version) if part)
        return " on ".join(part for part in (names, self.board) if part) or "without a name"


@dataclass(frozen=True)
class FunctionDescription:
    """A function as its board tells of it: its `name`, and two texts, which may be empty.

    signature: what it takes and gives, in the canonical form where it can be read (docs/description.md 3), else as it
    is; doc: what it does, a sentence.
    """

    name: str
    signature: str
    doc: str

    @cached_property
    def parsed(self) -> Signature | None:
        """The signature, read; None where there is none, or it cannot be read: then nothing is checked."""
        try:
            return parse_signature(self.signature) if self.signature else None
        except SignatureError:
            return None

    def __str__(self) -> str:
        if self.parsed is not None:
            return self.parsed.shown(self.name)
        return f"{self.name}: {self.signature}" if self.signature else f"{self.name}(...)"


@dataclass(frozen=True, slots=True)
class Description:
    """What a board tells: its `identity`, None for NOTHING, and its `functions` in its own order.

    `data` is all of it, as it was read.

    A name stands there once: what the global registry has hides a function of the system library, as a look-up does.
    """

    identity: Identity | None
    functions: tuple[FunctionDescription, ...]
    data: bytes = field(default=b"", repr=False)

    def by_name(self) -> dict[str, FunctionDescription]:
        """Give the functions by their names."""
        return {function.name: function for function in self.functions}


NOTHING = Description(None, ())
"""The description of a board that tells nothing."""


@dataclass(frozen=True, slots=True)
class Head:
    """How a description begins: the `hash` of all from `start` on, up to its `end`; both are offsets in bytes."""

    hash: str
    start: int
    end: int

    @property
    def is_known(self) -> bool:
        """Whether it is of the format that this host reads; else the board is taken for one that tells nothing."""
        return self.end > 0

    def fits(self, data: bytes) -> bool:
        """Whether `data`, from the first byte on, is what it tells of."""
        return len(data) == self.end and f"{zlib.crc32(data[self.start :]):08x}" == self.hash


_UNKNOWN = Head("", 0, 0)


def parse_head(data: bytes) -> Head | None:
    """Read the beginning of a description, of which `data` has come; None where more of it must come.

    Raises ProtocolError where it is none, or longer than MOST_BYTES.
    """
    match = _HEAD.match(data)
    if match is None:
        if _OTHER_FORMAT.match(data):
            return _UNKNOWN
        if len(data) < _LONGEST_HEAD_BYTES:
            return None
        raise _error(f"begins with {show(data[:_LONGEST_HEAD_BYTES])}, which is no head")
    size_bytes = int(match[2])
    if size_bytes > MOST_BYTES:
        raise _error(f"tells of {size_bytes} bytes, and at most {MOST_BYTES} are read")
    return Head(match[1].decode(), match.end(), match.end() + size_bytes)


def parse_description(data: bytes, head: Head) -> Description:
    """Read a description whose head fits it. Raises ProtocolError where its lines are not as they must be."""
    first, end, rest = data[head.start :].decode("utf-8", "surrogateescape").partition("\n")
    identity = first.split("\t")
    if not end or len(identity) != 3 or (rest and not rest.endswith("\n")):
        raise _error(f"has {show(first)} for the names of board and firmware, or no last line")
    lines = rest.split("\n")[:-1]
    if len(lines) > MOST_FUNCTIONS:
        raise _error(f"tells of {len(lines)} functions, and at most {MOST_FUNCTIONS} are read")
    found: dict[str, FunctionDescription] = {}
    for line in lines:
        fields = line.split("\t")
        if len(fields) != 3 or not fields[0]:
            raise _error(f"has {show(line)} for a function, which is not its name, its signature and its doc")
        found[fields[0]] = _function(*fields)
    return Description(Identity(identity[0], identity[1], identity[2], head.hash), tuple(found.values()), data)


def _function(name: str, signature: str, doc: str) -> FunctionDescription:
    try:
        return FunctionDescription(name, str(parse_signature(signature)) if signature else "", doc)
    except SignatureError:
        return FunctionDescription(name, signature, doc)


def _error(reason: str) -> ProtocolError:
    return ProtocolError("3", f"the text that {DESCRIBE_FUNCTION} gave {reason} (docs/description.md 2)")
