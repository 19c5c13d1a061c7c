/* Demonstration functions, each short enough to be the example of its kind; the same as the simulator's
 * (firmware_sim/board/demo.py). */
#include "functions.h"

/* --- numbers --------------------------------------------------------------------------------------------------- */

static bool is_number(const microrpc_call_t *call, uint32_t index) {
    microrpc_type_t type = microrpc_argument_type(call, index);
    return index < microrpc_argument_count(call) && (type == MICRORPC_INT || type == MICRORPC_FLOAT);
}

static bool is_pair(microrpc_call_t *call, const char *complaint) {
    if (microrpc_argument_count(call) == 2 && is_number(call, 0) && is_number(call, 1)) return true;
    microrpc_fail(call, complaint);
    return false;
}

static bool are_ints(const microrpc_call_t *call) {
    return microrpc_argument_type(call, 0) == MICRORPC_INT && microrpc_argument_type(call, 1) == MICRORPC_INT;
}

/* The sum of two numbers; an int that overflows 64 bits wraps around. */
static void add(microrpc_call_t *call) {
    if (!is_pair(call, "add: want (int, int)")) return;
    if (are_ints(call))
        microrpc_return_int(call, (int64_t)((uint64_t)microrpc_int(call, 0) + (uint64_t)microrpc_int(call, 1)));
    else
        microrpc_return_float(call, microrpc_float(call, 0) + microrpc_float(call, 1));
}

/* The product of two numbers; an int that overflows 64 bits wraps around. */
static void mul(microrpc_call_t *call) {
    if (!is_pair(call, "mul: want (int, int)")) return;
    if (are_ints(call))
        microrpc_return_int(call, (int64_t)((uint64_t)microrpc_int(call, 0) * (uint64_t)microrpc_int(call, 1)));
    else
        microrpc_return_float(call, microrpc_float(call, 0) * microrpc_float(call, 1));
}

static void fadd(microrpc_call_t *call) {
    microrpc_return_float(call, microrpc_float(call, 0) + microrpc_float(call, 1));
}

typedef struct {
    bool is_int;
    int64_t whole;
    double real;
} number_t;

static number_t get_number(microrpc_call_t *call) {
    number_t number = {microrpc_argument_type(call, 0) == MICRORPC_INT, 0, microrpc_float(call, 0)};
    if (number.is_int) number.whole = microrpc_int(call, 0);
    return number;
}

static void add_n(microrpc_call_t *call) {
    const number_t *n = microrpc_state(call);
    number_t a = get_number(call);
    if (a.is_int && n->is_int)
        microrpc_return_int(call, (int64_t)((uint64_t)a.whole + (uint64_t)n->whole));
    else
        microrpc_return_float(call, a.real + n->real);
}

/* A function that adds n. */
static void adder(microrpc_call_t *call) {
    number_t n = get_number(call);
    microrpc_return_function(call, add_n, &n, sizeof n);
}

static uint8_t *put_decimal(uint8_t *at, uint32_t number) {
    uint32_t unit = 1;
    while (number / unit >= 10) unit *= 10;
    for (; unit; unit /= 10) *at++ = (uint8_t)('0' + number / unit % 10);
    return at;
}

/* The number of the arguments and the type code of each, as "2:0,11". */
static void describe(microrpc_call_t *call) {
    uint32_t count = microrpc_argument_count(call);
    uint8_t *text = microrpc_result_buffer(call, 11 + 3 * (size_t)count), *at = text;
    if (!text) return;
    at = put_decimal(at, count);
    *at++ = ':';
    for (uint32_t i = 0; i < count; i++) {
        if (i) *at++ = ',';
        at = put_decimal(at, (uint32_t)microrpc_argument_type(call, i));
    }
    microrpc_return_text(call, text, (size_t)(at - text));
}

static void noop(microrpc_call_t *call) { (void)call; }

/* --- text and bytes -------------------------------------------------------------------------------------------- */

static void echo_str(microrpc_call_t *call) {
    microrpc_bytes_t text = microrpc_text(call, 0);
    microrpc_return_text(call, text.data, text.size);
}

static void echo_bytes(microrpc_call_t *call) {
    microrpc_bytes_t data = microrpc_bytes(call, 0);
    microrpc_return_bytes(call, data.data, data.size);
}

/* A text, by characters of UTF-8, or bytes, backwards. */
static void reverse(microrpc_call_t *call) {
    bool is_text = microrpc_argument_type(call, 0) == MICRORPC_TEXT;
    microrpc_bytes_t data = is_text ? microrpc_text(call, 0) : microrpc_bytes(call, 0);
    uint8_t *reversed = microrpc_result_buffer(call, data.size);
    if (microrpc_has_failed(call)) return;
    for (size_t begin = 0, end; begin < data.size; begin = end) {
        for (end = begin + 1; is_text && end < data.size && (data.data[end] & 0xC0) == 0x80;) end++;
        for (size_t i = begin; i < end; i++) reversed[data.size - end + (i - begin)] = data.data[i];
    }
    if (is_text)
        microrpc_return_text(call, reversed, data.size);
    else
        microrpc_return_bytes(call, reversed, data.size);
}

/* --- tensors: they lie in the heap ----------------------------------------------------------------------------- */

static void inc_int(uint8_t *element, unsigned size_bytes) {
    for (unsigned i = 0; i < size_bytes && ++element[i] == 0;) i++;
}

/* Add 1 to every element, in place. */
static void inc_tensor(microrpc_call_t *call) {
    microrpc_tensor_t x = microrpc_tensor(call, 0);
    size_t lanes = x.count * x.dtype.lanes;
    bool is_float = x.dtype.code == MICRORPC_DTYPE_FLOAT;
    if (microrpc_has_failed(call)) return;
    bool is_foreign = x.dtype.bits == 16 || (sizeof(double) < 8 && x.dtype.bits == 64); /* an AVR's `double` has 4 */
    if (x.dtype.code > MICRORPC_DTYPE_FLOAT || x.dtype.bits == 1 || (is_float && is_foreign)) {
        microrpc_fail(call, "inc_tensor: the dtype is not supported");
        return;
    }
    for (size_t i = 0; i < lanes; i++) {
        if (!is_float)
            inc_int((uint8_t *)x.data + i * (x.dtype.bits / 8u), x.dtype.bits / 8u); /* little-endian, as all here is */
        else if (x.dtype.bits == 32)
            ((float *)x.data)[i] += 1;
        else
            ((double *)x.data)[i] += 1;
    }
}

/* Set what is negative to 0, in place. */
static void relu_f32(microrpc_call_t *call) {
    microrpc_tensor_t x = microrpc_float32(call, 0);
    float *elements = x.data;
    for (size_t i = 0; i < x.count; i++) {
        if (elements[i] < 0) elements[i] = 0;
    }
}

/* Multiply by a factor, in place. */
static void scale_f32(microrpc_call_t *call) {
    microrpc_tensor_t x = microrpc_float32(call, 0);
    float factor = (float)microrpc_float(call, 1);
    float *elements = x.data;
    if (microrpc_has_failed(call)) return;
    for (size_t i = 0; i < x.count; i++) elements[i] *= factor;
}

/* out = a + b */
static void add_f32(microrpc_call_t *call) {
    microrpc_tensor_t a = microrpc_float32(call, 0), b = microrpc_float32(call, 1), out = microrpc_float32(call, 2);
    if (a.count != b.count || a.count != out.count) microrpc_fail(call, "the tensors have different sizes");
    if (microrpc_has_failed(call)) return;
    for (size_t i = 0; i < a.count; i++) ((float *)out.data)[i] = ((float *)a.data)[i] + ((float *)b.data)[i];
}

/* out = a @ b */
static void matmul_f32(microrpc_call_t *call) {
    microrpc_tensor_t a = microrpc_float32(call, 0), b = microrpc_float32(call, 1), out = microrpc_float32(call, 2);
    size_t rows = microrpc_extent(&a, 0), inner = microrpc_extent(&a, 1), columns = microrpc_extent(&b, 1);
    if (a.ndim != 2 || b.ndim != 2 || out.ndim != 2 || microrpc_extent(&b, 0) != inner ||
        microrpc_extent(&out, 0) != rows || microrpc_extent(&out, 1) != columns)
        microrpc_fail(call, "matmul_f32: the shapes do not match");
    if (microrpc_has_failed(call)) return;
    for (size_t row = 0; columns && row < rows; row++) { /* without columns there may be any number of rows */
        for (size_t column = 0; column < columns; column++) {
            float sum = 0;
            for (size_t i = 0; i < inner; i++)
                sum += ((float *)a.data)[row * inner + i] * ((float *)b.data)[i * columns + column];
            ((float *)out.data)[row * columns + column] = sum;
        }
    }
}

/* The sum of all elements. */
static void sum_f32(microrpc_call_t *call) {
    microrpc_tensor_t x = microrpc_float32(call, 0);
    float sum = 0;
    for (size_t i = 0; i < x.count; i++) sum += ((float *)x.data)[i];
    microrpc_return_float(call, (double)sum);
}

/* A new float32 tensor 0, 1, ... n - 1, which the caller owns. */
static void iota(microrpc_call_t *call) {
    static const microrpc_dtype_t float32 = {MICRORPC_DTYPE_FLOAT, 32, 1};
    int64_t n = microrpc_int(call, 0);
    size_t extents[1];
    float *elements;
    if (n < 0 || n > 1048576) microrpc_fail(call, "iota: want 0 to 1048576");
    extents[0] = (uint64_t)n <= SIZE_MAX ? (size_t)n : SIZE_MAX; /* which no heap has, where that is 65535 */
    elements = microrpc_return_tensor(call, float32, 1, extents);
    for (size_t i = 0; elements && i < extents[0]; i++) elements[i] = (float)i;
}

/* --- time, the log ---------------------------------------------------------------------------------------------- */

/* Do nothing for a while; give the time asked for. */
static void sleep_ms(microrpc_call_t *call) {
    int64_t milliseconds = microrpc_int(call, 0);
    if (!microrpc_has_clock(call)) microrpc_fail(call, "sleep_ms: this board has no clock");
    if (microrpc_has_failed(call)) return;
    for (int64_t left = milliseconds; left > 0; left--) {
        uint32_t start_us = microrpc_now_us(call);
        while (microrpc_now_us(call) - start_us < 1000) continue;
    }
    microrpc_return_int(call, milliseconds);
}

/* Send a line to the host's log. */
static void log_text(microrpc_call_t *call) {
    microrpc_bytes_t text = microrpc_text(call, 0);
    char *line = microrpc_result_buffer(call, text.size + 1);
    if (microrpc_has_failed(call)) return;
    for (size_t i = 0; i < text.size; i++) line[i] = (char)text.data[i];
    line[text.size] = 0;
    microrpc_log(microrpc_device(call), line);
}

/* --- events, and functions that take long ----------------------------------------------------------------------- */

#if MICRORPC_EVENTS
static bool emit_one(microrpc_t *device, const char *name, const microrpc_value_t *values, bool is_reliable) {
#if MICRORPC_RELIABLE_EVENTS
    if (is_reliable) return microrpc_event_reliable(device, name, values, 2);
#endif
    return !is_reliable && microrpc_event(device, name, values, 2);
}

/* Tell `count` events, each with its number from 0 on and `size` bytes, (i + k) & 255; give how many were sent, or kept.
 * What is longer than an event may be is neither. */
static void emit(microrpc_call_t *call) {
    microrpc_bytes_t text = microrpc_text(call, 0);
    int64_t count = microrpc_int(call, 1), size = microrpc_int(call, 2), accepted = 0;
    bool is_reliable = microrpc_int(call, 3) != 0;
    uint8_t data[MICRORPC_EVENT_BYTES];
    char name[MICRORPC_EVENT_BYTES + 1] = {0};
    bool fits = text.size < sizeof name && size <= (int64_t)sizeof data;
    if (microrpc_has_failed(call)) return;
    for (size_t k = 0; fits && k < text.size; k++) name[k] = (char)text.data[k];
    for (int64_t i = 0; fits && i < count; i++) {
        size_t used = 0;
        microrpc_value_t values[2];
        for (; (int64_t)used < size; used++) data[used] = (uint8_t)((uint64_t)i + used);
        values[0] = microrpc_value_int(i);
        values[1] = microrpc_value_bytes(data, used);
        accepted += emit_one(microrpc_device(call), name, values, is_reliable);
    }
    microrpc_return_int(call, accepted);
}
#endif

#if MICRORPC_PROGRESS
/* Work `steps` steps of `step_us` each, unless the host has enough of it; give how many. */
static void work(microrpc_call_t *call) {
    int64_t steps = microrpc_int(call, 0), step_us = microrpc_int(call, 1);
    if (!microrpc_has_clock(call)) microrpc_fail(call, "work: this board has no clock");
    for (int64_t i = 0; i < steps && !microrpc_has_failed(call); i++) {
        uint32_t start_us = microrpc_now_us(call);
        while (microrpc_now_us(call) - start_us < step_us) continue;
        microrpc_progress(call, (uint32_t)i + 1, (uint32_t)steps);
        if (microrpc_is_cancelled(call)) microrpc_fail(call, MICRORPC_CANCELLED);
    }
    microrpc_return_int(call, steps);
}
#endif

/* --- failures ----------------------------------------------------------------------------------------------------- */

static void fail(microrpc_call_t *call) { microrpc_fail(call, "fail: this function always fails"); }

static void fail_silent(microrpc_call_t *call) { microrpc_fail(call, ""); }

const microrpc_function_t board_functions[] = {
    MICRORPC_FUNCTION_DOC(add, "a: any, b: any -> any",
                          "Give the sum of two numbers; an int that overflows 64 bits wraps around."),
    MICRORPC_FUNCTION_DOC(mul, "a: any, b: any -> any",
                          "Give the product of two numbers; an int that overflows 64 bits wraps around."),
    MICRORPC_FUNCTION_DOC(fadd, "a: float, b: float -> float", "Give the sum of two floating-point numbers."),
    MICRORPC_FUNCTION_DOC(adder, "n: any -> function", "Give a function that adds a number."),
    MICRORPC_FUNCTION_DOC(describe, "*arguments: any -> str",
                          "Give the number of the arguments and the type code of each, as \"2:0,11\"."),
    MICRORPC_FUNCTION_DOC(noop, "-> None", "Do nothing."),
    MICRORPC_FUNCTION_DOC(echo_str, "text: str -> str", "Give the text back."),
    MICRORPC_FUNCTION_DOC(echo_bytes, "data: bytes -> bytes", "Give the bytes back."),
    MICRORPC_FUNCTION_DOC(reverse, "data: any -> any", "Give a text, or bytes, backwards."),
    MICRORPC_FUNCTION_DOC(inc_tensor, "x: any[...] -> None", "Add 1 to every element of x, in place."),
    MICRORPC_FUNCTION_DOC(relu_f32, "x: float32[...] -> None", "Set what is negative in x to 0, in place."),
    MICRORPC_FUNCTION_DOC(scale_f32, "x: float32[...], factor: float -> None", "Multiply x by a factor, in place."),
    MICRORPC_FUNCTION_DOC(add_f32, "a: float32[...], b: float32[...], out: float32[...] -> None",
                          "Compute out = a + b."),
    MICRORPC_FUNCTION_DOC(matmul_f32, "a: float32[n, k], b: float32[k, m], out: float32[n, m] -> None",
                          "Compute out = a @ b. The products of an element are added up in order."),
    MICRORPC_FUNCTION_DOC(sum_f32, "x: float32[...] -> float", "Give the sum of all elements, added up in order."),
    MICRORPC_FUNCTION_DOC(iota, "n: int(0..1048576) -> float32[n]",
                          "Give a new float32 tensor 0, 1, ... n - 1, which the caller owns."),
    MICRORPC_FUNCTION_DOC(fail, "-> None", "Fail, with a text."),
    MICRORPC_FUNCTION_DOC(fail_silent, "-> None", "Fail, without a text."),
    MICRORPC_FUNCTION_DOC(sleep_ms, "milliseconds: int [ms] -> int [ms]",
                          "Do nothing for a while; give the time asked for."),
    MICRORPC_FUNCTION_AS("log", log_text, "text: str -> None", "Send a line to the host's log."),
#if MICRORPC_EVENTS
    MICRORPC_FUNCTION_DOC(emit, "name: str, count: int, size: int, reliable: int -> int",
                          "Send events of a number and so many bytes, plain or reliable ones; give how many were sent or kept."),
#endif
#if MICRORPC_PROGRESS
    MICRORPC_FUNCTION_DOC(work, "steps: int, step_us: int [us] -> int",
                          "Work for so many steps of so many microseconds, and tell after each how many are done."),
#endif
};
const size_t board_function_count = sizeof board_functions / sizeof board_functions[0];

const microrpc_function_t board_global_functions[] = {
    MICRORPC_FUNCTION_DOC(add, "a: any, b: any -> any",
                          "Give the sum of two numbers; an int that overflows 64 bits wraps around."),
};
const size_t board_global_function_count = 1;

const char board_firmware_name[] = "microrpc demonstration";
const char board_firmware_version[] = "1"; /* goes up when they change */
