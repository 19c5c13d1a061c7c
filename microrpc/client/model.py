# Generated from microrpc/client/aio/model.py by `make generate`; edit that.
"""A model in a board's firmware, as a program runs, times and checks it (docs/using_models.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from microrpc.client.remote import Owner
from microrpc.errors import ArgumentError, MicroRpcError
from microrpc.host.job import Progress
from microrpc.host.model import ModelRunner, layer_labels, layer_tensors
from microrpc.host.model_report import ModelReport
from microrpc.host.model_series import ModelSeries
from microrpc.host.quantising import from_board, numpy_shape
from microrpc.host.uncopyable import LOOK_UP_THERE, uncopyable
from microrpc.host.validation import ATOL, RTOL, DataSet, LayerDifference, Samples, Tally, Validation, difference_of
from microrpc.wire.checks import check_callable, check_seconds, check_text, check_whole, did_you_mean, show
from microrpc.wire.model import ModelLayer, ModelTable, ModelTensor

_MOST_RUNS = 1_000_000


class Model:
    """A model of the board: call it. `table` has all that the board tells of it.

    Inputs are given by position or by name. Floats are quantised where an input is quantised, and an array of its own
    dtype is taken as it is; other dtypes are converted where nothing is lost, and shapes are as the table has them. The
    memory on the board is allocated for the first run and used again until `free`, a reset, or until nobody has the
    model any more. What runs raises ArgumentError for an input that does not fit; RequestError where the board has
    other firmware now; RemoteError where the model fails; else as a call of a function does. `timeout_s` bounds the
    wait for a run, in seconds.
    """

    def __init__(self, board: Owner, model: int, table: ModelTable) -> None:
        self.board = board
        self.table = table
        self._runner = ModelRunner(board.operations, model, table)

    __reduce_ex__ = uncopyable(LOOK_UP_THERE)

    @property
    def name(self) -> str:
        """Its name, as the board tells it."""
        return self.table.name

    @property
    def hash(self) -> int:
        """Another one for other weights or another structure."""
        return self.table.hash

    @property
    def inputs(self) -> tuple[ModelTensor, ...]:
        """What it takes, each with `name`, `dtype`, `shape`, `scale` (None: it is not quantised) and `zero_point`."""
        return self.table.inputs

    @property
    def outputs(self) -> tuple[ModelTensor, ...]:
        """What it gives, as `inputs` has it."""
        return self.table.outputs

    @property
    def layers(self) -> tuple[ModelLayer, ...]:
        """Its layers in their order, each with `name` and `output`, which is None where the board cannot give it."""
        return self.table.layers

    def __call__(
        self, *inputs: npt.ArrayLike, raw: bool = False, timeout_s: float | None = None, **named: npt.ArrayLike
    ) -> Any:
        """Run it on these inputs, and give its output as an array of numpy; a tuple of them where there are several.

        Quantised outputs are given as real numbers, float32; `raw`: as they are on the board.
        """
        prepared = self._prepare(inputs, named, timeout_s)
        numbers = self.board.pump.run(self._runner.run, prepared, timeout_s=timeout_s)
        pairs = zip(self.outputs, numbers, strict=True)
        results = tuple(from_board(tensor, array, raw=raw) for tensor, array in pairs)
        return results[0] if len(results) == 1 else results

    def profile(
        self, *inputs: npt.ArrayLike, repeat: int = 1, timeout_s: float | None = None, **named: npt.ArrayLike
    ) -> ModelReport:
        """Run it `repeat` times and tell how long each layer took by the board's clock; `print` shows a table.

        The report has the share of the transport, and what was used of the board's memory, too.
        """
        check_whole(repeat, "repeat", 1, _MOST_RUNS)
        prepared = self._prepare(inputs, named, timeout_s)
        return self.board.pump.run(self._runner.profile, prepared, repeat=repeat, timeout_s=timeout_s)

    def layer_outputs(
        self, *inputs: npt.ArrayLike, raw: bool = False, timeout_s: float | None = None, **named: npt.ArrayLike
    ) -> dict[str, npt.NDArray[Any]]:
        """Give what each layer gives for these inputs, of those that the board can give, by their names, in order.

        It is run once for each of them. Of several layers with one name the second has `#2` behind it.
        """
        prepared, names = self._prepare(inputs, named, timeout_s), layer_labels(self.table)
        found = {}
        for layer, tensor in layer_tensors(self.table).items():
            numbers = self.board.pump.run(self._runner.layer, prepared, layer, timeout_s=timeout_s)
            found[names[layer]] = from_board(tensor, numbers, raw=raw)
        return found

    def first_difference(
        self,
        *inputs: npt.ArrayLike,
        reference: Mapping[str, npt.ArrayLike],
        rtol: float = RTOL,
        atol: float = ATOL,
        timeout_s: float | None = None,
        **named: npt.ArrayLike,
    ) -> LayerDifference | None:
        """Give the first layer that parts from a reference; None where none does.

        `reference` has what layers should give, by the names of `layer_outputs`; others are not looked at. Tolerances
        are those of `validate`. Raises ArgumentError for a name or a shape that is none of the model's.
        """
        prepared = self._prepare(inputs, named, timeout_s)
        names, tensors = layer_labels(self.table), layer_tensors(self.table)
        wanted = {names[layer]: layer for layer in tensors}
        expected = {}
        for name, data in reference.items():
            if name not in wanted:
                hint = did_you_mean(name, wanted) or f": they are {', '.join(map(show, wanted))}"
                raise ArgumentError(f"no layer {show(name)} gives anything that can be had{hint}")
            expected[wanted[name]] = np.asarray(data)
            shape = numpy_shape(tensors[wanted[name]])
            if expected[wanted[name]].shape != shape:
                text = f"the reference of layer {show(name)} has the shape {expected[wanted[name]].shape}, not {shape}"
                raise ArgumentError(f"{text}; nothing was sent")
        for layer in sorted(expected):
            numbers = self.board.pump.run(self._runner.layer, prepared, layer, timeout_s=timeout_s)
            difference = difference_of(tensors[layer], numbers, expected[layer], rtol=rtol, atol=atol)
            if difference is not None and not difference.is_close:
                return LayerDifference(layer, names[layer], difference)
        return None

    def validate(
        self,
        inputs: DataSet,
        expected: DataSet,
        *,
        rtol: float = RTOL,
        atol: float = ATOL,
        on_progress: Progress | None = None,
        timeout_s: float | None = None,
    ) -> Validation:
        """Run it on each sample of a data set, and hold its outputs against what is expected.

        `inputs` and `expected` are arrays with one dimension more, in front, the samples (a first dimension of 1 may be
        left out): one array, or a list or dict of them where the model has several. They are close where |output -
        expected| <= atol + rtol * |expected|; `expected` of a quantised output's own dtype is held against its raw
        numbers. `on_progress` is called with (samples done, samples in all). Over a link the next input is copied while
        the board computes, as far as its port takes that. An error says at which sample it was.
        """
        check_callable(on_progress, "on_progress")
        if timeout_s is not None:
            check_seconds(timeout_s, "timeout_s")
        samples = Samples(self.table, inputs)
        count = len(samples)
        tally = Tally(self.table, expected, count, rtol=rtol, atol=atol)
        series = ModelSeries(self._runner)
        sample = 0
        try:
            current = samples.at(sample)
            while current is not None:
                following = samples.at(sample + 1)
                tally.add(self.board.pump.run(series.step, current, following, timeout_s=timeout_s))
                current, sample = following, sample + 1
                if on_progress is not None:
                    on_progress(sample, count)
        except MicroRpcError as error:
            error.add_note(f"this was at sample {sample} of {count}")
            raise
        finally:
            series.discard()
        return tally.result

    def free(self) -> None:
        """Give its memory on the board back now; another run allocates it anew."""
        self._runner.discard()
        self.board.collect(portion=True)

    def _prepare(
        self, inputs: tuple[npt.ArrayLike, ...], named: Mapping[str, npt.ArrayLike], timeout_s: float | None
    ) -> list[npt.NDArray[Any]]:
        if timeout_s is not None:
            check_seconds(timeout_s, "timeout_s")
        return self._runner.prepare(inputs, named)

    def __repr__(self) -> str:
        takes, gives = (", ".join(map(str, tensors)) for tensors in (self.inputs, self.outputs))
        return f"<Model {self.name!r}: ({takes}) -> ({gives})>"


class ModelsOf:
    """What gives a board its models."""

    def models(self: Owner) -> list[ModelTable]:
        """Give what the board tells of the models in its firmware, in order: names, inputs, outputs, layers.

        Raises FeatureMissingError where it has been built without, ProtocolError where what it tells is not as it
        must be, else as a look-up does.
        """
        return list(self.pump.run(self.operations.models.read))

    def model(self: Owner, name: str | None = None) -> Model:
        """Give the model of that name in the board's firmware; without a name the only one (docs/using_models.md).

        Raises RequestError where there is none of that name, or several and no name; else as `models`.
        """
        if name is not None:
            check_text(name, "the name of a model")
        return Model(self, *self.pump.run(self.operations.models.find, name))
