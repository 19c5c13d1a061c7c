"""From a source of TVM's to a firmware project, and what it takes of the board."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from microrpc.errors import FirmwareError
from microrpc.firmware.build import build as build_firmware
from microrpc.firmware.elf import read_machine
from microrpc.firmware.project import check_define, load_port, load_project
from microrpc.firmware.tvm.compile import Compiled, compile_kernels
from microrpc.firmware.tvm.compiler import import_tvm
from microrpc.firmware.tvm.kernels import Kernel, check_name
from microrpc.firmware.tvm.model_source import ModelSource, workspace_bytes, write_model
from microrpc.firmware.tvm.plan import ModelPlan
from microrpc.firmware.tvm.prim_funcs import public_prim_funcs, read_kernel
from microrpc.firmware.tvm.project import write_project
from microrpc.firmware.tvm.relax import lower_model, relax_functions
from microrpc.firmware.tvm.report import STACK_FLAG, BuildReport, ModelSizes, call_stack_bytes, read_kernels
from microrpc.firmware.tvm.source import Source, as_module, load_source
from microrpc.firmware.tvm.table_source import HEADER, header_source, rows_of, table_source
from microrpc.firmware.tvm.targets import TargetKind, TargetWords, target_of

_LEAST_WORKSPACE_BYTES = 64


def build(
    source: Any,
    *,
    board: str,
    out: str | os.PathLike[str],
    target: str = TargetKind.C,
    name: str | None = None,
    defines: Sequence[str] = (),
) -> BuildReport:
    """Compile kernels and models with TVM, and make a firmware project of them in the directory `out`; build that.

    source: an IRModule or PrimFunc, or a text: "FILE.py:FUNCTION", a saved module (.json), a model (.onnx). Every
    PrimFunc with a `global_symbol` is in the board's system library under that name; so is every public Relax function,
    inputs then outputs, which is also a model of the board's (docs/models.md).
    board: the port, as `microrpc firmware list` names it. target: "c", or "llvm", which makes larger code. name: what
    the model is called, where there is one. defines: more for the compiler, as "NAME=VALUE".
    `out` is empty, not there, or made so before: then `kernels/` and `port.toml` in it are written anew.

    Raises FirmwareError: TVM is not installed, the source is none, what a board cannot have (by its name), or the words
    of TVM or of the compiler.
    """
    kind = _target_kind(target)
    port = load_port(board)
    checked = [*map(check_define, defines)]
    import_tvm()
    given = load_source(source) if isinstance(source, str) else Source(as_module(source, "the source"))
    parts = _parts(given, target_of(port, kind), name)
    directory = pathlib.Path(out)
    write_project(
        directory,
        board,
        parts.files(),
        defines=[*parts.defines(64 if port.target is None else 32), *checked],
        has_models=bool(parts.models),
    )
    return _report(directory, board, kind, parts)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What is in a project, compiled."""

    kernels: tuple[Kernel, ...]
    models: tuple[tuple[ModelPlan, ModelSource], ...]
    compiled: Compiled

    @property
    def sources(self) -> list[tuple[str, ModelSource]]:
        return [(plan.name, source) for plan, source in self.models]

    def files(self) -> dict[str, bytes]:
        files = {
            f"code{self.compiled.ending}": self.compiled.data,
            "table.c": table_source(self.kernels, self.sources).encode(),
            HEADER: header_source(self.kernels, self.sources).encode(),
        }
        for number, (_, source) in enumerate(self.models):
            files[f"model_{number}.c"] = source.text.encode()
        return files

    def defines(self, address_bits: int) -> list[str]:
        size = self.workspace_bytes(address_bits)
        return [f"MICRORPC_TVM_WORKSPACE_BYTES={size}", *(["MICRORPC_MODELS=1"] if self.models else [])]

    def workspace_bytes(self, address_bits: int) -> int:
        frame = max((kernel.frame_bytes(address_bits) for kernel in self.kernels), default=0)
        of_kernels = frame + self.compiled.workspace_bytes if self.kernels else 0
        of_models = max((workspace_bytes(plan) for plan, _ in self.models), default=0)
        return max(_LEAST_WORKSPACE_BYTES, of_kernels, of_models)


def _target_kind(target: str) -> TargetKind:
    if target not in list(TargetKind):
        raise FirmwareError(f"the target {target!r} is not known: {' or '.join(TargetKind)}")
    return TargetKind(target)


def _parts(source: Source, words: TargetWords, name: str | None) -> _Parts:
    import tvm

    functions = public_prim_funcs(source.module)
    kernels = tuple(read_kernel(symbol, function) for symbol, function in functions.items())
    relax = relax_functions(source.module)
    if not kernels and not relax:
        raise FirmwareError("the module has no public function: give a PrimFunc or a Relax function a global_symbol")
    if name is not None and len(relax) != 1:
        raise FirmwareError(f"--name {name}: is for a source with one Relax function, and this one has {len(relax)}")
    plans = [
        lower_model(source.module, function, tvm.target.Target(words), check_name(name or source.name or function))
        for function in relax
    ]
    compiled = compile_kernels(_all_prim_funcs(source.module, functions, plans), words)
    return _Parts(kernels, tuple((plan, write_model(plan)) for plan in plans), compiled)


def _all_prim_funcs(module: Any, functions: dict[str, Any], plans: Sequence[ModelPlan]) -> Any:
    """Give an IRModule of what is compiled: where there are models, the public PrimFuncs and the models' alone."""
    import tvm
    from tvm import tirx

    public = list(functions.values())
    found = {
        variable: function
        for variable, function in module.functions.items()
        if isinstance(function, tirx.PrimFunc) and (not plans or any(function.same_as(one) for one in public))
    }
    names = set(functions)
    for plan in plans:
        clash = sorted({*plan.prim_funcs, plan.name} & names)
        if clash:
            raise FirmwareError(f"{clash[0]}: two have this name, of which one is of the model {plan.name}: rename one")
        names.update((*plan.prim_funcs, plan.name))
        found.update({tvm.ir.GlobalVar(symbol): function for symbol, function in plan.prim_funcs.items()})
    return tvm.IRModule(found)


def _report(directory: pathlib.Path, board: str, kind: TargetKind, parts: _Parts) -> BuildReport:
    project = load_project(directory)
    firmware = build_firmware(dataclasses.replace(project, flags=(*project.flags, STACK_FLAG)))
    bits = read_machine(firmware.elf).bits
    names = [kernel.name for kernel in parts.kernels]
    names += [name for plan, _ in parts.models for name in plan.prim_funcs]
    measured = read_kernels(firmware, names, has_frames=kind is TargetKind.C)
    rows = rows_of(parts.kernels, parts.sources)
    handlers = [row.handler for row in rows]
    stack_bytes, reason = call_stack_bytes(firmware, measured, handlers, has_models=bool(parts.models))
    return BuildReport(
        directory=directory,
        board=board,
        target=str(kind),
        functions=tuple(row.shown for row in rows),
        kernels=measured,
        models=tuple(
            ModelSizes(plan.name, len(plan.layers), plan.weights_bytes, plan.arena_bytes) for plan, _ in parts.models
        ),
        workspace_bytes=parts.workspace_bytes(bits),
        stack_bytes=stack_bytes,
        stack_reason=reason,
        flash_bytes=firmware.sizes.flash_bytes,
        ram_bytes=firmware.sizes.ram_bytes,
        compiler=firmware.compiler,
        elf=firmware.elf,
    )
