"""The functions of math.h that no compiler brings for a board: held against this computer's."""

from __future__ import annotations

import ctypes
import ctypes.util
import math
import pathlib
import subprocess
from collections.abc import Callable

import needs
import numpy as np
import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[2] / "firmware" / "libc" / "math.c"
FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-O2", "-ffp-contract=off")
WIDE = np.concatenate([np.linspace(-12, 12, 2001), np.geomspace(1e-30, 80, 300), -np.geomspace(1e-30, 80, 300)])
UNIT = np.concatenate([np.linspace(-1, 1, 2001), [1e-20, -1e-20]])
ABOVE_1 = np.concatenate([1 + np.geomspace(1e-6, 1e6, 500), [1.0]])


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """As a board has them: without an operating system; what it has of the compiler is here libm's."""
    needs.program("gcc")
    folder = tmp_path_factory.mktemp("math")
    names = ["-ffreestanding", "-fno-builtin", "-fPIC", "-c", SOURCE, "-o", folder / "math.o"]
    subprocess.run(["gcc", *FLAGS, *names], check=True, timeout=60)
    # -Bsymbolic: its own, and not libm's of the same name
    link = ["gcc", "-shared", "-Wl,-Bsymbolic", folder / "math.o", "-o", folder / "math.so", "-lm"]
    subprocess.run(link, check=True, timeout=60)
    return ctypes.CDLL(str(folder / "math.so"))


def call(functions: ctypes.CDLL, name: str, *arguments: float) -> float:
    function = functions[name]
    function.restype = ctypes.c_float
    function.argtypes = [ctypes.c_float] * len(arguments)
    return float(function(*arguments))


def check(found: float, expected: float, units: float) -> None:
    expected32 = np.float32(expected)
    if math.isnan(expected):
        assert math.isnan(found)
    elif not np.isfinite(expected32):
        assert found == expected32
    else:
        assert abs(found - expected) <= units * float(np.spacing(np.abs(expected32)))


@pytest.mark.parametrize(
    ("name", "exact", "values", "units"),
    [
        ("tanhf", math.tanh, WIDE, 4),
        ("sinhf", math.sinh, WIDE, 12),
        ("coshf", math.cosh, WIDE, 12),
        ("expm1f", math.expm1, WIDE, 12),
        ("log1pf", math.log1p, WIDE[WIDE > -1], 4),
        ("erff", math.erf, WIDE, 4),
        ("erfcf", math.erfc, WIDE[(WIDE > -8) & (WIDE < 4)], 16),
        ("atanf", math.atan, WIDE, 4),
        ("asinf", math.asin, UNIT, 4),
        ("acosf", math.acos, UNIT, 4),
        ("asinhf", math.asinh, WIDE, 6),
        ("acoshf", math.acosh, ABOVE_1, 6),
        ("atanhf", math.atanh, UNIT[np.abs(UNIT) < 1], 6),
        ("cbrtf", np.cbrt, WIDE, 1),
    ],
)
def test_a_function_is_right_to_some_units_of_the_last_place(
    functions: ctypes.CDLL, name: str, exact: Callable[[float], float], values: np.ndarray, units: float
) -> None:
    for value in np.float32(values):
        check(call(functions, name, value), float(exact(float(value))), units)


def test_halves_are_rounded_to_the_even_neighbour(functions: ctypes.CDLL) -> None:
    values = [0.5, 1.5, 2.5, -0.5, -1.5, 0.49999997, 8388607.5, 8388609.0, 1e30, -0.0, math.inf, -math.inf]
    for name in ("nearbyintf", "rintf"):
        for value in values:
            found = call(functions, name, value)
            assert found == np.rint(np.float32(value))
            assert math.copysign(1, found) == math.copysign(1, value)
        assert math.isnan(call(functions, name, math.nan))


def test_powers_are_those_of_the_standard(functions: ctypes.CDLL) -> None:
    bases = [2.0, 0.3, 10.0, -2.0, -0.3, 1.0, -1.0, 0.0, -0.0, math.inf, -math.inf, math.nan, 1e-30]
    exponents = [0.0, 1.0, -1.0, 2.0, 3.0, -3.0, 0.5, -2.5, 30.0, 1e8, math.inf, -math.inf, math.nan]
    exact = ctypes.CDLL(ctypes.util.find_library("m")).pow
    exact.restype, exact.argtypes = ctypes.c_double, [ctypes.c_double] * 2
    for base in np.float32(bases):
        for exponent in np.float32(exponents):
            with np.errstate(over="ignore"):
                expected = float(np.float32(exact(base, exponent)))
            found = call(functions, "powf", base, exponent)
            check(found, expected, 1)
            assert math.isnan(expected) or math.copysign(1, found) == math.copysign(1, expected)


def test_angles_are_in_their_quadrant(functions: ctypes.CDLL) -> None:
    values = [0.0, -0.0, 1.0, -1.0, 0.3, -0.3, 1e20, -1e20, math.inf, -math.inf]
    for y in values:
        for x in values:
            check(call(functions, "atan2f", y, x), math.atan2(np.float32(y), np.float32(x)), 3)


def test_lengths_do_not_overflow(functions: ctypes.CDLL) -> None:
    for x, y in ((3.0, 4.0), (0.0, 0.0), (1e30, 1e30), (1e-30, 2e-30), (math.inf, 1.0), (5.0, 0.0)):
        check(call(functions, "hypotf", x, y), math.hypot(np.float32(x), np.float32(y)), 2)


def test_exponents_are_added(functions: ctypes.CDLL) -> None:
    function = functions.ldexpf
    function.restype, function.argtypes = ctypes.c_float, [ctypes.c_float, ctypes.c_int]
    for x, exponent in ((1.5, 4), (-1.5, -4), (1.0, 200), (1.0, -200), (2.0**-100, 200), (3.0, 0), (0.0, 500)):
        with np.errstate(over="ignore"):
            assert function(x, exponent) == np.float32(np.ldexp(np.float64(x), exponent))
