"""One model of a board: the names of its tensors and layers, and which inputs were given (docs/using_models.md)."""

from __future__ import annotations

from typing import Any

import pytest

from microrpc.errors import ArgumentError, ProtocolError
from microrpc.host.model import bind, labels, layer_labels, layer_tensors, take_nothing
from microrpc.wire.datatypes import DataType
from microrpc.wire.model import ModelLayer, ModelTable, ModelTensor

FLOAT32 = DataType.parse("float32")


def table(*inputs: str, layers: tuple[ModelLayer, ...] = ()) -> ModelTable:
    return ModelTable("m", 1, tuple(ModelTensor(name, FLOAT32, (1,)) for name in inputs), (), layers)


def test_a_tensor_without_a_name_is_called_by_its_number() -> None:
    assert labels(table("a", "", "b", "").inputs) == ["a", "#1", "b", "#3"]


def test_layers_of_one_name_are_told_apart() -> None:
    names = ("dense", "relu", "dense", "", "dense", "")
    assert layer_labels(table(layers=tuple(map(ModelLayer, names)))) == [
        *("dense", "relu", "dense#2", "#3", "dense#3", "#5")
    ]


def test_tensors_of_one_name_are_told_apart_too() -> None:
    assert labels(table("x", "x", "y", "x").inputs) == ["x", "x#2", "y", "x#3"]
    assert labels(table("#1", "").inputs) == ["#1", "#1#2"]
    assert labels(table("a", "a", "a#2", "a", "a#2").inputs) == ["a", "a#3", "a#2", "a#4", "a#2#2"]


def test_inputs_of_one_name_are_bound_each_to_its_own() -> None:
    same = table("x", "x")
    assert bind(same, (1, 2), {}) == [1, 2]
    assert bind(same, (1,), {"x#2": 2}) == [1, 2]
    assert bind(same, (), {"x#2": 2, "x": 1}) == [1, 2]
    with pytest.raises(ArgumentError, match=r"takes x: float32\[1\], x#2: float32\[1\]; 'x#2' was not given"):
        bind(same, (1,), {})


def test_as_many_layers_as_there_can_be_are_told_apart_at_once() -> None:
    names = layer_labels(table(layers=(ModelLayer("same"),) * 65_535))
    assert len(set(names)) == 65_535


def test_the_layers_that_can_be_had_are_those_with_an_output() -> None:
    output = ModelTensor("y", FLOAT32, (1,))
    layers = (ModelLayer("a"), ModelLayer("b", output), ModelLayer("c"), ModelLayer("d", output))
    assert list(layer_tensors(table(layers=layers))) == [1, 3]


@pytest.mark.parametrize(
    ("given", "named", "bound"),
    [
        ((1, 2), {}, [1, 2]),
        ((1,), {"b": 2}, [1, 2]),
        ((), {"b": 2, "a": 1}, [1, 2]),
    ],
)
def test_inputs_are_bound_by_position_and_by_name(given: Any, named: Any, bound: list[int]) -> None:
    assert bind(table("a", "b"), given, named) == bound


def test_an_input_without_a_name_is_bound_by_its_number() -> None:
    assert bind(table("", ""), (1,), {"#1": 2}) == [1, 2]


@pytest.mark.parametrize(
    ("inputs", "given", "named", "reason"),
    [
        (("a", "b"), (), {}, "model 'm' takes a: float32.1., b: float32.1.; 'a', 'b' was not given"),
        (("a",), (1, 2), {}, "not 2 inputs"),
        ((), (1,), {}, "model 'm' takes nothing, not 1 inputs"),
        (("a",), (1,), {"a": 1}, "'a' was given twice"),
        (("input",), (), {"inptu": 1}, "it has no input 'inptu'; did you mean 'input'"),
    ],
)
def test_inputs_that_are_missing_or_too_many_are_one_error(inputs: Any, given: Any, named: Any, reason: str) -> None:
    with pytest.raises(ArgumentError, match=reason):
        bind(table(*inputs), given, named)


@pytest.mark.parametrize("result", [0, b"", "text"])
def test_a_model_that_returns_something_is_against_the_protocol(result: Any) -> None:
    take_nothing(None)
    with pytest.raises(ProtocolError, match=r"a model returned .*, not None"):
        take_nothing(result)
