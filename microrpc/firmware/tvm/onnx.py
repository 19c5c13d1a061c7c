"""An ONNX file as a module of TVM, by TVM's own importer."""

from __future__ import annotations

import contextlib
import io
import pathlib
import re
import warnings
from typing import Any

from microrpc.errors import FirmwareError
from microrpc.firmware.tvm.compiler import import_tvm, reason_of_tvm
from microrpc.firmware.tvm.relax import OUTPUT_NAMES

FUNCTION = "main"
"""What TVM's importer calls the function that it makes."""


def import_onnx(path: pathlib.Path, shapes: dict[str, tuple[int, ...]] | None = None) -> Any:
    """Read an ONNX file: an IRModule with one Relax function, `FUNCTION`.

    `shapes` gives those of inputs which the file leaves open, by their names. Raises FirmwareError: no such file, no
    model, an input whose shape is open, or what TVM does not take, by the operator.
    """
    import onnx

    try:
        model = onnx.load(path)
    except OSError as error:
        raise FirmwareError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # protobuf's, which is no dependency of ours
        raise FirmwareError(f"{path}: is no ONNX model: {error}") from error
    return import_model(model, str(path), shapes)


def import_model(model: Any, name: str, shapes: dict[str, tuple[int, ...]] | None = None) -> Any:
    """The same with a ModelProto; `name` is what errors call it."""
    import_tvm()
    from tvm.relax.frontend.onnx import from_onnx

    given = shapes or {}
    _check_inputs(model, name, given)
    printed = io.StringIO()  # the importer prints at which operator it fails
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
            warnings.simplefilter("ignore")  # TVM turns the complaints of ONNX's checker into these
            module = from_onnx(model, shape_dict={key: list(shape) for key, shape in given.items()} or None)
    except Exception as error:  # whatever TVM raises: its importer has no class of its own
        raise FirmwareError(f"{name}: TVM's importer does not take it: {_reason(error, printed.getvalue())}") from error
    outputs = [output.name for output in model.graph.output]
    module.update_func(module.get_global_var(FUNCTION), module[FUNCTION].with_attr(OUTPUT_NAMES, outputs))
    return module


def _check_inputs(model: Any, name: str, given: dict[str, tuple[int, ...]]) -> None:
    constants = {initializer.name for initializer in model.graph.initializer}
    names = [entry.name for entry in model.graph.input if entry.name not in constants]
    for key in given:
        if key not in names:
            raise FirmwareError(f"{name}: has no input {key!r}. There are: {', '.join(names) or 'none'}")
    for entry in model.graph.input:
        if entry.name in constants or entry.name in given:
            continue
        kind = entry.type.WhichOneof("value")
        if kind != "tensor_type":
            raise FirmwareError(f"{name}: input {entry.name!r} is no tensor but a {str(kind).removesuffix('_type')}")
        tensor = entry.type.tensor_type
        if not tensor.HasField("shape"):
            raise FirmwareError(f"{name}: input {entry.name!r} has no shape: give it one")
        for extent in tensor.shape.dim:
            if not extent.HasField("dim_value"):
                shown = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in tensor.shape.dim]
                raise FirmwareError(f"{name}: input {entry.name!r} has the dynamic shape {shown}: give it numbers")


def _reason(error: BaseException, printed: str) -> str:
    """What TVM says, after the operator that it was at."""
    found = re.search(r"Error converting operator (\w+)", printed)
    said = reason_of_tvm(error)
    return f"{found[1]}: {said}" if found is not None else said
