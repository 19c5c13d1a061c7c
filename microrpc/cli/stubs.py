"""Types of a board's functions, as Python has them in a .pyi (docs/functions.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from microrpc.host.described import is_attribute
from microrpc.wire.description import FunctionDescription, Identity
from microrpc.wire.parameters import Parameter, TensorType, Type

_HEAD = '''\
# The functions of {identity}, by `microrpc stubs`; {hash} is the hash of what it tells.
"""Types for `microrpc.Board` and `microrpc.aio.AsyncBoard` (docs/functions.md of microrpc)."""

from collections.abc import Awaitable, Callable
from typing import Any

import microrpc
import microrpc.aio

Progress = Callable[[int, int], None]
'''
_TYPES = {
    *("int", "float", "str", "bytes", "bytearray", "memoryview", "bool", "property", "microrpc"),
    *("Any", "Awaitable", "Callable", "Progress"),
}
"""What would be another thing within the class, if a method were called so; `f[...]` has it."""
_SCALARS = {"float": "float", "str": "str", "bytes": "bytes | bytearray | memoryview", "bool": "bool", "any": "Any"}
_RESULTS = {**_SCALARS, "bytes": "bytes", "bool": "int", "handle": "Any"}


def make_stubs(identity: Identity, functions: Sequence[FunctionDescription]) -> str:
    """Give the text of the .pyi. What its board tells is text of a peer: it is quoted where it is no name or type."""
    lines = _HEAD.format(identity=_in_comment(str(identity)), hash=identity.hash).splitlines()
    for prefix, module in (("", "microrpc."), ("Async", "microrpc.aio.")):
        returned = "Awaitable[Any]" if prefix else "Any"
        lines += ["", f"class {prefix}Functions:", '    """What `f` is."""']
        for function in functions:
            if is_attribute(function.name) and function.name not in _TYPES:
                lines += ["", *_method(function, prefix, module)]
        lines += ["", f"    def __getitem__(self, name: str, /) -> Callable[..., {returned}]: ...", ""]
        lines += [f"class {prefix}Board({module}{prefix}Board):", "    @property"]
        lines += [f"    def f(self) -> {prefix}Functions: ...  # type: ignore[override]"]
    return "\n".join(lines) + "\n"


def _method(function: FunctionDescription, prefix: str, module: str) -> Iterator[str]:
    signature = function.parsed
    remote = f"{module}{prefix}Remote"
    if signature is None:
        taken, result = ["*args: Any"], "Any"
    else:
        taken = [_parameter(parameter, remote) for parameter in signature.parameters]
        result = "None" if signature.result is None else _type(signature.result, remote, _RESULTS)
    if not any(parameter.startswith("*") for parameter in taken):
        taken.append("*")
    taken = ["self", *taken, "timeout_s: float | None = None", "on_progress: Progress | None = None"]
    is_async = "async " if prefix else ""
    yield f"    {is_async}def {function.name}({', '.join(taken)}) -> {result}:"
    told = "\n\n".join(text for text in (function.doc, str(function) if function.signature else "") if text)
    yield f"        {_docstring(told)}" if told else "        ..."


def _parameter(parameter: Parameter, remote: str) -> str:
    kind = _type(parameter.type, remote, _SCALARS)
    default = ""
    if parameter.default is not None:
        value = parameter.default.value
        default = f" = {value!a}"
        if value is None and kind != "Any" and "None" not in kind.split(" | "):
            kind = f"{kind} | None"
    return f"{'*' if parameter.is_many else ''}{parameter.python_name}: {kind}{default}"


def _type(kind: Type, remote: str, scalars: dict[str, str]) -> str:
    if isinstance(kind, TensorType):
        return f"{remote}Array"
    if kind.name in ("function", "module"):
        return f"{remote}{kind.name.title()}"
    if kind.name == "handle" and kind.name not in scalars:
        return f"microrpc.OpaqueHandle | {remote}Array | {remote}Function | {remote}Module | None"
    return scalars.get(kind.name, "int")


def _docstring(text: str) -> str:
    lines = text.split("\n")
    if not all(line.isprintable() for line in lines) or set(text) & {'"', "\\"}:
        return ascii(text)
    if len(lines) == 1:
        return f'"""{text}"""'
    return '"""' + "\n".join(f"        {line}" if line else "" for line in lines).lstrip() + '\n        """'


def _in_comment(text: str) -> str:
    return ascii(text)[1:-1] if not text.isprintable() else text
