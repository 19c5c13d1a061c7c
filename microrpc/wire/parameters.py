"""What a board's functions take and give: signatures, to which what is sent is held (docs/description.md 3).

`microrpc.wire.grammar` reads them.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from microrpc.errors import ArgumentError
from microrpc.wire.checks import did_you_mean, show
from microrpc.wire.datatypes import FunctionHandle, ModuleHandle, OpaqueHandle, Tensor

DefaultValue: TypeAlias = int | float | str | bool | None
"""What a default can be."""

_LEAST_INT, _MOST_INT = -(2**63), 2**63 - 1
_TAKEN = ("self", "timeout_s", "on_progress")  # what a call and its stub have besides
_HANDLES = (OpaqueHandle, FunctionHandle, ModuleHandle)  # which are ints for Python
WIDTHS = {
    f"{sign}int{bits}": (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for bits in (8, 16, 32, 64)
    for sign in ("", "u")
}
"""The least and the most of each scalar."""


# --- types ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ScalarType:
    """A type of one value: `name` as signatures have it; `least` and `most` of the range that is written, if any."""

    name: str
    least: int | float | None = None
    most: int | float | None = None

    def __str__(self) -> str:
        if self.least is None and self.most is None:
            return self.name
        ends = ("" if end is None else repr(end) for end in (self.least, self.most))
        return f"{self.name}({'..'.join(ends)})"

    def expected(self) -> str:
        """Say what it takes, for messages."""
        if self.name in WIDTHS:
            least, most = self._whole_range()
            return f"{self.name} ({least}..{most})"
        return f"{self} ({_TAKES[self.name]})" if self.name in _TAKES else str(self)

    def fit(self, value: Any) -> tuple[Any] | None:
        """Give what is sent for `value`, None where it is not of this type."""
        return _FITS.get(self.name, _fit_whole)(self, value)

    def _whole_range(self) -> tuple[int | float, int | float]:
        least, most = WIDTHS.get(self.name, (self.least, self.most))
        return (
            _LEAST_INT if least is None else max(least, _LEAST_INT),
            _MOST_INT if most is None else min(most, _MOST_INT),
        )


@dataclass(frozen=True, slots=True)
class TensorType:
    """An array: `dtype` as it is written, or "any"; `extents`: numbers, names, and "..." for any number of them."""

    dtype: str
    extents: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.extents))}]"

    def expected(self) -> str:
        """Say what it takes, for messages."""
        return str(self)

    def fit(self, value: Any) -> tuple[Any] | None:
        """Give what is sent for `value`, None where it is no such array; extents that have names are not compared."""
        is_one = isinstance(value, Tensor) and self.dtype in ("any", str(value.dtype))
        return (value,) if is_one and self.match(value.shape) is not None else None

    def match(self, shape: tuple[int, ...]) -> list[tuple[str, int]] | None:
        """Give what each name stands for in `shape`, None where that is none of this type."""
        extents: Sequence[int | str] = self.extents
        if "..." in extents:
            at, more = extents.index("..."), len(shape) - len(extents) + 1
            if more < 0:
                return None
            extents = [*extents[:at], *shape[at : at + more], *extents[at + 1 :]]
        if len(extents) != len(shape):
            return None
        pairs = list(zip(extents, shape, strict=True))
        if any(isinstance(extent, int) and extent != size for extent, size in pairs):
            return None
        return [(extent, size) for extent, size in pairs if isinstance(extent, str)]


Type: TypeAlias = ScalarType | TensorType
"""What a parameter or a result is."""


def _is_number(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(
        value, bool | OpaqueHandle | FunctionHandle | ModuleHandle
    )


def _fit_whole(wanted: ScalarType, value: Any) -> tuple[Any] | None:
    least, most = wanted._whole_range()
    return (int(value),) if _is_number(value) and least <= value <= most else None


def _fit_float(wanted: ScalarType, value: Any) -> tuple[Any] | None:
    if not (_is_number(value) or isinstance(value, float | np.floating)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    is_high = wanted.least is None or number >= wanted.least
    return (number,) if is_high and (wanted.most is None or number <= wanted.most) else None


def _fit_kinds(*kinds: type) -> Callable[[ScalarType, Any], tuple[Any] | None]:
    return lambda wanted, value: (value,) if isinstance(value, kinds) else None


PLAIN = ("str", "bytes", "bool", "handle", "function", "module", "any")
"""The types that are their names alone, but for the scalars."""
_FITS: dict[str, Callable[[ScalarType, Any], tuple[Any] | None]] = {
    "float": _fit_float,
    "bool": lambda wanted, value: (bool(value),) if isinstance(value, bool | np.bool_) else None,
    "str": _fit_kinds(str),
    "bytes": _fit_kinds(bytes, bytearray, memoryview),
    "handle": _fit_kinds(*_HANDLES, Tensor, type(None)),
    "function": _fit_kinds(FunctionHandle),
    "module": _fit_kinds(ModuleHandle),
    "any": _fit_kinds(object),
}
_TAKES = {
    "bool": "True or False",
    "handle": "an OpaqueHandle, an array, a function, a module, or None",
    "function": "one that the board gave",
    "module": "one that the board gave",
}


# --- signatures -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Default:
    """The `value` that a parameter has where it is left out."""

    value: DefaultValue

    def __str__(self) -> str:
        return f'"{self.value}"' if isinstance(self.value, str) else repr(self.value)


@dataclass(frozen=True, slots=True)
class Parameter:
    """An argument of a function: its `name`, `type`, `unit` (which may be empty) and `default`, None without one.

    is_many: any number of them, the last ones.
    """

    name: str
    type: Type
    unit: str = ""
    default: Default | None = None
    is_many: bool = False

    @property
    def python_name(self) -> str:
        """Its name in Python, with a `_` behind it where that is taken: `in_`, `timeout_s_`."""
        return f"{self.name}_" if keyword.iskeyword(self.name) or self.name in _TAKEN else self.name

    @property
    def annotation(self) -> str:
        """Its type and unit."""
        return _with_unit(str(self.type), self.unit)

    def __str__(self) -> str:
        default = "" if self.default is None else f" = {self.default}"
        return f"{'*' if self.is_many else ''}{self.name}: {self.annotation}{default}"

    def expected(self) -> str:
        """Say what it takes, for messages."""
        return _with_unit(self.type.expected(), self.unit)

    def fit(self, value: Any) -> tuple[Any] | None:
        """Give what is sent for `value`, None where this takes no such thing; None itself where it is the default."""
        fitted = self.type.fit(value)
        is_left_out = fitted is None and value is None and self.default == Default(None)
        return (None,) if is_left_out else fitted


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function takes, its `parameters`, and gives: `result`, None for nothing, of the unit `result_unit`.

    `str` gives the canonical form.
    """

    parameters: tuple[Parameter, ...]
    result: Type | None = None
    result_unit: str = ""

    def __str__(self) -> str:
        taken = ", ".join(map(str, self.parameters))
        return f"{taken} -> {self.annotation}" if taken else f"-> {self.annotation}"

    @property
    def annotation(self) -> str:
        """What it gives: its type and unit, or "None"."""
        return "None" if self.result is None else _with_unit(str(self.result), self.result_unit)

    def shown(self, function: str) -> str:
        """Give it as people write it: "scale(x: float32[n]) -> None"."""
        return f"{function}({', '.join(map(str, self.parameters))}) -> {self.annotation}"

    def bind(self, args: Sequence[Any], named: Mapping[str, Any], function: str) -> tuple[Any, ...]:
        """Put arguments that were given by name where they belong; what was left out before them is its default.

        Raises ArgumentError.
        """
        if not named:
            return tuple(args)
        known = [parameter.python_name for parameter in self.parameters if not parameter.is_many]
        for name in named:
            if name not in known:
                raise self._error(function, f"no argument is called {name}{did_you_mean(name, known)}")
            if name in known[: len(args)]:
                raise self._error(function, f"argument {name} is given twice")
        bound, left = list(args), dict(named)
        for parameter in self.parameters[len(args) :]:
            if parameter.is_many or not left:
                break
            key = parameter.python_name
            if key in left:
                bound.append(left.pop(key))
            elif parameter.default is not None:
                bound.append(parameter.default.value)
            else:
                raise self._missing(parameter, len(bound), function)
        return tuple(bound)

    def check(self, args: Sequence[Any], function: str, given: Sequence[Any] | None = None) -> tuple[Any, ...]:
        """Give what is sent for `args`, the values of a call of `function`: an int for a float becomes one.

        `given`: what they were before handles became values, for messages. Raises ArgumentError, which shows the
        argument, what was given, what was expected, and the signature.
        """
        parameters = self.parameters
        many = parameters[-1] if parameters and parameters[-1].is_many else None
        single = parameters[: len(parameters) - (many is not None)]
        if len(args) > len(single) and many is None:
            most = f"{len(single)} argument{'' if len(single) == 1 else 's'}"
            raise self._error(function, f"it takes {most}, and {len(args)} were given")
        if len(args) < len(single) and single[len(args)].default is None:
            raise self._missing(single[len(args)], len(args), function)
        sent: list[Any] = []
        extents: dict[str, tuple[int, str]] = {}
        for index, value in enumerate(args):
            parameter = single[index] if index < len(single) else many
            assert parameter is not None
            fitted = parameter.fit(value)
            where = f"argument {index + 1} ({parameter.name})"
            if fitted is None:
                shown = _show_given(value if given is None else given[index], value, parameter.type)
                raise self._error(function, f"{where} is {shown}, expected {parameter.expected()}")
            sent += fitted
            if isinstance(parameter.type, TensorType) and isinstance(value, Tensor):
                for name, size in parameter.type.match(value.shape) or ():
                    before, whose = extents.setdefault(name, (size, parameter.name))
                    if before != size:
                        raise self._error(
                            function,
                            f"{where} is {_show_tensor(value)}, expected {parameter.expected()} "
                            f"with {name} = {before}, as in {whose}",
                        )
        return tuple(sent)

    def _missing(self, parameter: Parameter, index: int, function: str) -> ArgumentError:
        return self._error(function, f"argument {index + 1} ({parameter}) is missing")

    def _error(self, function: str, reason: str) -> ArgumentError:
        return ArgumentError(f"{function}: {reason}; nothing was sent. Its signature: {self.shown(function)}")


def _with_unit(text: str, unit: str) -> str:
    return f"{text} [{unit}]" if unit else text


def _show_tensor(tensor: Tensor) -> str:
    return f"an array {tensor.dtype}[{', '.join(map(str, tensor.shape))}]"


def _show_given(given: Any, value: Any, wanted: Type) -> str:
    if isinstance(value, Tensor):
        return _show_tensor(value)
    if isinstance(wanted, TensorType) and isinstance(given, np.ndarray | list | tuple):
        kind = f"an array of numpy, {given.dtype}{list(given.shape)}" if isinstance(given, np.ndarray) else show(given)
        return f"{kind}, which is not on the board (`board.array(x)` copies it there)"
    return show(given)
