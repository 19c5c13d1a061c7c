/* The functions that the runtime itself offers (docs/device.md 4). */
#include "host.h"

static host_t host;
static unsigned calls, preparations;

static void timed(microrpc_call_t *call) {
    if (microrpc_state(call)) microrpc_fail(call, "one of a table has no state");
    calls++;
}

/* One that takes as long as a look at the clock. */
static void takes_a_step(microrpc_call_t *call) {
    microrpc_now_us(call);
    calls++;
}

static void fails_at_3(microrpc_call_t *call) {
    if (++calls == 3) microrpc_fail(call, "the third call fails");
}

static void makes_a_tensor(microrpc_call_t *call) {
    static const microrpc_dtype_t uint8 = {MICRORPC_DTYPE_UINT, 8, 1};
    size_t extents[1] = {100};
    microrpc_return_tensor(call, uint8, 1, extents);
    calls++;
}

/* One that uses the result buffer, where the times are kept too. */
static void makes_a_text(microrpc_call_t *call) {
    uint8_t *text = microrpc_result_buffer(call, 64);
    calls++;
    if (!text) return;
    memset(text, 0xA5, 64);
    microrpc_return_text(call, text, 64);
}

static void takes_an_int(microrpc_call_t *call) { calls += (unsigned)microrpc_int(call, 0); }

static void prepare(microrpc_call_t *call) {
    (void)call;
    preparations++;
}

static void prepare_and_fail(microrpc_call_t *call) { microrpc_fail(call, "not prepared"); }

static const microrpc_function_t functions[] = {MICRORPC_FUNCTION(timed), MICRORPC_FUNCTION(fails_at_3),
                                                MICRORPC_FUNCTION(makes_a_tensor), MICRORPC_FUNCTION(makes_a_text),
                                                MICRORPC_FUNCTION(takes_an_int), MICRORPC_FUNCTION(takes_a_step)};
static const microrpc_function_t global_functions[] = {MICRORPC_FUNCTION(prepare), MICRORPC_FUNCTION(prepare_and_fail)};

static void open(uint32_t step_us) {
    microrpc_config_t config = {MICRORPC_FUNCTIONS(functions),
                                .global_functions = global_functions,
                                .global_function_count = 2,
                                .packet_bytes = 512,
                                .nonce = 1};
    host_boot(&host, config, 1024, step_us);
    host_begin(&host);
    calls = preparations = 0;
}

/* --- look-ups -------------------------------------------------------------------------------------------------- */

static void the_functions_have_fixed_handles(void) {
    static const char *const names[] = {
        "runtime.SystemLib", "tvm.rpc.server.ModuleGetFunction", "tvm.rpc.server.GetCRTMaxPacketSize",
        "tvm.contrib.random.random_fill", "runtime.RPCTimeEvaluator",
#if MICRORPC_LINK
        "microrpc.crc32",
#endif
#if MICRORPC_RELEASE_ALL
        "microrpc.release_all",
#endif
#if MICRORPC_DESCRIBE
        "microrpc.describe",
#endif
#if MICRORPC_MEMORY
        "microrpc.memory",
#endif
#if MICRORPC_MODELS
        "microrpc.models",
        "microrpc.model.run",
        "microrpc.model.profile",
        "microrpc.model.layer",
#endif
    };
    uint32_t count = sizeof names / sizeof names[0];
    open(0);
    CHECK_IS(RUNTIME_FUNCTIONS, count);
    for (uint32_t i = 0; i < count; i++) {
        CHECK_IS(find_global(&host, names[i]), STATIC_HANDLE(REGISTRY_GLOBAL, i));
    }
    CHECK_IS(find_global(&host, "prepare"), STATIC_HANDLE(REGISTRY_GLOBAL, count));
    CHECK_IS(find_global(&host, "prepare_and_fail"), STATIC_HANDLE(REGISTRY_GLOBAL, count + 1));
    CHECK_IS(find(&host, "fails_at_3"), STATIC_HANDLE(REGISTRY_SYSTEM, 1));
    CHECK_IS(call(&host, STATIC_HANDLE(REGISTRY_GLOBAL, count + 2), "").data[0], PACKET_EXCEPTION);
    CHECK_IS(call(&host, STATIC_HANDLE(REGISTRY_SYSTEM, 6), "").data[0], PACKET_EXCEPTION);
    host_close(&host);
}

static void the_system_library_is_a_module(void) {
    uint64_t look_up;
    open(0);
    CHECK_WORD(call(&host, find_global(&host, "runtime.SystemLib"), ""), MICRORPC_MODULE, SYSTEM_LIB);
    look_up = find_global(&host, "tvm.rpc.server.ModuleGetFunction");
    CHECK_VOID(call(&host, look_up, "msi", SYSTEM_LIB, "nothing", 0));
    CHECK_VOID(call(&host, look_up, "ms", SYSTEM_LIB, "prepare")); /* a global one */
    CHECK_EXCEPTION(call(&host, look_up, "Fs", look_up, "timed"), "argument 0: Module expected");
    CHECK_EXCEPTION(call(&host, look_up, "m", SYSTEM_LIB), "argument 1: Str expected");
    CHECK_EXCEPTION(call(&host, look_up, ""), "argument 0: Module expected");
    CHECK_EXCEPTION(call(&host, look_up, "ms", UINT64_C(5), "timed"),
                    "no function or module has the handle 0x5; look it up again");
    host_close(&host);
}

static void the_packet_size_leaves_the_envelope_out(void) {
    open(0);
    CHECK_WORD(call(&host, find_global(&host, "tvm.rpc.server.GetCRTMaxPacketSize"), ""), MICRORPC_INT, 501);
    host_close(&host);
}

/* --- random_fill ----------------------------------------------------------------------------------------------- */

/* The n-th word, from 1 on. */
static uint32_t word(uint32_t n) {
    uint64_t z = UINT64_C(0x9E3779B9) * n % 0x100000000;
    z = (z ^ z >> 16) * 0x21F0AAAD % 0x100000000;
    z = (z ^ z >> 15) * 0x735A2D97 % 0x100000000;
    return (uint32_t)(z ^ z >> 15);
}

static void random_fill_gives_words(void) {
    static const struct {
        microrpc_dtype_code_t code;
        uint8_t bits;
        int64_t extent;
        uint32_t kept[2], set[2]; /* of the even words and the odd ones */
    } cases[] = {
        {MICRORPC_DTYPE_UINT, 8, 7, {UINT32_MAX, UINT32_MAX}, {0, 0}},
        {MICRORPC_DTYPE_INT, 16, 3, {UINT32_MAX, UINT32_MAX}, {0, 0}},
        {MICRORPC_DTYPE_INT, 32, 2, {UINT32_MAX, UINT32_MAX}, {0, 0}},
        {MICRORPC_DTYPE_UINT, 64, 3, {UINT32_MAX, UINT32_MAX}, {0, 0}},
        {MICRORPC_DTYPE_UINT, 1, 9, {0x01010101, 0x01010101}, {0, 0}},
        {MICRORPC_DTYPE_BOOL, 8, 9, {0x01010101, 0x01010101}, {0, 0}},
        {MICRORPC_DTYPE_FLOAT, 16, 5, {0x03FF03FF, 0x03FF03FF}, {0x3C003C00, 0x3C003C00}},
        {MICRORPC_DTYPE_FLOAT, 32, 3, {0x007FFFFF, 0x007FFFFF}, {0x3F800000, 0x3F800000}},
        {MICRORPC_DTYPE_FLOAT, 64, 3, {UINT32_MAX, 0x000FFFFF}, {0, 0x3FF00000}},
    };
    uint32_t drawn = 0;
    uint8_t *data;
    open(0);
    CHECK_IS(word(1), 0x64625032);
    data = (uint8_t *)(uintptr_t)allocate(&host, 64);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tensor_t tensor = tensor_1d((uintptr_t)data, cases[i].code, cases[i].bits, cases[i].extent);
        size_t size = (size_t)cases[i].extent * ((cases[i].bits + 7u) / 8);
        memset(data, 0xEE, 64);
        CHECK_VOID(call(&host, find_global(&host, "tvm.contrib.random.random_fill"), "t", &tensor));
        for (size_t at = 0; at < size; at++) {
            uint32_t want = word(drawn + 1 + (uint32_t)at / 4);
            want = (want & cases[i].kept[at / 4 % 2]) | cases[i].set[at / 4 % 2];
            CHECK_IS(data[at], want >> 8 * (at % 4) & 0xFF);
        }
        for (size_t at = size; at < 64; at++) CHECK_IS(data[at], 0xEE);
        drawn += (uint32_t)(size + 3) / 4;
        CHECK_IS(host.device->random_words, drawn);
    }
    host_close(&host);
}

static void random_floats_are_from_1_to_2(void) {
    float *single;
    double *real;
    tensor_t tensor;
    uint64_t fill;
    open(0);
    single = (float *)(uintptr_t)allocate(&host, 256);
    real = (double *)(uintptr_t)allocate(&host, 256);
    fill = find_global(&host, "tvm.contrib.random.random_fill");
    tensor = tensor_1d((uintptr_t)single, MICRORPC_DTYPE_FLOAT, 32, 64);
    CHECK_VOID(call(&host, fill, "t", &tensor));
    for (int i = 0; i < 64; i++) CHECK(single[i] >= 1 && single[i] < 2);
    tensor = tensor_1d((uintptr_t)real, MICRORPC_DTYPE_FLOAT, 64, 32);
    CHECK_VOID(call(&host, fill, "t", &tensor));
    for (int i = 0; i < 32; i++) CHECK(real[i] >= 1 && real[i] < 2);
    CHECK_EXCEPTION(call(&host, fill, "i", 1), "argument 0: Tensor expected");
    CHECK_IS(host.device->random_words, 128);
    host_close(&host);
}

/* --- the time evaluator ---------------------------------------------------------------------------------------- */

typedef struct {
    const char *name, *preparation;
    int number, repeat, min_repeat_ms, most_zeros, cooldown_ms, repeats_to_cooldown;
} timing_t;

static blob_t evaluator(timing_t timing) {
    return call(&host, find_global(&host, "runtime.RPCTimeEvaluator"), "msiiiiiiiiis", SYSTEM_LIB, timing.name, 1, 0,
                timing.number, timing.repeat, timing.min_repeat_ms, timing.most_zeros, timing.cooldown_ms,
                timing.repeats_to_cooldown, 0, timing.preparation);
}

static blob_t evaluate(timing_t timing) {
    blob_t made = evaluator(timing);
    uint64_t function = word_of(&made);
    blob_t reply = call(&host, function, "i", 1);
    CHECK_IS(made.data[0], PACKET_RETURN);
    CHECK_NONE(ask(&host, packet_of(PACKET_FREE_HANDLE, "hi", function, MICRORPC_FUNCTION_HANDLE)));
    return reply;
}

static double seconds(const blob_t *reply, size_t index) {
    double value = -1;
    if (reply->size >= 40 + 8 * index) memcpy(&value, reply->data + 32 + 8 * index, 8);
    return value;
}

/* Whether a time is this, to the 34 bits that docs and code promise. */
static bool is_about(double actual, double want) {
    double error = actual > want ? actual - want : want - actual;
    return error <= want / (double)(UINT64_C(1) << 33);
}

static void times_are_seconds(void) {
    static const uint32_t steps[] = {1, 2, 3, 7, 10, 999, 1000, 1001, 123457, 1000000, 4000000000};
    static const int numbers[] = {1, 2, 3, 7, 10, 1000};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        for (size_t j = 0; j < sizeof numbers / sizeof numbers[0]; j++) {
            timing_t timing = {"timed", "", 0, 3, 0, 100, 0, 1};
            blob_t reply;
            /* Whole nanoseconds are what a call takes. */
            double want = (double)((uint64_t)steps[i] * 1000 / (uint64_t)numbers[j]) / 1e9;
            timing.number = numbers[j];
            open(steps[i]);
            reply = evaluate(timing);
            CHECK_IS(reply.size, 32 + 3 * 8);
            CHECK_IS(calls, 3 * numbers[j]);
            for (size_t time = 0; time < 3; time++) CHECK(is_about(seconds(&reply, time), want));
            host_close(&host);
        }
    }
}

static void times_that_a_double_holds_are_exact(void) {
    static const struct {
        uint32_t step_us;
        int number;
        uint64_t bits;
    } cases[] = {{1000000, 1, UINT64_C(0x3FF0000000000000)}, {500000, 1, UINT64_C(0x3FE0000000000000)},
                 {1000000, 8, UINT64_C(0x3FC0000000000000)}, {3000000, 2, UINT64_C(0x3FF8000000000000)},
                 {0, 1, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        timing_t timing = {"timed", "", 0, 1, 0, 1, 0, 1};
        blob_t reply;
        timing.number = cases[i].number;
        open(cases[i].step_us);
        reply = evaluate(timing);
        CHECK_IS(mrpc_get64(reply.data + 32), cases[i].bits);
        host_close(&host);
    }
}

static void more_calls_are_timed_until_they_took_long_enough(void) {
    timing_t timing = {"takes_a_step", "", 5, 3, 10, 100, 0, 1};
    blob_t reply;
    open(1000); /* n calls take n + 1 ms: 5 take 6, and 5 * 10 / 6 + 1 are tried next */
    reply = evaluate(timing);
    CHECK_IS(calls, 5 + 9 + 9 + 9);
    for (size_t i = 0; i < 3; i++) CHECK(is_about(seconds(&reply, i), 1111111e-9));
    host_close(&host);
    open(1000);
    timing.most_zeros = 0; /* as hosts sent that wanted no limit: once, then, and not again */
    reply = evaluate(timing);
    CHECK_IS(calls, 3 * 5);
    host_close(&host);
    open(0); /* a clock that stands still is not waited for */
    timing.most_zeros = 7;
    timing.repeat = 2;
    reply = evaluate(timing);
    CHECK_IS(calls, 2 * 7 * 5);
    CHECK_IS(mrpc_get64(reply.data + 32), 0);
    host_close(&host);
}

static void the_count_of_calls_grows_and_does_not_wrap(void) {
    static const uint32_t most_us = UINT32_C(0x200000) * 1000;
    CHECK_IS(mrpc_more_calls(1, 1, 1), 2);
    CHECK_IS(mrpc_more_calls(5, 10000, 6000), 9);
    CHECK_IS(mrpc_more_calls(1000, 10000, 9999), 1618);
    CHECK_IS(mrpc_more_calls(1, most_us, 1), most_us + 1);
    CHECK_IS(mrpc_more_calls(2, most_us, 1), 2 * most_us + 1);
    CHECK_IS(mrpc_more_calls(3, most_us, 1), UINT32_MAX);
    CHECK_IS(mrpc_more_calls(0x200000, most_us, 1), UINT32_MAX);
    CHECK_IS(mrpc_more_calls(UINT32_C(2654491529), 1000, 999), UINT32_C(4294967293));
    CHECK_IS(mrpc_more_calls(UINT32_C(2654491530), 1000, 999), UINT32_C(4294967295));
    CHECK_IS(mrpc_more_calls(UINT32_C(2654491531), 1000, 999), UINT32_MAX);
    CHECK_IS(mrpc_more_calls(UINT32_MAX, most_us, 1), UINT32_MAX);
}

/* The argument lists of TVM 0.8, 0.9, 0.10 and 0.14; the first two may be left out. */
static void every_version_of_the_arguments_is_taken(void) {
    static const char *const kinds[] = {"msiiiiis", "msiiiiiiis", "msiiiiiiiis", "msiiiiiiiiis"};
    open(1000);
    for (size_t i = 0; i < 4; i++) {
        uint64_t make = find_global(&host, "runtime.RPCTimeEvaluator");
        blob_t made = blob_of(NULL, 0), reply;
        if (i == 0) made = call(&host, make, kinds[i], SYSTEM_LIB, "takes_a_step", 1, 0, 5, 2, 10, "prepare");
        if (i == 1) made = call(&host, make, kinds[i], SYSTEM_LIB, "takes_a_step", 1, 0, 5, 2, 10, 7, 1, "prepare");
        if (i == 2) made = call(&host, make, kinds[i], SYSTEM_LIB, "takes_a_step", 1, 0, 5, 2, 10, 9, 7, 1, "prepare");
        if (i == 3)
            made = call(&host, make, kinds[i], SYSTEM_LIB, "takes_a_step", 1, 0, 5, 2, 10, 9, 7, 1, 4096, "prepare");
        calls = preparations = 0;
        if (i < 2 && !MICRORPC_OLD_TIME_EVALUATORS) {
            CHECK_EXCEPTION(made, i ? "argument 9: Int expected" : "argument 7: Int expected");
            continue;
        }
        CHECK_IS(made.data[0], PACKET_RETURN);
        uint32_t begun_us = board_time_us(host.board);
        reply = call(&host, word_of(&made), "");
        CHECK_IS(reply.size, 32 + 2 * 8);
        CHECK_IS(calls, 5 + 9 + 9);
        CHECK_IS(preparations, 2);
        CHECK(is_about(seconds(&reply, 1), 1111111e-9));
        /* Twice one look at the beginning of the cool-down, and looks of 1 ms until it is over. */
        CHECK_IS(board_time_us(host.board) - begun_us, 1000 * (5 + 9 + 9 + 3 * 2 + 2 * (1 + (i ? 7 : 1))));
    }
    CHECK_EXCEPTION(call(&host, find_global(&host, "runtime.RPCTimeEvaluator"), "msiiiii", SYSTEM_LIB, "timed", 1, 0, 5,
                         2, 10),
                    "argument 7: Int expected");
    CHECK_EXCEPTION(call(&host, find_global(&host, "runtime.RPCTimeEvaluator"), "msiiiiiis", SYSTEM_LIB, "timed", 1, 0,
                         5, 2, 10, 1, ""),
                    "argument 8: Int expected");
    host_close(&host);
}

static void it_cools_down_after_some_of_the_repeats(void) {
    static const struct {
        int cooldown_ms, repeats_to_cooldown, waits;
    } cases[] = {{0, 1, 6}, {-5, 1, 6}, {5, 1, 6}, {5, 2, 3}, {5, 4, 2}, {5, 100, 1}, {5, 0, 6}, {5, -3, 6}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        timing_t timing = {"timed", "", 1, 6, 0, 1, 0, 0};
        timing.cooldown_ms = cases[i].cooldown_ms;
        timing.repeats_to_cooldown = cases[i].repeats_to_cooldown;
        open(500);
        CHECK_IS(evaluate(timing).data[0], PACKET_RETURN);
        /* Two looks at the clock for each repeat, and for each wait one at its beginning and others until it is over. */
        CHECK_IS(board_time_us(host.board), 500 * (6 * 2 + cases[i].waits * (1 + (timing.cooldown_ms > 0 ? 10 : 1))));
        host_close(&host);
    }
}

static void it_is_prepared_before_each_repeat(void) {
    timing_t timing = {"timed", "prepare", 4, 3, 0, 1, 0, 1};
    open(1000);
    CHECK_IS(evaluate(timing).data[0], PACKET_RETURN);
    CHECK_IS(preparations, 3);
    CHECK_IS(calls, 12);
    timing.preparation = "prepare_and_fail";
    CHECK_EXCEPTION(evaluate(timing), "not prepared");
    CHECK_IS(calls, 12);
    host_close(&host);
}

static void what_is_timed_may_fail(void) {
    timing_t timing = {"fails_at_3", "", 2, 4, 0, 1, 0, 1};
    open(1000);
    CHECK_EXCEPTION(evaluate(timing), "the third call fails");
    CHECK_IS(calls, 3);
    host_close(&host);
}

static void what_is_timed_gets_the_arguments(void) {
    timing_t timing = {"takes_an_int", "", 3, 2, 0, 1, 0, 1};
    blob_t made;
    open(1000);
    CHECK_IS(evaluate(timing).data[0], PACKET_RETURN);
    CHECK_IS(calls, 6);
    made = evaluator(timing);
    CHECK_EXCEPTION(call(&host, word_of(&made), "s", "x"), "argument 0: Int expected");
    host_close(&host);
}

static void results_of_what_is_timed_are_freed(void) {
    timing_t timing = {"makes_a_tensor", "", 30, 2, 0, 1, 0, 1};
    open(1000);
    CHECK_IS(evaluate(timing).data[0], PACKET_RETURN);
    CHECK_IS(calls, 60);
    CHECK_IS(host.device->heap.count, 0);
    host_close(&host);
}

static void what_is_timed_does_not_overwrite_the_times(void) {
    timing_t timing = {"makes_a_text", "", 2, 3, 0, 1, 0, 1};
    blob_t reply, body = blob_of(NULL, 0), packets[2];
    open(2000);
    reply = evaluate(timing);
    CHECK_IS(calls, 6);
    CHECK_IS(reply.size, 32 + 24);
    for (size_t i = 0; i < 3; i++) CHECK(is_about(seconds(&reply, i), 1e-3));
    /* And the packet after it in a message has as much room as ever. */
    timing.repeat = 20;
    reply = evaluator(timing);
    packets[0] = call_packet(word_of(&reply), "");
    packets[1] = call_packet(find(&host, "makes_a_text"), "");
    for (size_t i = 0; i < 10; i++) {
        add_number(&body, packets[i > 0].size, 8);
        add_bytes(&body, packets[i > 0].data, packets[i > 0].size);
    }
    CHECK(512 - body.size > 160 + 64);
    say_message(&host, host.session, MESSAGE_NORMAL, body);
    CHECK_IS(hear_packet(&host).size, 32 + 160);
    for (size_t i = 1; i < 10; i++) CHECK_IS(hear_packet(&host).size, 32 + 64);
    host_close(&host);
}

static void too_many_times_are_too_long(void) {
    timing_t timing = {"timed", "", 1, 55, 0, 1, 0, 1};
    open(1000);
    CHECK_IS(evaluate(timing).size, 32 + 55 * 8);
    timing.repeat = 60;
    CHECK_EXCEPTION(evaluate(timing), "the result is too long");
    timing.repeat = INT32_MAX;
    CHECK_EXCEPTION(evaluate(timing), "the result is too long");
    CHECK_IS(calls, 55);
    host_close(&host);
}

static void a_senseless_timing_is_refused(void) {
    static const char no_function[] = "RPCTimeEvaluator: no function has that name";
    static const char not_positive[] = "RPCTimeEvaluator: number and repeat must be positive";
    timing_t timing = {"timed", "", 1, 1, 0, 1, 0, 1}, other = timing;
    uint64_t make;
    open(1000);
    make = find_global(&host, "runtime.RPCTimeEvaluator");
    other.name = "nothing";
    CHECK_EXCEPTION(evaluator(other), no_function);
    other.name = "prepare"; /* of the global registry */
    CHECK_EXCEPTION(evaluator(other), no_function);
    other = timing;
    other.preparation = "nothing";
    CHECK_EXCEPTION(evaluator(other), no_function);
    other = timing;
    other.number = 0;
    CHECK_EXCEPTION(evaluator(other), not_positive);
    other.number = 1;
    other.repeat = -1;
    CHECK_EXCEPTION(evaluator(other), not_positive);
    CHECK_EXCEPTION(call(&host, make, "ms", SYSTEM_LIB, "timed"), "argument 2: Int expected");
    CHECK_EXCEPTION(call(&host, make, "msiiiiiiiii", SYSTEM_LIB, "timed", 1, 0, 1, 1, 0, 1, 0, 1, 0),
                    "argument 11: Str expected");
    CHECK_EXCEPTION(call(&host, make, "msiiiiiiiiii", SYSTEM_LIB, "timed", 1, 0, 1, 1, 0, 1, 0, 1, 0, 0),
                    "argument 11: Str expected");
    CHECK_EXCEPTION(call(&host, make, "Fs", make, "timed"), "argument 0: Module expected");
    CHECK_IS(host.device->heap.count, 0);
    /* Numbers of more than 32 bits are the largest of 32, and the smallest. */
    CHECK_EXCEPTION(
        call(&host, make, "msiiIIiiiiis", SYSTEM_LIB, "timed", 1, 0, INT64_MIN, INT64_MAX, 0, 1, 0, 1, 0, ""),
        not_positive);
    CHECK_WORD(call(&host, make, "msiiiIiiiiis", SYSTEM_LIB, "timed", 1, 0, 1, INT64_MAX, 0, 1, 0, 1, 0, ""),
               MICRORPC_FUNCTION_HANDLE, board_heap_address(host.board));
    CHECK_EXCEPTION(call(&host, board_heap_address(host.board), ""), "the result is too long");
    host_close(&host);
}

#if MICRORPC_RELEASE_ALL
static void release_all_frees_whatever_was_allocated(void) {
    uint64_t release, address, array, function;
    timing_t timing = {"timed", "", 1, 1, 0, 1, 0, 1};
    blob_t made;
    open(0);
    release = find_global(&host, "microrpc.release_all");
    CHECK_WORD(call(&host, release, ""), MICRORPC_INT, 0);
    address = allocate(&host, 100);
    allocate(&host, 0);
    made = call(&host, find(&host, "makes_a_tensor"), "");
    array = word_of(&made);
    made = evaluator(timing);
    function = word_of(&made);
    CHECK_IS(host.device->heap.count, 4);
    CHECK_WORD(call(&host, release, "s", "more is no error"), MICRORPC_INT, 100 + 1 + 100 + 64);
    CHECK_IS(host.device->heap.count, 0);
    CHECK_WORD(call(&host, release, ""), MICRORPC_INT, 0);
    CHECK_IS(call(&host, function, "").data[0], PACKET_EXCEPTION);
    CHECK_IS(ask(&host, packet_of(PACKET_FREE_HANDLE, "hi", array, MICRORPC_NDARRAY)).data[0], PACKET_EXCEPTION);
    CHECK_IS(allocate(&host, 16), address);
    CHECK_IS(find(&host, "timed"), STATIC_HANDLE(REGISTRY_SYSTEM, 0));
    host_close(&host);
}

/* It would free the evaluator, whose memory the next tensor gets. */
static void release_all_prepares_nothing(void) {
    timing_t timing = {"makes_a_tensor", "microrpc.release_all", 1, 2, 0, 1, 0, 1};
    open(0);
    CHECK_EXCEPTION(evaluator(timing), "RPCTimeEvaluator: no function has that name");
    CHECK_IS(host.device->heap.count, 0);
    host_close(&host);
}
#else
static void release_all_is_left_out(void) {
    open(0);
    CHECK_IS(find_global(&host, "microrpc.release_all"), 0);
    CHECK_IS(find_global(&host, "prepare"), STATIC_HANDLE(REGISTRY_GLOBAL, RUNTIME_FUNCTIONS));
    host_close(&host);
}
#endif

/* --- crc32 and numbers ----------------------------------------------------------------------------------------- */

#if MICRORPC_LINK
static void crc32_is_that_of_the_bytes(void) {
    uint8_t *data;
    tensor_t tensor;
    uint64_t crc32;
    open(0);
    data = (uint8_t *)(uintptr_t)allocate(&host, 16);
    crc32 = find_global(&host, "microrpc.crc32");
    memcpy(data, "123456789", 9);
    tensor = tensor_1d((uintptr_t)data, MICRORPC_DTYPE_UINT, 8, 9);
    CHECK_WORD(call(&host, crc32, "t", &tensor), MICRORPC_INT, 0xCBF43926);
    tensor.extents[0] = 0;
    CHECK_WORD(call(&host, crc32, "t", &tensor), MICRORPC_INT, 0);
    CHECK_EXCEPTION(call(&host, crc32, ""), "argument 0: Tensor expected");
    host_close(&host);
}
#endif

static void numbers_are_divided(void) {
    static const uint64_t numbers[] = {0, 1, 9, 10, 99, 12345678901234567890u, UINT64_MAX, UINT64_C(1) << 63};
    static const uint32_t divisors[] = {1, 2, 3, 10, 16, 1000000000, 0x80000000, UINT32_MAX};
    for (size_t i = 0; i < 8; i++) {
        for (size_t j = 0; j < 8; j++) {
            uint64_t number = numbers[i];
            CHECK_IS(mrpc_divide(&number, divisors[j]), numbers[i] % divisors[j]);
            CHECK_IS(number, numbers[i] / divisors[j]);
        }
    }
}

static void a_product_stops_at_the_largest(void) {
    CHECK_IS(mrpc_multiply(3, 5), 15);
    CHECK_IS(mrpc_multiply(0x10000, 0xFFFF), 0xFFFF0000);
    CHECK_IS(mrpc_multiply(0x10000, 0x10000), UINT32_MAX);
    CHECK_IS(mrpc_multiply(1, UINT64_C(0x100000000)), UINT32_MAX);
    CHECK_IS(mrpc_multiply(UINT32_MAX, UINT64_MAX), UINT32_MAX);
    CHECK_IS(mrpc_multiply(UINT32_MAX, 0), 0);
}

const test_t runtime_tests[] = {
    TEST(the_functions_have_fixed_handles),
    TEST(the_system_library_is_a_module),
    TEST(the_packet_size_leaves_the_envelope_out),
    TEST(random_fill_gives_words),
    TEST(random_floats_are_from_1_to_2),
    TEST(times_are_seconds),
    TEST(times_that_a_double_holds_are_exact),
    TEST(more_calls_are_timed_until_they_took_long_enough),
    TEST(the_count_of_calls_grows_and_does_not_wrap),
    TEST(every_version_of_the_arguments_is_taken),
    TEST(it_cools_down_after_some_of_the_repeats),
    TEST(it_is_prepared_before_each_repeat),
    TEST(what_is_timed_may_fail),
    TEST(what_is_timed_gets_the_arguments),
    TEST(results_of_what_is_timed_are_freed),
    TEST(what_is_timed_does_not_overwrite_the_times),
    TEST(too_many_times_are_too_long),
    TEST(a_senseless_timing_is_refused),
#if MICRORPC_RELEASE_ALL
    TEST(release_all_frees_whatever_was_allocated),
    TEST(release_all_prepares_nothing),
#else
    TEST(release_all_is_left_out),
#endif
#if MICRORPC_LINK
    TEST(crc32_is_that_of_the_bytes),
#endif
    TEST(numbers_are_divided),
    TEST(a_product_stops_at_the_largest),
    TESTS_END,
};
