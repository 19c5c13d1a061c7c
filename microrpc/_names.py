"""Names that a module hands on from elsewhere (PEP 562): loaded when they are first used, or moved for good.

Both take a table of places: a module, and the names that are to be had from it, with spaces between them. And one name
may be called at the end of the program, if its module was loaded by then.
"""

from __future__ import annotations

import atexit
import importlib
import sys

TYPE_CHECKING = False  # not typing's: `import microrpc.cli` is to be short
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def lazy(package: str, places: Mapping[str, str]) -> tuple[list[str], Callable[[str], object], Callable[[], list[str]]]:
    """Give `__all__`, `__getattr__` and `__dir__` of a `package`; the names it has from itself are its modules."""
    module = sys.modules[package]  # as it is now: a test tool may take it out of there, and give it back
    found = _by_name(places)

    def load(name: str) -> object:
        place = found.get(name)
        if place is None:
            raise _no_such(package, name)
        if place == package:
            return importlib.import_module(f"{package}.{name}")
        value = getattr(importlib.import_module(place), name)
        setattr(module, name, value)
        return value

    return sorted(found), load, lambda: sorted({*vars(module), *found})


def moved(module: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """Give the `__getattr__` of an old `module`: it hands its names on, with a DeprecationWarning."""
    found = _by_name(places)

    def look_up(name: str) -> Any:
        place = found.get(name)
        if place is None:
            raise _no_such(module, name)
        import warnings

        text = f"{module}.{name} is {place}.{name} now; the old name goes with a later release"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(place), name)

    return look_up


def call_at_end(module: str, name: str) -> None:
    """Have a function called when the program ends, if its module is loaded by then.

    What the program registers with `atexit` from here on is called before it, and may use what it closes.
    """

    def end() -> None:
        if module in sys.modules:
            getattr(sys.modules[module], name)()

    atexit.register(end)


def _by_name(places: Mapping[str, str]) -> dict[str, str]:
    return {name: place for place, names in places.items() for name in names.split()}


def _no_such(module: str, name: str) -> AttributeError:
    return AttributeError(f"module {module!r} has no attribute {name!r}", name=name, obj=sys.modules.get(module))
