"""Trees and networks of emlearn, as models on boards (docs/models.md 3)."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import needs
import numpy as np
import pytest
from c_board import FIRMWARE, compile_c

import microrpc
from microrpc.client.board import Board
from microrpc.errors import FirmwareError
from microrpc.firmware import emlearn
from microrpc.firmware.emlearn import add_emlearn_model
from microrpc.firmware.emulator import build_to_run, start_firmware
from microrpc.firmware.new import new_project
from microrpc.firmware.project import load_project
from microrpc.wire.model import ModelTable, decode_model, decode_profile
from microrpc.wire.names import MODEL_LAYER_FUNCTION, MODEL_PROFILE_FUNCTION, MODEL_RUN_FUNCTION, MODELS_FUNCTION

Array = np.ndarray[Any, Any]
TREES = """
    // as emlearn writes it

    #include <stdint.h>

static const uint8_t tree_leaves[2] = { 1, 2 };

static inline int32_t tree_tree_0(const int16_t *features, int32_t features_length) {
          if (features[1] < -6) {
              return 2;
          } else {
              return features[0] < 100;
          }
        }

int32_t tree_predict(const int16_t *features, int32_t features_length) {
        return tree_tree_0(features, features_length);
    }

int tree_predict_proba(const int16_t *features, int32_t features_length, float *out, int out_length) {
        out[0] = features[0];
        return 0;
    }
"""


@dataclass
class Network:
    """What emlearn makes of a network, as far as it is looked at."""

    activations: Sequence[str]
    weights: Sequence[Array]
    biases: Sequence[Array]


def network(*activations: str, seed: int = 1) -> Network:
    """One of 3 inputs, and of 4, 5, 6 ... outputs."""
    rng = np.random.default_rng(seed)
    sizes = [3 + layer for layer in range(len(activations) + 1)]
    weights = [rng.normal(size=(sizes[layer], sizes[layer + 1])) for layer in range(len(activations))]
    return Network(activations, weights, [rng.normal(size=size) for size in sizes[1:]])


def outputs_of(model: Network, x: Array) -> list[Array]:
    """Give what each layer gives, in numbers of 64 bits."""
    functions: dict[str, Any] = {
        "identity": lambda y: y,
        "relu": lambda y: np.maximum(y, 0),
        "logistic": lambda y: 1 / (1 + np.exp(-np.clip(y, -700, 700))),
        "softmax": lambda y: np.exp(y - y.max()) / np.exp(y - y.max()).sum(),
        "tanh": np.tanh,
    }
    outputs: list[Array] = []
    for activation, weights, biases in zip(model.activations, model.weights, model.biases, strict=True):
        x = functions[activation](x.astype(np.float64) @ weights + biases)
        outputs.append(x)
    return outputs


class Running:
    """Models on a board."""

    def __init__(self, board: Board) -> None:
        self.board = board

    def table(self, number: int) -> ModelTable:
        data = b""
        while page := self.board.function(MODELS_FUNCTION)(number, len(data)):
            data += page
        return decode_model(data)

    def run(self, number: int, given: Array, function: str = MODEL_RUN_FUNCTION) -> tuple[Array, Any]:
        """Give the output, and what the function gives."""
        output = self.table(number).outputs[0]
        with self.board.array(given) as x, self.board.empty(output.shape, output.dtype) as y:
            result = self.board.function(function)(number, x, y)
            return y.numpy(), result

    def layer(self, number: int, layer: int, given: Array) -> Array:
        table = self.table(number)
        wanted, output = table.layers[layer].output, table.outputs[0]
        assert wanted is not None
        with (
            self.board.array(given) as x,
            self.board.empty(output.shape, output.dtype) as y,
            self.board.empty(wanted.shape, wanted.dtype) as out,
        ):
            self.board.function(MODEL_LAYER_FUNCTION)(number, layer, out, x, y)
            return out.numpy()


@pytest.fixture
def project(tmp_path: pathlib.Path) -> pathlib.Path:
    new_project(tmp_path / "project", "posix")
    return tmp_path / "project"


@pytest.mark.parametrize("board", ["posix", "qemu_mps2_an385"])
def test_networks_and_trees_run_on_a_board(tmp_path: pathlib.Path, board: str) -> None:
    needs.emulated(board)
    project = tmp_path / "project"
    new_project(project, board)
    networks = [
        network("tanh", "logistic", "softmax", seed=2),
        network("relu", "identity"),
        network("logistic"),
        network("softmax", "tanh", "relu", "identity", seed=3),
    ]
    (tmp_path / "trees.h").write_text(TREES)
    for number, model in enumerate(networks):
        assert add_emlearn_model(project, model, f"net_{number}") == number
    assert add_emlearn_model(project, tmp_path / "trees.h", "tree", features=2) == 4
    firmware = build_to_run(load_project(project))
    rng = np.random.default_rng(4)
    with start_firmware(firmware) as emulator, microrpc.connect(emulator.port) as connected:
        running = Running(connected)
        for number, model in enumerate(networks):
            table = running.table(number)
            assert [layer.name for layer in table.layers] == [
                f"dense_{at}_{activation}" for at, activation in enumerate(model.activations)
            ]
            assert table.weights_bytes == 4 * sum(array.size for array in (*model.weights, *model.biases))
            for scale in (1.0, 10.0, 300.0):
                given = (rng.normal(size=3) * scale).astype(np.float32)
                expected = outputs_of(model, given)
                output, _ = running.run(number, given)
                np.testing.assert_allclose(output, expected[-1], rtol=1e-5, atol=1e-5)
            for layer, wanted in enumerate(expected):
                np.testing.assert_allclose(running.layer(number, layer, given), wanted, rtol=1e-5, atol=1e-5)
            profile = decode_profile(running.run(number, given, MODEL_PROFILE_FUNCTION)[1], len(model.activations))
            assert sum(profile.layers_us) <= profile.total_us
        for features, expected_class in (((0, 0), 1), ((100, 0), 0), ((0, -7), 2), ((-32768, 32767), 1)):
            output, _ = running.run(4, np.array(features, np.int16))
            np.testing.assert_array_equal(output, np.array([expected_class], np.int32))


def test_an_exponential_keeps_its_place_at_the_ends(project: pathlib.Path) -> None:
    needs.zig()
    ones = np.array([[1.0]])
    for number, name in enumerate(("logistic", "tanh")):
        assert add_emlearn_model(project, Network([name], [ones], [np.zeros(1)]), name) == number
    numbers = np.array([-1e30, -104, -88.5, -20, -1, -1e-3, 0, 1e-3, 0.34657, 1, 20, 88.5, 1e30], np.float32)
    with start_firmware(build_to_run(load_project(project))) as emulator, microrpc.connect(emulator.port) as board:
        running = Running(board)
        for x in numbers:
            logistic, tanh = (float(running.run(number, np.array([x]))[0][0]) for number in range(2))
            with np.errstate(over="ignore"):
                assert logistic == pytest.approx(1 / (1 + np.exp(-float(x))), abs=3e-7)
            assert tanh == pytest.approx(np.tanh(float(x)), abs=3e-7)


SPECIAL = """
    #include <stdio.h>
    #include <math.h>
    #include "microrpc_emlearn.h"
    int main(void) {
        static const float weights[4] = {1, 0, 0, 1}, biases[2] = {0, 0}, numbers[] = {NAN, INFINITY, -INFINITY, 0};
        static float buffers[2][2];
        for (int activation = 0; activation <= MICRORPC_EMLEARN_TANH; activation++)
            for (int i = 0; i < 4; i++) {
                microrpc_emlearn_layer_t layer = {2, 2, weights, biases, (microrpc_emlearn_activation_t)activation};
                microrpc_emlearn_net_t net = {&layer, {buffers[0], buffers[1]}};
                microrpc_model_t model = {.layer_count = 1, .context = &net};
                float x[2] = {numbers[i], numbers[i]}, y[2];
                const void *inputs[] = {x};
                void *outputs[] = {y};
                if (microrpc_emlearn_run(&model, inputs, outputs, NULL)) return 1;
                if (i == 0) printf("%s\\n", y[0] != y[0] ? "nan" : "a number");
            }
        return 0;
    }
"""


def test_what_is_no_number_stays_that_and_is_nothing_that_c_leaves_open(tmp_path: pathlib.Path) -> None:
    needs.program("clang")
    source = tmp_path / "special.c"
    source.write_text(SPECIAL)
    sanitized = ("-g", "-O1", "-fsanitize=undefined,float-cast-overflow", "-fno-sanitize-recover=all")
    flags = ("-DMICRORPC_MODELS=1", f"-I{FIRMWARE / 'emlearn'}", "-o", tmp_path / "special", "-lm")
    compile_c(FIRMWARE / "emlearn/microrpc_emlearn.c", source, *sanitized, *flags, compiler=("clang",))
    done = subprocess.run([tmp_path / "special"], capture_output=True, text=True, check=False)
    # identity, relu, logistic, softmax, tanh
    assert (done.returncode, done.stderr, done.stdout.split("\n")[:-1]) == (0, "", ["nan"] * 5)


def test_weights_are_the_same_floats_in_c(project: pathlib.Path) -> None:
    needs.zig()
    numbers = np.array([1e-45, 1.17549435e-38, 3.4028235e38, 0.1, 1 / 3, -2.5, 16777217.0], np.float32)
    add_emlearn_model(project, Network(["identity"], [np.zeros((1, 7))], [numbers]), "floats")
    with start_firmware(build_to_run(load_project(project))) as emulator, microrpc.connect(emulator.port) as board:
        output, _ = Running(board).run(0, np.zeros(1, np.float32))
    np.testing.assert_array_equal(output, numbers)


# --- what cannot be ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Network(["elu"], [np.ones((1, 1))], [np.ones(1)]), "layer 0: 'elu' is none of identity, relu"),
        (Network(["relu"], [np.ones((1, 2))], [np.ones(1)]), r"layer 0: weights of \(1, 2\) do not fit"),
        (Network(["relu"] * 2, [np.ones((1, 2))] * 2, [np.ones(2)] * 2), r"layer 1: weights of \(1, 2\) do not fit"),
        (Network(["relu"], [np.ones((1, 70000))], [np.ones(70000)]), "layer 0: .* are too many, or none"),
        (Network(["relu"], [np.ones((1, 0))], [np.ones(0)]), "layer 0: .* are too many, or none"),
        (Network(["relu"], [np.array([[np.nan]])], [np.ones(1)]), "layer 0: a weight is not finite"),
        (Network([], [], []), "it has no layers"),
    ],
)
def test_a_network_that_no_board_can_run_is_refused(project: pathlib.Path, model: Network, reason: str) -> None:
    with pytest.raises(FirmwareError, match=f"odd: {reason}"):
        add_emlearn_model(project, model, "odd")
    assert not (project / "model_odd.c").exists()


@pytest.mark.parametrize(
    ("header", "features", "reason"),
    [
        (TREES, None, "how many features does it take"),
        (TREES, 0, "how many features does it take"),
        (TREES, 65536, "how many features does it take"),
        ("int main(void);", 2, "there is no `int32_t NAME_predict"),
        (TREES.replace("int16_t", "double"), 2, "there is no `int32_t NAME_predict"),
        ("#include <eml_trees.h>\n" + TREES, 2, "it wants headers of emlearn"),
    ],
)
def test_a_header_that_is_not_of_inline_trees_is_refused(
    project: pathlib.Path, header: str, features: int | None, reason: str
) -> None:
    (project / "trees.h").write_text(header)
    with pytest.raises(FirmwareError, match=f"odd: {reason}"):
        add_emlearn_model(project, str(project / "trees.h"), "odd", features=features)


def test_a_header_that_cannot_be_read_is_told(project: pathlib.Path) -> None:
    with pytest.raises(FirmwareError, match=r"none\.h: cannot be read: No such file"):
        add_emlearn_model(project, project / "none.h", "odd", features=1)
    (project / "bytes.h").write_bytes(b"\xff\xfe")
    with pytest.raises(FirmwareError, match=r"bytes\.h: cannot be read: it is no text"):
        add_emlearn_model(project, project / "bytes.h", "odd", features=1)


def test_without_emlearn_one_error_says_what_to_install(project: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(emlearn.importlib, "import_module", import_module)
    with pytest.raises(FirmwareError, match="a dict is converted by emlearn, which is not here: pip install emlearn"):
        add_emlearn_model(project, {}, "odd")


def test_what_emlearn_does_not_take_is_told_in_its_words(
    project: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Emlearn:
        @staticmethod
        def convert(estimator: object, **_: object) -> object:
            if isinstance(estimator, dict):
                raise ValueError("Unknown model type: 'dict'")
            return estimator

    monkeypatch.setattr(emlearn.importlib, "import_module", lambda _: Emlearn)
    with pytest.raises(FirmwareError, match="emlearn cannot convert a dict: Unknown model type: 'dict'"):
        add_emlearn_model(project, {}, "odd")
    with pytest.raises(FirmwareError, match="a list is neither trees nor a network"):
        add_emlearn_model(project, [], "odd")


# --- with emlearn and scikit-learn themselves ---------------------------------------------------

FIT = """
import sys, warnings
warnings.simplefilter("ignore")
import emlearn, numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.tree import DecisionTreeClassifier
from microrpc.errors import FirmwareError
from microrpc.firmware.emlearn import add_emlearn_model

project = sys.argv[1]
x, y = make_classification(
    120, 4, n_informative=3, n_redundant=0, n_classes=3, n_clusters_per_class=1, random_state=1)
whole, real = (x * 100).astype(np.int16), x.astype(np.float32)
models = {
    "forest": RandomForestClassifier(5, max_depth=4, random_state=1).fit(whole, y),
    "tree": DecisionTreeClassifier(max_depth=3, random_state=1).fit(whole, y),
    "value": RandomForestRegressor(3, max_depth=4, random_state=1).fit(whole, y * 2.5),
    "net": MLPClassifier((8, 5), activation="tanh", max_iter=200, random_state=1).fit(real, y),
    "pair": MLPClassifier((6,), activation="relu", max_iter=200, random_state=1).fit(real, y > 0),
    "line": MLPRegressor(hidden_layer_sizes=(6,), activation="logistic", max_iter=200, random_state=1).fit(real, y),
}
expected = {"forest": emlearn.convert(models["forest"], method="inline").predict(whole),
            "tree": emlearn.convert(models["tree"], method="inline").predict(whole),
            "value": emlearn.convert(models["value"], method="inline").predict(whole),
            "net": models["net"].predict_proba(real), "pair": models["pair"].predict_proba(real)[:, 1],
            "line": models["line"].predict(real)}
for number, (name, model) in enumerate(models.items()):
    assert add_emlearn_model(project, model, name) == number
# What emlearn has converted itself: of floats, of proportions, and in the other way.
converted = {
    "floats": emlearn.convert(ExtraTreesClassifier(4, max_depth=4, random_state=1).fit(real, y),
                              method="inline", dtype="float"),
    "soft": emlearn.convert(models["forest"], method="inline", leaf_bits=8),
    "loadable": emlearn.convert(models["forest"], method="loadable"),
}
for name, model in converted.items():
    expected[name] = model.predict(real if name == "floats" else whole)
    add_emlearn_model(project, model, name)
try:
    from sklearn.naive_bayes import GaussianNB
    add_emlearn_model(project, GaussianNB().fit(real, y), "bayes")
except FirmwareError as error:
    assert "emlearn cannot convert a GaussianNB: NaiveBayes does not support" in str(error), error
else:
    raise AssertionError("a board has no such model")
np.savez(sys.argv[2], whole=whole, real=real, **expected)
"""


@pytest.mark.tools
@pytest.mark.timeout(400)
@pytest.mark.parametrize("board", ["posix", "qemu_mps2_an385"])
def test_what_scikit_learn_fitted_and_emlearn_converted_runs_on_a_board(tmp_path: pathlib.Path, board: str) -> None:
    needs.emulated(board)
    python = needs.tools()
    project = tmp_path / "project"
    new_project(project, board)
    command = [python, "-c", FIT, str(project), str(tmp_path / "expected.npz")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    expected = np.load(tmp_path / "expected.npz")
    names = ("forest", "tree", "value", "net", "pair", "line", "floats", "soft", "loadable")
    firmware = build_to_run(load_project(project))
    with start_firmware(firmware) as emulator, microrpc.connect(emulator.port) as connected:
        running = Running(connected)
        for number, name in enumerate(names):
            table = running.table(number)
            assert table.name == name
            given = expected["real" if table.inputs[0].dtype == "float32" else "whole"]
            got = np.array([running.run(number, row)[0] for row in given[:40]])
            wanted = expected[name][:40].reshape(got.shape)
            if table.outputs[0].dtype == "int32":
                np.testing.assert_array_equal(got, wanted)
            else:
                np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
