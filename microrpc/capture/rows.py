"""What a monitor shows: a row for each frame, line of text or run of noise, in bounded memory, and which are wanted.

It takes packets as captures have them, one frame or run of noise each, and reads no clock.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from microrpc.capture.messages import DAMAGED
from microrpc.capture.pcapng import Packet
from microrpc.capture.records import NOISE, TEXT, Record
from microrpc.capture.words import meaning_of

MOST_ROWS = 20_000
"""How many rows are kept where nothing else is said."""
MOST_BYTES = 64 << 20
"""How many bytes of the line their packets have, at most."""
PART = "part"
"""The kind of a packet in which nothing ends: more of it is to come."""
NOTE = "note"
"""The kind of one without bytes, which only has comments: the port was lost."""


class Family(enum.StrEnum):
    """What a row is about."""

    CALLS = "calls"
    """Requests and their replies."""
    COPIES = "copies"
    """Of memory, there and back."""
    LOGS = "logs"
    """What the board logs."""
    TEXT = "text"
    """What it prints beside frames."""
    EVENTS = "events"
    """What it says without being asked, and what is said of that."""
    SESSIONS = "sessions"
    """Sessions, resets, and whether anybody is there."""
    DAMAGE = "damage"
    """What is broken, or nothing that is known."""


_FAMILIES = {
    **dict.fromkeys(("CopyToRemote", "CopyFromRemote", "CopyAck", "CopyAmongRemote"), Family.COPIES),
    **dict.fromkeys(("WRITE", "READ", "DONE", "DATA"), Family.COPIES),
    **dict.fromkeys(("INIT", "REPLY", "TERMINATE", "KEEP_ALIVE"), Family.SESSIONS),
    **dict.fromkeys(("EVENT", "EVENT_ACK", "EVENT_STATE"), Family.EVENTS),
    **dict.fromkeys((DAMAGED, NOISE, "NAK", "?", PART, NOTE), Family.DAMAGE),
    "LOG": Family.LOGS,
    TEXT: Family.TEXT,
}
_COPIED = (Family.COPIES, Family.CALLS)


def family_of(record: Record) -> Family:
    """Give the family of a record: a reply is of that of its request, and what has none is about calls."""
    kind = record.message.kind
    found = _FAMILIES.get(kind, Family.DAMAGE if kind.startswith("type 0x") else Family.CALLS)
    if record.request is not None and found in _COPIED:
        return _FAMILIES.get(record.request.message.kind, found)
    return found


class Row:
    """One row: a frame, a line of text or a run of noise, of which `packet` has the end; several may be of one packet.

    serial: counted from 1, those that are not kept any more too. record: what it is, of that `family`; it is put in
    words when that is asked for.
    """

    __slots__ = ("_meaning", "family", "packet", "record", "serial")

    def __init__(self, serial: int, packet: Packet, record: Record) -> None:
        self.serial = serial
        self.packet = packet
        self.record = record
        self.family = family_of(record)
        self._meaning: str | None = None

    @property
    def kind(self) -> str:
        """The word for what it is."""
        return self.record.message.kind

    @property
    def meaning(self) -> str:
        """What it says, besides."""
        if self._meaning is None:
            self._meaning = meaning_of(self.record)
        return self._meaning

    @property
    def to_board(self) -> bool:
        """Which way it went."""
        return self.record.to_board

    @property
    def is_repeated(self) -> bool:
        """Whether the link said it once more."""
        return self.record.is_retransmission

    @property
    def partner(self) -> int | None:
        """The number of the packet with the reply to it, or the request that it answers; None where there is none."""
        other = self.record.request or self.record.reply
        return None if other is None else other.number

    @property
    def answered_s(self) -> float | None:
        """How long the board took, of a request and its reply: from the one to the other, in seconds."""
        record = self.record
        if record.request is not None:
            return (record.time_ns - record.request.time_ns) / 1e9
        return None if record.reply is None else (record.reply.time_ns - record.time_ns) / 1e9


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows are wanted: of these `families`, with all `words` in kind or meaning, in any case of letters.

    A word behind a `!` is one that they must not have.
    """

    families: frozenset[Family] = frozenset(Family)
    words: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it lets everything through."""
        return len(self.families) == len(Family) and not self.words.strip()

    def toggled(self, family: Family) -> Filter:
        """Give the filter with a family more, or less."""
        return replace(self, families=self.families ^ {family})

    def wants(self, row: Row) -> bool:
        """Tell whether a row is wanted."""
        if row.family not in self.families:
            return False
        if not self.words:
            return True
        text = f"{row.kind} {row.meaning}".lower()
        return all((word[1:] not in text) if word[:1] == "!" else (word in text) for word in self.words.lower().split())


class Rows:
    """The newest rows, and of these the wanted ones.

    shown: those, oldest first. left_out: how many rows there were that are not kept any more.
    """

    def __init__(self, most: int = MOST_ROWS, *, most_bytes: int = MOST_BYTES) -> None:
        self.shown: deque[Row] = deque()
        self.left_out = 0
        self._filter = Filter()
        self._most, self._most_bytes = most, most_bytes
        self._kept: deque[Row] = deque()
        self._bytes = 0

    @property
    def newest(self) -> int:
        """The serial number of the newest; 0 where none is kept."""
        return self._kept[-1].serial if self._kept else 0

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._kept)

    def add(self, row: Row) -> None:
        """Take the next row; old ones go where there are too many."""
        self._kept.append(row)
        self._bytes += len(row.packet.data)
        if self._filter.wants(row):
            self.shown.append(row)
        while len(self._kept) > self._most or (self._bytes > self._most_bytes and len(self._kept) > 1):
            gone = self._kept.popleft()
            self._bytes -= len(gone.packet.data)
            self.left_out += 1
            if self.shown and self.shown[0] is gone:
                self.shown.popleft()

    @property
    def filter(self) -> Filter:
        """Which rows are wanted."""
        return self._filter

    @filter.setter
    def filter(self, wanted: Filter) -> None:
        self._filter = wanted
        self.shown = deque(filter(wanted.wants, self._kept))

    def copy(self) -> Rows:
        """Give the same rows as they are now, whatever comes later."""
        other = Rows(self._most, most_bytes=self._most_bytes)
        other._kept, other._bytes, other.left_out = self._kept.copy(), self._bytes, self.left_out
        other.shown, other._filter = self.shown.copy(), self._filter
        return other

    def clear(self) -> None:
        """Forget all rows; the filter stays."""
        self._kept.clear()
        self.shown.clear()
        self._bytes = self.left_out = 0

    def find(self, packet_number: int) -> Row | None:
        """Give the last row of a packet; None where it is not kept."""
        return next((row for row in reversed(self._kept) if row.packet.number == packet_number), None)


def packets_of(rows: Iterable[Row]) -> Iterator[Packet]:
    """Give the packets of rows, each once, in their order."""
    last: Packet | None = None
    for row in rows:
        if row.packet is not last:
            yield row.packet
        last = row.packet
