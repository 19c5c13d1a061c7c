"""What stands between the threads that read a line or a file and the monitor that shows it: bounded queues."""

from __future__ import annotations

import struct
import threading
import time
from collections import deque
from collections.abc import Iterator

from microrpc.capture.pcapng import Packet

MOST_PACKETS = 5000
"""How many packets wait, at most."""
MOST_BYTES = 16 << 20
"""And how many bytes, of both."""
_DRAIN_S, _PAUSE_S = 1.0, 0.1  # how long packets that nobody will see are counted, and the next one is waited for
_BLOCK_HEAD = struct.Struct("<II")


class Feed:
    """Packets of one thread for another; the one that has them waits until there is room."""

    def __init__(self, *, most_packets: int = MOST_PACKETS, most_bytes: int = MOST_BYTES) -> None:
        self._most_packets, self._most_bytes = most_packets, most_bytes
        self._packets: deque[Packet] = deque()
        self._bytes = 0
        self._change = threading.Condition()
        self._is_closed = False
        self._end: BaseException | str | None = None
        self.unshown = 0
        """How many of the packets that were taken `packets_of` has not given."""

    # --- the thread that reads --------------------------------------------------------------------

    def put(self, packet: Packet) -> bool:
        """Add a packet, when there is room; False where nobody wants it."""
        with self._change:
            self._change.wait_for(lambda: self._is_closed or self._has_room)
            if not self._is_closed:
                self._packets.append(packet)
                self._bytes += len(packet.data)
                if len(self._packets) == 1:
                    self._change.notify_all()
            return not self._is_closed

    def finish(self, end: BaseException | str) -> None:
        """Say that nothing comes any more, and why: an error, or words."""
        with self._change:
            self._end = end
            self._change.notify_all()

    @property
    def _has_room(self) -> bool:
        return len(self._packets) < self._most_packets and self._bytes < self._most_bytes

    # --- the one that shows -----------------------------------------------------------------------

    def take(self, most: int) -> list[Packet]:
        """Give the oldest packets, at once; none where there are none."""
        with self._change:
            taken = [self._packets.popleft() for _ in range(min(most, len(self._packets)))]
            self._bytes -= sum(len(packet.data) for packet in taken)
            self.unshown += len(taken)
            self._change.notify_all()
            return taken

    def wait(self, timeout_s: float) -> bool:
        """Wait for packets, or the end; tell whether there is either."""
        with self._change:
            return self._change.wait_for(lambda: bool(self._packets) or self._end is not None, timeout_s)

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
        for packet in feed.take(1000):
            feed.unshown -= 1
            yield packet
    if isinstance(end, BaseException):
        raise end


def count_unshown(feed: Feed) -> int:
    """Give how many packets nobody was shown, those that still come from a reader that was told to end included."""
    until = time.monotonic() + _DRAIN_S
    while feed.end is None and time.monotonic() < until and feed.wait(_PAUSE_S):
        feed.take(MOST_PACKETS)
    return feed.unshown


class BlockPipe:
    """The blocks of a capture that a thread writes and another reads, in memory.

    Who writes never waits: he serves a line. What there is no room for is left out, whole packets of it.
    """

    def __init__(self, *, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._pieces: deque[bytes] = deque()
        self._bytes = 0
        self._left_out = 0
        self._change = threading.Condition()
        self._is_closed = False

    def write(self, blocks: memoryview) -> int:
        """Take whole blocks, or leave them out."""
        with self._change:
            if self._bytes + len(blocks) > self._most_bytes:
                self._left_out += _count_blocks(blocks)
            elif not self._is_closed:
                self._pieces.append(bytes(blocks))
                self._bytes += len(blocks)
                self._change.notify_all()
        return len(blocks)

    def read(self, size: int) -> bytes:
        """Give up to `size` bytes, waiting for the first; nothing after the end."""
        with self._change:
            self._change.wait_for(lambda: bool(self._pieces) or self._is_closed)
            if not self._pieces:
                return b""
            piece = self._pieces.popleft()
            if len(piece) > size:
                self._pieces.appendleft(piece[size:])
                piece = piece[:size]
            self._bytes -= len(piece)
            return piece

    def take_left_out(self) -> int:
        """Give how many packets were left out since this was last asked."""
        with self._change:
            count, self._left_out = self._left_out, 0
            return count

    def close(self) -> None:
        """End it: what is in it can still be read."""
        with self._change:
            self._is_closed = True
            self._change.notify_all()


def _count_blocks(blocks: memoryview) -> int:
    at = count = 0
    while at + _BLOCK_HEAD.size <= len(blocks):
        at += _BLOCK_HEAD.unpack_from(blocks, at)[1]
        count += 1
    return count
