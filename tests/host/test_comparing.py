"""How far what a board computed is from what was expected (docs/using_models.md)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from microrpc.errors import RequestError
from microrpc.host.comparing import Difference, check_tolerance, compare

NAN, INF = float("nan"), float("inf")


def found(got: Any, expected: Any, rtol: float = 0.0, atol: float = 0.0) -> Difference:
    difference = compare(np.array(got), np.array(expected), rtol=rtol, atol=atol)
    assert difference is not None
    return difference


def test_the_largest_error_and_its_place_are_told() -> None:
    assert found([[1.0, 2.0], [3.0, 4.5]], [[1.25, 2.0], [3.0, 4.0]]) == Difference((1, 1), 4.5, 4.0, 0.5, False)
    assert found([1.0, 2.0], [1.0, 2.0]) == Difference((0,), 1.0, 1.0, 0.0, True)


def test_what_is_not_close_is_told_before_a_larger_error_that_is() -> None:
    difference = found([1000.0, 1.5], [1001.0, 1.0], rtol=0.01)
    assert (difference.index, difference.error, difference.is_close) == ((1,), 0.5, False)


@pytest.mark.parametrize(
    ("got", "expected", "is_close", "error"),
    [
        (NAN, NAN, True, 0.0),
        (NAN, 1.0, False, INF),
        (1.0, NAN, False, INF),
        (INF, INF, True, 0.0),
        (INF, -INF, False, INF),
        (INF, 1e300, False, INF),
        (1.0, INF, False, INF),
    ],
)
def test_what_is_no_number_is_close_to_its_like_alone(
    got: float, expected: float, is_close: bool, error: float
) -> None:
    difference = found([got], [expected], rtol=1.0, atol=1.0)
    assert (difference.is_close, difference.error) == (is_close, error)


def test_integers_are_compared_as_such() -> None:
    big = np.array([2**63 - 1], np.int64)
    assert compare(big, big - 1, rtol=0.0, atol=0.0) == Difference((0,), 2.0**63, 2.0**63, 1.0, False)
    assert found(np.uint8(0), np.uint8(255)) == Difference((), 0.0, 255.0, 255.0, False)


def test_arrays_without_elements_differ_nowhere() -> None:
    assert compare(np.empty((0, 3)), np.empty((0, 3)), rtol=0.0, atol=0.0) is None


@given(
    arrays.arrays(np.float64, (5,), elements=st.floats(width=64)),
    arrays.arrays(np.float64, (5,), elements=st.floats(width=64)),
    st.sampled_from([0.0, 1e-5, 0.5]),
)
def test_close_is_what_numpy_says(got: Any, expected: Any, tolerance: float) -> None:
    difference = compare(got, expected, rtol=tolerance, atol=tolerance)
    assert difference is not None
    with np.errstate(all="ignore"):
        assert difference.is_close == np.allclose(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("value", [-1e-9, NAN, INF, "0.1", None, True])
def test_a_tolerance_is_a_number_from_0_on(value: Any) -> None:
    with pytest.raises(RequestError, match="rtol is a number from 0 on, not "):
        check_tolerance(value, "rtol")
    assert check_tolerance(np.float32(0.5), "rtol") == 0.5
