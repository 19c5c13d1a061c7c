"""Ours, by the peers' harness: `benchmarks.board` is the device, and the mode is an argument before the others.

For `events` it is `benchmarks.reporting`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from benchmarks.modes import MODES, PROFILE
from benchmarks.pacing import BAUD
from benchmarks.peers.harness import Call, Codec, Peer, Talk, main
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


@contextmanager
def _talk(path: str) -> Iterator[Talk]:
    with connect(path, board=PROFILE, baud=BAUD, **_mode.connecting) as board:
        noop, report = board.function("noop"), board.function("report")

        def copy(data: bytes) -> None:
            with board.empty((len(data),), "uint8") as array:
                array.write(np.frombuffer(data, np.uint8))

        def set_rate(rate_hz: int) -> None:
            report(rate_hz)
            if not rate_hz:
                board.poll(0.4)  # until the tail is known

        def count(event: Any) -> None:
            talk.came += not event.is_gap
            talk.missed += event.missed

        talk = Talk(noop, copy, set_rate)
        board.on_event(None, count)
        board.poll(0.1)
        yield talk


if __name__ == "__main__":
    _mode = MODES[sys.argv.pop(1)]
    main(Peer(call=_call, codec=Codec(encode_frame, _decode), talk=_talk))
