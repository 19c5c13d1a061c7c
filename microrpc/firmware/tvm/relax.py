"""From a Relax function of TVM to a plan: kernels, the order in which they run, and where each tensor lies."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from microrpc.errors import FirmwareError
from microrpc.firmware.tvm.compile import compile_kernels
from microrpc.firmware.tvm.compiler import import_tvm, telling
from microrpc.firmware.tvm.plan import Constant, ModelArgument, ModelPlan, Place, Quantization, Step, TensorRef, c_name
from microrpc.firmware.tvm.planning import Lifetime, plan_arena
from microrpc.firmware.tvm.reading import Buffer, Reading, Tensor, array_of, name_of
from microrpc.firmware.tvm.scheduling import schedule_kernel

OUTPUT_NAMES = "microrpc.output_names"
"""An attribute of a Relax function: what its outputs are called."""


def relax_functions(module: Any) -> list[str]:
    """Name the public Relax functions of an IRModule, in the order of the names."""
    from tvm import relax

    return sorted(
        variable.name_hint
        for variable, function in module.functions.items()
        if isinstance(function, relax.Function) and "global_symbol" in (function.attrs or {})
    )


def lower_model(module: Any, function: str, target: Any, name: str | None = None) -> ModelPlan:
    """Make a plan of a Relax function with static shapes, for a Target of TVM's.

    `name` is what the model is called on the board, by default like the function; the symbols of its kernels begin with
    it. A database of meta_schedule that is current gives the kernels that were tuned. Raises FirmwareError, which names
    the binding that stands in the way, and the operator.
    """
    name = name or function
    there = relax_functions(module)
    if function not in there:
        raise FirmwareError(f"{function}: is no Relax function of the module. There are: {', '.join(there) or 'none'}")
    original = module[function]
    Reading(function).read_types(original.params)
    lowered = _lowered(module, function, target)
    functions = {variable.name_hint: found for variable, found in lowered.functions.items()}
    reading = Reading(function, _reshapes(functions))
    reading.read(lowered[function])
    prefix = c_name(name)
    symbols = {call.kernel: f"{prefix}_{call.kernel}" for call in reading.calls if call.kernel is not None}
    with target:
        prim_funcs = {
            symbol: schedule_kernel(functions[kernel]).with_attr("global_symbol", symbol)
            for kernel, symbol in symbols.items()
        }
    buffers = _arena_buffers(reading)
    arena = plan_arena([Lifetime(buffer.size_bytes, buffer.first_step, buffer.last_step) for buffer in buffers])
    for buffer, offset in zip(buffers, arena.offsets, strict=True):
        buffer.index = offset
    inputs, outputs = _arguments(original, reading)
    return ModelPlan(
        name=name,
        inputs=inputs,
        outputs=outputs,
        constants=tuple(Constant(f"constant_{i}", value) for i, value in enumerate(reading.constants)),
        steps=_steps(reading, symbols),
        arena_bytes=arena.size_bytes,
        workspace_bytes=_workspace_bytes(prim_funcs),
        prim_funcs=prim_funcs,
    )


def _lowered(module: Any, function: str, target: Any) -> Any:
    """Run TVM's own passes: operators become kernels, neighbours are fused, what is constant is computed."""
    tvm = import_tvm()
    from tvm.relax import transform

    others = {*relax_functions(module)} - {function}
    functions = {variable: found for variable, found in module.functions.items() if variable.name_hint not in others}
    passes = [
        *([] if _is_training(module[function]) else [transform.DecomposeOpsForInference(function)]),
        transform.CanonicalizeBindings(),
        tvm.relax.backend.DispatchSortScan(),
        transform.LegalizeOps(),
        transform.AnnotateTIROpPattern(),
        transform.FoldConstant(),
        transform.FuseOps(),
        transform.FuseTIR(),
        transform.DeadCodeElimination([function]),
        transform.ToNonDataflow(),
        transform.RemovePurityChecking(),
    ]
    database = tvm.s_tir.meta_schedule.Database.current()
    if database is not None:
        passes.append(transform.MetaScheduleApplyDatabase())
    with telling(f"{function}: TVM cannot lower it"), target, tvm.transform.PassContext(opt_level=3):
        return tvm.transform.Sequential(passes)(tvm.IRModule(functions, attrs=module.attrs))


def _reshapes(functions: dict[str, Any]) -> frozenset[str]:
    """Name the kernels that copy their elements in the order in which they are, into another shape."""
    from tvm import relax, tirx

    return frozenset(
        name
        for name, function in functions.items()
        if isinstance(function, tirx.PrimFunc) and relax.analysis.has_reshape_pattern(function)
    )


def _is_training(function: Any) -> bool:
    """Whether a batch norm takes mean and variance from the batch itself, which no inference does."""
    calls: list[Any] = [getattr(binding, "value", None) for block in function.body.blocks for binding in block.bindings]
    operators = [getattr(getattr(call, "op", None), "name", "") for call in calls]
    return any(
        operator == "relax.nn.batch_norm" and bool(call.attrs.training)
        for call, operator in zip(calls, operators, strict=True)
    )


def _workspace_bytes(prim_funcs: Mapping[str, Any]) -> int:
    """What the kernels take of the workspace. Raises FirmwareError where one wants TVM's runtime, as to sort."""
    return compile_kernels(kernel_module(prim_funcs), {"kind": "c"}).workspace_bytes if prim_funcs else 0


def kernel_module(prim_funcs: Mapping[str, Any]) -> Any:
    """The kernels of a plan as an IRModule, for `compile_kernels`."""
    return import_tvm().IRModule(dict(prim_funcs))


def _arena_buffers(reading: Reading) -> list[Buffer]:
    found: dict[Buffer, None] = {}
    for call in reading.calls:
        found.update((tensor.buffer, None) for tensor in call.arguments if tensor.buffer.where is Place.ARENA)
    return list(found)


def _steps(reading: Reading, symbols: dict[str, str]) -> tuple[Step, ...]:
    seen: Counter[str] = Counter()
    steps = []
    for call in reading.calls:
        layer = "copy" if call.kernel is None else re.sub(r"^(fused_)?(tir_)?", "", call.kernel)
        seen[layer] += 1
        steps.append(
            Step(
                kernel=None if call.kernel is None else symbols[call.kernel],
                arguments=tuple(_reference(tensor) for tensor in call.arguments),
                output_count=call.output_count,
                layer=layer if seen[layer] == 1 else f"{layer}.{seen[layer]}",
            )
        )
    return tuple(steps)


def _reference(tensor: Tensor) -> TensorRef:
    return TensorRef(tensor.buffer.where, tensor.buffer.index, tensor.dtype, tensor.shape)


def _arguments(original: Any, reading: Reading) -> tuple[tuple[ModelArgument, ...], tuple[ModelArgument, ...]]:
    """Describe inputs and outputs: names, types, and what the elements of quantised ones stand for."""
    scales = _quantizations(original)
    inputs = tuple(
        ModelArgument(name_of(parameter), tensor.dtype, tensor.shape, scales.get(name_of(parameter)))
        for parameter, tensor in zip(original.params, reading.inputs, strict=True)
    )
    names = _result_names(original)
    if len(names) != len(reading.outputs):
        names = ["" for _ in reading.outputs]
    shown = [str(text) for text in (original.attrs or {}).get(OUTPUT_NAMES, [])]
    if len(shown) != len(names):
        shown = ["output"] if len(names) == 1 else [f"output_{i}" for i in range(len(names))]
    outputs = tuple(
        ModelArgument(shown[i], tensor.dtype, tensor.shape, scales.get(names[i]))
        for i, tensor in enumerate(reading.outputs)
    )
    return inputs, outputs


def _result_names(function: Any) -> list[str]:
    """The variables that a function returns, one a result, where its result is written so."""
    bound = {binding.var: binding.value for block in function.body.blocks for binding in block.bindings}
    result = function.body.body
    for _ in range(len(bound) + 1):
        if result not in bound or type(bound[result]).__name__ not in ("Tuple", "Var", "DataflowVar"):
            break
        result = bound[result]
    fields = result.fields if type(result).__name__ == "Tuple" else [result]
    return [name_of(element) for element in fields]


def _quantizations(function: Any) -> dict[str, Quantization]:
    """Scale and zero point of each variable that QuantizeLinear makes, or DequantizeLinear reads, by its name."""
    found: dict[str, Quantization] = {}
    for block in function.body.blocks:
        for binding in block.bindings:
            operator = getattr(getattr(getattr(binding, "value", None), "op", None), "name", "")
            if operator not in ("relax.quantize", "relax.dequantize"):
                continue
            data, *factors = binding.value.args
            scale, zero_point = (array_of(factor) for factor in factors[:2])
            if scale is not None and zero_point is not None and scale.size == zero_point.size == 1:
                variable = binding.var if operator == "relax.quantize" else data
                found[name_of(variable)] = Quantization(float(scale.item()), int(zero_point.item()))
    return found
