"""TVM's own RPC server with `add` of the demonstration firmware. Run by the Python that has apache-tvm.

It prints its port, and serves until its standard input ends.
"""

from __future__ import annotations

import os

import tvm_ffi
from tvm.rpc.server import PopenRPCServerState


def main() -> None:
    tvm_ffi.register_global_func("add", lambda a, b: a + b)
    state = PopenRPCServerState("127.0.0.1", 19600, 19700, silent=True)
    print(state.port, flush=True)
    os.read(0, 1)  # not sys.stdin, whose lock the forked sessions would find taken
    os._exit(0)  # its thread serves for ever


if __name__ == "__main__":
    main()
