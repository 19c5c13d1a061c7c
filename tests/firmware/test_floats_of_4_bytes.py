"""Floats of 8 bytes on the wire where a `double` has 4 (firmware/src/real.c): each is what numpy makes of it."""

from __future__ import annotations

import ctypes
import subprocess

import needs
import numpy as np
import pytest
from c_board import FIRMWARE, INCLUDES, STRICT
from numpy.typing import NDArray

# `double` is a float of 4 bytes there, as on an AVR; bits go in and out, so that no NaN is changed on its way.
LOOPS = """
#include "microrpc_internal.h"
#include "../src/real.c"

void to_wire(const uint32_t *from, uint64_t *to, size_t count);
void from_wire(const uint64_t *from, uint32_t *to, size_t count);

void to_wire(const uint32_t *from, uint64_t *to, size_t count) {
    for (size_t i = 0; i < count; i++) {
        double number;
        memcpy(&number, &from[i], sizeof number);
        to[i] = mrpc_real_bits(number);
    }
}

void from_wire(const uint64_t *from, uint32_t *to, size_t count) {
    for (size_t i = 0; i < count; i++) {
        double number = mrpc_real(from[i]);
        memcpy(&to[i], &number, sizeof number);
    }
}
"""
DOUBLE_HAS_4_BYTES = ("-Ddouble=float", "-U__SIZEOF_DOUBLE__", "-D__SIZEOF_DOUBLE__=4", "-Wno-builtin-macro-redefined")
RANDOM_FRACTIONS = 500


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    needs.program("gcc")
    folder = tmp_path_factory.mktemp("real")
    source, made = folder / "loops.c", folder / "loops.so"
    source.write_text(LOOPS.replace("../src", str(FIRMWARE / "src")))
    command = ["gcc", *STRICT, *INCLUDES, *DOUBLE_HAS_4_BYTES, "-O2", "-shared", "-fPIC", str(source), "-o", str(made)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(made))


def test_every_exponent_of_a_float_goes_onto_the_wire_exactly(library: ctypes.CDLL) -> None:
    fractions = _fractions(23)
    tops = np.arange(1 << 9, dtype=np.uint32) << np.uint32(23)  # signs and exponents
    given = (tops[:, None] | fractions.astype(np.uint32)).ravel()
    told = np.zeros(given.size, np.uint64)
    library.to_wire(_at(given), _at(told), ctypes.c_size_t(given.size))
    numbers = given.view(np.float32)
    are_nan = np.isnan(numbers)
    assert (told[~are_nan] == numbers[~are_nan].astype(np.float64).view(np.uint64)).all()
    assert are_nan.any()
    # A NaN keeps what is in it, a signalling one too.
    assert (
        told[are_nan] & np.uint64((1 << 52) - 1) == (given[are_nan].astype(np.uint64) & np.uint64(0x7FFFFF)) << 29
    ).all()
    assert np.isnan(told[are_nan].view(np.float64)).all()


def test_every_exponent_of_an_f64_is_rounded_as_the_standard_has_it(library: ctypes.CDLL) -> None:
    kept = _fractions(23)[:, None] << np.uint64(29)
    half = 1 << 28
    dropped = np.array([0, 1, half - 1, half, half + 1, (1 << 29) - 1], np.uint64)
    fractions = np.concatenate([(kept | dropped).ravel(), np.uint64(1) << np.arange(52, dtype=np.uint64)])
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for top in range(1 << 12):
            given = np.uint64(top << 52) | fractions
            found = np.zeros(given.size, np.uint32)
            library.from_wire(_at(given), _at(found), ctypes.c_size_t(given.size))
            numbers = given.view(np.float64)
            wanted = numbers.astype(np.float32).view(np.uint32)
            are_nan = np.isnan(numbers)
            assert (found[~are_nan] == wanted[~are_nan]).all(), hex(top)
            assert np.isnan(found[are_nan].view(np.float32)).all(), hex(top)


def _fractions(bits: int) -> NDArray[np.uint64]:
    """None, all, one or all but one of the bits, and random ones."""
    single = np.uint64(1) << np.arange(bits, dtype=np.uint64)
    full = np.uint64((1 << bits) - 1)
    drawn = np.random.default_rng(4).integers(0, 1 << bits, RANDOM_FRACTIONS, np.uint64)
    return np.concatenate([np.array([0, full], np.uint64), single, full ^ single, drawn])


def _at(array: NDArray[np.uint32] | NDArray[np.uint64]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
