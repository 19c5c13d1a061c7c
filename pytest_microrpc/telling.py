"""What is told of a test and its board: properties for reports, and when it failed its story and its capture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from microrpc.boards.files import WriteError
from microrpc.client.board import Board
from microrpc.errors import printable
from pytest_microrpc.listening import Listener, capture_name
from pytest_microrpc.story import Story, replay_line

PREFIX = "microrpc."
"""Begins the name of each property; that of a test's second board has a number besides, as "microrpc.2."."""
_CAPTURE = "capture"

_COUNTS = (
    *("frames_sent", "frames_received", "bytes_sent", "bytes_received", "frames_damaged", "bytes_skipped"),
    *("retransmissions", "repeats", "sessions", "resets", "requests"),
)


@dataclass(slots=True)
class Telling:
    """What is known of one test and one of its boards: its `story`, told from what the `listener` heard.

    profile: the name of the board's profile, and `firmware` what runs on it, "" where nobody knows. seeds: by name.
    board: what the test talks to; before: what that had counted before the test began.
    """

    story: Story
    """What a report has of it where it fails."""
    listener: Listener
    """What hears its line."""
    profile: str = ""
    firmware: str = ""
    seeds: tuple[tuple[str, int], ...] = ()
    board: Board | None = None
    before: Mapping[str, Any] = field(default_factory=dict)

    def talk(self, board: Board, *, is_new: bool) -> None:
        """Note what the test talks to, from now on; `is_new`: it was opened for this test."""
        self.board, self.before = board, {} if is_new else board.stats.as_dict()

    def properties(self, number: int) -> Iterator[tuple[str, str]]:
        """Give what is known, as names and values of properties; it is the board with this `number`, from 0 on."""
        board, prefix = self.board, _prefix(number)
        known = {"board": self.profile, "port": board.name if board is not None else self.listener.name}
        known["firmware"] = self.firmware or (_identity(board) if board is not None else "")
        yield from ((prefix + name, printable(value)) for name, value in known.items() if value)
        yield from ((prefix + name, str(seed)) for name, seed in self.seeds)
        if board is not None:
            yield from ((prefix + name, value) for name, value in _counted(board.stats.as_dict(), self.before))

    def save(self, directory: Path, nodeid: str, number: int) -> tuple[str, list[tuple[str, object]]]:
        """Write the capture of this test; give what a report says of it, and the properties that name it."""
        path = directory / capture_name(f"{nodeid}#{number + 1}" if number else nodeid)
        try:
            self.listener.save(path)
        except WriteError as error:
            return f"capture: none, for it {error}", []
        name = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
        return f"capture: {name}", [(f"{_prefix(number)}{_CAPTURE}", name)]

    def lines(self, item: pytest.Item) -> list[str]:
        """Tell the story, and how to have it again."""
        lines = self.story.lines()
        if self.story.fault_seed is not None:
            lines.append(f"replay: {replay_line(item, self.story.fault_seed)}")
        return lines


def put_properties(properties: list[tuple[str, object]], told: list[tuple[str, object]]) -> None:
    """Add what is told, in the place of what was told by the same name: a test may be run again, or fail twice."""
    names = {name for name, _ in told}
    properties[:] = [one for one in properties if one[0] not in names] + told


def _prefix(number: int) -> str:
    return f"{PREFIX}{number + 1}." if number else PREFIX


def _identity(board: Board) -> str:
    """Give who the board says it is, where that is known without asking."""
    known = board.operations.described.known
    return str(known.identity) if known is not None and known.identity is not None else ""


def _counted(stats: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Give what was counted since `before`; zeros too, so that a column of one report has a number for each test."""
    for name in _COUNTS:
        yield name, str(stats[name] - before.get(name, 0))
    for name in ("to_board", "from_board"):
        copies, earlier = stats[name], before.get(name, {})
        yield f"copied_{name}_bytes", str(copies["size_bytes"] - earlier.get("size_bytes", 0))
        yield f"copied_{name}_s", f"{copies['seconds'] - earlier.get('seconds', 0.0):.6f}"
    if not before and stats["round_trip_s"] is not None:  # a median of this test alone
        yield "round_trip_s", f"{stats['round_trip_s']:.6f}"
