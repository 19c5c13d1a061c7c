"""C of a board's tables: what each kernel takes, and what hosts find of kernels and models. Nothing here knows TVM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from microrpc.firmware.tvm.kernels import Argument, Kernel
from microrpc.firmware.tvm.model_source import ModelSource

HEADER = "kernels.h"
"""What declares it all, with the two macros that a functions.c uses."""

_ANY = -1
_FIRST_VARIABLE = -2
_ROW = '    MICRORPC_FUNCTION_AS("{name}", {handler}, "{signature}", {doc}),'


@dataclass(frozen=True, slots=True)
class Row:
    """One function of the system library: its name, the C function that is its handler, and what hosts show of it."""

    name: str
    """As hosts call it."""
    handler: str
    """The C function."""
    signature: str
    """What it takes and gives (docs/description.md 3)."""
    doc: str
    """What it is, in a sentence."""

    @property
    def shown(self) -> str:
        """As people write it: with the name in front."""
        parameters, _, result = self.signature.rpartition("->")
        return f"{self.name}({parameters.strip()}) -> {result.strip()}"


def rows_of(kernels: Sequence[Kernel], models: Sequence[tuple[str, ModelSource]]) -> list[Row]:
    """Give the functions that kernels and models (by their names) are."""
    return [
        *(Row(kernel.name, _handler(kernel), kernel.signature, "A kernel that TVM compiled.") for kernel in kernels),
        *(Row(name, source.handler, source.signature, "A model that TVM compiled.") for name, source in models),
    ]


def header_source(kernels: Sequence[Kernel], models: Sequence[tuple[str, ModelSource]]) -> str:
    """Write kernels.h: the macro KERNEL_FUNCTIONS has the entries of a table of functions."""
    return "\n".join(_header(rows_of(kernels, models))) + "\n"


def table_source(kernels: Sequence[Kernel], models: Sequence[tuple[str, ModelSource]]) -> str:
    """Write a C file with the kernels' tables and handlers, and the board's table of models where there are any."""
    return "\n".join(_tables(kernels, [source for _, source in models])) + "\n"


def _header(rows: Sequence[Row]) -> Iterator[str]:
    yield "/* Written by microrpc tvm build: the functions that TVM compiled, for the table in functions.c. */"
    yield "#ifndef KERNELS_H"
    yield "#define KERNELS_H"
    yield ""
    yield '#include "microrpc.h"'
    yield ""
    yield from (f"void {row.handler}(microrpc_call_t *call);" for row in rows)
    yield ""
    entries = [_ROW.format(name=r.name, handler=r.handler, signature=r.signature, doc=f'"{r.doc}"') for r in rows]
    yield " \\\n".join(["#define KERNEL_FUNCTIONS", *entries])
    yield ""
    yield "#endif"


def _tables(kernels: Sequence[Kernel], models: Sequence[ModelSource]) -> Iterator[str]:
    yield "/* Written by microrpc tvm build: what kernels take, and what calls them. */"
    yield f'#include "{HEADER}"'
    yield '#include "microrpc_tvm.h"'
    if models:
        yield '#include "functions.h"'
        yield '#include "microrpc_model.h"'
    yield ""
    shapes: dict[tuple[int, ...], str] = {}
    bodies = [line for kernel in kernels for line in _kernel(kernel, shapes)]
    for extents, name in shapes.items():
        yield f"static const int32_t {name}[] = {{{', '.join(map(str, extents))}}};"
    yield ""
    yield from bodies
    if models:
        yield from (f"extern const microrpc_model_t {model.model};" for model in models)
        yield f"const microrpc_model_t *const board_models[] = {{{', '.join(f'&{model.model}' for model in models)}}};"
        yield "const size_t board_model_count = sizeof board_models / sizeof board_models[0];"


def _kernel(kernel: Kernel, shapes: dict[tuple[int, ...], str]) -> Iterator[str]:
    yield f"MICRORPC_TVM_KERNEL({kernel.symbol})"
    table = "NULL"
    if kernel.arguments:
        table = f"{_handler(kernel)}_arguments"
        numbers = _variables(kernel.arguments)
        yield f"static const microrpc_tvm_argument_t {table}[] = {{"
        yield from (f"    {_argument(argument, numbers, shapes)}," for argument in kernel.arguments)
        yield "};"
    yield f"static const microrpc_tvm_function_t {_handler(kernel)}_function = {{"
    yield f'    "{kernel.name}", {kernel.symbol}, {table}, {len(kernel.arguments)}}};'
    yield f"void {_handler(kernel)}(microrpc_call_t *call) {{"
    yield f"    microrpc_tvm_call(call, &{_handler(kernel)}_function);"
    yield "}"
    yield ""


def _handler(kernel: Kernel) -> str:
    return f"kernel_{kernel.name}"


def _variables(arguments: Sequence[Argument]) -> dict[str, int]:
    """Number the extents that are names: -1 for one that stands once, else -2, -3, ..."""
    found = [extent for argument in arguments for extent in argument.shape or () if isinstance(extent, str)]
    numbers: dict[str, int] = {}
    for name in dict.fromkeys(found):
        repeated = sum(number != _ANY for number in numbers.values())
        numbers[name] = _FIRST_VARIABLE - repeated if found.count(name) > 1 else _ANY
    return numbers


def _argument(argument: Argument, numbers: dict[str, int], shapes: dict[tuple[int, ...], str]) -> str:
    dtype = f"{{{argument.dtype.code}, {argument.dtype.bits}, {argument.dtype.lanes}}}"
    if argument.shape is None:
        return f"{{{dtype}, MICRORPC_TVM_NUMBER, NULL}}"
    extents = tuple(numbers[extent] if isinstance(extent, str) else extent for extent in argument.shape)
    name = "NULL"
    if extents:
        name = shapes.setdefault(extents, f"shape_{len(shapes)}")
    return f"{{{dtype}, {argument.ndim}, {name}}}"
