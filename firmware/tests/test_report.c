/* What a device tells of itself: its memory, and lines with a level; and what its port is told (docs/device.md 4, 5). */
#include "host.h"

static host_t host;

/* --- lines with a level ------------------------------------------------------------------------------------------ */

static void log_is(const char *text) {
    blob_t log = hear_message(&host, 0, MESSAGE_LOG);
    CHECK_TEXT(log.data, log.size, text);
}

static void boot(uint32_t step_us) {
    microrpc_config_t config = {.nonce = 1};
    host_boot(&host, config, 1024, step_us);
}

static void a_level_and_the_time_stand_before_a_line(void) {
    boot(12345678);
    microrpc_log_at(host.device, MICRORPC_LOG_WARNING, "hot");
    log_is("[W 0012.345678] hot");
    microrpc_log_at(host.device, MICRORPC_LOG_DEBUG, "");
    log_is("[D 0024.691356] ");
    microrpc_log_at(host.device, MICRORPC_LOG_INFO, "a");
    log_is("[I 0037.037034] a");
    microrpc_log_at(host.device, MICRORPC_LOG_ERROR, "b");
    log_is("[E 0049.382712] b");
    host_close(&host);
    boot(UINT32_MAX);
    microrpc_log_at(host.device, MICRORPC_LOG_ERROR, "late");
    log_is("[E 4294.967295] late");
    host_close(&host);
}

static uint8_t line[64];
static size_t line_bytes;

static void write_line(void *port, const uint8_t *bytes, size_t size) {
    (void)port;
    if (line_bytes + size <= sizeof line) memcpy(line + line_bytes, bytes, size);
    line_bytes += size;
}

static void without_a_clock_there_is_no_time(void) {
    static uint64_t memory[256];
    const microrpc_config_t config = {.write = write_line, .packet_bytes = 128};
    microrpc_t *device = microrpc_start(memory, sizeof memory, &config);
    line_bytes = 0;
    microrpc_log_at(device, MICRORPC_LOG_ERROR, "x");
    /* A start, the length and the header come before it, the crc after it. */
    CHECK_IS(line_bytes, 2 + 4 + 3 + 17 + 2);
    CHECK_TEXT(line + 9, 17, "[E ----.------] x");
}

static void logs_and_returns(microrpc_call_t *call) {
    microrpc_return_int(call, 7);
    microrpc_log_at(microrpc_device(call), MICRORPC_LOG_INFO, "meanwhile");
}

static void a_line_with_a_level_does_not_touch_the_result(void) {
    static const microrpc_function_t functions[] = {MICRORPC_FUNCTION(logs_and_returns)};
    microrpc_config_t config = {MICRORPC_FUNCTIONS(functions), .nonce = 1};
    host_boot(&host, config, 1024, 0);
    host_begin(&host);
    say_packet(&host, call_packet(find(&host, "logs_and_returns"), ""));
    log_is("[I 0000.000000] meanwhile");
    CHECK_WORD(hear_packet(&host), MICRORPC_INT, 7);
    host_close(&host);
}

/* --- memory ------------------------------------------------------------------------------------------------------ */

#if MICRORPC_MEMORY
static void memory_is(uint32_t used, uint32_t largest, uint32_t most, uint32_t stack, uint32_t most_stack) {
    uint32_t want[6] = {1024, used, largest, most, stack, most_stack};
    blob_t reply = call(&host, find_global(&host, "microrpc.memory"), "s", "more is no error");
    CHECK_IS(reply.size, 32 + 24);
    CHECK_IS(mrpc_get64(reply.data + 16), MICRORPC_BYTES);
    CHECK_IS(mrpc_get64(reply.data + 24), 24);
    for (unsigned i = 0; i < 6; i++) CHECK_IS(mrpc_get32(reply.data + 32 + 4 * i), want[i]);
}

static void the_memory_report_counts_what_is_used(void) {
    uint64_t first, second;
    host_open(&host, 1024);
    memory_is(0, 1024 - 8, 0, 0, 0);
    first = allocate(&host, 100);
    memory_is(108, 1024 - 16 - 104, 108, 0, 0);
    second = allocate(&host, 0);
    memory_is(117, 1024 - 24 - 112, 117, 0, 0);
    CHECK_NONE(ask(&host, packet_of(PACKET_DEV_FREE_DATA, "dh", 1, 0, first)));
    memory_is(9, 1024 - 16 - 112, 117, 0, 0); /* the gap in front of the second is smaller */
    CHECK_NONE(ask(&host, packet_of(PACKET_DEV_FREE_DATA, "dh", 1, 0, second)));
    memory_is(0, 1024 - 8, 117, 0, 0);
    allocate(&host, 1016);
    memory_is(1024, 0, 1024, 0, 0); /* the table has no room for another */
    host_close(&host);
}

static void tell_stack(void *port, uint32_t *size_bytes, uint32_t *most_used_bytes) {
    CHECK(port == host.board);
    *size_bytes = 4096;
    *most_used_bytes = 700;
}

static void the_memory_report_has_the_stack_where_the_port_knows(void) {
    microrpc_config_t config = {.nonce = 1, .stack = tell_stack};
    host_boot(&host, config, 1024, 0);
    host_begin(&host);
    memory_is(0, 1024 - 8, 0, 4096, 700);
    host_close(&host);
}
#else
static void the_memory_report_is_left_out(void) {
    boot(0);
    host_begin(&host);
    CHECK_IS(find_global(&host, "microrpc.memory"), 0);
    host_close(&host);
}
#endif

/* --- what the port is told --------------------------------------------------------------------------------------- */

#if MICRORPC_HOOKS
static unsigned idles, flushes;
static const void *flushed;

static void count_idle(void *port) {
    CHECK(port == host.board);
    idles++;
}

static void count_flush(void *port) {
    flushed = port;
    flushes++;
}

static void open_counted(void) {
    microrpc_config_t config = {.nonce = 1, .idle = count_idle, .flush = count_flush};
    host_boot(&host, config, 1024, 1000);
}

static void the_port_is_told_of_waiting(void) {
    blob_t made;
    open_counted();
    host_begin(&host);
    made = call(&host, find_global(&host, "runtime.RPCTimeEvaluator"), "msiiiiiiiiis", SYSTEM_LIB, "noop", 1, 0, 2, 3,
                0, 1, 4, 1, 0, "");
    idles = 0;
    CHECK_IS(call(&host, word_of(&made), "").data[0], PACKET_RETURN);
    CHECK_IS(idles, 3 + 3 * 3); /* before each run, and in the 4 ms after it, of which each look takes one */
    host_close(&host);
}

static void the_port_is_told_of_the_end_of_each_frame(void) {
    flushes = 0;
    open_counted();
    CHECK_IS(flushes, 1); /* the boot */
    CHECK(flushed == host.board);
    microrpc_log(host.device, "a");
    CHECK_IS(flushes, 2);
    microrpc_log_at(host.device, MICRORPC_LOG_INFO, "b");
    CHECK_IS(flushes, 3);
    hear_frame(&host);
    hear_frame(&host);
    host_begin(&host);
    CHECK_IS(flushes, 4);
    host_close(&host);
}
#endif

const test_t report_tests[] = {
    TEST(a_level_and_the_time_stand_before_a_line),
    TEST(without_a_clock_there_is_no_time),
    TEST(a_line_with_a_level_does_not_touch_the_result),
#if MICRORPC_MEMORY
    TEST(the_memory_report_counts_what_is_used),
    TEST(the_memory_report_has_the_stack_where_the_port_knows),
#else
    TEST(the_memory_report_is_left_out),
#endif
#if MICRORPC_HOOKS
    TEST(the_port_is_told_of_waiting),
    TEST(the_port_is_told_of_the_end_of_each_frame),
#endif
    TESTS_END,
};
