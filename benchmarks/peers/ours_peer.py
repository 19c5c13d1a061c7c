"""Ours, by the peers' harness: `benchmarks.board` is the device, and the mode is an argument before the others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.modes import MODES, PROFILE
from benchmarks.peers.harness import Call, Codec, Peer, main
from microrpc.connecting.blocking import connect
from microrpc.wire.frames import FrameDecoder, encode_frame


def _decode(stream: bytes) -> list[bytes]:
    return [payload for payload in FrameDecoder().feed(stream) if isinstance(payload, bytes)]


@contextmanager
def _call(path: str) -> Iterator[Call]:
    with connect(path, board=PROFILE, **_mode.connecting) as board:
        add = board.function("add")

        def call() -> None:
            assert add(2, 3) == 5

        yield call


if __name__ == "__main__":
    _mode = MODES[sys.argv.pop(1)]
    main(Peer(call=_call, codec=Codec(encode_frame, _decode)))
