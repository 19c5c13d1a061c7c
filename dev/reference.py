"""The reference of every public name, built by pdoc: each must be described, and pdoc must find nothing odd.

`python -m dev.reference build/docs` writes it; it ends with 1 where a name is not described or pdoc warns.
"""

from __future__ import annotations

import enum
import importlib
import pathlib
import re
import sys
import typing
import warnings
from collections.abc import Iterator

from pdoc import doc, render

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = ("microrpc", "firmware_sim", "pytest_microrpc")
ON_TEXTUAL = {
    "microrpc.cli.monitor.alone",
    "microrpc.cli.monitor.help",
    "microrpc.cli.monitor.list",
    "microrpc.cli.monitor.view",
}
"""Made of classes of textual's, whose annotations pdoc cannot read."""
ON_LABGRID = {"microrpc.labgrid", "microrpc.connecting.labgrid"}
"""Made of classes of labgrid's, which is not here; docs/lab.md has all of it."""


def modules() -> list[str]:
    """Give the names of all public modules; pdoc finds none by itself in a package that has `__all__`."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if "._" not in name and "plugins" not in parts:  # which other programs load
                found.append(name)
    return [name for name in found if name not in ON_TEXTUAL | ON_LABGRID]


def page(name: str) -> doc.Module:
    """Give what the reference shows of a module. Names are loaded when they are first used, and pdoc uses none."""
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", ()):
        getattr(module, public)
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, tuple) and hasattr(value, "_fields"):
            # What a NamedTuple is made of it says in words that mean something in its own module only.
            value.__new__.__annotations__ = typing.get_type_hints(value)
    return doc.Module(module)


def _is_described(member: doc.Doc[object], holder: doc.Namespace[object]) -> bool:
    """Whether a reader learns what it is: from its own docstring, or its class's, which may name a table in docs/."""
    is_in_table = isinstance(holder.obj, enum.EnumType) and "docs/" in holder.docstring
    return bool(member.docstring) or is_in_table or bool(re.search(rf"\b{member.name}\b", holder.docstring))


def undescribed(holder: doc.Namespace[object]) -> Iterator[str]:
    """Give the names that the reference shows, in a module or class and below, without saying what they are."""
    for member in holder.own_members if isinstance(holder, doc.Class) else holder.members.values():
        is_hidden = member.name.startswith("_") or isinstance(member, doc.Module)
        if is_hidden or isinstance(getattr(member, "default_value", None), typing.TypeVar | typing.ParamSpec):
            continue
        if not _is_described(member, holder):
            yield member.fullname
        if isinstance(member, doc.Class):
            yield from undescribed(member)


def build(directory: pathlib.Path) -> None:
    """Write the reference into `directory`. A warning of pdoc is an error: it could not show something."""
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", r".* for microrpc\.wire\.crc\.crc16_crcmod", UserWarning)  # crcmod's own types
    pages = {name: page(name) for name in modules()}
    files = {"index.html": render.html_index(pages), "search.js": render.search_index(pages)}
    for name, module in pages.items():
        module.submodules = [pages[other] for other in pages if other.rpartition(".")[0] == name]
        files[f"{name.replace('.', '/')}.html"] = render.html_module(module, pages)
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    missing = sorted({name for module in modules() for name in undescribed(page(module))})
    if missing:
        sys.exit("no docstring tells what these are:\n" + "\n".join(missing))
    build(pathlib.Path(sys.argv[1]))
