"""Numbers for tensors that are measured with, where a board has no function that draws them."""

from __future__ import annotations

import numpy as np

from microrpc.gateway.shared import RefusedError
from microrpc.wire.datatypes import DataType, DataTypeCode


def random_bytes(dtype: DataType, size_bytes: int) -> bytes:
    """Give the bytes of random numbers: floats from 1 to 2, whole numbers of any size, bools of both kinds.

    Raises RefusedError for a dtype that has no numbers.
    """
    generator = np.random.default_rng()
    if dtype.code in (DataTypeCode.INT, DataTypeCode.UINT) and dtype.bits > 1:
        return generator.bytes(size_bytes)
    if dtype.code == DataTypeCode.BOOL or dtype.bits == 1:
        return generator.integers(0, 2, size_bytes, np.uint8).tobytes()
    item_bytes = dtype.bits // 8
    count = -(-size_bytes // item_bytes) if item_bytes else 0
    if dtype.code == DataTypeCode.FLOAT and item_bytes in (2, 4, 8):
        return (1 + generator.random(count)).astype(f"<f{item_bytes}").tobytes()[:size_bytes]
    if dtype.code == DataTypeCode.BFLOAT and item_bytes == 2:  # the upper half of a float32
        halves = (1 + generator.random(count)).astype("<f4").view("<u2")[1::2]
        return halves.tobytes()[:size_bytes]
    raise RefusedError(f"random_fill: there are no random numbers of the type {dtype}")
