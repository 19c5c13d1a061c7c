"""Reads the signatures of a board's functions (docs/description.md 3).

parse_signature("x: float32[n], factor: float -> None").check((tensor, 2), "scale")
"""

from __future__ import annotations

import math
import re

from microrpc.errors import SignatureError, UnsupportedValueError
from microrpc.wire.checks import show
from microrpc.wire.datatypes import DataType
from microrpc.wire.parameters import (
    PLAIN,
    WIDTHS,
    Default,
    DefaultValue,
    Parameter,
    ScalarType,
    Signature,
    TensorType,
    Type,
)

_MOST_DIGITS = 40
_WORDS: dict[str, DefaultValue] = {"None": None, "True": True, "False": False}

_SPACE = re.compile(r" *")
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_UNIT = re.compile(r"\[([^\[\]]*)\]")
_TEXT = re.compile(r'"([^"]*)"')


def parse_signature(text: str) -> Signature:
    """Read a signature (docs/description.md 3). Raises SignatureError, with the column and what was expected there."""
    return _Parser(text).signature()


class _Parser:
    """Reads a text from left to right; `_at` is where it is, `_had_space` whether spaces stood before that."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._had_space = False
        self._skip()

    def signature(self) -> Signature:
        parameters: list[Parameter] = []
        while not self._takes("->"):
            if parameters:
                if parameters[-1].is_many:
                    raise self._fault("what has a `*` is the last parameter", self._at)
                self._wants(",", "`,` or `->`")
            parameters.append(self._parameter(parameters))
        result, unit = None, ""
        if not self._takes_word("None"):
            result, unit = self._type(), self._unit()
        if self._at < len(self._text):
            raise self._error("the end")
        return Signature(tuple(parameters), result, unit)

    def _parameter(self, before: list[Parameter]) -> Parameter:
        is_many = self._takes("*")
        start, name = self._at, self._word()
        if not name.isidentifier():
            raise self._error("the name of a parameter" + ("" if before else ", or `->`"), at=start)
        self._wants(":", "`:` and a type")
        kind, unit, start_of_default = self._type(), self._unit(), self._at
        default = self._default() if self._takes("=") else None
        parameter = Parameter(name, kind, unit, default, is_many)
        if any(parameter.python_name == other.python_name for other in before):
            raise self._fault(f"there are two parameters {parameter.python_name!r}", start)
        start = start_of_default
        if is_many and default is not None:
            raise self._fault("what has a `*` may be left out anyway, and has no default", start)
        if default is not None and parameter.fit(default.value) is None:
            raise self._fault(f"the default is not {kind}, nor None", start)
        if default is None and not is_many and before and before[-1].default is not None:
            raise self._fault("the parameter before has a default, so this one needs one", start)
        return parameter

    def _type(self) -> Type:
        start, name = self._at, self._word(skips=False)
        if self._text.startswith("[", self._at):
            return self._tensor(name, start)
        self._skip()
        if name in ("int", "float"):
            return self._range(name)
        if name in WIDTHS or name in PLAIN:
            return ScalarType(name)
        if _is_dtype(name):
            raise self._error(f"an array as `{name}[n]`, or a type as `int` or `float`", at=start)
        raise self._error("a type, as `int`, `float`, `str` or `float32[n]`", at=start)

    def _tensor(self, dtype: str, start: int) -> TensorType:
        if dtype != "any" and not _is_dtype(dtype):
            is_scalar = dtype in ("int", "float", *PLAIN)
            raise self._error("a space before a unit" if is_scalar else "a data type, as `float32`", at=start)
        self._wants("[", "`[`")
        extents: list[int | str] = []
        while not self._takes("]"):
            if extents:
                self._wants(",", "`,` or `]`")
            start = self._at
            if self._takes("..."):
                if "..." in extents:
                    raise self._fault("`...` stands in an array's extents once", start)
                extents.append("...")
                continue
            word = self._word()
            if word.isascii() and word.isdigit():
                if len(word) > _MOST_DIGITS:
                    raise self._fault("the number has too many digits", start)
                extents.append(int(word))
            elif word.isidentifier():
                extents.append(word)
            else:
                raise self._error("an extent: a number, a name or `...`", at=start)
        return TensorType(dtype if dtype == "any" else str(DataType.parse(dtype)), tuple(extents))

    def _range(self, name: str) -> ScalarType:
        if not self._takes("("):
            return ScalarType(name)
        start = self._at
        least = self._number(name)
        self._wants("..", "`..` between the ends of a range")
        most = self._number(name)
        self._wants(")", "`)` at the end of a range")
        if least is not None and most is not None and least > most:
            raise self._fault("the range is empty", start)
        return ScalarType(name, least, most)

    def _number(self, name: str) -> int | float | None:
        start, number = self._at, self._any_number()
        if name == "int" and isinstance(number, float):
            raise self._error("a whole number", at=start)
        return number

    def _any_number(self) -> int | float | None:
        match = _NUMBER.match(self._text, self._at)
        if match is None:
            return None
        written = match[0]
        if len(written) > _MOST_DIGITS or math.isinf(float(written)):
            raise self._fault("the number is too large, or has too many digits", self._at)
        self._at = match.end()
        self._skip()
        return int(written) if written.lstrip("-").isdigit() else float(written)

    def _unit(self) -> str:
        if not self._text.startswith("[", self._at):
            return ""
        match = _UNIT.match(self._text, self._at)
        if not self._had_space or match is None or not match[1].strip():
            raise self._error("a unit, as ` [ms]`, with a space before it")
        self._at = match.end()
        self._skip()
        return match[1].strip()

    def _default(self) -> Default:
        if match := _TEXT.match(self._text, self._at):
            self._at = match.end()
            self._skip()
            return Default(match[1])
        number = self._any_number()
        if number is not None:
            return Default(number)
        start, word = self._at, self._word()
        if word not in _WORDS:
            raise self._error('a number, a text in `"`, None, True or False', at=start)
        return Default(_WORDS[word])

    # --- what stands there ------------------------------------------------------------------------

    def _skip(self) -> None:
        match = _SPACE.match(self._text, self._at)
        assert match is not None
        self._had_space = match.end() > self._at
        self._at = match.end()

    def _word(self, *, skips: bool = True) -> str:
        match = _WORD.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        if skips:
            self._skip()
        else:
            self._had_space = False
        return match[0]

    def _takes(self, sign: str) -> bool:
        if not self._text.startswith(sign, self._at):
            return False
        self._at += len(sign)
        self._skip()
        return True

    def _takes_word(self, word: str) -> bool:
        match = _WORD.match(self._text, self._at)
        return match is not None and match[0] == word and self._takes(word)

    def _wants(self, sign: str, expected: str) -> None:
        if not self._takes(sign):
            raise self._error(expected)

    def _error(self, expected: str, *, at: int | None = None) -> SignatureError:
        at = self._at if at is None else at
        there = show(self._text[at : at + 20]) if at < len(self._text) else "the end"
        return self._fault(f"expected {expected}, not {there}", at)

    def _fault(self, reason: str, at: int) -> SignatureError:
        return SignatureError(f"signature {show(self._text)}, column {at + 1}: {reason}")


def _is_dtype(name: str) -> bool:
    try:
        DataType.parse(name)
    except UnsupportedValueError:
        return False
    return True
