"""A copy between host and board that is under way: what is done, and what is still to do (docs/protocol.md 4)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from microrpc.errors import ProtocolError, RemoteError
from microrpc.host.blocks import Block, copy_overhead_bytes, plan_copy
from microrpc.wire.datatypes import Tensor
from microrpc.wire.link import ReplyKind
from microrpc.wire.packets import CopyAck, CopyFromRemote, CopyToRemote, RemoteException, Reply

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


@dataclass(slots=True)
class CopyJob:
    """A copy of `data` into a tensor, or of a tensor into `data`.

    tensor: where on the board. data: bytes (u8). to_board: which way. limit_bytes: the largest packet that the board
    takes, without its packet_nbytes. timeout_s: how long the next answer may take. epoch: the one that the tensor
    belongs to, None where nobody knows. on_progress: told after each block. done_bytes: what is copied. todo: the
    ranges (offset, end) of `data` that are not copied yet. is_suspect: a board may have put a damaged block over
    others, so that what it has must be compared.
    """

    tensor: Tensor
    data: memoryview
    to_board: bool
    limit_bytes: int
    timeout_s: float
    epoch: int | None = None
    on_progress: Progress | None = None
    done_bytes: int = 0
    is_suspect: bool = False
    todo: deque[tuple[int, int]] = field(init=False)
    _shape: tuple[int, ...] = field(init=False)
    _plan: Iterator[Block] = field(init=False, default=iter(()))
    _batch: list[Block] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.todo = deque([(0, len(self.data))] if self.data else [])
        # With one dimension at most its header is the smallest that every board takes.
        self._shape = (math.prod(self.tensor.shape),) if self.tensor.shape else ()

    @property
    def label(self) -> str:
        """What docs/protocol.md calls the request."""
        return "CopyToRemote" if self.to_board else "CopyFromRemote"

    @property
    def address(self) -> int:
        """Where the copy begins in the board's memory."""
        return self.tensor.data + self.tensor.byte_offset

    # --- by requests (docs/protocol.md 4) ------------------------------------------------------

    @property
    def request_bytes(self) -> int:
        """How large the requests are at most, without their packet_nbytes."""
        return self.limit_bytes if self.to_board else copy_overhead_bytes(1)

    def next_blocks(self, most_blocks: int) -> list[Block]:
        """Give the blocks to be exchanged next, `most_blocks` at most: the same until they are accepted.

        Raises CopyRangeError.
        """
        if not self._batch:
            self._batch = list(islice(self._plan, most_blocks))
        if not self._batch:
            offset, end = self.todo[0]
            tensor = self._tensor_at(self.tensor.byte_offset + offset)
            self._plan = plan_copy(tensor, end - offset, self.limit_bytes)
            self._batch = list(islice(self._plan, most_blocks))
        return self._batch

    def request(self, block: Block) -> CopyToRemote | CopyFromRemote:
        """Give the request that copies a block."""
        tensor = self._tensor_at(block.byte_offset)
        if not self.to_board:
            return CopyFromRemote(tensor, block.size_bytes)
        offset = block.byte_offset - self.tensor.byte_offset
        return CopyToRemote(tensor, self.data[offset : offset + block.size_bytes])

    def _tensor_at(self, byte_offset: int) -> Tensor:
        tensor = self.tensor
        return Tensor(tensor.data, tensor.device, tensor.dtype, self._shape, byte_offset)

    def accept_replies(self, replies: Sequence[Reply]) -> None:
        """Take the replies of the next blocks, in their order. Raises RemoteError and ProtocolError."""
        for reply in replies:
            if isinstance(reply, RemoteException):
                raise RemoteError(reply.message, code=self.label)
            if not self.to_board and not isinstance(reply, CopyAck):
                raise ProtocolError("3", f"{self.label} was answered by {type(reply).__name__}")
        blocks, self._batch = self._batch, []
        begin, end = self.todo.popleft()
        offset = begin
        for block, reply in zip(blocks, replies, strict=True):
            if isinstance(reply, CopyAck):
                self.data[offset : offset + block.size_bytes] = reply.data
            offset += block.size_bytes
        if offset < end:
            self.todo.appendleft((offset, end))
        self.done_bytes += offset - begin
        self.tell_progress()

    # --- over the link (docs/link.md 4) --------------------------------------------------------

    def accept_link(self, offset: int, size_bytes: int, kind: ReplyKind, body: bytes) -> None:
        """Take what a WRITE or READ at `offset` was answered with. Raises ProtocolError."""
        if kind is not (ReplyKind.DONE if self.to_board else ReplyKind.DATA):
            raise ProtocolError("3", f"a {'WRITE' if self.to_board else 'READ'} was answered with {kind.name}")
        if not self.to_board:
            self.data[offset : offset + size_bytes] = body
        self.done_bytes += size_bytes

    def tell_progress(self) -> None:
        """Tell how far it is."""
        if self.on_progress is not None:
            self.on_progress(self.done_bytes, len(self.data))
