"""The functions.c that a new project begins with, whatever builds it."""

from __future__ import annotations

import pathlib
import re

FIRST_FUNCTIONS = """\
/* The functions of this board. Each is called from Python by its name:
 *
 *     board.function("add")(2, 3)
 *
 * include/microrpc.h says what a function can take and give. */
#include "functions.h" /* the names of the tables below */

/* The sum of two ints. */
static void add(microrpc_call_t *call) {
    int64_t a = microrpc_int(call, 0), b = microrpc_int(call, 1);
    microrpc_return_int(call, (int64_t)((uint64_t)a + (uint64_t)b));
}

/* Multiply a tensor of float32 by a number, where it lies. */
static void scale(microrpc_call_t *call) {
    microrpc_tensor_t tensor = microrpc_float32(call, 0);
    float factor = (float)microrpc_float(call, 1);
    if (microrpc_has_failed(call)) return; /* an argument was missing, or of another type: the host is told */
    float *values = tensor.data;
    for (size_t i = 0; i < tensor.count; i++) values[i] *= factor;
}

/* What hosts can call, and what they show of it: docs/description.md of microrpc has the grammar. */
const microrpc_function_t board_functions[] = {
    MICRORPC_FUNCTION_DOC(add, "a: int, b: int -> int", "The sum of two ints."),
    MICRORPC_FUNCTION_DOC(scale, "x: float32[...], factor: float -> None", "Multiply a tensor where it lies."),
};
const size_t board_function_count = sizeof board_functions / sizeof board_functions[0];

/* What they find by TVM's global registry, too. */
const microrpc_function_t board_global_functions[] = {
    MICRORPC_FUNCTION_DOC(add, "a: int, b: int -> int", "The sum of two ints."),
};
const size_t board_global_function_count = 1;

/* Who it is, as hosts show it. */
const char board_firmware_name[] = "FIRMWARE_NAME";
const char board_firmware_version[] = "0.1";
"""
"""What a project has before its author writes any; FIRMWARE_NAME stands for its name."""


def with_name(functions: str, directory: pathlib.Path) -> str:
    """Give a functions.c in which FIRMWARE_NAME is the name of the project in `directory`, as far as C takes it."""
    return functions.replace("FIRMWARE_NAME", re.sub(r"[^\w .+-]", "_", directory.resolve().name))
