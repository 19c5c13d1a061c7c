"""PrimFuncs of TVM: which ones a module has for others, what they take, and their constants made exact for C."""

from __future__ import annotations

import math
import struct
from typing import Any

from microrpc.errors import FirmwareError, UnsupportedValueError
from microrpc.firmware.tvm.kernels import Argument, Kernel, check_name
from microrpc.wire.datatypes import NUMBER_BITS, DataType, DataTypeCode

_MOST_EXTENT = 0x7FFFFFFF


def public_prim_funcs(module: Any) -> dict[str, Any]:
    """Give the PrimFuncs of an IRModule that have a `global_symbol`, by that, in the order of the names.

    Raises FirmwareError for a name that C does not take, or that two have.
    """
    from tvm import tirx

    found: dict[str, Any] = {}
    for variable, function in sorted(module.functions.items(), key=lambda item: str(item[0].name_hint)):
        if isinstance(function, tirx.PrimFunc) and "global_symbol" in (function.attrs or {}):
            name = check_name(str(function.attrs["global_symbol"]))
            if name in found:
                raise FirmwareError(f"{variable.name_hint}: another PrimFunc has the global_symbol {name}, too")
            found[name] = function
    return found


def read_kernel(name: str, function: Any) -> Kernel:
    """Tell what a PrimFunc takes. Raises FirmwareError, which names the argument that a board cannot give."""
    arguments = tuple(_argument(name, function, parameter) for parameter in function.params)
    _check_extents(name, arguments)
    return Kernel(name, arguments, _given(name, function.ret_type))


def with_exact_constants(function: Any) -> Any:
    """Give a PrimFunc whose floats are in C what they are in TVM, which prints them with six digits after the point."""
    import tvm
    from tvm import tirx

    def replaced(constant: Any) -> Any:
        dtype = str(getattr(constant, "dtype", None) or constant.ty)
        number = float(constant.value)
        if dtype == "float16" and not math.isfinite(number):  # of the others six digits tell each
            return replaced(tirx.const(number, "float32")).astype(dtype)
        if dtype not in ("float32", "float64") or _is_printed_exactly(number, dtype):
            return constant
        if dtype == "float32":
            bits = tirx.const(struct.unpack("<I", _float32(number))[0], "uint32")
        else:
            bits = tirx.const(struct.unpack("<q", struct.pack("<d", number))[0], "int64")
        return tirx.call_pure_extern(dtype, f"tvm_{dtype}", bits)

    kind = getattr(tvm.ir, "FloatImm", None) or tirx.FloatImm
    return function.with_body(_mapped(function.body, kind, replaced))


def _mapped(body: Any, kind: Any, replaced: Any) -> Any:
    """Replace each expression of that kind: this has moved between TVM 0.25 and 0.26."""
    import tvm_ffi

    if hasattr(tvm_ffi, "structural_map"):
        return tvm_ffi.structural_map(body, (kind, replaced), order="post")
    from tvm.tirx import stmt_functor

    return stmt_functor.ir_transform(body, None, replaced, ["ir.FloatImm"])


def _is_printed_exactly(number: float, dtype: str) -> bool:
    if not math.isfinite(number):
        return False
    printed = float(f"{number:.6e}")
    return printed == number if dtype == "float64" else _float32(printed) == _float32(number)


def _float32(number: float) -> bytes:
    try:
        return struct.pack("<f", number)
    except OverflowError:
        return struct.pack("<f", math.copysign(math.inf, number))


def _argument(function_name: str, function: Any, parameter: Any) -> Argument:
    name = str(getattr(parameter, "name", parameter))
    where = f"{function_name}: argument {name}"
    buffer = _buffer(function, parameter)
    if buffer is None:
        dtype = str(getattr(parameter, "dtype", None) or getattr(parameter, "ty", ""))
        if dtype == "handle":
            raise FirmwareError(f"{where}: is a pointer to no buffer: a board is given tensors and numbers")
        return Argument(name, _dtype(where, dtype), None)
    if list(buffer.strides):
        raise FirmwareError(f"{where}: has strides: a board has compact tensors only")
    shape = tuple(_extent(where, extent) for extent in buffer.shape)
    return Argument(str(getattr(buffer, "name", name)), _dtype(where, str(buffer.dtype)), shape)


def _buffer(function: Any, parameter: Any) -> Any:
    """What TVM 0.25 keeps in a map of the function is the parameter's type later."""
    if hasattr(function, "buffer_map"):
        return function.buffer_map.get(parameter, None)
    return parameter.ty if type(parameter.ty).__name__ == "BufferType" else None


def _dtype(where: str, name: str) -> DataType:
    try:
        dtype = DataType.parse(name)
    except UnsupportedValueError:
        dtype = None
    if dtype is None or dtype.lanes != 1 or dtype.bits not in NUMBER_BITS.get(DataTypeCode(dtype.code), ()):
        raise FirmwareError(f"{where}: is of {name}, and boards have no such tensors")
    return dtype


def _extent(where: str, extent: Any) -> int | str:
    value = getattr(extent, "value", None)
    if isinstance(value, int):
        if not 0 <= value <= _MOST_EXTENT:
            raise FirmwareError(f"{where}: has the extent {value}")
        return int(value)
    if type(extent).__name__ in ("Var", "SizeVar"):
        return str(extent.name)
    raise FirmwareError(f"{where}: has the extent {extent}, which is neither a number nor a variable: write it as one")


def _check_extents(name: str, arguments: tuple[Argument, ...]) -> None:
    """A variable that is an argument, too, would have to be held against the extents when it runs."""
    numbers = {argument.name for argument in arguments if argument.shape is None}
    for argument in arguments:
        for extent in argument.shape or ():
            if extent in numbers:
                raise FirmwareError(
                    f"{name}: argument {argument.name}: has the extent {extent}, which is an argument of its own: "
                    f"leave that out, the tensor's shape tells it"
                )


def _given(name: str, described: Any) -> str:
    """What a signature says of a PrimFunc's result."""
    text = str(described) if described is not None else "None"
    if text in ("None", "void", "()", "T.Tuple()", "R.Tuple", "R.Tuple()"):
        return "None"
    kind = text.rpartition(".")[2].strip("\"'()")
    if kind.startswith(("int", "uint", "bool")):
        return "bool" if kind == "bool" else "int"
    if kind.startswith("float"):
        return "float"
    raise FirmwareError(f"{name}: returns {text}: a kernel gives a number or nothing, and writes into its arguments")
