"""Models on a simulated board, and the functions that run them (docs/models.md 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from firmware_sim.board.clock import Clock
from firmware_sim.board.events import to_microseconds
from firmware_sim.board.runtime import RuntimeSession, check_kinds, free_bytes
from microrpc.serve.description import page_of
from microrpc.serve.local import BoardArray, FunctionError
from microrpc.wire.events import NUMBER_MODULUS
from microrpc.wire.model import ModelProfile, ModelTable, ModelTensor, encode_model, encode_profile
from microrpc.wire.names import MODEL_LAYER_FUNCTION, MODEL_PROFILE_FUNCTION, MODEL_RUN_FUNCTION, MODELS_FUNCTION

Array: TypeAlias = np.ndarray[Any, Any]
"""A tensor: an array that aliases the board's memory."""
LayerDone: TypeAlias = Callable[[int, Array | None], None]
"""Told after each layer, by its number, with what it gave, or None."""

_NO_OUTPUT = "the output of this layer cannot be had"
_MOST_TOLD_BYTES = 63  # of what is expected: that and the words around it fit the 96 bytes of the library in C


@dataclass(frozen=True, slots=True)
class SimModel:
    """A model of a simulated board: its table, and what runs it.

    run: takes the inputs, fills the outputs in, and tells after each layer. All are arrays that alias the board's
    memory, of the type and shape that the table says. It may let time go by on the board's clock; what it raises
    reaches the host, a FunctionError as its text alone.
    """

    table: ModelTable
    run: Callable[[Sequence[Array], Sequence[Array], LayerDone], None]


class _Run:
    """One run of a model: how long each layer took, and what one of them gave."""

    def __init__(self, model: SimModel, clock: Clock, wanted: int | None = None, out: Array | None = None) -> None:
        self._model = model
        self._clock = clock
        self._wanted = wanted
        self._out = out
        self._layers_us = [0] * len(model.table.layers)
        self._began_us = 0
        self.is_copied = False

    def go(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> ModelProfile:
        start_us = self._began_us = self._now_us()
        self._model.run(inputs, outputs, self._layer_done)
        return ModelProfile((self._now_us() - start_us) % NUMBER_MODULUS, tuple(self._layers_us))

    def _layer_done(self, layer: int, output: Array | None) -> None:
        self._layers_us[layer] = (self._layers_us[layer] + self._now_us() - self._began_us) % NUMBER_MODULUS
        if layer == self._wanted and self._out is not None and output is not None:
            self._out[...] = output.reshape(self._out.shape)
            self.is_copied = True
        self._began_us = self._now_us()

    def _now_us(self) -> int:
        return to_microseconds(self._clock.now())


def register_models(session: RuntimeSession, models: Sequence[SimModel], clock: Clock, packet_size_bytes: int) -> None:
    """Put into the global registry of `session` what tells of `models`, and runs them; more may come to be."""

    def find(arguments: Sequence[Any]) -> SimModel:
        check_kinds(("Int",), arguments)
        number: int = arguments[0]
        if not 0 <= number < len(models):
            raise FunctionError(f"there is no such model: there are {len(models)}")
        return models[number]

    @session.functions.function(name=MODELS_FUNCTION)
    def tell(*arguments: Any) -> bytes | None:
        check_kinds(("Int", "Int"), arguments)
        number, offset = arguments[:2]
        if not 0 <= number < len(models):
            return None
        return page_of(encode_model(models[number].table), offset, free_bytes(session, packet_size_bytes))

    @session.functions.function(name=MODEL_RUN_FUNCTION)
    def run(*arguments: Any) -> None:
        model = find(arguments)
        _Run(model, clock).go(*_tensors(model.table, arguments, 1))

    @session.functions.function(name=MODEL_PROFILE_FUNCTION)
    def profile(*arguments: Any) -> bytes:
        model = find(arguments)
        return encode_profile(_Run(model, clock).go(*_tensors(model.table, arguments, 1)))

    @session.functions.function(name=MODEL_LAYER_FUNCTION)
    def layer(*arguments: Any) -> None:
        model = find(arguments)
        check_kinds(("Int", "Int"), arguments)
        wanted: int = arguments[1]
        layers = model.table.layers
        if not 0 <= wanted < len(layers):
            raise FunctionError(f"there is no such layer: there are {len(layers)}")
        output = layers[wanted].output
        if output is None:
            raise FunctionError(_NO_OUTPUT)
        inputs, outputs = _tensors(model.table, arguments, 3, output)
        one = _Run(model, clock, wanted, arguments[2])
        one.go(inputs, outputs)
        if not one.is_copied:
            raise FunctionError(_NO_OUTPUT)


def _tensors(
    table: ModelTable, arguments: Sequence[Any], first: int, layer: ModelTensor | None = None
) -> tuple[list[Array], list[Array]]:
    """Give inputs and outputs, from argument `first` on; before them stands one for the output of `layer`, if any.

    Raises FunctionError.
    """
    begin = first if layer is None else first - 1
    wanted = [*(() if layer is None else (layer,)), *table.inputs, *table.outputs]
    if len(arguments) != begin + len(wanted):
        raise FunctionError(f"{begin + len(wanted)} arguments expected, not {len(arguments)}")
    tensors: list[Array] = list(arguments[begin:])
    middle = len(tensors) - len(table.outputs)
    for index, (tensor, expected) in enumerate(zip(tensors, wanted, strict=True)):
        if not _is(tensor, expected):
            raise FunctionError(f"argument {begin + index}: {_told(expected)} expected")
        # What is written to must be nothing else's.
        others = tensors[:index] if index >= middle else tensors[: first - begin]
        if any(_overlap(tensor, other) for other in others[:index]):
            raise FunctionError(f"argument {begin + index} shares memory with another one")
    return tensors[first - begin : middle], tensors[middle:]


def _is(tensor: object, expected: ModelTensor) -> bool:
    lanes = expected.dtype.lanes
    shape = expected.shape if lanes == 1 else (*expected.shape, lanes)
    return isinstance(tensor, BoardArray) and tensor.data_type == expected.dtype and tensor.shape == shape


def _told(expected: ModelTensor) -> str:
    told = str(expected).encode("utf-8", "surrogateescape")
    if len(told) > _MOST_TOLD_BYTES:
        told = told[: _MOST_TOLD_BYTES - 3] + b"..."
    return told.decode("utf-8", "surrogateescape")


def _overlap(one: Array, other: Array) -> bool:
    a, b = (array.__array_interface__["data"][0] for array in (one, other))
    return bool(a < b + other.nbytes and b < a + one.nbytes and one.nbytes and other.nbytes)
