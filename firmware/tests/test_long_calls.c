/* Functions that take long: CALL, PROGRESS, CANCEL, and what is pulled while one runs (docs/link.md 9). */
#include "host.h"

#if MICRORPC_PROGRESS

enum { SAY_PACKET, SAY_WRITE, SAY_READ, SAY_CALL };
enum { HEAR_PACKET, HEAR_DONE, HEAR_DATA, HEAR_FORGOTTEN };

static host_t host;
static unsigned runs, asked;
static bool was_cancelled;

/* Report (int) times and give the last argument back, unless it is cancelled. */
static void toil(microrpc_call_t *call) {
    int64_t steps = microrpc_int(call, 0);
    microrpc_bytes_t bytes;
    runs++;
    was_cancelled = false;
    for (int64_t i = 0; i < steps && !was_cancelled; i++) {
        microrpc_progress(call, (uint32_t)i + 1, (uint32_t)steps);
        was_cancelled = microrpc_is_cancelled(call);
        asked++;
    }
    if (was_cancelled) microrpc_fail(call, MICRORPC_CANCELLED);
    bytes = microrpc_bytes(call, 1);
    microrpc_return_bytes(call, bytes.data, bytes.size);
}

/* Ask, and give a text that was made beforehand in the receive buffer. */
static void prepare(microrpc_call_t *call) {
    char *text = microrpc_result_buffer(call, 3), *again;
    memcpy(text, "abc", 3);
    microrpc_return_text(call, text, 3);
    microrpc_is_cancelled(call);
    again = microrpc_result_buffer(call, 3);
    CHECK(again == text);
}

static void tick(microrpc_call_t *call) {
    microrpc_progress(call, 7, 7);
    runs++;
}

static const microrpc_function_t functions[] = {MICRORPC_FUNCTION(toil), MICRORPC_FUNCTION(prepare),
                                                MICRORPC_FUNCTION(tick)};

static void open(void) {
    microrpc_config_t config = {MICRORPC_FUNCTIONS(functions), .nonce = 1};
    host_boot(&host, config, 1024, 1000);
    host_begin(&host);
    runs = asked = 0;
}

static blob_t toil_packet(int steps) {
    static blob_t bytes;
    bytes = blob_of("some\xFF\xFE\xFD argument", 16);
    return call_packet(STATIC_HANDLE(REGISTRY_SYSTEM, 0), "ib", steps, &bytes);
}

static void add_frame(blob_t *wire, const blob_t *payload) {
    blob_t frame = frame_of(payload->data, payload->size);
    add_bytes(wire, frame.data, frame.size);
}

static blob_t request(uint16_t seq, uint8_t kind, blob_t body) {
    blob_t all = blob_of(NULL, 0);
    add_number(&all, seq, 2);
    add_number(&all, kind, 1);
    add_bytes(&all, body.data, body.size);
    return sealed(&host, MESSAGE_LINK_REQUEST, all);
}

static blob_t cancel(uint16_t seq) {
    blob_t body = blob_of(NULL, 0);
    add_number(&body, seq, 2);
    return sealed(&host, MESSAGE_CANCEL, body);
}

static blob_t init(uint8_t nonce) {
    blob_t payload = blob_of("\0\0\0\1", 4);
    payload.data[0] = nonce;
    return payload;
}

static blob_t terminate(uint16_t session) {
    blob_t payload = blob_of(NULL, 0);
    add_number(&payload, session, 2);
    add_number(&payload, MESSAGE_TERMINATE, 1);
    return payload;
}

static void feed_frame(blob_t payload) {
    blob_t frame = frame_of(payload.data, payload.size);
    board_feed(host.board, frame.data, frame.size, 16);
}

static blob_t hear_reply(uint16_t seq, uint8_t kind) {
    blob_t reply = hear_link(&host, MESSAGE_LINK_REPLY, seq);
    CHECK(reply.size);
    CHECK_IS(reply.data[0], kind);
    return reply.size ? blob_of(reply.data + 1, reply.size - 1) : reply;
}

static void hear_progress(uint16_t seq, uint32_t done, uint32_t total) {
    blob_t progress = hear_link(&host, MESSAGE_PROGRESS, seq);
    CHECK_IS(progress.size, 8);
    CHECK_IS(number_at(&progress, 0, 4), done);
    CHECK_IS(number_at(&progress, 4, 4), total);
}

static void hear_whole(uint16_t seq) {
    CHECK_STRING(hear_reply(seq, HEAR_PACKET), MICRORPC_BYTES, "some\xFF\xFE\xFD argument");
}

static void hear_cancelled(uint16_t seq) { CHECK_EXCEPTION(hear_reply(seq, HEAR_PACKET), "cancelled"); }

static void hear_nak(uint16_t seq) { CHECK_IS(hear_link(&host, MESSAGE_LINK_NAK, seq).size, 0); }

/* --- calls and progress ---------------------------------------------------------------------------------------- */

static void a_call_is_a_packet_that_tells_its_progress(void) {
    open();
    for (int times = 0; times < 3; times++) {
        say_link(&host, 0, SAY_CALL, toil_packet(3));
        for (uint32_t i = 0; !times && i < 3; i++) hear_progress(0, i + 1, 3);
        hear_whole(0); /* and again from memory */
    }
    CHECK_IS(runs, 1);
    say_link(&host, 2, SAY_CALL, toil_packet(3));
    hear_nak(1);
    say_link(&host, 9, SAY_CALL, toil_packet(3));
    CHECK_SILENT(&host);
    CHECK_IS(runs, 1);
    host_close(&host);
}

static void progress_has_these_bytes(void) {
    blob_t progress;
    open();
    say_link(&host, 0, SAY_CALL, toil_packet(1));
    progress = hear_frame(&host);
    CHECK_HEX(progress.data, progress.size - 4, "07 21 27 0000 01000000 01000000");
    hear_whole(0);
    host_close(&host);
}

static void who_did_not_ask_hears_of_no_progress(void) {
    open();
    say_link(&host, 0, SAY_CALL, toil_packet(0));
    hear_whole(0);
    say_link(&host, 1, SAY_PACKET, toil_packet(3));
    hear_whole(1);
    say_link(&host, 0, SAY_CALL, toil_packet(3)); /* an old one, which is dropped */
    say_packet(&host, toil_packet(3));
    CHECK_STRING(hear_packet(&host), MICRORPC_BYTES, "some\xFF\xFE\xFD argument");
    CHECK_IS(runs, 3);
    host_close(&host);
}

static void a_kind_after_call_is_damage(void) {
    open();
    say_link(&host, 0, SAY_CALL, toil_packet(0));
    hear_whole(0);
    say_link(&host, 1, 4, toil_packet(0));
    hear_nak(1);
    host_close(&host);
}

/* --- cancelling ------------------------------------------------------------------------------------------------ */

static void a_cancel_may_be_cut_anywhere(void) {
    static const size_t pieces[] = {1, 2, 5, 16};
    for (size_t piece = 0; piece < 4; piece++) {
        blob_t first = blob_of(NULL, 0), wire, payload;
        for (size_t cut = 0; cut <= first.size + 19; cut++) {
            open();
            wire = blob_of(NULL, 0);
            payload = request(0, SAY_CALL, toil_packet(50));
            add_frame(&wire, &payload);
            first = wire;
            payload = cancel(0);
            add_frame(&wire, &payload);
            if (first.size + cut > wire.size) {
                host_close(&host);
                break;
            }
            /* What the port has not yet given to the main loop, it gives to the function. */
            board_feed(host.board, wire.data + first.size + cut, wire.size - first.size - cut, pieces[piece]);
            say(&host, wire.data, first.size + cut);
            hear_progress(0, 1, 50);
            hear_cancelled(0);
            CHECK_IS(asked, 1);
            CHECK_IS(board_fed_bytes(host.board), 0);
            say_link(&host, 0, SAY_CALL, toil_packet(50)); /* it has run */
            hear_cancelled(0);
            say_link(&host, 1, SAY_CALL, toil_packet(1));
            hear_progress(1, 1, 1);
            hear_whole(1); /* and the next one is not cancelled */
            host_close(&host);
        }
    }
}

static void a_cancel_of_something_else_cancels_nothing(void) {
    open();
    for (int which = 0; which < 7; which++) {
        blob_t payload = cancel((uint16_t)which);
        uint16_t seq = (uint16_t)which;
        if (which == 0) payload = cancel(1);
        if (which == 1) payload = cancel(0);
        if (which == 2) payload.data[payload.size - 1] ^= 1;
        if (which == 3) payload.data[0] ^= 1;
        if (which == 4) add_number(&payload, 0, 1);
        if (which == 5) payload = sealed(&host, MESSAGE_CANCEL, blob_of("\5\0\0", 3));
        if (which == 6) payload = sealed(&host, MESSAGE_KEEP_ALIVE, blob_of("\6\0", 2));
        feed_frame(payload);
        say_link(&host, seq, SAY_CALL, toil_packet(2));
        hear_progress(seq, 1, 2);
        hear_progress(seq, 2, 2);
        hear_whole(seq);
        CHECK_SILENT(&host);
    }
    host_close(&host);
}

static void only_a_call_is_cancelled_by_cancel(void) {
    open();
    feed_frame(cancel(0));
    say_link(&host, 0, SAY_PACKET, toil_packet(2));
    hear_whole(0);
    say_link(&host, 1, SAY_CALL, toil_packet(0));
    hear_whole(1);
    feed_frame(cancel(1)); /* a late one */
    say_packet(&host, toil_packet(2));
    CHECK_STRING(hear_packet(&host), MICRORPC_BYTES, "some\xFF\xFE\xFD argument");
    host_close(&host);
}

static void a_cancel_that_comes_first_is_executed_instead(void) {
    open();
    for (int times = 0; times < 2; times++) {
        blob_t payload = cancel(0);
        say_frame(&host, payload.data, payload.size);
        CHECK_EXCEPTION(hear_reply(0, HEAR_PACKET), "cancelled before it began");
        say_link(&host, 0, SAY_CALL, toil_packet(2)); /* which arrives late */
        CHECK_EXCEPTION(hear_reply(0, HEAR_PACKET), "cancelled before it began");
    }
    CHECK_IS(runs, 0);
    say_link(&host, 1, SAY_CALL, toil_packet(0));
    hear_whole(1);
    {
        blob_t payload = cancel(3); /* one before it is missing */
        say_frame(&host, payload.data, payload.size);
        hear_nak(2);
        payload = cancel(1); /* it has run: the reply again */
        say_frame(&host, payload.data, payload.size);
        hear_whole(1);
        payload = cancel(0); /* long ago */
        say_frame(&host, payload.data, payload.size);
        payload = cancel(10); /* past the window */
        say_frame(&host, payload.data, payload.size);
        CHECK_SILENT(&host);
        say_packet(&host, blob_of("\1\0\0\0", 4)); /* after Shutdown there are no packets */
        payload = cancel(2);
        say_frame(&host, payload.data, payload.size);
        CHECK_SILENT(&host);
    }
    host_close(&host);
}

static void a_damaged_cancel_is_damage(void) {
    blob_t good, bad;
    open();
    say_link(&host, 0, SAY_CALL, toil_packet(0));
    hear_whole(0);
    good = cancel(1);
    for (size_t bit = 24; bit < 8 * good.size; bit++) { /* the frame's own checksum is right */
        bad = good;
        bad.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        say_frame(&host, bad.data, bad.size);
        if (bit == 24) hear_nak(1);
        CHECK_SILENT(&host);
    }
    say_sealed(&host, MESSAGE_CANCEL, blob_of("\1\0\0", 3));
    say_sealed(&host, MESSAGE_CANCEL, blob_of("\1", 1));
    CHECK_SILENT(&host);
    say_frame(&host, good.data, good.size);
    CHECK_EXCEPTION(hear_reply(1, HEAR_PACKET), "cancelled before it began");
    say(&host, "garbage", 7); /* and the silence has ended */
    hear_nak(2);
    host_close(&host);
}

static void a_cancel_without_a_session_is_answered_with_terminate(void) {
    microrpc_config_t config = {MICRORPC_FUNCTIONS(functions), .nonce = 1};
    blob_t payload;
    host_boot(&host, config, 1024, 0);
    host.session = 0x2107;
    payload = cancel(0);
    say_frame(&host, payload.data, payload.size);
    CHECK_IS(hear_message(&host, 0, MESSAGE_TERMINATE).size, 0);
    host_begin(&host);
    host.session++; /* of another session: dropped */
    payload = cancel(0);
    say_frame(&host, payload.data, payload.size);
    CHECK_SILENT(&host);
    host_close(&host);
}

static void a_port_that_cannot_be_read_cancels_nothing(void) {
    microrpc_config_t *config;
    open();
    CHECK_IS(find_global(&host, "microrpc.features") >> 8 & 12, 12);
    config = (microrpc_config_t *)(uintptr_t)host.device->config;
    config->read = NULL;
    CHECK_IS(find_global(&host, "microrpc.features") >> 8 & 12, 4);
    {
        blob_t wire = blob_of(NULL, 0), payload = request(0, SAY_CALL, toil_packet(1));
        add_frame(&wire, &payload);
        payload = request(1, SAY_CALL, toil_packet(0));
        add_frame(&wire, &payload);
        say(&host, wire.data, wire.size); /* nor is the rest of what came touched */
    }
    hear_progress(0, 1, 1);
    hear_whole(0);
    hear_whole(1);
    host_close(&host);
}

/* --- what else comes while a function runs --------------------------------------------------------------------- */

static void all_else_is_dropped_without_a_complaint(void) {
    blob_t long_frame = frame_of("a frame of more than sixteen bytes", 34);
    open();
    feed_frame(request(0, SAY_CALL, toil_packet(2))); /* a repetition */
    feed_frame(request(1, SAY_PACKET, blob_of("\1\0\0\0", 4)));
    feed_frame(sealed(&host, MESSAGE_EVENT_ACK, blob_of("\0\0\0\0\xE8\3\0", 7)));
    feed_frame(sealed(&host, MESSAGE_KEEP_ALIVE, blob_of("\0\0", 2)));
    feed_frame(blob_of("\0\0\2\0", 4)); /* what is no TERMINATE */
    feed_frame(blob_of("\1\1\0\1", 4)); /* what is no INIT */
    feed_frame(blob_of("\1\0\0\2", 4));
    feed_frame(blob_of("\0\0\0\1", 4));
    feed_frame(terminate((uint16_t)(host.session + 1)));
    feed_frame(blob_of("\0", 1));
    feed_frame(blob_of("", 0));
    board_feed(host.board, (const uint8_t *)"garbage", 7, 16);
    board_feed(host.board, (const uint8_t *)"\xFF\xFD\x03\0\0\0one\0\0", 11, 16);       /* a wrong crc16 */
    board_feed(host.board, (const uint8_t *)"\xFF\xFD\x03\0\0\0\xFF\x01", 8, 16);       /* an invalid escape */
    board_feed(host.board, (const uint8_t *)"\xFF\xFD\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 10, 16); /* too long */
    board_feed(host.board, long_frame.data, long_frame.size, 16);
    say_link(&host, 0, SAY_CALL, toil_packet(2));
    hear_progress(0, 1, 2);
    hear_progress(0, 2, 2);
    hear_whole(0);
    CHECK_IS(runs, 1);
    CHECK_IS(board_fed_bytes(host.board), 0);
    CHECK_SILENT(&host);
    say(&host, "garbage", 7); /* from now on again */
    hear_nak(1);
    host_close(&host);
}

static void what_lies_in_the_receive_buffer_stays(void) {
    open();
    feed_frame(blob_of("a frame of more than sixteen bytes", 34));
    feed_frame(cancel(7));
    say_link(&host, 0, SAY_CALL, call_packet(STATIC_HANDLE(REGISTRY_SYSTEM, 1), ""));
    CHECK_STRING(hear_reply(0, HEAR_PACKET), MICRORPC_TEXT, "abc");
    host_close(&host);
}

static void an_init_cancels_and_begins_a_session_after_the_reply(void) {
    static const uint8_t kinds[] = {SAY_CALL, SAY_PACKET};
    for (size_t i = 0; i < 3; i++) { /* the last time as a NORMAL message */
        blob_t reply;
        open();
        feed_frame(terminate(0));
        feed_frame(init(9));
        feed_frame(init(8)); /* the last one counts */
        feed_frame(cancel(0));
        if (i < 2)
            say_link(&host, 0, kinds[i], toil_packet(5));
        else
            say_packet(&host, toil_packet(5));
        if (kinds[i % 2] == SAY_CALL && i < 2) hear_progress(0, 1, 5);
        if (i < 2)
            hear_cancelled(0);
        else
            CHECK_EXCEPTION(hear_packet(&host), "cancelled");
        reply = hear_frame(&host);
        CHECK_IS(reply.data[0], 8);
        CHECK_IS(reply.data[2], MESSAGE_REPLY);
        host.session = (uint16_t)number_at(&reply, 0, 2);
        say_link(&host, 0, SAY_CALL, toil_packet(1)); /* a new one, of a new session */
        hear_progress(0, 1, 1);
        hear_whole(0);
        host_close(&host);
    }
}

static void a_terminate_cancels_and_ends_the_session_after_the_reply(void) {
    for (int own = 0; own < 2; own++) {
        open();
        feed_frame(init(9));
        feed_frame(terminate(own ? host.session : 0));
        say_link(&host, 0, SAY_CALL, toil_packet(5));
        hear_progress(0, 1, 5);
        hear_cancelled(0);
        CHECK_SILENT(&host);
        CHECK_IS(host.device->session.id, 0);
        host_begin(&host);
        host_close(&host);
    }
}

static void a_message_of_several_packets_is_served_to_its_end(void) {
    blob_t body = blob_of(NULL, 0), packet = toil_packet(3), reply;
    open();
    for (int i = 0; i < 2; i++) {
        add_number(&body, packet.size, 8);
        add_bytes(&body, packet.data, packet.size);
    }
    feed_frame(init(9));
    say_message(&host, host.session, MESSAGE_NORMAL, body);
    CHECK_EXCEPTION(hear_packet(&host), "cancelled");
    CHECK_EXCEPTION(hear_packet(&host), "cancelled"); /* this one, too: the host is gone */
    reply = hear_frame(&host);
    CHECK_IS(reply.data[2], MESSAGE_REPLY);
    CHECK_IS(runs, 2);
    host_close(&host);
}

/* A frame is cut where the function returns: what was pulled of it, and the rest in the main loop. */
static void a_short_frame_goes_on_where_the_function_has_returned(void) {
    blob_t frame = frame_of("\x08\0\0\1", 4), reply;
    for (size_t cut = 0; cut <= frame.size; cut++) {
        open();
        board_feed(host.board, frame.data, cut, 3);
        say_link(&host, 0, SAY_CALL, toil_packet(1));
        hear_progress(0, 1, 1);
        if (cut < frame.size) {
            hear_whole(0);
            say(&host, frame.data + cut, frame.size - cut);
        } else {
            hear_cancelled(0);
        }
        reply = hear_frame(&host);
        CHECK_IS(reply.data[2], MESSAGE_REPLY);
        host_close(&host);
    }
}

static void a_long_frame_of_which_bytes_were_pulled_ends_as_damage(void) {
    blob_t frame, payload;
    size_t cut = 0;
    do {
        open();
        payload = request(1, SAY_CALL, toil_packet(0));
        CHECK(payload.size > 16);
        frame = frame_of(payload.data, payload.size);
        board_feed(host.board, frame.data, cut, 7);
        say_link(&host, 0, SAY_CALL, toil_packet(1));
        hear_progress(0, 1, 1);
        hear_whole(0);
        CHECK_SILENT(&host);
        say(&host, frame.data + cut, frame.size - cut);
        if (cut < 6) {
            hear_whole(1); /* nothing of the payload was missing */
        } else if (cut < frame.size) {
            hear_nak(1); /* once, at its end */
            say(&host, "garbage", 7);
        }
        CHECK_SILENT(&host);
        CHECK_IS(runs, cut < 6 ? 2 : 1);
        say_frame(&host, payload.data, payload.size); /* the next frame is whole */
        hear_whole(1);
        host_close(&host);
    } while (cut++ < frame.size);
}

static void the_length_of_a_frame_may_be_cut_too(void) {
    blob_t body = blob_of(NULL, 0), payload, frame; /* 0x0117 bytes: the first byte alone is more than 16 */
    open();
    while (body.size < 0x117 - 18) add_number(&body, 'x', 1);
    add_number(&body, 0, 0);
    {
        blob_t packet = call_packet(STATIC_HANDLE(REGISTRY_SYSTEM, 0), "ib", 0, &body);
        payload = request(1, SAY_CALL, packet);
    }
    frame = frame_of(payload.data, payload.size);
    board_feed(host.board, frame.data, 3, 16);
    say_link(&host, 0, SAY_CALL, toil_packet(1));
    hear_progress(0, 1, 1);
    hear_whole(0);
    say(&host, frame.data + 3, frame.size - 3);
    CHECK_IS(hear_reply(1, HEAR_PACKET).data[0], PACKET_RETURN);
    host_close(&host);
}

static size_t read_and_lose(void *port, uint8_t *bytes, size_t size) {
    (void)port;
    (void)size;
    if (asked++) return 0;
    microrpc_lost_bytes(host.device);
    memcpy(bytes, "\xFE\xFE", 2);
    return 2;
}

static size_t read_without_end(void *port, uint8_t *bytes, size_t size) {
    (void)port;
    memset(bytes, 0xFE, size);
    return size;
}

static void a_port_may_lose_bytes_and_may_never_be_silent(void) {
    microrpc_config_t *config;
    open();
    config = (microrpc_config_t *)(uintptr_t)host.device->config;
    config->read = read_and_lose;
    say_link(&host, 0, SAY_CALL, toil_packet(1));
    hear_progress(0, 1, 1);
    hear_whole(0);
    config->read = read_without_end;
    say_link(&host, 1, SAY_CALL, toil_packet(2));
    hear_progress(1, 1, 2);
    hear_progress(1, 2, 2);
    hear_whole(1);
    host_close(&host);
}

static size_t given; /* by the port, of `answers` or without end */

static size_t read_too_much(void *port, uint8_t *bytes, size_t size) {
    (void)port;
    (void)bytes;
    asked++;
    return given ? given : size + 1;
}

static void more_than_was_asked_for_is_an_error_of_the_port_and_counts_as_nothing(void) {
    static const size_t wrong[] = {0, 17, 1000000, SIZE_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        open();
        ((microrpc_config_t *)(uintptr_t)host.device->config)->read = read_too_much;
        given = wrong[i];
        say_link(&host, 0, SAY_CALL, toil_packet(1));
        hear_progress(0, 1, 1);
        hear_whole(0);
        CHECK_IS(asked, 2); /* by the function, and of the port: once */
        host_close(&host);
    }
}

static blob_t answers;

static size_t read_answers(void *port, uint8_t *bytes, size_t size) {
    size_t left = given < answers.size ? answers.size - given : 0;
    (void)port;
    if (left < size) size = left;
    memcpy(bytes, answers.data + given, size);
    given += size;
    return size;
}

static void all_that_was_read_counts_and_the_rest_waits(void) {
    blob_t payload;
    for (size_t more = 0; more < 2; more++) { /* 64 times 16 bytes are read at once */
        open();
        payload = cancel(0);
        payload = frame_of(payload.data, payload.size);
        answers = blob_of(NULL, 0);
        while (answers.size + payload.size < 1024 + more) add_number(&answers, 0xFE, 1);
        add_bytes(&answers, payload.data, payload.size);
        given = 0;
        ((microrpc_config_t *)(uintptr_t)host.device->config)->read = read_answers;
        say_link(&host, 0, SAY_CALL, toil_packet(3));
        hear_progress(0, 1, 3);
        if (more) hear_progress(0, 2, 3);
        hear_cancelled(0);
        CHECK_IS(asked, 1 + more);
        host_close(&host);
    }
}

/* --- the time evaluator ---------------------------------------------------------------------------------------- */

static uint64_t evaluator(int repeat) {
    blob_t reply = call(&host, find_global(&host, "runtime.RPCTimeEvaluator"), "msiiiiiiiiis", SYSTEM_LIB, "tick", 1, 0, 1,
                        repeat, 0, 100, 0, 1, 0, "");
    return word_of(&reply);
}

static void the_time_evaluator_reports_between_its_repeats(void) {
    uint64_t function;
    open();
    function = evaluator(3);
    say_link(&host, 0, SAY_CALL, call_packet(function, ""));
    hear_progress(0, 1, 3); /* what is timed does not report */
    hear_progress(0, 2, 3);
    CHECK_IS(hear_reply(0, HEAR_PACKET).size, 32 + 24);
    CHECK_IS(runs, 3);
    say_link(&host, 1, SAY_CALL, call_packet(STATIC_HANDLE(REGISTRY_SYSTEM, 2), ""));
    hear_progress(1, 7, 7); /* but when it is called */
    hear_reply(1, HEAR_PACKET);
    host_close(&host);
}

static void the_time_evaluator_can_be_cancelled(void) {
    uint64_t function;
    open();
    function = evaluator(30);
    feed_frame(cancel(0));
    say_link(&host, 0, SAY_CALL, call_packet(function, ""));
    hear_progress(0, 1, 30);
    hear_cancelled(0);
    CHECK_IS(runs, 1);
    say_link(&host, 1, SAY_CALL, call_packet(STATIC_HANDLE(REGISTRY_SYSTEM, 2), ""));
    hear_progress(1, 7, 7);
    hear_reply(1, HEAR_PACKET);
    host_close(&host);
}

const test_t long_call_tests[] = {
    TEST(a_call_is_a_packet_that_tells_its_progress),
    TEST(progress_has_these_bytes),
    TEST(who_did_not_ask_hears_of_no_progress),
    TEST(a_kind_after_call_is_damage),
    TEST(a_cancel_may_be_cut_anywhere),
    TEST(a_cancel_of_something_else_cancels_nothing),
    TEST(only_a_call_is_cancelled_by_cancel),
    TEST(a_cancel_that_comes_first_is_executed_instead),
    TEST(a_damaged_cancel_is_damage),
    TEST(a_cancel_without_a_session_is_answered_with_terminate),
    TEST(a_port_that_cannot_be_read_cancels_nothing),
    TEST(all_else_is_dropped_without_a_complaint),
    TEST(what_lies_in_the_receive_buffer_stays),
    TEST(an_init_cancels_and_begins_a_session_after_the_reply),
    TEST(a_terminate_cancels_and_ends_the_session_after_the_reply),
    TEST(a_message_of_several_packets_is_served_to_its_end),
    TEST(a_short_frame_goes_on_where_the_function_has_returned),
    TEST(a_long_frame_of_which_bytes_were_pulled_ends_as_damage),
    TEST(the_length_of_a_frame_may_be_cut_too),
    TEST(a_port_may_lose_bytes_and_may_never_be_silent),
    TEST(more_than_was_asked_for_is_an_error_of_the_port_and_counts_as_nothing),
    TEST(all_that_was_read_counts_and_the_rest_waits),
    TEST(the_time_evaluator_reports_between_its_repeats),
    TEST(the_time_evaluator_can_be_cancelled),
    TESTS_END,
};

#else

/* Without them a CALL is of an unknown kind, and CANCEL a message that nobody knows. */
static void long_calls_are_left_out(void) {
    host_t host;
    host_open(&host, 1024);
    say_sealed(&host, MESSAGE_CANCEL, blob_of("\0\0", 2));
    say_link(&host, 0, 3, packet_of(PACKET_GET_GLOBAL_FUNC, "s", "add"));
    CHECK_SILENT(&host);
    host_close(&host);
}

const test_t long_call_tests[] = {TEST(long_calls_are_left_out), TESTS_END};

#endif
