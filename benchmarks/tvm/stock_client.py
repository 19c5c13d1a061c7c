"""A client of TVM that measures. Run by the Python that has apache-tvm; it does not import microrpc.

python -m benchmarks.tvm.stock_client NAME=HOST:PORT...     # a session at each

Each line of its input is one order, in JSON: {"call": NAME, "count": N} gives the times of N calls of add(2, 3) in
microseconds; {"copy": NAME, "size_bytes": N} those of a copy of N bytes there and back, in seconds.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import tvm
from tvm import rpc


class Remote:
    """A session, and what is called and copied there."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.session = rpc.connect(host, int(port))
        self.add = self.session.get_function("add")
        self._array: Any = None

    def call(self, count: int) -> list[float]:
        add, clock, times = self.add, time.perf_counter_ns, []
        for _ in range(count):
            start = clock()
            result = add(2, 3)
            times.append((clock() - start) / 1000)
            assert result == 5
        return times

    def copy(self, size_bytes: int) -> tuple[float, float]:
        data = np.random.default_rng(size_bytes).integers(0, 256, size_bytes, dtype="uint8")
        if self._array is None or self._array.shape != (size_bytes,):
            self._array = tvm.runtime.empty((size_bytes,), "uint8", self.session.cpu(0))
        start = time.perf_counter()
        self._array.copyfrom(data)
        middle = time.perf_counter()
        back = self._array.numpy()
        end = time.perf_counter()
        assert np.array_equal(back, data)
        return middle - start, end - middle


def main() -> None:
    remotes = {name: Remote(address) for name, _, address in (one.partition("=") for one in sys.argv[1:])}
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if "call" in order:
            print(json.dumps(remotes[order["call"]].call(order["count"])), flush=True)
        else:
            print(json.dumps(remotes[order["copy"]].copy(order["size_bytes"])), flush=True)


if __name__ == "__main__":
    main()
