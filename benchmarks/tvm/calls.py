"""A call through the gateway, beside a direct one, and beside one to TVM's own server on loopback."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.processes import child
from benchmarks.rows import Row, quantile
from benchmarks.tvm.workers import Worker, gateway, stock_client, stock_server
from microrpc.client.board import Board
from microrpc.connecting.blocking import connect
from microrpc.firmware.emulator import start_emulated

BOARDS = ("posix", "simulator")
_ROUNDS, _BLOCK = 41, 100
_PACKET_BYTES = 2048  # of the simulator; the posix firmware has it too
_STOCK = "stock"


def measure(python: str, *, quick: bool) -> Iterator[Row]:
    """Measure all in turns. Raises MicroRpcError, WorkerError."""
    with contextlib.ExitStack() as stack:
        direct, servers = {}, {_STOCK: stack.enter_context(stock_server(python))}
        for name in BOARDS:  # two of each: a board has one user
            direct[name] = stack.enter_context(connect(stack.enter_context(running(name))))
            servers[name] = stack.enter_context(gateway(stack.enter_context(running(name))))
        client = stack.enter_context(stock_client(python, **servers))
        yield from rows(take_turns(direct, client, 3 if quick else _ROUNDS))


@contextlib.contextmanager
def running(name: str) -> Iterator[str]:
    """Start a board; give its port."""
    if name == "simulator":
        with child("benchmarks.board", "robust", str(_PACKET_BYTES)) as path:
            yield path
    else:
        with start_emulated(name) as emulator:
            yield emulator.port


@dataclass
class Times:
    """Of calls, in microseconds, block by block."""

    blocks: list[list[float]] = field(default_factory=list)

    @property
    def medians(self) -> list[float]:
        return [statistics.median(block) for block in self.blocks]

    def row(self, name: str) -> Row:
        times = sorted(time for block in self.blocks for time in block)
        median = statistics.median(times)
        spread = f"min {times[0]:.1f}, p90 {quantile(times, 0.9):.1f}"
        remark = f"{len(times):,} times, in turns of {len(self.blocks[0])}"
        return Row(name, f"{median:.1f}", "us", spread, remark, {"kind": "tvm-call", "value": median})


@dataclass
class Found:
    """Times by the name of the board."""

    direct: dict[str, Times]
    through: dict[str, Times]
    stock: Times


def take_turns(direct: dict[str, Board], client: Worker, rounds: int) -> Found:
    """Call each in turn."""
    found = Found({name: Times() for name in direct}, {name: Times() for name in direct}, Times())
    for board in direct.values():
        _call(board)
    for name in (*direct, _STOCK):
        client.ask(call=name, count=_BLOCK)
    for _ in range(rounds):
        found.stock.blocks.append(client.ask(call=_STOCK, count=_BLOCK))
        for name, board in direct.items():
            found.direct[name].blocks.append(_call(board))
            found.through[name].blocks.append(client.ask(call=name, count=_BLOCK))
    return found


def _call(board: Board) -> list[float]:
    add, clock, times = board.function("add"), time.perf_counter_ns, []
    for _ in range(_BLOCK):
        start = clock()
        result = add(2, 3)
        times.append((clock() - start) / 1000)
        assert result == 5
    return times


def rows(found: Found) -> Iterator[Row]:
    """Give the times, and what of them is the gateway's, block by block."""
    yield found.stock.row("TVM's own server: add(2, 3)")
    for name, direct in found.direct.items():
        through = found.through[name]
        yield direct.row(f"{name}: add(2, 3), direct")
        yield through.row(f"{name}: add(2, 3), through the gateway")
        added = [more - less for more, less in zip(through.medians, direct.medians, strict=True)]
        yield _of_blocks(f"{name}: what the gateway adds", added, "us", 1, "medians of neighbouring turns")
        ratios = [more / whole for more, whole in zip(added, found.stock.medians, strict=True)]
        yield _of_blocks(f"{name}: what it adds / TVM's own server", ratios, "times", 2, "the aim is at most 1")


def _of_blocks(name: str, values: list[float], unit: str, digits: int, remark: str) -> Row:
    values = sorted(values)
    median = statistics.median(values)
    spread = f"p10 {quantile(values, 0.1):.{digits}f}, p90 {quantile(values, 0.9):.{digits}f}"
    return Row(name, f"{median:.{digits}f}", unit, spread, remark, {"kind": "tvm-call", "value": median})
