"""The tests of ONNX's backend, as the pip package onnx ships them: models, with inputs and expected outputs."""

from __future__ import annotations

import pathlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

RTOL, ATOL = 1e-3, 1e-7
"""How far a result may be off where the case does not say: what ONNX's own runner takes."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model as a ModelProto, and its data sets: inputs and expected outputs, which are arrays or what is none."""

    name: str
    kind: str
    model: Any
    data_sets: tuple[tuple[tuple[Any, ...], tuple[Any, ...]], ...]
    rtol: float = RTOL
    atol: float = ATOL


def shipped_cases() -> Iterator[Case]:
    """Those that lie in files: `simple`, `pytorch-converted` and `pytorch-operator`, in the order of their names."""
    import onnx

    folder = pathlib.Path(onnx.__file__).parent / "backend" / "test" / "data"
    for kind in ("simple", "pytorch-converted", "pytorch-operator"):
        for path in sorted((folder / kind).iterdir()):
            yield shipped_case(path)


def shipped_case(path: pathlib.Path) -> Case:
    """The case of a folder of files."""
    import onnx

    model = onnx.load(path / "model.onnx")
    data_sets = tuple(
        (_arrays(data, "input", model.graph.input), _arrays(data, "output", model.graph.output))
        for data in sorted(path.glob("test_data_set_*"))
    )
    return Case(path.name, path.parent.name, model, data_sets)


def _arrays(folder: pathlib.Path, which: str, described: Any) -> tuple[Any, ...]:
    import onnx
    from onnx import numpy_helper

    found = []
    for i in range(len(list(folder.glob(f"{which}_*.pb")))):
        data = (folder / f"{which}_{i}.pb").read_bytes()
        is_tensor = described[i].type.WhichOneof("value") == "tensor_type"
        found.append(numpy_helper.to_array(onnx.TensorProto.FromString(data)) if is_tensor else data)
    return tuple(found)


def made_cases() -> Iterator[Case]:
    """Those that onnx makes when it is asked, `node`: one operator each, most of them with several cases."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        made = collect_testcases(None)
    for case in sorted(made, key=lambda case: str(case.name)):
        data_sets = tuple((_plain(given), _plain(expected)) for given, expected in case.data_sets or ())
        yield Case(case.name, case.kind, case.model, data_sets, case.rtol, case.atol)


def _plain(values: Iterable[Any]) -> tuple[Any, ...]:
    """Numbers and TensorProtos as arrays."""
    from onnx import TensorProto, numpy_helper

    return tuple(
        numpy_helper.to_array(value)
        if isinstance(value, TensorProto)
        else np.asarray(value)
        if isinstance(value, np.generic | int | float)
        else value
        for value in values
    )


def is_close(given: npt.NDArray[Any], expected: npt.NDArray[Any], case: Case) -> bool:
    """Whether a result is what the case wants, within its tolerances; of whole numbers exactly."""
    if given.shape != expected.shape or given.dtype != expected.dtype:
        return False
    if expected.dtype.kind != "f":
        return bool(np.array_equal(given, expected))
    return bool(np.allclose(given, expected, case.rtol, case.atol, equal_nan=True))
