"""Demonstration models for a simulated board: a network of floats, and one of int8.

Those of the library in C (`firmware/demo/models.c`) have the same tables, and give the same numbers to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from firmware_sim.board.model import Array, LayerDone, SimModel
from microrpc.wire.datatypes import DataType
from microrpc.wire.model import ModelLayer, ModelTable, ModelTensor

_FLOAT32, _INT8, _INT32 = map(DataType.parse, ("float32", "int8", "int32"))

# --- of floats: 4 numbers -> 8, relu -> 3 -------------------------------------------------------

_HIDDEN_WEIGHTS: Final = np.array(
    [
        [0.25, -0.5, 0.5, -0.875, -0.75, -0.625, 0.375, -0.875],
        [1.0, -0.25, -0.875, -0.75, 0.625, 0.625, -0.75, -0.125],
        [-0.75, 0.625, -0.875, -0.625, -0.125, -0.875, 0.5, -0.875],
        [-0.125, -0.875, -0.5, 0.125, 0.625, -0.5, -0.625, 0.125],
    ],
    np.float32,
)
_HIDDEN_BIASES: Final = np.array([-0.375, -0.625, -0.25, 0.375, -0.625, -0.75, -0.875, -0.25], np.float32)
_WEIGHTS: Final = np.array(
    [
        [0.875, 0.625, 0.25],
        [0.75, 0.75, 0.375],
        [0.125, -0.125, -0.375],
        [-0.125, -0.75, 0.125],
        [1.0, 0.875, 0.25],
        [0.75, 0.125, -0.75],
        [-0.625, 1.0, 0.625],
        [-0.375, 0.25, -0.5],
    ],
    np.float32,
)
_BIASES: Final = np.array([0.875, 0.625, -0.875], np.float32)


def _dense(x: Array, weights: Array, biases: Array) -> Array:
    """Give x @ weights + biases; the products of an element are added up in order, to its bias."""
    total = biases.copy()
    for number, row in zip(x, weights, strict=True):
        total += number * row
    return total


def _run_mlp(inputs: Sequence[Array], outputs: Sequence[Array], done: LayerDone) -> None:
    hidden = _dense(inputs[0][0], _HIDDEN_WEIGHTS, _HIDDEN_BIASES)
    done(0, hidden)
    hidden[hidden < 0] = 0
    done(1, hidden)
    outputs[0][0] = _dense(hidden, _WEIGHTS, _BIASES)
    done(2, outputs[0])


MLP: Final = SimModel(
    ModelTable(
        name="mlp",
        hash=0x6D6C_7000_0000_0001,
        inputs=(ModelTensor("x", _FLOAT32, (1, 4)),),
        outputs=(ModelTensor("y", _FLOAT32, (1, 3)),),
        layers=(
            ModelLayer("dense_1", ModelTensor("dense_1", _FLOAT32, (1, 8))),
            ModelLayer("relu_1", ModelTensor("relu_1", _FLOAT32, (1, 8))),
            ModelLayer("dense_2", ModelTensor("y", _FLOAT32, (1, 3))),
        ),
        weights_bytes=268,
        arena_bytes=32,
    ),
    _run_mlp,
)
"""Takes float32[1, 4] and gives float32[1, 3], in three layers."""

# --- of int8: 8 numbers -> 4 --------------------------------------------------------------------

_INT8_WEIGHTS: Final = np.array(
    [
        [119, 44, -108, 68],
        [15, 19, 75, 97],
        [82, -47, -40, 50],
        [-38, 25, 0, 21],
        [77, -11, -110, 88],
        [-104, 114, -58, -6],
        [51, 43, -111, -112],
        [60, 52, -48, 38],
    ],
    np.int32,
)
_INT8_BIASES: Final = np.array([367, 790, 1366, -175], np.int32)
_X_ZERO, _Y_ZERO = -8, 4
_SHIFT = 9  # 2^-4 * 2^-7, the scales of x and the weights, over 2^-2, that of y


def _run_quantised(inputs: Sequence[Array], outputs: Sequence[Array], done: LayerDone) -> None:
    sums = (inputs[0][0].astype(np.int32) - _X_ZERO) @ _INT8_WEIGHTS + _INT8_BIASES
    done(0, sums)
    outputs[0][0] = np.clip(_Y_ZERO + (sums + (1 << (_SHIFT - 1)) >> _SHIFT), -128, 127)
    done(1, None)


QUANTISED: Final = SimModel(
    ModelTable(
        name="quantised",
        hash=0x7138_0000_0000_0001,
        inputs=(ModelTensor("x", _INT8, (1, 8), scale=0.0625, zero_point=_X_ZERO),),
        outputs=(ModelTensor("y", _INT8, (1, 4), scale=0.25, zero_point=_Y_ZERO),),
        layers=(
            ModelLayer("dense", ModelTensor("sums", _INT32, (1, 4), scale=2.0**-11)),
            ModelLayer("requantise"),
        ),
        weights_bytes=48,
        arena_bytes=16,
    ),
    _run_quantised,
)
"""Takes int8[1, 8] and gives int8[1, 4], both quantised; of its second layer the output cannot be had."""

MODELS: Final = (MLP, QUANTISED)
"""All of them, by their numbers."""
