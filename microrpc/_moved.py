"""Old names, for one release: a module that has moved hands its names on, with a warning that tells the new place."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable


def moved(module: str, *places: str) -> Callable[[str], object]:
    """Give the `__getattr__` of an old `module`, whose names are now in `places`."""

    def look_up(name: str) -> object:
        if not name.startswith("__"):
            for place in places:
                new = importlib.import_module(place)
                if hasattr(new, name):
                    text = f"{module}.{name} is {place}.{name} now; the old name goes with the next release"
                    warnings.warn(text, DeprecationWarning, stacklevel=2)
                    return getattr(new, name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return look_up
