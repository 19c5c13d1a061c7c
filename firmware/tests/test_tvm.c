/* Kernels of TVM as functions of a board: what is checked before one runs, what it is given, and what it tells. */
#include "host.h"
#include "microrpc_tvm.h"

#define WORKSPACE ((uint64_t)MICRORPC_TVM_WORKSPACE_BYTES)
#define FRAME(count, dimensions) ((count) * (sizeof(TVMFFIAny) + sizeof(DLTensor)) + 8 * (dimensions))
#define ROUNDED(size) (((size) + 15) / 16 * 16)

static host_t host;

/* --- kernels --------------------------------------------------------------------------------------------------- */

static struct {
    unsigned calls;
    int32_t count;
    TVMFFIAny values[4];
    DLTensor tensors[4];
    int64_t shapes[4][4];
} seen;

static int32_t see(void *self, void *args, int32_t count, void *result) {
    const TVMFFIAny *values = args, *given = result;
    CHECK(self == NULL);
    CHECK_IS(given->type_index, TVM_FFI_NONE);
    seen.calls++;
    seen.count = count;
    for (int32_t i = 0; i < count && i < 4; i++) {
        seen.values[i] = values[i];
        CHECK_IS(values[i].zero_padding, 0);
        if (values[i].type_index != TVM_FFI_TENSOR) continue;
        seen.tensors[i] = *(const DLTensor *)values[i].v_ptr;
        CHECK_IS((uintptr_t)seen.tensors[i].shape % 8, 0);
        for (int32_t j = 0; j < seen.tensors[i].ndim && j < 4; j++) seen.shapes[i][j] = seen.tensors[i].shape[j];
    }
    return 0;
}

static int32_t raise_parts(void *self, void *args, int32_t count, void *result) {
    const char *parts[] = {"Expected ", NULL, "2", " arguments"};
    (void)self, (void)args, (void)count, (void)result;
    TVMFFIErrorSetRaisedFromCStrParts("TypeError", parts, 4);
    return -1;
}

static int32_t fail_silently(void *self, void *args, int32_t count, void *result) {
    (void)self, (void)args, (void)count, (void)result;
    return -7;
}

static int32_t raise_at_length(void *self, void *args, int32_t count, void *result) {
    static char text[1000];
    (void)self, (void)args, (void)count, (void)result;
    memset(text, 'x', sizeof text - 1);
    TVMFFIErrorSetRaisedFromCStr("ValueError", text);
    return -1;
}

static int32_t give(void *self, void *args, int32_t count, void *result) {
    const TVMFFIAny *values = args;
    TVMFFIAny *given = result;
    (void)self, (void)count;
    given->type_index = (int32_t)values[0].v_int64;
    if (given->type_index == TVM_FFI_FLOAT)
        given->v_float64 = -0.5;
    else
        given->v_int64 = 41;
    return 0;
}

/* Two blocks of so many bytes; freed again unless the third argument says so. */
static int32_t allocate_two(void *self, void *args, int32_t count, void *result) {
    const TVMFFIAny *values = args;
    uint8_t *first, *second;
    (void)self, (void)count, (void)result;
    first = TVMBackendAllocWorkspace(1, 0, (uint64_t)values[0].v_int64, 2, 32);
    second = first ? TVMBackendAllocWorkspace(1, 0, (uint64_t)values[1].v_int64, 2, 32) : NULL;
    if (!first || !second) return -1;
    CHECK_IS((uintptr_t)first % 16, 0);
    CHECK_IS((uintptr_t)second % 16, 0);
    CHECK(second >= first + values[0].v_int64);
    memset(first, 1, (size_t)values[0].v_int64);
    memset(second, 2, (size_t)values[1].v_int64);
    if (values[2].v_int64) return -1;
    CHECK_IS(TVMBackendFreeWorkspace(1, 0, second), 0);
    CHECK(TVMBackendAllocWorkspace(1, 0, (uint64_t)values[1].v_int64, 2, 32) == second);
    CHECK_IS(TVMBackendFreeWorkspace(1, 0, second), 0);
    return TVMBackendFreeWorkspace(1, 0, first);
}

static int32_t free_twice(void *self, void *args, int32_t count, void *result) {
    uint8_t *block = TVMBackendAllocWorkspace(1, 0, 16, 2, 32);
    (void)self, (void)args, (void)count, (void)result;
    CHECK_IS(TVMBackendFreeWorkspace(1, 0, block), 0);
    return TVMBackendFreeWorkspace(1, 0, block + 16);
}

static int add_task(int task, TVMParallelGroupEnv *group, void *data) {
    CHECK_IS(task, 0);
    CHECK_IS(group->num_task, 1);
    CHECK_IS(TVMBackendParallelBarrier(task, group), 0);
    *(int *)data += 1;
    return *(int *)data == 3 ? -1 : 0;
}

static int32_t in_parallel(void *self, void *args, int32_t count, void *result) {
    int runs = 0;
    (void)self, (void)args, (void)count, (void)result;
    CHECK_IS(TVMBackendParallelLaunch(add_task, &runs, 4), 0);
    CHECK_IS(runs, 1);
    runs = 2;
    return TVMBackendParallelLaunch(add_task, &runs, 0);
}

/* --- tables ---------------------------------------------------------------------------------------------------- */

#define FLOAT32 {MICRORPC_DTYPE_FLOAT, 32, 1}
#define INT8 {MICRORPC_DTYPE_INT, 8, 1}
#define NUMBER(code, bits) {{code, bits, 1}, MICRORPC_TVM_NUMBER, NULL}

static const int32_t of_4_2[] = {4, 2}, of_any_n[] = {-1, -2}, of_n_m[] = {-2, -3}, of_m_m[] = {-3, -3};
static const microrpc_tvm_argument_t product[] = {{FLOAT32, 2, of_4_2}, {INT8, 0, NULL}};
static const microrpc_tvm_argument_t variables[] = {{INT8, 2, of_any_n}, {INT8, 2, of_n_m}, {INT8, 2, of_m_m}};
static const microrpc_tvm_argument_t numbers[] = {NUMBER(MICRORPC_DTYPE_INT, 8), NUMBER(MICRORPC_DTYPE_FLOAT, 32),
                                                  NUMBER(MICRORPC_DTYPE_UINT, 32), NUMBER(TVM_FFI_DTYPE_BOOL, 8)};
static const microrpc_tvm_argument_t wide[] = {NUMBER(MICRORPC_DTYPE_INT, 64), NUMBER(MICRORPC_DTYPE_UINT, 64)};
static const microrpc_tvm_argument_t bools[] = {{{TVM_FFI_DTYPE_BOOL, 8, 1}, 1, of_4_2},
                                                {{MICRORPC_DTYPE_UINT, 1, 1}, 1, of_4_2}};

static const microrpc_tvm_function_t kernels[] = {
    {"product", see, product, 2},         {"variables", see, variables, 3},
    {"numbers", see, numbers, 4},         {"wide", see, wide, 2},
    {"bools", see, bools, 2},             {"whatever", see, NULL, -1},
    {"nothing", see, NULL, 0},            {"raises", raise_parts, NULL, 0},
    {"fails", fail_silently, NULL, 0},    {"long_text", raise_at_length, NULL, 0},
    {"gives", give, wide, 1},             {"allocates", allocate_two, NULL, -1},
    {"frees", free_twice, NULL, 0},       {"parallel", in_parallel, NULL, 0},
};

#define HANDLER(name, index) \
    static void name(microrpc_call_t *of) { microrpc_tvm_call(of, &kernels[index]); }
HANDLER(call_product, 0)
HANDLER(call_variables, 1)
HANDLER(call_numbers, 2)
HANDLER(call_wide, 3)
HANDLER(call_bools, 4)
HANDLER(call_whatever, 5)
HANDLER(call_nothing, 6)
HANDLER(call_raises, 7)
HANDLER(call_fails, 8)
HANDLER(call_long_text, 9)
HANDLER(call_gives, 10)
HANDLER(call_allocates, 11)
HANDLER(call_frees, 12)
HANDLER(call_parallel, 13)

static const microrpc_function_t functions[] = {
    MICRORPC_FUNCTION(call_product),   MICRORPC_FUNCTION(call_variables), MICRORPC_FUNCTION(call_numbers),
    MICRORPC_FUNCTION(call_wide),      MICRORPC_FUNCTION(call_bools),     MICRORPC_FUNCTION(call_whatever),
    MICRORPC_FUNCTION(call_nothing),   MICRORPC_FUNCTION(call_raises),    MICRORPC_FUNCTION(call_fails),
    MICRORPC_FUNCTION(call_long_text), MICRORPC_FUNCTION(call_gives),     MICRORPC_FUNCTION(call_allocates),
    MICRORPC_FUNCTION(call_frees),     MICRORPC_FUNCTION(call_parallel),
};

static void open(void) {
    microrpc_config_t config = {MICRORPC_FUNCTIONS(functions), .packet_bytes = 1024, .nonce = 1};
    host_boot(&host, config, 1024, 0);
    host_begin(&host);
    memset(&seen, 0, sizeof seen);
}

static tensor_t tensor_2d(uint64_t address, microrpc_dtype_code_t code, uint8_t bits, int64_t rows, int64_t columns) {
    tensor_t tensor = tensor_1d(address, code, bits, rows);
    tensor.ndim = 2;
    tensor.extents[1] = columns;
    return tensor;
}

static tensor_t scalar(uint64_t address) {
    tensor_t tensor = tensor_1d(address, MICRORPC_DTYPE_INT, 8, 1);
    tensor.ndim = 0;
    return tensor;
}

/* --- tests ----------------------------------------------------------------------------------------------------- */

static void a_kernel_is_given_tensors(void) {
    open();
    {
        uint64_t address = allocate(&host, 64);
        tensor_t x = tensor_2d(address, MICRORPC_DTYPE_FLOAT, 32, 4, 2), y = scalar(address + 32);
        x.byte_offset = 4;
        x.address -= 4;
        CHECK_VOID(call(&host, find(&host, "call_product"), "tt", &x, &y));
        CHECK_IS(seen.calls, 1);
        CHECK_IS(seen.count, 2);
        CHECK_IS(seen.values[0].type_index, 7);
        CHECK_IS((uintptr_t)seen.tensors[0].data, address);
        CHECK_IS(seen.tensors[0].byte_offset, 0);
        CHECK_IS(seen.tensors[0].device.device_type, 1);
        CHECK_IS(seen.tensors[0].device.device_id, 0);
        CHECK_IS(seen.tensors[0].ndim, 2);
        CHECK_IS(seen.tensors[0].dtype.code, MICRORPC_DTYPE_FLOAT);
        CHECK_IS(seen.tensors[0].dtype.bits, 32);
        CHECK_IS(seen.tensors[0].dtype.lanes, 1);
        CHECK(seen.tensors[0].strides == NULL);
        CHECK_IS(seen.shapes[0][0], 4);
        CHECK_IS(seen.shapes[0][1], 2);
        CHECK_IS((uintptr_t)seen.tensors[1].data, address + 32);
        CHECK_IS(seen.tensors[1].ndim, 0);
    }
    host_close(&host);
}

static void a_value_has_16_bytes_and_a_tensor_the_layout_of_tvm(void) {
    CHECK_IS(sizeof(TVMFFIAny), 16);
    CHECK_IS(offsetof(TVMFFIAny, v_int64), 8);
    CHECK_IS(offsetof(DLTensor, ndim), sizeof(void *) + 8);
    CHECK_IS(offsetof(DLTensor, dtype), sizeof(void *) + 12);
    CHECK_IS(offsetof(DLTensor, shape), sizeof(void *) + 16);
    CHECK_IS(offsetof(DLTensor, strides), 2 * sizeof(void *) + 16);
    CHECK_IS(offsetof(DLTensor, byte_offset) + 8, sizeof(DLTensor));
}

static void a_wrong_tensor_is_told_with_what_is_wanted(void) {
    open();
    {
        uint64_t address = allocate(&host, 256), product_of = find(&host, "call_product");
        tensor_t x = tensor_2d(address, MICRORPC_DTYPE_FLOAT, 32, 4, 2), y = scalar(address), wrong = x;
        wrong.extents[1] = 8;
        CHECK_EXCEPTION(call(&host, product_of, "tt", &wrong, &y),
                        "argument 0: want float32[4,2], given float32[4,8]");
        wrong = x;
        wrong.ndim = 1;
        CHECK_EXCEPTION(call(&host, product_of, "tt", &wrong, &y), "argument 0: want float32[4,2], given float32[4]");
        wrong = tensor_2d(address, MICRORPC_DTYPE_INT, 32, 4, 2);
        CHECK_EXCEPTION(call(&host, product_of, "tt", &wrong, &y),
                        "argument 0: want float32[4,2], given int32[4,2]");
        wrong = tensor_2d(address, MICRORPC_DTYPE_FLOAT, 16, 4, 2);
        wrong.dtype.lanes = 2;
        CHECK_EXCEPTION(call(&host, product_of, "tt", &wrong, &y),
                        "argument 0: want float32[4,2], given float16x2[4,2]");
        wrong = tensor_1d(address, MICRORPC_DTYPE_BFLOAT, 16, 1);
        CHECK_EXCEPTION(call(&host, product_of, "tt", &x, &wrong), "argument 1: want int8[], given bfloat16[1]");
        CHECK_EXCEPTION(call(&host, product_of, "ti", &x, 1), "argument 1: want int8[], given no tensor");
        wrong.ndim = 6;
        for (int i = 0; i < 6; i++) wrong.extents[i] = 1;
        CHECK_EXCEPTION(call(&host, product_of, "tt", &wrong, &y),
                        "argument 0: want float32[4,2], given bfloat16[1,1,1,1,1,1]");
        CHECK_EXCEPTION(call(&host, product_of, "t", &x), "product: want 2 arguments, given 1");
        CHECK_EXCEPTION(call(&host, product_of, "ttt", &x, &y, &y), "product: want 2 arguments, given 3");
        CHECK_EXCEPTION(call(&host, find(&host, "call_nothing"), "i", 1), "nothing: want 0 arguments, given 1");
        CHECK_IS(seen.calls, 0);
        CHECK_VOID(call(&host, product_of, "tt", &x, &y));
        CHECK_VOID(call(&host, find(&host, "call_nothing"), ""));
        CHECK_IS(seen.calls, 2);
    }
    host_close(&host);
}

static void extents_that_are_the_same_variable_must_be_the_same(void) {
    open();
    {
        uint64_t address = allocate(&host, 256), function = find(&host, "call_variables");
        tensor_t a = tensor_2d(address, MICRORPC_DTYPE_INT, 8, 7, 3), b = tensor_2d(address, MICRORPC_DTYPE_INT, 8, 3, 5),
                 c = tensor_2d(address, MICRORPC_DTYPE_INT, 8, 5, 5);
        CHECK_VOID(call(&host, function, "ttt", &a, &b, &c));
        CHECK_IS(seen.shapes[0][0], 7);
        CHECK_IS(seen.shapes[1][1], 5);
        a.extents[0] = 0;
        CHECK_VOID(call(&host, function, "ttt", &a, &b, &c));
        b.extents[0] = 4;
        CHECK_EXCEPTION(call(&host, function, "ttt", &a, &b, &c), "argument 1: want int8[any,any], given int8[4,5]");
        b.extents[0] = 3;
        c.extents[1] = 4;
        CHECK_EXCEPTION(call(&host, function, "ttt", &a, &b, &c), "argument 2: want int8[any,any], given int8[5,4]");
        c = tensor_2d(address, MICRORPC_DTYPE_INT, 8, 4, 4);
        CHECK_EXCEPTION(call(&host, function, "ttt", &a, &b, &c), "argument 2: want int8[any,any], given int8[4,4]");
    }
    host_close(&host);
}

static void numbers_are_in_the_range_of_their_type(void) {
    open();
    {
        uint64_t function = find(&host, "call_numbers"), of_64_bits = find(&host, "call_wide");
        CHECK_VOID(call(&host, function, "IfII", INT64_C(-128), 0.5, INT64_C(0xFFFFFFFF), INT64_C(1)));
        CHECK_IS(seen.values[0].type_index, TVM_FFI_INT);
        CHECK_IS(seen.values[0].v_int64, -128);
        CHECK_IS(seen.values[1].type_index, TVM_FFI_FLOAT);
        CHECK(seen.values[1].v_float64 == 0.5);
        CHECK_IS(seen.values[2].v_int64, 0xFFFFFFFF);
        CHECK_VOID(call(&host, function, "IIII", INT64_C(127), INT64_C(-3), INT64_C(0), INT64_C(0)));
        CHECK(seen.values[1].type_index == TVM_FFI_FLOAT && seen.values[1].v_float64 == -3);
        CHECK_EXCEPTION(call(&host, function, "IfII", INT64_C(128), 0.5, INT64_C(0), INT64_C(0)),
                        "argument 0: want int8, given 128");
        CHECK_EXCEPTION(call(&host, function, "IfII", INT64_C(-129), 0.5, INT64_C(0), INT64_C(0)),
                        "argument 0: want int8, given -129");
        CHECK_EXCEPTION(call(&host, function, "IfII", INT64_C(0), 0.5, INT64_C(0x100000000), INT64_C(0)),
                        "argument 2: want uint32, given 4294967296");
        CHECK_EXCEPTION(call(&host, function, "IfII", INT64_C(0), 0.5, INT64_C(-1), INT64_C(0)),
                        "argument 2: want uint32, given -1");
        CHECK_EXCEPTION(call(&host, function, "IfII", INT64_C(0), 0.5, INT64_C(0), INT64_C(2)),
                        "argument 3: want bool, given 2");
        CHECK_EXCEPTION(call(&host, function, "ffII", 1.0, 0.5, INT64_C(0), INT64_C(0)),
                        "argument 0: want int8, given a float");
        CHECK_EXCEPTION(call(&host, function, "IsII", INT64_C(0), "text", INT64_C(0), INT64_C(0)),
                        "argument 1: want float32, given no number");
        {
            tensor_t tensor = scalar(allocate(&host, 8));
            CHECK_EXCEPTION(call(&host, function, "ItII", INT64_C(0), &tensor, INT64_C(0), INT64_C(0)),
                            "argument 1: want float32, given a tensor");
        }
        CHECK_VOID(call(&host, of_64_bits, "II", INT64_MIN, INT64_MAX));
        CHECK_VOID(call(&host, of_64_bits, "II", INT64_MAX, INT64_C(-1))); /* 2^64 - 1 */
        CHECK_IS(seen.values[0].v_int64, INT64_MAX);
    }
    host_close(&host);
}

static void a_bool_is_a_byte(void) {
    open();
    {
        uint64_t address = allocate(&host, 64), function = find(&host, "call_bools");
        tensor_t uint1 = tensor_1d(address, MICRORPC_DTYPE_UINT, 1, 4), uint8 = tensor_1d(address, MICRORPC_DTYPE_UINT, 8, 4),
                 int8 = tensor_1d(address, MICRORPC_DTYPE_INT, 8, 4);
        CHECK_VOID(call(&host, function, "tt", &uint1, &uint1));
        CHECK_IS(seen.tensors[0].dtype.code, TVM_FFI_DTYPE_BOOL);
        CHECK_IS(seen.tensors[0].dtype.bits, 8);
        CHECK_VOID(call(&host, function, "tt", &uint8, &uint8));
        CHECK_EXCEPTION(call(&host, function, "tt", &int8, &uint8), "argument 0: want bool[4], given int8[4]");
    }
    host_close(&host);
}

static void what_is_not_known_is_not_checked(void) {
    open();
    {
        tensor_t x = tensor_2d(allocate(&host, 64), MICRORPC_DTYPE_UINT, 16, 2, 2);
        uint64_t function = find(&host, "call_whatever");
        CHECK_VOID(call(&host, function, "tIfn", &x, INT64_C(7), 2.5));
        CHECK_IS(seen.count, 4);
        CHECK_IS(seen.tensors[0].dtype.code, MICRORPC_DTYPE_UINT);
        CHECK_IS(seen.shapes[0][1], 2);
        CHECK_IS(seen.values[1].v_int64, 7);
        CHECK(seen.values[2].v_float64 == 2.5);
        CHECK_IS(seen.values[3].type_index, TVM_FFI_NONE);
        CHECK_VOID(call(&host, function, ""));
        CHECK_IS(seen.count, 0);
        CHECK_EXCEPTION(call(&host, function, "ts", &x, "text"), "argument 1: a kernel takes tensors and numbers");
    }
    host_close(&host);
}

static void what_a_kernel_raises_is_told(void) {
    open();
    CHECK_EXCEPTION(call(&host, find(&host, "call_raises"), ""), "TypeError: Expected 2 arguments");
    CHECK_EXCEPTION(call(&host, find(&host, "call_fails"), ""), "fails: the kernel failed with -7");
    {
        blob_t packet = call(&host, find(&host, "call_long_text"), "");
        CHECK_IS(packet.data[0], PACKET_EXCEPTION);
        CHECK(packet.size > 180 && packet.size < 260); /* cut off */
    }
    CHECK_EXCEPTION(call(&host, find(&host, "call_fails"), ""), "fails: the kernel failed with -7");
    CHECK_EXCEPTION(call(&host, find(&host, "call_parallel"), ""), "parallel: the kernel failed with -1");
    host_close(&host);
}

static void a_kernel_gives_a_number_or_nothing(void) {
    open();
    {
        uint64_t function = find(&host, "call_gives");
        CHECK_VOID(call(&host, function, "I", INT64_C(0)));
        CHECK_WORD(call(&host, function, "I", INT64_C(1)), MICRORPC_INT, 41);
        CHECK_WORD(call(&host, function, "I", INT64_C(2)), MICRORPC_INT, 41);
        CHECK_WORD(call(&host, function, "I", INT64_C(3)), MICRORPC_FLOAT, UINT64_C(0xBFE0000000000000));
        CHECK_EXCEPTION(call(&host, function, "I", INT64_C(71)),
                        "the kernel gave what is neither a number nor nothing");
    }
    host_close(&host);
}

static void the_workspace_is_a_stack(void) {
    open();
    {
        uint64_t function = find(&host, "call_allocates"), frame = ROUNDED(FRAME(3, 0));
        int64_t half = (int64_t)(WORKSPACE - frame) / 2 / 16 * 16;
        CHECK_VOID(call(&host, function, "III", INT64_C(1), INT64_C(100), INT64_C(0)));
        CHECK_VOID(call(&host, function, "III", INT64_C(0), INT64_C(0), INT64_C(0)));
        CHECK_VOID(call(&host, function, "III", half, half, INT64_C(0)));
        CHECK_IS(microrpc_tvm_workspace_most_used_bytes(), frame + 2 * (uint64_t)half);
        for (int i = 0; i < 3; i++) /* what is not given back is gone with the call */
            CHECK_EXCEPTION(call(&host, function, "III", half, half, INT64_C(1)),
                            "allocates: the kernel failed with -1");
        CHECK_VOID(call(&host, function, "III", half, half, INT64_C(0)));
        CHECK_EXCEPTION(call(&host, find(&host, "call_frees"), ""),
                        "RuntimeError: this was not given out of the workspace, or is given back twice");
    }
    host_close(&host);
}

static void too_small_a_workspace_is_told(void) {
    open();
    {
        uint64_t function = find(&host, "call_allocates");
        blob_t packet = call(&host, function, "III", INT64_MAX, INT64_C(1), INT64_C(0));
        const char *end = " are free (MICRORPC_TVM_WORKSPACE_BYTES)";
        CHECK_IS(packet.data[0], PACKET_EXCEPTION);
        CHECK(packet.size > 100 && !memcmp(packet.data + packet.size - mrpc_length(end), end, mrpc_length(end)));
        packet = call(&host, function, "III", (int64_t)WORKSPACE, INT64_C(1), INT64_C(0));
        CHECK_IS(packet.data[0], PACKET_EXCEPTION);
        packet = call(&host, function, "III", INT64_C(16), (int64_t)WORKSPACE, INT64_C(0));
        CHECK_IS(packet.data[0], PACKET_EXCEPTION);
        packet = call(&host, function, "III", INT64_C(0x100000000), INT64_C(1), INT64_C(0));
        CHECK_IS(packet.data[0], PACKET_EXCEPTION);
        CHECK_VOID(call(&host, function, "III", INT64_C(16), INT64_C(16), INT64_C(0)));
    }
    host_close(&host);
}

static void a_kernel_can_be_run_from_c(void) {
    static float x[8];
    static int8_t y;
    static int64_t whole = -5;
    static double real = 0.25;
    void *tensors[] = {x, &y}, *values[] = {&whole, &real, &whole, &whole};
    memset(&seen, 0, sizeof seen);
    CHECK(microrpc_tvm_run(&kernels[0], tensors) == NULL);
    CHECK(seen.tensors[0].data == x && seen.tensors[1].data == &y);
    CHECK_IS(seen.shapes[0][0], 4);
    CHECK_IS(seen.shapes[0][1], 2);
    CHECK(microrpc_tvm_run(&kernels[2], values) == NULL);
    CHECK_IS(seen.values[0].v_int64, -5);
    CHECK(seen.values[1].v_float64 == 0.25);
    {
        const char *failure = microrpc_tvm_run(&kernels[8], NULL);
        CHECK(failure != NULL);
        if (failure) CHECK_TEXT(failure, mrpc_length(failure), "fails: the kernel failed with -7");
    }
}

static void objects_find_what_they_call_through_pointers(void) {
    extern void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int);
    extern int (*__TVMBackendFreeWorkspace)(int, int, void *);
    extern int (*__TVMBackendParallelLaunch)(FTVMParallelLambda, void *, int);
    CHECK(__TVMBackendAllocWorkspace == TVMBackendAllocWorkspace);
    CHECK(__TVMBackendFreeWorkspace == TVMBackendFreeWorkspace);
    CHECK(__TVMBackendParallelLaunch == TVMBackendParallelLaunch);
    CHECK_IS(TVMFFIEnvModRegisterSystemLibSymbol("name", &host), 0);
}

const test_t tvm_tests[] = {
    TEST(a_kernel_is_given_tensors),
    TEST(a_value_has_16_bytes_and_a_tensor_the_layout_of_tvm),
    TEST(a_wrong_tensor_is_told_with_what_is_wanted),
    TEST(extents_that_are_the_same_variable_must_be_the_same),
    TEST(numbers_are_in_the_range_of_their_type),
    TEST(a_bool_is_a_byte),
    TEST(what_is_not_known_is_not_checked),
    TEST(what_a_kernel_raises_is_told),
    TEST(a_kernel_gives_a_number_or_nothing),
    TEST(the_workspace_is_a_stack),
    TEST(too_small_a_workspace_is_told),
    TEST(a_kernel_can_be_run_from_c),
    TEST(objects_find_what_they_call_through_pointers),
    TESTS_END,
};
