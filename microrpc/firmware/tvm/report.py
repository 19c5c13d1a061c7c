"""What firmware of kernels takes of a board: flash, RAM, and where both go."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from microrpc.firmware.build import Firmware
from microrpc.firmware.elf import Function, read_functions, read_stack_frames
from microrpc.firmware.tvm.kernels import SYMBOL_PREFIX

STACK_FLAG = "-fstack-size-section"
"""What has clang tell the stack of each function."""

_BODY = "_compute_"  # ends the name of what TVM's LLVM makes of a kernel besides the function that is called
# What lies between the library and a kernel, by the functions' names (firmware/tvm).
_ADAPTER = ("microrpc_tvm_call", "take_arguments", "run_kernel")
_OF_MODELS = ("microrpc_tvm_model_kernel", "microrpc_tvm_run_model", "microrpc_tvm_run", "run_kernel")
_NOT_TOLD = "objects of TVM's LLVM do not tell it"


@dataclass(frozen=True, slots=True)
class KernelReport:
    """One function that TVM compiled."""

    name: str
    """Its `global_symbol`."""
    code_bytes: int
    """Of flash."""
    stack_bytes: int | None
    """Its own frame; None where the compiler does not tell."""


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """One model: what its plan says."""

    name: str
    """As hosts call it."""
    layers: int
    """How many steps it has."""
    weights_bytes: int
    """Of flash."""
    arena_bytes: int
    """Of RAM, for tensors between layers."""


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What was built, and what it takes of the board, in bytes."""

    directory: pathlib.Path
    """The project."""
    board: str
    """The port."""
    target: str
    """"c" or "llvm"."""
    functions: tuple[str, ...]
    """The system library, as signatures with names."""
    kernels: tuple[KernelReport, ...]
    """All that TVM compiled, those of models too."""
    models: tuple[ModelSizes, ...]
    """One for each Relax function."""
    workspace_bytes: int
    """Of RAM: MICRORPC_TVM_WORKSPACE_BYTES, what kernels need while they run, and a call for its arguments."""
    stack_bytes: int | None
    """What a call of a kernel or model adds to the stack at most, but for the functions of math.h; None: not known."""
    stack_reason: str
    """Why it is not known; else empty."""
    flash_bytes: int
    """Of all the firmware."""
    ram_bytes: int
    """Of all the firmware: variables and stack; what is left is the heap."""
    compiler: str
    """What compiled the firmware, with its version."""
    elf: pathlib.Path
    """What was built, in the cache."""

    @property
    def code_bytes(self) -> int:
        """Of flash: the code of all kernels."""
        return sum(kernel.code_bytes for kernel in self.kernels)

    @property
    def weights_bytes(self) -> int:
        """Of flash: the constants of all models."""
        return sum(model.weights_bytes for model in self.models)

    @property
    def arena_bytes(self) -> int:
        """Of RAM: the arenas of all models."""
        return sum(model.arena_bytes for model in self.models)


def read_kernels(firmware: Firmware, names: Iterable[str], *, has_frames: bool) -> tuple[KernelReport, ...]:
    """Measure kernels in a program. Raises FirmwareError where it cannot be read."""
    functions = read_functions(firmware.elf)
    frames = read_stack_frames(firmware.elf) if has_frames else {}
    return tuple(_measure(name, functions, frames) for name in names)


def _measure(name: str, functions: Sequence[Function], frames: dict[int, int]) -> KernelReport:
    symbols = (SYMBOL_PREFIX + name, name + _BODY)
    # A name may stand twice: for another address of the same function, or for a copy in each object.
    own = {one.address: one for one in functions if one.name in symbols}.values()
    known = [frames[one.address] for one in own if one.address in frames]
    return KernelReport(name, sum(one.size_bytes for one in own), sum(known) if known else None)


def call_stack_bytes(
    firmware: Firmware, kernels: Sequence[KernelReport], handlers: Sequence[str], *, has_models: bool
) -> tuple[int | None, str]:
    """Add up the frames from a handler to the largest kernel; or give None, and why that cannot be told.

    A function that the compiler put into its caller has no frame of its own. Raises FirmwareError.
    """
    if any(kernel.stack_bytes is None for kernel in kernels):
        return None, _NOT_TOLD
    frames = read_stack_frames(firmware.elf)
    by_name = {one.name: frames.get(one.address, 0) for one in read_functions(firmware.elf)}
    path = [*_ADAPTER, *(_OF_MODELS if has_models else ())]
    largest = max((kernel.stack_bytes or 0 for kernel in kernels), default=0)
    handler = max((by_name.get(name, 0) for name in handlers), default=0)
    return handler + sum(by_name.get(name, 0) for name in path) + largest, ""
