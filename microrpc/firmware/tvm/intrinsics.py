"""What TVM's generator of C has no rule for, though C has the function: some of math.h, all of it for float16, bits."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

# Of math.h: for double under this name, for float with an f behind it, and for float16 by way of float.
_NAMES = (
    *("acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "copysign", "cos", "cosh", "erf", "exp"),
    *(
        "exp2",
        "fabs",
        "floor",
        "fmod",
        "hypot",
        "ldexp",
        "log",
        "log10",
        "log1p",
        "log2",
        "nearbyint",
        "pow",
        "sin",
        "sinh",
    ),
    *("sqrt", "tan", "tanh", "trunc"),
)
_ROUND = {"round": "nearbyint"}  # TVM's own rules have it so, for all targets
_BITS = ("clz", "popcount")
_INT_BITS = 32


@functools.cache
def teach_tvm_c() -> None:
    """Give the target `c` these rules, once in a process; without them TVM refuses such kernels."""
    import tvm
    from tvm import tirx

    register = getattr(tirx.op, "register_intrin_lowering", None) or tvm.ir.register_intrin_lowering
    rules = {name: _calling(name) for name in _NAMES}
    rules |= {name: _calling(function) for name, function in _ROUND.items()}
    rules |= {name: _counting(name) for name in _BITS}
    for name, rule in rules.items():
        for operator in _operators(name):
            register(operator, target="c", f=rule)


def _operators(name: str) -> Iterator[str]:
    """Where TVM has it: some have moved from one namespace to the other in 0.27."""
    import tvm

    there = set(tvm.ir.Op.list_op_names())
    return (operator for operator in (f"tirx.{name}", f"prim.{name}") if operator in there)


def _calling(name: str) -> Callable[[Any], Any]:
    def lower(call: Any) -> Any:
        from tvm import tirx

        dtype = _dtype(call)
        if dtype == "float16":
            given = [one.astype("float32") if _dtype(one) == dtype else one for one in call.args]
            return tirx.call_pure_extern("float32", f"{name}f", *given).astype(dtype)
        return tirx.call_pure_extern(dtype, f"{name}f" if dtype == "float32" else name, *call.args)

    return lower


def _counting(name: str) -> Callable[[Any], Any]:
    """As firmware/tvm/include/tvm_generated.h has it, for unsigned numbers of 32 and 64 bits."""

    def lower(call: Any) -> Any:
        from tvm import tirx

        given = call.args[0]
        bits = int(_dtype(given).lstrip("uint"))
        wide = _INT_BITS if bits <= _INT_BITS else 2 * _INT_BITS
        found = given.astype(f"uint{bits}").astype(f"uint{wide}")
        count = tirx.call_pure_extern("int32", f"tvm_{name}{wide}", found)
        return (count - (wide - bits) if name == "clz" else count).astype(_dtype(call))

    return lower


def _dtype(expression: Any) -> str:
    return str(getattr(expression, "dtype", None) or expression.ty)
