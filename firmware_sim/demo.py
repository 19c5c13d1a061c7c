"""Demonstration functions for a simulated board, each short enough to be the example of its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from firmware_sim.device import Device
from microrpc.datatypes import DataType, OpaqueHandle, TypeCode, UInt
from microrpc.datatypes import Device as BoardDevice
from microrpc.serving import FunctionError, Module

Array = np.ndarray[Any, Any]
Number = int | float

_TYPE_CODES: tuple[tuple[type, TypeCode], ...] = (
    (UInt, TypeCode.UINT),
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
    """Put the demonstration functions into the system library of `device`; `add` is also in the global registry."""
    for function in (*_NUMBERS, *_TEXTS, *_TENSORS, *_FAILURES):
        device.system_library[function.__name__] = function
    device.functions["add"] = add

    @device.function
    def sleep_ms(milliseconds: int) -> int:
        """Do nothing for a while; give the time asked for."""
        device.clock.sleep(milliseconds / 1000)
        return milliseconds

    @device.function
    def log(text: str) -> None:
        """Send a line to the host's log."""
        device.log(text)


# --- numbers ----------------------------------------------------------------------------------


def _wrap(number: int) -> int:
    """Give what is left of a number in an i64."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _pair(name: str, operands: tuple[object, ...]) -> tuple[Number, Number]:
    match operands:
        case (int() | float() as a, int() | float() as b):
            return a, b
    raise FunctionError(f"{name}: want (int, int)")


def add(*operands: object) -> Number:
    """Give the sum of two numbers; an int that overflows 64 bits wraps around."""
    a, b = _pair("add", operands)
    return _wrap(a + b) if isinstance(a, int) and isinstance(b, int) else a + b


def mul(*operands: object) -> Number:
    """Give the product of two numbers; an int that overflows 64 bits wraps around."""
    a, b = _pair("mul", operands)
    return _wrap(a * b) if isinstance(a, int) and isinstance(b, int) else a * b


def fadd(a: float, b: float) -> float:
    """Give a + b as a float."""
    return float(a + b)


def adder(n: Number) -> Callable[[Number], Number]:
    """Give a function that adds n."""

    def add_n(a: Number) -> Number:
        return add(a, n)

    return add_n


def describe(*arguments: object) -> str:
    """Give the number of the arguments and the type code of each, as "2:0,11"."""
    return f"{len(arguments)}:{','.join(str(int(_type_code(argument))) for argument in arguments)}"


def _type_code(argument: object) -> TypeCode:
    if argument is None:
        return TypeCode.NULL
    return next((code for kind, code in _TYPE_CODES if isinstance(argument, kind)), TypeCode.FUNCTION)


def noop() -> None:
    """Do nothing."""


# --- text and bytes ---------------------------------------------------------------------------


def echo_str(text: str) -> str:
    """Give the text back."""
    return text


def echo_bytes(data: bytes) -> bytes:
    """Give the bytes back."""
    return data


def reverse(data: str | bytes) -> str | bytes:
    """Give a text, or bytes, backwards."""
    return data[::-1]


# --- tensors: numpy arrays that alias the memory of the board ---------------------------------


def inc_tensor(x: Array) -> None:
    """Add 1 to every element of x, in place."""
    x += 1


def relu_f32(x: Array) -> None:
    """Set what is negative in x to 0, in place."""
    np.maximum(x, 0, out=x)


def scale_f32(x: Array, factor: float) -> None:
    """Multiply x by a factor, in place."""
    np.multiply(x, np.float32(factor), out=x)


def add_f32(a: Array, b: Array, out: Array) -> None:
    """Compute out = a + b."""
    np.add(a, b, out=out)


def matmul_f32(a: Array, b: Array, out: Array) -> None:
    """Compute out = a @ b."""
    np.matmul(a, b, out=out)


def sum_f32(x: Array) -> float:
    """Give the sum of all elements."""
    return float(x.sum())


_LARGEST_IOTA = 1 << 20  # the heap of a board is smaller; what is asked for must not fill this machine's


def iota(n: int) -> Array:
    """Give a new float32 tensor 0, 1, ... n - 1, which the caller owns."""
    if not 0 <= n <= _LARGEST_IOTA:
        raise FunctionError(f"iota: want 0 to {_LARGEST_IOTA}, not {n}")
    return np.arange(n, dtype=np.float32)


# --- failures ---------------------------------------------------------------------------------


def fail() -> None:
    """Fail, with a text."""
    raise FunctionError("fail: this function always fails")


def fail_silent() -> None:
    """Fail, without a text."""
    raise FunctionError("")


_NUMBERS = (add, mul, fadd, adder, describe, noop)
_TEXTS = (echo_str, echo_bytes, reverse)
_TENSORS = (inc_tensor, relu_f32, scale_f32, add_f32, matmul_f32, sum_f32, iota)
_FAILURES = (fail, fail_silent)
