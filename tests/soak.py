"""Calls a board over a line that blocks, is damaged and is reset, and compares with what the board did: `make soak`.

    python tests/soak.py --seconds 600 --seed 1

The board reads and writes its port as small firmware does, one thing at a time: while its answer is not taken it takes
nothing, and now and then it takes nothing for a while, as under RTS/CTS. It notes each call that it executes. Rounds
differ in the client (blocking, asyncio), the port (a pty, a socket with little room), the size of packets, the link,
and in how often bytes are changed, lost, doubled or repeated later. A round ends with a goodbye, or the port goes away.

Without the link nothing is damaged: 16 bits of check let damage pass now and then, and nothing knows a repetition.

Exits with 1 where a call that was answered did not run, one ran twice, an answer is not its call's, `may_have_run` was
False for one that ran, a copy came back different, or an error blames the caller. It knows nothing of how the host does
it; what the board did comes from the board alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import inspect
import os
import random
import select
import socket
import threading
import time
import tty
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import microrpc
from firmware_sim.board.clock import RealClock
from firmware_sim.board.device import Device
from microrpc.errors import (
    HandshakeTimeoutError,
    MicroRpcError,
    OutcomeUnknownError,
    PortLostError,
    StaleHandleError,
)
from microrpc.ports.aio import adopt
from microrpc.ports.fd import FdChannel
from microrpc.wire.session import Timeouts

_TIMEOUTS = Timeouts(retry_s=0.1, start_s=2.0, call_s=0.6)
_ROUND_S = 4.0
_LATE_S = 1.0  # how long a board is listened to after its host has gone
_READ_BYTES = 64
_REPLAYED_BYTES = 4096
_SOCKET_BYTES = 4096  # the system makes a little more of it
_OVERHEAD_BYTES = 200  # of a call, more than enough


@dataclass(frozen=True)
class Round:
    """What a round is like. The rates are chances: of a piece of the line, of a call, of a read."""

    seed: int
    is_asyncio: bool
    is_pty: bool
    link: bool
    packet_bytes: int
    damage_rate: float
    reset_rate: float
    pause_rate: float
    goes_away: bool

    @classmethod
    def draw(cls, seed: int) -> Round:
        """Give the round of a seed."""
        rng = random.Random(seed)
        link = rng.random() < 0.75
        return cls(
            seed,
            is_asyncio=seed % 2 == 1,
            is_pty=rng.random() < 0.7,
            link=link,
            packet_bytes=rng.choice((512, 2048, 16384, 40000)),
            damage_rate=rng.choice((0.0, 0.002, 0.01)) if link else 0.0,
            reset_rate=rng.choice((0.0, 0.01, 0.03)),
            pause_rate=rng.choice((0.0, 0.002, 0.01)),
            goes_away=rng.random() < 0.5,
        )


@dataclass
class Tally:
    """What came of the calls, over all rounds; `faults` is what must not be."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Give it in lines."""
        lines = [f"{count:8} {outcome}" for outcome, count in sorted(self.outcomes.items())]
        return "\n".join([*lines, f"{len(self.faults):8} faults", *(f"         {fault}" for fault in self.faults)])


class BlockingBoard:
    """A board behind a port of its own, in a thread: it does one thing at a time, and waits for its port.

    device: what is behind the port; `open` gives the host's end of it. executed: the number of each call of
    `record(number, data)`, in order. Use it as a context manager.
    """

    def __init__(self, round_: Round) -> None:
        self.executed: list[int] = []
        self.resets = 0
        self._round = round_
        self._rng = random.Random(f"board {round_.seed}")
        self._fd, self._host_fd = _open_pty() if round_.is_pty else _open_sockets()
        os.set_blocking(self._fd, False)
        self._past = bytearray()
        self._is_over = threading.Event()
        self._is_quiet = False
        self.device = device = Device(
            packet_size_bytes=round_.packet_bytes, seed=round_.seed, clock=RealClock(), link=round_.link
        )
        device.function(self._record, name="record")
        self._thread = threading.Thread(target=self._serve, name="blocking board")

    def open(self) -> FdChannel:
        """Give the host's end, once."""
        return FdChannel("blocking board", self._host_fd)

    def __enter__(self) -> BlockingBoard:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_away()

    def calm_down(self) -> None:
        """Damage, reset and stop nothing any more."""
        self._is_quiet = True

    def go_away(self) -> None:
        """Let the port go away, and end the board. Twice is fine."""
        self._is_over.set()
        self._thread.join()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # --- what it does --------------------------------------------------------------------------

    def _record(self, number: int, data: bytes) -> bytes:
        self.executed.append(number)
        if self._strikes(0.1):
            self._is_over.wait(self._rng.choice((0.05, 0.2, 0.7)))  # the last is longer than a call may take
        if self._strikes(self._round.reset_rate):
            self._reset()
        return number.to_bytes(8, "little") + zlib.crc32(data).to_bytes(4, "little") + data[: len(data) // 2]

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # its host has gone
            while self._wait(select.POLLIN):
                if self._strikes(self._round.pause_rate):
                    self._is_over.wait(self._rng.choice((0.01, 0.1, 1.0)))
                self.device.receive(self._spoil(os.read(self._fd, _READ_BYTES)))
                if self._strikes(self._round.reset_rate / 50):
                    self._reset()
                output = memoryview(self._spoil(self.device.take_output()))
                while output and self._wait(select.POLLOUT):
                    with contextlib.suppress(BlockingIOError):
                        output = output[os.write(self._fd, output) :]

    def _wait(self, event: int) -> bool:
        """Wait for the port; tell whether it goes on."""
        poller = select.poll()
        poller.register(self._fd, event)
        while not self._is_over.is_set():
            if poller.poll(20):
                return True
        return False

    def _reset(self) -> None:
        self.resets += 1
        self.device.reset()

    def _strikes(self, rate: float) -> bool:
        return not self._is_quiet and self._rng.random() < rate

    def _spoil(self, data: bytes) -> bytes:
        """Change, lose or double a part of what crosses, or let what crossed before come again."""
        rng = self._rng
        if not data or not self._round.link:
            return data
        if not self._strikes(self._round.damage_rate):
            self._past = (self._past + data)[-_REPLAYED_BYTES:]
            return data
        at, end = sorted(rng.choices(range(len(data) + 1), k=2))
        match rng.randrange(4):
            case 0:
                return data[:at] + bytes(byte ^ 1 << rng.randrange(8) for byte in data[at : at + 3]) + data[at + 3 :]
            case 1:
                return data[:at] + data[end:]
            case 2:
                return data[:end] + data[at:]
        return data + bytes(self._past[rng.randrange(len(self._past) + 1) :])


def _open_pty() -> tuple[int, int]:
    board, host = os.openpty()
    tty.setraw(host)
    return board, host


def _open_sockets() -> tuple[int, int]:
    board, host = socket.socketpair()
    for one in (board, host):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
    return board.detach(), host.detach()


# --- the host's side ----------------------------------------------------------------------------------


class _Talk:
    """What a program does with one connection: calls, copies, and a note of what came of each call."""

    def __init__(self, round_: Round, board: BlockingBoard, tally: Tally) -> None:
        self.noted: dict[int, str] = {}  # what the program was told of each call
        self._round = round_
        self._board = board
        self._tally = tally
        self._rng = random.Random(f"host {round_.seed}")
        self._numbers: Iterator[int] = iter(range(1, 1 << 30))
        self._record: Any = None

    async def run(self, until: float) -> None:
        """Open a connection and talk until that time, or until the port has gone."""
        connection = await self._open()
        if connection is None:
            return
        try:
            while time.monotonic() < until and not connection.pump.closed:
                await self._ask(connection)
            if self._round.goes_away:
                going = threading.Timer(self._rng.uniform(0.0, 0.2), self._board.go_away)
                going.start()
                while not connection.pump.closed:
                    await self._ask(connection)
                going.join()
        finally:
            self._board.calm_down()
            await _settle(connection.close())

    async def _open(self) -> Any:
        channel = self._board.open()
        try:
            if self._round.is_asyncio:
                opening = microrpc.aio.open_board(adopt(channel), _TIMEOUTS, link=self._round.link)
                return await opening
            return microrpc.open_board(channel, _TIMEOUTS, link=self._round.link)
        except HandshakeTimeoutError:
            self._tally.outcomes["sessions that did not open"] += 1
            return None

    async def _ask(self, connection: Any) -> None:
        """Ask one thing, and note what came of it."""
        number = 0
        try:
            if self._record is None:
                self._record = await _settle(connection.function("record"))
            if self._rng.random() < 0.1:
                await self._copy(connection)
                return
            number = next(self._numbers)
            data = self._rng.randbytes(self._size_bytes())
            answer = await _settle(self._record(number, data))
            right = number.to_bytes(8, "little") + zlib.crc32(data).to_bytes(4, "little") + data[: len(data) // 2]
            self.noted[number] = "answered"
            if answer != right:
                self._fault(f"the answer of call {number} is another's")
        except (OutcomeUnknownError, PortLostError) as error:
            self._forget_handles(error)
            told = "may have run" if error.may_have_run else "did not run"
            self._tally.outcomes[f"{type(error).__name__}, {told}"] += 1
            if number:
                self.noted[number] = told
        except (HandshakeTimeoutError, StaleHandleError) as error:
            self._forget_handles(error)
            self._tally.outcomes[type(error).__name__] += 1
            if number:
                self.noted[number] = "did not run"
        except MicroRpcError as error:
            self._record = None
            self._fault(f"{type(error).__name__}: {error}")

    async def _copy(self, connection: Any) -> None:
        data = np.frombuffer(self._rng.randbytes(self._size_bytes() * 2), np.uint8)
        array = await _settle(connection.array(data))
        if not np.array_equal(await _settle(array.numpy()), data):
            self._fault(f"a copy of {len(data)} bytes came back different")
        self._tally.outcomes["copies there and back"] += 1

    def _size_bytes(self) -> int:
        return int(self._rng.random() ** 3 * (self._round.packet_bytes - _OVERHEAD_BYTES))

    def _forget_handles(self, error: MicroRpcError) -> None:
        if isinstance(error, microrpc.BoardResetError | StaleHandleError):
            self._record = None

    def _fault(self, text: str) -> None:
        self._tally.faults.append(f"{text} ({self._round})")


async def _settle(value: Any) -> Any:
    """Await what asyncio's client gives; what the blocking one gives is there."""
    return await value if inspect.isawaitable(value) else value


def run_round(round_: Round, tally: Tally, duration_s: float = _ROUND_S) -> None:
    """Run one round of so many seconds, and add what came of it."""
    with BlockingBoard(round_) as board:
        talk = _Talk(round_, board, tally)
        asyncio.run(talk.run(time.monotonic() + duration_s))
        if not round_.goes_away:
            time.sleep(_LATE_S)
    runs = Counter(board.executed)
    for number, told in talk.noted.items():
        tally.outcomes[f"calls: {told}, {'ran' if runs[number] else 'not executed'}"] += 1
        if told == "answered" and not runs[number]:
            tally.faults.append(f"call {number} was answered and did not run ({round_})")
        if told == "did not run" and runs[number]:
            tally.faults.append(f"call {number} ran, and may_have_run was False ({round_})")
    tally.faults += [f"call {number} ran {count} times ({round_})" for number, count in runs.items() if count > 1]
    tally.faults += [f"call {number} ran, and nobody asked for it ({round_})" for number in runs.keys() - talk.noted]
    tally.outcomes["resets"] += board.resets
    tally.outcomes["rounds"] += 1


def main(arguments: list[str] | None = None) -> int:
    """Run rounds for as long as was asked for; give the exit code."""
    parser = argparse.ArgumentParser(prog="python tests/soak.py", description="exactly once, over a line that blocks")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long, in all (600)")
    parser.add_argument("--seed", type=int, default=1, help="of the first round; the next ones count up from it (1)")
    options = parser.parse_args(arguments)
    tally, end = Tally(), time.monotonic() + options.seconds
    for seed in range(options.seed, 1 << 30):
        left_s = end - time.monotonic()
        if left_s <= 0:
            break
        run_round(Round.draw(seed), tally, min(_ROUND_S, left_s))
    print(tally.summary())
    return 1 if tally.faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
