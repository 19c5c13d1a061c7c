"""What a board tells of its memory: the result of `microrpc.memory` (docs/device.md 4)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from microrpc.errors import ProtocolError
from microrpc.wire.checks import show
from microrpc.wire.names import MEMORY_FUNCTION

_REPORT = struct.Struct("<6I")


@dataclass(frozen=True, slots=True)
class BoardMemory:
    """What is used of a board's memory, in bytes, since its boot (docs/device.md 4).

    heap_bytes: where arrays live. used_bytes: what is allocated, with 8 bytes for each block of it; free_bytes: the
    rest; largest_free_bytes: the largest block that can be allocated at once; most_used_bytes: the most that was ever
    used. stack_bytes: the size of the stack, most_stack_bytes: the most that was ever used of it; None where the
    firmware does not know.
    """

    heap_bytes: int
    used_bytes: int
    free_bytes: int
    largest_free_bytes: int
    most_used_bytes: int
    stack_bytes: int | None
    most_stack_bytes: int | None


def encode_memory(heap_bytes: int, used_bytes: int, largest_free_bytes: int, most_used_bytes: int) -> bytes:
    """Give what a board returns that knows nothing of its stack; each number has 32 bits."""
    return _REPORT.pack(heap_bytes, used_bytes, largest_free_bytes, most_used_bytes, 0, 0)


def decode_memory(report: object) -> BoardMemory:
    """Read what a board returned; newer firmware may tell more behind it. Raises ProtocolError."""
    if not isinstance(report, bytes) or len(report) < _REPORT.size:
        raise ProtocolError("3", f"{MEMORY_FUNCTION} returned {show(report)}, not {_REPORT.size} bytes")
    heap_bytes, used_bytes, largest_bytes, most_bytes, stack_bytes, most_stack_bytes = _REPORT.unpack_from(report)
    return BoardMemory(
        heap_bytes,
        used_bytes,
        max(heap_bytes - used_bytes, 0),
        largest_bytes,
        most_bytes,
        stack_bytes or None,
        most_stack_bytes if stack_bytes else None,
    )
