/* Events: what the board says without being asked (docs/link.md 7, 8). */
#include "host.h"

#if MICRORPC_EVENTS

#define RELIABLE MICRORPC_RELIABLE_EVENTS
#define LOST 1
#define BOOT 0xB007u
/* Of an event "e" of one Int. */
#define BODY_BYTES (10u + 1u + 9u)
#define COST_BYTES (BODY_BYTES + 7u)
#define KEPT_BYTES (BODY_BYTES + 2u)

static host_t host;

static void tell_in_the_middle(microrpc_call_t *call) {
    microrpc_value_t value = microrpc_value_int(7);
    microrpc_return_int(call, 1);
    microrpc_return_int(call, 40 + microrpc_event(microrpc_device(call), "e", &value, 1));
}

static const microrpc_function_t functions[] = {MICRORPC_FUNCTION(tell_in_the_middle)};

static void boot(size_t ring_bytes) {
    microrpc_config_t config = {MICRORPC_FUNCTIONS(functions), .boot_id = BOOT, .nonce = 1};
#if RELIABLE
    config.event_ring_bytes = ring_bytes;
#endif
    (void)ring_bytes;
    host_boot(&host, config, 1024, 0);
}

static void open(size_t ring_bytes) {
    boot(ring_bytes);
    host_begin(&host);
}

static blob_t ack_body(uint32_t wanted, uint16_t credit_bytes, uint8_t flags) {
    blob_t body = blob_of(NULL, 0);
    add_number(&body, wanted, 4);
    add_number(&body, credit_bytes, 2);
    add_number(&body, flags, 1);
    return body;
}

static void say_ack(uint32_t wanted, uint16_t credit_bytes, uint8_t flags) {
    say_sealed(&host, MESSAGE_EVENT_ACK, ack_body(wanted, credit_bytes, flags));
}

static void hear_state(uint32_t next, uint32_t next_reliable) {
    blob_t state = hear_sealed(&host, MESSAGE_EVENT_STATE);
    CHECK_IS(state.size, 12);
    CHECK_IS(number_at(&state, 0, 4), BOOT);
    CHECK_IS(number_at(&state, 4, 4), next);
    CHECK_IS(number_at(&state, 8, 4), next_reliable);
}

/* An event "e" of the Int `value`. */
static void hear_event(uint32_t number, bool is_reliable, int64_t value) {
    blob_t event = hear_sealed(&host, MESSAGE_EVENT);
    CHECK_IS(event.size, BODY_BYTES);
    CHECK_IS(number_at(&event, 0, 4), number);
    CHECK_IS(number_at(&event, 4, 1), is_reliable);
    CHECK_HEX(event.data + 9, 3, "01 65 00");
    CHECK_IS(number_at(&event, 12, 8), value);
}

static bool tell(int64_t value) {
    microrpc_value_t values[1] = {microrpc_value_int(value)};
    return microrpc_event(host.device, "e", values, 1);
}

static void an_event_has_these_bytes(void) {
    microrpc_value_t values[4];
    blob_t event;
    microrpc_config_t config = {MICRORPC_FUNCTIONS(functions), .nonce = 1};
    values[0] = microrpc_value_int(-2);
    values[1] = microrpc_value_float(1.5);
    values[2] = microrpc_value_text("mV");
    values[3] = microrpc_value_bytes("\xFF\0", 2);
    host_boot(&host, config, 1024, 0x01020304);
    host_begin(&host);
    say_ack(0, 1000, 0);
    event = hear_sealed(&host, MESSAGE_EVENT_STATE);
    CHECK_HEX(event.data, event.size, "01000000 00000000 00000000"); /* the nonce, where there is no boot_id */
    CHECK(microrpc_event(host.device, "sample", values, 4));
    event = hear_frame(&host);
    CHECK_HEX(event.data, event.size - 4, /* without the crc32, which hear_sealed() looks at elsewhere */
              "07 21 23  00000000 00 04030201"
              "06 73616D706C65"
              "00 FEFFFFFFFFFFFFFF"
              "02 000000000000F83F"
              "0B 0200 6D56"
              "0C 0200 FF00");
    host_close(&host);
}

static void a_device_without_a_clock_tells_the_time_0(void) {
    microrpc_config_t config = {.packet_bytes = 128}, *running;
    host_boot(&host, config, 64, 1000);
    running = (microrpc_config_t *)(uintptr_t)host.device->config;
    running->now_us = NULL;
    host_begin(&host);
    say_ack(0, 1000, 0);
    hear_sealed(&host, MESSAGE_EVENT_STATE);
    CHECK(microrpc_event(host.device, "", NULL, 0));
    {
        blob_t event = hear_sealed(&host, MESSAGE_EVENT);
        CHECK_HEX(event.data, event.size, "00000000 00 00000000 00");
    }
    host_close(&host);
}

static void an_event_of_bytes_is_made_in_one_line(void) {
    open(0);
    say_ack(0, 1000, 0);
    hear_state(0, 0);
    CHECK(microrpc_event_bytes(host.device, "e", "abc", 3));
    {
        blob_t event = hear_sealed(&host, MESSAGE_EVENT);
        CHECK_HEX(event.data + 9, event.size - 9, "01 65 0C 0300 616263");
    }
    host_close(&host);
}

static void without_credit_there_is_no_event_but_its_number(void) {
    boot(0);
    CHECK(!tell(1)); /* nor is there a session */
    host_begin(&host);
    CHECK(!tell(2));
    CHECK_SILENT(&host);
    say_ack(0, 0, 0);
    hear_state(2, 0);
    CHECK(!tell(3));
    say_ack(0, 1000, 0);
    hear_state(3, 0);
    CHECK(tell(4));
    hear_event(3, false, 4);
    host_close(&host);
}

static void the_credit_counts_the_frame_payload(void) {
    for (uint16_t spare = 0; spare < 2; spare++) {
        open(0);
        say_ack(0, (uint16_t)(3 * COST_BYTES - 1 + spare), 0);
        hear_state(0, 0);
        CHECK(tell(1));
        CHECK(tell(2));
        CHECK_IS(tell(3), spare);
        hear_event(0, false, 1);
        hear_event(1, false, 2);
        if (spare) hear_event(2, false, 3);
        CHECK_SILENT(&host);
        say_ack(0, COST_BYTES - 1, 0); /* it is set, not added to */
        hear_state(3, 0);
        CHECK(!tell(4));
        say_ack(0, COST_BYTES, 0);
        hear_state(4, 0);
        CHECK(tell(5));
        hear_event(4, false, 5);
        host_close(&host);
    }
}

static void the_most_credit_is_65535(void) {
    open(0);
    say_ack(0, 0xFFFF, 0);
    hear_state(0, 0);
    for (uint32_t i = 0; i < 0xFFFF / COST_BYTES; i++) {
        CHECK(tell(i));
        hear_event(i, false, i);
    }
    CHECK(!tell(0));
    host_close(&host);
}

static void a_session_begins_without_credit(void) {
    open(0);
    say_ack(0, 1000, 0);
    hear_state(0, 0);
    CHECK(tell(1));
    hear_event(0, false, 1);
    host_begin(&host);
    CHECK(!tell(2));
    say_ack(0, 1000, 0);
    hear_state(2, 0);
    say_message(&host, 0, MESSAGE_TERMINATE, blob_of(NULL, 0));
    CHECK(!tell(3));
    host_close(&host);
}

static void an_event_that_is_too_long_is_refused_without_a_number(void) {
    static uint8_t data[MICRORPC_EVENT_BYTES];
    microrpc_value_t values[MICRORPC_EVENT_BYTES / 9 + 1];
    char name[300];
    const size_t most = MICRORPC_EVENT_BYTES - 10 - 1 - 3;
    open(1000);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) values[i] = microrpc_value_int(1);
    say_ack(0, 0xFFFF, 0);
    hear_state(0, 0);
    CHECK(microrpc_event_bytes(host.device, "e", data, most));
    CHECK_IS(hear_sealed(&host, MESSAGE_EVENT).size, MICRORPC_EVENT_BYTES);
    CHECK(!microrpc_event_bytes(host.device, "e", data, most + 1));
    CHECK(!microrpc_event_bytes(host.device, "e", data, SIZE_MAX));
    CHECK(!microrpc_event_bytes(host.device, "e", data, 0x10000));
    CHECK(microrpc_event(host.device, "e", values, (MICRORPC_EVENT_BYTES - 11) / 9));
    CHECK_IS(hear_sealed(&host, MESSAGE_EVENT).data[0], 1);
    CHECK(!microrpc_event(host.device, "e", values, (MICRORPC_EVENT_BYTES - 11) / 9 + 1));
    memset(name, 'n', sizeof name);
    name[256] = 0; /* nor does its size fit a byte */
    CHECK(!microrpc_event(host.device, name, NULL, 0));
#if RELIABLE
    CHECK(!microrpc_event_reliable(host.device, name, NULL, 0));
#endif
    CHECK(tell(1));
    hear_event(2, false, 1);
    host_close(&host);
}

static void an_event_is_no_longer_than_a_packet(void) {
    static const uint8_t data[128];
    for (size_t spare = 0; spare < 2; spare++) {
        microrpc_config_t config = {MICRORPC_FUNCTIONS(functions), .packet_bytes = 128, .boot_id = BOOT};
#if RELIABLE
        config.event_ring_bytes = 1000;
#endif
        host_boot(&host, config, 64, 0);
        host_begin(&host);
        say_ack(0, 1000, 0);
        hear_state(0, 0);
        CHECK_IS(microrpc_event_bytes(host.device, "e", data, 128 - 7 - 14 + spare), !spare);
#if RELIABLE
        {
            microrpc_value_t value = microrpc_value_bytes(data, 128 - 7 - 14 + spare);
            CHECK_IS(microrpc_event_reliable(host.device, "e", &value, 1), !spare);
        }
        if (!spare) CHECK_IS(hear_frame(&host).size, 128);
#endif
        if (!spare) CHECK_IS(hear_frame(&host).size, 128);
        host_close(&host);
    }
}

static void an_event_within_a_function_goes_out_before_its_reply(void) {
    open(0);
    say_ack(0, 2 * COST_BYTES, 0);
    hear_state(0, 0);
    say_packet(&host, call_packet(STATIC_HANDLE(REGISTRY_SYSTEM, 0), ""));
    hear_event(0, false, 7);
    CHECK_WORD(hear_packet(&host), MICRORPC_INT, 41);
    say_link(&host, 0, 0, call_packet(STATIC_HANDLE(REGISTRY_SYSTEM, 0), ""));
    hear_event(1, false, 7);
    CHECK_IS(hear_link(&host, MESSAGE_LINK_REPLY, 0).data[25], 41);
    say_link(&host, 1, 0, call_packet(STATIC_HANDLE(REGISTRY_SYSTEM, 0), "")); /* no credit is left */
    CHECK_IS(hear_link(&host, MESSAGE_LINK_REPLY, 1).data[25], 40);
    host_close(&host);
}

/* What an interrupt, or the port's `write`, must not do while a frame is being sent: the event is not, and so it must
 * not cost any credit, nor count as sent. */
static bool was_sent_within;

static void tell_within(board_t *board) {
    board_on_write(board, NULL);
    was_sent_within = tell(1);
#if RELIABLE
    {
        microrpc_value_t value = microrpc_value_int(2);
        CHECK(microrpc_event_reliable(board_device(board), "e", &value, 1)); /* it is kept */
    }
#endif
}

static void an_event_told_while_a_frame_is_sent_counts_as_lost(void) {
    open(KEPT_BYTES);
    say_ack(0, 2 * COST_BYTES, 0);
    hear_state(0, 0);
    was_sent_within = true;
    board_on_write(host.board, tell_within);
    microrpc_log(host.device, "a line");
    CHECK(!was_sent_within);
    CHECK_IS(hear_message(&host, 0, MESSAGE_LOG).size, 6);
    CHECK_SILENT(&host);
    CHECK_IS(host.device->link.credit_bytes, 2 * COST_BYTES);
    CHECK(tell(3));
    hear_event(1, false, 3); /* number 0 was the one that is lost */
    say_ack(0, 2 * COST_BYTES, 0);
    hear_state(2, 0);
#if RELIABLE
    hear_event(0, true, 2); /* as it would if it had been told without any credit */
#endif
    CHECK_SILENT(&host);
    host_close(&host);
}

static void say_damaged_acknowledgements(void) {
    blob_t good = sealed(&host, MESSAGE_EVENT_ACK, ack_body(0, 1000, 0));
    for (size_t bit = 24; bit < 8 * good.size; bit++) { /* the frame's own checksum is right */
        blob_t bad = good;
        bad.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        say_frame(&host, bad.data, bad.size);
    }
    say_sealed(&host, MESSAGE_EVENT_ACK, blob_of("12345678", 8)); /* another size */
    say_sealed(&host, MESSAGE_EVENT_ACK, blob_of("123456", 6));
    say_sealed(&host, MESSAGE_EVENT_ACK, blob_of("", 0));
    say_message(&host, host.session, MESSAGE_EVENT_ACK, blob_of("", 0));
}

static void a_damaged_acknowledgement_is_complained_of_like_a_request(void) {
    open(0);
    say_damaged_acknowledgements();
    CHECK_SILENT(&host); /* no LINK_REQUEST has come yet */
    say_link(&host, 7, 2, blob_of("0123456789ab", 12));
    hear_link(&host, MESSAGE_LINK_REPLY, 7);
    for (int times = 0; times < 2; times++) {
        say_damaged_acknowledgements();
        CHECK_IS(hear_link(&host, MESSAGE_LINK_NAK, 0).size, 0); /* once */
        CHECK_SILENT(&host);
        CHECK(!tell(1));
        say_ack(0, 0, 0); /* a good one ends the silence */
        hear_state((uint32_t)times + 1, 0);
    }
    host_close(&host);
}

static void an_acknowledgement_without_a_session_is_answered_with_terminate(void) {
    boot(0);
    host.session = 0x2107;
    say_ack(0, 1000, 0);
    CHECK_IS(hear_message(&host, 0, MESSAGE_TERMINATE).size, 0);
    host_begin(&host);
    host.session++; /* of another session: dropped */
    say_ack(0, 1000, 0);
    host.session--;
    CHECK_SILENT(&host);
    CHECK(!tell(1));
    host_close(&host);
}

static void what_a_device_says_is_dropped_when_it_hears_it(void) {
    open(0);
    for (uint8_t type = MESSAGE_EVENT; type < 0x30; type++) {
        if (type == MESSAGE_EVENT_ACK || type == MESSAGE_CANCEL || type == MESSAGE_KEEP_ALIVE) continue;
        say_sealed(&host, type, blob_of("0123456", 7));
        CHECK_SILENT(&host);
    }
    host_close(&host);
}

static void numbers_of_plain_events_wrap_around(void) {
    open(0);
    host.device->events.next = 0xFFFFFFFE;
    say_ack(0, 1000, 0);
    hear_state(0xFFFFFFFE, 0);
    for (uint32_t i = 0; i < 4; i++) {
        CHECK(tell(i));
        hear_event(0xFFFFFFFE + i, false, i);
    }
    say_ack(0, 1000, 0);
    hear_state(2, 0);
    host_close(&host);
}

static void the_features_tell_of_what_there_is(void) {
    uint64_t features;
    const uint64_t others = (MICRORPC_PROGRESS ? 12 : 0) | (MICRORPC_DESCRIBE ? 16 : 0) | (MICRORPC_MEMORY ? 32 : 0);
    open(100);
    features = find_global(&host, "microrpc.features");
    CHECK_IS(features & 0xFFFFFFFF, 1 | (1 | (RELIABLE ? 2 : 0) | others) << 8); /* no time: nobody asked for one */
    host_close(&host);
    open(0); /* without a ring nothing is reliable */
    CHECK_IS(find_global(&host, "microrpc.features") & 0xFFFFFFFF, 1 | (1 | others) << 8);
    host_close(&host);
}

/* --- reliable events ------------------------------------------------------------------------------------------- */

#if RELIABLE
static bool keep(int64_t value) {
    microrpc_value_t values[1] = {microrpc_value_int(value)};
    return microrpc_event_reliable(host.device, "e", values, 1);
}

static void a_reliable_event_is_kept_until_it_was_acknowledged(void) {
    boot(3 * KEPT_BYTES);
    CHECK(keep(10)); /* before there is a session */
    host_begin(&host);
    CHECK(keep(11));
    CHECK_SILENT(&host);
    say_ack(0, 0, 0); /* nothing is known of the boot yet */
    hear_state(0, 0);
    CHECK_SILENT(&host);
    say_ack(0, 1000, 0);
    hear_state(0, 0); /* before what it asks for */
    hear_event(0, true, 10);
    hear_event(1, true, 11);
    CHECK(keep(12));
    hear_event(2, true, 12);
    CHECK(!keep(13));
    say_ack(0, 1000, 0); /* nothing is sent again without LOST */
    hear_state(0, 3);
    CHECK_SILENT(&host);
    say_ack(0, 1000, LOST);
    hear_state(0, 0);
    for (uint32_t i = 0; i < 3; i++) hear_event(i, true, 10 + i);
    say_ack(1, 1000, LOST); /* it has the first one */
    hear_state(0, 1);
    hear_event(1, true, 11);
    hear_event(2, true, 12);
    CHECK(keep(13));
    hear_event(3, true, 13);
    say_ack(4, 1000, 0);
    hear_state(0, 4);
    for (uint32_t i = 4; i < 7; i++) CHECK(keep(10 + i));
    for (uint32_t i = 4; i < 7; i++) hear_event(i, true, 10 + i);
    host_close(&host);
}

static void a_ring_may_be_filled_to_its_last_byte(void) {
    for (size_t spare = 0; spare < 3; spare++) {
        boot(2 * KEPT_BYTES + spare - 1);
        CHECK(keep(1));
        CHECK_IS(keep(2), spare > 0);
        CHECK(!keep(3));
        CHECK(!keep(3)); /* and has no number */
        host_begin(&host);
        say_ack(spare > 0 ? 2 : 1, 1000, 0); /* all that is kept */
        hear_state(0, spare > 0 ? 2 : 1);
        CHECK_IS(host.device->events.kept_bytes, 0);
        CHECK(keep(4));
        hear_event(spare > 0 ? 2 : 1, true, 4);
        host_close(&host);
    }
}

static void a_ring_of_any_size_keeps_what_fits(void) {
    for (size_t size = 1; size < KEPT_BYTES + 13; size++) { /* a sanitizer sees what is beside it */
        boot(size);
        CHECK_IS(keep(1), size >= KEPT_BYTES);
        CHECK_IS(microrpc_event_reliable(host.device, "", NULL, 0), size % KEPT_BYTES >= 12);
        host_close(&host);
    }
}

static void without_a_ring_nothing_is_reliable(void) {
    boot(0);
    CHECK(!keep(1));
    host_begin(&host);
    say_ack(0, 1000, LOST);
    hear_state(0, 0);
    say_ack(1, 1000, LOST);
    hear_state(0, 0);
    host_close(&host);
}

static void what_is_acknowledged_must_be_kept(void) {
    open(1000);
    for (int64_t i = 0; i < 4; i++) CHECK(keep(i));
    say_ack(2, 4 * COST_BYTES, 0);
    hear_state(0, 2);
    hear_event(2, true, 2);
    hear_event(3, true, 3);
    for (int is_lost = 0; is_lost < 2; is_lost++) {
        static const uint32_t wrong[] = {0, 1, 5, 100, 0x7FFFFFFF, 0x80000002, 0xFFFFFFFF};
        for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
            say_ack(wrong[i], 1000, (uint8_t)is_lost);
            hear_state(0, 4);
            CHECK_SILENT(&host);
            CHECK_IS(host.device->events.kept, 2);
        }
    }
    say_ack(4, 1000, LOST); /* the last: nothing is left */
    hear_state(0, 4);
    host_close(&host);
}

static void without_credit_nothing_is_forgotten_nor_sent_again(void) {
    open(1000);
    for (int64_t i = 0; i < 2; i++) CHECK(keep(i));
    say_ack(0, 1000, 0);
    hear_state(0, 0);
    hear_event(0, true, 0);
    hear_event(1, true, 1);
    say_ack(1, 0, LOST);
    hear_state(0, 2);
    CHECK_IS(host.device->events.kept, 2);
    CHECK(keep(2));
    CHECK_SILENT(&host);
    say_ack(1, 1000, LOST);
    hear_state(0, 1);
    hear_event(1, true, 1);
    hear_event(2, true, 2);
    host_close(&host);
}

static void reliable_events_wait_for_credit_in_their_order(void) {
    open(1000);
    say_ack(0, COST_BYTES + 20, 0);
    hear_state(0, 0);
    for (int64_t i = 0; i < 3; i++) CHECK(keep(i));
    hear_event(0, true, 0);
    CHECK(microrpc_event_reliable(host.device, "", NULL, 0)); /* small enough, but not its turn */
    CHECK_SILENT(&host);
    CHECK(microrpc_event(host.device, "", NULL, 0)); /* a plain one does not wait */
    CHECK_IS(hear_sealed(&host, MESSAGE_EVENT).size, 10);
    say_ack(1, 2 * COST_BYTES, 0);
    hear_state(1, 1);
    hear_event(1, true, 1);
    hear_event(2, true, 2);
    CHECK_SILENT(&host);
    say_ack(3, 17, 0);
    hear_state(1, 3);
    CHECK_IS(hear_sealed(&host, MESSAGE_EVENT).data[0], 3);
    say_ack(4, 17, 0);
    hear_state(1, 4);
    host_close(&host);
}

static void reliable_events_outlive_a_session(void) {
    open(1000);
    for (int64_t i = 0; i < 3; i++) CHECK(keep(i));
    say_ack(0, 1000, 0);
    hear_state(0, 0);
    for (uint32_t i = 0; i < 3; i++) hear_event(i, true, i);
    say_ack(1, 1000, 0);
    hear_state(0, 3);
    host_begin(&host);
    CHECK(keep(3));
    say_ack(0, 0, 0);
    hear_state(0, 1); /* from the oldest one on */
    say_ack(2, 1000, 0); /* the host has had that one in the last session */
    hear_state(0, 2);
    hear_event(2, true, 2);
    hear_event(3, true, 3);
    say_ack(2, 1000, 0);
    hear_state(0, 4);
    host_close(&host);
}

static void numbers_of_reliable_events_wrap_around(void) {
    boot(4 * KEPT_BYTES);
    host.device->events.oldest = 0xFFFFFFFE;
    for (int64_t i = 0; i < 4; i++) CHECK(keep(i));
    CHECK(!keep(4));
    host_begin(&host);
    say_ack(0xFFFFFFFE, 2 * COST_BYTES, 0);
    hear_state(0, 0xFFFFFFFE);
    hear_event(0xFFFFFFFE, true, 0);
    hear_event(0xFFFFFFFF, true, 1);
    say_ack(0xFFFFFFFD, 1000, 0); /* before the oldest, so it forgets nothing */
    hear_state(0, 0);
    hear_event(0, true, 2);
    hear_event(1, true, 3);
    say_ack(1, 1000, LOST); /* over the wrap */
    hear_state(0, 1);
    hear_event(1, true, 3);
    for (int64_t i = 4; i < 7; i++) CHECK(keep(i));
    for (uint32_t i = 4; i < 7; i++) hear_event(i - 2, true, i);
    say_ack(5, 1000, 0);
    hear_state(0, 5);
    CHECK_IS(host.device->events.kept, 0);
    host_close(&host);
}

static const uint8_t pattern[] = "0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUV";

static microrpc_value_t nth_value(uint32_t number) { return microrpc_value_bytes(pattern, number * 7 % sizeof pattern); }

/* Hear as many as have come, from `number` on; give the number of the next one. */
static uint32_t hear_values(uint32_t number) {
    for (say(&host, NULL, 0); host.heard_bytes; number++) {
        blob_t event = hear_sealed(&host, MESSAGE_EVENT);
        CHECK_IS(number_at(&event, 0, 4), number);
        CHECK_IS(event.size, 14 + nth_value(number).as.bytes.size);
        CHECK(!memcmp(event.data + 14, pattern, nth_value(number).as.bytes.size));
    }
    return number;
}

static void events_of_any_size_go_through_the_ring_whole(void) {
    uint32_t told = 0, heard = 0, wanted = 0;
    open(300);
    for (uint32_t round = 0; round < 400; round++) {
        microrpc_value_t value = nth_value(told);
        for (; microrpc_event_reliable(host.device, "r", &value, 1); value = nth_value(told)) told++;
        heard = hear_values(heard);
        wanted += (heard - wanted) * (1 + round % 4) / 4;
        if (round % 3 == 0) heard = wanted;
        say_ack(wanted, (uint16_t)(80 + round * 13 % 200), round % 3 ? 0 : LOST);
        hear_state(0, heard);
        heard = hear_values(heard);
        CHECK(heard <= told);
    }
    CHECK(wanted > 400);
    host_close(&host);
}
#endif

const test_t event_tests[] = {
    TEST(an_event_has_these_bytes),
    TEST(a_device_without_a_clock_tells_the_time_0),
    TEST(an_event_of_bytes_is_made_in_one_line),
    TEST(without_credit_there_is_no_event_but_its_number),
    TEST(the_credit_counts_the_frame_payload),
    TEST(the_most_credit_is_65535),
    TEST(a_session_begins_without_credit),
    TEST(an_event_that_is_too_long_is_refused_without_a_number),
    TEST(an_event_is_no_longer_than_a_packet),
    TEST(an_event_within_a_function_goes_out_before_its_reply),
    TEST(an_event_told_while_a_frame_is_sent_counts_as_lost),
    TEST(a_damaged_acknowledgement_is_complained_of_like_a_request),
    TEST(an_acknowledgement_without_a_session_is_answered_with_terminate),
    TEST(what_a_device_says_is_dropped_when_it_hears_it),
    TEST(numbers_of_plain_events_wrap_around),
    TEST(the_features_tell_of_what_there_is),
#if RELIABLE
    TEST(a_reliable_event_is_kept_until_it_was_acknowledged),
    TEST(a_ring_may_be_filled_to_its_last_byte),
    TEST(a_ring_of_any_size_keeps_what_fits),
    TEST(without_a_ring_nothing_is_reliable),
    TEST(what_is_acknowledged_must_be_kept),
    TEST(without_credit_nothing_is_forgotten_nor_sent_again),
    TEST(reliable_events_wait_for_credit_in_their_order),
    TEST(reliable_events_outlive_a_session),
    TEST(numbers_of_reliable_events_wrap_around),
    TEST(events_of_any_size_go_through_the_ring_whole),
#endif
    TESTS_END,
};

#else

/* Without them their messages are dropped like any other that nobody knows. */
static void events_are_left_out(void) {
    host_t host;
    host_open(&host, 1024);
    if (!HAS_FEATURES) CHECK_IS(find_global(&host, "microrpc.features"), 0);
    say_sealed(&host, MESSAGE_EVENT_ACK, blob_of("0000000", 7));
    say_sealed(&host, MESSAGE_EVENT_ACK, blob_of("", 0));
    CHECK_SILENT(&host);
    host_close(&host);
}

const test_t event_tests[] = {TEST(events_are_left_out), TESTS_END};

#endif
