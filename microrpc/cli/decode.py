"""`microrpc decode`: a capture in words."""

from __future__ import annotations

import contextlib
import enum
import fnmatch
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from microrpc.cli.common import ExitCode, JsonLinesOption, print_json_line, reporting
from microrpc.cli.streams import note, say
from microrpc.errors import CaptureError, printable

if TYPE_CHECKING:
    from microrpc.capture.pcapng import Packet
    from microrpc.capture.records import Record

_STDIN = "-"
_MOST_KINDS = 300


class Direction(enum.StrEnum):
    """Which way bytes went."""

    TO_BOARD = "to-board"
    """From the program to the board."""
    FROM_BOARD = "from-board"
    """From the board to the program."""


RawOption = Annotated[
    Direction | None, typer.Option("--raw", help="FILE has bytes of the line alone, which went this way.")
]
"""--raw"""


def decode(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", show_default=False, help="A capture, a recording, or - for stdin."),
    ],
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", "--code", metavar="KIND", help="Of this kind: CallFunc, WRITE, LOG, text ... (repeat)"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Calls and events of this name; * stands for anything."),
    ] = None,
    damage: Annotated[
        bool, typer.Option("--damage", help="What was damaged, is noise, or is malformed; exit code 1 if there is any.")
    ] = False,
    direction: Annotated[Direction | None, typer.Option("--direction", help="Only what went this way.")] = None,
    begin: Annotated[
        float | None, typer.Option("--from", metavar="S", help="From this many seconds after the first packet on.")
    ] = None,
    end: Annotated[
        float | None, typer.Option("--to", metavar="S", help="Until this many seconds after the first packet.")
    ] = None,
    raw: RawOption = None,
    as_json: JsonLinesOption = False,
) -> None:
    """Say in words what is in a capture, a line for each frame.

    And what is outside of frames. FILE is told by how it begins: a capture (pcapng, of `--capture`, `microrpc capture`
    or Wireshark), or a recording (JSON lines). A pipe is read as it comes. What the filters leave out is read all the
    same, and counted at the end.
    """
    with reporting(as_json=as_json):
        for option, seconds in (("--from", begin), ("--to", end)):
            if seconds is not None and math.isnan(seconds):
                raise typer.BadParameter(f"{option} nan: must be a number of seconds")
        if begin is not None and end is not None and end < begin:
            raise typer.BadParameter(f"--to {end:g} is before --from {begin:g}")
        wanted = _Wanted(tuple(kind or ()), name, damage, direction, begin, end)
        raw_to_board = None if raw is None else raw is Direction.TO_BOARD
        found = _decode(file, wanted, raw_to_board, as_json=as_json)
        if damage and found:
            raise typer.Exit(ExitCode.DIFFERS)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is shown."""

    kinds: tuple[str, ...]
    name: str | None
    damage: bool
    direction: Direction | None
    begin_s: float | None
    end_s: float | None

    def has_time(self, since_s: float) -> bool:
        return (self.begin_s is None or since_s >= self.begin_s) and (self.end_s is None or since_s <= self.end_s)

    def has(self, record: Record) -> bool:
        from microrpc.capture.summary import is_wrong

        if self.direction is not None and record.to_board is not (self.direction is Direction.TO_BOARD):
            return False
        if self.damage and not is_wrong(record):
            return False
        if self.kinds and not self._has_kind(record):
            return False
        return self.name is None or any(fnmatch.fnmatchcase(name, self.name) for name in _names_of(record))

    def _has_kind(self, record: Record) -> bool:
        kinds = {kind.lower() for kind in _kinds_of(record)}
        return any(kind.lower() in kinds for kind in self.kinds)

    def unseen(self, seen: set[str]) -> list[str]:
        """Give the kinds that are wanted and not among those that were seen."""
        lower = {kind.lower() for kind in seen}
        return [kind for kind in self.kinds if kind.lower() not in lower]

    def has_comments(self) -> bool:
        """Whether nothing is asked of what is shown but its time: comments belong to no record."""
        return not (self.kinds or self.name is not None or self.damage or self.direction is not None)


def _kinds_of(record: Record) -> set[str]:
    from microrpc.capture.messages import code_name

    message = record.message
    kinds = {message.kind, message.link_kind}
    if message.code is not None:
        kinds.add(code_name(message.code))
    return kinds - {""}


def _names_of(record: Record) -> Sequence[str]:
    from microrpc.wire.events import EventMessage

    content = record.message.content
    return (record.function, content.name) if isinstance(content, EventMessage) else (record.function,)


def _decode(file: Path, wanted: _Wanted, raw_to_board: bool | None, *, as_json: bool) -> int:
    """Print what is wanted; give how many records that were."""
    from microrpc.capture.reading import read_packets, read_records
    from microrpc.capture.summary import Summary

    summary, shown = Summary(), 0
    start_ns: int | None = None
    interface: str | None = None
    is_told = False
    seen: set[str] = set()
    try:
        with _opened(file) as (stream, name):
            for packet, records in read_records(read_packets(stream, name, raw_to_board=raw_to_board)):
                start_ns = packet.time_ns if start_ns is None else start_ns
                since_s = (packet.time_ns - start_ns) / 1e9
                for record in records:
                    summary.add(record)
                    if wanted.kinds and len(seen) < _MOST_KINDS:
                        seen |= _kinds_of(record)
                if not wanted.has_time(since_s):
                    continue
                found = [record for record in records if wanted.has(record)]
                shown += len(found)
                comments = packet.comments if found or wanted.has_comments() else ()
                if as_json:
                    print_records_json(packet, found, comments)
                elif found or comments:
                    if interface not in (None, packet.interface):
                        say(f"{packet.interface}:")
                    interface = packet.interface
                    print_records(found, comments, since_s)
            is_told = True
            if start_ns is None:
                note(f"{name}: there is nothing of microrpc in it")
            elif unseen := wanted.unseen(seen):
                there = ", ".join(sorted(seen, key=str.lower))
                note(f"nothing in it is of the kind {', '.join(map(printable, unseen))}; there are: {there}")
    except CaptureError:
        is_told = True
        raise
    finally:
        if is_told and not as_json and start_ns is not None:
            note(summary.words())
    return shown


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[tuple[BinaryIO, str]]:
    if str(file) == _STDIN:
        yield sys.stdin.buffer, "stdin"
        return
    with file.open("rb") as stream:
        yield stream, str(file)


def print_records(records: Sequence[Record], comments: Sequence[str], since_s: float) -> None:
    """Print the comments on a packet, and a line for each of its records."""
    from microrpc.capture.words import frame_of

    for comment in comments:
        say(f"{since_s * 1e3:9.1f} ms  -- {printable(comment)}")
    for record in records:
        say(frame_of(record, since_s).line(0.0))


def print_records_json(packet: Packet, records: Sequence[Record], comments: Sequence[str]) -> None:
    """Print each record of a packet as a JSON object in a line of its own, the first with the packet's comments."""
    from microrpc.capture.fields import fields_of
    from microrpc.capture.words import meaning_of

    common: dict[str, Any] = {
        "packet": packet.number,
        "time_ns": packet.time_ns,
        "interface": packet.interface,
        "direction": (Direction.TO_BOARD if packet.to_board else Direction.FROM_BOARD).value,
    }
    for record in records:
        told: dict[str, Any] = {**common, "kind": record.message.kind, "meaning": meaning_of(record)}
        print_json_line({**told, "comments": list(comments), "fields": fields_of(record)})
        comments = ()
    if comments:
        print_json_line({**common, "kind": None, "meaning": "", "comments": list(comments), "fields": {}})
