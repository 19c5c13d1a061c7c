"""A whole model, as it is laid out for a board: which kernel is called with what, in which order, and what lies where.

Nothing here knows TVM: `lower_model` makes a plan of a Relax function, `model_source` makes C of a plan.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from microrpc.wire.datatypes import DataType


class Place(enum.Enum):
    """Where a tensor of a model lies.

    INPUT and OUTPUT are the caller's memory, CONSTANT is flash, ARENA what all intermediate tensors share.
    """

    INPUT = "input"
    OUTPUT = "output"
    CONSTANT = "constant"
    ARENA = "arena"


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor of `dtype` and `shape` that a step reads or writes: `where` it lies.

    `index` is the number of the input, output or constant; in the arena the offset in bytes, a multiple of 16.
    """

    where: Place
    index: int
    dtype: DataType
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """What its elements take: it is compact."""
        return math.prod(self.shape) * self.dtype.itemsize_bytes


@dataclass(frozen=True, slots=True)
class Quantization:
    """What the elements of a quantised tensor stand for: `(element - zero_point) * scale`."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class ModelArgument:
    """An input or output of a model for its caller: `name`, `dtype`, `shape`, and `quantization` where it has one."""

    name: str
    dtype: DataType
    shape: tuple[int, ...]
    quantization: Quantization | None = None


@dataclass(frozen=True, slots=True)
class Constant:
    """Weights, and whatever else is known when the model is built: an array, `value`, called `name`, in flash."""

    name: str
    value: npt.NDArray[Any] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Step:
    """One `kernel` that is run, by the symbol of its PrimFunc, with its `arguments`; it writes the last `output_count`.

    Without a kernel the first argument is copied into the second. `layer` is what people see of it.
    """

    kernel: str | None
    arguments: tuple[TensorRef, ...]
    output_count: int
    layer: str

    @property
    def outputs(self) -> tuple[TensorRef, ...]:
        """What it writes: the last ones of its arguments."""
        return self.arguments[len(self.arguments) - self.output_count :]


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """A model called `name` that is ready to be written as C.

    It takes `inputs` and gives `outputs`, by `steps` with `constants` and an arena of `arena_bytes`. `prim_funcs` are
    TVM's, by the symbol that steps name.
    """

    name: str
    inputs: tuple[ModelArgument, ...]
    outputs: tuple[ModelArgument, ...]
    constants: tuple[Constant, ...]
    steps: tuple[Step, ...]
    arena_bytes: int
    workspace_bytes: int
    """The most that a kernel takes of the workspace while it runs, by what TVM allocates in it."""
    prim_funcs: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def weights_bytes(self) -> int:
        """What the constants take of the flash."""
        return sum(constant.value.nbytes for constant in self.constants)

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers: one a step."""
        return tuple(step.layer for step in self.steps)


def c_name(name: str) -> str:
    """A name of C's, and of Python's, for what is called so."""
    spelt = re.sub(r"\W", "_", name, flags=re.ASCII)
    return spelt if re.match(r"[A-Za-z]", spelt) else f"model_{spelt}"
