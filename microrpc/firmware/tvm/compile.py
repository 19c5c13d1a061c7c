"""Kernels, compiled by TVM: to C, or to an object."""

from __future__ import annotations

import pathlib
import re
import tempfile
from dataclasses import dataclass
from typing import Any

from microrpc.errors import FirmwareError
from microrpc.firmware.tvm.compiler import telling
from microrpc.firmware.tvm.kernels import SYMBOL_PREFIX
from microrpc.firmware.tvm.prim_funcs import with_exact_constants
from microrpc.firmware.tvm.targets import TargetKind, TargetWords
from microrpc.firmware.tvm.workspace import workspace_bytes_of

# A table checks what a kernel is given. What a schedule made vectors of is plain loops in C, and in objects, too: their
# vectors would be loaded from tensors that no board aligns so.
_CONFIG = {"tirx.disable_assert": True, "tirx.disable_vectorize": True}

_KERNEL = re.compile(rf"{SYMBOL_PREFIX}(\w+)\(void")
_LOOKUP = re.compile(r'(?:TVMFFIEnvModLookupFromImports|TVMBackendGetFuncFromEnv)\([^,]*, "([^"]*)"')


@dataclass(frozen=True, slots=True)
class Compiled:
    """What TVM has made: a C source or an object, as `ending` says (".c", ".o")."""

    ending: str
    """Of the file that it is."""
    data: bytes
    """What is in the file."""
    workspace_bytes: int
    """The most that one of the kernels takes of the workspace for intermediate buffers."""


def compile_kernels(module: Any, target: TargetWords) -> Compiled:
    """Compile an IRModule of PrimFuncs, each under its `global_symbol`; those without one are called by the others.

    Raises FirmwareError with TVM's words.
    """
    names = [str(found) for found in map(_symbol, module.functions.values()) if found is not None]
    with telling(f"TVM cannot compile {', '.join(sorted(names))}"):
        source = str(_build(_with_exact_constants(module), {"kind": "c"}).inspect_source())
        _check_calls(source)
        workspace_bytes = workspace_bytes_of(source)
        if TargetKind(target["kind"]) is TargetKind.C:
            return Compiled(".c", source.encode(), workspace_bytes)
        built = _build(module, target)
        with tempfile.TemporaryDirectory(prefix="microrpc-tvm-") as directory:
            path = pathlib.Path(directory, "kernels.o")
            built.write_to_file(str(path), "o")
            return Compiled(".o", path.read_bytes(), workspace_bytes)


def _check_calls(source: str) -> None:
    """Refuse a kernel that looks a function up by its name when it runs."""
    found = _LOOKUP.search(source)
    if found is not None:
        kernel = _KERNEL.findall(source, 0, found.start())[-1]
        raise FirmwareError(
            f"{kernel}: calls {found[1]} by call_packed, which no board has: "
            "write it out in the PrimFunc, or call a function of C by call_extern"
        )


def _symbol(function: Any) -> Any:
    return (function.attrs or {}).get("global_symbol", None)


def _with_exact_constants(module: Any) -> Any:
    import tvm

    return tvm.IRModule({name: with_exact_constants(function) for name, function in module.functions.items()})


def _build(module: Any, target: TargetWords) -> Any:
    import tvm

    with tvm.transform.PassContext(opt_level=3, config=_CONFIG):
        return tvm.tirx.build(module, target=tvm.target.Target(target))
