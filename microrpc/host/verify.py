"""Is a copy what it should be? Asked of the board where it computes checksums, and else by reading again.

docs/copies.md specifies the board's function. Operations, as in `microrpc.host.requests`.
"""

from __future__ import annotations

import zlib

from microrpc.errors import ProtocolError, VerifyError
from microrpc.host.copies import copy_from
from microrpc.host.operation import Operation
from microrpc.host.requests import Requests
from microrpc.wire.checks import show
from microrpc.wire.datatypes import DataType, Tensor
from microrpc.wire.names import CRC32_FUNCTION

_BYTE = DataType.parse("uint8")


class Verifier:
    """Compares copies with the board's memory. Whether it has the function is asked once per boot."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._handle = 0
        self._epoch = -1

    def check_written(self, data: memoryview, tensor: Tensor, epoch: int) -> Operation[None]:
        """Compare what was copied into a tensor with what is in it now. Raises VerifyError, and as a request does."""
        yield from self._check(data, tensor, epoch, "what is in the array differs from what was sent")

    def check_read(self, data: memoryview, tensor: Tensor, epoch: int) -> Operation[None]:
        """Compare what was copied out of a tensor with what is in it now. Raises VerifyError, and as a request does."""
        yield from self._check(data, tensor, epoch, "what was received differs from what is in the array")

    def _check(self, data: memoryview, tensor: Tensor, epoch: int, differs: str) -> Operation[None]:
        if not data:
            return
        if self._epoch != epoch:
            self._handle = yield from self._requests.look_up(CRC32_FUNCTION)
            self._epoch = self._requests.connection.trust.reply_epoch
        if self._handle:
            ours = zlib.crc32(data)
            boards = yield from self._ask_crc32(tensor, len(data), epoch)
            if ours != boards:
                raise VerifyError(f"{differs}: its crc32 is 0x{ours:08x}, and by the board 0x{boards:08x}")
            return
        found = bytearray(len(data))
        yield from copy_from(self._requests, tensor, memoryview(found), epoch=epoch)
        if found != data:
            wrong = [offset for offset, (a, b) in enumerate(zip(data, found, strict=True)) if a != b]
            raise VerifyError(f"{differs}: {len(wrong)} of {len(data)} bytes, the first at offset {wrong[0]}")

    def _ask_crc32(self, tensor: Tensor, size_bytes: int, epoch: int) -> Operation[int]:
        view = Tensor(tensor.data + tensor.byte_offset, tensor.device, _BYTE, (size_bytes,))
        value = yield from self._requests.call(self._handle, (view,), epoch=epoch, function=CRC32_FUNCTION)
        if not isinstance(value, int):
            raise ProtocolError("3", f"{CRC32_FUNCTION} returned {show(value)}, not a number")
        return value & 0xFFFFFFFF  # C may have made a negative number of it
