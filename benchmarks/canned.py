"""The host alone: calls and copies of a board whose answers were prepared beforehand. A program of its own.

It must run on version 0.4.0 too, so it uses public names, and one module that was called otherwise there.

    python -P benchmarks/canned.py     prints the version; then a line "CASE UNITS" gives microseconds a unit
"""

from __future__ import annotations

import dataclasses
import gc
import itertools
import random
import struct
import sys
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

import microrpc
from firmware_sim.simulate import simulate

try:
    from microrpc.wire.frames import FrameDecoder, encode_frame
except ImportError:
    from microrpc.framing import FrameDecoder, encode_frame

COPY_KIB = 64
_PACKET_BYTES = 2048
_LINK_REPLY = 0x21
_SEQ_AT = 3  # after the session's id and the message's type
_SEQ, _CRC = struct.Struct("<H"), struct.Struct("<I")
_WARM_UNITS = 20

Unit = Callable[[], object]


class CannedChannel:
    """A channel in memory. Until `answers` are set, the simulated board behind it answers, and is listened to."""

    name = "canned"
    now = itertools.repeat(1.0).__next__  # a clock that stands still: nothing is ever late, or sent again

    def __init__(self) -> None:
        board = dataclasses.replace(
            microrpc.profile("loopback"), packet_size_bytes=_PACKET_BYTES, receive_ring_bytes=_PACKET_BYTES + 100
        )
        self._device = simulate(board)
        self._pending = self._device.take_output()
        self.answers: list[bytes] | None = None  # the next one is the last of the list
        self.heard: list[bytes] = []

    def read(self, deadline: float) -> bytes:
        data, self._pending = self._pending, b""
        return data

    def write(self, data: bytes, deadline: float) -> None:
        self._pending = self.answers.pop() if self.answers is not None else self._ask(data)

    def close(self) -> None:
        pass

    def _ask(self, data: bytes) -> bytes:
        self._device.receive(data)
        answer = self._device.take_output()
        self.heard.append(answer)
        return answer


class Case:
    """One thing to be timed: the board's answers to it are heard once, and made ready for as often as it is done."""

    def __init__(self, prepare: Callable[[Any], Unit], *, link: bool, kib: int) -> None:
        self._per_unit = max(kib, 1)
        self._channel = CannedChannel()
        self.board = microrpc.open_board(self._channel, microrpc.Timeouts(), seed=1, link=link)
        self._unit = prepare(self.board)
        for _ in range(_WARM_UNITS):
            self._unit()
        if (self.board.link is not None) != link:
            raise AssertionError(f"asked for link={link}, and got {self.board.link}")
        self._channel.heard.clear()
        self._unit()
        self._answers = [_payloads(answer) for answer in self._channel.heard]
        self._link_replies = sum(map(_is_link_reply, itertools.chain(*self._answers)))
        self._units_since = 0

    def time(self, units: int) -> float:
        """Give the processor time of a call, or of a KiB, in microseconds."""
        channel, unit = self._channel, self._unit
        channel.answers = self._prepare(units)
        gc.collect()  # of what was prepared for this; it stays switched on
        start = time.process_time()
        for _ in range(units):
            unit()
        seconds = time.process_time() - start
        if channel.answers:
            raise AssertionError(f"{len(channel.answers)} answers were not asked for")
        return seconds * 1e6 / units / self._per_unit

    def _prepare(self, units: int) -> list[bytes]:
        answers = []
        for _ in range(units):
            self._units_since += 1
            ahead = self._units_since * self._link_replies
            answers += [b"".join(_frame(payload, ahead) for payload in payloads) for payloads in self._answers]
        answers.reverse()
        return answers


def _payloads(answer: bytes) -> list[bytes]:
    return [payload for payload in FrameDecoder().feed(answer) if isinstance(payload, bytes)]


def _is_link_reply(payload: bytes) -> bool:
    return payload[2] == _LINK_REPLY


def _frame(payload: bytes, ahead: int) -> bytes:
    """Give the frame of an answer to the request that comes so many after the one that it was given to."""
    if _is_link_reply(payload):
        (seq,) = _SEQ.unpack_from(payload, _SEQ_AT)
        later = _SEQ.pack((seq + ahead) % (1 << 16))
        body = payload[:_SEQ_AT] + later + payload[_SEQ_AT + _SEQ.size : -_CRC.size]
        payload = body + _CRC.pack(zlib.crc32(body))
    return encode_frame(payload)


def _call(board: Any) -> Unit:
    add = board.function("add")

    def unit() -> None:
        if add(2, 3) != 5:
            raise AssertionError("a wrong answer was made ready")

    return unit


def _copy_to(board: Any) -> Unit:
    data = _data()
    array = board.empty(data.shape, data.dtype)
    return lambda: array.write(data)


def _copy_from(board: Any) -> Unit:
    data = _data()
    array = board.array(data)
    if not np.array_equal(array.numpy(), data):
        raise AssertionError("what was copied is not what came back")
    return lambda: array.numpy()


def _data() -> Any:
    return np.frombuffer(random.Random(2).randbytes(COPY_KIB * 1024), np.uint8)


def main() -> None:
    cases = {
        f"{name}-{'on' if link else 'off'}": Case(prepare, link=link, kib=kib)
        for name, prepare, kib in (("call", _call, 0), ("to", _copy_to, COPY_KIB), ("from", _copy_from, COPY_KIB))
        for link in (False, True)
    }
    print(microrpc.__version__, flush=True)
    for line in sys.stdin:
        name, units = line.split()
        print(cases[name].time(int(units)), flush=True)


if __name__ == "__main__":
    main()
