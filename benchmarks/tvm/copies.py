"""4 MiB to a simulated board and back, through the gateway and directly: over ptys without pacing, in real time."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator

import numpy as np

from benchmarks.copies import timed_copy
from benchmarks.processes import child
from benchmarks.rows import Row, quantile
from benchmarks.tvm.workers import gateway, stock_client, stock_server
from microrpc.client.board import Board
from microrpc.connecting.blocking import connect

SIZE_BYTES = 4 << 20
PACKETS = (2048, 8192)
_HEAP_BYTES = 8 << 20
_WAYS = ("to", "from")
_WORDS = {"direct": "direct", "gateway": "through the gateway", "stock": "TVM's own server"}

Times = dict[str, list[tuple[float, float]]]
"""Of copies there and back, in seconds, by the way they went."""


def measure(python: str, *, quick: bool) -> Iterator[Row]:
    """Copy by each way in turns, with each size of packets. Raises MicroRpcError, WorkerError."""
    for packet_bytes in PACKETS[:1] if quick else PACKETS:
        board = ("benchmarks.board", "robust", str(packet_bytes), str(_HEAP_BYTES))
        with contextlib.ExitStack() as stack:
            enter = stack.enter_context
            direct = enter(connect(enter(child(*board))))
            servers = {"gateway": enter(gateway(enter(child(*board)))), "stock": enter(stock_server(python))}
            client = enter(stock_client(python, **servers))
            times: Times = {way: [] for way in _WORDS}
            for _ in range(2 if quick else 15):
                times["direct"].append(_copy(direct))
                for name in servers:
                    there_s, back_s = client.ask(copy=name, size_bytes=SIZE_BYTES)
                    times[name].append((there_s, back_s))
        yield from rows(times, packet_bytes)


def _copy(board: Board) -> tuple[float, float]:
    data = np.random.default_rng(SIZE_BYTES).integers(0, 256, SIZE_BYTES, dtype=np.uint8)
    with board.empty(data.shape, data.dtype) as array:
        return timed_copy(array, data)


def rows(times: Times, packet_bytes: int) -> Iterator[Row]:
    """Give the rates, and how much longer it takes through the gateway, copy by copy."""
    for index, way in enumerate(_WAYS):
        title = f"4 MiB {way} the board, {packet_bytes // 1024} KiB packets"
        for name, words in _WORDS.items():
            if name == "stock" and packet_bytes != PACKETS[0]:  # to it packets of a board are nothing
                continue
            seconds = sorted(one[index] for one in times[name])
            title_of = f"4 MiB {way} {words}" if name == "stock" else f"{title}, {words}"
            median_s = statistics.median(seconds)
            spread = f"p10 {_rate(quantile(seconds, 0.9))}, p90 {_rate(quantile(seconds, 0.1))}"
            remark = f"{median_s * 1e3:.1f} ms a copy; {len(seconds)} times"
            yield Row(title_of, _rate(median_s), "MB/s", spread, remark, {"kind": "tvm-copy", "value": median_s})
        pairs = zip(times["gateway"], times["direct"], strict=True)
        ratios = sorted(through[index] / direct[index] for through, direct in pairs)
        median = statistics.median(ratios)
        spread = f"p10 {quantile(ratios, 0.1):.2f}, p90 {quantile(ratios, 0.9):.2f}"
        remark = "time a copy takes, of neighbours"
        yield Row(f"{title}, gateway / direct", f"{median:.2f}", "times", spread, remark, {"kind": "tvm-copy"})


def _rate(seconds: float) -> str:
    return f"{SIZE_BYTES / seconds / 1e6:,.1f}"
