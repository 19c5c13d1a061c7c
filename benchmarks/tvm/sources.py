"""What TVM compiles for the benchmarks: four kernels, and two models. Read by the Python that has apache-tvm.

microrpc tvm build benchmarks/tvm/sources.py:kernels --board qemu_mps2_an385 --out DIRECTORY
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from tvm import relax, te, topi


def kernels() -> Any:
    """Give a vector addition, a product of int8 matrices, a softmax and a convolution."""
    return tvm.IRModule(
        {"vector_add": _vector_add(), "matmul_int8": _matmul(), "softmax": _softmax(), "conv2d": _conv()}
    )


def _vector_add() -> Any:
    a, b = (te.placeholder((256,), name=name) for name in "ab")
    return _named("vector_add", a, b, te.compute((256,), lambda i: a[i] + b[i], name="c"))


def _matmul() -> Any:
    a, b = (te.placeholder((16, 16), "int8", name=name) for name in "ab")
    k = te.reduce_axis((0, 16), name="k")
    product = te.compute(
        (16, 16), lambda i, j: te.sum(a[i, k].astype("int32") * b[k, j].astype("int32"), axis=k), name="c"
    )
    return _named("matmul_int8", a, b, product)


def _softmax() -> Any:
    x = te.placeholder((1, 64), name="x")
    return _named("softmax", x, topi.nn.softmax(x))


def _conv() -> Any:
    x, weights = te.placeholder((1, 3, 16, 16), name="x"), te.placeholder((8, 3, 3, 3), name="weights")
    return _named("conv2d", x, weights, topi.nn.conv2d_nchw(x, weights, stride=1, padding=1, dilation=1))


def _named(name: str, *tensors: Any) -> Any:
    return te.create_prim_func(list(tensors)).with_attr("global_symbol", name)


def mlp() -> Any:
    """Give a perceptron with two hidden layers, 64-64-32-10, of float32."""

    def body(builder: Any, x: Any) -> Any:
        for index, (rows, columns) in enumerate(((64, 64), (64, 32), (32, 10))):
            x = builder.emit(relax.op.matmul(x, _numbers(rows, columns, seed=2 * index)))
            x = builder.emit(relax.op.add(x, _numbers(columns, seed=2 * index + 1)))
            x = builder.emit(relax.op.nn.relu(x)) if index < 2 else x
        return x

    return _model("mlp", (1, 64), body)


def convnet() -> Any:
    """Give a net for pictures of 16 x 16: two convolutions with pooling, and a dense layer, of float32."""

    def body(builder: Any, x: Any) -> Any:
        for seed, (channels, filters) in enumerate(((1, 8), (8, 16))):
            weights = _numbers(filters, channels, 3, 3, seed=10 + seed)
            x = builder.emit(relax.op.nn.conv2d(x, weights, padding=1))
            x = builder.emit(relax.op.nn.relu(x))
            x = builder.emit(relax.op.nn.max_pool2d(x, pool_size=2, strides=2))
        x = builder.emit(relax.op.reshape(x, (1, 256)))
        return builder.emit(relax.op.nn.softmax(builder.emit(relax.op.matmul(x, _numbers(256, 10, seed=12)))))

    return _model("convnet", (1, 1, 16, 16), body)


def _model(name: str, shape: tuple[int, ...], body: Callable[[Any, Any], Any]) -> Any:
    builder = relax.BlockBuilder()
    type_of_tensor = getattr(relax, "TensorType", None) or relax.TensorStructInfo
    x = relax.Var("x", type_of_tensor(shape, "float32"))
    with builder.function(name, [x]):
        with builder.dataflow():
            result = builder.emit_output(body(builder, x))
        builder.emit_func_output(result)
    return builder.finalize()


def _numbers(*shape: int, seed: int) -> Any:
    return relax.const(np.random.default_rng(seed).standard_normal(shape, "float32") / 8)
