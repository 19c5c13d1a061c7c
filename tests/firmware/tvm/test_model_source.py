"""A plan as C: with kernels that were written by hand, it computes what the plan says, and spoils nothing."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import subprocess

import needs
import numpy as np
import pytest

from microrpc.errors import FirmwareError
from microrpc.firmware.tvm.kernels import ADAPTER_SOURCES
from microrpc.firmware.tvm.model_source import ModelSource, model_hash, workspace_bytes, write_model
from microrpc.firmware.tvm.plan import Constant, ModelArgument, ModelPlan, Place, Quantization, Step, TensorRef
from microrpc.wire.datatypes import DataType

FIRMWARE = pathlib.Path(__file__).resolve().parents[3] / "firmware"
FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-g")
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
FLOAT = DataType.parse("float32")
KERNELS = """
#include "microrpc_tvm.h"

static const DLTensor *tensor(void *args, int32_t index) { return ((TVMFFIAny *)args)[index].v_ptr; }

/* out = a + b, of four elements */
int32_t __tvm_ffi_two_layers_add(void *self, void *args, int32_t count, void *result);
int32_t __tvm_ffi_two_layers_add(void *self, void *args, int32_t count, void *result) {
    const float *a = tensor(args, 0)->data, *b = tensor(args, 1)->data;
    float *out = tensor(args, 2)->data;
    (void)self, (void)result;
    if (count != 3 || tensor(args, 1)->ndim != 2 || tensor(args, 1)->shape[1] != 2) return -1;
    for (int i = 0; i < 4; i++) out[i] = a[i] + b[i];
    return 0;
}

/* out = 10 / a; it fails where that is none */
int32_t __tvm_ffi_two_layers_invert(void *self, void *args, int32_t count, void *result);
int32_t __tvm_ffi_two_layers_invert(void *self, void *args, int32_t count, void *result) {
    const float *a = tensor(args, 0)->data;
    float *out = tensor(args, 1)->data;
    (void)self, (void)result, (void)count;
    for (int i = 0; i < 4; i++) {
        if (!(a[i] < 0 || a[i] > 0)) {
            TVMFFIErrorSetRaisedFromCStr("ValueError", "there is a zero");
            return -1;
        }
        out[i] = 10 / a[i];
    }
    return 0;
}
"""
MAIN = """
#include <stdio.h>
#define MICRORPC_MODELS 1
#define microrpc_model_layer_done watch_layer
#include "microrpc_tvm_model.c" /* for what it tells of its layers */
extern const microrpc_model_t two_layers_model;

void watch_layer(microrpc_model_run_t *run, uint16_t layer, const void *output) {
    const float *values = output;
    (void)run;
    printf("layer %d %s: %g %g %g %g\\n", layer, two_layers_model.layers[layer].name, (double)values[0],
           (double)values[1], (double)values[2], (double)values[3]);
}

static void put(TVMFFIAny *value, DLTensor *tensor, void *data, int64_t *shape) {
    const DLTensor described = {data, {1, 0}, 2, {2, 32, 1}, shape, NULL, 0};
    *tensor = described;
    value->type_index = TVM_FFI_TENSOR;
    value->v_ptr = tensor;
}

int main(void) {
    float x[] = {1, 2, 3, 4}, y[4], z[8];
    const void *inputs[] = {x};
    void *outputs[] = {y, z}, *room[3];
    const char *failure = two_layers_model.run(&two_layers_model, inputs, outputs, NULL);
    int64_t shape[] = {2, 2};
    TVMFFIAny values[3];
    DLTensor tensors[3];
    printf("%s: y %g %g %g %g, z %g %g\\n", failure ? failure : "done", (double)y[0], (double)y[1], (double)y[2],
           (double)y[3], (double)z[0], (double)z[3]);
    put(&values[0], &tensors[0], x, shape);
    put(&values[1], &tensors[1], y, shape);
    put(&values[2], &tensors[2], z, shape);
    printf("%d\\n", microrpc_tvm_model_kernel(&two_layers_model, room, values, 3));
    tensors[2].data = y + 3;
    printf("overlapping outputs: %d\\n", microrpc_tvm_model_kernel(&two_layers_model, room, values, 3));
    tensors[2].data = z + 4;
    printf("side by side: %d\\n", microrpc_tvm_model_kernel(&two_layers_model, room, values, 3));
    tensors[1].data = x;
    printf("output is input: %d\\n", microrpc_tvm_model_kernel(&two_layers_model, room, values, 3));
    x[1] = -0.5F;
    failure = two_layers_model.run(&two_layers_model, inputs, outputs, NULL);
    printf("%s\\n", failure ? failure : "done");
    return 0;
}
"""


def ref(where: Place, index: int) -> TensorRef:
    return TensorRef(where, index, FLOAT, (2, 2))


def a_plan() -> ModelPlan:
    """y = 10 / (x + w), z = x."""
    bias = np.array([[0.5, 0.5], [1.0, 1.0]], "float32")
    added = ref(Place.ARENA, 16)
    return ModelPlan(
        name="two layers",
        inputs=(ModelArgument("x", FLOAT, (2, 2)),),
        outputs=(ModelArgument("y", FLOAT, (2, 2)), ModelArgument("z", FLOAT, (2, 2))),
        constants=(Constant("constant_0", bias),),
        steps=(
            Step("two_layers_add", (ref(Place.INPUT, 0), ref(Place.CONSTANT, 0), added), 1, "add"),
            Step("two_layers_invert", (added, ref(Place.OUTPUT, 0)), 1, "invert"),
            Step(None, (ref(Place.INPUT, 0), ref(Place.OUTPUT, 1)), 1, "copy"),
        ),
        arena_bytes=32,
        workspace_bytes=0,
        prim_funcs={},
    )


@pytest.mark.parametrize("optimization", ["-O0", "-O2"])
def test_a_plan_runs_step_by_step_under_the_sanitizers(tmp_path: pathlib.Path, optimization: str) -> None:
    needs.program("gcc")
    (tmp_path / "kernels.c").write_text(KERNELS)
    (tmp_path / "main.c").write_text(MAIN)
    (tmp_path / "model.c").write_text(write_model(a_plan()).text)
    program = tmp_path / "program"
    includes = [f"-I{FIRMWARE / folder}" for folder in ("include", "src", "tvm")]
    adapter = [FIRMWARE / "tvm" / name for name in ADAPTER_SOURCES]
    command = ["gcc", *FLAGS, *SANITIZED, optimization, *includes, *adapter]
    # Without what the adapter has for calls over the line, and so without the library.
    sections = ("-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections")
    subprocess.run([*command, *sections, *tmp_path.glob("*.c"), "-o", program], check=True, timeout=100)
    done = subprocess.run([program], capture_output=True, text=True, check=True, timeout=20)
    layers = ["layer 0 add: 1.5 2.5 4 5", "layer 1 invert: 6.66667 4 2.5 2", "layer 2 copy: 1 2 3 4"]
    assert done.stdout.splitlines() == [
        *layers,
        "done: y 6.66667 4 2.5 2, z 1 4",
        *layers,
        "0",
        "overlapping outputs: -1",
        *layers,
        "side by side: 0",
        "output is input: -1",
        "layer 0 add: 1.5 0 4 5",
        "ValueError: there is a zero",
    ]


def test_every_bit_of_the_weights_is_kept() -> None:
    values = np.array([1.5, -0.0, np.nan, np.inf, 1e-45], "float32")
    plan = dataclasses.replace(a_plan(), constants=(Constant("constant_0", values),))
    assert "0x3fc00000,0x80000000,0x7fc00000,0x7f800000,0x1," in write_model(plan).text


@pytest.mark.parametrize(
    ("values", "written"),
    [
        (
            np.array([-1, 127], "int8"),
            "uint8_t two_layers_constant_0[] __attribute__((aligned(16))) = {\n0xff,0x7f,\n};",
        ),
        (np.array([True, False]), "uint8_t two_layers_constant_0[] __attribute__((aligned(16))) = {\n0x1,0x0,\n};"),
        (np.array(-2, "int64"), "= {\n0xfffffffffffffffeull,\n};"),
        (np.zeros((0, 3), "float32"), "uint8_t two_layers_constant_0[] __attribute__((aligned(16))) = {\n0x0,\n};"),
    ],
)
def test_weights_of_every_type_are_written_by_their_bytes(values: np.ndarray, written: str) -> None:
    assert written in write_model(dataclasses.replace(a_plan(), constants=(Constant("constant_0", values),))).text


def test_a_quantised_input_has_its_scale_and_zero_point_in_the_table() -> None:
    int8 = DataType.parse("int8")
    inputs = (ModelArgument("x", int8, (2, 2), Quantization(0.1, -3)),)
    table = write_model(dataclasses.replace(a_plan(), inputs=inputs)).text
    scale = float(np.float32(0.1)).hex()
    assert f'{{"x", {{0, 8, 1}}, 2, two_layers_extents_2_2, {scale}f, -3}},' in table


def test_a_name_of_any_language_is_the_bytes_of_its_utf8() -> None:
    inputs = (ModelArgument('é"\\?7', FLOAT, (2, 2)),)
    table = write_model(dataclasses.replace(a_plan(), inputs=inputs)).text
    assert '{"\\303\\251\\042\\134\\0777", {2, 32, 1}, 2, two_layers_extents_2_2, 0, 0},' in table


def test_what_others_need_of_a_model_is_told() -> None:
    source = write_model(a_plan())
    assert source == ModelSource(
        source.text,
        "two_layers_model",
        "two_layers_call",
        "x: float32[2, 2], y: float32[2, 2], z: float32[2, 2] -> None",
    )


def test_names_that_no_signature_takes_are_changed_and_kept_apart() -> None:
    outputs = (ModelArgument("1", FLOAT, (2, 2)), ModelArgument("x", FLOAT, (2, 2)))
    source = write_model(dataclasses.replace(a_plan(), outputs=outputs))
    assert re.findall(r"(\w+): ", source.signature) == ["x", "_1", "x_2"]


def test_the_hash_is_another_for_other_weights_and_another_structure() -> None:
    plan = a_plan()
    others = [
        dataclasses.replace(plan, constants=(Constant("constant_0", plan.constants[0].value + 1),)),
        dataclasses.replace(plan, constants=(Constant("constant_0", plan.constants[0].value.reshape(4)),)),
        dataclasses.replace(plan, steps=plan.steps[:2]),
        dataclasses.replace(plan, outputs=plan.outputs[::-1]),
    ]
    assert model_hash(a_plan()) == model_hash(plan)
    assert len({model_hash(other) for other in (plan, *others)}) == 5


def test_the_workspace_has_room_for_the_arguments_of_the_model_and_of_its_largest_kernel() -> None:
    a_tensor = 16 + 48 + 2 * 8
    assert workspace_bytes(dataclasses.replace(a_plan(), workspace_bytes=1024)) == 3 * a_tensor + 1024 + 3 * a_tensor


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        (
            (ModelArgument("x", FLOAT, (2**31,)),),
            r"two layers: a tensor of shape \[2147483648\] is larger than a board",
        ),
        ((ModelArgument("x", FLOAT, (1,)),) * 0x8000, "two layers: the whole model has 32770 arguments, and a kernel"),
    ],
)
def test_what_no_table_holds_is_refused(inputs: tuple[ModelArgument, ...], complaint: str) -> None:
    with pytest.raises(FirmwareError, match=complaint):
        write_model(dataclasses.replace(a_plan(), inputs=inputs))
