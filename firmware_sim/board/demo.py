"""Demonstration functions for a simulated board, each short enough to be the example of its kind.

Those of the library in C (`firmware/demo/`) do the same, to the byte; hence `takes`, and the care for each bit of a
result. A function that needs neither can be as plain as `noop`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np

from firmware_sim.board.demo_models import MODELS
from firmware_sim.board.device import Device
from firmware_sim.board.long_call import Steps
from firmware_sim.board.runtime import takes
from microrpc.serve.local import BoardArray, FunctionError, Module
from microrpc.wire.datatypes import DataType, DataTypeCode, FunctionHandle, ModuleHandle, OpaqueHandle, TypeCode, UInt
from microrpc.wire.datatypes import Device as BoardDevice

Array = np.ndarray[Any, Any]
"""A tensor argument: an array that aliases the board's memory."""
Float32 = Annotated[Array, "float32[...]"]
"""One of float32, of any shape."""
Number = int | float
"""An Int or a Float."""

FIRMWARE_NAME = "microrpc demonstration"
"""What a board with these functions calls its firmware."""
FIRMWARE_VERSION = "1"
"""Goes up when they change."""

_TYPE_CODES: tuple[tuple[type, TypeCode], ...] = (
    (UInt, TypeCode.UINT),
    (ModuleHandle, TypeCode.MODULE),  # of what is no module
    (FunctionHandle, TypeCode.FUNCTION),
    (OpaqueHandle, TypeCode.OPAQUE_HANDLE),
    (int, TypeCode.INT),
    (float, TypeCode.FLOAT),
    (DataType, TypeCode.DATA_TYPE),
    (BoardDevice, TypeCode.DEVICE),
    (np.ndarray, TypeCode.TENSOR),
    (Module, TypeCode.MODULE),
    (str, TypeCode.STR),
    (bytes, TypeCode.BYTES),
)


def install(device: Device) -> None:
    """Put the demonstration functions into the system library of `device`; `add` is also in the global registry.

    It has the demonstration models, too.
    """
    device.models += MODELS
    for function in (*_NUMBERS, *_TEXTS, *_TENSORS, *_FAILURES):
        device.function(function, signature=_SIGNATURES.get(function.__name__))
    device.function(add, registry="global", signature=_SIGNATURES["add"])

    @device.function
    @takes("Int")
    def sleep_ms(milliseconds: Annotated[int, "int [ms]"]) -> Annotated[int, "int [ms]"]:
        """Do nothing for a while; give the time asked for."""
        device.clock.sleep(max(milliseconds, 0) / 1000)
        return milliseconds

    @device.function
    @takes("Str")
    def log(text: str) -> None:
        """Send a line to the host's log."""
        device.log(text)

    @device.function
    @takes("Str", "Int", "Int", "Int")
    def emit(name: str, count: int, size: int, reliable: int) -> int:
        """Send events of a number and so many bytes, plain or reliable ones; give how many were sent or kept."""
        name = name.partition("\0")[0]
        if size > _LARGEST_EVENT or len(name.encode("utf-8", "surrogateescape")) > _LONGEST_NAME:
            return 0
        datas = (bytes((i + k) & 0xFF for k in range(size)) for i in range(count))
        return sum(device.event(name, i, data, reliable=bool(reliable)) for i, data in enumerate(datas))

    @device.function(signature="steps: int, step_us: int [us] -> int")
    @takes("Int", "Int")
    def work(steps: int, step_us: int) -> Steps:
        """Work for so many steps of so many microseconds, and tell after each how many are done."""
        for step in range(steps):
            device.clock.sleep(max(step_us, 0) / 1e6)
            yield step + 1, steps
        return steps


# --- numbers ----------------------------------------------------------------------------------


def _wrap(number: int) -> int:
    """Give what is left of a number in an i64."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _is_number(operand: object) -> bool:
    return type(operand) in (int, float)


def _pair(name: str, operands: tuple[Any, ...]) -> tuple[Number, Number]:
    if len(operands) != 2 or not all(map(_is_number, operands)):
        raise FunctionError(f"{name}: want (int, int)")
    a, b = operands
    return a, b


def _sum(a: Number, b: Number) -> Number:
    return _wrap(a + b) if isinstance(a, int) and isinstance(b, int) else float(a) + float(b)


def add(*operands: object) -> Number:
    """Give the sum of two numbers; an int that overflows 64 bits wraps around."""
    return _sum(*_pair("add", operands))


def mul(*operands: object) -> Number:
    """Give the product of two numbers; an int that overflows 64 bits wraps around."""
    a, b = _pair("mul", operands)
    return _wrap(a * b) if isinstance(a, int) and isinstance(b, int) else float(a) * float(b)


@takes("Float", "Float")
def fadd(a: float, b: float) -> float:
    """Give the sum of two floating-point numbers."""
    return a + b


def adder(*operands: object) -> Callable[..., Number]:
    """Give a function that adds a number."""
    n = _addend(operands)
    return lambda *operands: _sum(_addend(operands), n)


def _addend(operands: tuple[Any, ...]) -> Number:
    if not operands or not _is_number(operands[0]):
        raise FunctionError("argument 0: Float expected")
    number: Number = operands[0]
    return number


def describe(*arguments: object) -> str:
    """Give the number of the arguments and the type code of each, as "2:0,11"."""
    return f"{len(arguments)}:{','.join(str(int(_type_code(argument))) for argument in arguments)}"


def _type_code(argument: object) -> TypeCode:
    if argument is None:
        return TypeCode.NULL
    return next((code for kind, code in _TYPE_CODES if isinstance(argument, kind)), TypeCode.FUNCTION)


@takes()
def noop() -> None:
    """Do nothing."""


# --- text and bytes ---------------------------------------------------------------------------


@takes("Str")
def echo_str(text: str) -> str:
    """Give the text back."""
    return text


@takes("Bytes")
def echo_bytes(data: bytes) -> bytes:
    """Give the bytes back."""
    return data


# One byte that is no UTF-8 continuation byte, and those after it; those at the very beginning are one too.
_CHARACTERS = re.compile(rb"\A[\x80-\xbf]+|[^\x80-\xbf][\x80-\xbf]*", re.DOTALL)


def reverse(*arguments: object) -> str | bytes:
    """Give a text, or bytes, backwards."""
    data = arguments[0] if arguments else None
    if isinstance(data, bytes):
        return data[::-1]
    if isinstance(data, str):  # what of it is not UTF-8 is there as surrogates
        characters = _CHARACTERS.findall(data.encode("utf-8", "surrogateescape"))
        return b"".join(reversed(characters)).decode("utf-8", "surrogateescape")
    raise FunctionError("argument 0: Bytes expected")


# --- tensors: numpy arrays that alias the memory of the board ---------------------------------


_COUNTABLE = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)} | {"float32", "float64"}


@takes("Tensor")
def inc_tensor(x: BoardArray) -> None:
    """Add 1 to every element of x, in place."""
    if str(x.dtype) not in _COUNTABLE or x.data_type.code == DataTypeCode.BFLOAT:
        raise FunctionError("inc_tensor: the dtype is not supported")
    x += 1


@takes("float32")
def relu_f32(x: Float32) -> None:
    """Set what is negative in x to 0, in place."""
    x[x < 0] = 0


@takes("float32", "Float")
def scale_f32(x: Float32, factor: float) -> None:
    """Multiply x by a factor, in place."""
    np.multiply(x, np.float32(factor), out=x)


@takes("float32", "float32", "float32")
def add_f32(a: Float32, b: Float32, out: Float32) -> None:
    """Compute out = a + b."""
    if not a.size == b.size == out.size:
        raise FunctionError("the tensors have different sizes")
    out[...] = (a.ravel() + b.ravel()).reshape(out.shape)


@takes("float32", "float32", "float32")
def matmul_f32(
    a: Annotated[Array, "float32[n, k]"], b: Annotated[Array, "float32[k, m]"], out: Annotated[Array, "float32[n, m]"]
) -> None:
    """Compute out = a @ b. The products of an element are added up in order."""
    if not (a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0] and out.shape == (a.shape[0], b.shape[1])):
        raise FunctionError("matmul_f32: the shapes do not match")
    total = np.zeros(out.shape, np.float32)
    for column, row in zip(a.T, b, strict=True):
        total += np.outer(column, row)
    out[...] = total


@takes("float32")
def sum_f32(x: Float32) -> float:
    """Give the sum of all elements, added up in order."""
    return 0.0 + float(np.add.accumulate(x.ravel())[-1]) if x.size else 0.0


_LARGEST_EVENT, _LONGEST_NAME = 65535, 255
_LARGEST_IOTA = 1 << 20  # the heap of a board is smaller; what is asked for must not fill this machine's


@takes("Int")
def iota(n: Annotated[int, "int(0..1048576)"]) -> Annotated[Array, "float32[n]"]:
    """Give a new float32 tensor 0, 1, ... n - 1, which the caller owns."""
    if not 0 <= n <= _LARGEST_IOTA:
        raise FunctionError(f"iota: want 0 to {_LARGEST_IOTA}")
    return np.arange(n, dtype=np.float32)


# --- failures ---------------------------------------------------------------------------------


@takes()
def fail() -> None:
    """Fail, with a text."""
    raise FunctionError("fail: this function always fails")


@takes()
def fail_silent() -> None:
    """Fail, without a text."""
    raise FunctionError("")


_SIGNATURES = {
    "add": "a: any, b: any -> any",  # ints or floats
    "mul": "a: any, b: any -> any",
    "adder": "n: any -> function",
    "reverse": "data: any -> any",
}
"""Of those whose annotations say less."""
_NUMBERS = (add, mul, fadd, adder, describe, noop)
_TEXTS = (echo_str, echo_bytes, reverse)
_TENSORS = (inc_tensor, relu_f32, scale_f32, add_f32, matmul_f32, sum_f32, iota)
_FAILURES = (fail, fail_silent)
