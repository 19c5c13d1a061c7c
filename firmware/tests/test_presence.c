/* Whether the host is there (docs/link.md 10). */
#include "host.h"

#if HAS_PRESENCE

static host_t host;
static char told[64]; /* + for a host that is there, - for one that is gone */

static void on_session(void *port, bool begins) {
    size_t size = mrpc_length(told);
    (void)port;
    told[size] = begins ? '+' : '-';
    told[size + 1] = 0;
}

static void nap(microrpc_call_t *call) {
    (void)call;
    board_wait(host.board, 10000000);
}

static const microrpc_function_t functions[] = {MICRORPC_FUNCTION(nap)};

static void boot(uint16_t host_timeout_ms) {
    microrpc_config_t config = {
        MICRORPC_FUNCTIONS(functions), .nonce = 1, .on_session = on_session, .host_timeout_ms = host_timeout_ms};
    told[0] = 0;
    host_boot(&host, config, 1024, 0);
}

static void open(uint16_t host_timeout_ms) {
    boot(host_timeout_ms);
    host_begin(&host);
}

/* Let the main loop go round for some milliseconds, four times in each. */
static void wait_ms(unsigned ms) {
    for (unsigned i = 0; i < 4 * ms; i++) {
        board_wait(host.board, 250);
        say(&host, NULL, 0);
    }
}

static void say_keep_alive(void) { say_sealed(&host, MESSAGE_KEEP_ALIVE, blob_of("\0\0", 2)); }

static void hear_keep_alive(void) { CHECK_IS(hear_link(&host, MESSAGE_KEEP_ALIVE, 0).size, 0); }

#define CHECK_TOLD(text) CHECK_TEXT(told, mrpc_length(told), text)

static void a_keep_alive_is_answered_with_the_same(void) {
    blob_t answer;
    open(0);
    say_keep_alive();
    answer = hear_frame(&host);
    CHECK_HEX(answer.data, answer.size - 4, "07 21 28 0000");
    say_keep_alive();
    hear_keep_alive();
    host_close(&host);
}

static void a_damaged_keep_alive_is_damage(void) {
    blob_t good, bad;
    open(0);
    say_link(&host, 0, 2, blob_of("0123456789ab", 12));
    hear_link(&host, MESSAGE_LINK_REPLY, 0);
    good = sealed(&host, MESSAGE_KEEP_ALIVE, blob_of("\0\0", 2));
    for (size_t bit = 24; bit < 8 * good.size; bit++) {
        bad = good;
        bad.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        say_frame(&host, bad.data, bad.size);
        if (bit == 24) hear_link(&host, MESSAGE_LINK_NAK, 1);
        CHECK_SILENT(&host);
    }
    say_sealed(&host, MESSAGE_KEEP_ALIVE, blob_of("\0\0\0", 3));
    CHECK_SILENT(&host);
    say_keep_alive();
    hear_keep_alive();
    say(&host, "garbage", 7);
    hear_link(&host, MESSAGE_LINK_NAK, 1);
    host_close(&host);
}

static void a_keep_alive_without_a_session_is_answered_with_terminate(void) {
    boot(1000);
    host.session = 0x2107;
    say_keep_alive();
    CHECK_IS(hear_message(&host, 0, MESSAGE_TERMINATE).size, 0);
    CHECK_TOLD("");
    host_begin(&host);
    host.session++;
    say_keep_alive();
    CHECK_SILENT(&host);
    CHECK_TOLD("+");
    host_close(&host);
}

static void a_session_that_begins_and_ends_is_told(void) {
    boot(0);
    say_message(&host, 0, MESSAGE_TERMINATE, blob_of(NULL, 0)); /* there is none */
    CHECK_TOLD("");
    host_begin(&host);
    CHECK_TOLD("+");
    host_begin(&host); /* in the place of the last one */
    CHECK_TOLD("+-+");
    say_message(&host, host.session, MESSAGE_TERMINATE, blob_of(NULL, 0));
    CHECK_TOLD("+-+-");
    say_message(&host, 0, MESSAGE_TERMINATE, blob_of(NULL, 0));
    CHECK_TOLD("+-+-");
    wait_ms(100000);
    CHECK_TOLD("+-+-"); /* nobody asked for a time */
    host_close(&host);
}

static void a_silent_host_is_gone_until_it_speaks(void) {
    open(100);
    wait_ms(99);
    CHECK_TOLD("+");
    wait_ms(1);
    CHECK_TOLD("+-");
    wait_ms(1000);
    CHECK_TOLD("+-"); /* once */
    say_keep_alive();
    hear_keep_alive();
    CHECK_TOLD("+-+");
    wait_ms(100);
    CHECK_TOLD("+-+-");
    CHECK_IS(find_global(&host, "no such"), 0); /* a NORMAL message will do */
    CHECK_TOLD("+-+-+");
    wait_ms(100);
    say_message(&host, 0, MESSAGE_TERMINATE, blob_of(NULL, 0)); /* it is gone already */
    CHECK_TOLD("+-+-+-");
    wait_ms(1000);
    CHECK_TOLD("+-+-+-");
    host_close(&host);
}

static void every_good_message_of_the_session_counts(void) {
    open(100);
    for (int which = 0; which < 5; which++) {
        wait_ms(80);
        if (which == 0) say_keep_alive();
        if (which == 1) say_link(&host, 0, 2, blob_of("0123456789ab", 12));
        if (which == 2) say_link(&host, 9, 0, blob_of("", 0)); /* not allowed, but good */
        if (which == 3) find_global(&host, "no such");
        if (which == 4) host_begin(&host);
        hear_bytes(&host);
    }
    CHECK_TOLD("+-+"); /* by the second session alone */
    wait_ms(80);
    say(&host, "garbage", 7);
    say_message(&host, (uint16_t)(host.session + 1), MESSAGE_NORMAL, blob_of("", 0));
    say_message(&host, host.session, MESSAGE_LINK_REQUEST, blob_of("\7\0\0\1\2\3\4", 7));
    say_message(&host, host.session, MESSAGE_KEEP_ALIVE, blob_of("\0\0\1\2\3\4", 6));
    wait_ms(20);
    CHECK_TOLD("+-+-");
    host_close(&host);
}

static void log_session(void *port, bool begins) {
    (void)port;
    microrpc_log(host.device, begins ? "begins" : "ends");
#if MICRORPC_EVENTS
    microrpc_event(host.device, "session", NULL, 0);
#endif
}

/* While the host is greeted, while a message of the link is taken, and from the main loop. */
static void what_a_session_is_told_to_may_log_and_tell_events(void) {
    blob_t heard;
    boot(40);
    ((microrpc_config_t *)(uintptr_t)host.device->config)->on_session = log_session;
    say_frame(&host, "\x07\0\0\x01", 4);
    heard = hear_frame(&host);
    CHECK_TEXT((const char *)heard.data + 3, heard.size - 3, "begins");
    heard = hear_frame(&host);
    CHECK_IS(heard.data[2], MESSAGE_REPLY);
    host.session = (uint16_t)number_at(&heard, 0, 2);
#if MICRORPC_EVENTS
    say_sealed(&host, MESSAGE_EVENT_ACK, blob_of("\0\0\0\0\xFF\0\0", 7)); /* credit for some */
    heard = hear_sealed(&host, MESSAGE_EVENT_STATE);
    CHECK_IS(number_at(&heard, 4, 4), 1); /* the first one was lost: there was no credit yet */
#endif
    wait_ms(41);
    heard = hear_frame(&host);
    CHECK_TEXT((const char *)heard.data + 3, heard.size - 3, "ends");
#if MICRORPC_EVENTS
    CHECK_IS(hear_frame(&host).data[2], MESSAGE_EVENT);
#endif
    say_keep_alive();
    heard = hear_frame(&host);
    CHECK_TEXT((const char *)heard.data + 3, heard.size - 3, "begins");
#if MICRORPC_EVENTS
    CHECK_IS(hear_frame(&host).data[2], MESSAGE_EVENT);
#endif
    hear_keep_alive(); /* with the bytes that it was asked with */
    CHECK_SILENT(&host);
    host_close(&host);
}

static void only_the_time_in_which_the_port_is_read_counts(void) {
    open(100);
    for (int i = 0; i < 3; i++) { /* whatever a function takes does not count, and of each pause a quarter */
        CHECK_VOID(call(&host, STATIC_HANDLE(REGISTRY_SYSTEM, 0), ""));
        board_wait(host.board, 50000000);
        say(&host, NULL, 0);
        CHECK_TOLD("+");
    }
    for (int i = 0; i < 2; i++) {
        board_wait(host.board, 50000000);
        say(&host, NULL, 0);
        CHECK_TOLD("+");
    }
    board_wait(host.board, 50000000); /* the fourth quarter, but with a message */
    say_keep_alive();
    hear_keep_alive();
    CHECK_TOLD("+");
    for (int i = 0; i < 4; i++) {
        CHECK_TOLD("+");
        board_wait(host.board, 4000000000u);
        say(&host, NULL, 0);
    }
    CHECK_TOLD("+-");
    host_close(&host);
}

static void the_clock_may_wrap_around(void) {
    boot(100);
    board_wait(host.board, 0xFFFFFFFF - 50000);
    say(&host, NULL, 0);
    host_begin(&host);
    wait_ms(99);
    CHECK_TOLD("+");
    wait_ms(1);
    CHECK_TOLD("+-");
    host_close(&host);
}

static void the_longest_time_is_kept(void) {
    open(65535);
    for (int i = 0; i < 3; i++) {
        board_wait(host.board, 20000000);
        say(&host, NULL, 0);
    }
    CHECK_TOLD("+");
    board_wait(host.board, 16500000);
    say(&host, NULL, 0);
    CHECK_TOLD("+-");
    host_close(&host);
}

static void the_features_tell_the_time_where_there_is_a_clock(void) {
    microrpc_config_t *config;
    open(1234);
    CHECK_IS(find_global(&host, "microrpc.features") >> 16 & 0xFFFF, 1234);
    config = (microrpc_config_t *)(uintptr_t)host.device->config;
    config->now_us = NULL;
    CHECK_IS(find_global(&host, "microrpc.features") >> 16 & 0xFFFF, 0);
    say(&host, NULL, 0); /* nor is it asked */
    host_close(&host);
    boot(0);
    config = (microrpc_config_t *)(uintptr_t)host.device->config;
    config->on_session = NULL; /* nobody wants to know */
    config->host_timeout_ms = 1;
    host_begin(&host);
    CHECK_IS(find_global(&host, "microrpc.features") >> 16 & 0xFFFF, 0);
    wait_ms(10);
    say_message(&host, 0, MESSAGE_TERMINATE, blob_of(NULL, 0));
    host_close(&host);
}

const test_t presence_tests[] = {
    TEST(a_keep_alive_is_answered_with_the_same),
    TEST(a_damaged_keep_alive_is_damage),
    TEST(a_keep_alive_without_a_session_is_answered_with_terminate),
    TEST(a_session_that_begins_and_ends_is_told),
    TEST(a_silent_host_is_gone_until_it_speaks),
    TEST(every_good_message_of_the_session_counts),
    TEST(what_a_session_is_told_to_may_log_and_tell_events),
    TEST(only_the_time_in_which_the_port_is_read_counts),
    TEST(the_clock_may_wrap_around),
    TEST(the_longest_time_is_kept),
    TEST(the_features_tell_the_time_where_there_is_a_clock),
    TESTS_END,
};

#else

static void nobody_asks_whether_the_host_is_there(void) {
    host_t host;
    host_open(&host, 1024);
    say_sealed(&host, MESSAGE_KEEP_ALIVE, blob_of("\0\0", 2));
    CHECK_SILENT(&host);
    host_close(&host);
}

const test_t presence_tests[] = {TEST(nobody_asks_whether_the_host_is_there), TESTS_END};

#endif
