/* Frames: escapes, lengths, checksums (docs/protocol.md 1, docs/device.md 1). */
#include "host.h"

static host_t host;

static void open(void) {
    microrpc_config_t config = {.nonce = 1};
    host_boot(&host, config, 1024, 0);
}

/* Whether the board answers an INIT, and nothing else before it. */
static bool is_listening(void) {
    blob_t reply;
    say_message(&host, HOST_NONCE, MESSAGE_INIT, blob_of("\1", 1));
    reply = hear_bytes(&host);
    return reply.size >= 12 && reply.data[8] == MESSAGE_REPLY;
}

static void a_boot_is_announced(void) {
    uint8_t heard[64];
    board_t *board = board_new(512, 600, 0, 1024, 1, 0);
    size_t size = board_take(board, heard, sizeof heard);
    CHECK_HEX(heard, size, "FE FF FD 03 00 00 00 00 00 02 66 77");
    board_free(board);
}

static void frames_have_their_checksum(void) {
    blob_t one = frame_of("one", 3), empty = frame_of("", 0);
    CHECK_HEX(one.data, one.size, "FF FD 03 00 00 00 6F 6E 65 58 F4");
    CHECK_HEX(empty.data, empty.size, "FF FD 00 00 00 00 83 44");
    open(); /* and the board sends the same ones */
    mrpc_frame_send(host.device, (const uint8_t *)"on\3", 3, NULL, 0);
    one = hear_bytes(&host);
    CHECK_HEX(one.data, one.size, "FF FD 03 00 00 00 6F 6E 03 38 F8");
    host_close(&host);
}

static void what_is_sent_is_escaped(void) {
    uint8_t payload[255];
    blob_t sent, want;
    open();
    memset(payload, 0xFF, sizeof payload);
    payload[2] = MESSAGE_LOG;
    for (size_t size = 3; size <= sizeof payload; size++) { /* more than the buffer of the escapes, and 255 as a length */
        mrpc_frame_send(host.device, payload, 3, payload + 3, size - 3);
        sent = hear_bytes(&host);
        want = frame_of(payload, size);
        CHECK(sent.size == want.size && !memcmp(sent.data, want.data, want.size));
    }
    host_close(&host);
}

static void a_frame_may_come_in_any_pieces(void) {
    blob_t frame = frame_of("\x07\0\0\x01", 4), whole;
    open();
    say(&host, frame.data, frame.size);
    whole = hear_bytes(&host);
    CHECK_IS(whole.size, 12);
    host_close(&host);
    for (size_t first = 0; first <= frame.size; first++) {
        for (size_t second = first; second <= frame.size; second++) {
            blob_t reply;
            open();
            say(&host, frame.data, first);
            say(&host, frame.data + first, second - first);
            say(&host, frame.data + second, frame.size - second);
            reply = hear_bytes(&host);
            CHECK(reply.size == whole.size && !memcmp(reply.data, whole.data, whole.size));
            host_close(&host);
        }
    }
}

static void an_escaped_payload_is_taken_in_any_pieces(void) {
    blob_t bytes = blob_of("\xFF\x00\xFF\xFF\xFD\xFE\xFF", 7), frame, body = blob_of(NULL, 0);
    open();
    host_begin(&host);
    add_number(&body, host.session, 2);
    add_number(&body, MESSAGE_NORMAL, 1);
    {
        blob_t packet = call_packet(find(&host, "echo_bytes"), "b", &bytes);
        add_number(&body, packet.size, 8);
        add_bytes(&body, packet.data, packet.size);
    }
    frame = frame_of(body.data, body.size);
    for (size_t split = 0; split <= frame.size; split++) {
        blob_t reply;
        say(&host, frame.data, split);
        say(&host, frame.data + split, frame.size - split);
        reply = hear_packet(&host);
        CHECK_HEX(reply.data + 24, reply.size - 24, "07 00 00 00 00 00 00 00  FF 00 FF FF FD FE FF");
    }
    host_close(&host);
}

static void noops_are_skipped_and_counted_in_the_checksum(void) {
    /* In the length, in the payload, and in the crc, where it is not counted. */
    static const uint8_t length[] = {0xFF, 0xFD, 4, 0xFF, 0xFE, 0, 0, 0, 7, 0, 0, 1};
    static const uint8_t payload[] = {0xFF, 0xFD, 4, 0, 0, 0, 7, 0xFF, 0xFE, 0xFF, 0xFE, 0, 0, 1};
    static const uint8_t plain[] = {0xFF, 0xFD, 4, 0, 0, 0, 7, 0, 0, 1};
    static const struct {
        const uint8_t *bytes;
        size_t size;
    } cases[] = {{length, sizeof length}, {payload, sizeof payload}, {plain, sizeof plain}};
    for (size_t i = 0; i < 3; i++) {
        uint32_t crc = 0xFFFF;
        uint8_t end[4] = {0, 0xFF, 0xFE, 0};
        for (size_t at = 0; at < cases[i].size; at++) {
            crc ^= (uint32_t)cases[i].bytes[at] << 8;
            for (int bit = 0; bit < 8; bit++) crc = (crc << 1 ^ (crc & 0x8000 ? 0x1021u : 0)) & 0xFFFF;
        }
        CHECK((crc & 0xFF) != 0xFF && crc >> 8 != 0xFF);
        end[0] = (uint8_t)crc;
        end[3] = (uint8_t)(crc >> 8);
        open();
        say(&host, cases[i].bytes, cases[i].size);
        say(&host, end, 4);
        CHECK_IS(hear_frame(&host).size, 4);
        host_close(&host);
    }
}

static void a_wrong_checksum_is_dropped(void) {
    blob_t frame = frame_of("\x07\0\0\x01", 4);
    open();
    for (size_t i = 2; i < frame.size; i++) {
        blob_t damaged = frame;
        if (i == 3 || i == 4 || i == 5) continue; /* a length that is too long, below */
        damaged.data[i] ^= 1;
        say(&host, damaged.data, damaged.size);
        CHECK_SILENT(&host);
        say(&host, "\xFF\xFD\x00\x00", 4); /* whatever it waited for */
        CHECK(is_listening());
    }
    host_close(&host);
}

static void a_restart_begins_a_new_frame(void) {
    blob_t frame = frame_of("\x07\0\0\x01", 4);
    open();
    for (size_t taken = 0; taken < frame.size; taken++) {
        say(&host, frame.data, taken);
        say(&host, frame.data, frame.size);
        CHECK_IS(hear_frame(&host).size, 4);
    }
    host_close(&host);
}

static void an_invalid_escape_drops_the_frame(void) {
    blob_t frame = frame_of("\x07\0\0\x01", 4);
    open();
    for (size_t taken = 2; taken < frame.size; taken++) {
        say(&host, frame.data, taken);
        say(&host, "\xFF\x00", 2);
        say(&host, frame.data + taken, frame.size - taken); /* garbage now */
        CHECK_SILENT(&host);
        CHECK(is_listening());
    }
    host_close(&host);
}

static void garbage_is_skipped(void) {
    open();
    say(&host, "abc\xFE\xFF\xFE\xFF\xFF\xFF\x00\xFF", 11);
    CHECK_SILENT(&host);
    /* The last FF is an escape: FF FD in a row would be FF FF and a garbage FD. */
    say(&host, "\xFD\x04\x00\x00\x00\x07\x00\x00\x01", 9);
    {
        blob_t frame = frame_of("\x07\0\0\x01", 4);
        say(&host, frame.data + 10, 2);
    }
    CHECK_IS(hear_frame(&host).size, 4);
    host_close(&host);
}

static void two_escapes_while_hunting_leave_the_second_one(void) {
    open();
    say(&host, "\xFF", 1); /* FF, then FF FD: the first FF is damage, and the second one begins a frame */
    CHECK(is_listening());
    host_close(&host);
}

static void too_long_a_frame_is_refused_by_its_length(void) {
    static const struct {
        const char *length, *text;
    } cases[] = {{"\x01\x02\x00\x00", "a frame was refused: it announces 513 bytes, and 512 are accepted"},
                 {"\x00\x00\x00\x80", "a frame was refused: it announces 2147483648 bytes, and 512 are accepted"}};
    for (size_t i = 0; i < 2; i++) {
        blob_t log;
        open();
        say(&host, "\xFF\xFD", 2);
        say(&host, cases[i].length, 3);
        CHECK_SILENT(&host);
        say(&host, cases[i].length + 3, 1);
        log = hear_message(&host, 0, MESSAGE_LOG);
        CHECK_TEXT(log.data, log.size, cases[i].text);
        CHECK(is_listening());
        host_close(&host);
    }
}

static void the_longest_frame_fits(void) {
    blob_t packet = blob_of(NULL, 0);
    open();
    host_begin(&host);
    add_number(&packet, PACKET_CALL_FUNC, 4);
    add_number(&packet, find(&host, "noop"), 8);
    add_number(&packet, 1, 4);
    add_number(&packet, MICRORPC_BYTES, 4);
    add_number(&packet, 512 - 11 - 28, 8);
    while (packet.size < 512 - 11) add_number(&packet, 0xFF, 1);
    CHECK_VOID(ask(&host, packet));
    add_number(&packet, 0, 1);
    say_packet(&host, packet);
    CHECK_IS(hear_message(&host, 0, MESSAGE_LOG).size, 65);
    host_close(&host);
}

static void lost_bytes_end_a_frame(void) {
    blob_t frame = frame_of("\x07\0\0\x01", 4);
    open();
    say(&host, frame.data, 7);
    board_lose_bytes(host.board);
    say(&host, frame.data + 7, frame.size - 7);
    CHECK_SILENT(&host);
    say(&host, "\xFF", 1); /* an escape whose second byte was lost */
    board_lose_bytes(host.board);
    say(&host, "\xFD", 1);
    CHECK(is_listening());
    host_close(&host);
}

static void short_payloads_are_dropped(void) {
    open();
    say_frame(&host, "", 0);
    say_frame(&host, "\x07", 1);
    say_frame(&host, "\x07\x00", 2);
    CHECK_SILENT(&host);
    CHECK(is_listening());
    host_close(&host);
}

const test_t framing_tests[] = {
    TEST(a_boot_is_announced),
    TEST(frames_have_their_checksum),
    TEST(what_is_sent_is_escaped),
    TEST(a_frame_may_come_in_any_pieces),
    TEST(an_escaped_payload_is_taken_in_any_pieces),
    TEST(noops_are_skipped_and_counted_in_the_checksum),
    TEST(a_wrong_checksum_is_dropped),
    TEST(a_restart_begins_a_new_frame),
    TEST(an_invalid_escape_drops_the_frame),
    TEST(garbage_is_skipped),
    TEST(two_escapes_while_hunting_leave_the_second_one),
    TEST(too_long_a_frame_is_refused_by_its_length),
    TEST(the_longest_frame_fits),
    TEST(lost_bytes_end_a_frame),
    TEST(short_payloads_are_dropped),
    TESTS_END,
};
