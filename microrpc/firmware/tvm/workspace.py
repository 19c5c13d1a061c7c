"""How much of the workspace kernels take, by what their C source allocates."""

from __future__ import annotations

import re

ALIGNMENT_BYTES = 16
"""What firmware/tvm/microrpc_tvm_runtime.c rounds each block of the workspace up to."""
_CALLS = re.compile(
    r"(?P<block>\w+) = [^;=]*?TVMBackendAllocWorkspace\([^,]*, [^,]*, \(uint64_t\)(?P<size>\d+)U?L*,"
    r"|TVMBackendFreeWorkspace\([^,]*, [^,]*, (?P<freed>\w+)\)"
)


def aligned(size_bytes: int) -> int:
    """Give what a block of so many bytes takes of the workspace."""
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def workspace_bytes_of(source: str) -> int:
    """The most that is allocated at once in C source of TVM's: a kernel frees all that it allocates."""
    most = 0
    sizes: dict[str, int] = {}
    for call in _CALLS.finditer(source):
        if call["freed"] is not None:
            sizes.pop(call["freed"], None)
            continue
        sizes[call["block"]] = aligned(int(call["size"]))
        most = max(most, sum(sizes.values()))
    return most
