"""TVM's own RPC server with functions for tests. Run by a Python that has apache-tvm, not by pytest.

    python serve_functions.py KEY

It prints its port, and serves until its standard input ends.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm.rpc.server import PopenRPCServerState


def _fail(text: str) -> None:
    raise ValueError(text)


def _tensor(count: int) -> Any:
    return tvm.runtime.tensor(np.arange(count, dtype="float32"))


def _total(tensor: Any) -> float:
    return float(tensor.numpy().sum())


FUNCTIONS = {
    "t.echo": lambda value: value,
    "t.kind": lambda value: type(value).__name__,
    "t.text": str,
    "t.count": lambda *args: len(args),
    "t.nothing": lambda: None,
    "t.fail": _fail,
    "t.tensor": _tensor,
    "t.total": _total,
    "t.shape": lambda: tvm_ffi.Shape((2, 3)),
    "t.array": lambda: tvm_ffi.convert([1, 2]),
    "t.adder": lambda by: tvm_ffi.convert(lambda value: value + by),
}


def main() -> None:
    """Serve."""
    for name, function in FUNCTIONS.items():
        tvm_ffi.register_global_func(name, function, override=True)
    state = PopenRPCServerState("127.0.0.1", 19400, 19500, key=sys.argv[1], silent=True)
    print(state.port, flush=True)
    os.read(0, 1)  # not sys.stdin, whose lock the forked sessions would find taken
    os._exit(0)  # its thread serves for ever


main()
