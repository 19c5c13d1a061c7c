"""What TVM's generator of C has no rule for, though C's library has the function: absolute values, remainders, 2^x."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

_NAMES = ("fabs", "fmod", "exp2")


@functools.cache
def teach_tvm_c() -> None:
    """Give the target `c` these rules, once in a process; without them TVM refuses such kernels."""
    import tvm
    from tvm import tirx

    register = getattr(tirx.op, "register_intrin_lowering", None) or tvm.ir.register_intrin_lowering
    for name in _NAMES:
        register(f"tirx.{name}", target="c", f=_calling(name))


def _calling(name: str) -> Callable[[Any], Any]:
    def lower(call: Any) -> Any:
        from tvm import tirx

        dtype = str(getattr(call, "dtype", None) or call.ty)
        return tirx.call_pure_extern(dtype, f"{name}f" if dtype == "float32" else name, *call.args)

    return lower
