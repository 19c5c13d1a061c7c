"""Models of ONNX's own tests, built into firmware, agree with what ONNX expects of them: ten in each firmware."""

from __future__ import annotations

import contextlib
import functools
import pathlib
import tomllib
import warnings
from collections.abc import Iterator
from typing import Any

import needs
import pytest
from onnx_cases import Case, is_close, made_cases, shipped_cases

import microrpc
from microrpc.firmware.emulator import Emulator
from microrpc.firmware.project import load_port
from microrpc.wire.model import ModelTable

pytestmark = pytest.mark.tvm

MOST_DIFFERENT = (
    "Conv2d_padding Conv2d_depthwise_with_multiplier MaxPool2d AvgPool2d_stride BatchNorm2d_eval Linear operator_chunk "
    "softmax_lastdim PReLU_2d matmulinteger",
    "ConvTranspose2d Conv1d_groups log_softmax_dim3 PixelShuffle operator_addmm add_uint8 quantizelinear_axis "
    "dequantizelinear_axis maxpool_2d_uint8 argmax_keepdims_example",
)
"""Those that run on every board."""
GROUPS = (
    *MOST_DIFFERENT,
    "Conv1d Conv1d_dilated Conv2d Conv2d_strided Conv2d_dilated Conv2d_groups Conv2d_depthwise_padded Conv3d "
    "Conv3d_stride_padding basic_conv_with_padding",
    "AvgPool1d AvgPool3d MaxPool1d MaxPool2d_stride_padding_dilation MaxPool3d BatchNorm1d_3d_input_eval "
    "BatchNorm3d_momentum_eval globalaveragepool ReflectionPad2d instancenorm_example",
    "ReLU ELU LeakyReLU SELU Sigmoid Tanh Softplus Softsign ReplicationPad2d gelu_tanh_1",
    "Linear_no_bias Embedding ConstantPad2d lrn GLU sign_model depthtospace_example "
    "gather_elements_0 transpose_all_permutations_3 scatter_elements_with_axis",
    "operator_basic operator_clip operator_concat2 operator_flatten operator_maxpool operator_mm operator_params "
    "operator_permute2 operator_pow operator_reduced_mean",
    "sub_int8 mul_uint8 div_int32_trunc max_int8 min_uint8 mod_mixed_sign_int32 bitwise_xor_i32_2d bitshift_left_uint8 "
    "ZeroPad2d single_relu_model",
)
HERE = tuple(name for group in GROUPS for name in group.split())
ELSEWHERE = tuple(name for group in MOST_DIFFERENT for name in group.split())
BOARDS = ("qemu_mps2_an385", "qemu_riscv32_virt")


@functools.cache
def cases() -> dict[str, Case]:
    """All cases, by their names without "test_"."""
    return {case.name.removeprefix("test_"): case for case in (*made_cases(), *shipped_cases())}


def module_of(names: str) -> Any:
    """One IRModule with a function for each case; what the importer has made besides keeps its kernels' names apart."""
    import tvm

    from microrpc.firmware.tvm.onnx import FUNCTION, import_model

    module = tvm.IRModule({})
    for name in names.split():
        imported = import_model(cases()[name].model, name)
        for variable, function in imported.functions.items():
            if variable.name_hint == FUNCTION:
                module[name] = function.with_attr("global_symbol", name)
            else:
                module[variable] = function
    return module


class Boards:
    """The firmware of a group on a board: built and started when it is wanted first."""

    def __init__(self, directory: pathlib.Path, stack: contextlib.ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self._connected: dict[tuple[str, str], microrpc.Board] = {}

    def connected(self, board: str, group: str) -> microrpc.Board:
        if (board, group) not in self._connected:
            directory = self._directory / f"{board}_{GROUPS.index(group)}"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # TVM's own code warns
                from microrpc.tvm import build

                report = build(module_of(group), board=board, out=directory)
            emulation = load_port(board).emulation
            assert emulation is not None
            emulator = self._stack.enter_context(Emulator(board, report.elf, emulation))
            self._connected[board, group] = self._stack.enter_context(microrpc.connect(emulator.port))
        return self._connected[board, group]


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boards]:
    needs.tvm()
    with contextlib.ExitStack() as stack:
        yield Boards(tmp_path_factory.mktemp("models"), stack)


@pytest.fixture
def model(boards: Boards, request: pytest.FixtureRequest) -> Any:
    """A model on a board, by (board, case)."""
    board, name = request.param
    needs.emulated(board)
    group = next(group for group in GROUPS if name in group.split())
    return boards.connected(board, group).model(name)


def check(model: Any, case: Case) -> None:
    for given, expected in case.data_sets:
        found = model(*given, raw=True)
        results = found if isinstance(found, tuple) else (found,)
        assert len(results) == len(expected)
        for result, wanted in zip(results, expected, strict=True):
            assert is_close(result, wanted, case), (result, wanted)


@pytest.mark.parametrize(("model", "name"), [(("posix", name), name) for name in HERE], indirect=["model"], ids=HERE)
def test_a_model_gives_on_this_computer_what_onnx_expects(model: Any, name: str) -> None:
    check(model, cases()[name])


@pytest.mark.parametrize(
    ("model", "name"),
    [((board, name), name) for board in BOARDS for name in ELSEWHERE],
    indirect=["model"],
    ids=[f"{board}-{name}" for board in BOARDS for name in ELSEWHERE],
)
def test_a_model_gives_on_an_emulated_board_what_onnx_expects(model: Any, name: str) -> None:
    check(model, cases()[name])


def test_the_board_tells_of_a_model_what_its_file_says(boards: Boards) -> None:
    needs.emulated("posix")
    board = boards.connected("posix", GROUPS[0])
    tables: dict[str, ModelTable] = {table.name: table for table in board.models()}
    assert list(tables) == sorted(GROUPS[0].split())
    table = tables["Conv2d_padding"]
    graph = cases()["Conv2d_padding"].model.graph
    assert [str(tensor.name) for tensor in table.outputs] == [output.name for output in graph.output]
    assert [(tensor.shape, str(tensor.dtype)) for tensor in table.inputs] == [((2, 3, 6, 6), "float32")]
    assert table.weights_bytes == 4 * (4 * 3 * 3 * 3 + 4)
    assert [layer.name for layer in table.layers] == ["conv2d_add"]


def test_the_layers_of_a_model_are_timed_and_give_their_outputs(boards: Boards) -> None:
    needs.emulated("qemu_mps2_an385")
    case = cases()["Conv2d_padding"]
    model = boards.connected("qemu_mps2_an385", GROUPS[0]).model("Conv2d_padding")
    ((given, expected),) = case.data_sets
    assert [layer.name for layer in model.profile(*given).layers] == ["conv2d_add"]
    assert is_close(model.layer_outputs(*given)["conv2d_add"], expected[0], case)


def test_a_model_is_a_function_of_the_board_that_checks_what_it_is_given(boards: Boards) -> None:
    needs.emulated("posix")
    board = boards.connected("posix", GROUPS[0])
    case = cases()["Linear"]
    ((given, expected),) = case.data_sets
    x, y = board.array(given[0]), board.empty(expected[0].shape, "float32")
    board.function("Linear")(x, y)
    assert is_close(y.numpy(), expected[0], case)
    with pytest.raises(microrpc.RemoteError, match=r"argument 0: want float32\[4,10\], given float32\[4,8\]"):
        board.function("Linear")(y, y)
    ((given, _),) = cases()["softmax_lastdim"].data_sets
    same = board.array(given[0])
    with pytest.raises(microrpc.RemoteError, match="an output shares memory with another argument"):
        board.function("softmax_lastdim")(same, same)


def test_the_survey_has_every_case_that_is_built_here_among_those_that_agree() -> None:
    table = tomllib.loads((pathlib.Path(__file__).parent / "onnx_survey.toml").read_text())
    (agreeing,) = (group["names"] for group in table["cases"] if group["stage"] == "agrees")
    assert {f"test_{name}" for name in HERE} <= set(agreeing)
    assert len(HERE) == 80
    assert len(ELSEWHERE) == 20
