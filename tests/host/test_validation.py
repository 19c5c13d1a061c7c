"""Samples of a data set, and what came of them (docs/using_models.md)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from microrpc.errors import ArgumentError
from microrpc.host.validation import Samples, Tally, Validation
from microrpc.wire.datatypes import DataType
from microrpc.wire.model import ModelTable, ModelTensor

FLOAT32, INT8 = DataType.parse("float32"), DataType.parse("int8")


def model(*shapes: tuple[int, ...], scale: float | None = None) -> ModelTable:
    """A model with as many inputs and outputs, called a, b, c, of these shapes."""
    dtype = FLOAT32 if scale is None else INT8
    tensors = tuple(ModelTensor(name, dtype, shape, scale) for name, shape in zip("abc", shapes, strict=False))
    return ModelTable("m", 1, tensors, tensors)


@pytest.mark.parametrize(
    ("shape", "data", "first"),
    [
        ((2,), [[1, 2], [3, 4]], [1, 2]),
        ((1, 2), [[1, 2], [3, 4]], [[1, 2]]),
        ((1, 2), [[[1, 2]], [[3, 4]]], [[1, 2]]),
        ((), [1, 2], 1),
        ((1,), [1, 2], [1]),
        ((1,), [[1], [2]], [1]),
        ((0,), np.zeros((2, 0), np.float32), []),
    ],
)
def test_samples_are_the_first_dimension(shape: tuple[int, ...], data: Any, first: Any) -> None:
    samples = Samples(model(shape), np.asarray(data, np.float32))
    assert len(samples) == 2
    found = samples.at(0)
    assert found is not None
    assert (found[0].shape, found[0].tolist()) == (shape, first)
    assert samples.at(1) is not None
    assert samples.at(2) is None


@pytest.mark.parametrize("shape", [(3,), (2, 1), (2, 2, 2), (2,), ()])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match=r"input 'a' has the shape \(.*, not \(N, 1, 2\): N samples of \(1, 2\)"):
        Samples(model((1, 2)), np.zeros(shape, np.float32))


def test_each_input_has_as_many_samples() -> None:
    two = model((1,), (2,))
    with pytest.raises(ArgumentError, match="each input has as many samples, not 3 of 'a', 2 of 'b'"):
        Samples(two, [np.zeros((3, 1), np.float32), np.zeros((2, 2), np.float32)])
    with pytest.raises(ArgumentError, match=r"takes a: float32.1., b: float32.2.; 'b' was not given"):
        Samples(two, {"a": np.zeros((3, 1), np.float32)})
    with pytest.raises(ArgumentError, match=r"gives a: .*, and 1 outputs were expected"):
        Tally(two, [np.zeros((3, 1))], 3, rtol=0, atol=0)


def tally(*samples: Any, expected: Any, rtol: float = 0.0, atol: float = 0.0) -> Validation:
    table = model((2,))
    made = Tally(table, np.asarray(expected, float), len(samples), rtol=rtol, atol=atol)
    for sample in samples:
        made.add([np.asarray(sample, np.float32)])
    return made.result


def test_the_worst_is_the_largest_error_of_those_that_are_not_close() -> None:
    result = tally([100, 1], [1, 1.5], [1, 1.25], expected=[[101, 1], [1, 1], [1, 1]], rtol=0.02)
    assert (result.samples, result.failed, result.first_failed) == (3, 2, 1)
    assert result.worst is not None
    assert (result.worst.sample, result.worst.difference.index, result.worst.difference.error) == (1, (1,), 0.5)


def test_where_all_are_close_the_largest_error_is_told() -> None:
    result = tally([1, 1.5], [1, 1.25], expected=[[1, 1], [1, 1]], atol=0.5)
    assert result
    assert result.worst is not None
    assert (result.worst.sample, result.worst.difference.error) == (0, 0.5)


def test_what_is_no_number_is_worse_than_any_error() -> None:
    result = tally([1, 1e30], [1, float("nan")], expected=[[1, 1], [1, 1]])
    assert result.worst is not None
    assert (result.worst.sample, result.worst.difference.error) == (1, float("inf"))


def test_outputs_without_elements_agree() -> None:
    made = Tally(model((0,)), np.zeros((1, 0)), 1, rtol=0, atol=0)
    assert made.add([np.zeros(0, np.float32)])
    assert str(made.result) == "1 of 1 samples agree"


def test_raw_numbers_are_held_against_raw_ones_and_real_against_real_ones() -> None:
    table = model((1,), scale=0.5)
    for expected, is_close in ((np.array([[4]], np.int8), True), (np.array([[2.0]]), True), (np.array([[4]]), False)):
        made = Tally(table, expected, 1, rtol=0, atol=0)
        assert made.add([np.array([4], np.int8)]) == is_close
