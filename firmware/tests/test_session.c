/* Session messages: handshake, and whom a message is for (docs/protocol.md 2, docs/device.md 1); what a configuration
 * must be. */
#include <stdlib.h>

#include "host.h"

static host_t host;

static void open_with_nonce(uint8_t nonce) {
    microrpc_config_t config = {.nonce = nonce};
    host_boot(&host, config, 1024, 0);
}

static void nonces_step_at_each_session(void) {
    uint8_t nonce = 0;
    for (unsigned first = 0; first < 256; first++) {
        open_with_nonce((uint8_t)first);
        nonce = (uint8_t)first;
        for (int times = 0; times < 20; times++) {
            nonce = (uint8_t)((nonce << 5 | nonce >> 5) + 1);
            if (!nonce) nonce = 1;
            host_begin(&host);
            CHECK_IS(host.session, HOST_NONCE | (uint32_t)nonce << 8);
        }
        host_close(&host);
    }
}

static void the_first_handshake_is_exact(void) {
    blob_t reply;
    open_with_nonce(1);
    say(&host, frame_of("\x07\x00\x00\x01", 4).data, 12);
    reply = hear_frame(&host);
    CHECK_HEX(reply.data, reply.size, "07 21 01 01");
    host_close(&host);
}

static void a_senseless_init_is_dropped(void) {
    open_with_nonce(1);
    say_message(&host, 0, MESSAGE_INIT, blob_of("\1", 1));          /* no nonce */
    say_message(&host, HOST_NONCE, MESSAGE_INIT, blob_of("\2", 1)); /* another version */
    say_message(&host, HOST_NONCE, MESSAGE_INIT, blob_of("", 0));   /* none */
    say_message(&host, HOST_NONCE, MESSAGE_INIT, blob_of("\1\0", 2)); /* something behind it */
    say_message(&host, HOST_NONCE | 1 << 8, MESSAGE_INIT, blob_of("\1", 1));      /* something above the nonce */
    say_message(&host, HOST_NONCE | 0x80 << 8, MESSAGE_INIT, blob_of("\1", 1));
    say_message(&host, 1 << 8, MESSAGE_INIT, blob_of("\1", 1));
    CHECK_SILENT(&host);
    host_begin(&host);
    CHECK_IS(host.session, 0x2107); /* and no nonce was used up */
    say_message(&host, 0, MESSAGE_INIT, blob_of("\1", 1));
    CHECK_IS(find_global(&host, "nothing"), 0); /* the session goes on */
    host_close(&host);
}

static void an_init_begins_a_new_session_at_once(void) {
    uint16_t before;
    open_with_nonce(1);
    host_begin(&host);
    before = host.session;
    host_begin(&host);
    CHECK(host.session != before);
    say_message(&host, before, MESSAGE_NORMAL, blob_of("\x04\0\0\0\0\0\0\0\x63\0\0\0", 12));
    CHECK_SILENT(&host);
    CHECK_IS(find_global(&host, "nothing"), 0);
    host_close(&host);
}

static void messages_without_a_session_are_dropped(void) {
    static const uint8_t types[] = {MESSAGE_REPLY, MESSAGE_TERMINATE, MESSAGE_LOG, MESSAGE_NORMAL, 0x11, 0xFF};
    open_with_nonce(1);
    for (size_t i = 0; i < sizeof types; i++) {
        say_message(&host, 0, types[i], text_blob("\1some text"));
        say_message(&host, 0x2107, types[i], text_blob("\1some text"));
        CHECK_SILENT(&host);
    }
    host_begin(&host);
    for (size_t i = 0; i < sizeof types; i++) {
        if (types[i] == MESSAGE_NORMAL || types[i] == MESSAGE_TERMINATE) continue;
        say_message(&host, host.session, types[i], text_blob("\1some text"));
        CHECK_SILENT(&host);
    }
    host_close(&host);
}

static void terminate_ends_the_session(void) {
    open_with_nonce(1);
    host_begin(&host);
    say_message(&host, 0, MESSAGE_TERMINATE, blob_of(NULL, 0));
    say_packet(&host, packet_of(PACKET_GET_GLOBAL_FUNC, "s", "add"));
    CHECK_SILENT(&host);
    host_begin(&host);
    CHECK(find_global(&host, "nothing") == 0);
    host_close(&host);
}

static void a_terminate_of_another_session_is_dropped(void) {
    open_with_nonce(1);
    host_begin(&host);
    say_message(&host, host.session ^ 1, MESSAGE_TERMINATE, blob_of(NULL, 0));
    say_message(&host, host.session ^ 0x8000, MESSAGE_TERMINATE, blob_of(NULL, 0));
    say_message(&host, host.session & 0xFF, MESSAGE_TERMINATE, blob_of(NULL, 0));
    say_message(&host, 0, MESSAGE_TERMINATE, blob_of("\0", 1)); /* and one with something behind it */
    say_message(&host, host.session, MESSAGE_TERMINATE, blob_of("\1", 1));
    CHECK_IS(find_global(&host, "nothing"), 0);
    say_message(&host, host.session, MESSAGE_TERMINATE, blob_of(NULL, 0));
    say_packet(&host, packet_of(PACKET_GET_GLOBAL_FUNC, "s", "nothing"));
    CHECK_SILENT(&host);
    host_close(&host);
}

static void add_packet(blob_t *body, blob_t packet) {
    add_number(body, packet.size, 8);
    add_bytes(body, packet.data, packet.size);
}

static void a_message_may_hold_several_packets(void) {
    blob_t body = blob_of(NULL, 0);
    open_with_nonce(1);
    host_begin(&host);
    add_packet(&body, packet_of(PACKET_GET_GLOBAL_FUNC, "s", "runtime.SystemLib"));
    add_packet(&body, blob_of(NULL, 0)); /* skipped */
    add_packet(&body, packet_of(PACKET_GET_GLOBAL_FUNC, "s", "nothing"));
    say_message(&host, host.session, MESSAGE_NORMAL, body);
    CHECK_HANDLE(hear_packet(&host), UINT64_C(1) << 63);
    CHECK_HANDLE(hear_packet(&host), 0);
    host_close(&host);
}

static void a_rest_of_a_message_is_malformed(void) {
    for (size_t rest = 1; rest < 12; rest++) {
        blob_t body = blob_of(NULL, 0);
        open_with_nonce(1);
        host_begin(&host);
        add_packet(&body, packet_of(PACKET_GET_GLOBAL_FUNC, "s", "nothing"));
        add_bytes(&body, "\x04\0\0\0\0\0\0\0\0\0\0", rest); /* less than 8 bytes, then less than it announces */
        say_message(&host, host.session, MESSAGE_NORMAL, body);
        CHECK_HANDLE(hear_packet(&host), 0);
        CHECK_EXCEPTION(hear_packet(&host), "malformed packet");
        host_close(&host);
    }
}

static void a_packet_of_too_much_is_malformed(void) {
    static const uint64_t sizes[] = {13, 0x100000000, UINT64_MAX, UINT64_C(1) << 63};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        blob_t body = blob_of(NULL, 0);
        open_with_nonce(1);
        host_begin(&host);
        add_number(&body, sizes[i], 8);
        add_bytes(&body, "\x0B\0\0\0\0\0\0\0\0\0\0\0", 12);
        say_message(&host, host.session, MESSAGE_NORMAL, body);
        CHECK_EXCEPTION(hear_packet(&host), "malformed packet");
        host_close(&host);
    }
}

static void an_empty_message_is_nothing(void) {
    open_with_nonce(1);
    host_begin(&host);
    say_message(&host, host.session, MESSAGE_NORMAL, blob_of(NULL, 0));
    say_message(&host, host.session, MESSAGE_NORMAL, blob_of("\0\0\0\0\0\0\0\0", 8));
    CHECK_SILENT(&host);
    host_close(&host);
}

static void shutdown_ends_the_message_and_makes_deaf(void) {
    blob_t body = blob_of(NULL, 0), look_up = packet_of(PACKET_GET_GLOBAL_FUNC, "s", "nothing");
    open_with_nonce(1);
    host_begin(&host);
    add_packet(&body, look_up);
    add_packet(&body, blob_of("\1\0\0\0", 4));
    add_packet(&body, look_up);
    say_message(&host, host.session, MESSAGE_NORMAL, body);
    CHECK_HANDLE(hear_packet(&host), 0);
    say_packet(&host, look_up);
    CHECK_SILENT(&host);
    host_begin(&host);
    CHECK_HANDLE(ask(&host, look_up), 0);
    host_close(&host);
}

static void shutdown_with_more_is_malformed(void) {
    open_with_nonce(1);
    host_begin(&host);
    CHECK_EXCEPTION(ask(&host, blob_of("\1\0\0\0\0", 5)), "malformed packet");
    CHECK_IS(find_global(&host, "nothing"), 0);
    host_close(&host);
}

static void blocks_outlive_a_session(void) {
    uint64_t address;
    open_with_nonce(1);
    host_begin(&host);
    address = allocate(&host, 8);
    host_begin(&host);
    CHECK_NONE(ask(&host, packet_of(PACKET_DEV_FREE_DATA, "dh", 1, 0, address)));
    host_close(&host);
}

static void a_log_is_a_message(void) {
    blob_t log;
    open_with_nonce(1);
    microrpc_log(host.device, "hello");
    log = hear_frame(&host);
    CHECK_HEX(log.data, log.size, "00 00 03 68 65 6C 6C 6F");
    microrpc_log(host.device, "");
    log = hear_frame(&host);
    CHECK_HEX(log.data, log.size, "00 00 03");
    host_close(&host);
}

static void write_nothing(void *port, const uint8_t *bytes, size_t size) {
    (void)port;
    (void)bytes;
    (void)size;
}

static void a_senseless_configuration_is_refused(void) {
    static uint64_t memory[1024];
    const microrpc_config_t good = {.write = write_nothing, .packet_bytes = 128, .reply_bytes = 8};
    size_t overhead = microrpc_overhead_bytes(&good);
    microrpc_config_t config = good;
    CHECK(microrpc_start(memory, sizeof memory, &good) != NULL);
    CHECK(microrpc_start(memory, overhead, &good) != NULL); /* no heap */
    CHECK(microrpc_start(memory, overhead - 1, &good) == NULL);
    CHECK(microrpc_start(memory, 0, &good) == NULL);
    CHECK(microrpc_start((uint8_t *)memory + 4, sizeof memory - 4, &good) == NULL);
    config.write = NULL;
    CHECK(microrpc_start(memory, sizeof memory, &config) == NULL);
    config = good;
    config.packet_bytes = 127;
    CHECK(microrpc_start(memory, sizeof memory, &config) == NULL);
    config.packet_bytes = 0x1000000;
    CHECK(microrpc_start(memory, 0x2000000, &config) == NULL); /* the memory is not looked at */
    config.packet_bytes = UINT32_MAX;
    CHECK(microrpc_start(memory, sizeof memory, &config) == NULL);
    config = good;
    config.reply_bytes = UINT32_MAX;
    CHECK(microrpc_start(memory, sizeof memory, &config) == NULL);
}

static void the_memory_is_not_written_past_its_end(void) {
    const microrpc_config_t config = {.write = write_nothing, .packet_bytes = 128};
    for (size_t more = 0; more < 40; more++) { /* the rest of less than 8 bytes is not used */
        size_t size = microrpc_overhead_bytes(&config) + more;
        uint8_t *memory = malloc(size);
        microrpc_t *device = microrpc_start(memory, size, &config);
        CHECK(device != NULL);
        CHECK_IS(device->heap.size_bytes, more & ~(size_t)7);
        mrpc_heap_alloc(device, 1, 1, BLOCK_DATA);
        CHECK_IS(device->heap.count, more >= 16);
        free(memory);
    }
}

const test_t session_tests[] = {
    TEST(nonces_step_at_each_session),
    TEST(the_first_handshake_is_exact),
    TEST(a_senseless_init_is_dropped),
    TEST(an_init_begins_a_new_session_at_once),
    TEST(messages_without_a_session_are_dropped),
    TEST(terminate_ends_the_session),
    TEST(a_terminate_of_another_session_is_dropped),
    TEST(a_message_may_hold_several_packets),
    TEST(a_rest_of_a_message_is_malformed),
    TEST(a_packet_of_too_much_is_malformed),
    TEST(an_empty_message_is_nothing),
    TEST(shutdown_ends_the_message_and_makes_deaf),
    TEST(shutdown_with_more_is_malformed),
    TEST(blocks_outlive_a_session),
    TEST(a_log_is_a_message),
    TEST(a_senseless_configuration_is_refused),
    TEST(the_memory_is_not_written_past_its_end),
    TESTS_END,
};
