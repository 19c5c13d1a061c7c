"""Copies between host and board in blocks that the board can take: over the link, or one request at a time.

docs/link.md 4 and docs/protocol.md 4. Operations, as in `microrpc.host`.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from microrpc.errors import BoardResetError, DamagedReplyError, OutcomeUnknownError, ProtocolError, RemoteError
from microrpc.host.blocks import UNLIMITED, Block, check_range, copy_overhead_bytes, plan_copy
from microrpc.host.connection import MAX_ATTEMPTS
from microrpc.host.link import LinkHost, LinkReply, LinkRequest
from microrpc.host.operation import Operation
from microrpc.wire.datatypes import Tensor
from microrpc.wire.link import ReplyKind
from microrpc.wire.packets import CopyAck, CopyFromRemote, CopyToRemote, RemoteException, decode_packet

BATCH_BLOCKS = 16
_MESSAGE_BYTES = 19  # of a frame, a session message and packet_nbytes (docs/protocol.md 4)
_ESCAPES = 1.005  # what random bytes grow by in a frame; the real length is looked at when it is sent

if TYPE_CHECKING:
    from microrpc.host.linked import LinkedConversation
    from microrpc.host.requests import Host, Progress


def copy_to(
    host: Host, data: memoryview, tensor: Tensor, *, epoch: int | None = None, on_progress: Progress | None = None
) -> Operation[None]:
    """Copy bytes into a tensor.

    `on_progress` is called with (bytes done, bytes in all) after each block. Raises CopyRangeError. A block that is in
    doubt is sent again.
    """
    check_range(tensor, len(data))
    yield from host.conversation.begin(epoch)
    if host.conversation.linked is None:
        yield from _copy_to_stock(host, data, _flat(tensor), epoch, on_progress)
        return

    def prepare(link: LinkHost, offset: int, size_bytes: int) -> LinkRequest:
        return link.prepare_write(_address(tensor) + offset, data[offset : offset + size_bytes])

    def accept(offset: int, reply: LinkReply) -> None:
        if reply.kind is not ReplyKind.DONE:
            raise ProtocolError("3", f"a WRITE was answered with {reply.kind.name}")

    yield from _copy_linked(host, "CopyToRemote", len(data), prepare, accept, epoch, on_progress)


def copy_from(
    host: Host, tensor: Tensor, into: memoryview, *, epoch: int | None = None, on_progress: Progress | None = None
) -> Operation[None]:
    """Copy bytes out of a tensor; otherwise as `copy_to`."""
    check_range(tensor, len(into))
    yield from host.conversation.begin(epoch)
    if host.conversation.linked is None:
        yield from _copy_from_stock(host, _flat(tensor), into, epoch, on_progress)
        return

    def prepare(link: LinkHost, offset: int, size_bytes: int) -> LinkRequest:
        return link.prepare_read(_address(tensor) + offset, size_bytes)

    def accept(offset: int, reply: LinkReply) -> None:
        if reply.kind is not ReplyKind.DATA:
            raise ProtocolError("3", f"a READ was answered with {reply.kind.name}")
        into[offset : offset + len(reply.body)] = reply.body

    yield from _copy_linked(host, "CopyFromRemote", len(into), prepare, accept, epoch, on_progress)


# --- over the link ------------------------------------------------------------------------------------


def _copy_linked(
    host: Host,
    label: str,
    size_bytes: int,
    prepare: Callable[[LinkHost, int, int], LinkRequest],
    accept: Callable[[int, LinkReply], None],
    epoch: int | None,
    on_progress: Progress | None,
) -> Operation[None]:
    """Copy as many blocks at once as the window takes; after doubt go on in a new session with what is not done."""
    todo = deque([(0, size_bytes)] if size_bytes else [])
    attempt = 1
    while todo:
        now = yield from host.conversation.begin(epoch)
        linked = host.conversation.linked
        if linked is None:  # another firmware, after a reset
            raise BoardResetError("the board was reset during the copy, and knows no link any more")
        blocks: dict[int, tuple[int, int]] = {}
        try:
            yield from _copy_blocks(host, linked, label, size_bytes, now, todo, blocks, prepare, accept, on_progress)
        except OutcomeUnknownError as error:
            if isinstance(error, BoardResetError) or attempt == MAX_ATTEMPTS:
                raise
            todo.extendleft(blocks.values())
            attempt += 1
        except ProtocolError as error:
            linked.distrust(error)
            raise


def _copy_blocks(
    host: Host,
    linked: LinkedConversation,
    label: str,
    size_bytes: int,
    now: float,
    todo: deque[tuple[int, int]],
    blocks: dict[int, tuple[int, int]],
    prepare: Callable[[LinkHost, int, int], LinkRequest],
    accept: Callable[[int, LinkReply], None],
    on_progress: Progress | None,
) -> Operation[None]:
    """Move the ranges in `todo`, (offset, end) each; `blocks` are those that are under way, by seq."""
    link, timeout_s = linked.link, host.call_s
    epoch = linked.reply_epoch = linked.epoch
    deadline = now + timeout_s
    done_bytes = size_bytes - sum(end - offset for offset, end in todo)
    failure: RemoteException | None = None
    prepared: LinkRequest | None = None
    while blocks or (todo and failure is None):
        while todo and failure is None:
            offset, end = todo[0]
            size = min(link.block_bytes, end - offset)
            if prepared is None:
                prepared = prepare(link, offset, size)
            if not link.try_send(prepared, now):
                break
            todo.popleft()
            blocks[prepared.seq] = offset, offset + prepared.size_bytes
            if offset + prepared.size_bytes < end:
                todo.appendleft((offset + prepared.size_bytes, end))
            prepared = None
        replies, now = yield from linked.await_link(label, deadline, timeout_s, epoch)
        for reply in replies:
            offset, end = blocks.pop(reply.seq)
            if reply.kind is ReplyKind.PACKET:
                failure = _exception(reply)
                continue
            if not 0 < reply.size_bytes <= end - offset:
                raise ProtocolError("3", f"{label} of {end - offset} bytes was answered with {reply.size_bytes}")
            accept(offset, reply)
            if offset + reply.size_bytes < end:
                todo.append((offset + reply.size_bytes, end))
            done_bytes += reply.size_bytes
            deadline = now + timeout_s
            if on_progress is not None:
                on_progress(done_bytes, size_bytes)
    if failure is not None:
        raise RemoteError(failure.message, code=label)


def _exception(reply: LinkReply) -> RemoteException:
    packet = decode_packet(reply.body)
    if not isinstance(packet, RemoteException):
        raise ProtocolError("3", f"a copy was answered with {type(packet).__name__}")
    return packet


def _address(tensor: Tensor) -> int:
    return tensor.data + tensor.byte_offset


# --- one request at a time ------------------------------------------------------------------------------


def _copy_to_stock(
    host: Host, data: memoryview, tensor: Tensor, epoch: int | None, on_progress: Progress | None
) -> Operation[None]:
    """Copy block by block. After a repetition all is read back and compared.

    A stock board executes a damaged block too, and may have put it over the others.
    """
    for _ in range(MAX_ATTEMPTS):
        repeats = host.conversation.repeats
        yield from _write_blocks(host, data, tensor, epoch, on_progress)
        if host.conversation.repeats == repeats:
            return
        found = bytearray(len(data))
        yield from _copy_from_stock(host, tensor, memoryview(found), epoch, None)
        if found == data:
            return
    raise DamagedReplyError(f"damage on the line: what is in the array differs after {MAX_ATTEMPTS} copies")


def _write_blocks(
    host: Host, data: memoryview, tensor: Tensor, epoch: int | None, on_progress: Progress | None
) -> Operation[None]:
    size_bytes = len(data)
    limit_bytes = (yield from host.max_packet_bytes()) if size_bytes else UNLIMITED
    done_bytes = 0
    for blocks in _batches(host, plan_copy(tensor, size_bytes, limit_bytes), limit_bytes + _MESSAGE_BYTES):
        requests = []
        for block in blocks:
            chunk = data[done_bytes : done_bytes + block.size_bytes]
            requests.append(CopyToRemote(_at(tensor, block.byte_offset), chunk))
            done_bytes += block.size_bytes
        yield from host.request_batch(requests, epoch=epoch)
        if on_progress is not None:
            on_progress(done_bytes, size_bytes)


def _copy_from_stock(
    host: Host, tensor: Tensor, into: memoryview, epoch: int | None, on_progress: Progress | None
) -> Operation[None]:
    size_bytes = len(into)
    limit_bytes = (yield from host.max_packet_bytes()) if size_bytes else UNLIMITED
    done_bytes = 0
    for blocks in _batches(host, plan_copy(tensor, size_bytes, limit_bytes), copy_overhead_bytes(1) + _MESSAGE_BYTES):
        requests = [CopyFromRemote(_at(tensor, block.byte_offset), block.size_bytes) for block in blocks]
        replies = yield from host.request_batch(requests, epoch=epoch)
        for block, reply in zip(blocks, replies, strict=True):
            if not isinstance(reply, CopyAck):
                raise ProtocolError("3", f"CopyFromRemote was answered by {type(reply).__name__}")
            into[done_bytes : done_bytes + block.size_bytes] = reply.data
            done_bytes += block.size_bytes
        if on_progress is not None:
            on_progress(done_bytes, size_bytes)


def _batches(host: Host, blocks: Iterator[Block], frame_bytes: int) -> Iterator[list[Block]]:
    """Cut a plan into what is exchanged together: one block, or several where the ring takes a frame besides another.

    After damage a batch is exchanged anew as a whole, so it must not be long.
    """
    size = BATCH_BLOCKS if host.conversation.ring_bytes >= frame_bytes * _ESCAPES else 1
    while batch := list(itertools.islice(blocks, size)):
        yield batch


def _flat(tensor: Tensor) -> Tensor:
    """Give a view with one dimension at most, whose header is the smallest that every board takes."""
    shape = (math.prod(tensor.shape),) if tensor.shape else ()
    return Tensor(tensor.data, tensor.device, tensor.dtype, shape, tensor.byte_offset)


def _at(tensor: Tensor, byte_offset: int) -> Tensor:
    return Tensor(tensor.data, tensor.device, tensor.dtype, tensor.shape, byte_offset)
