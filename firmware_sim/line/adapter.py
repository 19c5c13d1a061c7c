"""The serial adapter at the host's end: USB asks it now and then, and it keeps bytes back until a packet is full."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from microrpc.wire.checks import check_seconds, check_whole

_ROUNDING = 1e-6  # of a byte's time: times are sums of floats


@dataclass(frozen=True, slots=True)
class HostAdapter:
    """What is between the wire and the program on the host.

    poll_s: how often USB asks the adapter, 0.001 at full speed; both directions wait for it. latency_timer_s: how long
    the adapter keeps a packet that is not full, 0.016 in an FTDI chip unless it was set. packet_bytes: what such a
    packet holds. buffer_bytes: what the host's system takes before a write has to wait.
    """

    poll_s: float = 0.0
    latency_timer_s: float = 0.0
    packet_bytes: int = 62
    buffer_bytes: int = 4096

    def __post_init__(self) -> None:
        for name in ("poll_s", "latency_timer_s"):
            check_seconds(getattr(self, name), name, may_be_zero=True)
        for name in ("packet_bytes", "buffer_bytes"):
            check_whole(getattr(self, name), name, 1)

    def tick(self, at: float) -> float:
        """When USB next asks, from the time `at` on."""
        return math.ceil(at / self.poll_s - 1e-9) * self.poll_s if self.poll_s else at

    def last_tick(self, at: float) -> float:
        """When USB asked last, until the time `at`."""
        return math.floor(at / self.poll_s + 1e-9) * self.poll_s if self.poll_s else at


class AdapterBuffer:
    """What the adapter holds back until its packet is full or its timer fires, and USB asks."""

    def __init__(self, adapter: HostAdapter, byte_s: float) -> None:
        self._adapter = adapter
        self._byte_s = byte_s
        self._held = bytearray()
        self._sent_at = 0.0
        # Bytes, when the last of them can be fetched, and the time between two of them: 0 in a packet.
        self._deliveries: deque[tuple[bytes, float, float]] = deque()

    def put(self, data: bytes, at: float) -> None:
        """Take bytes that came in without a pause, the last one at the time `at`."""
        timer_s = self._adapter.latency_timer_s
        if not timer_s:
            if data:
                self._deliveries.append((data, at, self._byte_s))
            return
        first = at - (len(data) - 1) * self._byte_s
        done = 0
        while done < len(data):
            came = first + done * self._byte_s
            self.release(came + self._byte_s * _ROUNDING)
            if not self._held:  # the timer runs freely; an empty packet starts it anew
                self._sent_at += math.floor((came - self._sent_at) / timer_s + 1e-9) * timer_s
            in_time = math.ceil((self._sent_at + timer_s - came) / self._byte_s - _ROUNDING)
            room_bytes = self._adapter.packet_bytes - len(self._held)
            count = max(1, min(in_time, room_bytes, len(data) - done))
            self._held += data[done : done + count]
            done += count
            if count == room_bytes:
                self._send(first + (done - 1) * self._byte_s)

    def take(self, now: float) -> bytes:
        """Give what has been delivered by `now`."""
        delivered = []
        while self._deliveries:
            data, end, byte_s = self._deliveries[0]
            if self._adapter.tick(end) > now:
                late = math.ceil((end - self._adapter.last_tick(now)) / byte_s - _ROUNDING) if byte_s else len(data)
                if late > 0:  # else it is there, but for the rounding
                    if late < len(data):
                        delivered.append(data[:-late])
                        self._deliveries[0] = (data[-late:], end, byte_s)
                    break
            delivered.append(data)
            self._deliveries.popleft()
        return b"".join(delivered)

    def next_delivery(self) -> float:
        """When the next bytes reach the program, infinity where there are none."""
        return self._adapter.tick(self._deliveries[0][1]) if self._deliveries else math.inf

    def fires_at(self) -> float:
        """When the timer sends what is held, infinity where nothing is."""
        return self._sent_at + self._adapter.latency_timer_s if self._held else math.inf

    def clear(self) -> None:
        """Lose everything."""
        self._held.clear()
        self._deliveries.clear()

    def release(self, now: float) -> None:
        """Send what is held, where the timer has fired by `now`."""
        if self.fires_at() <= now:
            self._send(self.fires_at())

    def _send(self, at: float) -> None:
        self._deliveries.append((bytes(self._held), at, 0.0))
        self._held.clear()
        self._sent_at = at
