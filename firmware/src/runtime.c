/* The functions that the runtime itself offers (docs/device.md 4). */
#include "microrpc_internal.h"

static void system_lib(microrpc_call_t *call) {
    mrpc_return_handle(call, MICRORPC_MODULE, STATIC_HANDLE(REGISTRY_MODULE, 0));
}

static void module_get_function(microrpc_call_t *call) {
    microrpc_bytes_t name;
    uint64_t handle;
    /* There is one only, and mrpc_call saw to it that it is that. */
    mrpc_argument(call, 0, MICRORPC_MODULE, FLASH_TEXT("Module"));
    name = microrpc_text(call, 1);
    if (call->has_failed) return;
    handle = mrpc_look_up(call->device, REGISTRY_SYSTEM, name);
    if (handle) mrpc_return_handle(call, MICRORPC_FUNCTION_HANDLE, handle);
}

static void max_packet_size(microrpc_call_t *call) {
    microrpc_return_int(call, (int64_t)call->device->config->packet_bytes - ENVELOPE_BYTES);
}

/* --- random_fill ----------------------------------------------------------------------------------------------- */

static uint32_t random_word(microrpc_t *device) {
    uint32_t z = ++device->random_words * 0x9E3779B9u;
    z = (z ^ z >> 16) * 0x21F0AAADu;
    z = (z ^ z >> 15) * 0x735A2D97u;
    return z ^ z >> 15;
}

/* Word by word: a float gets the exponent of 1, and so is at least 1 and less than 2. */
static void random_fill(microrpc_call_t *call) {
    microrpc_tensor_t tensor = microrpc_tensor(call, 0);
    microrpc_dtype_t dtype = tensor.dtype;
    uint8_t *at = tensor.data;
    uint32_t kept = UINT32_MAX, set = 0;
    if (dtype.bits == 1 || dtype.code == MICRORPC_DTYPE_BOOL) kept = 0x01010101;
    if (dtype.code == MICRORPC_DTYPE_FLOAT) {
        kept = dtype.bits == 16 ? 0x03FF03FF : dtype.bits == 32 ? 0x007FFFFF : 0x000FFFFF;
        set = dtype.bits == 16 ? 0x3C003C00 : dtype.bits == 32 ? 0x3F800000 : 0x3FF00000;
    }
    if (call->has_failed) return;
    for (size_t done = 0; done < tensor.size_bytes; done += 4) {
        size_t left = tensor.size_bytes - done;
        uint32_t word = random_word(call->device);
        if (dtype.bits != 64 || done % 8) word = (word & kept) | set;
        mrpc_put(at + done, left < 4 ? (unsigned)left : 4, word);
    }
}

/* --- leftovers ------------------------------------------------------------------------------------------------ */

#if MICRORPC_RELEASE_ALL
/* What the heap has was allocated over the wire, all of it. */
static void release_all(microrpc_call_t *call) { microrpc_return_int(call, mrpc_heap_free_all(call->device)); }
#endif

/* --- the memory report ----------------------------------------------------------------------------------------- */

#if MICRORPC_MEMORY
static void memory(microrpc_call_t *call) {
    microrpc_t *device = call->device;
    const microrpc_config_t *config = device->config;
    uint32_t numbers[6] = {device->heap.size_bytes, mrpc_heap_used(&device->heap), mrpc_heap_largest(device),
                           device->heap.most_used_bytes};
    if (config->stack) config->stack(config->port, &numbers[4], &numbers[5]);
    microrpc_return_bytes(call, NULL, sizeof numbers);
    mrpc_reply_tail(device, NULL, 0);
    for (unsigned i = 0; i < 6; i++) mrpc_reply_number(device, 4, numbers[i]);
}
#endif

/* --- the time evaluator ---------------------------------------------------------------------------------------- */

/* The numbers as TVM has them since 0.14 (docs/protocol.md 6); the device, which is first, and the bytes of cache to
 * flush are not looked at. What older versions do not send is as the newer ones have it by default. */
#define MOST 0x200000 /* of repetitions, or of milliseconds, which are half an hour */
enum { NUMBER = 2, REPEAT, MIN_REPEAT_MS, MOST_ZEROS, COOLDOWN_MS, REPEATS_TO_COOLDOWN, NUMBERS = 9 };
#define DEFAULT_MOST_ZEROS 100

typedef struct {
    microrpc_handler_t timed;
    microrpc_handler_t prepare; /* or NULL */
    uint32_t numbers[NUMBERS];
} evaluator_t;
typedef char evaluator_fits_the_state[sizeof(evaluator_t) <= MICRORPC_STATE_BYTES ? 1 : -1];

static uint64_t scaled(uint32_t value, uint32_t by, uint32_t of) {
    uint64_t product = (uint64_t)value * by;
    mrpc_divide(&product, of);
    return product;
}

/* us / calls / 10^6 as the bits of an f64 (34 of them are right): no need of a library for floating point. */
static uint64_t seconds_bits(uint32_t us, uint32_t calls) {
    uint64_t number = scaled(us, 1000, calls), exponent = 1023 + 63;
    if (!number) return 0;
    for (int times = 0; times < 2; times++) {
        for (; !(number >> 63); number <<= 1) exponent--;
        if (!times) mrpc_divide(&number, 1000000000);
    }
    return exponent << 52 | number << 1 >> 12;
}

uint32_t mrpc_more_calls(uint32_t calls, uint32_t least_us, uint32_t taken_us) {
    uint64_t enough = scaled(calls, least_us, taken_us), grown = scaled(calls, 1618, 1000);
    enough = enough < grown ? grown : enough + 1;
    return enough >> 32 ? UINT32_MAX : (uint32_t)enough;
}

static void idle(const microrpc_t *device) {
#if MICRORPC_HOOKS
    if (device->config->idle) device->config->idle(device->config->port);
#else
    (void)device;
#endif
}

/* The mean time of a call, over so many calls that they took min_repeat_ms together. */
static uint64_t run_once(microrpc_call_t *call, const evaluator_t *evaluator, uint32_t *calls) {
    uint32_t least_us = evaluator->numbers[MIN_REPEAT_MS] * 1000, taken_us = 0, zeros = 0;
    do {
        uint32_t start_us;
        if (taken_us) *calls = mrpc_more_calls(*calls, least_us, taken_us);
        idle(call->device);
        start_us = microrpc_now_us(call);
        for (uint32_t i = 0; i < *calls && !call->has_failed; i++) {
            evaluator->timed(call);
            mrpc_drop_result(call);
        }
        taken_us = microrpc_now_us(call) - start_us;
        if (!taken_us) zeros++;
    } while (!call->has_failed && taken_us < least_us && zeros < evaluator->numbers[MOST_ZEROS] &&
             *calls < UINT32_MAX);
    return seconds_bits(taken_us, *calls);
}

static void wait_ms(const microrpc_call_t *call, uint32_t milliseconds) {
    uint32_t start_us = microrpc_now_us(call);
    while (microrpc_has_clock(call) && microrpc_now_us(call) - start_us < milliseconds * 1000)
        idle(call->device);
}

static void evaluate(microrpc_call_t *call) {
    const evaluator_t *evaluator = call->state;
    microrpc_t *device = call->device;
    uint32_t period = evaluator->numbers[REPEATS_TO_COOLDOWN];
    uint32_t repeat = evaluator->numbers[REPEAT];
    uint32_t calls = evaluator->numbers[NUMBER];
    size_t size = mrpc_size(repeat * 8), received_bytes = device->received_bytes;
    uint8_t *times = microrpc_result_buffer(call, size);
    if (!times) return;
    /* What is timed is of a table, so it has no state; and its results must not lie where the times do. */
    call->state = NULL;
    device->received_bytes = (size_t)(times - device->buffer) + size;
    for (uint32_t i = 0; i < repeat && !call->has_failed; i++) {
#if MICRORPC_PROGRESS
        device->pull.is_quiet = true; /* nobody wants to know how far what is timed has come */
#endif
        if (evaluator->prepare) evaluator->prepare(call);
        mrpc_put(times + 8 * i, 8, run_once(call, evaluator, &calls));
#if MICRORPC_PROGRESS
        device->pull.is_quiet = false;
        if (i + 1 < repeat) { /* all together may take hours */
            microrpc_progress(call, i + 1, repeat);
            if (microrpc_is_cancelled(call)) microrpc_fail(call, MICRORPC_CANCELLED);
        }
#endif
        if (!period || i % period == 0) wait_ms(call, evaluator->numbers[COOLDOWN_MS]);
    }
    device->received_bytes = received_bytes;
    if (!call->has_failed) microrpc_return_bytes(call, times, size);
}

/* Negative means the same as 0, for each of the numbers; and with the most, times and sizes fit 32 bits: 1.618 times
 * half an hour is less than the 71 minutes of the clock. */
static uint32_t clamped(int64_t number) {
    return number < 0 ? 0 : number > MOST ? MOST : (uint32_t)number;
}

static microrpc_handler_t find(const microrpc_call_t *call, mrpc_registry_t registry, microrpc_bytes_t name) {
    return mrpc_handler(call->device, mrpc_look_up(call->device, registry, name));
}

static void time_evaluator(microrpc_call_t *call) {
    microrpc_bytes_t name, prepare;
    evaluator_t evaluator;
    /* The place of the last argument, a Str, tells the version: 7, 9, 10 or 11. */
    uint32_t last = MICRORPC_OLD_TIME_EVALUATORS ? 7 : 10;
    while (last < 11 && microrpc_argument_type(call, last) != MICRORPC_TEXT) last += last == 7 ? 2 : 1;
    memset(&evaluator, 0, sizeof evaluator);
    evaluator.numbers[MOST_ZEROS] = DEFAULT_MOST_ZEROS;
    mrpc_argument(call, 0, MICRORPC_MODULE, FLASH_TEXT("Module"));
    name = microrpc_text(call, 1);
    for (uint32_t i = 2; i < last; i++) {
        uint32_t number = i - 2 + (last == 9 && i - 2 >= MOST_ZEROS);
        evaluator.numbers[number] = clamped(microrpc_int(call, i));
    }
    prepare = microrpc_text(call, last);
    if (call->has_failed) return;
    evaluator.timed = find(call, REGISTRY_SYSTEM, name);
    if (prepare.size) evaluator.prepare = find(call, REGISTRY_GLOBAL, prepare);
#if MICRORPC_RELEASE_ALL
    /* It would free the evaluator under itself. */
    if (evaluator.prepare == release_all) evaluator.prepare = NULL;
#endif
    if (!evaluator.timed || (prepare.size && !evaluator.prepare)) {
        mrpc_call_fails(call, FAILURE_NO_TIMED_FUNCTION);
    } else if (!evaluator.numbers[NUMBER] || !evaluator.numbers[REPEAT]) {
        mrpc_call_fails(call, FAILURE_NOT_POSITIVE);
    } else {
        microrpc_return_function(call, evaluate, &evaluator, sizeof evaluator);
    }
}

/* --- what the C runtime does not have ------------------------------------------------------------------------- */

#if MICRORPC_LINK
static void crc32(microrpc_call_t *call) {
    microrpc_tensor_t tensor = microrpc_tensor(call, 0);
    if (!call->has_failed) microrpc_return_int(call, mrpc_crc32(0, tensor.data, tensor.size_bytes));
}
#endif

const mrpc_entry_t mrpc_runtime_functions[] = {
    {MICRORPC_NAMED("runtime.SystemLib", system_lib)},
    {MICRORPC_NAMED("tvm.rpc.server.ModuleGetFunction", module_get_function)},
    {MICRORPC_NAMED("tvm.rpc.server.GetCRTMaxPacketSize", max_packet_size)},
    {MICRORPC_NAMED("tvm.contrib.random.random_fill", random_fill)},
    {MICRORPC_NAMED("runtime.RPCTimeEvaluator", time_evaluator)},
#if MICRORPC_LINK
    {MICRORPC_NAMED("microrpc.crc32", crc32)},
#endif
#if MICRORPC_RELEASE_ALL
    {MICRORPC_NAMED("microrpc.release_all", release_all)},
#endif
#if MICRORPC_DESCRIBE
    {MICRORPC_NAMED("microrpc.describe", mrpc_describe)},
#endif
#if MICRORPC_MEMORY
    {MICRORPC_NAMED("microrpc.memory", memory)},
#endif
#if MICRORPC_MODELS
    {MICRORPC_NAMED("microrpc.models", mrpc_models)},
    {MICRORPC_NAMED("microrpc.model.run", mrpc_model_run)},
    {MICRORPC_NAMED("microrpc.model.profile", mrpc_model_profile)},
    {MICRORPC_NAMED("microrpc.model.layer", mrpc_model_layer)},
#endif
};
