"""ONNX files become modules of TVM; what cannot is told in one line."""

from __future__ import annotations

import pathlib
from typing import Any

import needs
import numpy as np
import pytest

from microrpc.errors import FirmwareError
from microrpc.firmware.tvm.onnx import FUNCTION, import_model, import_onnx
from microrpc.firmware.tvm.relax import lower_model

pytestmark = [pytest.mark.tvm, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module", autouse=True)
def tvm() -> Any:
    needs.tvm()
    import tvm

    return tvm


def a_model(operator: str, *shapes: tuple[int | str, ...]) -> Any:
    """One operator, of inputs x0, x1, ...; it gives `total`."""
    import onnx
    from onnx import TensorProto, helper

    names = [f"x{i}" for i in range(len(shapes))]
    inputs = [helper.make_tensor_value_info(*pair) for pair in _described(names, shapes)]
    output = helper.make_tensor_value_info("total", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node(operator, names, ["total"])], "graph", inputs, [output])
    return onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def _described(names: list[str], shapes: tuple[tuple[int | str, ...], ...]) -> list[tuple[str, int, Any]]:
    from onnx import TensorProto

    return [(name, int(TensorProto.FLOAT), list(shape)) for name, shape in zip(names, shapes, strict=True)]


def test_a_file_becomes_a_function_whose_outputs_keep_their_names(tvm: Any, tmp_path: pathlib.Path) -> None:
    import onnx

    onnx.save(a_model("Add", (2, 3), (2, 3)), tmp_path / "sum.onnx")
    plan = lower_model(import_onnx(tmp_path / "sum.onnx"), FUNCTION, tvm.target.Target("c"), "sum")
    assert [(given.name, given.shape) for given in plan.inputs] == [("x0", (2, 3)), ("x1", (2, 3))]
    assert [given.name for given in plan.outputs] == ["total"]
    assert plan.inputs[0].dtype == np.float32


def test_a_file_that_is_not_there_is_told(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FirmwareError, match=r"none\.onnx: cannot be read: No such file or directory"):
        import_onnx(tmp_path / "none.onnx")


def test_a_file_that_is_no_model_is_told(tmp_path: pathlib.Path) -> None:
    (tmp_path / "text.onnx").write_bytes(b"\xff\xff\xff this is no model")
    with pytest.raises(FirmwareError, match=r"text\.onnx: is no ONNX model"):
        import_onnx(tmp_path / "text.onnx")


def test_an_open_shape_is_told_with_the_input_and_may_be_given(tvm: Any) -> None:
    model = a_model("Relu", ("batch", 3))
    with pytest.raises(FirmwareError, match=r"net: input 'x0' has the dynamic shape \['batch', 3\]: give it numbers"):
        import_model(model, "net")
    plan = lower_model(import_model(model, "net", {"x0": (4, 3)}), FUNCTION, tvm.target.Target("c"))
    assert plan.inputs[0].shape == (4, 3)


def test_a_shape_for_an_input_that_is_not_there_is_told() -> None:
    with pytest.raises(FirmwareError, match=r"net: has no input .image.\. There are: x0"):
        import_model(a_model("Relu", (2, 3)), "net", {"image": (2, 3)})


def test_an_operator_that_tvm_has_not_is_named() -> None:
    with pytest.raises(FirmwareError, match=r"net: TVM.s importer does not take it: .*NoSuchOperator"):
        import_model(a_model("NoSuchOperator", (2, 3)), "net")


def test_an_operator_that_tvm_does_not_take_so_is_named() -> None:
    with pytest.raises(FirmwareError, match="net: TVM's importer does not take it: MatMul: "):
        import_model(a_model("MatMul", (2, 3), (5, 7)), "net")
