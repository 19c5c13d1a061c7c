"""The command line that all peers have. Each command prints one line of JSON, `serve` the path of its pty.

SCRIPT serve                      the device's side, until the standard input ends
SCRIPT call PATH                  round trips of add(2, 3), or of an echo: a block for each line of its input
SCRIPT copy PATH VARIANT BYTES    random bytes to the device
SCRIPT codec                      frames of random payload to bytes and back
SCRIPT events PATH                what each line of its input asks for, as JSON, beside what the device says by itself:
                                  ["report", EVENTS_A_SECOND], ["calls", N], ["copy", BYTES], and ["events"], how many
                                  came and how many were missed since this was last asked
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from benchmarks.processes import exit_with_stdin

CODEC_BYTES = (64, 256, 2048)
_CODEC_TOTAL_BYTES = 128 * 1024
_CODEC_REPEATS = 7
_LONGEST_BLOCK_NS = 100_000_000

Call = Callable[[], object]
Copy = Callable[[bytes], object]


@dataclass(frozen=True)
class Codec:
    """How a peer makes a frame of a payload, and payloads of a stream of frames."""

    encode: Callable[[bytes], bytes]
    decode: Callable[[bytes], list[bytes]]
    largest_bytes: int = max(CODEC_BYTES)


@dataclass
class Talk:
    """A client whose device says something by itself: `report` sets how often, a second."""

    call: Call
    copy: Copy
    report: Callable[[int], object]
    came: int = 0
    missed: int = 0

    def take_counts(self) -> tuple[int, int]:
        """Give how many events came and were missed since the last time."""
        counts = self.came, self.missed
        self.came = self.missed = 0
        return counts


@dataclass(frozen=True)
class Peer:
    """What a peer can do. `serve` has the device's end of a pty; the others but `codec` open the host's end."""

    serve: Callable[[int], None] | None = None
    call: Callable[[str], AbstractContextManager[Call]] | None = None
    copies: dict[str, Callable[[str], AbstractContextManager[Copy]]] = field(default_factory=dict)
    codec: Codec | None = None
    talk: Callable[[str], AbstractContextManager[Talk]] | None = None


def main(peer: Peer) -> None:
    """Obey the command line."""
    match sys.argv[1:]:
        case ["serve"] if peer.serve:
            _serve(peer.serve)
        case ["call", path] if peer.call:
            _time_calls(peer.call, path)
        case ["copy", path, variant, size_bytes]:
            _print({"seconds": _time_copy(peer.copies[variant], path, int(size_bytes))})
        case ["codec"] if peer.codec:
            _print({"rates": _time_codec(peer.codec)})
        case ["events", path] if peer.talk:
            _obey(peer.talk, path)
        case _:
            raise SystemExit(__doc__)


def read_exactly(fd: int, size_bytes: int) -> bytes:
    """Read that many bytes."""
    data = os.read(fd, size_bytes)
    while len(data) < size_bytes:
        data += os.read(fd, size_bytes - len(data))
    return data


def write_all(fd: int, data: bytes) -> None:
    """Write all of it."""
    while data:
        data = data[os.write(fd, data) :]


@contextmanager
def opened(path: str) -> Iterator[int]:
    """Open a pty as it is."""
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    try:
        tty.setraw(fd)
        yield fd
    finally:
        os.close(fd)


def _print(result: object) -> None:
    print(json.dumps(result), flush=True)


def _serve(serve: Callable[[int], None]) -> None:
    board_fd, host_fd = os.openpty()
    tty.setraw(host_fd)
    exit_with_stdin()
    print(os.ttyname(host_fd), flush=True)
    serve(board_fd)


def _time_calls(connect: Callable[[str], AbstractContextManager[Call]], path: str) -> None:
    with connect(path) as call:
        for line in sys.stdin:
            _print(_time_block(call, int(line)))


def _time_block(call: Call, count: int) -> list[float]:
    """Give the times in us; slow calls are fewer than `count`."""
    clock = time.perf_counter_ns
    times: list[float] = []
    end = clock() + _LONGEST_BLOCK_NS
    while len(times) < count and clock() < end:
        start = clock()
        call()
        times.append((clock() - start) / 1000)
    return times


def _time_copy(connect: Callable[[str], AbstractContextManager[Copy]], path: str, size_bytes: int) -> float:
    data = random.Random(4).randbytes(size_bytes)
    with connect(path) as copy:
        start = time.perf_counter()
        copy(data)
        return time.perf_counter() - start


def _obey(connect: Callable[[str], AbstractContextManager[Talk]], path: str) -> None:
    with connect(path) as talk:
        for line in sys.stdin:
            match json.loads(line):
                case ["report", rate_hz]:
                    _print(talk.report(rate_hz))
                case ["calls", count]:
                    _print([_timed(talk.call) for _ in range(count)])
                case ["copy", size_bytes]:
                    data = random.Random(4).randbytes(size_bytes)
                    _print([_timed(lambda data=data: talk.copy(data))])  # type: ignore[misc]
                case _:
                    _print(talk.take_counts())


def _timed(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _time_codec(codec: Codec) -> dict[str, list[float]]:
    """Give MB/s by the size of the payload: [encode, decode]."""
    rng = random.Random(5)
    rates = {}
    for size_bytes in CODEC_BYTES:
        if size_bytes > codec.largest_bytes:
            continue
        payloads = [rng.randbytes(size_bytes) for _ in range(_CODEC_TOTAL_BYTES // size_bytes)]
        stream = b"".join(map(codec.encode, payloads))
        if codec.decode(stream) != payloads:
            raise AssertionError("what was encoded is not what is decoded")
        encode_s, decode_s = [], []
        for _ in range(_CODEC_REPEATS):
            start = time.perf_counter()
            for payload in payloads:
                codec.encode(payload)
            middle = time.perf_counter()
            codec.decode(stream)
            end = time.perf_counter()
            encode_s.append(middle - start)
            decode_s.append(end - middle)
        total_mb = len(payloads) * size_bytes / 1e6
        rates[str(size_bytes)] = [total_mb / statistics.median(encode_s), total_mb / statistics.median(decode_s)]
    return rates
