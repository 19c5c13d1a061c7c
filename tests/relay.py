"""A pty in front of another one: it keeps what crosses, can damage it, and the board behind it can be exchanged."""

from __future__ import annotations

import os
import select
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from microrpc.wire.frames import FrameDecoder
from microrpc.wire.session import HEADER_SIZE_BYTES, MessageType

TO_BOARD, TO_HOST = "to-board", "to-host"


class _Way:
    """One direction: what is on its way, and what was sent; the latter before anything struck it."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.sent = bytearray()
        self.waiting = bytearray()
        self.struck = 0
        self._rng = rng

    def take(self, data: bytes, flip_rate: float, drop_rate: float) -> None:
        self.sent += data
        if flip_rate or drop_rate:
            data = self._strike(np.frombuffer(data, np.uint8), flip_rate, drop_rate)
        self.waiting += data

    def _strike(self, data: npt.NDArray[np.uint8], flip_rate: float, drop_rate: float) -> bytes:
        bits = np.flatnonzero(self._rng.random(8 * len(data)) < flip_rate)
        changed = data.copy()
        np.bitwise_xor.at(changed, bits >> 3, (1 << (bits & 7)).astype(np.uint8))
        stays = self._rng.random(len(data)) >= drop_rate
        self.struck += len(bits) + int(np.count_nonzero(~stays))
        return changed[stays].tobytes()


class Relay:
    """Carries bytes between `path`, which a host opens, and the pty of a board.

    flip_rate, drop_rate: of bits and of bytes, both ways; they may be set at any time. `ways` has both directions.
    """

    def __init__(self, board_path: str, *, seed: int = 0) -> None:
        self.flip_rate = self.drop_rate = 0.0
        to_board, to_host = map(_Way, np.random.default_rng(seed).spawn(2))
        self.ways = {TO_BOARD: to_board, TO_HOST: to_host}
        self._near, self._held = os.openpty()  # the host's end is held open: hosts come and go
        tty.setraw(self._held)
        os.set_blocking(self._near, False)
        self.path = os.ttyname(self._held)
        self._far = _open(board_path)
        self._wake, self._waker = os.pipe()
        self._orders: list[str | None] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    @property
    def struck(self) -> int:
        """How many bits were flipped and bytes lost."""
        return sum(way.struck for way in self.ways.values())

    def attach(self, board_path: str) -> None:
        """Have another board behind it from now on; what was on its way is lost."""
        self._order(board_path)

    def close(self) -> None:
        """Stop."""
        self._order(None)
        self._thread.join()
        for fd in (self._near, self._held, self._far, self._wake, self._waker):
            os.close(fd)

    def messages(self, way: str) -> list[tuple[int, MessageType, bytes]]:
        """Give the messages that were sent: session, type and body."""
        payloads = (item for item in FrameDecoder().feed(bytes(self.ways[way].sent)) if isinstance(item, bytes))
        return [
            (int.from_bytes(payload[:2], "little"), MessageType(payload[2]), payload[3:])
            for payload in payloads
            if len(payload) >= HEADER_SIZE_BYTES
        ]

    def _order(self, order: str | None) -> None:
        self._done.clear()
        self._orders.append(order)
        os.write(self._waker, b"o")
        self._done.wait(10)

    def _carry(self) -> None:
        to_board, to_host = self.ways[TO_BOARD], self.ways[TO_HOST]
        while True:
            pairs = ((self._near, self._far, to_board), (self._far, self._near, to_host))
            sinks = [sink for _, sink, way in pairs if way.waiting]
            sources = [source for source, _, way in pairs if len(way.waiting) < 1 << 16]
            readable, writable, _ = select.select([*sources, self._wake], sinks, [], 10)
            if self._wake in readable:
                os.read(self._wake, 1)
                order = self._orders.pop()
                if order is not None:
                    os.close(self._far)
                    self._far = _open(order)
                    to_board.waiting.clear()
                self._done.set()
                if order is None:
                    return
                continue
            try:
                for source, sink, way in pairs:
                    if source in readable:
                        way.take(_read(source), self.flip_rate, self.drop_rate)
                    if sink in writable:
                        del way.waiting[: os.write(sink, way.waiting)]
            except OSError:  # the board is gone, until another one is attached
                to_board.waiting.clear()
                time.sleep(0.01)


@contextmanager
def relayed(board_path: str, *, seed: int = 0) -> Iterator[Relay]:
    """Put a relay in front of a board's pty."""
    relay = Relay(board_path, seed=seed)
    try:
        yield relay
    finally:
        relay.close()


def _open(path: str) -> int:
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    tty.setraw(fd)
    return fd


def _read(fd: int) -> bytes:
    data = os.read(fd, 1 << 16)
    if not data:
        raise OSError("its other end is gone")
    return data
