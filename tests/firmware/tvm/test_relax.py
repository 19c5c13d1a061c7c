"""Relax functions of TVM become plans: what is taken, what is refused, and what lies where."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import needs
import numpy as np
import numpy.typing as npt
import pytest
from onnx_on_host import HostModel, compile_adapter

from microrpc.errors import FirmwareError
from microrpc.firmware.tvm.plan import ModelPlan, Place, Quantization
from microrpc.firmware.tvm.relax import lower_model, relax_functions

pytestmark = [pytest.mark.tvm, pytest.mark.filterwarnings("ignore")]  # TVM's own code warns


@pytest.fixture(scope="module", autouse=True)
def tvm() -> Any:
    needs.tvm()
    import tvm

    return tvm


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    needs.program("gcc")
    return compile_adapter(tmp_path_factory.mktemp("adapter"))


def a_module(*shapes: tuple[int, ...], body: Callable[..., Any], dtype: str = "float32") -> Any:
    """A module with one function `main`: its parameters are tensors, `body` gives what it gives."""
    from tvm import relax

    builder = relax.BlockBuilder()
    type_of_tensor = getattr(relax, "TensorType", None) or relax.TensorStructInfo
    parameters = [relax.Var(f"x{i}", type_of_tensor(shape, dtype)) for i, shape in enumerate(shapes)]
    with builder.function("main", parameters):
        with builder.dataflow():
            given = body(builder, *parameters)
            result = builder.emit_output(given if not isinstance(given, tuple) else relax.Tuple(list(given)))
        builder.emit_func_output(result)
    return builder.finalize()


def plan_of(module: Any, name: str | None = None) -> ModelPlan:
    import tvm

    return lower_model(module, "main", tvm.target.Target("c"), name)


def places(plan: ModelPlan) -> list[list[tuple[str, int]]]:
    return [[(ref.where.value, ref.index) for ref in step.arguments] for step in plan.steps]


EXAMPLES = pathlib.Path(__file__).resolve().parents[3] / "examples" / "tvm_models.py"
BRANCHING = """
@I.ir_module
class Branching:
    @R.function
    def main(x: R.Tensor((4,), "float32"), flag: R.Tensor((), "bool")) -> R.Tensor((4,), "float32"):
        if flag:
            y = R.add(x, x)
        else:
            y = R.multiply(x, x)
        return y
"""


def numbers(*shape: int, seed: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, "float32")


def mlp() -> Any:
    from tvm import relax

    weights = [relax.const(numbers(8, 16, seed=2)), relax.const(numbers(16, 4, seed=3))]

    def body(builder: Any, x: Any) -> Any:
        hidden = builder.emit(relax.op.nn.relu(builder.emit(relax.op.matmul(x, weights[0]))))
        return builder.emit(relax.op.matmul(hidden, weights[1]))

    return a_module((3, 8), body=body)


def test_a_model_computes_what_numpy_does(adapter: pathlib.Path, tmp_path: pathlib.Path) -> None:
    plan = plan_of(mlp(), "mlp")
    x = numbers(3, 8)
    (result,) = HostModel(plan, adapter, tmp_path)(x)
    np.testing.assert_allclose(
        result, np.maximum(x @ numbers(8, 16, seed=2), 0) @ numbers(16, 4, seed=3), rtol=1e-5, atol=1e-6
    )


def test_the_last_kernel_writes_into_the_callers_buffer_and_only_what_is_between_is_in_the_arena() -> None:
    plan = plan_of(mlp(), "mlp")
    assert places(plan) == [
        [("input", 0), ("constant", 0), ("arena", 0)],
        [("arena", 0), ("constant", 1), ("output", 0)],
    ]
    assert plan.arena_bytes == 3 * 16 * 4
    assert plan.weights_bytes == (8 * 16 + 16 * 4) * 4
    assert plan.layers == ("matmul_relu", "matmul1")
    assert sorted(plan.prim_funcs) == ["mlp_fused_matmul_relu", "mlp_matmul1"]


def test_a_reshape_is_no_kernel_wherever_it_stands(adapter: pathlib.Path, tmp_path: pathlib.Path) -> None:
    from tvm import relax

    def body(builder: Any, x: Any) -> Any:
        flat = builder.emit(relax.op.reshape(x, (6,)))
        doubled = builder.emit(relax.op.cumsum(flat, axis=0))
        return builder.emit(relax.op.reshape(doubled, (3, 2)))

    plan = plan_of(a_module((2, 3), body=body))
    assert places(plan) == [[("input", 0), ("output", 0)]]
    x = numbers(2, 3)
    (result,) = HostModel(plan, adapter, tmp_path)(x)
    np.testing.assert_allclose(result, x.reshape(6).cumsum().reshape(3, 2), rtol=1e-6)


def test_what_no_kernel_gives_is_copied_into_the_outputs(adapter: pathlib.Path, tmp_path: pathlib.Path) -> None:
    from tvm import relax

    def body(builder: Any, x: Any) -> Any:
        doubled = builder.emit(relax.op.add(x, x))
        return (x, doubled, doubled, relax.const(np.array([7.0, 8.0], "float32")))

    plan = plan_of(a_module((2,), body=body))
    assert places(plan)[1:] == [
        [("input", 0), ("output", 0)],
        [("output", 1), ("output", 2)],
        [("constant", 0), ("output", 3)],
    ]
    assert [step.kernel is None for step in plan.steps] == [False, True, True, True]
    assert plan.layers == ("add", "copy", "copy.2", "copy.3")
    results = HostModel(plan, adapter, tmp_path)(np.array([1, -2], "float32"))
    assert [result.tolist() for result in results] == [[1, -2], [2, -4], [2, -4], [7, 8]]


def test_buffers_that_are_not_needed_together_share_the_arena() -> None:
    from tvm import relax

    def body(builder: Any, x: Any) -> Any:
        for i in range(6):
            x = builder.emit(relax.op.matmul(x, relax.const(numbers(16, 16, seed=i))))
        return x

    plan = plan_of(a_module((4, 16), body=body))
    assert len(plan.steps) == 6
    assert plan.arena_bytes == 2 * 4 * 16 * 4


def test_the_same_constant_is_in_flash_once() -> None:
    from tvm import relax

    def body(builder: Any, x: Any) -> Any:
        once = builder.emit(relax.op.matmul(x, relax.const(numbers(4, 4))))
        return builder.emit(relax.op.matmul(once, relax.const(numbers(4, 4))))

    plan = plan_of(a_module((4, 4), body=body))
    assert len(plan.constants) == 1
    assert len(plan.prim_funcs) == 1


def test_a_convolution_with_bias_and_relu_takes_workspace_for_its_padding_only() -> None:
    from tvm import relax

    def body(builder: Any, x: Any) -> Any:
        weights, bias = relax.const(numbers(8, 4, 3, 3)), relax.const(numbers(1, 8, 1, 1))
        found = builder.emit(relax.op.nn.conv2d(x, weights, padding=1))
        return builder.emit(relax.op.nn.relu(builder.emit(relax.op.add(found, bias))))

    plan = plan_of(a_module((1, 4, 20, 20), body=body))
    assert plan.layers == ("conv2d_add_relu",)
    assert plan.arena_bytes == 0
    assert plan.workspace_bytes == 4 * 22 * 22 * 4


def test_scale_and_zero_point_come_from_what_quantises_and_dequantises() -> None:
    from tvm import relax

    scale, zero = relax.const(np.float32(0.5)), relax.const(np.int8(-3))

    def body(builder: Any, x: Any) -> Any:
        real = builder.emit(relax.op.dequantize(x, scale, zero))
        doubled = builder.emit(relax.op.nn.relu(real))
        return builder.emit(relax.op.quantize(doubled, relax.const(np.float32(0.25)), relax.const(np.int8(4))))

    plan = plan_of(a_module((8,), body=body, dtype="int8"))
    assert plan.inputs[0].quantization == Quantization(0.5, -3)
    assert plan.outputs[0].quantization == Quantization(0.25, 4)


def test_a_module_tells_its_relax_functions() -> None:
    assert relax_functions(mlp()) == ["main"]


def test_a_function_that_is_not_there_is_told_with_those_that_are() -> None:
    import tvm

    with pytest.raises(FirmwareError, match=r"forward: is no Relax function of the module\. There are: main"):
        lower_model(mlp(), "forward", tvm.target.Target("c"))


def test_a_dynamic_shape_is_told_with_its_parameter() -> None:
    from tvm import relax, tirx

    module = a_module((tirx.Var("n", "int64"), 4), body=lambda builder, x: builder.emit(relax.op.add(x, x)))
    with pytest.raises(FirmwareError, match="main: parameter x0: has a dynamic extent, n: give it a number"):
        plan_of(module)


def test_a_type_that_boards_have_not_is_told_with_its_parameter() -> None:
    from tvm import relax

    module = a_module((4,), body=lambda builder, x: builder.emit(relax.op.add(x, x)), dtype="float16")
    with pytest.raises(FirmwareError, match="main: parameter x0: is of float16, which boards do not compute with"):
        plan_of(module)


def test_a_parameter_that_is_a_tuple_is_refused() -> None:
    from tvm import relax

    builder = relax.BlockBuilder()
    tensor = relax.TensorType((4,), "float32")
    pair = relax.Var("pair", relax.TupleType([tensor, tensor]))
    with builder.function("main", [pair]):
        builder.emit_func_output(builder.emit(relax.op.add(pair[0], pair[1])))
    with pytest.raises(FirmwareError, match="main: parameter pair: is a tuple: give its tensors as parameters"):
        plan_of(builder.finalize())


def test_a_branch_is_refused_with_its_binding() -> None:
    import tvm

    with pytest.raises(FirmwareError, match="main: binding y: is a branch: a model for a board is a fixed list"):
        plan_of(tvm.script.from_source(BRANCHING))


def test_a_function_of_the_hosts_is_refused_by_its_name() -> None:
    from tvm import relax

    def body(builder: Any, x: Any) -> Any:
        return builder.emit(relax.op.call_dps_packed("my.function", (x,), relax.TensorType((4,), "float32")))

    with pytest.raises(FirmwareError, match=r"main: binding .*: calls my\.function by relax\.call_dps_packed"):
        plan_of(a_module((4,), body=body))


def test_an_operator_that_tvm_has_no_kernel_for_is_told() -> None:
    from tvm import relax

    def body(builder: Any, x: Any) -> Any:
        return builder.emit(relax.op.unique(x))

    with pytest.raises(
        FirmwareError, match=r"main: binding gv: calls relax\.run\.unique: a board has kernels of TVM's compiler only"
    ):
        plan_of(a_module((4,), body=body))


def test_a_kernel_that_calls_tvms_runtime_is_refused() -> None:
    from tvm import relax

    module = a_module((4,), body=lambda builder, x: builder.emit(relax.op.sort(x)))
    with pytest.raises(
        FirmwareError, match=r"main_sort: calls tvm\.contrib\.sort\.sort by call_packed, which no board has"
    ):
        plan_of(module)


def test_of_several_functions_each_is_lowered_alone() -> None:
    import tvm

    module = tvm.IRModule({})
    for name in ("first", "second"):
        module[name] = mlp()["main"].with_attr("global_symbol", name)
    plans = [lower_model(module, name, tvm.target.Target("c")) for name in ("first", "second")]
    assert [plan.layers for plan in plans] == [("matmul_relu", "matmul1")] * 2
    assert not {*plans[0].prim_funcs} & {*plans[1].prim_funcs}


def test_every_step_of_a_plan_reads_what_was_written_before() -> None:
    plan = plan_of(mlp())
    written = {(Place.INPUT, i) for i in range(len(plan.inputs))} | {
        (Place.CONSTANT, i) for i in range(len(plan.constants))
    }
    for step in plan.steps:
        for ref in step.arguments[: len(step.arguments) - step.output_count]:
            assert (ref.where, ref.index) in written
        written |= {(ref.where, ref.index) for ref in step.outputs}
    assert {(Place.OUTPUT, i) for i in range(len(plan.outputs))} <= written


@pytest.mark.parametrize("name", ["mlp", "convnet"])
def test_the_models_of_the_examples_give_what_tvms_own_runtime_does(
    name: str, adapter: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    import tvm
    from tvm import relax

    from microrpc.firmware.tvm.source import load_source

    module = load_source(f"{EXAMPLES}:{name}").module
    plan = lower_model(module, name, tvm.target.Target("c"))
    x = np.random.default_rng(5).random(plan.inputs[0].shape, "float32")
    machine = relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())
    expected = machine[name](tvm.runtime.tensor(x)).numpy()
    (result,) = HostModel(plan, adapter, tmp_path)(x)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-6)
