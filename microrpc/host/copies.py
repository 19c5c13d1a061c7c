"""Copies between host and board, in blocks that the board can take (docs/protocol.md 4, docs/link.md 4)."""

from __future__ import annotations

from microrpc.errors import DamagedReplyError
from microrpc.host.blocks import UNLIMITED, check_range
from microrpc.host.handles import check_address
from microrpc.host.job import CopyJob, Progress
from microrpc.host.operation import Operation
from microrpc.host.recovery import MAX_ATTEMPTS
from microrpc.host.requests import Requests
from microrpc.wire.datatypes import CPU, Tensor


def copy_to(
    requests: Requests,
    data: memoryview,
    tensor: Tensor,
    *,
    epoch: int | None = None,
    on_progress: Progress | None = None,
) -> Operation[None]:
    """Copy bytes into a tensor.

    `on_progress` is called with (bytes done, bytes in all) after each block. A block that is in doubt is sent again;
    where the board may have put a damaged one over others, all is read back and compared. Raises CopyRangeError, and
    DamagedReplyError where it differs after 3 copies; else as a request does.
    """
    check_range(tensor, len(data))
    for _ in range(MAX_ATTEMPTS):
        job = yield from _copy(requests, data, tensor, to_board=True, epoch=epoch, on_progress=on_progress)
        if not job.is_suspect:
            return
        found = bytearray(len(data))
        yield from _copy(requests, memoryview(found), tensor, to_board=False, epoch=epoch, on_progress=None)
        if found == data:
            return
    raise DamagedReplyError(f"damage on the line: what is in the array differs after {MAX_ATTEMPTS} copies")


def copy_from(
    requests: Requests,
    tensor: Tensor,
    into: memoryview,
    *,
    epoch: int | None = None,
    on_progress: Progress | None = None,
) -> Operation[None]:
    """Copy bytes out of a tensor; otherwise as `copy_to`."""
    check_range(tensor, len(into))
    yield from _copy(requests, into, tensor, to_board=False, epoch=epoch, on_progress=on_progress)


def _copy(
    requests: Requests,
    data: memoryview,
    tensor: Tensor,
    *,
    to_board: bool,
    epoch: int | None,
    on_progress: Progress | None,
) -> Operation[CopyJob]:
    yield from requests.connection.begin(epoch)
    limit_bytes = (yield from requests.limit_before()) if data else UNLIMITED
    job = CopyJob(tensor, data, to_board, limit_bytes, requests.call_s, epoch, on_progress)
    yield from requests.connection.copy(job)
    return job


def flat(tensor: Tensor) -> Tensor:
    """Give the same memory at an address of its own, as copies count from there. Raises RequestError."""
    address = check_address(tensor)
    return Tensor(address, CPU, tensor.dtype, tensor.shape) if tensor.device == CPU else tensor
