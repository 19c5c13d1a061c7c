"""Signatures as text: what is one, what is none and why, and that the canonical form is one (docs/description.md 3)."""

from __future__ import annotations

import keyword

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrpc.errors import SignatureError
from microrpc.wire.grammar import parse_signature
from microrpc.wire.parameters import PLAIN, WIDTHS, Default, Parameter, ScalarType, Signature, TensorType, Type

GOOD = [
    # what is written, and the canonical form
    ("->None", "-> None"),
    ("  ->  int  ", "-> int"),
    ("-> float [mV]", "-> float [mV]"),
    ("->any[...]", "-> any[...]"),
    ("x:float32[n],factor:float->None", "x: float32[n], factor: float -> None"),
    ("x : float32[ n , 3 ] , y : any[ ... , 2 ] -> bool", "x: float32[n, 3], y: any[..., 2] -> bool"),
    ("a: float32[] -> float32x4[2]", "a: float32[] -> float32x4[2]"),
    ("a: bool[n], b: bool, c: bfloat16[1] -> None", "a: bool[n], b: bool, c: bfloat16[1] -> None"),
    ("channel: int ( 0 .. 7 ) -> int8", "channel: int(0..7) -> int8"),
    (
        "a: int(..), b: int(-3..), c: float(..1.50), d: float(-1e3..2E+1) -> None",
        "a: int, b: int(-3..), c: float(..1.5), d: float(-1000.0..20.0) -> None",
    ),
    ("delay: uint16  [ ms ]=10 -> float", "delay: uint16 [ms] = 10 -> float"),
    ("rate: float [1/s] -> int [%]", "rate: float [1/s] -> int [%]"),
    ('t: str="a, b -> [c]", n: handle=None -> None', 't: str = "a, b -> [c]", n: handle = None -> None'),
    (
        "on: bool=True,off: bool = False, f: float = -1.5, g: float = 2 -> None",
        "on: bool = True, off: bool = False, f: float = -1.5, g: float = 2 -> None",
    ),
    ("x: float32[n] = None -> None", "x: float32[n] = None -> None"),
    ("name: str, *values: any -> int", "name: str, *values: any -> int"),
    ("a: int = 1, *rest: int -> int", "a: int = 1, *rest: int -> int"),
    ("in: float32[in], größe: int -> None", "in: float32[in], größe: int -> None"),
    ("f: function, m: module, h: handle, b: bytes, u: uint64 -> module",) * 2,
    ("n: int(007..8) -> None", "n: int(7..8) -> None"),
]

BAD = [
    # what is written, the column, and what is said of it
    ("", 1, "expected the name of a parameter, or `->`, not the end"),
    ("x", 2, "expected `:` and a type, not the end"),
    ("x:", 3, "expected a type, as `int`, `float`, `str` or `float32[n]`, not the end"),
    ("x: flot -> None", 4, "expected a type, as `int`, `float`, `str` or `float32[n]`, not 'flot -> None'"),
    ("x: int", 7, "expected `,` or `->`, not the end"),
    ("x: int y: int -> None", 8, "expected `,` or `->`, not 'y: int -> None'"),
    ("x: int, -> None", 9, "expected the name of a parameter, not '-> None'"),
    ("1: int -> None", 1, "expected the name of a parameter, or `->`, not '1: int -> None'"),
    ("x: int, x: int -> None", 9, "there are two parameters 'x'"),
    ("in: int, in_: int -> None", 10, "there are two parameters 'in_'"),
    ("*a: int, b: int -> None", 8, "what has a `*` is the last parameter"),
    ("*a: int = 1 -> None", 9, "what has a `*` may be left out anyway, and has no default"),
    ("a: int = 1, b: int -> None", 20, "the parameter before has a default, so this one needs one"),
    ("x: float[mV] -> None", 4, "expected a space before a unit, not 'float[mV] -> None'"),
    (
        "x: float32 -> None",
        4,
        "expected an array as `float32[n]`, or a type as `int` or `float`, not 'float32 -> None'",
    ),
    ("x: float32 [n] -> None", 4, "expected an array as `float32[n]`"),
    ("x: floot[n] -> None", 4, "expected a data type, as `float32`, not 'floot[n] -> None'"),
    ("x: float32[n -> None", 14, "expected `,` or `]`, not '-> None'"),
    ("x: float32[..., n, ...] -> None", 20, "`...` stands in an array's extents once"),
    ("x: float32[-1] -> None", 12, "expected an extent: a number, a name or `...`"),
    ("x: float32[1n] -> None", 12, "expected an extent: a number, a name or `...`"),
    ("x: float32[²] -> None", 12, "expected an extent: a number, a name or `...`"),
    (f"x: float32[{'9' * 41}] -> None", 12, "the number has too many digits"),
    ("x: int(1) -> None", 9, "expected `..` between the ends of a range, not ') -> None'"),
    ("x: int(0..7 -> None", 13, "expected `)` at the end of a range, not '-> None'"),
    ("x: int(0..1.5) -> None", 11, "expected a whole number, not '1.5) -> None'"),
    ("x: int(1..0) -> None", 8, "the range is empty"),
    ("x: float(0..1e999) -> None", 13, "the number is too large, or has too many digits"),
    (f"x: int(0..{'9' * 5000}) -> None", 11, "the number is too large, or has too many digits"),
    ("x: uint8(0..7) -> None", 9, "expected `,` or `->`, not '(0..7) -> None'"),
    ("x: int [] -> None", 8, "expected a unit, as ` [ms]`, with a space before it, not '[] -> None'"),
    ("x: int [a[b]] -> None", 8, "expected a unit"),
    ("x: int(0..1)[V] -> None", 13, "expected a unit, as ` [ms]`, with a space before it"),
    ("x: int = -> None", 10, "expected a number, a text in `\"`, None, True or False, not '-> None'"),
    ("x: int = 1.5 -> None", 8, "the default is not int, nor None"),
    ("x: int(0..7) = 8 -> None", 14, "the default is not int(0..7), nor None"),
    ("x: str = 1 -> None", 8, "the default is not str, nor None"),
    ("x: bool = 1 -> None", 9, "the default is not bool, nor None"),
    ('x: str = "a -> None', 10, 'expected a number, a text in `"`'),
    ("x: int -> ", 11, "expected a type"),
    ("x: int -> int int", 15, "expected the end, not 'int'"),
    ("x: int - > int", 8, "expected `,` or `->`"),
    ("x:\tint -> int", 3, "expected a type"),
]


@pytest.mark.parametrize(("written", "canonical"), GOOD)
def test_a_signature_is_printed_in_its_canonical_form(written: str, canonical: str) -> None:
    assert str(parse_signature(written)) == canonical
    assert parse_signature(canonical) == parse_signature(written)


@pytest.mark.parametrize(("written", "column", "reason"), BAD)
def test_what_is_no_signature_is_one_error_with_the_column_and_what_was_expected(
    written: str, column: int, reason: str
) -> None:
    with pytest.raises(SignatureError) as caught:
        parse_signature(written)
    assert f", column {column}: {reason}" in str(caught.value)
    assert str(caught.value).startswith("signature ")
    assert len(str(caught.value)) < 500


def test_the_parts_of_a_signature_are_what_was_written() -> None:
    assert parse_signature("x: float32[n, 3], *d: int(0..) [ms] -> float [mV]") == Signature(
        (
            Parameter("x", TensorType("float32", ("n", 3))),
            Parameter("d", ScalarType("int", 0, None), "ms", None, True),
        ),
        ScalarType("float"),
        "mV",
    )
    assert parse_signature('t: str = "a" -> None') == Signature((Parameter("t", ScalarType("str"), "", Default("a")),))


# --- every signature that there is ----------------------------------------------------------------------

names = st.one_of(
    st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True), st.sampled_from(["in", "größe", "Ω", "self", "timeout_s"])
)
units = st.one_of(st.just(""), st.text(st.characters(codec="utf-8", exclude_characters="[]"), min_size=1, max_size=6))
finite = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def types(draw: st.DrawFn) -> Type:
    which = draw(st.sampled_from(["plain", "int", "float", "tensor"]))
    if which == "plain":
        return ScalarType(draw(st.sampled_from([*PLAIN, *WIDTHS])))
    if which == "tensor":
        extents = draw(st.lists(st.one_of(st.integers(0, 2**40), names), max_size=4))
        if draw(st.booleans()):
            extents.insert(draw(st.integers(0, len(extents))), "...")
        return TensorType(draw(st.sampled_from(["float32", "uint8", "bool", "float32x4", "any"])), tuple(extents))
    numbers = st.integers(-(10**30), 10**30) if which == "int" else finite
    ends = sorted(draw(st.lists(numbers, min_size=2, max_size=2)))
    return ScalarType(which, *(end if draw(st.booleans()) else None for end in ends))


@st.composite
def signatures(draw: st.DrawFn) -> Signature:
    chosen = draw(st.lists(names, max_size=5, unique_by=lambda name: name.rstrip("_") or name))
    first_default = draw(st.integers(0, 5))
    parameters = []
    for index, name in enumerate(chosen):
        default = Default(None) if index >= first_default else None
        parameters.append(Parameter(name, draw(types()), draw(units).strip(), default))
    if draw(st.booleans()):
        parameters.append(Parameter("rest_of_it", draw(types()), is_many=True))
    result = draw(st.one_of(st.none(), types()))
    return Signature(tuple(parameters), result, draw(units).strip() if result is not None else "")


@given(signatures())
def test_what_is_printed_is_read_back_and_printed_the_same(signature: Signature) -> None:
    assert parse_signature(str(signature)) == signature
    assert str(parse_signature(str(signature))) == str(signature)


@given(signatures(), st.data())
def test_a_signature_that_is_damaged_is_read_or_refused_and_never_more(
    signature: Signature, data: st.DataObject
) -> None:
    text = str(signature)
    at = data.draw(st.integers(0, len(text)))
    damaged = text[:at] + data.draw(st.sampled_from([*' ,:*[]()."-=>x1\t', ""])) + text[at + 1 :]
    try:
        read = parse_signature(damaged)
    except SignatureError:
        return
    assert str(parse_signature(str(read))) == str(read)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read = str(parse_signature(text))
    except SignatureError:
        return
    assert str(parse_signature(read)) == read


def test_names_that_python_or_a_call_has_get_a_line_behind_them() -> None:
    signature = parse_signature("in: int, timeout_s: int, self: int, x: int -> None")
    assert [parameter.python_name for parameter in signature.parameters] == ["in_", "timeout_s_", "self_", "x"]
    assert keyword.iskeyword("in")
