"""What a caller may state of durations, sizes and baud rates: one rule for all who take them."""

from __future__ import annotations

import difflib
import math
import numbers
import operator
from collections.abc import Callable, Iterable

from microrpc.errors import RequestError

_LONGEST_S = 1e9  # what every clock and lock of a system takes
_HIGHEST_BAUD = 2**31 - 1
_SHOWN_CHARACTERS = 200
_LEAST_PART_CHARACTERS = 3


def show(value: object) -> str:
    """Give a value as Python writes it, the beginning of it where that is long: it may be a peer's."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return "a number of very many digits"
    except RecursionError:
        return "something that is nested very deeply"
    except Exception:
        return f"a {type(value).__name__}, which cannot be shown"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}... ({len(text)} characters)"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Give the end of a message that suggests the known name closest to `name`; "" where none is close.

    One that has `name` as a word is the closest, as "arduino_uno" has "uno"; where there is none at all, one that has
    it as a part.
    """
    names = list(map(str, known))
    part = name.lower()
    close = [whole for whole in names if part in whole.lower().split("_")]
    close = close or difflib.get_close_matches(name, names, n=1)
    if not close and len(part) >= _LEAST_PART_CHARACTERS:
        close = [whole for whole in names if part in whole.lower()]
    return f"; did you mean {close[0]!r}?" if close else ""


def check_seconds(
    value: object, what: str, *, may_be_zero: bool = False, error: Callable[[str], Exception] = RequestError
) -> float:
    """Give the duration `value`, called `what`, in seconds: finite, and more than 0 where it must not be 0.

    Raises `error` for anything else: nan, inf, a bool, a text, more than 1e9.
    """
    least = "0 or more" if may_be_zero else "more than 0"
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise error(f"{what} is a number of seconds, {least}, not {show(value)}")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    except TypeError:  # numpy counts its spans of time among the numbers
        seconds = math.nan
    if not (seconds >= 0 if may_be_zero else seconds > 0) or seconds > _LONGEST_S:  # no nan is
        raise error(f"{what} is a number of seconds, {least} and at most {_LONGEST_S:g}, not {show(value)}")
    return seconds


def check_whole(
    value: object,
    what: str,
    least: int,
    most: int | None = None,
    *,
    error: Callable[[str], Exception] = RequestError,
) -> int:
    """Give the whole number `value`, called `what`: from `least` to `most` where there is a most.

    numpy's are numbers too. Raises `error` for anything else, such as a bool or 9600.5.
    """
    wanted = f"{what} is a whole number " + (f"of {least} or more" if most is None else f"from {least} to {most}")
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # whatever it is
    except TypeError:
        raise error(f"{wanted}, not {show(value)}") from None
    if isinstance(value, bool) or number < least or (most is not None and number > most):
        raise error(f"{wanted}, not {show(value)}")
    return number


def check_baud(value: object, what: str = "a baud rate", *, error: Callable[[str], Exception] = RequestError) -> int:
    """Give a baud rate, in bits a second. Raises `error` where it is not a whole number of 1 or more."""
    return check_whole(value, what, 1, _HIGHEST_BAUD, error=error)


def check_text(value: object, what: str) -> str:
    """Give the text `value`, called `what`. Raises RequestError for anything else."""
    if not isinstance(value, str):
        raise RequestError(f"{what} is a str, not {show(value)}")
    return value


def check_flag(value: object, what: str, *, may_be_none: bool = False) -> None:
    """Raise RequestError where `value`, called `what`, is neither True nor False: "no" would be as True."""
    if isinstance(value, bool) or (may_be_none and value is None):
        return
    if may_be_none:
        raise RequestError(f"{what} is True, False or None, not {show(value)}")
    raise RequestError(f"{what} is True or False, not {show(value)}")


def check_callable(value: object, what: str) -> None:
    """Raise RequestError where `value`, called `what`, is neither a function nor None."""
    if value is not None and not callable(value):
        raise RequestError(f"{what} is a function or None, not {show(value)}")
