"""How far what a board computed is from what was expected (docs/using_models.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from microrpc.errors import RequestError
from microrpc.wire.checks import show


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two arrays differ most, and by how much.

    index: of the element. got: what the board has there, and expected: what it should have. error: the absolute
    difference; infinity where one of them is no number and the other is. is_close: whether all elements are as close
    as they should be.
    """

    index: tuple[int, ...]
    got: float
    expected: float
    error: float
    is_close: bool


def check_tolerance(value: object, what: str) -> float:
    """Give a tolerance: finite, and not negative. Raises RequestError."""
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        tolerance = float(value)
        if 0 <= tolerance < math.inf:
            return tolerance
    raise RequestError(f"{what} is a number from 0 on, not {show(value)}")


def compare(got: npt.NDArray[Any], expected: npt.NDArray[Any], *, rtol: float, atol: float) -> Difference | None:
    """Compare two arrays of one shape; None where they have no elements.

    Close is as numpy's `allclose` has it: |got - expected| <= atol + rtol * |expected|, and NaN is close to NaN. Of
    several that differ most, the first one that is not close is told.
    """
    if not got.size:
        return None
    with np.errstate(all="ignore"):
        is_equal = (got == expected) | ((got != got) & (expected != expected))
        is_there, should_be = got.astype(np.float64), expected.astype(np.float64)
        errors = np.abs(is_there - should_be)
        errors = np.where(is_equal, 0.0, np.where(np.isnan(errors), math.inf, errors))
        if got.dtype.kind in "iu" and expected.dtype.kind in "iu":  # whose difference float64 may not have
            errors = np.where(is_equal, 0.0, np.maximum(errors, 1.0))
        is_close = is_equal | ((errors <= atol + rtol * np.abs(should_be)) & np.isfinite(errors))
    all_close = bool(is_close.all())
    at = int(np.argmax(errors if all_close else np.where(is_close, -1.0, errors)))
    index = tuple(int(one) for one in np.unravel_index(at, got.shape))
    return Difference(index, float(is_there[index]), float(should_be[index]), float(errors[index]), all_close)
