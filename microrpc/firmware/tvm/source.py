"""What is to be compiled: an IRModule, from a function in a Python file, a saved module, or an ONNX file."""

from __future__ import annotations

import contextlib
import importlib.util
import pathlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from microrpc.errors import FirmwareError, reason_of
from microrpc.firmware.tvm.compiler import telling
from microrpc.firmware.tvm.plan import c_name

FORMS = "FILE.py:FUNCTION, a saved module (.json), or a model (.onnx)"
"""What a source may be, as errors and help say it."""


@dataclass(frozen=True, slots=True)
class Source:
    """A module of TVM, and the `name` that its model has where nobody gives it one; None: that of its function."""

    module: Any
    name: str | None = None


def load_source(text: str) -> Source:
    """Load what `text` names. Needs TVM. Raises FirmwareError.

    "FILE.py:FUNCTION": the function takes nothing and gives an IRModule or a PrimFunc; an IRModule of that name is
    taken, too. FILE.json: what `tvm.ir.save_json` wrote. FILE.onnx: one Relax function, by TVM's importer.
    """
    path, colon, name = text.rpartition(":")
    if colon and path.endswith(".py"):
        return Source(as_module(_from_python(pathlib.Path(path), name), text))
    file = pathlib.Path(text)
    if file.suffix == ".json":
        return Source(as_module(_from_json(file), text))
    if file.suffix == ".onnx":
        from microrpc.firmware.tvm.onnx import import_onnx

        return Source(import_onnx(file), c_name(file.stem))
    if file.suffix == ".py":
        raise FirmwareError(f"{text}: which function of it? Write {text}:FUNCTION")
    raise FirmwareError(f"{text}: is no source: {FORMS} is wanted")


def as_module(given: Any, what: str) -> Any:
    """Give the IRModule that `given` is, or has: a PrimFunc becomes one. Raises FirmwareError."""
    import tvm
    from tvm import tirx

    if isinstance(given, tvm.IRModule):
        return given
    if isinstance(given, tirx.PrimFunc):
        symbol = (given.attrs or {}).get("global_symbol", None) or "main"
        return tvm.IRModule({str(symbol): given.with_attr("global_symbol", symbol)})
    raise FirmwareError(f"{what}: gives no IRModule or PrimFunc but {_article(type(given).__name__)}")


def _from_python(path: pathlib.Path, name: str) -> Any:
    if not path.is_file():
        raise FirmwareError(f"{path}: there is no such file")
    if not name.isidentifier():
        raise FirmwareError(f"{path}: {name!r} is no name of a function")
    module_name = f"_microrpc_source_{c_name(path.stem)}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None  # the file ends with .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _imported_as(module_name, module, path.resolve().parent), telling(str(path)), _without_an_end(path):
        spec.loader.exec_module(module)
        found = getattr(module, name, None)
        if found is None:
            there = ", ".join(sorted(key for key, value in vars(module).items() if _is_its_own(value, module_name)))
            raise FirmwareError(f"{path}: has no {name}. There are: {there or 'no functions'}")
        return found() if callable(found) and not _is_tvms(found) else found


@contextlib.contextmanager
def _imported_as(name: str, module: Any, folder: pathlib.Path) -> Iterator[None]:
    """TVM's parser looks a source up by its module; what that imports lies beside it; what it prints is no result."""
    path = list(sys.path)
    sys.modules[name] = module
    sys.path.insert(0, str(folder))
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.path[:] = path
        del sys.modules[name]


@contextlib.contextmanager
def _without_an_end(path: pathlib.Path) -> Iterator[None]:
    """A sys.exit() of the source would end this process, as if all were well."""
    try:
        yield
    except SystemExit as error:
        raise FirmwareError(f"{path}: ends the program, with sys.exit({error.code!r})") from error


def _is_its_own(value: Any, module: str) -> bool:
    return (callable(value) and getattr(value, "__module__", None) == module) or _is_tvms(value)


def _is_tvms(value: Any) -> bool:
    import tvm
    from tvm import tirx

    return isinstance(value, (tvm.IRModule, tirx.PrimFunc))


def _from_json(path: pathlib.Path) -> Any:
    import tvm

    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FirmwareError(f"{path}: cannot be read: {reason_of(error)}") from error
    except UnicodeDecodeError as error:
        raise FirmwareError(f"{path}: is no saved module: it is not UTF-8 text") from error
    with telling(f"{path}: is no module that this TVM has saved"):
        return tvm.ir.load_json(text)


def _article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
