"""Models as a program has them: run, timed, looked into, held against a data set (docs/using_models.md)."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from apis import Api, Waiting

import microrpc
from firmware_sim.board.demo_models import MLP, QUANTISED
from firmware_sim.board.model import Array, LayerDone, SimModel
from firmware_sim.line.faults import Faults, Flip
from firmware_sim.running.simulate import SimBoard
from microrpc.errors import (
    ArgumentError,
    BoardResetError,
    CallTimeoutError,
    FeatureMissingError,
    RemoteError,
    RequestError,
)
from microrpc.host.comparing import Difference
from microrpc.host.validation import LayerDifference, Validation, WorstError
from microrpc.serve.local import FunctionError
from microrpc.wire.datatypes import DataType
from microrpc.wire.model import ModelLayer, ModelTable, ModelTensor
from microrpc.wire.session import Timeouts

FLOAT32, INT16 = DataType.parse("float32"), DataType.parse("int16")
X = np.array([[1, 2, 3, 4]], np.float32)
Y = [[2.875, 2.375, -0.375]]  # worked out by hand from the weights of MLP
HIDDEN = [[-0.875, -3.25, -6.125, -3.375, 2.0, -4.75, -3.0, -3.5]]


def make(api: Api, *models: SimModel, board: str = "loopback", **options: Any) -> tuple[Any, SimBoard]:
    sim = SimBoard(microrpc.profile(board), **options)
    if models:
        sim.device.models[:] = models
    return api.open_board(sim.open_channel(), Timeouts()), sim


def used_bytes(board: Any) -> int:
    board.collect()
    return int(board.memory().used_bytes)


def hybrid(sim: SimBoard) -> SimModel:
    """Takes two inputs and gives two outputs, in two layers of one name and one without; takes 3 ms."""

    def run(inputs: Sequence[Array], outputs: Sequence[Array], done: LayerDone) -> None:
        a, b = inputs
        sim.device.clock.sleep(0.001)
        done(0, a + 1)
        sim.device.clock.sleep(0.0015)
        done(1, a * 2)
        outputs[0][...] = a.sum() + b
        outputs[1][...] = b - 1
        sim.device.clock.sleep(0.0005)
        done(2, None)

    table = ModelTable(
        "hybrid",
        7,
        (ModelTensor("a", FLOAT32, (3,)), ModelTensor("b", INT16, (2, 2))),
        (ModelTensor("sum", FLOAT32, (2, 2)), ModelTensor("", INT16, (2, 2))),
        (
            ModelLayer("step", ModelTensor("s", FLOAT32, (3,))),
            ModelLayer("step", ModelTensor("s", FLOAT32, (3,))),
            ModelLayer(""),
        ),
    )
    return SimModel(table, run)


A, B = np.array([1, 2, 4], np.float32), np.array([[1, -2], [3, 4]], np.int16)


# --- one run ----------------------------------------------------------------------------------------


def test_a_model_tells_what_it_is(api: Api) -> None:
    board, _ = make(api)
    assert board.models() == [MLP.table, QUANTISED.table]
    model = board.model("mlp")
    assert (model.name, model.hash, model.table) == ("mlp", MLP.table.hash, MLP.table)
    assert (model.inputs, model.outputs, model.layers) == (MLP.table.inputs, MLP.table.outputs, MLP.table.layers)
    assert repr(model).endswith("Model 'mlp': (x: float32[1, 4]) -> (y: float32[1, 3])>")


def test_a_model_with_one_output_gives_an_array(api: Api) -> None:
    board, _ = make(api)
    model = board.model("mlp")
    for result in (model(X), model(x=X), model(X.tolist()), model(X.astype(np.float16))):
        assert (result.dtype, result.tolist()) == (np.float32, Y)


def test_a_model_with_several_gives_them_in_order_and_takes_inputs_by_name(api: Api) -> None:
    board, sim = make(api)
    sim.device.models.append(hybrid(sim))
    model = board.model("hybrid")
    for results in (model(A, B), model(A, b=B), model(b=B, a=A)):
        assert [result.tolist() for result in results] == [[[8, 5], [10, 11]], [[0, -3], [2, 3]]]
        assert [result.dtype for result in results] == [np.float32, np.int16]


def test_what_is_quantised_is_given_and_had_as_real_numbers_or_raw(api: Api) -> None:
    board, _ = make(api)
    model = board.model("quantised")
    # x = (q + 8) / 16; q of 8 zeros is -8, so the sums are the biases, and y is 4 + (bias + 256 >> 9)
    assert model(np.zeros((1, 8))).tolist() == [[0.25, 0.5, 0.75, 0.0]]
    raw = model(np.full((1, 8), -8, np.int8), raw=True)
    assert (raw.dtype, raw.tolist()) == (np.int8, [[5, 6, 7, 4]])
    with pytest.raises(ArgumentError, match=r"input 'x' of model 'quantised' has NaN at \[0, 3\]"):
        model([[0.0, 0.0, 0.0, float("nan"), 0.0, 0.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("given", "named", "reason"),
    [
        ((), {}, "model 'hybrid' takes a: float32.3., b: int16.2, 2.; 'a', 'b' was not given"),
        ((A,), {}, "'b' was not given"),
        ((A, B, B), {}, "not 3 inputs"),
        ((A, B), {"b": B}, "'b' was given twice"),
        ((A,), {"bb": B}, "no input 'bb'; did you mean 'b'"),
        ((A[None], B), {}, r"input 'a' of model 'hybrid' has the shape \(3,\), not \(1, 3\): reshape\(3\)"),
        ((A, B.astype(np.int32)), {}, "int32 cannot become that without a loss"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_before_anything_is_sent(
    api: Api, given: Any, named: Any, reason: str
) -> None:
    board, sim = make(api)
    sim.device.models.append(hybrid(sim))
    model = board.model("hybrid")
    requests = board.stats.requests
    with pytest.raises(ArgumentError, match=f"{reason}.*nothing was sent"):
        model(*given, **named)
    assert board.stats.requests == requests


def test_a_model_that_fails_says_why_and_the_next_run_goes_on(api: Api) -> None:
    def run(inputs: Sequence[Array], outputs: Sequence[Array], done: LayerDone) -> None:
        if inputs[0][0] < 0:
            raise FunctionError("no root of a negative number")
        outputs[0][...] = np.sqrt(inputs[0])

    x = ModelTensor("x", FLOAT32, (1,))
    board, _ = make(api, SimModel(ModelTable("root", 1, (x,), (x,)), run))
    model = board.model()
    with pytest.raises(RemoteError, match=r"microrpc.model.run: no root of a negative number"):
        model([-1.0])
    assert model([9.0]).tolist() == [3.0]


def test_a_run_that_takes_longer_than_it_may_is_one_error(api: Api) -> None:
    board, sim = make(api)
    x = ModelTensor("x", FLOAT32, (1,))
    table = ModelTable("slow", 1, (x,), (x,))
    sim.device.models[:] = [SimModel(table, lambda inputs, outputs, done: sim.device.clock.sleep(3.0))]
    model = board.model()
    with pytest.raises(CallTimeoutError, match=r"no reply of CallFunc within 0\.5 s"):
        model([1.0], timeout_s=0.5)
    assert model([1.0], timeout_s=4.0).shape == (1,)
    for timeout_s in (0, -1, float("nan"), "5"):
        with pytest.raises(RequestError, match="timeout_s"):
            model([1.0], timeout_s=timeout_s)


@pytest.mark.parametrize("firmware", ["robust", "stock"])
def test_a_board_without_models_says_what_its_firmware_lacks(api: Api, firmware: Any) -> None:
    board, sim = make(api, firmware=firmware)
    sim.device.functions.pop("microrpc.models", None)
    with pytest.raises(FeatureMissingError, match="has no models: its firmware was built without any"):
        board.model()


# --- memory -----------------------------------------------------------------------------------------


def test_memory_is_allocated_once_and_given_back_with_the_model(api: Api) -> None:
    board, _ = make(api)
    before = used_bytes(board)
    model = board.model("mlp")
    assert used_bytes(board) == before, "nothing before the first run"
    model(X)
    after = used_bytes(board)
    assert after > before
    requests = board.stats.requests
    model(X)
    assert board.stats.requests - requests == 1, "the call, and two copies"
    model(X), model.profile(X), model.layer_outputs(X), model.validate(X, np.array([Y]))
    assert used_bytes(board) == after
    model.free()
    model.free()
    assert used_bytes(board) == before
    model(X)
    assert used_bytes(board) == after
    del model
    gc.collect()
    assert used_bytes(board) == before


def test_a_board_without_room_says_so_and_keeps_nothing(api: Api) -> None:
    big = ModelTensor("x", FLOAT32, (40_000,))
    board, _ = make(api, SimModel(ModelTable("big", 1, (big,), (big,)), lambda *args: None))
    with pytest.raises(RemoteError, match="out of memory: 160000 bytes asked for"):
        board.model()(np.zeros(40_000, np.float32))
    gc.collect()
    assert used_bytes(board) == 0


def test_after_a_reset_the_memory_is_made_anew(api: Api) -> None:
    board, sim = make(api)
    model = board.model("mlp")
    model(X)
    sim.reset()
    with pytest.raises(BoardResetError):
        model(X)
    assert model(X).tolist() == Y


def test_a_reset_within_a_run_is_told_and_the_next_run_goes_on(api: Api) -> None:
    board, sim = make(api)
    x = ModelTensor("x", FLOAT32, (1,))
    resets = [True]

    def run(inputs: Sequence[Array], outputs: Sequence[Array], done: LayerDone) -> None:
        outputs[0][...] = inputs[0] + 1
        if resets and resets.pop():
            sim.reset()

    sim.device.models[:] = [SimModel(ModelTable("x", 1, (x,), (x,)), run)]
    model = board.model()
    with pytest.raises(BoardResetError) as raised:
        model([1.0])
    assert raised.value.may_have_run
    assert model([1.0]).tolist() == [2.0]


def test_other_firmware_after_a_reset_is_noticed(api: Api) -> None:
    board, sim = make(api)
    model = board.model("mlp")
    model(X)
    sim.device.models[:] = [QUANTISED]
    sim.reset()
    with pytest.raises(BoardResetError):  # the first request may cross the boot
        board.function("add"), board.function("add")
    with pytest.raises(RequestError, match="has other firmware now, whose model 0 is not 'mlp' as it was"):
        model(X)
    assert board.model().name == "quantised"


def test_a_model_cannot_be_copied(api: Api) -> None:
    model = make(api)[0].model("mlp")
    with pytest.raises(TypeError, match="cannot be"):
        copy.copy(model.target if isinstance(model, Waiting) else model)


# --- times ------------------------------------------------------------------------------------------


def test_a_profile_has_the_boards_times_and_this_computers(api: Api) -> None:
    board, sim = make(api)
    sim.device.models.append(hybrid(sim))
    report = board.model("hybrid").profile(A, B, repeat=3)
    assert (report.name, report.runs, report.total_us, report.runtime_us) == ("hybrid", 3, 3000.0, 0.0)
    told = [(layer.name, layer.time_us, layer.share, layer.output) for layer in report.layers]
    assert told == [
        ("step", 1000.0, 1 / 3, "float32[3]"),
        ("step", 1500.0, 0.5, "float32[3]"),
        ("#2", 500.0, 1 / 6, ""),
    ]
    assert report.call_us > 3000
    assert report.input_us > 0 < report.output_us
    assert report.host_us == report.input_us + report.call_us + report.output_us
    assert report.transport_share == pytest.approx(1 - 3000 / report.host_us)
    assert report.memory == board.memory()
    lines = str(report).splitlines()
    assert lines[:6] == [
        "hybrid: mean of 3 runs, by the board's clock",
        "LAYER          TIME   SHARE  OUTPUT",
        "step       1.000 ms   33.3%  float32[3]",
        "step       1.500 ms   50.0%  float32[3]",
        "#2         0.500 ms   16.7%",
        "(runtime)  0.000 ms    0.0%",
    ]
    assert lines[6] == "all        3.000 ms  100.0%"
    assert lines[8] == "memory: weights 0 bytes, arena 0, workspace 0"
    assert lines[9].startswith("heap: ")


def test_a_profile_of_firmware_that_tells_nothing_of_its_memory_has_none(api: Api) -> None:
    board, sim = make(api)
    del sim.device.functions["microrpc.memory"]
    report = board.model("mlp").profile(X)
    assert report.memory is None
    assert "heap" not in str(report)
    with pytest.raises(RequestError, match="repeat"):
        board.model("mlp").profile(X, repeat=0)


# --- layers -----------------------------------------------------------------------------------------


def test_the_outputs_of_the_layers_are_given_by_their_names(api: Api) -> None:
    board, sim = make(api)
    sim.device.models.append(hybrid(sim))
    found = board.model("mlp").layer_outputs(X)
    assert {name: array.tolist() for name, array in found.items()} == {
        "dense_1": HIDDEN,
        "relu_1": [[max(number, 0) for number in HIDDEN[0]]],
        "dense_2": Y,
    }
    found = board.model("hybrid").layer_outputs(A, B)
    assert {name: array.tolist() for name, array in found.items()} == {"step": [2, 3, 5], "step#2": [2, 4, 8]}


def test_the_output_of_a_quantised_layer_is_real_or_raw(api: Api) -> None:
    model = make(api)[0].model("quantised")
    zeros = np.zeros((1, 8), np.float32)
    assert model.layer_outputs(zeros, raw=True)["dense"].tolist() == [[367, 790, 1366, -175]]
    real = model.layer_outputs(zeros)
    assert list(real) == ["dense"], "what cannot be had is left out"
    assert real["dense"].tolist() == [[367 / 2048, 790 / 2048, 1366 / 2048, -175 / 2048]]


def test_the_first_layer_that_parts_from_a_reference_is_told(api: Api) -> None:
    model = make(api)[0].model("mlp")
    relu = np.maximum(HIDDEN, 0)
    right = {"dense_2": Y, "relu_1": relu, "dense_1": HIDDEN}
    assert model.first_difference(X, reference=right) is None
    wrong = relu.copy()
    wrong[0, 4] += 0.5
    found = model.first_difference(X, reference={**right, "relu_1": wrong, "dense_2": [[0, 0, 0]]})
    assert found == LayerDifference(1, "relu_1", Difference((0, 4), 2.0, 2.5, 0.5, False))
    assert str(found) == "0.5 (layer 1, relu_1[0, 4]: 2, expected 2.5)"
    assert model.first_difference(X, reference={"relu_1": wrong}, atol=0.6) is None
    with pytest.raises(ArgumentError, match="no layer 'relu' gives anything that can be had; did you mean 'relu_1'"):
        model.first_difference(X, reference={"relu": relu})
    with pytest.raises(ArgumentError, match=r"'relu_1' has the shape \(8,\), not \(1, 8\)"):
        model.first_difference(X, reference={"relu_1": relu[0]})


# --- data sets --------------------------------------------------------------------------------------


def data_set(samples: int = 7) -> tuple[Array, Array]:
    """Inputs of eighths, so that every sum is exact, and what MLP gives for them, worked out in float64."""
    from firmware_sim.board import demo_models as demo

    x = (np.random.default_rng(5).integers(-80, 80, (samples, 4)) / 8).astype(np.float32)
    hidden = np.maximum(x.astype(float) @ demo._HIDDEN_WEIGHTS + demo._HIDDEN_BIASES, 0)
    return x, (hidden @ demo._WEIGHTS + demo._BIASES).astype(np.float32)


@pytest.mark.parametrize("form", ["array", "rows", "list", "dict", "literals"])
def test_a_data_set_that_agrees_is_true(api: Api, form: str) -> None:
    x, y = data_set()
    inputs: Any = {"array": x, "rows": x[:, None], "list": x, "dict": {"x": x}, "literals": x.tolist()}[form]
    expected: Any = {"dict": {"y": y}, "rows": y[:, None]}.get(form, y)
    board, _ = make(api)
    progress: list[tuple[int, int]] = []
    result = board.model("mlp").validate(inputs, expected, on_progress=lambda *told: progress.append(told))
    assert result
    assert (result.samples, result.failed, result.first_failed) == (7, 0, None)
    assert result.worst.difference.error == 0
    assert progress == [(number, 7) for number in range(1, 8)]
    assert used_bytes(board) == 0, "and gives its memory back"


def test_a_data_set_that_differs_says_where_it_does_most(api: Api) -> None:
    x, y = data_set()
    y[2, 1] += 0.25
    y[5, 2] -= 4
    result = make(api)[0].model("mlp").validate(x, y)
    assert not result
    got, expected = float(y[5, 2] + 4), float(y[5, 2])
    worst = WorstError(5, "y", Difference((0, 2), got, expected, 4.0, False))
    assert result == Validation(7, 2, 2, worst)
    assert str(result) == (
        f"5 of 7 samples agree; the first that does not is sample 2; "
        f"worst error 4 (sample 5, output y[0, 2]: {got:.9g}, expected {expected:.9g})"
    )
    assert make(api)[0].model("mlp").validate(x, y, atol=4.0)


def test_a_data_set_of_several_inputs_and_outputs(api: Api) -> None:
    board, sim = make(api)
    sim.device.models.append(hybrid(sim))
    model = board.model("hybrid")
    a, b = np.stack([A, A * 2, A * 3]), np.stack([B, B + 1, B + 2])
    sums = a.sum(1)[:, None, None] + b
    assert model.validate([a, b], [sums, b - 1])
    assert model.validate({"b": b, "a": a}, {"sum": sums, "#1": b - 1})
    result = model.validate([a, b], [sums, b])
    assert (result.failed, result.worst.output, result.worst.difference.error) == (3, "#1", 1.0)


def test_expected_numbers_of_the_boards_own_type_are_raw_ones(api: Api) -> None:
    model = make(api)[0].model("quantised")
    zeros = np.zeros((2, 8), np.float32)
    assert model.validate(zeros, np.array([[5, 6, 7, 4]] * 2, np.int8))
    assert model.validate(zeros, np.array([[0.25, 0.5, 0.75, 0.0]] * 2))
    assert not model.validate(zeros, np.array([[5, 6, 7, 4]] * 2, np.int32))


@pytest.mark.parametrize(
    ("inputs", "expected", "reason"),
    [
        (np.zeros((3, 5), np.float32), np.zeros((3, 3)), r"\(3, 5\), not \(N, 1, 4\): N samples of \(1, 4\)"),
        (np.zeros((0, 4), np.float32), np.zeros((0, 3)), "there is no sample"),
        (np.zeros((3, 4), np.float32), np.zeros((2, 3)), "there are 3 samples, and 2 expected outputs"),
        (np.zeros((3, 4), np.float32), {"z": np.zeros((3, 3))}, "gives y: float32.1, 3.; expected were 'z'"),
        ({"z": np.zeros((3, 4))}, np.zeros((3, 3)), "no input 'z'"),
        (np.zeros((3, 4)), np.zeros((3, 3)), "sample 0 of input 'x' has the type float32, and float64"),
        (np.float32(3), np.zeros((3, 3)), r"has the shape \(\), not"),
    ],
)
def test_a_data_set_that_does_not_fit_is_refused(api: Api, inputs: Any, expected: Any, reason: str) -> None:
    model = make(api)[0].model("mlp")
    with pytest.raises(ArgumentError, match=reason):
        model.validate(inputs, expected)


def test_tolerances_that_are_none_are_refused(api: Api) -> None:
    model = make(api)[0].model("mlp")
    x, y = data_set()
    for options in ({"rtol": -1}, {"atol": float("nan")}, {"on_progress": 5}, {"timeout_s": 0}):
        with pytest.raises(RequestError):
            model.validate(x, y, **options)


def test_an_error_says_at_which_sample_it_was(api: Api) -> None:
    x, y = data_set()
    board, sim = make(api)
    count = []

    def run(inputs: Sequence[Array], outputs: Sequence[Array], done: LayerDone) -> None:
        count.append(1)
        if len(count) == 4:
            raise FunctionError("enough")
        MLP.run(inputs, outputs, done)

    sim.device.models[:] = [SimModel(MLP.table, run)]
    model = board.model()
    with pytest.raises(RemoteError, match="enough") as raised:
        model.validate(x, y)
    assert raised.value.__notes__ == ["this was at sample 3 of 7"]
    assert used_bytes(board) == 0
    assert model.validate(x, y), "and it goes on"


def test_a_reset_in_the_middle_of_a_data_set_is_told_and_the_next_time_it_goes_on(api: Api) -> None:
    x, y = data_set(20)
    board, sim = make(api, MLP)
    model = board.model()
    model(X)

    def reset(done: int, total: int) -> None:
        if done == 9:
            sim.reset()

    with pytest.raises(BoardResetError) as raised:
        model.validate(x, y, on_progress=reset)
    assert raised.value.__notes__ == ["this was at sample 9 of 20"]
    assert model.validate(x, y)


def test_a_data_set_over_a_line_that_damages_agrees_all_the_same(api: Api) -> None:
    x, y = data_set(30)
    board, _ = make(api, MLP, faults=Faults([Flip(rate=2e-4)], seed=3))
    result = board.model().validate(x, y)
    assert (bool(result), result.samples) == (True, 30)
    assert board.stats.frames_damaged + board.stats.retransmissions > 0


def test_tasks_that_share_a_model_do_not_mix_their_inputs() -> None:
    async def several() -> None:
        sim = SimBoard(microrpc.profile("loopback"))
        channel = microrpc.aio.InMemoryChannel(sim.open_channel())
        async with await microrpc.aio.open_board(channel, Timeouts()) as board:
            model = await board.model("mlp")
            x, y = data_set(12)
            results = await asyncio.gather(model.validate(x, y), *(model(sample[None]) for sample in x))
            assert results[0]
            assert [result.tolist() for result in results[1:]] == y[:, None].tolist()
            assert inspect.iscoroutinefunction(model.profile)

    asyncio.run(several())
