"""What goes to the board for a model's tensors, and what comes of it (docs/using_models.md); worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrpc.errors import ArgumentError, RequestError, UnsupportedValueError
from microrpc.host.quantising import Block, from_board, is_quantised, to_board
from microrpc.wire.datatypes import DataType
from microrpc.wire.model import ModelTensor


def tensor(dtype: str, *shape: int, scale: float | None = None, zero_point: int = 0) -> ModelTensor:
    return ModelTensor("x", DataType.parse(dtype), shape, scale, zero_point)


INT8 = tensor("int8", 8, scale=0.5, zero_point=-3)


def test_floats_are_quantised_to_the_nearest_and_halves_to_the_even_number() -> None:
    # x / 0.5: 0, 0.5, 1.5, 2.5, -0.5, 3, 0.98, -1.02; rounded 0, 0, 2, 2, 0, 3, 1, -1; and the zero point, -3
    values = np.array([0, 0.25, 0.75, 1.25, -0.25, 1.5, 0.49, -0.51], np.float32)
    assert to_board(INT8, values, "x").tobytes() == bytes([253, 253, 255, 255, 253, 0, 254, 252])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_float_type_is_quantised(dtype: Any) -> None:
    found = to_board(INT8, np.arange(8, dtype=dtype), "x")
    assert found.dtype == np.int8
    assert found.tolist() == [-3, -1, 1, 3, 5, 7, 9, 11]


def test_what_is_out_of_range_becomes_the_nearest_that_is_in_it() -> None:
    values = np.array([1e9, -1e9, np.inf, -np.inf, 1e300, 65.5, -62.5, -62.6])
    assert to_board(INT8, values, "x").tolist() == [127, -128, 127, -128, 127, 127, -128, -128]
    wide = tensor("int32", 3, scale=1.0, zero_point=5)
    assert to_board(wide, np.array([1e20, -1e20, 7.0]), "x").tolist() == [2**31 - 1, -(2**31), 12]


def test_nan_is_refused_and_its_place_is_told() -> None:
    values = np.zeros((2, 4), np.float32)
    values[1, 2] = np.nan
    with pytest.raises(ArgumentError, match=r"x has NaN at \[1, 2\], which no quantised number stands for"):
        to_board(tensor("uint8", 2, 4, scale=1.0), values, "x")


def test_raw_numbers_are_taken_as_they_are_and_other_integers_are_refused() -> None:
    raw = np.arange(8, dtype=np.int8)
    assert to_board(INT8, raw, "x").tolist() == raw.tolist()
    for other in (np.arange(8), list(range(8)), np.zeros(8, bool)):
        with pytest.raises(ArgumentError, match="floats, which are quantised, or an array of int8 as it is, not "):
            to_board(INT8, other, "x")


def test_numbers_of_the_board_become_real_ones() -> None:
    numbers = np.array([-128, -3, 0, 127], np.int8)
    found = from_board(INT8, numbers, raw=False)
    assert found.dtype == np.float32
    assert found.tolist() == [-62.5, 0.0, 1.5, 65.0]
    assert from_board(INT8, numbers, raw=True) is numbers
    extreme = tensor("int32", 1, scale=1.0, zero_point=-(2**31))
    assert from_board(extreme, np.array([2**31 - 1], np.int32), raw=False).tolist() == [2.0**32]


@pytest.mark.parametrize("dtype", ["int64", "float32", "bool"])
def test_only_integers_of_up_to_32_bits_are_quantised(dtype: str) -> None:
    assert not is_quantised(tensor(dtype, 2, scale=0.5))
    data = np.zeros(2, DataType.parse(dtype).numpy)
    assert to_board(tensor(dtype, 2, scale=0.5), data, "x").dtype == data.dtype


@given(st.integers(-128, 127), st.floats(2.0**-20, 2.0**20, width=32), st.integers(-128, 127))
def test_a_number_that_was_given_real_comes_to_the_board_as_itself(number: int, scale: float, zero_point: int) -> None:
    one = tensor("int8", 1, scale=scale, zero_point=zero_point)
    real = from_board(one, np.array([number], np.int8), raw=False)
    assert to_board(one, real, "x").tolist() == [number]


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("float32", np.ones(2, np.float16)),
        ("float32", np.ones(2, np.int16)),
        ("float32", [1.5, 2.5]),
        ("float32", [1, 2**40]),
        ("float64", np.ones(2, np.float32)),
        ("int32", np.ones(2, np.uint16)),
        ("int8", [-128, 127]),
        ("uint64", [2**63, 2**64 - 1]),
        ("float32", np.ones(2, ">f4")),
        ("bool", [True, False]),
    ],
)
def test_what_loses_nothing_is_converted(dtype: str, data: Any) -> None:
    found = to_board(tensor(dtype, 2), data, "x")
    assert found.dtype == DataType.parse(dtype).numpy
    assert found.flags.c_contiguous
    assert np.array_equal(found, np.asarray(data).astype(found.dtype))


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("float32", np.ones(2)),
        ("float32", np.ones(2, np.int32)),
        ("int8", np.ones(2, np.uint8)),
        ("int8", [1, 128]),
        ("uint8", [-1, 0]),
        ("int8", [1.0, 2.0]),
        ("uint8", np.ones(2, np.float32)),
        ("bfloat16", np.ones(2, np.uint8)),
        ("bfloat16", [1, 2]),
    ],
)
def test_what_loses_something_is_refused(dtype: str, data: Any) -> None:
    with pytest.raises(ArgumentError, match=rf"x has the type {dtype}, and .* without a loss: astype\(np\."):
        to_board(tensor(dtype, 2), data, "x")


@pytest.mark.parametrize("data", [["a", "b"], [None, 1], np.ones(2, complex), np.zeros(2, "M8[s]")])
def test_what_is_no_number_is_refused(data: Any) -> None:
    with pytest.raises(RequestError, match="x"):
        to_board(tensor("float32", 2), data, "x")


def test_a_wrong_shape_is_told_with_the_right_one() -> None:
    with pytest.raises(ArgumentError, match=r"x has the shape \(1, 4\), not \(4,\): reshape\(1, 4\) makes it one"):
        to_board(tensor("float32", 1, 4), np.ones(4, np.float32), "x")
    with pytest.raises(ArgumentError, match=r"x has the shape \(1, 4\), not \(5,\); nothing was sent"):
        to_board(tensor("float32", 1, 4), np.ones(5, np.float32), "x")
    with pytest.raises(RequestError, match="no array"):
        to_board(tensor("float32", 2), [[1], [1, 2]], "x")


def test_a_scalar_and_an_array_with_gaps_are_made_compact() -> None:
    assert to_board(tensor("float32"), 2.5, "x").shape == ()
    gaps = np.arange(8, dtype=np.float32)[::2]
    assert to_board(tensor("float32", 4), gaps, "x").tobytes() == np.array([0, 2, 4, 6], np.float32).tobytes()


def test_elements_with_lanes_have_one_dimension_more() -> None:
    lanes = tensor("float32x4", 2)
    assert to_board(lanes, np.ones((2, 4), np.float32), "x").shape == (2, 4)


def test_a_type_that_numpy_does_not_have_is_one_error() -> None:
    with pytest.raises(UnsupportedValueError, match="numpy has no dtype for int4"):
        to_board(tensor("int4", 2), [1, 2], "x")


# --- blocks -----------------------------------------------------------------------------------------


def test_several_tensors_lie_in_one_block_each_at_a_multiple_of_16() -> None:
    block = Block((tensor("int8", 3), tensor("float64", 2), tensor("int8"), tensor("int16", 2)))
    assert (block.offsets, block.size_bytes) == ([0, 16, 32, 48], 52)
    arrays = [
        np.array([1, 2, 3], np.int8),
        np.array([1.5, -2.5]),
        np.array(7, np.int8),
        np.array([-1, 258], np.int16),
    ]
    data = block.pack(arrays)
    assert bytes(data) == (
        bytes([1, 2, 3]) + bytes(13) + np.array([1.5, -2.5]).tobytes() + bytes([7]) + bytes(15) + b"\xff\xff\x02\x01"
    )
    for found, array in zip(block.unpack(data), arrays, strict=True):
        assert (found.dtype, found.shape, found.tolist()) == (array.dtype, array.shape, array.tolist())


def test_a_block_of_nothing_has_no_bytes() -> None:
    assert Block(()).size_bytes == 0
    block = Block((tensor("float32", 0, 4),))
    assert (block.size_bytes, block.unpack(block.make_room())[0].shape) == (0, (0, 4))


def test_a_block_that_this_computer_has_no_room_for_is_one_error() -> None:
    with pytest.raises(RequestError, match="cannot be copied to this computer"):
        Block((tensor("float32", *[2**32 - 1] * 3),)).make_room()


@pytest.mark.parametrize(("dtype", "most"), [("float32", 3.4e38), ("float16", 65_504)])
def test_a_number_of_python_that_is_too_large_is_refused_and_no_infinity(dtype: str, most: float) -> None:
    one = tensor(dtype, 1)
    assert to_board(one, [most], "x")[0] == np.dtype(dtype).type(most)
    assert to_board(one, [float("inf")], "x")[0] == np.inf
    assert np.isnan(to_board(one, [float("nan")], "x")[0])
    for too_large in (most * 10, -most * 10):
        with pytest.raises(ArgumentError, match="cannot become that without a loss"):
            to_board(one, [too_large], "x")
