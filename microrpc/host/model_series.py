"""One run of a model after the other: the next input is copied while the board computes (docs/using_models.md)."""

from __future__ import annotations

import contextlib
from typing import Any, Generic

import numpy.typing as npt

from microrpc.errors import RemoteError
from microrpc.host.making import ArrayT
from microrpc.host.model import Arrays, ModelRunner, take_nothing
from microrpc.host.operation import Operation
from microrpc.wire.names import MODEL_RUN_FUNCTION


class ModelSeries(Generic[ArrayT]):
    """Runs of the model behind `runner`, in memory of their own: two blocks for inputs, where there is room for two."""

    def __init__(self, runner: ModelRunner[ArrayT]) -> None:
        self._runner = runner
        self._inputs: list[ArrayT] = []
        self._outputs: list[ArrayT] = []
        self._loaded: Arrays | None = None

    def step(
        self, inputs: Arrays, following: Arrays | None, *, timeout_s: float | None = None
    ) -> Operation[list[npt.NDArray[Any]]]:
        """Run it and give its outputs as they are on the board; have `following` there for the next step, or a part.

        `inputs` are copied where they were not `following` in the step before.
        """
        return (yield from self._runner.noting_resets(self._step(inputs, following, timeout_s)))

    def _step(
        self, inputs: Arrays, following: Arrays | None, timeout_s: float | None
    ) -> Operation[list[npt.NDArray[Any]]]:
        yield from self._runner.check()
        if not all(array.is_live for array in (*self._inputs, *self._outputs)) or not self._outputs:
            yield from self._allocate()
        x, y = self._inputs[0], self._outputs[0]
        if self._loaded is not inputs:
            yield from self._runner.write(inputs, x)
        self._loaded = None
        job = None
        if following is not None and len(self._inputs) > 1:
            job = self._runner.job(following, self._inputs[1])
        yield from self._runner.call(MODEL_RUN_FUNCTION, (), x, y, take_nothing, timeout_s=timeout_s, beside=job)
        if job is not None and not job.todo:
            self._inputs.reverse()
            self._loaded = following
        return (yield from self._runner.read(y))

    def _allocate(self) -> Operation[None]:
        self.discard()
        inputs, runner = self._runner.inputs, self._runner
        self._inputs = [(yield from runner.empty(inputs))]
        self._outputs = [(yield from runner.empty(runner.outputs))]
        if inputs.size_bytes:
            with contextlib.suppress(RemoteError):  # no room for it: then one after the other
                self._inputs.append((yield from runner.empty(inputs)))

    def discard(self) -> None:
        """Give its memory on the board back, with the next requests."""
        arrays, self._inputs, self._outputs, self._loaded = [*self._inputs, *self._outputs], [], [], None
        for array in reversed(arrays):
            array.discard(first=True)
