"""Two small models for TVM: a dense one and one with convolutions, of digits with 28 by 28 pixels.

    microrpc tvm build examples/tvm_models.py:mlp --board qemu_mps2_an385 --out mlp_board
    microrpc tvm build examples/tvm_models.py:convnet --board qemu_mps2_an385 --out convnet_board

Their weights are random numbers, always the same: they take the time and memory of trained ones.
"""

from __future__ import annotations

import math

import numpy as np
import tvm
from tvm import relax


def _weights(*shape: int) -> relax.Expr:
    """Numbers of a size that keeps what comes out of a layer about as large as what went in."""
    random = np.random.default_rng(math.prod(shape))
    spread = (2 / math.prod(shape[1:] if len(shape) > 2 else shape[:1])) ** 0.5
    return relax.const((random.standard_normal(shape) * spread).astype("float32"))


def mlp() -> tvm.IRModule:
    """784 inputs, two hidden layers of 32 and 16, ten classes: 26 thousand multiplications."""
    builder = relax.BlockBuilder()
    x = relax.Var("pixels", relax.TensorType((1, 784), "float32"))
    with builder.function("mlp", [x]):
        with builder.dataflow():
            value = x
            for inputs, outputs in ((784, 32), (32, 16)):
                value = relax.op.add(relax.op.matmul(value, _weights(inputs, outputs)), _weights(1, outputs))
                value = builder.emit(relax.op.nn.relu(value))
            value = relax.op.add(relax.op.matmul(value, _weights(16, 10)), _weights(1, 10))
            result = builder.emit_output(relax.op.nn.softmax(value))
        builder.emit_func_output(result)
    return builder.finalize()


def convnet() -> tvm.IRModule:
    """Two convolutions with pooling, then ten classes: 280 thousand multiplications."""
    builder = relax.BlockBuilder()
    x = relax.Var("pixels", relax.TensorType((1, 1, 28, 28), "float32"))
    with builder.function("convnet", [x]):
        with builder.dataflow():
            value = x
            for inputs, outputs in ((1, 8), (8, 16)):
                value = relax.op.nn.conv2d(value, _weights(outputs, inputs, 3, 3), padding=1)
                value = builder.emit(relax.op.nn.relu(relax.op.add(value, _weights(1, outputs, 1, 1))))
                value = builder.emit(relax.op.nn.max_pool2d(value, (2, 2), (2, 2)))
            value = builder.emit(relax.op.reshape(value, (1, 16 * 7 * 7)))
            value = relax.op.add(relax.op.matmul(value, _weights(16 * 7 * 7, 10)), _weights(1, 10))
            result = builder.emit_output(relax.op.nn.softmax(value))
        builder.emit_func_output(result)
    return builder.finalize()
