"""`microrpc model`: info, run, profile, validate (docs/using_models.md)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import change_board, run, run_json

from firmware_sim.board.demo_models import MLP, QUANTISED
from firmware_sim.board.model import SimModel
from microrpc.cli import common, literals
from microrpc.serve.local import FunctionError
from microrpc.wire.datatypes import DataType
from microrpc.wire.model import ModelTable, ModelTensor

X = np.array([[1, 2, 3, 4]], np.float32)
Y = np.array([[2.875, 2.375, -0.375]], np.float32)
FLOAT32 = DataType.parse("float32")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with x.npy and y.npy, five samples of each, and one.npy, the input of one run."""
    monkeypatch.chdir(tmp_path)
    np.save("one.npy", X)
    np.save("x.npy", np.repeat(X, 5, 0))
    np.save("y.npy", np.repeat(Y, 5, 0))
    return tmp_path


def only(monkeypatch: pytest.MonkeyPatch, *models: SimModel) -> None:
    """Have every simulated board these models, and no others."""
    change_board(monkeypatch, lambda device: device.models.__setitem__(slice(None), models))


def two_by_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with two inputs and two outputs."""
    tensors = tuple(ModelTensor(name, FLOAT32, (2,)) for name in "abcd")

    def swap(inputs: Any, outputs: Any, done: Any) -> None:
        outputs[0][...], outputs[1][...] = inputs[1], inputs[0]

    only(monkeypatch, SimModel(ModelTable("swap", 1, tensors[:2], tensors[2:]), swap))


# --- info -------------------------------------------------------------------------------------------


def test_info_shows_every_model_with_its_layers() -> None:
    result = run("model", "info", "sim://")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "model   mlp (hash 6d6c700000000001)",
        "takes   x: float32[1, 4]",
        "gives   y: float32[1, 3]",
        "memory  weights 268 bytes, arena 32, workspace 0",
        "layers  3",
        "LAYER    OUTPUT",
        "dense_1  float32[1, 8]",
        "relu_1   float32[1, 8]",
        "dense_2  float32[1, 3]",
        "",
        "model   quantised (hash 7138000000000001)",
        "takes   x: int8[1, 8], scale 0.0625, zero point -8",
        "gives   y: int8[1, 4], scale 0.25, zero point 4",
        "memory  weights 48 bytes, arena 16, workspace 0",
        "layers  2",
        "LAYER       OUTPUT",
        "dense       int32[1, 4], scale 0.000488281, zero point 0",
        "requantise  -",
    ]


def test_info_as_json() -> None:
    shown = run_json("model", "info", "sim://", "--name", "quantised")
    assert shown == {
        "port": "sim://",
        "models": [
            {
                "name": "quantised",
                "hash": "7138000000000001",
                "inputs": [{"name": "x", "dtype": "int8", "shape": [1, 8], "scale": 0.0625, "zero_point": -8}],
                "outputs": [{"name": "y", "dtype": "int8", "shape": [1, 4], "scale": 0.25, "zero_point": 4}],
                "layers": [
                    {
                        "name": "dense",
                        "output": {
                            "name": "sums",
                            "dtype": "int32",
                            "shape": [1, 4],
                            "scale": 2.0**-11,
                            "zero_point": 0,
                        },
                    },
                    {"name": "requantise", "output": None},
                ],
                "weights_bytes": 48,
                "arena_bytes": 16,
                "workspace_bytes": 0,
            }
        ],
    }


def test_names_that_a_board_tells_are_shown_and_not_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    x = ModelTensor("in\x1b[2J", FLOAT32, (1,))
    only(monkeypatch, SimModel(ModelTable("evil\nname", 1, (x,), (x,)), lambda *args: None))
    out = run("model", "info", "sim://").out
    assert "evil\\nname" in out
    assert "in\\x1b[2J" in out
    assert "\x1b" not in out
    assert "\x1b" not in run("model", "run", "sim://", "-i", "[1]").out


def test_firmware_without_models_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    assert run("model", "info", "sim://").out == "the firmware has no models\n"
    assert run_json("model", "info", "sim://") == {"port": "sim://", "models": []}
    for command in (["run", "-i", "[1]"], ["profile"], ["validate", "--inputs", "x.npy", "--expected", "x.npy"]):
        np.save("x.npy", np.zeros((1, 1), np.float32)) if command[0] == "validate" else None
        result = run("model", command[0], "sim://", *command[1:])
        assert result.code == 5, result.err
        assert "error: sim:// has no models: its firmware was built without any" in result.err
    Path("x.npy").unlink()
    change_board(monkeypatch, lambda device: device.functions.pop("microrpc.models"))
    result = run("model", "info", "sim://")
    assert (result.code, "has no models" in result.err) == (5, True)


# --- run --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    "value", ["[[1, 2, 3, 4]]", "x=[[1, 2, 3, 4.0]]", "one.npy", "@one.npy", "x=one.npy", "x=@one.npy"]
)
def test_a_run_takes_an_input_in_every_form(value: str) -> None:
    result = run("model", "run", "sim://", "--name", "mlp", "--input", value)
    assert (result.code, result.err) == (0, "")
    assert result.out == "y: float32[1,3] 2.875 2.375 -0.375  (min -0.375, max 2.875, mean 1.625)\n"


def test_zeros_are_an_input_too() -> None:
    shown = run_json("model", "run", "sim://", "--name", "mlp", "--input", "tensor:float32[1,4]")
    # the biases, of the second layer alone: what the first has of 0.375 goes through
    assert shown["outputs"]["y"] == {
        "dtype": "float32",
        "shape": [1, 3],
        "data": [[0.828125, 0.34375, -0.828125]],
    }


@pytest.mark.usefixtures("files")
def test_outputs_are_saved_as_npy(tmp_path: Path) -> None:
    result = run("model", "run", "sim://", "-n", "mlp", "-i", "one.npy", "-o", "out.npy")
    assert (result.code, result.err) == (0, "")
    assert np.load(tmp_path / "out.npy").tolist() == Y.tolist()
    result = run("model", "run", "sim://", "-n", "mlp", "-i", "one.npy", "-o", "y=other.npy")
    assert np.load(tmp_path / "other.npy").dtype == np.float32


def test_quantised_outputs_are_real_or_raw() -> None:
    zeros = "[[0.0, 0, 0, 0, 0, 0, 0, 0]]"
    shown = run_json("model", "run", "sim://", "-n", "quantised", "-i", zeros)
    assert shown == {
        "model": "quantised",
        "outputs": {"y": {"dtype": "float32", "shape": [1, 4], "data": [[0.25, 0.5, 0.75, 0.0]]}},
    }
    shown = run_json("model", "run", "sim://", "-n", "quantised", "-i", zeros, "--raw")
    assert shown["outputs"]["y"] == {"dtype": "int8", "shape": [1, 4], "data": [[5, 6, 7, 4]]}


def test_several_inputs_and_outputs_have_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    two_by_two(monkeypatch)
    monkeypatch.chdir(tmp_path)
    options = ["-i", "b=[3, 4]", "-i", "a=[1, 2]", "-o", "d=d.npy", "-o", "c=c.npy"]
    result = run("model", "run", "sim://", *options)
    assert result.out.splitlines()[0].startswith("c: float32[2] 3 4 ")
    assert (np.load("c.npy").tolist(), np.load("d.npy").tolist()) == ([3, 4], [1, 2])
    result = run("model", "run", "sim://", "-i", "[1, 2]", "-i", "[3, 4]", "-o", "out.npy")
    assert (result.code, "the outputs are c, d: write NAME=FILE" in result.err) == (2, True)
    assert not Path("out.npy").exists()


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (["-i", "nix.npy"], 6, "cannot read nix.npy: No such file"),
        (["-i", "@model.bin"], 2, "model.bin: an input is a .npy file"),
        (["-i", "word"], 2, "'word' is no input of a model: write FILE.npy, [[1, 2.5]]"),
        (["-i", '["a"]'], 2, "is no input of a model"),
        (["-i", "[" * 5000], 2, "is no input of a model"),
        (["-i", "x=one.npy", "-i", "x=one.npy"], 2, "--input x=: it is given twice"),
        (["-i", "one.npy", "-o", "no/such/y.npy"], 6, "no/such"),
        ([], 5, "model 'mlp' takes x: float32[1, 4]; 'x' was not given"),
        (["-i", "[1, 2, 3, 4]"], 5, "has the shape (1, 4), not (4,): reshape(1, 4) makes it one"),
        (["-i", "z=one.npy"], 5, "it has no input 'z'"),
        (["-i", "[[1, 2], [3]]"], 5, "is no array"),
        (["-i", "one.npy", "-o", "z=z.npy"], 2, "--output z: the outputs are y"),
    ],
)
def test_what_is_wrong_with_a_run_is_one_error(options: list[str], code: int, reason: str) -> None:
    result = run("model", "run", "sim://", "-n", "mlp", *options)
    assert (result.code, result.out) == (code, "")
    assert reason in result.err
    shown = run("model", "run", "sim://", "-n", "mlp", *options, "--json")
    assert (shown.code, shown.err) == (code, "")
    assert reason in json.loads(shown.out)["error"]["message"]


def test_of_several_models_one_is_to_be_named() -> None:
    result = run("model", "run", "sim://", "-i", "[1]")
    assert (result.code, result.out) == (5, "")
    assert "has 2 models: say which by its name: 'mlp', 'quantised'" in result.err


# --- profile ----------------------------------------------------------------------------------------


def test_a_profile_is_a_table() -> None:
    result = run("model", "profile", "sim://", "-n", "mlp", "--repeat", 3)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == "mlp: mean of 3 runs, by the board's clock"
    assert [line.split()[0] for line in lines[1:7]] == ["LAYER", "dense_1", "relu_1", "dense_2", "(runtime)", "all"]
    assert lines[7].startswith("transport: ")
    assert lines[8] == "memory: weights 268 bytes, arena 32, workspace 0"
    assert lines[9].startswith("heap: ")


def test_a_profile_as_json() -> None:
    shown = run_json("model", "profile", "sim://", "-n", "mlp", "-i", "[[1, 2, 3, 4]]", "-r", 2)
    assert (shown["name"], shown["runs"], shown["weights_bytes"]) == ("mlp", 2, 268)
    assert [layer["name"] for layer in shown["layers"]] == ["dense_1", "relu_1", "dense_2"]
    assert shown["total_us"] >= sum(layer["time_us"] for layer in shown["layers"]) > 0
    assert shown["host_us"] == shown["input_us"] + shown["call_us"] + shown["output_us"]
    assert 0 < shown["transport_share"] < 1
    assert shown["memory"]["heap_bytes"] > 0


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_terminal_is_not_overfilled(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "is_terminal", lambda stream: stream is sys.stdout)
    monkeypatch.setenv("COLUMNS", str(width))
    for command in (["info"], ["profile", "-n", "quantised"]):
        lines = run("model", command[0], "sim://", *command[1:]).out.splitlines()
        assert max(map(len, lines)) <= max(width, 57), lines  # a name and a type stand in one line


@pytest.mark.usefixtures("files")
def test_what_came_of_a_data_set_is_folded_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    np.save("y.npy", np.repeat(Y, 5, 0) + 1)
    command = ("model", "validate", "sim://", "-n", "mlp", "--inputs", "x.npy", "--expected", "y.npy")
    whole = run(*command).out.split()
    monkeypatch.setattr(common, "is_terminal", lambda stream: stream is sys.stdout)
    monkeypatch.setenv("COLUMNS", "40")
    result = run(*command)
    assert max(map(len, result.out.splitlines())) <= 40
    assert result.out.split() == whole


# --- validate ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("files")
def test_a_data_set_of_two_files_agrees() -> None:
    result = run("model", "validate", "sim://", "-n", "mlp", "--inputs", "x.npy", "--expected", "y.npy")
    assert (result.code, result.err) == (0, "")
    assert result.out == (
        "mlp: 5 of 5 samples agree; worst error 0 (sample 0, output y[0, 0]: 2.875, expected 2.875)\n"
    )


@pytest.mark.usefixtures("files")
def test_a_data_set_that_differs_ends_with_1() -> None:
    y = np.load("y.npy")
    y[3, 1] += 0.5
    np.savez("set.npz", x=np.load("x.npy"), y=y)
    result = run("model", "validate", "sim://", "-n", "mlp", "--data", "set.npz")
    assert (result.code, result.err) == (1, "")
    assert result.out == (
        "mlp: 4 of 5 samples agree; the first that does not is sample 3; "
        "worst error 0.5 (sample 3, output y[0, 1]: 2.375, expected 2.875)\n"
    )
    shown = run("model", "validate", "sim://", "-n", "mlp", "--data", "set.npz", "--json")
    assert shown.code == 1
    worst = {"sample": 3, "output": "y", "index": [0, 1], "error": 0.5, "got": 2.375, "expected": 2.875}
    counts = {"samples": 5, "failed": 1, "first_failed": 3}
    assert json.loads(shown.out) == {"model": "mlp", **counts, "worst": worst}
    assert run("model", "validate", "sim://", "-n", "mlp", "--data", "set.npz", "--atol", "0.5").code == 0


def test_what_is_no_number_is_a_text_in_json(files: Path) -> None:
    y = np.load("y.npy")
    y[0, 0] = np.nan
    np.savez("set.npz", inputs=np.load("x.npy"), expected=y)
    shown = run("model", "validate", "sim://", "-n", "mlp", "--data", files / "set.npz", "--json")
    worst = json.loads(shown.out)["worst"]
    assert (worst["error"], worst["expected"]) == ("inf", "nan")


def test_a_data_set_of_several_inputs(monkeypatch: pytest.MonkeyPatch, files: Path) -> None:
    two_by_two(monkeypatch)
    a = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.savez_compressed("set.npz", a=a, b=a + 1, c=a + 1, d=a)
    assert run("model", "validate", "sim://", "--data", "set.npz").code == 0
    np.savez("set.npz", a=a, b=a, c=a)
    result = run("model", "validate", "sim://", "--data", "set.npz")
    assert (result.code, result.out) == (2, "")
    assert "set.npz has 'a', 'b', 'c', and no 'd'" in result.err


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        ([], 2, "give --inputs and --expected, or --data"),
        (["--inputs", "x.npy"], 2, "give --inputs and --expected, or --data"),
        (["--inputs", "x.npy", "--data", "set.npz"], 2, "give --inputs and --expected, or --data"),
        (["--inputs", "x.npy", "--expected", "nix.npy"], 6, "cannot read nix.npy"),
        (["--data", "nix.npz"], 6, "cannot read nix.npz: No such file"),
        (["--data", "x.npy"], 2, "x.npy is not a .npz file that numpy reads"),
        (["--inputs", "x.npy", "--expected", "one.npy"], 5, "output 'y' has the shape (1, 4), not (N, 1, 3)"),
        (["--inputs", "x.npy", "--expected", "y.npy", "--rtol", "-1"], 5, "rtol is a number from 0 on, not -1.0"),
    ],
)
def test_what_is_wrong_with_a_data_set_is_one_error(options: list[str], code: int, reason: str) -> None:
    result = run("model", "validate", "sim://", "-n", "mlp", *options)
    assert (result.code, result.out) == (code, "")
    assert reason in result.err


def test_an_error_says_at_which_sample_it_was(monkeypatch: pytest.MonkeyPatch, files: Path) -> None:
    count = []

    def fail(inputs: Any, outputs: Any, done: Any) -> None:
        count.append(1)
        if len(count) == 3:
            raise FunctionError("enough")
        MLP.run(inputs, outputs, done)

    only(monkeypatch, SimModel(MLP.table, fail))
    result = run("model", "validate", "sim://", "--inputs", "x.npy", "--expected", "y.npy")
    assert result.err.splitlines()[-1] == "error: microrpc.model.run: enough; this was at sample 2 of 5"


def test_without_room_on_the_board_what_is_needed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    big, y = ModelTensor("x", FLOAT32, (100_000,)), ModelTensor("y", FLOAT32, (3,))
    only(monkeypatch, SimModel(ModelTable("big", 1, (big,), (y,)), lambda *args: None))
    result = run("model", "profile", "sim://")
    assert "out of memory: 400000 bytes asked for" in result.err
    assert "a run of model 'big' needs 400000 bytes for inputs and 12 for outputs" in result.err


def test_of_a_large_data_set_only_what_is_used_is_read(monkeypatch: pytest.MonkeyPatch, files: Path) -> None:
    monkeypatch.setattr(literals, "_LARGE_BYTES", 100)
    loaded = []
    load = literals.load_npy
    monkeypatch.setattr(literals, "load_npy", lambda *args: loaded.append(load(*args)) or loaded[-1])
    np.save("x.npy", np.repeat(X, 50, 0))
    np.save("y.npy", np.repeat(Y, 50, 0))
    result = run("model", "validate", "sim://", "--name", "mlp", "--inputs", "x.npy", "--expected", "y.npy")
    assert result.out.startswith("mlp: 50 of 50 samples agree")
    assert [type(array) for array in loaded] == [np.memmap, np.memmap]


def test_the_tables_of_the_simulated_models_are_the_ones_shown() -> None:
    shown = run_json("model", "info", "sim://")["models"]
    assert [model["name"] for model in shown] == [MLP.table.name, QUANTISED.table.name]
