"""What crossed a line and how fast, counted: `Counters` while it happens, `Stats` to look at (docs/copies.md). Pure.

Connections count into `Counters`, whichever client drives them; they bring the times along.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass
from typing import Any

from microrpc.wire.uart import BITS_PER_BYTE

_ROUND_TRIPS = 256


@dataclass(frozen=True, slots=True)
class CopyStats:
    """Copies in one direction: `size_bytes` of data in `seconds`. `baud` of the line, None where nobody knows it."""

    size_bytes: int
    seconds: float
    baud: int | None = None

    @property
    def goodput_bytes_s(self) -> float | None:
        """Bytes of data a second; None before any time was taken."""
        return self.size_bytes / self.seconds if self.seconds > 0 else None

    @property
    def efficiency(self) -> float | None:
        """Goodput as a share of what the baud rate allows; None where either is not known.

        More than 1 tells that the port does not run at that rate, as a pty or a board's own USB does not.
        """
        goodput_bytes_s = self.goodput_bytes_s
        if goodput_bytes_s is None or self.baud is None:
            return None
        return goodput_bytes_s * BITS_PER_BYTE / self.baud


@dataclass(frozen=True, slots=True)
class Stats:
    """What one connection has done since it was opened (docs/copies.md).

    frames_sent, frames_received: frames out, and those that came whole. bytes_sent, bytes_received: as they cross the
    wire. frames_damaged: of those from the board. bytes_skipped: those outside of any frame. retransmissions: requests
    that the link sent again; repeats: those that were sent again in a new session, after doubt. sessions: those that
    were opened; resets: those of the board that were seen. requests: what was answered, blocks of a copy aside.
    round_trip_s, round_trip_min_s, round_trip_max_s: median, least and most of the last 256 requests, in seconds, None
    before the first. to_board, from_board: the copies in that direction.
    """

    frames_sent: int
    frames_received: int
    bytes_sent: int
    bytes_received: int
    frames_damaged: int
    bytes_skipped: int
    retransmissions: int
    repeats: int
    sessions: int
    resets: int
    requests: int
    round_trip_s: float | None
    round_trip_min_s: float | None
    round_trip_max_s: float | None
    to_board: CopyStats
    from_board: CopyStats

    def as_dict(self) -> dict[str, Any]:
        """Give it as JSON takes it, with goodput and efficiency."""
        fields = dataclasses.asdict(self)
        for name, copies in (("to_board", self.to_board), ("from_board", self.from_board)):
            fields[name] |= {"goodput_bytes_s": copies.goodput_bytes_s, "efficiency": copies.efficiency}
        return fields


class Counters:
    """What a connection counts; whoever drives it may read it at any time. What `Stats` has too is the same here.

    retransmissions: of links that are no more. bytes_to_board, to_board_s: of copies, and the seconds that they took;
    bytes_from_board, from_board_s likewise. baud: of the line, in bits a second, None where there is none that one
    could compare with. `now` is when something last arrived, and so the end of what has just been answered.
    """

    def __init__(self, baud: int | None = None) -> None:
        self.baud = baud
        self.now = 0.0
        self.frames_sent = self.frames_received = self.frames_damaged = 0
        self.bytes_sent = self.bytes_received = 0
        self.retransmissions = 0
        self.sessions = self.resets = self.requests = 0
        self.bytes_to_board = self.bytes_from_board = 0
        self.to_board_s = self.from_board_s = 0.0
        self._round_trips_s: deque[float] = deque(maxlen=_ROUND_TRIPS)

    def note_answer(self, asked_at: float) -> None:
        """Count a request that was sent at `asked_at`, in seconds, and is answered now."""
        self.requests += 1
        self._round_trips_s.append(self.now - asked_at)

    def note_copy_to(self, size_bytes: int, begun_at: float) -> None:
        """Count a copy to the board that began at `begun_at`, in seconds, and is done now."""
        self.bytes_to_board += size_bytes
        self.to_board_s += self.now - begun_at

    def note_copy_from(self, size_bytes: int, begun_at: float) -> None:
        """Count a copy from the board; otherwise as `note_copy_to`."""
        self.bytes_from_board += size_bytes
        self.from_board_s += self.now - begun_at

    def snapshot(self, *, bytes_skipped: int = 0, retransmissions: int = 0, repeats: int = 0) -> Stats:
        """Give all of it, with what the connection counts for itself; of `retransmissions`, those to be added."""
        round_trips_s = sorted(self._round_trips_s)
        return Stats(
            frames_sent=self.frames_sent,
            frames_received=self.frames_received,
            bytes_sent=self.bytes_sent,
            bytes_received=self.bytes_received,
            frames_damaged=self.frames_damaged,
            bytes_skipped=bytes_skipped,
            retransmissions=self.retransmissions + retransmissions,
            repeats=repeats,
            sessions=self.sessions,
            resets=self.resets,
            requests=self.requests,
            round_trip_s=round_trips_s[len(round_trips_s) // 2] if round_trips_s else None,
            round_trip_min_s=round_trips_s[0] if round_trips_s else None,
            round_trip_max_s=round_trips_s[-1] if round_trips_s else None,
            to_board=CopyStats(self.bytes_to_board, self.to_board_s, self.baud),
            from_board=CopyStats(self.bytes_from_board, self.from_board_s, self.baud),
        )
