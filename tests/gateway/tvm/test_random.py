"""Numbers that are drawn here, where a board draws none."""

from __future__ import annotations

import numpy as np
import pytest

from microrpc.gateway.shared import RefusedError
from microrpc.gateway.tvm.random import random_bytes
from microrpc.wire.datatypes import DataType


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_floats_are_from_1_to_2(name: str) -> None:
    numbers = np.frombuffer(random_bytes(DataType.parse(name), 1000 * np.dtype(name).itemsize), name)
    assert numbers.size == 1000
    assert numbers.min() >= 1
    assert numbers.max() <= 2
    assert len(set(numbers.tolist())) > 100


def test_bfloats_are_from_1_to_2() -> None:
    halves = np.frombuffer(random_bytes(DataType.parse("bfloat16"), 200), "<u2")
    numbers = (halves.astype("<u4") << 16).view("<f4")
    assert numbers.size == 100
    assert numbers.min() >= 1
    assert numbers.max() <= 2
    assert len(set(numbers.tolist())) > 10


@pytest.mark.parametrize("dtype", [DataType(6, 8), DataType.parse("bool")], ids=str)
def test_bools_are_of_both_kinds(dtype: DataType) -> None:
    assert set(random_bytes(dtype, 100)) == {0, 1}


@pytest.mark.parametrize("name", ["int8", "uint16", "int32", "uint64"])
def test_whole_numbers_have_all_their_bits(name: str) -> None:
    data = np.frombuffer(random_bytes(DataType.parse(name), 4096), name)
    together = np.bitwise_or.reduce(data), np.bitwise_and.reduce(data)
    assert (together[0].tobytes(), together[1].tobytes()) == (b"\xff" * data.itemsize, bytes(data.itemsize))


def test_of_no_elements_there_are_none() -> None:
    assert random_bytes(DataType.parse("float32"), 0) == b""


def test_a_type_without_numbers_is_refused() -> None:
    with pytest.raises(RefusedError, match="no random numbers of the type"):
        random_bytes(DataType(3, 64), 8)
