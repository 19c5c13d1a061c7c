/* The device's side of the link (docs/link.md 3). */
#include "host.h"

#if MICRORPC_LINK

enum { SAY_PACKET, SAY_WRITE, SAY_READ };
enum { HEAR_PACKET, HEAR_DONE, HEAR_DATA, HEAR_FORGOTTEN };

static host_t host;
static unsigned calls;

static void count(microrpc_call_t *call) { microrpc_return_int(call, (int64_t)++calls); }

static void count_and_return(microrpc_call_t *call) {
    microrpc_bytes_t bytes = microrpc_bytes(call, 0);
    calls++;
    microrpc_return_bytes(call, bytes.data, bytes.size);
}

static const microrpc_function_t functions[] = {MICRORPC_FUNCTION(count), MICRORPC_FUNCTION(count_and_return)};
#define COUNT call_packet(STATIC_HANDLE(REGISTRY_SYSTEM, 0), "")

static void open(uint32_t reply_bytes) {
    microrpc_config_t config = {MICRORPC_FUNCTIONS(functions), .reply_bytes = reply_bytes, .nonce = 1};
    host_boot(&host, config, 1024, 0);
    host_begin(&host);
    calls = 0;
}

static blob_t at_heap(uint64_t offset, const void *data, size_t size) {
    blob_t body = blob_of(NULL, 0);
    add_number(&body, board_heap_address(host.board) + offset, 8);
    add_bytes(&body, data, size);
    return body;
}

static void say_write(uint16_t seq, uint64_t offset, const char *text) {
    say_link(&host, seq, SAY_WRITE, at_heap(offset, text, mrpc_length(text)));
}

static void say_read(uint16_t seq, uint64_t offset, uint32_t size) {
    blob_t body = at_heap(offset, NULL, 0);
    add_number(&body, size, 4);
    say_link(&host, seq, SAY_READ, body);
}

/* Hear a reply to `seq` of this kind; its body. */
static blob_t hear_reply(uint16_t seq, uint8_t kind) {
    blob_t reply = hear_link(&host, MESSAGE_LINK_REPLY, seq);
    CHECK(reply.size);
    CHECK_IS(reply.data[0], kind);
    return reply.size ? blob_of(reply.data + 1, reply.size - 1) : reply;
}

static void hear_nak(uint16_t seq) { CHECK_IS(hear_link(&host, MESSAGE_LINK_NAK, seq).size, 0); }

static void hear_data(uint16_t seq, const char *text) {
    blob_t data = hear_reply(seq, HEAR_DATA);
    CHECK_TEXT(data.data, data.size, text);
}

static void the_checksum_is_the_usual_one(void) {
    CHECK_IS(mrpc_crc32(0, "123456789", 9), 0xCBF43926);
    CHECK_IS(mrpc_crc32(mrpc_crc32(0, "1234", 4), "56789", 5), 0xCBF43926);
    CHECK_IS(mrpc_crc32(0, "", 0), 0);
}

static void the_parameters_are_a_handle(void) {
    open(0);
    /* version 1, 8 requests, 512 bytes, a ring of 612 */
    CHECK_IS(find_global(&host, "microrpc.link"), 1 | 8 << 8 | 512 << 16 | UINT64_C(612) << 40);
    host_close(&host);
}

static void a_packet_is_executed_exactly_once(void) {
    open(0);
    for (uint16_t seq = 0; seq < 3; seq++) {
        for (int times = 0; times < 3; times++) {
            say_link(&host, seq, SAY_PACKET, COUNT);
            CHECK_WORD(hear_reply(seq, HEAR_PACKET), MICRORPC_INT, seq + 1);
        }
    }
    CHECK_IS(calls, 3);
    host_close(&host);
}

static void an_older_packet_is_dropped(void) {
    open(0);
    for (uint16_t seq = 0; seq < 2; seq++) {
        say_link(&host, seq, SAY_PACKET, COUNT);
        hear_reply(seq, HEAR_PACKET);
    }
    say_link(&host, 0, SAY_PACKET, COUNT);
    say_link(&host, 65535, SAY_PACKET, COUNT);
    CHECK_SILENT(&host);
    CHECK_IS(calls, 2);
    host_close(&host);
}

static void a_long_reply_is_forgotten(void) {
    /* 10 bytes of the message, 32 of the reply, and the data. */
    for (uint32_t size = 18; size <= 22; size++) {
        blob_t data = blob_of("0123456789abcdefghijklmnop", size);
        open(60);
        for (int times = 0; times < 2; times++) {
            blob_t reply;
            say_link(&host, 0, SAY_PACKET, call_packet(STATIC_HANDLE(REGISTRY_SYSTEM, 1), "b", &data));
            reply = hear_reply(0, times && size > 18 ? HEAR_FORGOTTEN : HEAR_PACKET);
            CHECK_IS(reply.size, times && size > 18 ? 0 : 32 + size);
        }
        CHECK_IS(calls, 1);
        say_link(&host, 1, SAY_PACKET, COUNT);
        CHECK_WORD(hear_reply(1, HEAR_PACKET), MICRORPC_INT, 2);
        say_link(&host, 1, SAY_PACKET, COUNT);
        CHECK_WORD(hear_reply(1, HEAR_PACKET), MICRORPC_INT, 2);
        host_close(&host);
    }
}

static void a_packet_ahead_is_refused(void) {
    open(0);
    for (uint16_t seq = 1; seq < 8; seq++) {
        say_link(&host, seq, SAY_PACKET, COUNT);
        hear_nak(0);
    }
    say_link(&host, 8, SAY_PACKET, COUNT); /* past the window */
    say_link(&host, 0x7FFF, SAY_PACKET, COUNT);
    say_link(&host, 0x8000, SAY_PACKET, COUNT); /* long ago */
    CHECK_SILENT(&host);
    CHECK_IS(calls, 0);
    say_link(&host, 0, SAY_PACKET, COUNT);
    hear_reply(0, HEAR_PACKET);
    host_close(&host);
}

static void writes_are_executed_in_any_order(void) {
    static const uint16_t order[] = {3, 1, 7, 2, 0, 4, 6, 5};
    static const uint16_t base[] = {0, 0, 0, 0, 4, 5, 5, 8};
    open(0);
    allocate(&host, 8);
    for (size_t i = 0; i < 8; i++) {
        char text[2] = {(char)('a' + order[i]), 0};
        say_write(order[i], order[i], text);
        hear_reply(order[i], HEAR_DONE);
        CHECK_IS(host.device->link.base, base[i]);
    }
    say_read(8, 0, 8);
    hear_data(8, "abcdefgh");
    host_close(&host);
}

static void a_write_that_was_done_writes_nothing_again(void) {
    open(0);
    allocate(&host, 8);
    say_write(0, 0, "new");
    hear_reply(0, HEAR_DONE);
    say_write(0, 0, "old");
    hear_reply(0, HEAR_DONE);
    say_write(2, 4, "NEW");
    hear_reply(2, HEAR_DONE);
    say_write(2, 4, "OLD"); /* its bit is set, though base is 1 */
    hear_reply(2, HEAR_DONE);
    say_write(0xFFFF, 0, "old");
    hear_reply(0xFFFF, HEAR_DONE);
    say_read(1, 0, 7);
    CHECK_IS(hear_reply(1, HEAR_DATA).size, 7);
    say_read(3, 0, 3);
    hear_data(3, "new");
    say_read(4, 4, 3);
    hear_data(4, "NEW");
    host_close(&host);
}

static void a_read_is_executed_again(void) {
    open(0);
    allocate(&host, 8);
    say_write(0, 0, "one");
    hear_reply(0, HEAR_DONE);
    say_read(1, 0, 3);
    hear_data(1, "one");
    say_write(2, 0, "two");
    hear_reply(2, HEAR_DONE);
    say_read(1, 0, 2);
    hear_data(1, "tw");
    host_close(&host);
}

static void the_window_is_eight(void) {
    open(0);
    allocate(&host, 8);
    say_write(8, 0, "x");
    CHECK_SILENT(&host);
    say_write(7, 0, "x");
    hear_reply(7, HEAR_DONE);
    say_write(0, 1, "y");
    hear_reply(0, HEAR_DONE);
    say_write(8, 2, "z");
    hear_reply(8, HEAR_DONE);
    say_write(9, 0, "x");
    CHECK_SILENT(&host);
    host_close(&host);
}

static void numbers_wrap_around(void) {
    uint16_t seq = 0;
    open(0);
    allocate(&host, 8);
    for (uint32_t times = 0; times < 65530; times++, seq++) {
        say_write(seq, 0, "w");
        hear_reply(seq, HEAR_DONE);
    }
    CHECK_IS(host.device->link.base, 65530);
    say_write(1, 1, "1"); /* 7 ahead */
    hear_reply(1, HEAR_DONE);
    say_write(2, 1, "2");
    CHECK_SILENT(&host);
    say_link(&host, 65531, SAY_PACKET, COUNT);
    hear_nak(65530);
    for (; seq != 1; seq++) {
        say_link(&host, seq, SAY_PACKET, COUNT);
        hear_reply(seq, HEAR_PACKET);
    }
    CHECK_IS(calls, 7);
    CHECK_IS(host.device->link.base, 2);
    say_link(&host, 0, SAY_PACKET, COUNT);
    CHECK_WORD(hear_reply(0, HEAR_PACKET), MICRORPC_INT, 7);
    say_link(&host, 65535, SAY_PACKET, COUNT);
    CHECK_SILENT(&host);
    host_close(&host);
}

static void copies_outside_of_blocks_are_refused(void) {
    open(0);
    allocate(&host, 8);
    for (int times = 0; times < 2; times++) { /* an old one gets the same Exception */
        blob_t reply;
        say_write(0, 6, "abc");
        reply = hear_reply(0, HEAR_PACKET);
        CHECK_IS(reply.data[0], PACKET_EXCEPTION);
        CHECK_TEXT(reply.data + 20, 12, "3 bytes at 0");
        say_read(1, 0, 9);
        CHECK_IS(hear_reply(1, HEAR_PACKET).data[0], PACKET_EXCEPTION);
        say_read(2, 0, UINT32_MAX);
        CHECK_TEXT(hear_reply(2, HEAR_PACKET).data + 20, 10, "4294967295");
    }
    say_read(3, 0, 8);
    CHECK_HEX(hear_reply(3, HEAR_DATA).data, 8, "0000000000000000");
    host_close(&host);
}

static void copies_of_other_sizes_are_malformed(void) {
    uint16_t seq = 0;
    open(0);
    for (size_t size = 0; size < 16; size++, seq++) {
        say_link(&host, seq, SAY_READ, blob_of("0123456789abcdef", size));
        if (size != 12) CHECK_EXCEPTION(hear_reply(seq, HEAR_PACKET), "malformed packet");
        else CHECK_IS(hear_reply(seq, HEAR_PACKET).data[0], PACKET_EXCEPTION);
    }
    for (size_t size = 0; size < 8; size++, seq++) {
        say_link(&host, seq, SAY_WRITE, blob_of("01234567", size));
        CHECK_EXCEPTION(hear_reply(seq, HEAR_PACKET), "malformed packet");
    }
    allocate(&host, 1);
    say_write(seq, 0, ""); /* no data is no error */
    hear_reply(seq++, HEAR_DONE);
    say_read(seq, 0, 0);
    hear_data(seq, "");
    host_close(&host);
}

static void a_malformed_packet_is_answered(void) {
    open(0);
    say_link(&host, 0, SAY_PACKET, blob_of(NULL, 0));
    CHECK_EXCEPTION(hear_reply(0, HEAR_PACKET), "malformed packet");
    say_link(&host, 1, SAY_PACKET, blob_of("\1\0\0\0", 4)); /* Shutdown */
    CHECK_EXCEPTION(hear_reply(1, HEAR_PACKET), "malformed packet");
    say_link(&host, 2, SAY_PACKET, COUNT);
    CHECK_WORD(hear_reply(2, HEAR_PACKET), MICRORPC_INT, 1);
    host_close(&host);
}

static void damage_is_complained_of_once(void) {
    blob_t frame = frame_of("one", 3);
    open(0);
    say(&host, "garbage", 7); /* silent before the first good request */
    say_link(&host, 0, 4, blob_of("", 0));
    CHECK_SILENT(&host);
    for (uint16_t seq = 0; seq < 7; seq++) {
        say_link(&host, seq, SAY_PACKET, COUNT);
        hear_reply(seq, HEAR_PACKET);
        for (int times = 0; times < 2; times++) {
            uint16_t next = (uint16_t)(seq + 1);
            if (seq == 0) say(&host, "garbage", 7);
            if (seq == 1) say(&host, "\xFF\xFD\xFF\x00", 4); /* an invalid escape */
            if (seq == 2) say(&host, frame.data, 10);        /* and a restart */
            if (seq == 3) say(&host, "\xFF\xFD\x00\x00\x00\x00\x83\x45", 8);
            if (seq == 4) say_link(&host, next, 4, blob_of("", 0)); /* an unknown kind */
            if (seq == 5) board_lose_bytes(host.board);
            if (seq == 6) say_message(&host, host.session, MESSAGE_LINK_REQUEST, blob_of("\7\0\0\1\2\3\4", 7));
            if (seq == 2 && !times) say(&host, frame.data, 2);
            if (!times) hear_nak(next);
            CHECK_SILENT(&host);
            if (seq == 2) say(&host, frame.data + 2, frame.size - 2);
        }
    }
    host_close(&host);
}

static void too_long_a_frame_is_complained_of_and_logged(void) {
    open(0);
    say_read(0, 0, 0);
    hear_reply(0, HEAR_PACKET);
    say(&host, "\xFF\xFD\x00\x10\x00\x00", 6);
    hear_nak(1);
    CHECK_IS(hear_message(&host, 0, MESSAGE_LOG).data[0], 'a');
    host_close(&host);
}

static void every_damaged_bit_is_damage(void) {
    blob_t payload = blob_of(NULL, 0), frame;
    open(0);
    add_number(&payload, host.session, 2);
    add_bytes(&payload, "\x20\x00\x00\x00", 4);
    {
        blob_t packet = COUNT;
        add_bytes(&payload, packet.data, packet.size);
    }
    add_number(&payload, mrpc_crc32(0, payload.data, payload.size), 4);
    for (size_t bit = 24; bit < 8 * payload.size; bit++) { /* the frame's own checksum is right */
        blob_t damaged = payload;
        damaged.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        say_frame(&host, damaged.data, damaged.size);
        CHECK_SILENT(&host);
    }
    for (size_t size = 3; size < payload.size; size++) {
        say_frame(&host, payload.data, size);
        CHECK_SILENT(&host);
    }
    CHECK_IS(calls, 0);
    frame = frame_of(payload.data, payload.size);
    say(&host, frame.data, frame.size);
    hear_reply(0, HEAR_PACKET);
    host_close(&host);
}

static void a_request_without_a_session_is_answered_with_terminate(void) {
    microrpc_config_t config = {.nonce = 1};
    host_boot(&host, config, 1024, 0);
    host.session = 0x2107;
    say_read(0, 0, 0);
    CHECK_IS(hear_message(&host, 0, MESSAGE_TERMINATE).size, 0);
    host_begin(&host);
    host.session++; /* of another session: dropped */
    say_read(0, 0, 0);
    CHECK_SILENT(&host);
    host_close(&host);
}

static void a_session_begins_at_0(void) {
    open(0);
    say_link(&host, 0, SAY_PACKET, COUNT);
    hear_reply(0, HEAR_PACKET);
    host_begin(&host);
    say(&host, "garbage", 7);
    CHECK_SILENT(&host); /* not active yet */
    say_link(&host, 0, SAY_PACKET, COUNT);
    CHECK_WORD(hear_reply(0, HEAR_PACKET), MICRORPC_INT, 2);
    host_close(&host);
}

static void after_shutdown_there_are_copies_only(void) {
    open(0);
    allocate(&host, 4);
    say_link(&host, 0, SAY_PACKET, COUNT);
    hear_reply(0, HEAR_PACKET);
    say_packet(&host, blob_of("\1\0\0\0", 4));
    say_link(&host, 0, SAY_PACKET, COUNT); /* nor is what was answered before */
    say_link(&host, 1, SAY_PACKET, COUNT);
    say_link(&host, 2, SAY_PACKET, COUNT);
    CHECK_SILENT(&host);
    CHECK_IS(calls, 1);
    say_write(1, 0, "abcd");
    hear_reply(1, HEAR_DONE);
    say_read(2, 0, 4);
    hear_data(2, "abcd");
    host_close(&host);
}

const test_t link_tests[] = {
    TEST(the_checksum_is_the_usual_one),
    TEST(the_parameters_are_a_handle),
    TEST(a_packet_is_executed_exactly_once),
    TEST(an_older_packet_is_dropped),
    TEST(a_long_reply_is_forgotten),
    TEST(a_packet_ahead_is_refused),
    TEST(writes_are_executed_in_any_order),
    TEST(a_write_that_was_done_writes_nothing_again),
    TEST(a_read_is_executed_again),
    TEST(the_window_is_eight),
    TEST(numbers_wrap_around),
    TEST(copies_outside_of_blocks_are_refused),
    TEST(copies_of_other_sizes_are_malformed),
    TEST(a_malformed_packet_is_answered),
    TEST(damage_is_complained_of_once),
    TEST(too_long_a_frame_is_complained_of_and_logged),
    TEST(every_damaged_bit_is_damage),
    TEST(a_request_without_a_session_is_answered_with_terminate),
    TEST(a_session_begins_at_0),
    TEST(after_shutdown_there_are_copies_only),
    TESTS_END,
};

#else

/* Without the link its messages are dropped like any other that nobody knows. */
static void the_link_is_left_out(void) {
    host_t host;
    host_open(&host, 1024);
    CHECK_IS(find_global(&host, "microrpc.link"), 0);
    say_link(&host, 0, 0, packet_of(PACKET_GET_GLOBAL_FUNC, "s", "add"));
    say(&host, "garbage", 7);
    CHECK_SILENT(&host);
    host_close(&host);
}

const test_t link_tests[] = {TEST(the_link_is_left_out), TESTS_END};

#endif
