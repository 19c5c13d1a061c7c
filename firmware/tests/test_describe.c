/* What the board tells of itself (docs/description.md). */
#include "host.h"

static host_t host;

static void scale(microrpc_call_t *call) { (void)call; }
static void plain(microrpc_call_t *call) { (void)call; }
static void extra(microrpc_call_t *call) { (void)call; }

static const microrpc_function_t functions[] = {
    MICRORPC_FUNCTION_DOC(scale, "x: float32[n], factor: float -> None", "Multiply a tensor in place."),
    MICRORPC_FUNCTION(plain),
    MICRORPC_FUNCTION_AS("odd\tname", plain, "a:\tint", "one\ntwo"),
};
static const microrpc_function_t global_functions[] = {MICRORPC_FUNCTION_DOC(extra, NULL, "A global one.")};

static microrpc_config_t described(uint32_t packet_bytes) {
    microrpc_config_t config = {MICRORPC_FUNCTIONS(functions),
                                .global_functions = global_functions,
                                .global_function_count = 1,
                                .packet_bytes = packet_bytes,
                                .nonce = 1};
    return config;
}

static void open(microrpc_config_t config) {
    host_boot(&host, config, 1024, 0);
    host_begin(&host);
}

#if MICRORPC_DESCRIBE

#define DESCRIBE STATIC_HANDLE(REGISTRY_GLOBAL, RUNTIME_FUNCTIONS - 1 - !!MICRORPC_MEMORY - 4 * !!MICRORPC_MODELS)
#define ENVELOPE 40u /* of a call with one Int, as much as it takes of the receive buffer */

static const char whole[] = "microrpc\t1\t7b33b7f5\t138\tlab\tblink\t1.2\n"
                            "scale\tx: float32[n], factor: float -> None\tMultiply a tensor in place.\n"
                            "plain\t\t\n"
                            "odd name\ta: int\tone two\n"
                            "extra\t\tA global one.\n";
#define WHOLE_BYTES (sizeof whole - 1)

static void open_whole(uint32_t packet_bytes) {
    microrpc_config_t config = described(packet_bytes);
    config.board_name = "lab";
    config.firmware_name = "blink";
    config.firmware_version = "1.2";
    open(config);
}

static void check_page(uint64_t offset, size_t most_bytes) {
    char want[WHOLE_BYTES + 1];
    size_t size = offset < WHOLE_BYTES ? WHOLE_BYTES - (size_t)offset : 0;
    if (size > most_bytes) size = most_bytes;
    memcpy(want, whole + (size ? offset : 0), size);
    want[size] = 0;
    CHECK_STRING(call(&host, DESCRIBE, "I", (int64_t)offset), MICRORPC_BYTES, want);
}

static void the_description_is_that_of_the_tables(void) {
    open_whole(512);
    CHECK_IS(find_global(&host, "microrpc.describe"), DESCRIBE);
    CHECK_IS(find_global(&host, "extra"), STATIC_HANDLE(REGISTRY_GLOBAL, RUNTIME_FUNCTIONS));
    check_page(0, 512);
    CHECK_IS(host.device->description_hash, 0x7B33B7F5);
    host_close(&host);
}

static void what_is_not_said_is_empty(void) {
    microrpc_config_t config = {.packet_bytes = 512, .functions = functions, .nonce = 1};
    open(config);
    CHECK_STRING(call(&host, DESCRIBE, "i", 0), MICRORPC_BYTES, "microrpc\t1\tc187b0ca\t3\t\t\t\n");
    host_close(&host);
}

static void a_hash_has_its_leading_zeros(void) {
    microrpc_config_t config = {.packet_bytes = 512, .functions = functions, .nonce = 1};
    config.firmware_version = "8554";
    open(config);
    CHECK_STRING(call(&host, DESCRIBE, "i", 0), MICRORPC_BYTES, "microrpc\t1\t00000d23\t7\t\t\t8554\n");
    host_close(&host);
}

static void a_page_begins_anywhere(void) {
    open_whole(512);
    for (uint64_t offset = 0; offset <= WHOLE_BYTES + 2; offset++) check_page(offset, 512);
    check_page(UINT32_MAX, 0);
    check_page(UINT64_C(1) << 32, 0);
    check_page(INT64_MAX, 0);
    check_page((uint64_t)-1, 0);
    check_page(UINT64_C(1) << 63, 0);
    host_close(&host);
}

static void a_page_takes_what_the_request_leaves_of_the_buffer(void) {
    for (uint32_t packet_bytes = 128; packet_bytes < 260; packet_bytes++) {
        open_whole(packet_bytes);
        check_page(0, packet_bytes - ENVELOPE);
        check_page(packet_bytes - ENVELOPE, packet_bytes - ENVELOPE);
        host_close(&host);
    }
}

/* What else is in its message takes room of the buffer, too. */
static void a_page_has_32_bytes_unless_it_is_the_last_one(void) {
    for (size_t room = 0; room < 48; room += 8) {
        blob_t first = call_packet(DESCRIBE, "i", 0), last = call_packet(DESCRIBE, "i", (int)WHOLE_BYTES - 24);
        blob_t body = blob_of(NULL, 0), page;
        open_whole(512);
        add_number(&body, first.size, 8);
        add_bytes(&body, first.data, first.size);
        add_number(&body, last.size, 8);
        add_bytes(&body, last.data, last.size);
        while (HEADER_BYTES + body.size + 8 <= 512 - room) add_number(&body, 0, 8);
        say_message(&host, host.session, MESSAGE_NORMAL, body);
        page = hear_packet(&host);
        if (room < 32)
            CHECK_EXCEPTION(page, "the result is too long");
        else
            CHECK_IS(page.size, 32 + room);
        page = hear_packet(&host);
        if (room < 24)
            CHECK_EXCEPTION(page, "the result is too long");
        else
            CHECK_STRING(page, MICRORPC_BYTES, whole + WHOLE_BYTES - 24);
        host_close(&host);
    }
}

static void an_offset_is_an_int(void) {
    open_whole(512);
    CHECK_EXCEPTION(call(&host, DESCRIBE, ""), "argument 0: Int expected");
    CHECK_EXCEPTION(call(&host, DESCRIBE, "f", 0.0), "argument 0: Int expected");
    check_page(0, 512);
    host_close(&host);
}

const test_t describe_tests[] = {
    TEST(the_description_is_that_of_the_tables),
    TEST(what_is_not_said_is_empty),
    TEST(a_hash_has_its_leading_zeros),
    TEST(a_page_begins_anywhere),
    TEST(a_page_takes_what_the_request_leaves_of_the_buffer),
    TEST(a_page_has_32_bytes_unless_it_is_the_last_one),
    TEST(an_offset_is_an_int),
    TESTS_END,
};

#else

static void the_description_is_left_out(void) {
    CHECK_IS(sizeof(microrpc_function_t), 2 * sizeof(void *));
    open(described(512));
    CHECK_IS(find_global(&host, "microrpc.describe"), 0);
    CHECK_IS(find_global(&host, "extra"), STATIC_HANDLE(REGISTRY_GLOBAL, RUNTIME_FUNCTIONS));
    CHECK_IS(find(&host, "odd\tname"), STATIC_HANDLE(REGISTRY_SYSTEM, 2));
    host_close(&host);
}

const test_t describe_tests[] = {
    TEST(the_description_is_left_out),
    TESTS_END,
};

#endif
