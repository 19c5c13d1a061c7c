"""A model on a data set: samples in, outputs held against what was expected (docs/using_models.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from microrpc.errors import ArgumentError, printable
from microrpc.host.comparing import Difference, check_tolerance, compare
from microrpc.host.handles import as_source
from microrpc.host.model import Arrays, bind, labels, list_tensors
from microrpc.host.quantising import from_board, is_quantised, numpy_shape, to_board
from microrpc.wire.checks import show
from microrpc.wire.model import ModelTable, ModelTensor

RTOL, ATOL = 1e-5, 1e-6
"""What two numbers may differ by where nothing else is said: atol + rtol * |expected|."""

DataSet: TypeAlias = npt.ArrayLike | Sequence[npt.ArrayLike] | Mapping[str, npt.ArrayLike]
"""Arrays of samples: one for a model with one input; else a list of them, or a dict with their names."""


@dataclass(frozen=True, slots=True)
class WorstError:
    """The element that is furthest from what was expected: of which sample and which output, and the difference."""

    sample: int
    output: str
    difference: Difference

    def __str__(self) -> str:
        at = self.difference
        where = f"sample {self.sample}, output {printable(self.output)}{list(at.index)}"
        return f"{at.error:.6g} ({where}: {at.got:.9g}, expected {at.expected:.9g})"


@dataclass(frozen=True, slots=True)
class Validation:
    """What came of a data set: true where all `samples` are as close as they should be.

    failed: how many are not, and first_failed: the number of the first; None where there is none. worst: the largest
    error of all; of those that are not close, where there are any. None where no output has elements.
    """

    samples: int
    failed: int
    first_failed: int | None
    worst: WorstError | None

    def __bool__(self) -> bool:
        return not self.failed

    def __str__(self) -> str:
        passed = f"{self.samples - self.failed} of {self.samples} samples agree"
        first = f"; the first that does not is sample {self.first_failed}" if self.failed else ""
        return f"{passed}{first}; worst error {self.worst}" if self.worst is not None else f"{passed}{first}"


@dataclass(frozen=True, slots=True)
class LayerDifference:
    """Where a layer, by its number and name, parts from a reference, and what the difference is."""

    layer: int
    name: str
    difference: Difference

    def __str__(self) -> str:
        at = self.difference
        where = f"layer {self.layer}, {printable(self.name)}{list(at.index)}"
        return f"{at.error:.6g} ({where}: {at.got:.9g}, expected {at.expected:.9g})"


class Samples:
    """The samples of a data set, one after the other: what goes to the board for each.

    Each array has one dimension more than the tensor, in front; or takes the place of a first dimension of 1.
    Raises ArgumentError where they do not fit the model, or each other.
    """

    def __init__(self, table: ModelTable, inputs: DataSet) -> None:
        self._tensors = table.inputs
        self._labels = labels(table.inputs)
        sets = _as_list(table, inputs)
        self._are_literal = [not hasattr(data, "dtype") for data in sets]
        self._arrays = [
            _samples_of(tensor, data, f"input {show(name)}")
            for tensor, name, data in zip(self._tensors, self._labels, sets, strict=True)
        ]
        self._count = _count(self._arrays, self._labels, "input")

    def __len__(self) -> int:
        return self._count

    def at(self, index: int) -> Arrays | None:
        """Give the inputs of a sample as they are copied to the board; None behind the last. Raises ArgumentError."""
        if index >= self._count:
            return None
        return [
            to_board(tensor, array[index], f"sample {index} of input {show(name)}", is_literal=is_literal)
            for tensor, name, array, is_literal in zip(
                self._tensors, self._labels, self._arrays, self._are_literal, strict=True
            )
        ]


class Tally:
    """Holds the outputs of `count` samples against what was `expected`.

    That is real numbers, or, where an array has the type of a quantised output, its raw ones. Raises ArgumentError
    where they do not fit the model or the samples, RequestError for a tolerance that is none.
    """

    def __init__(self, table: ModelTable, expected: DataSet, count: int, *, rtol: float, atol: float) -> None:
        self._rtol, self._atol = check_tolerance(rtol, "rtol"), check_tolerance(atol, "atol")
        self._tensors = table.outputs
        self._labels = labels(table.outputs)
        sets = _outputs_as_list(table, expected)
        self._expected = [
            _samples_of(tensor, data, f"expected output {show(name)}")
            for tensor, name, data in zip(self._tensors, self._labels, sets, strict=True)
        ]
        found = _count(self._expected, self._labels, "expected output")
        if found != count:
            raise ArgumentError(f"there are {count} samples, and {found} expected outputs; nothing was sent")
        self._samples = self._failed = 0
        self._first_failed: int | None = None
        self._worst: WorstError | None = None

    def add(self, outputs: Arrays) -> bool:
        """Take the outputs of the next sample, as they were on the board; give whether they are close."""
        sample, is_close = self._samples, True
        for tensor, name, numbers, all_expected in zip(
            self._tensors, self._labels, outputs, self._expected, strict=True
        ):
            expected = all_expected[sample]
            difference = difference_of(tensor, numbers, expected, rtol=self._rtol, atol=self._atol)
            if difference is not None:
                is_close &= difference.is_close
                self._note(WorstError(sample, name, difference))
        self._samples += 1
        if not is_close:
            self._failed += 1
            self._first_failed = sample if self._first_failed is None else self._first_failed
        return is_close

    def _note(self, found: WorstError) -> None:
        worst = self._worst
        if worst is None or _badness(found) > _badness(worst):
            self._worst = found

    @property
    def result(self) -> Validation:
        """What came of it so far."""
        return Validation(self._samples, self._failed, self._first_failed, self._worst)


def difference_of(
    tensor: ModelTensor, numbers: npt.NDArray[Any], expected: npt.NDArray[Any], *, rtol: float, atol: float
) -> Difference | None:
    """Compare what is on the board with real numbers, or with raw ones where `expected` has the tensor's own type."""
    raw = is_quantised(tensor) and expected.dtype == numbers.dtype
    return compare(from_board(tensor, numbers, raw=raw), expected, rtol=rtol, atol=atol)


def _badness(worst: WorstError) -> tuple[bool, float]:
    return not worst.difference.is_close, worst.difference.error


def _as_list(table: ModelTable, inputs: DataSet) -> list[Any]:
    if isinstance(inputs, Mapping):
        return bind(table, (), inputs)
    return bind(table, (inputs,) if len(table.inputs) == 1 else list(inputs), {})  # type: ignore[arg-type]


def _outputs_as_list(table: ModelTable, expected: DataSet) -> list[Any]:
    names = labels(table.outputs)
    gives = f"model {show(table.name)} gives {list_tensors(table.outputs)}"
    if isinstance(expected, Mapping):
        if set(expected) != set(names):
            raise ArgumentError(f"{gives}; expected were {', '.join(map(show, expected))}; nothing was sent")
        return [expected[name] for name in names]
    sets = [expected] if len(names) == 1 else list(expected)  # type: ignore[arg-type]
    if len(sets) != len(names):
        raise ArgumentError(f"{gives}, and {len(sets)} outputs were expected; nothing was sent")
    return sets


def _samples_of(tensor: ModelTensor, data: npt.ArrayLike, what: str) -> npt.NDArray[Any]:
    array, shape = as_source(data), numpy_shape(tensor)
    if array.shape[1:] == shape and array.ndim:
        return array
    if shape[:1] == (1,) and array.ndim == len(shape) and array.shape[1:] == shape[1:]:
        return array[:, np.newaxis]
    raise ArgumentError(f"{what} has the shape {array.shape}, not (N, {str(shape)[1:]}: N samples of {shape}")


def _count(arrays: Sequence[npt.NDArray[Any]], names: Sequence[str], what: str) -> int:
    counts = {name: len(array) for name, array in zip(names, arrays, strict=True)}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count} of {show(name)}" for name, count in counts.items())
        raise ArgumentError(f"each {what} has as many samples, not {told}; nothing was sent")
    count = next(iter(counts.values()), 0)
    if not count:
        raise ArgumentError(f"there is no sample: {what}s have none; nothing was sent")
    return count
