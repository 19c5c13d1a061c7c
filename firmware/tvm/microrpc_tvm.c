#include "microrpc_tvm_internal.h"

/* A freestanding compiler has no string.h. */
void *memset(void *to, int byte, size_t size);

/* --- what was wanted ------------------------------------------------------------------------------------------- */

static void add_dtype(microrpc_dtype_t dtype) {
    static const char *const names[] = {"int", "uint", "float", "handle", "bfloat", "complex", "bool"};
    microrpc_tvm_add_text(dtype.code < sizeof names / sizeof names[0] ? names[dtype.code] : "dtype ");
    if (dtype.code >= sizeof names / sizeof names[0]) microrpc_tvm_add_number(dtype.code);
    if (dtype.code != TVM_FFI_DTYPE_BOOL) microrpc_tvm_add_number(dtype.bits);
    if (dtype.lanes != 1) {
        microrpc_tvm_add_text("x");
        microrpc_tvm_add_number(dtype.lanes);
    }
}

/* "argument I: want ", and what it is. */
static void begin_wanted(uint32_t index, const microrpc_tvm_argument_t *wanted) {
    microrpc_tvm_begin_text();
    microrpc_tvm_add_text("argument ");
    microrpc_tvm_add_number(index);
    microrpc_tvm_add_text(": want ");
    add_dtype(wanted->dtype);
    if (wanted->ndim == MICRORPC_TVM_NUMBER) return;
    for (uint32_t i = 0; i < wanted->ndim; i++) {
        microrpc_tvm_add_text(i ? "," : "[");
        if (wanted->extents[i] < 0) {
            microrpc_tvm_add_text("any");
        } else {
            microrpc_tvm_add_number(wanted->extents[i]);
        }
    }
    microrpc_tvm_add_text(wanted->ndim ? "]" : "[]");
}

static void add_given(const microrpc_tensor_t *tensor) {
    microrpc_tvm_add_text(", given ");
    add_dtype(tensor->dtype);
    for (uint32_t i = 0; i < tensor->ndim; i++) {
        microrpc_tvm_add_text(i ? "," : "[");
        microrpc_tvm_add_number((int64_t)microrpc_extent(tensor, i));
    }
    microrpc_tvm_add_text(tensor->ndim ? "]" : "[]");
}

/* --- arguments ------------------------------------------------------------------------------------------------- */

/* A kernel's arguments, in the workspace: the values, then the tensors' shapes, then the tensors. */
typedef struct {
    TVMFFIAny *values;
    DLTensor *tensors;
    int64_t *shapes;
} frame_t;

static bool push_frame(frame_t *frame, uint32_t count, uint64_t dimensions) {
    uint64_t values = (uint64_t)count * sizeof(TVMFFIAny), shapes = dimensions * sizeof(int64_t);
    uint64_t size_bytes = values + shapes + (uint64_t)count * sizeof(DLTensor);
    uint8_t *memory = microrpc_tvm_push(size_bytes);
    if (!memory) return false;
    memset(memory, 0, (size_t)size_bytes);
    frame->values = (TVMFFIAny *)(void *)memory;
    frame->shapes = (int64_t *)(void *)(memory + values);
    frame->tensors = (DLTensor *)(void *)(memory + values + shapes);
    return true;
}

/* The next tensor of the frame, whose shape is to be filled in. */
static int64_t *put_tensor(frame_t *frame, uint32_t index, void *data, microrpc_dtype_t dtype, uint32_t ndim) {
    DLTensor *tensor = &frame->tensors[index];
    int64_t *shape = frame->shapes;
    tensor->data = data;
    tensor->device.device_type = TVM_FFI_CPU;
    tensor->ndim = (int32_t)ndim;
    tensor->dtype.code = dtype.code;
    tensor->dtype.bits = dtype.bits;
    tensor->dtype.lanes = dtype.lanes;
    tensor->shape = shape;
    frame->values[index].type_index = TVM_FFI_TENSOR;
    frame->values[index].v_ptr = tensor;
    frame->shapes += ndim;
    return shape;
}

static void put_int(frame_t *frame, uint32_t index, int64_t number) {
    frame->values[index].type_index = TVM_FFI_INT;
    frame->values[index].v_int64 = number;
}

static void put_float(frame_t *frame, uint32_t index, double number) {
    frame->values[index].type_index = TVM_FFI_FLOAT;
    frame->values[index].v_float64 = number;
}

static bool is_bool(microrpc_dtype_t dtype) {
    return dtype.code == TVM_FFI_DTYPE_BOOL || (dtype.code == MICRORPC_DTYPE_UINT && dtype.bits == 1);
}

/* A bool is a byte to TVM, and uint1 to hosts that know no other. */
static bool is_dtype(microrpc_dtype_t given, microrpc_dtype_t wanted) {
    if (is_bool(wanted) && given.lanes == wanted.lanes)
        return is_bool(given) || (given.code == MICRORPC_DTYPE_UINT && given.bits == 8);
    return given.code == wanted.code && given.bits == wanted.bits && given.lanes == wanted.lanes;
}

/* Whether an Int is one of the type's. */
static bool is_in_range(int64_t number, microrpc_dtype_t dtype) {
    unsigned bits = is_bool(dtype) ? 1 : dtype.bits;
    if (dtype.code == MICRORPC_DTYPE_INT) {
        int64_t most = bits < 64 ? (INT64_C(1) << (bits - 1)) - 1 : INT64_MAX;
        return number <= most && number >= -most - 1;
    }
    return bits >= 64 || (number >= 0 && (uint64_t)number >> bits == 0);
}

/* Whether what was given as a number is of the type; then it is in the frame. */
static bool take_number(microrpc_call_t *call, frame_t *frame, uint32_t index, const microrpc_tvm_argument_t *wanted) {
    microrpc_type_t type = microrpc_argument_type(call, index);
    if (wanted->dtype.code == MICRORPC_DTYPE_FLOAT) {
        if (type == MICRORPC_INT || type == MICRORPC_FLOAT) {
            put_float(frame, index, microrpc_float(call, index));
            return true;
        }
    } else if (type == MICRORPC_INT) {
        int64_t number = microrpc_int(call, index);
        put_int(frame, index, number);
        if (is_in_range(number, wanted->dtype)) return true;
        begin_wanted(index, wanted);
        microrpc_tvm_add_text(", given ");
        microrpc_tvm_add_number(number);
        return false;
    }
    begin_wanted(index, wanted);
    microrpc_tvm_add_text(type == MICRORPC_TENSOR  ? ", given a tensor"
                          : type == MICRORPC_FLOAT ? ", given a float"
                                                   : ", given no number");
    return false;
}

/* Whether the extents before this one that must be the same are. */
static bool is_the_same(const microrpc_tvm_function_t *function, const frame_t *frame, uint32_t index, uint32_t dimension,
                        int64_t extent) {
    int32_t wanted = function->arguments[index].extents[dimension];
    for (uint32_t i = 0; i <= index; i++) {
        const microrpc_tvm_argument_t *argument = &function->arguments[i];
        if (argument->ndim == MICRORPC_TVM_NUMBER) continue;
        for (uint32_t j = 0; j < (i < index ? argument->ndim : dimension); j++) {
            if (argument->extents[j] == wanted) return frame->tensors[i].shape[j] == extent;
        }
    }
    return true;
}

static bool is_extent(const microrpc_tvm_function_t *function, const frame_t *frame, uint32_t index, uint32_t dimension,
                      int64_t extent) {
    int32_t wanted = function->arguments[index].extents[dimension];
    if (wanted >= 0) return extent == wanted;
    return wanted == -1 || is_the_same(function, frame, index, dimension, extent);
}

static bool is_aligned(uint32_t index, const void *data) {
    if (!((uintptr_t)data & (MICRORPC_TVM_ALIGNMENT_BYTES - 1u))) return true;
    microrpc_tvm_begin_text();
    microrpc_tvm_add_text("argument ");
    microrpc_tvm_add_number(index);
    microrpc_tvm_add_text(": want its data aligned to ");
    microrpc_tvm_add_number(MICRORPC_TVM_ALIGNMENT_BYTES);
    microrpc_tvm_add_text(" bytes");
    return false;
}

static bool take_tensor(microrpc_call_t *call, frame_t *frame, uint32_t index, const microrpc_tvm_function_t *function) {
    const microrpc_tvm_argument_t *wanted = function->argument_count < 0 ? NULL : &function->arguments[index];
    microrpc_tensor_t tensor;
    int64_t *shape = NULL;
    bool is_good;
    if (wanted && microrpc_argument_type(call, index) != MICRORPC_TENSOR) {
        begin_wanted(index, wanted);
        microrpc_tvm_add_text(", given no tensor");
        return false;
    }
    tensor = microrpc_tensor(call, index);
    is_good = !wanted || (is_dtype(tensor.dtype, wanted->dtype) && tensor.ndim == wanted->ndim);
    if (is_good) shape = put_tensor(frame, index, tensor.data, wanted ? wanted->dtype : tensor.dtype, tensor.ndim);
    for (uint32_t i = 0; i < tensor.ndim && is_good; i++) {
        shape[i] = (int64_t)microrpc_extent(&tensor, i);
        is_good = !wanted || is_extent(function, frame, index, i, shape[i]);
    }
    if (is_good) return is_aligned(index, tensor.data);
    begin_wanted(index, wanted);
    add_given(&tensor);
    return false;
}

/* Whatever it is: the kernel says what it takes. */
static bool take_any(microrpc_call_t *call, frame_t *frame, uint32_t index, const microrpc_tvm_function_t *function) {
    switch ((int)microrpc_argument_type(call, index)) {
        case MICRORPC_TENSOR: return take_tensor(call, frame, index, function);
        case MICRORPC_INT: put_int(frame, index, microrpc_int(call, index)); return true;
        case MICRORPC_FLOAT: put_float(frame, index, microrpc_float(call, index)); return true;
        case MICRORPC_NULL: return true;
        default:
            microrpc_tvm_begin_text();
            microrpc_tvm_add_text("argument ");
            microrpc_tvm_add_number(index);
            microrpc_tvm_add_text(": a kernel takes tensors and numbers");
            return false;
    }
}

static bool take_argument(microrpc_call_t *call, frame_t *frame, uint32_t index, const microrpc_tvm_function_t *function) {
    if (function->argument_count < 0) return take_any(call, frame, index, function);
    if (function->arguments[index].ndim == MICRORPC_TVM_NUMBER)
        return take_number(call, frame, index, &function->arguments[index]);
    return take_tensor(call, frame, index, function);
}

/* Of all the tensors of a table. */
static uint64_t dimensions_of(const microrpc_tvm_function_t *function) {
    uint64_t dimensions = 0;
    for (int i = 0; i < function->argument_count; i++) {
        uint8_t ndim = function->arguments[i].ndim;
        if (ndim != MICRORPC_TVM_NUMBER) dimensions += ndim;
    }
    return dimensions;
}

static bool take_arguments(microrpc_call_t *call, frame_t *frame, const microrpc_tvm_function_t *function) {
    uint32_t count = microrpc_argument_count(call);
    uint64_t dimensions = 0;
    if (function->argument_count >= 0 && count != (uint32_t)function->argument_count) {
        microrpc_tvm_begin_text();
        microrpc_tvm_add_text(function->name);
        microrpc_tvm_add_text(": want ");
        microrpc_tvm_add_number(function->argument_count);
        microrpc_tvm_add_text(" arguments, given ");
        microrpc_tvm_add_number(count);
        return false;
    }
    if (function->argument_count >= 0) {
        dimensions = dimensions_of(function);
    } else {
        for (uint32_t i = 0; i < count; i++) {
            if (microrpc_argument_type(call, i) == MICRORPC_TENSOR) dimensions += microrpc_tensor(call, i).ndim;
        }
    }
    if (!push_frame(frame, count, dimensions)) return false;
    for (uint32_t i = 0; i < count; i++) {
        if (!take_argument(call, frame, i, function)) return false;
    }
    return true;
}

/* --- calls ----------------------------------------------------------------------------------------------------- */

/* Whether the kernel ran; else the text says why not. */
static bool run_kernel(const microrpc_tvm_function_t *function, frame_t *frame, uint32_t count, TVMFFIAny *result) {
    int32_t status;
    memset(result, 0, sizeof *result);
    microrpc_tvm_begin_text();
    status = function->kernel(NULL, frame->values, (int32_t)count, result);
    if (!status) return true;
    if (!microrpc_tvm_text[0]) {
        microrpc_tvm_add_text(function->name);
        microrpc_tvm_add_text(": the kernel failed with ");
        microrpc_tvm_add_number(status);
    }
    return false;
}

static void give(microrpc_call_t *call, const TVMFFIAny *result) {
    switch (result->type_index) {
        case TVM_FFI_NONE: return;
        case TVM_FFI_INT:
        case TVM_FFI_BOOL: microrpc_return_int(call, result->v_int64); return;
        case TVM_FFI_FLOAT: microrpc_return_float(call, result->v_float64); return;
        default: microrpc_fail(call, "the kernel gave what is neither a number nor nothing");
    }
}

void microrpc_tvm_call(microrpc_call_t *call, const microrpc_tvm_function_t *function) {
    uint32_t used_before = microrpc_tvm_used_bytes;
    TVMFFIAny result;
    frame_t frame;
    if (take_arguments(call, &frame, function) &&
        run_kernel(function, &frame, microrpc_argument_count(call), &result)) {
        give(call, &result);
    } else {
        microrpc_fail(call, microrpc_tvm_text);
    }
    microrpc_tvm_used_bytes = used_before;
}

const char *microrpc_tvm_run(const microrpc_tvm_function_t *function, void *const *data) {
    uint32_t used_before = microrpc_tvm_used_bytes, count = (uint32_t)function->argument_count;
    TVMFFIAny result;
    frame_t frame;
    bool is_good = push_frame(&frame, count, dimensions_of(function));
    for (uint32_t i = 0; i < count && is_good; i++) {
        const microrpc_tvm_argument_t *argument = &function->arguments[i];
        if (argument->ndim != MICRORPC_TVM_NUMBER) {
            int64_t *shape = put_tensor(&frame, i, data[i], argument->dtype, argument->ndim);
            for (uint32_t j = 0; j < argument->ndim; j++) shape[j] = argument->extents[j];
        } else if (argument->dtype.code == MICRORPC_DTYPE_FLOAT) {
            put_float(&frame, i, *(const double *)data[i]);
        } else {
            put_int(&frame, i, *(const int64_t *)data[i]);
        }
    }
    is_good = is_good && run_kernel(function, &frame, count, &result);
    microrpc_tvm_used_bytes = used_before;
    return is_good ? NULL : microrpc_tvm_text;
}
