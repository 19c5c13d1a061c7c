"""Kernels for boards, as a program that uses TVM has them: `microrpc tvm build` is given `board_kernels.py:four`."""

import tvm
from tvm import te, tirx

THIRD = 0.123456789012345678
"""A number that neither six digits nor a float32 hold."""


def _named(name, *tensors):
    return name, te.create_prim_func(list(tensors)).with_attr("global_symbol", name)


def _module(*functions):
    return tvm.IRModule(dict(functions))


def _add():
    a, b = (te.placeholder((16,), "float32", name=name) for name in "ab")
    return _named("add", a, b, te.compute((16,), lambda i: a[i] + b[i], name="out"))


def _matmul():
    a, b = (te.placeholder((16, 16), "int8", name=name) for name in "ab")
    k = te.reduce_axis((0, 16), name="k")
    product = te.compute(
        (16, 16), lambda i, j: te.sum(a[i, k].astype("int32") * b[k, j].astype("int32"), axis=k), name="out"
    )
    return _named("matmul", a, b, product)


def _softmax():
    x = te.placeholder((8, 96), "float32", name="x")
    k, m = te.reduce_axis((0, 96), name="k"), te.reduce_axis((0, 96), name="m")
    most = te.compute((8,), lambda i: te.max(x[i, m], axis=m), name="most")
    powers = te.compute((8, 96), lambda i, j: te.exp(x[i, j] - most[i]), name="powers")
    total = te.compute((8,), lambda i: te.sum(powers[i, k], axis=k), name="total")
    return _named("softmax", x, te.compute((8, 96), lambda i, j: powers[i, j] / total[i], name="out"))


def _conv():
    x = te.placeholder((3, 10, 10), "float32", name="x")
    w = te.placeholder((4, 3, 3, 3), "float32", name="w")
    padded = te.compute(
        (3, 12, 12),
        lambda c, i, j: tirx.if_then_else(
            tirx.all(i >= 1, i < 11, j >= 1, j < 11), x[c, i - 1, j - 1], tirx.const(0, "float32")
        ),
        name="padded",
    )
    c, di, dj = (te.reduce_axis((0, 3), name=name) for name in ("c", "di", "dj"))
    out = te.compute(
        (4, 10, 10), lambda o, i, j: te.sum(padded[c, i + di, j + dj] * w[o, c, di, dj], axis=[c, di, dj]), name="out"
    )
    return _named("conv", x, w, out)


def four():
    """Four kernels: floats, int8, math.h, and a workspace."""
    return _module(_add(), _matmul(), _softmax(), _conv())


def _of_any_length():
    n = te.var("n")
    x = te.placeholder((n, 2), "float32", name="x")
    factor, shift = te.var("factor", "float32"), te.var("shift", "int8")
    out = te.compute((n, 2), lambda i, j: x[i, j] * factor + shift.astype("float32"), name="out")
    return _named("of_any_length", x, factor, shift, out)


def _exact():
    x = te.placeholder((4,), "float32", name="x")
    y = te.placeholder((4,), "float64", name="y")
    wide = te.compute((4,), lambda i: y[i] * tirx.const(THIRD, "float64"), name="wide")
    out = te.compute(
        (4,),
        lambda i: te.if_then_else(
            i < 3, x[i] * tirx.const(THIRD, "float32"), tirx.const(float("inf"), "float32") + wide[i].astype("float32")
        ),
        name="out",
    )
    return _named("exact", x, y, wide, out)


def _halves():
    x = te.placeholder((8,), "float16", name="x")
    return _named("halves", x, te.compute((8,), lambda i: x[i] * tirx.const(0.5, "float16"), name="out"))


def _larger():
    x = te.placeholder((8,), "int16", name="x")
    return _named("larger", x, te.compute((8,), lambda i: x[i] > 3, name="out"))


def odd():
    """Extents that are variables, numbers as arguments, constants that C prints inexactly, float16, bool."""
    return _module(_of_any_length(), _exact(), _halves(), _larger())


def _elementwise(name, dtype, function):
    x = te.placeholder((8,), dtype, name="x")
    return _named(name, x, te.compute((8,), lambda i: function(x[i]), name="out"))


HALVES = {
    "log1p": tirx.log1p,
    "tanh": te.tanh,
    "erf": te.erf,
    "round": te.round,
    "absolute": te.abs,
    "power": lambda x: te.power(x, tirx.const(2.5, "float16")),
    "not_a_number": lambda x: x * tirx.const(float("nan"), "float16"),
}
"""Functions of float16."""


def halves():
    """Functions of math.h for float16, in which TVM's generator of C has none."""
    return _module(*(_elementwise(name, "float16", function) for name, function in HALVES.items()))


def bits():
    """Counting bits, for which it has no rule either."""
    counts = {"clz": lambda x: tirx.clz(x).astype("int32"), "popcount": lambda x: tirx.popcount(x).astype("int32")}
    dtypes = ("int32", "uint32", "int64", "uint64")
    return _module(*(_elementwise(f"{name}_{one}", one, count) for name, count in counts.items() for one in dtypes))


def vectors():
    """A schedule with vectors and parallel loops, which a board has none of."""
    from tvm.s_tir import Schedule

    _, function = _add()
    schedule = Schedule(function)
    (loop,) = schedule.get_loops(schedule.get_sblock("out"))
    outer, inner = schedule.split(loop, [None, 4])
    schedule.parallel(outer)
    schedule.vectorize(inner)
    return schedule.mod["main"].with_attr("global_symbol", "add")


def no_module():
    """Give what is no module."""
    return 42


def failing():
    """Fail as programs do."""
    raise KeyError("no such layer")


def leaving():
    """End as scripts do."""
    raise SystemExit(0)


def nothing():
    """A module without a function."""
    return tvm.IRModule({})


MODULE = _module(_add())


def of_an_odd_type():
    """A PrimFunc of a type that no board has."""
    x = te.placeholder((8,), "int4", name="x")
    return _module(_named("odd_type", x, te.compute((8,), lambda i: x[i], name="out")))


def of_a_packed_call():
    """A PrimFunc that calls what only a computer's TVM has."""
    x = te.placeholder((8,), "float32", name="x")
    out = te.extern(
        (8,), [x], lambda ins, outs: tirx.call_packed("my.sort", ins[0], outs[0]), dtype="float32", name="out"
    )
    return _module(_named("packed", x, out))


def of_an_odd_name():
    """A PrimFunc whose name no C compiler takes."""
    return _module(("odd", _add()[1].with_attr("global_symbol", "a-b")))


def of_an_odd_extent():
    """A PrimFunc whose extents would have to be computed."""
    n = te.var("n")
    x = te.placeholder((n,), "float32", name="x")
    return _module(_named("odd_extent", x, te.compute((n * 2,), lambda i: x[i // 2], name="out")))
