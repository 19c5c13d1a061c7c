"""What one client of a shared board is sent: replies, and beside them events and progress (docs/link.md 11).

Events wait here, within bounds, so that a client that does not read holds up neither the board nor another client.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import replace

from microrpc.errors import PortLostError
from microrpc.ports.aio import AsyncChannel
from microrpc.wire.asides import (
    WANT_NOTHING,
    Want,
    encode_event_aside,
    encode_event_values,
    encode_gone,
    encode_progress,
)
from microrpc.wire.events import Event

MOST_EVENTS = 1024
"""So many events wait for a client at most,"""
MOST_BYTES = 1 << 18
"""and so many bytes of them."""

_MOST_PROGRESS = 64
_PIECE_BYTES = 1 << 14  # of events that are written at once: a reply waits for no more
_TOO_SLOW = (
    f"this client read its events too slowly: {MOST_EVENTS} events, or {MOST_BYTES >> 10} KiB of them, waited for it, "
    "and a reliable one more cannot be dropped. It has lost those"
)


class Outbox:
    """Writes to the channel of one client. take_s: how long it may leave a reply unread, in seconds.

    wants: what it wants beside its replies.
    """

    def __init__(self, channel: AsyncChannel, take_s: float) -> None:
        self.wants = WANT_NOTHING
        self._channel = channel
        self._take_s = take_s
        self._lock = asyncio.Lock()  # who has it writes whole packets
        self._news = asyncio.Event()
        self._progress: deque[bytes] = deque(maxlen=_MOST_PROGRESS)
        self._events: deque[bytes] = deque()
        self._events_bytes = 0
        self._missed = 0
        self._first_missed: Event | None = None
        self._is_too_slow = False

    # --- what is to be sent ------------------------------------------------------------------------

    def want(self, wants: Want) -> None:
        """Take note of what the client wants now."""
        self.wants = wants
        if not wants & Want.EVENTS:
            self._forget_events()
        self._news.set()

    def put_progress(self, done: int, total: int) -> None:
        """Have the client told how far its call has come, where it wants that."""
        if self.wants & Want.PROGRESS:
            self._progress.append(encode_progress(done, total))
            self._news.set()

    def put_event(self, event: Event, values: bytes) -> None:
        """Have the client told of an event, whose last part is `values`.

        Where there is no room a plain one counts as missed, and one that is reliable is the end of this client.
        """
        if self._is_too_slow:
            return
        packet = encode_event_aside(event, event.missed + self._missed, values)
        has_room = len(self._events) < MOST_EVENTS and self._events_bytes + len(packet) <= MOST_BYTES
        if has_room and not (event.is_gap and self._missed):  # else they are one gap, which begins with its first
            self._events.append(packet)
            self._events_bytes += len(packet)
            self._missed, self._first_missed = 0, None
        elif event.reliable and not event.is_gap:
            self._is_too_slow = True
            self._forget_events()
            # What is being written to it may never be read, nor why it is dropped.
            asyncio.get_running_loop().call_later(self._take_s, self._channel.close)
        else:
            self._first_missed = self._first_missed or event
            self._missed += event.missed + (not event.is_gap)
        self._news.set()

    def _forget_events(self) -> None:
        self._events.clear()
        self._events_bytes = self._missed = 0
        self._first_missed = None

    # --- writing -----------------------------------------------------------------------------------

    async def reply(self, data: bytes) -> None:
        """Send replies, after what was told of the call. Raises CallTimeoutError, TimeoutError, PortLostError."""
        if not data:
            return
        deadline = self._channel.now() + self._take_s
        async with asyncio.timeout_at(deadline):
            await self._lock.acquire()
        try:
            await self._channel.write(self._take_progress() + data, deadline)
        finally:
            self._lock.release()

    async def run(self) -> None:
        """Send what else there is, until the client is gone, or too slow: then it is told, and its channel closed."""
        try:
            while not self._is_too_slow:
                await self._news.wait()
                self._news.clear()
                await self._send_all()
            async with self._lock:
                await self._channel.write(encode_gone(_TOO_SLOW), math.inf)
        except PortLostError:
            pass
        self._channel.close()

    async def _send_all(self) -> None:
        has_more = True
        while has_more and not self._is_too_slow:
            async with self._lock:
                piece = self._take_progress() + self._take_events()
                has_more = bool(piece)
                if piece:
                    await self._channel.write(piece, math.inf)

    def _take_progress(self) -> bytes:
        told = b"".join(self._progress)
        self._progress.clear()
        return told

    def _take_events(self) -> bytes:
        if not self.wants & Want.EVENTS or self.wants & Want.HOLD:
            return b""
        pieces, size_bytes = [], 0
        while self._events and size_bytes < _PIECE_BYTES:
            pieces.append(self._events.popleft())
            size_bytes += len(pieces[-1])
        self._events_bytes -= size_bytes
        if not pieces and self._first_missed is not None:  # and nothing came that could tell of those
            gap, missed = replace(self._first_missed, name="", values=(), reliable=False), self._missed
            self._missed, self._first_missed = 0, None
            return encode_event_aside(gap, missed, encode_event_values(gap))
        return b"".join(pieces)
