"""The C tables of kernels: compiled, linked with the adapter, and read back from C."""

from __future__ import annotations

import pathlib
import subprocess

import needs
from c_board import FIRMWARE, STRICT

from microrpc.firmware.tvm.kernels import ADAPTER_SOURCES, Argument, Kernel
from microrpc.firmware.tvm.table_source import header_source, rows_of, table_source
from microrpc.wire.datatypes import DataType

FLOAT32, INT8, BOOL = DataType.parse("float32"), DataType.parse("int8"), DataType.parse("bool")
KERNELS = (
    Kernel("add", (Argument("a", FLOAT32, (16,)), Argument("b", FLOAT32, (16,)), Argument("out", FLOAT32, (16,)))),
    Kernel(
        "scaled", (Argument("x", FLOAT32, ("n", "m", "k")), Argument("f", INT8, None), Argument("y", BOOL, ("m", "n")))
    ),
    Kernel("other", (Argument("x", INT8, ("i", "i", "j")), Argument("y", INT8, ()))),
    Kernel("nothing", ()),
)
# What the generated file keeps to itself is looked at from within.
PROGRAM = """
#include <stdio.h>
#include "table.c"
int32_t __tvm_ffi_add(void *s, void *a, int32_t c, void *r) { (void)s, (void)a, (void)c, (void)r; return 0; }
int32_t __tvm_ffi_scaled(void *s, void *a, int32_t c, void *r) { (void)s, (void)a, (void)c, (void)r; return 0; }
int32_t __tvm_ffi_other(void *s, void *a, int32_t c, void *r) { (void)s, (void)a, (void)c, (void)r; return 0; }
int32_t __tvm_ffi_nothing(void *s, void *a, int32_t c, void *r) { (void)s, (void)a, (void)c, (void)r; return 0; }
static void show(const microrpc_tvm_function_t *function) {
    printf("%s", function->name);
    for (int i = 0; i < function->argument_count; i++) {
        const microrpc_tvm_argument_t *argument = &function->arguments[i];
        printf(" %d.%d.%d:", argument->dtype.code, argument->dtype.bits, argument->dtype.lanes);
        if (argument->ndim == MICRORPC_TVM_NUMBER) printf("number");
        for (int j = 0; argument->ndim != MICRORPC_TVM_NUMBER && j < argument->ndim; j++)
            printf("%s%d", j ? "," : "", (int)argument->extents[j]);
    }
    printf("\\n");
}
int main(void) {
    static const microrpc_function_t functions[] = {KERNEL_FUNCTIONS};
    show(&kernel_add_function), show(&kernel_scaled_function), show(&kernel_other_function);
    show(&kernel_nothing_function);
    for (unsigned i = 0; i < sizeof functions / sizeof functions[0]; i++)
        printf("%s(%s) %s\\n", functions[i].name, functions[i].signature, functions[i].doc);
    return functions[1].handler == kernel_scaled ? 0 : 1;
}
"""


def test_the_tables_say_in_c_what_the_kernels_say(tmp_path: pathlib.Path) -> None:
    needs.program("gcc")
    (tmp_path / "kernels.h").write_text(header_source(KERNELS, ()))
    (tmp_path / "table.c").write_text(table_source(KERNELS, ()))
    (tmp_path / "program.c").write_text(PROGRAM)
    includes = [f"-I{FIRMWARE / folder}" for folder in ("include", "src", "tvm")]
    sources = [*(FIRMWARE / "tvm" / name for name in ADAPTER_SOURCES), *FIRMWARE.glob("src/*.c"), "program.c"]
    command = ["gcc", *STRICT, "-DMICRORPC_DESCRIBE=1", *includes, *map(str, sources), "-o", "program"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run([tmp_path / "program"], capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout.splitlines() == [
        "add 2.32.1:16 2.32.1:16 2.32.1:16",
        # n and m stand twice and get numbers of their own; k stands once, and is any.
        "scaled 2.32.1:-2,-3,-1 0.8.1:number 1.1.1:-3,-2",
        "other 0.8.1:-2,-2,-1 0.8.1:",
        "nothing",
        "add(a: float32[16], b: float32[16], out: float32[16] -> None) A kernel that TVM compiled.",
        "scaled(x: float32[n, m, k], f: int8, y: bool[m, n] -> None) A kernel that TVM compiled.",
        "other(x: int8[i, i, j], y: int8[] -> None) A kernel that TVM compiled.",
        "nothing( -> None) A kernel that TVM compiled.",
    ]


def test_functions_are_shown_with_their_names_in_front() -> None:
    rows = rows_of(KERNELS, ())
    assert [row.shown for row in rows][2:] == ["other(x: int8[i, i, j], y: int8[]) -> None", "nothing() -> None"]
