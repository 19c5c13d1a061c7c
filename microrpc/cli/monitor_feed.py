"""What stands between the thread that reads a port or a file and the monitor that shows it: a bounded queue."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

from microrpc.capture.pcapng import Packet

MOST_PACKETS = 50_000
MOST_BYTES = 16 << 20


class Feed:
    """Packets of one thread for another.

    A file waits until there is room (`put`); a line cannot, so what there is no room for is counted and left out
    (`offer`). Whoever puts learns by `is_closed` that nobody wants more.
    """

    def __init__(self, *, most_packets: int = MOST_PACKETS, most_bytes: int = MOST_BYTES) -> None:
        self._most_packets, self._most_bytes = most_packets, most_bytes
        self._packets: deque[Packet] = deque()
        self._bytes = 0
        self._left_out = 0
        self._change = threading.Condition()
        self._is_closed = False
        self._end: BaseException | str | None = None

    # --- the thread that reads --------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Whether nobody wants more."""
        return self._is_closed

    def put(self, packet: Packet) -> bool:
        """Add a packet, when there is room; False where nobody wants it."""
        with self._change:
            self._change.wait_for(lambda: self._is_closed or self._has_room)
            if not self._is_closed:
                self._add(packet)
            return not self._is_closed

    def offer(self, packet: Packet) -> None:
        """Add a packet if there is room."""
        with self._change:
            if self._has_room:
                self._add(packet)
            else:
                self._left_out += 1

    def finish(self, end: BaseException | str) -> None:
        """Say that nothing comes any more, and why: an error, or words."""
        with self._change:
            self._end = end
            self._change.notify_all()

    @property
    def _has_room(self) -> bool:
        return len(self._packets) < self._most_packets and self._bytes < self._most_bytes

    def _add(self, packet: Packet) -> None:
        self._packets.append(packet)
        self._bytes += len(packet.data)
        if len(self._packets) == 1:
            self._change.notify_all()

    # --- the one that shows -----------------------------------------------------------------------

    def take(self, most: int) -> list[Packet]:
        """Give the oldest packets, at once; none where there are none."""
        with self._change:
            taken = [self._packets.popleft() for _ in range(min(most, len(self._packets)))]
            self._bytes -= sum(len(packet.data) for packet in taken)
            self._change.notify_all()
            return taken

    def wait(self, timeout_s: float) -> bool:
        """Wait for packets, or the end; tell whether there is either."""
        with self._change:
            return self._change.wait_for(lambda: bool(self._packets) or self._end is not None, timeout_s)

    def take_left_out(self) -> int:
        """Give how many packets were left out since this was last asked."""
        with self._change:
            count, self._left_out = self._left_out, 0
            return count

    @property
    def end(self) -> BaseException | str | None:
        """Why nothing comes any more; None while something may, or is to be taken."""
        with self._change:
            return None if self._packets else self._end

    def close(self) -> None:
        """Want no more."""
        with self._change:
            self._is_closed = True
            self._packets.clear()
            self._bytes = 0
            self._change.notify_all()


def packets_of(feed: Feed) -> Iterator[Packet]:
    """Give what comes, one by one, until the end; an error is raised then."""
    while (end := feed.end) is None:
        feed.wait(1.0)
        yield from feed.take(1000)
    if isinstance(end, BaseException):
        raise end
