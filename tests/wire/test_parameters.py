"""What is sent is held against the signature: each rule has what passes, and what does not (docs/description.md 3)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrpc.errors import ArgumentError
from microrpc.wire.datatypes import CPU, DataType, FunctionHandle, ModuleHandle, OpaqueHandle, Tensor, UInt
from microrpc.wire.grammar import parse_signature


def tensor(dtype: str, *shape: int) -> Tensor:
    return Tensor(0x2000, CPU, DataType.parse(dtype), shape)


F23, F2 = tensor("float32", 2, 3), tensor("float32", 2)

PASSES: list[tuple[str, Any, Any]] = [
    # the type, what is given, and what is sent
    ("int", 5, 5),
    ("int", -(2**63), -(2**63)),
    ("int", 2**63 - 1, 2**63 - 1),
    ("int", np.uint8(7), 7),
    ("int", UInt(7), 7),
    ("int(0..7)", 0, 0),
    ("int(0..7)", 7, 7),
    ("int(..7)", -(2**63), -(2**63)),
    ("int(0..)", 2**63 - 1, 2**63 - 1),
    ("int8", -128, -128),
    ("int8", 127, 127),
    ("uint8", 255, 255),
    ("uint16", 65535, 65535),
    ("int32", -(2**31), -(2**31)),
    ("uint64", 2**63 - 1, 2**63 - 1),
    ("float", 1.5, 1.5),
    ("float", 3, 3.0),
    ("float", np.float32(0.5), 0.5),
    ("float", np.int16(-2), -2.0),
    ("float", math.inf, math.inf),
    ("float(0..1)", 1, 1.0),
    ("float(0.5..)", 0.5, 0.5),
    ("bool", True, True),
    ("bool", np.False_, False),
    ("str", "", ""),
    ("bytes", b"\0", b"\0"),
    ("bytes", bytearray(b"a"), bytearray(b"a")),
    ("bytes", memoryview(b"a"), memoryview(b"a")),
    ("handle", OpaqueHandle(1), OpaqueHandle(1)),
    ("handle", F2, F2),
    ("handle", FunctionHandle(1), FunctionHandle(1)),
    ("handle", ModuleHandle(1), ModuleHandle(1)),
    ("handle", None, None),
    ("function", FunctionHandle(1), FunctionHandle(1)),
    ("module", ModuleHandle(1), ModuleHandle(1)),
    ("any", None, None),
    ("any", [], []),
    ("float32[n, k]", F23, F23),
    ("float32[2, 3]", F23, F23),
    ("float32[...]", F23, F23),
    ("float32[..., 3]", F23, F23),
    ("float32[2, ..., 3]", F23, F23),
    ("float32[2, 3, ...]", F23, F23),
    ("any[n, n]", tensor("int8", 4, 4), tensor("int8", 4, 4)),
    ("any[...]", tensor("float32"), tensor("float32")),
    ("float32[]", tensor("float32"), tensor("float32")),
    ("float32x4[2]", tensor("float32x4", 2), tensor("float32x4", 2)),
]

FAILS: list[Any] = [
    # the type, what is given, and what is said of it
    ("int", 2**63, "is 9223372036854775808, expected int"),
    ("int", -(2**63) - 1, "expected int"),
    ("int", 1.0, "is 1.0, expected int"),
    ("int", True, "is True, expected int"),
    ("int", np.True_, "expected int"),
    ("int", "1", "is '1', expected int"),
    ("int", None, "is None, expected int"),
    ("int", OpaqueHandle(1), "is OpaqueHandle(0x1), expected int"),
    ("int", FunctionHandle(1), "expected int"),
    ("int", ModuleHandle(1), "expected int"),
    pytest.param("int", 10**5000, "is a number of very many digits, expected int", id="very many digits"),
    ("int(0..7)", 8, "is 8, expected int(0..7)"),
    ("int(0..7)", -1, "expected int(0..7)"),
    (f"int(0..{10**30})", 2**63, "expected int(0.."),
    ("int8", 128, "is 128, expected int8 (-128..127)"),
    ("int8", -129, "expected int8"),
    ("uint8", -1, "is -1, expected uint8 (0..255)"),
    ("uint8", 256, "expected uint8"),
    ("uint32", 2**32, "expected uint32 (0..4294967295)"),
    ("uint64", 2**63, "expected uint64 (0..9223372036854775807)"),
    ("float", "1", "is '1', expected float"),
    ("float", True, "is True, expected float"),
    pytest.param("float", 10**400, "expected float", id="too large for a float"),
    ("float", OpaqueHandle(1), "expected float"),
    ("float(0..1)", 1.0000001, "expected float(0..1)"),
    ("float(0..1)", math.nan, "is nan, expected float(0..1)"),
    ("float(0..)", -0.1, "expected float(0..)"),
    ("bool", 1, "is 1, expected bool (True or False)"),
    ("bool", None, "expected bool"),
    ("str", b"a", "is b'a', expected str"),
    ("bytes", "a", "is 'a', expected bytes"),
    ("handle", 1, "is 1, expected handle (an OpaqueHandle, an array, a function, a module, or None)"),
    ("function", ModuleHandle(1), "expected function (one that the board gave)"),
    ("function", None, "expected function"),
    ("module", FunctionHandle(1), "expected module (one that the board gave)"),
    ("float32[n]", F23, "is an array float32[2, 3], expected float32[n]"),
    ("float32[n, k]", F2, "is an array float32[2], expected float32[n, k]"),
    ("float32[n, 4]", F23, "is an array float32[2, 3], expected float32[n, 4]"),
    ("int8[n, k]", F23, "is an array float32[2, 3], expected int8[n, k]"),
    ("float32[2, 3, 1, ...]", F23, "expected float32[2, 3, 1, ...]"),
    ("float32[..., 2]", F23, "expected float32[..., 2]"),
    ("float32[]", F2, "is an array float32[2], expected float32[]"),
    ("float32[n, n]", F23, "is an array float32[2, 3], expected float32[n, n] with n = 2, as in x"),
    ("float32[n]", 1.0, "is 1.0, expected float32[n]"),
    ("float32[n]", None, "is None, expected float32[n]"),
    ("float32[n]", np.zeros(3), "is an array of numpy, float64[3], which is not on the board"),
    ("float32[n]", [1.0, 2.0], "is [1.0, 2.0], which is not on the board (`board.array(x)` copies it there)"),
]


@pytest.mark.parametrize(("kind", "given", "sent"), PASSES)
def test_what_is_of_the_type_is_sent(kind: str, given: Any, sent: Any) -> None:
    (value,) = parse_signature(f"x: {kind} -> None").check([given], "f")
    assert value == sent
    assert type(value) is type(sent)


@pytest.mark.parametrize(("kind", "given", "reason"), FAILS)
def test_what_is_not_is_one_error_with_what_was_given_and_expected_and_the_signature(
    kind: str, given: Any, reason: str
) -> None:
    signature = parse_signature(f"x: {kind} -> None")
    with pytest.raises(ArgumentError) as caught:
        signature.check([given], "f")
    assert str(caught.value).startswith("f: argument 1 (x) ")
    assert reason in str(caught.value)
    assert str(caught.value).endswith(f"; nothing was sent. Its signature: f(x: {kind}) -> None")


@pytest.mark.parametrize(
    ("signature", "args", "reason"),
    [
        ("-> None", [1], "it takes 0 arguments, and 1 were given"),
        ("a: int -> None", [1, 2], "it takes 1 argument, and 2 were given"),
        ("a: int, b: float [V] -> None", [1], "argument 2 (b: float [V]) is missing"),
        ("a: int, b: int = 1 -> None", [], "argument 1 (a: int) is missing"),
        ("a: int, b: int = 1 -> None", [1, 2, 3], "it takes 2 arguments, and 3 were given"),
        ("a: int, *b: int -> None", [], "argument 1 (a: int) is missing"),
        ("a: int, *b: int -> None", [1, 2, "x"], "argument 3 (b) is 'x', expected int"),
        ("a: int, b: int [V] = 1 -> None", [1, "x"], "argument 2 (b) is 'x', expected int [V]"),
    ],
)
def test_the_number_of_arguments_is_checked(signature: str, args: list[Any], reason: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        parse_signature(signature).check(args, "f")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("signature", "args"),
    [
        ("-> None", []),
        ("a: int, b: int = 1 -> None", [1]),
        ("a: int, b: int = 1 -> None", [1, 2]),
        ("a: int = 1, *b: int -> None", []),
        ("*b: int -> None", [1, 2, 3]),
        ("x: float32[n] = None -> None", [None]),
    ],
)
def test_what_may_be_left_out_is_left_out(signature: str, args: list[Any]) -> None:
    assert parse_signature(signature).check(args, "f") == tuple(args)


def test_a_name_stands_for_one_extent_wherever_it_stands() -> None:
    signature = parse_signature("a: float32[n, k], b: float32[k, m], c: float32[n, m] -> None")
    a, b, c = tensor("float32", 2, 3), tensor("float32", 3, 4), tensor("float32", 2, 4)
    assert signature.check([a, b, c], "matmul") == (a, b, c)
    with pytest.raises(ArgumentError, match=r"argument 2 \(b\) is an array float32\[4, 3\], .* k = 3, as in a"):
        signature.check([a, tensor("float32", 4, 3), c], "matmul")
    with pytest.raises(ArgumentError, match=r"argument 3 \(c\) .* with m = 4, as in b"):
        signature.check([a, b, tensor("float32", 2, 5)], "matmul")


def test_the_arrays_of_a_star_agree_too() -> None:
    signature = parse_signature("*a: float32[n] -> None")
    with pytest.raises(ArgumentError, match=r"argument 3 \(a\) .* with n = 2, as in a"):
        signature.check([F2, F2, tensor("float32", 3)], "f")


def test_an_error_shows_what_the_program_gave_and_not_what_became_of_it() -> None:
    with pytest.raises(ArgumentError, match="is <the user's>, expected int"):
        parse_signature("x: int -> None").check(
            [OpaqueHandle(1)], "f", [type("T", (), {"__repr__": lambda _: "<the user's>"})()]
        )


@pytest.mark.parametrize(
    ("args", "named", "bound"),
    [
        ((), {"a": 1}, (1,)),
        ((1,), {"c": 5}, (1, 10, 5)),
        ((1,), {"in_": 2}, (1, 2)),
        ((1, 2, 3), {}, (1, 2, 3)),
        ((1, 2, 3, 4), {}, (1, 2, 3, 4)),
    ],
)
def test_arguments_by_name_come_where_they_belong(args: Any, named: Any, bound: Any) -> None:
    signature = parse_signature("a: int, in: int = 10, c: int = 20, *d: int -> None")
    assert signature.bind(args, named, "f") == bound


@pytest.mark.parametrize(
    ("args", "named", "reason"),
    [
        ((), {"c": 1}, "argument 1 (a: int) is missing"),
        ((), {"x": 1}, "no argument is called x"),
        ((), {"in": 1}, "no argument is called in; did you mean 'in_'?"),
        ((1,), {"d": 1}, "no argument is called d"),
        ((1,), {"a": 1}, "argument a is given twice"),
        ((), {"a": 1, "x": 2}, "no argument is called x"),
        ((1, 2, 3, 4), {"c": 1}, "argument c is given twice"),
    ],
)
def test_a_name_that_does_not_fit_is_one_error(args: Any, named: Any, reason: str) -> None:
    signature = parse_signature("a: int, in: int = 10, c: int = 20, *d: int -> None")
    with pytest.raises(ArgumentError) as caught:
        signature.bind(args, named, "f")
    assert f"f: {reason}; nothing was sent" in str(caught.value)


def test_an_argument_that_is_given_twice_is_told_of_before_one_that_is_missing() -> None:
    with pytest.raises(ArgumentError, match="argument a is given twice"):
        parse_signature("a: int, b: int -> int").bind((1,), {"a": 2}, "add")


@given(st.integers(-(2**70), 2**70))
def test_a_whole_number_passes_where_the_width_has_room(number: int) -> None:
    for name, least, most in (("int8", -128, 127), ("uint16", 0, 65535), ("int", -(2**63), 2**63 - 1)):
        kind = parse_signature(f"x: {name} -> None").parameters[0]
        assert (kind.fit(number) is not None) == (least <= number <= most)
