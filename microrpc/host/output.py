"""What a connection wants sent now."""

from __future__ import annotations

from collections import deque

from microrpc.host.operation import AT_ONCE
from microrpc.host.stats import Counters

_FLUSH_S = 1.0  # how long the port may take for what is sent without waiting for an answer


class Output:
    """The `pieces` that are to be sent, in order; a piece is a frame where there are frames.

    give_up_at: until when the port may take them, where that is later than the deadline that is waited for: the link
    waits only for a repetition. byte_s: how long a byte takes on the line, in seconds, 0 where nobody knows. sent_by:
    when the line will have carried all that was taken, if it is as slow as that; whoever learns that it has, says so.
    taken_at, left_at: when the last was taken, and when the port had it; the latter is noted by whoever writes it.
    echo: what was sent and did not come back yet, on a line that gives back what is sent; None on every other.
    port_is_doubtful: before they are sent the port is to be set as it was when it was opened: a session begins after
    doubt, and another program may have changed the port.
    """

    def __init__(self, counters: Counters, *, has_frames: bool = True, byte_s: float = 0.0) -> None:
        self.pieces: list[bytes] = []
        self.give_up_at = AT_ONCE
        self.echo: deque[bytes] | None = None
        self.byte_s = byte_s
        self.sent_by = AT_ONCE
        self.taken_at = self.left_at = AT_ONCE
        self.port_is_doubtful = False
        self._counters = counters
        self._has_frames = has_frames

    def take(self, deadline: float, now: float) -> tuple[bytes, float]:
        """Give the bytes, and until when the port may take them, where `deadline` is waited for next."""
        counters, pieces = self._counters, self.pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self._has_frames:
            counters.frames_sent += len(pieces)
        counters.bytes_sent += len(data)
        if self.echo is not None:
            self.echo += pieces
        pieces.clear()
        line_s = len(data) * self.byte_s
        self.taken_at = now
        self.sent_by = max(now, self.sent_by) + line_s
        if self.give_up_at > deadline and self.give_up_at > now:
            return data, self.give_up_at
        return data, deadline if deadline != AT_ONCE else now + line_s + _FLUSH_S
