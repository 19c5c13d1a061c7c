/* The library called from within itself: what comes so is lost, and nothing else (docs/firmware.md, "What may be called
 * from where"). */
#include "host.h"

static host_t host;
static unsigned bumps;
static blob_t inner;   /* what is received within something */
static unsigned times; /* how often it is still to be */

/* As often as it was asked for, as a function, a hook or an interrupt that does what it must not. */
static void receive_within(void) {
    if (!times) return;
    times--;
    microrpc_receive(host.device, inner.data, inner.size);
}

static void nests(microrpc_call_t *call) {
    receive_within();
    microrpc_return_int(call, microrpc_int(call, 0));
}

static void bump(microrpc_call_t *call) { microrpc_return_int(call, ++bumps); }

static const microrpc_function_t functions[] = {MICRORPC_FUNCTION(nests), MICRORPC_FUNCTION(bump)};

static void open(microrpc_config_t config) {
    config.functions = functions;
    config.function_count = 2;
    config.nonce = 1;
    bumps = times = 0;
    host_boot(&host, config, 1024, 1000);
    host_begin(&host);
}

/* A frame that calls bump. */
static blob_t bump_frame(void) {
    blob_t packet = call_packet(find(&host, "bump"), ""), payload = {0, {0}};
    add_number(&payload, host.session, 2);
    add_number(&payload, MESSAGE_NORMAL, 1);
    add_number(&payload, packet.size, 8);
    add_bytes(&payload, packet.data, packet.size);
    return frame_of(payload.data, payload.size);
}

static void what_a_function_receives_is_lost(void) {
    microrpc_config_t config = {0};
    uint64_t handle;
    open(config);
    inner = bump_frame();
    handle = find(&host, "nests");
    for (size_t cut = 0; cut <= inner.size; cut++) { /* whole frames, and the beginnings of some */
        times = 1;
        inner.size = cut;
        CHECK_WORD(call(&host, handle, "i", 5), MICRORPC_INT, 5);
        inner = bump_frame();
    }
    CHECK_IS(bumps, 0);
    CHECK_WORD(call(&host, find(&host, "bump"), ""), MICRORPC_INT, 1);
    host_close(&host);
}

/* Another message may come in the same bytes, behind the one whose function does it. */
static void what_comes_behind_a_function_that_receives_is_served(void) {
    microrpc_config_t config = {0};
    blob_t both = {0, {0}}, frame, packet;
    open(config);
    inner = bump_frame();
    packet = call_packet(find(&host, "nests"), "i", 5);
    add_number(&both, host.session, 2);
    add_number(&both, MESSAGE_NORMAL, 1);
    add_number(&both, packet.size, 8);
    add_bytes(&both, packet.data, packet.size);
    both = frame_of(both.data, both.size);
    frame = bump_frame();
    add_bytes(&both, frame.data, frame.size);
    times = 1;
    say(&host, both.data, both.size);
    CHECK_WORD(hear_packet(&host), MICRORPC_INT, 5);
    CHECK_WORD(hear_packet(&host), MICRORPC_INT, 1);
    CHECK_IS(bumps, 1);
    host_close(&host);
}

#if MICRORPC_LINK
/* The host hears at once that something was lost, as it does of a ring that ran over. */
static void the_link_tells_what_a_function_has_lost(void) {
    microrpc_config_t config = {0};
    blob_t packet, answer;
    open(config);
    inner = bump_frame();
    packet = call_packet(find(&host, "nests"), "i", 5);
    times = 1;
    say_link(&host, 0, 0, packet);
    hear_link(&host, MESSAGE_LINK_NAK, 1);
    answer = hear_link(&host, MESSAGE_LINK_REPLY, 0);
    CHECK_IS(answer.size, 1 + 32);
    CHECK_IS(number_at(&answer, 1 + 24, 8), 5);
    host_close(&host);
}
#endif

/* --- from within write ------------------------------------------------------------------------------------------- */

/* All that would send another frame, or take one, in the middle of a frame; a log line as from an interrupt. */
static void on_write(board_t *board) {
    microrpc_t *device = board_device(board);
    (void)board;
    microrpc_log(device, "from an interrupt");
    microrpc_log_at(device, MICRORPC_LOG_ERROR, "from an interrupt");
    microrpc_receive(device, inner.data, inner.size);
    microrpc_lost_bytes(device);
#if MICRORPC_EVENTS
    microrpc_event(device, "event", NULL, 0);
#endif
}

static blob_t conversation(bool is_nested) {
    microrpc_config_t config = {0};
    blob_t said = {0, {0}}, frame, heard;
    open(config);
    inner = frame = bump_frame();
    add_bytes(&said, "\xFF\xFD\x10", 3); /* damage */
    for (int i = 0; i < 3; i++) add_bytes(&said, frame.data, frame.size);
    add_bytes(&said, "\xFF\xFD\xFF\xFF\xFF\xFF\x01\x00", 8); /* a frame that is refused, with a line in the log */
    board_on_write(host.board, is_nested ? on_write : NULL);
    /* One by one: what a frame is answered with is lost to the frame behind it in the same bytes. */
    for (size_t i = 0; i < said.size; i++) say(&host, said.data + i, 1);
    heard = hear_bytes(&host);
    CHECK_IS(bumps, 3);
    board_on_write(host.board, NULL);
    host_close(&host);
    return heard;
}

static void what_is_sent_within_a_frame_is_lost_and_the_frame_is_whole(void) {
    blob_t usual = conversation(false), nested = conversation(true);
    CHECK(usual.size > 100);
    CHECK_IS(nested.size, usual.size);
    CHECK(!memcmp(nested.data, usual.data, usual.size));
}

/* What the main loop sends, by itself: here is no microrpc_receive() under way. */
static void what_comes_while_the_main_loop_sends_is_lost(void) {
    microrpc_config_t config = {0};
    open(config);
    inner = bump_frame();
    board_on_write(host.board, on_write);
    microrpc_log(host.device, "whole");
    board_on_write(host.board, NULL);
    CHECK_TEXT(hear_message(&host, 0, MESSAGE_LOG).data, 5, "whole");
    CHECK_IS(bumps, 0);
    host_close(&host);
}

/* --- from within the port's hooks -------------------------------------------------------------------------------- */

#if MICRORPC_HOOKS
static void hook(void *port) {
    (void)port;
    receive_within();
}

static void what_is_received_while_the_board_waits_is_lost(void) {
    microrpc_config_t config = {.idle = hook};
    uint64_t create;
    blob_t evaluator;
    open(config);
    inner = bump_frame();
    create = find_global(&host, "runtime.RPCTimeEvaluator");
    evaluator = call(&host, create, "msiiiiiiiiis", SYSTEM_LIB, "nests", 1, 0, 1, 2, 0, 0, 20, 1, 0, "");
    times = 5;
    CHECK_IS(call(&host, word_of(&evaluator), "i", 1).size, 32 + 16);
    CHECK_IS(times, 0);
    CHECK_IS(bumps, 0);
    host_close(&host);
}

static void what_is_received_while_a_frame_is_flushed_is_lost(void) {
    microrpc_config_t config = {.flush = hook};
    open(config);
    inner = bump_frame();
    times = 1;
    CHECK_WORD(call(&host, find(&host, "bump"), ""), MICRORPC_INT, 1);
    CHECK_IS(bumps, 1);
    host_close(&host);
}

#if MICRORPC_LINK
static void on_session(void *port, bool begins) {
    (void)port;
    if (begins) receive_within();
}

static void what_is_received_when_a_session_begins_is_lost(void) {
    microrpc_config_t config = {.on_session = on_session};
    open(config);
    inner = bump_frame();
    times = 1;
    host_begin(&host);
    CHECK_IS(times, 0);
    CHECK_IS(bumps, 0);
    CHECK_WORD(call(&host, find(&host, "bump"), ""), MICRORPC_INT, 1);
    host_close(&host);
}
#endif
#endif

const test_t reentry_tests[] = {
    TEST(what_a_function_receives_is_lost),
    TEST(what_comes_behind_a_function_that_receives_is_served),
#if MICRORPC_LINK
    TEST(the_link_tells_what_a_function_has_lost),
#endif
    TEST(what_is_sent_within_a_frame_is_lost_and_the_frame_is_whole),
    TEST(what_comes_while_the_main_loop_sends_is_lost),
#if MICRORPC_HOOKS
    TEST(what_is_received_while_the_board_waits_is_lost),
    TEST(what_is_received_while_a_frame_is_flushed_is_lost),
#if MICRORPC_LINK
    TEST(what_is_received_when_a_session_begins_is_lost),
#endif
#endif
    TESTS_END};
