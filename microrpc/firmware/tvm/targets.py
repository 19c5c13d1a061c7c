"""What TVM compiles for: a board's processor, as it is named by the port, in TVM's words.

The triples are those whose objects link with what a port's compiler brings: LLVM calls the functions for floats
otherwise for `none-eabi` than for `linux-gnueabi`, and zig has the latter.
"""

from __future__ import annotations

import enum
import platform
import sys
from typing import Any, TypeAlias

from microrpc.errors import FirmwareError
from microrpc.firmware.project import Project

TargetWords: TypeAlias = dict[str, Any]
"""What `tvm.target.Target` is made of."""


class TargetKind(enum.StrEnum):
    """What TVM makes of kernels."""

    C = "c"
    """C sources, which the port's compiler takes: by far the smaller code."""
    LLVM = "llvm"
    """Objects, by TVM's own LLVM."""


_ARM = {
    "cortex_m0": ("thumbv6m", "cortex-m0"),
    "cortex_m0plus": ("thumbv6m", "cortex-m0plus"),
    "cortex_m1": ("thumbv6m", "cortex-m1"),
    "cortex_m3": ("thumbv7m", "cortex-m3"),
    "cortex_m4": ("thumbv7em", "cortex-m4"),
    "cortex_m7": ("thumbv7em", "cortex-m7"),
    "cortex_m33": ("thumbv8m.main", "cortex-m33"),
}
_FPUS: dict[str, list[str]] = {
    "": [],
    "vfp4d16sp": [],
    "fp_armv8d16": [],
    "fp_armv8d16sp": ["-fp64"],
}
"""What zig's name of an FPU takes away from what LLVM's CPU has: it begins with none, and LLVM with the most."""
_RISCV32 = {
    "generic_rv32+m+a+c": ["+m", "+a", "+c"],
    "generic_rv32+m+c": ["+m", "+c"],
    "generic_rv32+m": ["+m"],
    "generic_rv32": [],
}
# LLVM takes every tensor to be aligned as TVM's own are, to 64 bytes, and a board's heap aligns to 8: so there are no
# vectors, which only a computer would have. The third level makes the code of kernels half as large again.
_LLVM = {
    "kind": "llvm",
    "opt-level": 2,
    "cl-opt": ["-vectorize-loops:bool=0", "-vectorize-slp:bool=0"],
}


def target_of(project: Project, kind: TargetKind) -> TargetWords:
    """What TVM compiles for, for the processor of a port or project. Raises FirmwareError where that is not known."""
    if kind is TargetKind.C:
        return {"kind": "c"}
    if project.target is None:
        return _this_computer(project)
    architecture, _, system = project.target.partition("-")
    cpu = project.cpu or ""
    core, _, fpu = cpu.partition("+")
    if architecture in ("thumb", "arm") and core in _ARM and fpu in _FPUS:
        triple, mcpu = _ARM[core]
        is_hard = system.endswith("eabihf")
        triple += "-none-eabihf" if is_hard else "-unknown-linux-gnueabi"
        words = {"mtriple": triple, "mcpu": mcpu, "mfloat-abi": "hard" if is_hard else "soft"}
        return {**_LLVM, **words, **({"mattr": _FPUS[fpu]} if _FPUS[fpu] else {}), "vector-width": 32}
    if architecture == "riscv32" and cpu in _RISCV32:
        words = {"mtriple": "riscv32-unknown-elf", "mcpu": "generic-rv32", "mabi": "ilp32"}
        return {**_LLVM, **words, "mattr": _RISCV32[cpu], "vector-width": 32}
    raise FirmwareError(
        f"{project.name}: what LLVM is to compile for is not known for {project.target} {cpu or 'without a cpu'}: "
        "--target c works for every board"
    )


def _this_computer(project: Project) -> TargetWords:
    machine = platform.machine()
    if sys.platform != "linux" or machine not in ("x86_64", "aarch64"):
        raise FirmwareError(f"{project.name}: --target llvm is for Linux on x86-64 and aarch64 here: --target c works")
    mcpu = "x86-64" if machine == "x86_64" else "generic"
    triple = f"{machine}-unknown-linux-gnu"
    return {**_LLVM, "mtriple": triple, "mcpu": mcpu, "vector-width": 64}
