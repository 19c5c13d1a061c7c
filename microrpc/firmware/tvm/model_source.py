"""A plan as C: the weights, the tables that firmware/tvm/microrpc_tvm_model.c runs, and the model as hosts see it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from microrpc.errors import FirmwareError
from microrpc.firmware.tvm.kernels import SYMBOL_PREFIX, Argument, Kernel, frame_bytes
from microrpc.firmware.tvm.plan import Constant, ModelArgument, ModelPlan, Place, Step, TensorRef, c_name
from microrpc.wire.datatypes import DataType

_ALIGNED = "__attribute__((aligned(16)))"
_WORDS = {1: "uint8_t", 2: "uint16_t", 4: "uint32_t", 8: "uint64_t"}
_A_LINE = 16
_MOST_EXTENT = 2**31 - 1
_MOST_DIMENSIONS = 254
_ADDRESS_BITS = 64
"""Of the largest: a table is the same for every board."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """C of a model: `text` of a file of its own, and what others have of it.

    `model` is the name of its `const microrpc_model_t`. `handler` is that of a `void (microrpc_call_t *)`: the model as
    a function, inputs then outputs, with the `signature` that the board tells of it.
    """

    text: str
    model: str
    handler: str
    signature: str


def write_model(plan: ModelPlan) -> ModelSource:
    """Write a plan as C. Raises FirmwareError where a table of the device library cannot hold it."""
    _check(plan)
    prefix = c_name(plan.name)
    text = "\n".join(_lines(plan, prefix)) + "\n"
    return ModelSource(text, f"{prefix}_model", f"{prefix}_call", _signature(plan))


def workspace_bytes(plan: ModelPlan) -> int:
    """What the model needs of MICRORPC_TVM_WORKSPACE_BYTES: its kernels' buffers, and what calling one takes."""
    whole = _frame_bytes([*plan.inputs, *plan.outputs])
    return whole + plan.workspace_bytes + max((_frame_bytes(step.arguments) for step in plan.steps), default=0)


def model_hash(plan: ModelPlan) -> int:
    """64 bits that are others for another structure or other weights."""
    digest = hashlib.blake2b(digest_size=8)
    described = (plan.inputs, plan.outputs, [(step.kernel, step.arguments, step.layer) for step in plan.steps])
    digest.update(repr(described).encode())
    for constant in plan.constants:
        digest.update(repr((constant.value.dtype.str, constant.value.shape)).encode())
        digest.update(constant.value.tobytes())
    return int.from_bytes(digest.digest(), "little")


def _check(plan: ModelPlan) -> None:
    counts = (("inputs", len(plan.inputs)), ("outputs", len(plan.outputs)), ("steps", len(plan.steps)))
    for what, count in counts:
        if count > 0xFFFF:
            raise FirmwareError(f"{plan.name}: has {count} {what}, and a table of models at most 65535")
    arguments = [(len(step.arguments), step.layer) for step in plan.steps]
    arguments.append((len(plan.inputs) + len(plan.outputs), "the whole model"))
    for count, what in arguments:
        if count > 0x7FFF:
            raise FirmwareError(f"{plan.name}: {what} has {count} arguments, and a kernel at most 32767")
    shapes = [argument.shape for argument in (*plan.inputs, *plan.outputs)]
    shapes += [ref.shape for step in plan.steps for ref in step.arguments]
    for shape in shapes:
        if len(shape) > _MOST_DIMENSIONS or any(extent > _MOST_EXTENT for extent in shape):
            raise FirmwareError(f"{plan.name}: a tensor of shape {list(shape)} is larger than a board can have")


def _frame_bytes(tensors: Iterable[ModelArgument | TensorRef]) -> int:
    return frame_bytes([len(tensor.shape) for tensor in tensors], _ADDRESS_BITS)


def _lines(plan: ModelPlan, prefix: str) -> Iterator[str]:
    yield f"/* The model {_comment(plan.name)}, as TVM compiled it: written by microrpc, from a plan of its kernels. */"
    yield '#include "microrpc_tvm_model.h"'
    yield ""
    for constant in plan.constants:
        yield from _constant(constant, f"{prefix}_{constant.name}")
    if plan.constants:
        names = ", ".join(f"{prefix}_{constant.name}" for constant in plan.constants)
        yield f"static const void *const {prefix}_constants[] = {{{names}}};"
    if plan.arena_bytes:
        yield f"static uint8_t {prefix}_arena[{plan.arena_bytes}] {_ALIGNED};"
    room = max([2, *(len(step.arguments) for step in plan.steps)])
    yield f"static void *{prefix}_data[{room}];"
    extents = _Extents(prefix)
    body = [*_functions(plan, prefix, extents), *_steps(plan, prefix), *_model(plan, prefix, extents)]
    yield from extents.lines()
    yield ""
    yield from body
    yield from _whole_function(plan, prefix, extents)


class _Extents:
    """The shapes that tables point to, each written once: for a kernel's table (int32_t), and a model's (uint32_t)."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._names: dict[tuple[str, tuple[int, ...]], str] = {}

    def name(self, kind: str, shape: tuple[int, ...]) -> str:
        if not shape:
            return "NULL"
        given = f"{self._prefix}_{'shape' if kind == 'int32_t' else 'extents'}_{'_'.join(map(str, shape))}"
        return self._names.setdefault((kind, shape), given)

    def lines(self) -> Iterator[str]:
        for (kind, shape), name in self._names.items():
            yield f"static const {kind} {name}[] = {{{', '.join(map(str, shape))}}};"


def _constant(constant: Constant, name: str) -> Iterator[str]:
    """Write an array by its bytes: whatever floats are, and quick to compile."""
    values = np.ascontiguousarray(constant.value).reshape(-1)
    word = _WORDS[values.dtype.itemsize]
    words = values.view(word.removesuffix("_t")) if values.size else np.zeros(1, "uint8")
    suffix = "ull" if values.dtype.itemsize == 8 else ""
    yield f"static const {word if values.size else 'uint8_t'} {name}[] {_ALIGNED} = {{"
    yield from _numbers(words, suffix)
    yield "};"


def _numbers(words: npt.NDArray[Any], suffix: str) -> Iterator[str]:
    for at in range(0, words.size, _A_LINE):
        yield ",".join(f"{word:#x}{suffix}" for word in words[at : at + _A_LINE].tolist()) + ","


def _functions(plan: ModelPlan, prefix: str, extents: _Extents) -> Iterator[str]:
    """Write the kernels' tables. The same kernel always has the same arguments' types: TVM compiled it for these."""
    for step in _with_kernels(plan.steps):
        yield f"MICRORPC_TVM_KERNEL({SYMBOL_PREFIX}{step.kernel})"
        yield from _argument_table(f"{step.kernel}_arguments", step.arguments, extents)
        yield f"static const microrpc_tvm_function_t {step.kernel}_function = {{"
        kernel = f"{SYMBOL_PREFIX}{step.kernel}, {step.kernel}_arguments, {len(step.arguments)}"
        yield f"    {_text(step.layer)}, {kernel}}};"


def _with_kernels(steps: Sequence[Step]) -> list[Step]:
    """The first step of each kernel."""
    return list({step.kernel: step for step in reversed(steps) if step.kernel is not None}.values())[::-1]


def _argument_table(name: str, tensors: Sequence[TensorRef | ModelArgument], extents: _Extents) -> Iterator[str]:
    yield f"static const microrpc_tvm_argument_t {name}[] = {{"
    for tensor in tensors:
        shape = extents.name("int32_t", tensor.shape)
        yield f"    {{{_dtype(tensor.dtype)}, {len(tensor.shape)}, {shape}}},"
    yield "};"


_PLACES = {
    Place.INPUT: "MICRORPC_TVM_INPUT",
    Place.OUTPUT: "MICRORPC_TVM_OUTPUT",
    Place.CONSTANT: "MICRORPC_TVM_CONSTANT",
    Place.ARENA: "MICRORPC_TVM_ARENA",
}


def _steps(plan: ModelPlan, prefix: str) -> Iterator[str]:
    rows = []
    for i, step in enumerate(plan.steps):
        places = ", ".join(f"{{{_PLACES[ref.where]}, {ref.index}}}" for ref in step.arguments)
        yield f"static const microrpc_tvm_place_t {prefix}_places_{i}[] = {{{places}}};"
        function = "NULL" if step.kernel is None else f"&{step.kernel}_function"
        copied = step.arguments[0].size_bytes if step.kernel is None else 0
        output = len(step.arguments) - step.output_count
        rows.append(f"    {{{function}, {prefix}_places_{i}, {copied}, {output}}},")
    if rows:
        yield from (f"static const microrpc_tvm_step_t {prefix}_steps[] = {{", *rows, "};")
    yield f"static const microrpc_tvm_plan_t {prefix}_plan = {{"
    constants = f"{prefix}_constants" if plan.constants else "NULL"
    arena = f"{prefix}_arena" if plan.arena_bytes else "NULL"
    yield f"    {f'{prefix}_steps' if rows else 'NULL'}, {len(rows)}, {constants}, {arena}, {prefix}_data}};"
    yield ""


def _model(plan: ModelPlan, prefix: str, extents: _Extents) -> Iterator[str]:
    for what, arguments in (("inputs", plan.inputs), ("outputs", plan.outputs)):
        if arguments:
            yield f"static const microrpc_model_tensor_t {prefix}_{what}[] = {{"
            yield from (f"    {_model_tensor(argument, extents)}," for argument in arguments)
            yield "};"
    if plan.steps:
        yield f"static const microrpc_model_layer_t {prefix}_layers[] = {{"
        for step in plan.steps:
            output = step.outputs[0]
            described = ModelArgument(step.layer, output.dtype, output.shape)
            yield f"    {{{_text(step.layer)}, {_model_tensor(described, extents)}}},"
        yield "};"
    yield f"extern const microrpc_model_t {prefix}_model;"
    yield f"const microrpc_model_t {prefix}_model = {{"
    fields = (
        ("name", _text(plan.name)),
        ("hash", f"UINT64_C({model_hash(plan):#x})"),
        ("inputs", f"{prefix}_inputs" if plan.inputs else "NULL"),
        ("outputs", f"{prefix}_outputs" if plan.outputs else "NULL"),
        ("layers", f"{prefix}_layers" if plan.steps else "NULL"),
        ("input_count", len(plan.inputs)),
        ("output_count", len(plan.outputs)),
        ("layer_count", len(plan.steps)),
        ("weights_bytes", plan.weights_bytes),
        ("arena_bytes", plan.arena_bytes),
        ("workspace_bytes", workspace_bytes(plan)),
        ("run", "microrpc_tvm_run_model"),
        ("context", f"&{prefix}_plan"),
    )
    yield from (f"    .{field} = {value}," for field, value in fields)
    yield "};"
    yield ""


def _model_tensor(argument: ModelArgument, extents: _Extents) -> str:
    scale, zero_point = "0", 0
    if argument.quantization is not None:
        scale, zero_point = f"{np.float32(argument.quantization.scale).item().hex()}f", argument.quantization.zero_point
    shape = extents.name("uint32_t", argument.shape)
    return (
        f"{{{_text(argument.name)}, {_dtype(argument.dtype)}, {len(argument.shape)}, {shape}, {scale}, {zero_point}}}"
    )


def _whole_function(plan: ModelPlan, prefix: str, extents: _Extents) -> Iterator[str]:
    """Write the model as a function of the board, whose arguments are checked as a kernel's are."""
    before = set(extents.lines())
    arguments = (*plan.inputs, *plan.outputs)
    table = list(_argument_table(f"{prefix}_arguments", arguments, extents)) if arguments else []
    yield from (line for line in extents.lines() if line not in before)
    yield from table
    yield f"static void *{prefix}_given[{max(len(arguments), 1)}];"
    yield f"static int32_t {prefix}_kernel(void *self, void *args, int32_t count, void *result) {{"
    yield "    (void)self, (void)result;"
    yield f"    return microrpc_tvm_model_kernel(&{prefix}_model, {prefix}_given, args, count);"
    yield "}"
    yield f"static const microrpc_tvm_function_t {prefix}_function = {{"
    table_name = f"{prefix}_arguments" if arguments else "NULL"
    yield f"    {_text(plan.name)}, {prefix}_kernel, {table_name}, {len(arguments)}}};"
    yield f"void {prefix}_call(microrpc_call_t *call);"
    yield f"void {prefix}_call(microrpc_call_t *call) {{ microrpc_tvm_call(call, &{prefix}_function); }}"


def _dtype(dtype: DataType) -> str:
    return f"{{{dtype.code}, {dtype.bits}, {dtype.lanes}}}"


def _signature(plan: ModelPlan) -> str:
    """What the board tells of the function, by the grammar of docs/description.md."""
    arguments = (*plan.inputs, *plan.outputs)
    return Kernel(plan.name, tuple(Argument(given.name, given.dtype, given.shape) for given in arguments)).signature


def _text(text: str) -> str:
    """A text of C's: what is not ASCII by its bytes in octal, which end after three digits."""
    shown = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}" for byte in text.encode()
    )
    return f'"{shown}"'


def _comment(text: str) -> str:
    return json.dumps(text).replace("*/", "* /")
