"""A line of a given speed in front of any pty, so that ours and its peers are measured on the same one.

`python -m benchmarks.pacing BAUD PTY` prints the path of a new pty, and ends with its standard input. Each direction is
a line of its own: a byte takes 10 bits (8N1), and is handed over when its last bit has crossed. Nothing is lost; a
reader that stalls is waited for. The time of each byte is counted from an absolute clock, so that late wake-ups do not
add up. Bytes within a burst are handed over in batches of up to 200 us, as by a UART with a FIFO; the last of a burst
never waits for more.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import statistics
import sys
import threading
import time
import tty
from collections.abc import Iterator

from benchmarks.processes import child, exit_with_stdin
from benchmarks.rows import Row
from microrpc.wire.uart import BITS_PER_BYTE

BAUD = 921600
_FIFO_BYTES = 4096
_BATCH_S = 200e-6
_PR_SET_TIMERSLACK = 29
_RAW_BYTES = 256 * 1024


@contextlib.contextmanager
def paced(path: str, baud: int = BAUD) -> Iterator[str]:
    """Put a line in front of the pty `path`; give the path to open instead."""
    with child("benchmarks.pacing", str(baud), path) as paced_path:
        yield paced_path


def efficiency(size_bytes: int, seconds: float, baud: int = BAUD) -> float:
    """Give which share of the line's bits was payload, in per cent."""
    return 100 * size_bytes * BITS_PER_BYTE / (seconds * baud)


def measure(*, quick: bool) -> Iterator[Row]:
    """Check the line itself: raw bytes one way must take the time that they take, and no more."""
    size_bytes, repeats = (16384, 1) if quick else (_RAW_BYTES, 3)
    shares = sorted(efficiency(size_bytes, _raw_s(size_bytes)) for _ in range(repeats))
    spread = f"least {shares[0]:.2f}, most {shares[-1]:.2f}"
    remark = f"{size_bytes // 1024} KiB of plain os.write through the paced line; {repeats} times"
    raw = {"kind": "raw", "baud": BAUD, "efficiencies": shares}
    yield Row("raw write", f"{statistics.median(shares):.2f}", "% of line", spread, remark, raw)


def _raw_s(size_bytes: int) -> float:
    """Time `size_bytes` from the first write until the last of them is out."""
    board_fd, host_fd = os.openpty()
    tty.setraw(host_fd)
    with paced(os.ttyname(host_fd)) as path:
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(fd)
        start = time.perf_counter()
        writer = threading.Thread(target=_write_all, args=(fd, bytes(size_bytes)))
        writer.start()
        left = size_bytes
        while left:
            left -= len(os.read(board_fd, 65536))
        taken_s = time.perf_counter() - start
        writer.join()
    for used in (fd, board_fd, host_fd):
        os.close(used)
    return taken_s


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


class _Direction:
    """Bytes on their way from one pty to the other."""

    def __init__(self, source: int, sink: int, byte_s: float) -> None:
        self.source = source
        self.sink = sink
        self._byte_s = byte_s
        self._batch_bytes = max(1, int(_BATCH_S / byte_s))
        self._queue = bytearray()
        self._begun_at = 0.0  # when the first byte of the queue got onto the line
        self.is_blocked = False
        """Whether bytes have crossed that the sink has no room for."""

    @property
    def has_room(self) -> bool:
        return len(self._queue) < _FIFO_BYTES

    @property
    def due(self) -> float | None:
        """When the next batch has crossed."""
        if not self._queue or self.is_blocked:
            return None
        return self._begun_at + min(len(self._queue), self._batch_bytes) * self._byte_s

    def take(self) -> None:
        """Let what has come get onto the line; not before now, so that it is never faster than the line."""
        data = os.read(self.source, _FIFO_BYTES - len(self._queue))
        if not self._queue:
            self._begun_at = max(self._begun_at, time.monotonic())
        self._queue += data

    def deliver(self, now: float) -> None:
        """Hand over what has crossed by `now`."""
        crossed = min(len(self._queue), int((now - self._begun_at) / self._byte_s + 1e-6))
        try:
            sent = os.write(self.sink, self._queue[:crossed])
        except BlockingIOError:
            sent = 0
        self.is_blocked = sent < crossed
        del self._queue[:sent]
        self._begun_at += sent * self._byte_s


def _carry(one_fd: int, other_fd: int, byte_s: float) -> None:
    """Carry bytes both ways, for ever."""
    directions = (_Direction(one_fd, other_fd, byte_s), _Direction(other_fd, one_fd, byte_s))
    while True:
        dues = [due for direction in directions if (due := direction.due) is not None]
        wait_s = max(0.0, min(dues) - time.monotonic()) if dues else None
        readable, writable, _ = select.select(
            [direction.source for direction in directions if direction.has_room],
            [direction.sink for direction in directions if direction.is_blocked],
            [],
            wait_s,
        )
        now = time.monotonic()
        for direction in directions:
            if direction.sink in writable:
                direction.is_blocked = False
            due = direction.due
            if due is not None and due <= now:
                direction.deliver(now)
            if direction.source in readable:
                direction.take()


def main(baud: int, path: str) -> None:
    with contextlib.suppress(OSError, AttributeError):  # sleep to the microsecond, where the system can
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1000, 0, 0, 0)
    board_fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(board_fd)
    line_fd, host_fd = os.openpty()
    tty.setraw(host_fd)
    for fd in (board_fd, line_fd):
        os.set_blocking(fd, False)
    exit_with_stdin()
    print(os.ttyname(host_fd), flush=True)
    _carry(line_fd, board_fd, BITS_PER_BYTE / baud)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
