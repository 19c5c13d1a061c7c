"""Trees and small networks that emlearn makes C of, as models of a project (docs/models.md 3).

    from microrpc.firmware.emlearn import add_emlearn_model

    forest = RandomForestClassifier(10, max_depth=5).fit(x, y)   # scikit-learn
    add_emlearn_model("my_project", forest, "forest")

emlearn and scikit-learn are needed where a model is converted, and nowhere else.
"""

from __future__ import annotations

import importlib
import itertools
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from microrpc.errors import FirmwareError, reason_of
from microrpc.firmware.models import add_model, check_model_name, content_hash
from microrpc.firmware.project import firmware_directory

RUNTIME_FILES: Final = {
    "include/microrpc_emlearn.h": "emlearn/microrpc_emlearn.h",
    "src/microrpc_emlearn.c": "emlearn/microrpc_emlearn.c",
}
"""What a project with a network has, by its path there, and where it lies in the library's directory."""

_ACTIVATIONS = ("identity", "relu", "logistic", "softmax", "tanh")
_TYPES = {
    **{f"{sign}int{bits}_t": (code, bits) for code, sign in ((0, ""), (1, "u")) for bits in (8, 16, 32)},
    "float": (2, 32),
}
"""What emlearn's features and results are in C: code and bits (docs/protocol.md 3)."""
_PREDICT = re.compile(
    r"^\s*(int32_t|float)\s+(\w+)_predict\(const (\w+) \*features, int32_t features_length\)", re.MULTILINE
)
_WARNINGS = ("conversion", "sign-compare", "unused-const-variable", "unused-function", "unused-parameter")
"""What compilers say of the C of emlearn, and our flags make errors."""
_MOST_COUNT = 65535


def add_emlearn_model(directory: str | os.PathLike[str], model: Any, name: str, *, features: int | None = None) -> int:
    """Add a model to the project in `directory`, or write it anew where it has one of that name; give its number.

    model: a fitted estimator of scikit-learn, or what `emlearn.convert` made of one, or the path of a header that it
    saved for trees with method="inline", of which `features` is the number of inputs. A tree or a forest takes
    features[n] in the type that emlearn was told, int16 where it was told none, and gives the number of the class,
    int32[1], or of a regressor the value, float32[1]. A network takes x, float32[n], and gives y, float32[m], what its
    last layer gives: for a classifier the probability of each class, or of two classes that of the second one.

    The project is built with MICRORPC_MODELS=1 from then on. Raises FirmwareError: emlearn is not there, or cannot
    convert such a model, or the directory is no project, or the name none that C has.
    """
    project = pathlib.Path(directory)
    check_model_name(name)
    if isinstance(model, str | os.PathLike):
        text = _read_header(pathlib.Path(model))
        return add_model(project, name, {f"model_{name}.c": _trees_source(name, text, features)})
    if not _is_network(model) and not _is_forest(model):
        model = _convert(model)
    if _is_forest(model):
        text = model.save(name=name, format="c", inference=["inline"]) if model.method != "inline" else model.save(name)
        return add_model(project, name, {f"model_{name}.c": _trees_source(name, text, model.n_features)})
    files = {path: (firmware_directory() / source).read_text("utf-8") for path, source in RUNTIME_FILES.items()}
    return add_model(project, name, {**files, f"model_{name}.c": _network_source(name, model)})


# --- what emlearn gives -----------------------------------------------------------------------


def _is_network(model: object) -> bool:
    return all(hasattr(model, field) for field in ("activations", "weights", "biases"))


def _is_forest(model: object) -> bool:
    return hasattr(model, "forest_") and hasattr(model, "n_features")


def _convert(estimator: object) -> Any:
    """Let emlearn convert an estimator. Raises FirmwareError."""
    kind = type(estimator).__name__
    try:
        emlearn = importlib.import_module("emlearn")
    except ImportError as error:
        raise FirmwareError(f"a {kind} is converted by emlearn, which is not here: pip install emlearn") from error
    is_network_of_values = kind == "MLPRegressor"
    options = {"return_type": "regressor", "method": "loadable"} if is_network_of_values else {"method": "inline"}
    try:
        converted = emlearn.convert(estimator, **options)
    except Exception as error:  # whatever a library raises of a model that it does not take
        raise FirmwareError(f"emlearn cannot convert a {kind}: {error or type(error).__name__}") from error
    if not _is_network(converted) and not _is_forest(converted):
        raise FirmwareError(f"a {kind} is neither trees nor a network, which is what a board can have of emlearn")
    return converted


def _read_header(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "it is no text"
        raise FirmwareError(f"{path}: cannot be read: {reason}") from error


# --- trees ------------------------------------------------------------------------------------


def _trees_source(name: str, header: str, features: int | None) -> str:
    """Give the C file of trees: what emlearn made, and the table around it. Raises FirmwareError."""
    found = _PREDICT.search(header)
    if found is None or found[3] not in _TYPES:
        raise FirmwareError(
            f"{name}: there is no `int32_t NAME_predict(const TYPE *features, int32_t features_length)` in what emlearn"
            ' made: convert trees with method="inline"'
        )
    if "#include <eml_" in header:
        raise FirmwareError(f'{name}: it wants headers of emlearn that boards do not have: use method="inline"')
    if features is None or not 0 < features <= _MOST_COUNT:
        raise FirmwareError(f"{name}: how many features does it take? Say features=, from 1 to {_MOST_COUNT}")
    result, predict, taken = found.groups()
    output = "class" if result == "int32_t" else "value"
    return "\n".join(
        (
            f"/* Trees that emlearn converted, as the model {name}. */",
            '#include "microrpc_model.h"',
            "",
            "#pragma GCC diagnostic push",
            *(f'#pragma GCC diagnostic ignored "-W{warning}"' for warning in _WARNINGS),
            header.strip("\n"),
            "#pragma GCC diagnostic pop",
            "",
            "static const char *run(const microrpc_model_t *model, const void *const *inputs, void *const *outputs,",
            "                       microrpc_model_run_t *run) {",
            "    (void)model;",
            f"    *({result} *)outputs[0] = {predict}_predict(inputs[0], {features});",
            "    microrpc_model_layer_done(run, 0, outputs[0]);",
            "    return NULL;",
            "}",
            "",
            f"static const uint32_t features[] = {{{features}}}, one[] = {{1}};",
            f"static const microrpc_model_tensor_t input = {_tensor('features', taken, 'features')};",
            f"static const microrpc_model_tensor_t output = {_tensor(output, result, 'one')};",
            f'static const microrpc_model_layer_t layers[] = {{{{"trees", {_tensor(output, result, "one")}}}}};',
            *_table(name, header, layer_count=1),
        )
    )


def _tensor(name: str, c_type: str, extents: str) -> str:
    code, bits = _TYPES[c_type]
    return f'{{"{name}", {{{code}, {bits}, 1}}, 1, {extents}, 0, 0}}'


def _table(name: str, made_of: str, *, layer_count: int, more: Sequence[str] = (), run: str = "run") -> list[str]:
    return [
        "",
        f"const microrpc_model_t model_{name} = {{",
        f'    .name = "{name}",',
        f"    .hash = UINT64_C(0x{content_hash(made_of):016X}),",
        "    .inputs = &input,",
        "    .outputs = &output,",
        "    .layers = layers,",
        "    .input_count = 1,",
        "    .output_count = 1,",
        f"    .layer_count = {layer_count},",
        *more,
        f"    .run = {run},",
        "};",
        "",
    ]


# --- networks ---------------------------------------------------------------------------------


def _network_source(name: str, network: Any) -> str:
    """Give the C file of a network. Raises FirmwareError."""
    layers = list(zip(network.activations, network.weights, network.biases, strict=True))
    if not layers:
        raise FirmwareError(f"{name}: it has no layers")
    data: list[str] = []
    entries: list[str] = []
    told: list[str] = []
    sizes: list[int] = []
    for number, (activation, weights, biases) in enumerate(layers):
        matrix, vector = np.asarray(weights, np.float32), np.asarray(biases, np.float32)
        if activation not in _ACTIVATIONS:
            raise FirmwareError(f"{name}: layer {number}: {activation!r} is none of {', '.join(_ACTIVATIONS)}")
        if matrix.ndim != 2 or vector.shape != matrix.shape[1:] or (sizes and matrix.shape[0] != sizes[-1]):
            raise FirmwareError(f"{name}: layer {number}: weights of {matrix.shape} do not fit what is before them")
        if not 0 < min(matrix.shape) <= max(matrix.shape) <= _MOST_COUNT:
            raise FirmwareError(f"{name}: layer {number}: weights of {matrix.shape} are too many, or none")
        if not (np.isfinite(matrix).all() and np.isfinite(vector).all()):
            raise FirmwareError(f"{name}: layer {number}: a weight is not finite")
        inputs, outputs = matrix.shape
        sizes += [inputs, outputs] if not sizes else [outputs]
        data += [
            f"static const float weights_{number}[] = {{{_floats(matrix)}}};",
            f"static const float biases_{number}[] = {{{_floats(vector)}}};",
            f"static const uint32_t shape_{number}[] = {{{outputs}}};",
        ]
        entries.append(
            f"    {{{inputs}, {outputs}, weights_{number}, biases_{number}, MICRORPC_EMLEARN_{activation.upper()}}},"
        )
        title = f"dense_{number}_{activation}"
        tensor = _tensor("y" if number == len(layers) - 1 else title, "float", f"shape_{number}")
        told.append(f'    {{"{title}", {tensor}}},')
    most = max((*sizes[1:-1], 1))
    weights_bytes = 4 * sum(inputs * outputs + outputs for inputs, outputs in itertools.pairwise(sizes))
    body = [
        *data,
        f"static const uint32_t shape[] = {{{sizes[0]}}};",
        "",
        f"static float buffers[2][{most}];",
        "static const microrpc_emlearn_layer_t net_layers[] = {",
        *entries,
        "};",
        "static const microrpc_emlearn_net_t net = {net_layers, {buffers[0], buffers[1]}};",
        "",
        f"static const microrpc_model_tensor_t input = {_tensor('x', 'float', 'shape')};",
        f"static const microrpc_model_tensor_t output = {_tensor('y', 'float', f'shape_{len(layers) - 1}')};",
        "static const microrpc_model_layer_t layers[] = {",
        *told,
        "};",
    ]
    more = (
        f"    .weights_bytes = {weights_bytes},",
        "    .arena_bytes = sizeof buffers,",
        "    .context = &net,",
    )
    table = _table(name, "\n".join(body), layer_count=len(layers), more=more, run="microrpc_emlearn_run")
    head = f"/* A network that emlearn converted, as the model {name}. */"
    return "\n".join((head, '#include "microrpc_emlearn.h"', "", *body, *table))


def _floats(numbers: np.ndarray[Any, Any]) -> str:
    """Write floats so that C has the same ones: 9 digits do."""
    return ", ".join(f"{number:.8e}f" for number in map(float, numbers.ravel()))
