"""No protocol at all: 16 bytes there and back. What the others cost beside it is theirs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.peers.harness import Call, Peer, main, opened, read_exactly, write_all

_MESSAGE = bytes(range(16))


def _serve(fd: int) -> None:
    while True:
        write_all(fd, os.read(fd, 4096))


@contextmanager
def _call(path: str) -> Iterator[Call]:
    with opened(path) as fd:

        def echo() -> None:
            write_all(fd, _MESSAGE)
            assert read_exactly(fd, len(_MESSAGE)) == _MESSAGE

        yield echo


if __name__ == "__main__":
    main(Peer(_serve, _call))
