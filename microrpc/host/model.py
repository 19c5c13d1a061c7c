"""One model of a board: runs of it, and the memory of the board that they use (docs/using_models.md).

Each run is one operation, from the copy of its inputs to that of its outputs, so that no other comes between.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from microrpc.errors import ArgumentError, FunctionNotFoundError, RemoteError, RequestError
from microrpc.host.blocks import UNLIMITED
from microrpc.host.board import BoardOperations
from microrpc.host.copies import flat
from microrpc.host.job import CopyJob
from microrpc.host.making import ArrayT
from microrpc.host.model_report import ModelReport
from microrpc.host.operation import Operation
from microrpc.host.quantising import Block, to_board
from microrpc.wire.checks import did_you_mean, show
from microrpc.wire.datatypes import CPU, Tensor, Value
from microrpc.wire.memory import BoardMemory
from microrpc.wire.model import ModelProfile, ModelTable, ModelTensor, decode_profile, untrue
from microrpc.wire.names import MODEL_LAYER_FUNCTION, MODEL_PROFILE_FUNCTION, MODEL_RUN_FUNCTION

Arrays: TypeAlias = Sequence[npt.NDArray[Any]]
"""Inputs or outputs of a model, as they are on the board."""
T = TypeVar("T")


def labels(tensors: Sequence[ModelTensor]) -> list[str]:
    """Give what tensors are called, each another name: `#` and its number for one that has none."""
    return _each_another([tensor.name or f"#{index}" for index, tensor in enumerate(tensors)])


def layer_labels(table: ModelTable) -> list[str]:
    """Give the names of the layers, each another one, as `labels` does."""
    return _each_another([layer.name or f"#{index}" for index, layer in enumerate(table.layers)])


def list_tensors(tensors: Sequence[ModelTensor]) -> str:
    """Say what a model takes or gives: each with its label, type and shape."""
    named = (dataclasses.replace(tensor, name=name) for tensor, name in zip(tensors, labels(tensors), strict=True))
    return ", ".join(map(str, named)) or "nothing"


def _each_another(names: list[str]) -> list[str]:
    """Have the second of several with one name end with `#2`, unless another is called just so."""
    there, counts, found = set(names), dict[str, int](), list[str]()
    for name in names:
        count = counts.get(name, 0) + 1
        while count > 1 and f"{name}#{count}" in there:
            count += 1
        counts[name] = count
        found.append(name if count == 1 else f"{name}#{count}")
    return found


def bind(table: ModelTable, given: Sequence[T], named: Mapping[str, T]) -> list[T]:
    """Give the inputs of a model in order, of which some were given by position, and the others by name.

    Raises ArgumentError where there are too few, too many, or one that it does not have.
    """
    names = labels(table.inputs)
    bound = dict(zip(names, given, strict=False))
    why = f", not {len(given)} inputs" if len(given) > len(names) else ""
    for name, value in named.items():
        if name not in names:
            why = why or f"; it has no input {show(name)}{did_you_mean(name, names)}"
        elif name in bound:
            why = why or f"; {show(name)} was given twice"
        bound[name] = value
    missing = [name for name in names if name not in bound]
    if missing:
        why = why or f"; {', '.join(map(show, missing))} was not given"
    if why:
        takes = list_tensors(table.inputs)
        raise ArgumentError(f"model {show(table.name)} takes {takes}{why}; nothing was sent")
    return [bound[name] for name in names]


class ModelRunner(Generic[ArrayT]):
    """Runs model number `model` of the board behind `operations`, whose `table` is known.

    The memory for inputs and outputs is allocated for the first run and used again, and made anew after a reset.
    """

    def __init__(self, operations: BoardOperations[Any, Any, ArrayT], model: int, table: ModelTable) -> None:
        self.table = table
        self._operations = operations
        self._models = operations.models
        self._model = model
        self.inputs, self.outputs = Block(table.inputs), Block(table.outputs)
        self._arrays: tuple[ArrayT, ArrayT] | None = None
        self._epoch = -1  # in which the board had the table

    def prepare(self, given: Sequence[npt.ArrayLike], named: Mapping[str, npt.ArrayLike]) -> list[npt.NDArray[Any]]:
        """Give the inputs as they are copied to the board. Raises ArgumentError."""
        tensors = self.table.inputs
        return [
            to_board(tensor, data, f"input {show(name)} of model {show(self.table.name)}")
            for tensor, name, data in zip(tensors, labels(tensors), bind(self.table, given, named), strict=True)
        ]

    # --- runs ----------------------------------------------------------------------------------

    def run(self, inputs: Arrays, *, timeout_s: float | None = None) -> Operation[list[npt.NDArray[Any]]]:
        """Run it and give its outputs as they are on the board."""
        return (yield from self.noting_resets(self._run(inputs, timeout_s)))

    def _run(self, inputs: Arrays, timeout_s: float | None) -> Operation[list[npt.NDArray[Any]]]:
        x, y = yield from self._load(inputs)
        yield from self.call(MODEL_RUN_FUNCTION, (), x, y, take_nothing, timeout_s=timeout_s)
        return (yield from self.read(y))

    def profile(self, inputs: Arrays, *, repeat: int, timeout_s: float | None = None) -> Operation[ModelReport]:
        """Run it `repeat` times and tell how long it took, each layer, and what was used of the board's memory."""
        return (yield from self.noting_resets(self._profile(inputs, repeat, timeout_s)))

    def _profile(self, inputs: Arrays, repeat: int, timeout_s: float | None) -> Operation[ModelReport]:
        times = _Times(self._operations)
        yield from times.begin()
        x, y = yield from self._allocate()
        times.restart()
        yield from self.write(inputs, x)
        input_s = times.passed_s()
        total = ModelProfile(0, (0,) * len(self.table.layers))
        for _ in range(repeat):
            total += yield from self.call(MODEL_PROFILE_FUNCTION, (), x, y, self._take_profile, timeout_s=timeout_s)
        calls_s = times.passed_s()
        yield from self.read(y)
        output_s = times.passed_s()
        memory = yield from self._memory()
        return ModelReport.of(
            self.table,
            [total],
            runs=repeat,
            input_s=input_s,
            call_s=calls_s / repeat,
            output_s=output_s,
            memory=memory,
        )

    def layer(self, inputs: Arrays, layer: int, *, timeout_s: float | None = None) -> Operation[npt.NDArray[Any]]:
        """Run it and give what a layer gave, as it is on the board. Raises RequestError where it cannot be had."""
        return (yield from self.noting_resets(self._layer(inputs, layer, timeout_s)))

    def _layer(self, inputs: Arrays, layer: int, timeout_s: float | None) -> Operation[npt.NDArray[Any]]:
        tensor = self.table.layers[layer].output
        if tensor is None:
            raise RequestError(
                f"layer {show(layer_labels(self.table)[layer])} of model {show(self.table.name)} gives nothing that "
                f"can be had"
            )
        x, y = yield from self._load(inputs)
        block = Block((tensor,))
        out = yield from self.empty(block)
        try:
            (at,) = self._tensors(block, (tensor,), out)
            yield from self.call(MODEL_LAYER_FUNCTION, (layer, at), x, y, take_nothing, timeout_s=timeout_s)
            (numbers,) = yield from self.read(out, block)
        finally:
            out.discard(first=True)
        return numbers

    # --- their parts ---------------------------------------------------------------------------

    def noting_resets(self, operation: Operation[T]) -> Operation[T]:
        """Do `operation`, and forget all where a server that shares its board tells that it was reset."""
        try:
            return (yield from operation)
        except RemoteError as error:
            if self._models.note(error):
                self.discard()
            raise

    def _load(self, inputs: Arrays) -> Operation[tuple[ArrayT, ArrayT]]:
        x, y = yield from self._allocate()
        yield from self.write(inputs, x)
        return x, y

    def _allocate(self) -> Operation[tuple[ArrayT, ArrayT]]:
        yield from self.check()
        if self._arrays is None or not all(array.is_live for array in self._arrays):
            self.discard()
            x = yield from self.empty(self.inputs)
            try:
                self._arrays = x, (yield from self.empty(self.outputs))
            except RemoteError:
                x.discard(first=True)
                raise
        return self._arrays

    def check(self) -> Operation[None]:
        """Raise RequestError where the board has other firmware now."""
        self._epoch = yield from self._models.check(self._model, self.table)

    def empty(self, block: Block) -> Operation[ArrayT]:
        """Allocate memory for a block; what has no bytes gets one. A RemoteError has a note of what a run needs."""
        try:
            return (yield from self._operations.empty(max(block.size_bytes, 1), np.uint8))
        except RemoteError as error:
            inputs, outputs = self.inputs.size_bytes, self.outputs.size_bytes
            error.add_note(
                f"a run of model {show(self.table.name)} needs {inputs} bytes for inputs and {outputs} for outputs"
            )
            raise

    def write(self, inputs: Arrays, x: ArrayT) -> Operation[None]:
        """Copy inputs into their block."""
        yield from self._operations.write(self.inputs.pack(inputs), x, on_progress=None, verify=False)

    def job(self, inputs: Arrays, x: ArrayT) -> CopyJob:
        """Give the copy of inputs into their block, to go beside a call."""
        tensor, call_s = flat(x.tensor), self._models.call_s
        return CopyJob(tensor, self.inputs.pack(inputs), True, UNLIMITED, call_s, x.epoch)

    def read(self, y: ArrayT, block: Block | None = None) -> Operation[list[npt.NDArray[Any]]]:
        """Give what is in a block, that of the outputs by default."""
        block = block or self.outputs
        data = block.make_room()
        yield from self._operations.read(y, data, on_progress=None, verify=False)
        return block.unpack(data)

    def call(
        self,
        function: str,
        head: tuple[Value, ...],
        x: ArrayT,
        y: ArrayT,
        take: Callable[[object], T],
        *,
        timeout_s: float | None,
        beside: CopyJob | None = None,
    ) -> Operation[T]:
        """Call a function of the models with `head`, and with the tensors that lie in the blocks `x` and `y`.

        beside: a copy into other memory, whose blocks may cross while the board computes; what is left is `todo`.
        """
        inputs = self._tensors(self.inputs, self.table.inputs, x)
        outputs = self._tensors(self.outputs, self.table.outputs, y)
        args = (self._model, *head, *inputs, *outputs)
        epoch = min(x.epoch, self._epoch)  # memory of after a reset, and the table of before, do not fit
        return (yield from self._models.call(function, args, epoch, take, timeout_s=timeout_s, beside=beside))

    def _tensors(self, block: Block, tensors: Sequence[ModelTensor], array: ArrayT) -> list[Tensor]:
        address = array.tensor.data
        return [
            Tensor(address + offset, CPU, tensor.dtype, tensor.shape)
            for offset, tensor in zip(block.offsets, tensors, strict=True)
        ]

    def _take_profile(self, result: object) -> ModelProfile:
        return decode_profile(result, len(self.table.layers))

    def _memory(self) -> Operation[BoardMemory | None]:
        try:
            return (yield from self._operations.memory())
        except FunctionNotFoundError:  # its firmware does not tell
            return None

    def discard(self) -> None:
        """Give its memory on the board back, with the next requests; another run allocates it anew."""
        arrays, self._arrays = self._arrays, None
        for array in arrays or ():
            array.discard(first=True)


class _Times:
    """How long the parts of an operation take, by the host's clock: up to when the last answer came, in seconds."""

    def __init__(self, operations: BoardOperations[Any, Any, Any]) -> None:
        self._connection = operations.connection
        self._since = 0.0

    def begin(self) -> Operation[None]:
        """Begin now."""
        self._since = yield from self._connection.begin(None)

    def restart(self) -> None:
        """Begin with the last answer."""
        self.passed_s()

    def passed_s(self) -> float:
        """Give what passed since this was asked last."""
        before, self._since = self._since, max(self._connection.counters.now, self._since)
        return self._since - before


def take_nothing(result: object) -> None:
    """Take the result of a function that returns none. Raises ProtocolError."""
    if result is not None:
        raise untrue(f"a model returned {show(result)}, not None")


def layer_tensors(table: ModelTable) -> dict[int, ModelTensor]:
    """Give the outputs that can be had of layers, by the numbers of these, in order."""
    return {index: layer.output for index, layer in enumerate(table.layers) if layer.output is not None}
