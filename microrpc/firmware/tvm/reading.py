"""Reading a lowered Relax function: which kernels it calls with which tensors, and which of these share their bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from microrpc.errors import FirmwareError, UnsupportedValueError
from microrpc.firmware.tvm.plan import Place
from microrpc.wire.datatypes import DataType, DataTypeCode

_CALL_TIR = "relax.call_tir"
_KINDS = {DataTypeCode.INT: (8, 16, 32, 64), DataTypeCode.UINT: (1, 8, 16, 32, 64), DataTypeCode.FLOAT: (32, 64)}
"""What C knows of TVM's element types: the bits, by the kind."""


@dataclass(slots=True, eq=False)
class Buffer:
    """`size_bytes` bytes, `where` they lie: those of an input or a constant (`index`), or what `first_step` writes.

    It is read up to `last_step`. What an output is made of becomes that output's own.
    """

    where: Place
    size_bytes: int
    index: int = 0
    first_step: int = 0
    last_step: int = 0


@dataclass(frozen=True, slots=True)
class Tensor:
    """The bytes of a `buffer`, seen as elements of `dtype` in a `shape`."""

    buffer: Buffer
    dtype: DataType
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A `kernel` with its `arguments`, of which it writes the last `output_count`. None: the first is copied."""

    kernel: str | None
    arguments: tuple[Tensor, ...]
    output_count: int


Value: TypeAlias = "Tensor | tuple[Value, ...] | None"
"""What a variable stands for; None: what no kernel reads, as a shape."""


@dataclass(slots=True)
class Reading:
    """What a Relax function does: `calls`, by which `inputs` and `constants` become `outputs`.

    `read` fills it; `function` is its name, for errors.
    `reshapes` are the kernels that only copy: what they would write is seen as what they read.
    """

    function: str
    reshapes: frozenset[str] = frozenset()
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    constants: list[npt.NDArray[Any]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    _values: dict[Any, Value] = field(default_factory=dict)
    _known: dict[tuple[str, tuple[int, ...], bytes], Tensor] = field(default_factory=dict)

    def read(self, function: Any) -> None:
        """Read a function whose operators were all lowered to kernels. Raises FirmwareError where one was not."""
        self.read_types(function.params)
        for block in function.body.blocks:
            for binding in block.bindings:
                self._bind(binding)
        self._give(_flat(self._value(function.body.body, "its result")))

    def read_types(self, parameters: Iterable[Any]) -> None:
        """Read the parameters of a function. Raises FirmwareError for one that is no tensor of a fixed shape."""
        for index, parameter in enumerate(parameters):
            tensor = self._made(Place.INPUT, type_of(parameter), f"parameter {name_of(parameter)}", index)
            if not isinstance(tensor, Tensor):
                raise self._error(f"parameter {name_of(parameter)}", "is a tuple: give its tensors as parameters")
            self.inputs.append(tensor)
            self._values[parameter] = tensor

    def _bind(self, binding: Any) -> None:
        where = f"binding {name_of(binding.var)}"
        kind = type(binding).__name__
        if kind == "MatchCast":
            self._values[binding.var] = self._cast(binding, where)
        elif kind == "VarBinding":
            self._values[binding.var] = self._value(binding.value, where)
        else:
            raise self._error(where, f"is a {kind}, which cannot be laid out beforehand")

    def _cast(self, binding: Any, where: str) -> Value:
        value = self._value(binding.value, where)
        if isinstance(value, Tensor):
            _, shape = self._tensor_type(type_of(binding.var), where)
            if shape != value.shape:
                raise self._error(where, f"casts a tensor of shape {value.shape} to {shape}")
        return value

    def _value(self, expression: Any, where: str) -> Value:
        if expression in self._values:
            return self._values[expression]
        kind = type(expression).__name__
        if kind == "Call":
            return self._call(expression, where)
        if kind == "Tuple":
            return tuple(self._value(element, where) for element in expression.fields)
        if kind == "TupleGetItem":
            whole = self._value(expression.tuple_value, where)
            assert isinstance(whole, tuple), "TVM's type checker lets only tuples be indexed"
            return whole[int(expression.index)]
        array = array_of(expression)
        if array is not None:
            return self._constant(array, where)
        if kind == "ShapeExpr" and all(isinstance(getattr(extent, "value", None), int) for extent in expression.values):
            return self._constant(np.array([extent.value for extent in expression.values], "int64"), where)
        if kind in ("ShapeExpr", "PrimValue", "IntImm", "FloatImm", "StringImm", "DataTypeImm"):
            return None
        what = {"If": "is a branch", "Function": "is a function within the function"}.get(kind, f"is a {kind}")
        raise self._error(where, f"{what}: a model for a board is a fixed list of kernels")

    def _call(self, call: Any, where: str) -> Value:
        operator = _called(call.op)
        if operator == _CALL_TIR:
            return self._kernel(call, where)
        if operator.startswith("relax.call_") and call.args:
            raise self._error(
                where, f"calls {_called(call.args[0])} by {operator}: a board has kernels of TVM's compiler only"
            )
        if operator in ("relax.tensor_to_shape", "vm.builtin.tensor_to_shape"):
            raise self._error(where, "takes a shape that is computed: a model for a board has fixed ones")
        if type(call.op).__name__ != "Op":
            raise self._error(where, f"calls {operator}: a board has kernels of TVM's compiler only")
        raise self._error(where, f"TVM has no kernel for {operator} here")

    def _kernel(self, call: Any, where: str) -> Value:
        kernel = str(call.args[0].name_hint)
        if len(call.args) > 2:
            raise self._error(where, f"{kernel} takes numbers that are known only when the model runs")
        arguments = _flat(self._value(call.args[1], where))
        (out_type,) = getattr(call, "ty_args", None) or call.sinfo_args
        made = self._made(Place.ARENA, out_type, where)
        outputs = _flat(made)
        if kernel in self.reshapes and len(arguments) == len(outputs) == 1:
            return Tensor(arguments[0].buffer, outputs[0].dtype, outputs[0].shape)
        self._step(kernel, (*arguments, *outputs), len(outputs))
        return made

    def _step(self, kernel: str | None, arguments: tuple[Tensor, ...], output_count: int) -> None:
        step = len(self.calls)
        for tensor in arguments:
            tensor.buffer.last_step = step
        for tensor in arguments[len(arguments) - output_count :]:
            tensor.buffer.first_step = step
        self.calls.append(Call(kernel, arguments, output_count))

    def _give(self, results: tuple[Tensor, ...]) -> None:
        """Make the results the caller's: a kernel writes into his buffer; what is none of its own is copied there."""
        if not results:
            raise self._error("its result", "is no tensor")
        for index, result in enumerate(results):
            buffer = result.buffer
            if buffer.where is Place.ARENA:
                buffer.where, buffer.index = Place.OUTPUT, index
                self.outputs.append(result)
                continue
            copied = Tensor(Buffer(Place.OUTPUT, buffer.size_bytes, index), result.dtype, result.shape)
            self._step(None, (result, copied), 1)
            self.outputs.append(copied)

    def _made(self, place: Place, described: Any, where: str, index: int = 0) -> Value:
        """Make the tensor, or the tuple of them, that a type of TVM's describes."""
        if type(described).__name__ in ("TupleType", "TupleStructInfo"):
            return tuple(self._made(place, element, where) for element in described.fields)
        dtype, shape = self._tensor_type(described, where)
        return Tensor(Buffer(place, math.prod(shape) * dtype.itemsize_bytes, index), dtype, shape)

    def _tensor_type(self, described: Any, where: str) -> tuple[DataType, tuple[int, ...]]:
        try:
            return tensor_type(described)
        except UnsupportedValueError as error:
            raise self._error(where, str(error)) from None

    def _constant(self, array: npt.NDArray[Any], where: str) -> Tensor:
        try:
            dtype = _checked(DataType.from_numpy(array.dtype))
        except UnsupportedValueError as error:
            raise self._error(where, str(error)) from None
        array = np.asarray(array, dtype.numpy, order="C")  # of no dimensions it stays so
        key = (str(dtype), array.shape, array.tobytes())
        if key not in self._known:
            buffer = Buffer(Place.CONSTANT, array.nbytes, len(self.constants))
            self.constants.append(array)
            self._known[key] = Tensor(buffer, dtype, array.shape)
        return self._known[key]

    def _error(self, where: str, what: str) -> FirmwareError:
        return FirmwareError(f"{self.function}: {where}: {what}")


def tensor_type(described: Any) -> tuple[DataType, tuple[int, ...]]:
    """The data type and shape of a tensor's type in TVM. Raises UnsupportedValueError: no tensor, or a dynamic one."""
    if type(described).__name__ not in ("TensorType", "TensorStructInfo"):
        raise UnsupportedValueError(f"is no tensor but a {type(described).__name__}")
    extents = getattr(described.shape, "values", None)
    if extents is None:
        raise UnsupportedValueError("has a shape that is not known before the model runs")
    shape = []
    for extent in extents:
        if not isinstance(getattr(extent, "value", None), int):
            raise UnsupportedValueError(f"has a dynamic extent, {extent}: give it a number")
        shape.append(int(extent.value))
    return _checked(DataType.parse(str(described.dtype))), tuple(shape)


def type_of(expression: Any) -> Any:
    """The type of a Relax expression: what it is called has changed between TVM 0.26 and 0.27."""
    found = getattr(expression, "ty", None)
    return found if found is not None else expression.struct_info


def name_of(variable: Any) -> str:
    """What a variable is called."""
    return str(getattr(variable, "name_hint", None) or getattr(variable, "name", variable))


def _called(operator: Any) -> str:
    """What an operator or function is called."""
    for name in ("name", "global_symbol", "name_hint"):
        if isinstance(getattr(operator, name, None), str):
            return str(getattr(operator, name))
    return type(operator).__name__


def _checked(dtype: DataType) -> DataType:
    if dtype.lanes != 1 or dtype.bits not in _KINDS.get(DataTypeCode(dtype.code), ()):
        raise UnsupportedValueError(f"is of {dtype}, which boards do not compute with")
    return dtype


def array_of(expression: Any) -> npt.NDArray[Any] | None:
    """The array of a constant: `value` since TVM 0.27, `data` before."""
    if type(expression).__name__ not in ("GenericConst", "Constant"):
        return None
    payload: Any = getattr(expression, "value", None)
    payload = payload if payload is not None else getattr(expression, "data", None)
    return np.asarray(payload.numpy()) if hasattr(payload, "numpy") else None


def _flat(value: Value) -> tuple[Tensor, ...]:
    if isinstance(value, Tensor):
        return (value,)
    return tuple(tensor for element in _elements(value) for tensor in _flat(element))


def _elements(value: Value) -> Iterable[Value]:
    return value if isinstance(value, tuple) else ()
