"""A request over the reliable link while it is unanswered, and its answer (docs/link.md 2, 4)."""

from __future__ import annotations

from typing import NamedTuple

from microrpc.wire.frames import FRAME_OVERHEAD_BYTES
from microrpc.wire.link import DATA_OVERHEAD_BYTES, READ, WRITE, ReplyKind, RequestKind

REPLY_BYTES = FRAME_OVERHEAD_BYTES + DATA_OVERHEAD_BYTES
"""Of a reply without data, on the wire."""


class LinkReply(NamedTuple):
    """The answer to the request `seq`; of a copy, how many bytes of it are done, from its first one on."""

    seq: int
    kind: ReplyKind
    body: bytes
    size_bytes: int


class LinkRequest:
    """A request with its seq, encoded: `frame` is sent, again and again, until it is answered.

    Where by its `kind` it `is_copy`, `address` and `data` or `size_bytes` are kept: it may be sent again shorter.
    `reply_bytes` is what its reply takes on the line. `was_late`: it was sent again for time alone, once at least.
    `order` counts what was sent, up to its last time, and `expected_at` is when the line will have carried the answer
    to that, and `sent_by` when it will have carried the request itself; `first_order` and `first_expected_at` are those
    of its first time, the order 0 before that. `waited_from`: since when its repetitions become rarer: its first time,
    or a PROGRESS or CANCEL of it. Times are seconds of the caller's clock.
    """

    __slots__ = (
        "address",
        "data",
        "expected_at",
        "first_expected_at",
        "first_order",
        "frame",
        "is_copy",
        "kind",
        "order",
        "reply_bytes",
        "sent_by",
        "seq",
        "size_bytes",
        "waited_from",
        "was_late",
    )
    expected_at: float
    first_expected_at: float
    order: int
    sent_by: float
    waited_from: float

    def __init__(
        self,
        kind: RequestKind,
        seq: int,
        frame: bytes,
        address: int = 0,
        data: memoryview | None = None,
        size_bytes: int = 0,
    ) -> None:
        self.kind = kind
        self.is_copy = kind is WRITE or kind is READ
        self.seq = seq
        self.frame = frame
        self.address = address
        self.data = data
        self.size_bytes = size_bytes
        self.reply_bytes = REPLY_BYTES + size_bytes if kind is READ else REPLY_BYTES
        self.was_late = False
        self.first_order = 0
