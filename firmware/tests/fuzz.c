/* What a fuzzer (libFuzzer) feeds the board: a list of things to say. Each is a byte that tells what it is, a length,
 * and that many bytes, which are put into as much of a proper envelope as that kind has: so the fuzzer need not guess
 * checksums, nor the addresses of blocks, to get at what is behind them. */
#include <stdlib.h>
#include <string.h>

#include "board.h"
#include "functions.h"
#include "microrpc_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PACKET_BYTES 320u
#define NONCE 1u
#define HOST_NONCE 7u
/* The demonstration functions that take as long as they are told to. */
#define SLEEP_MS 18
#define EMIT 20
#define WORK 21

static uint16_t crc16(const uint8_t *bytes, size_t size) {
    uint32_t crc = 0xFFFF;
    while (size--) {
        crc ^= (uint32_t)*bytes++ << 8;
        for (int bit = 0; bit < 8; bit++) crc = (crc << 1 ^ (crc & 0x8000 ? 0x1021u : 0)) & 0xFFFF;
    }
    return (uint16_t)crc;
}

static void put(uint8_t *at, uint64_t value, unsigned size_bytes) {
    for (; size_bytes; size_bytes--, value >>= 8) *at++ = (uint8_t)value;
}

static size_t escape(uint8_t *to, const uint8_t *from, size_t size) {
    size_t used = 0;
    for (size_t i = 0; i < size; i++) {
        to[used++] = from[i];
        if (from[i] == 0xFF) to[used++] = 0xFF;
    }
    return used;
}

static size_t make_frame(uint8_t *wire, const uint8_t *payload, size_t size) {
    uint8_t number[4];
    size_t used = 2;
    wire[0] = 0xFF;
    wire[1] = 0xFD;
    put(number, size, 4);
    used += escape(wire + used, number, 4);
    used += escape(wire + used, payload, size);
    put(number, crc16(wire, used), 2);
    return used + escape(wire + used, number, 2);
}

static void say_frame(board_t *board, const uint8_t *payload, size_t size) {
    uint8_t wire[1024];
    board_receive(board, wire, make_frame(wire, payload, size));
}

/* The bytes, for a function that reads while it runs. */
static void feed(board_t *board, const uint8_t *bytes, size_t size) {
    if (board_fed_bytes(board) + size <= 1024) board_feed(board, bytes, size, 1 + size % 16);
}

/* --- packets that are right but for their values --------------------------------------------------------------- */

/* What the fuzzer chose; 0 past its end. */
typedef struct {
    const uint8_t *at;
    size_t left;
} choices_t;

typedef struct {
    size_t size;
    uint8_t data[PACKET_BYTES];
} packet_t;

static uint8_t choose(choices_t *choices) {
    if (!choices->left) return 0;
    choices->left--;
    return *choices->at++;
}

static void add(packet_t *packet, uint64_t value, unsigned size_bytes) {
    uint8_t bytes[8];
    put(bytes, value, size_bytes);
    for (unsigned i = 0; i < size_bytes && packet->size < sizeof packet->data; i++)
        packet->data[packet->size++] = bytes[i];
}

/* Small, or small and negative, or of few bits. */
static uint64_t choose_number(choices_t *choices) {
    uint8_t choice = choose(choices), value = choose(choices);
    return choice < 200 ? value : choice < 220 ? (uint64_t)-value : (uint64_t)value << choice % 64;
}

static uint64_t choose_address(choices_t *choices, const board_t *board) {
    uint8_t choice = choose(choices);
    uint64_t address = board_heap_address(board) + choice % 32 * UINT64_C(8);
    return choice < 200 ? address : address + choose(choices) % 9 - 1;
}

static uint64_t choose_handle(choices_t *choices, const board_t *board) {
    uint8_t choice = choose(choices);
    if (choice < 100) {
        uint64_t handle = STATIC_HANDLE(choice % 4, choose(choices) % 32);
        if (handle == STATIC_HANDLE(REGISTRY_SYSTEM, SLEEP_MS) || handle == STATIC_HANDLE(REGISTRY_SYSTEM, EMIT) ||
            handle == STATIC_HANDLE(REGISTRY_SYSTEM, WORK))
            return 0;
        return handle;
    }
    return choice < 110 ? choose_number(choices) : board_heap_address(board) + (choice - 110u) % 32 * UINT64_C(8);
}

static void add_tensor(packet_t *packet, choices_t *choices, const board_t *board) {
    static const uint8_t dtypes[][2] = {{2, 32}, {0, 8}, {1, 1}, {2, 64}, {2, 16}, {4, 16}, {0, 64}, {1, 16}};
    uint8_t choice = choose(choices), ndim = choice % 4;
    add(packet, choose_address(choices, board), 8);
    add(packet, choice > 250 ? choice : 1, 8); /* the device */
    add(packet, ndim, 4);
    add(packet, dtypes[choice / 4 % 8][0], 1);
    add(packet, dtypes[choice / 4 % 8][1], 1);
    add(packet, choice > 240 ? choose(choices) : 1, 2);
    for (unsigned i = 0; i < ndim; i++) add(packet, choice & 32 ? choose_number(choices) : choose(choices) % 8u, 8);
    add(packet, choice & 64 ? choose_number(choices) : 0, 8);
}

static void add_blob(packet_t *packet, choices_t *choices) {
    static const char *const names[] = {"add", "noop", "describe", "iota", "log", "tvm.contrib.random.random_fill",
                                        LINK_FUNCTION, "global", "", "reverse", "fail", PROTOCOL_VERSION,
                                        "microrpc.release_all", "microrpc.describe", "microrpc.memory"};
    uint8_t choice = choose(choices);
    const char *name = names[choice % (sizeof names / sizeof names[0])];
    if (choice < 200) {
        add(packet, mrpc_length(name), 8);
        while (*name) add(packet, (uint8_t)*name++, 1);
    } else {
        add(packet, choice % 16, 8);
        for (unsigned i = choice % 16; i; i--) add(packet, choose(choices), 1);
    }
}

static void add_value(packet_t *packet, choices_t *choices, const board_t *board, uint8_t type) {
    switch (type) {
    case MICRORPC_NULL:
        break;
    case MICRORPC_DEVICE:
        add(packet, choose(choices) < 250, 8);
        break;
    case MICRORPC_TENSOR:
        add_tensor(packet, choices, board);
        break;
    case MICRORPC_TEXT:
    case MICRORPC_BYTES:
        add_blob(packet, choices);
        break;
    case MICRORPC_HANDLE:
    case MICRORPC_MODULE:
    case MICRORPC_FUNCTION_HANDLE:
        add(packet, choose_handle(choices, board), 8);
        break;
    default:
        add(packet, choose_number(choices), 8);
    }
}

/* As many of `types` as there are, and then what the fuzzer chooses. */
static void add_sequence(packet_t *packet, choices_t *choices, const board_t *board, const char *types) {
    uint8_t chosen[16], count = 0;
    while (types && *types && count < sizeof chosen) chosen[count++] = (uint8_t)(*types++ - 'a');
    if (!types || choose(choices) > 250) {
        for (unsigned more = choose(choices) % 5; more && count < sizeof chosen; more--)
            chosen[count++] = choose(choices) % 14;
    }
    add(packet, count, 4);
    for (unsigned i = 0; i < count; i++) add(packet, chosen[i], 4);
    for (unsigned i = 0; i < count; i++) add_value(packet, choices, board, chosen[i]);
}

/* A request of any kind. */
static void make_packet(packet_t *packet, choices_t choices, const board_t *board) {
    /* The types of the syscalls' arguments, 'a' for 0. */
    static const char *const types[] = {"l", "da", "g", "ga", "gaaf", "gd", "gd", "hhd", "hl", "g", "gd", "gd"};
    static const uint8_t counts[] = {9, 8, 7, 5}; /* of the evaluator's numbers, by TVM version */
    uint8_t choice = choose(&choices), code = choice % 32;
    packet->size = 0;
    if (code < PACKET_GET_GLOBAL_FUNC || code > 22) code = PACKET_CALL_FUNC;
    if (choice >= 250) code = PACKET_INIT_SERVER;
    if (choice >= 220 && choice < 250) code = choice & 1 ? PACKET_COPY_FROM_REMOTE : PACKET_COPY_TO_REMOTE;
    add(packet, code, 4);
    if (code == PACKET_INIT_SERVER) {
        add_blob(packet, &choices);
        add_sequence(packet, &choices, board, NULL);
    } else if (code == PACKET_COPY_FROM_REMOTE) {
        add_tensor(packet, &choices, board);
        add(packet, choose_number(&choices), 8);
    } else if (code == PACKET_COPY_TO_REMOTE) {
        add_tensor(packet, &choices, board);
        add_blob(packet, &choices);
    } else if (code == PACKET_CALL_FUNC && choice < 32) {
        unsigned count = choose(&choices) % 16;
        count = count < 4 ? counts[count] : count < 15 ? 9 : choose(&choices) % 12;
        add(packet, STATIC_HANDLE(REGISTRY_GLOBAL, 4), 8);
        add(packet, count + 3, 4);
        add(packet, MICRORPC_MODULE, 4);
        add(packet, MICRORPC_TEXT, 4);
        for (unsigned i = 0; i < count; i++) add(packet, MICRORPC_INT, 4);
        add(packet, MICRORPC_TEXT, 4);
        add(packet, STATIC_HANDLE(REGISTRY_MODULE, 0), 8);
        add_blob(packet, &choices);
        for (unsigned i = 0; i < count; i++) add(packet, (uint64_t)(choose(&choices) % 64) - 4, 8); /* no call is to take long */
        add_blob(packet, &choices);
    } else if (code == PACKET_CALL_FUNC) {
        add(packet, choose_handle(&choices, board), 8);
        add_sequence(packet, &choices, board, NULL);
    } else {
        add_sequence(packet, &choices, board, code <= PACKET_DEV_SET_STREAM ? types[code - 9] : NULL);
    }
}

/* --- what is said ---------------------------------------------------------------------------------------------- */

enum {
    SAY_BYTES,
    SAY_FRAME,
    SAY_BODY,
    SAY_MESSAGE,
    SAY_LINK_BODY,
    SAY_COPY,
    LOSE_BYTES,
    SAY_INIT,
    SAY_PACKET,
    SAY_LINK_PACKET,
    SAY_OLD_PACKET,
    SAY_SHUTDOWN,
    SAY_CALL,
    SAY_WORK,
    SAY_SEALED,
    FEED_SEALED,
    FEED_BYTES,
    TELL,
    SAY_MODEL,
    NEST,
    KINDS
};

/* What comes while the library writes, from where nothing may come (docs/firmware.md, "What may be called from where"). */
static choices_t nested;

static void tell(board_t *board, const uint8_t *bytes, size_t size);

static void on_write(board_t *board) {
    choices_t now = nested;
    if (!now.left) return;
    nested.left = 0;
    board_receive(board, now.at, now.left);
    board_lose_bytes(board);
    microrpc_log(board_device(board), "within");
    tell(board, now.at, now.left);
}

#if MICRORPC_MODELS
/* A tensor that a model takes, in the heap. */
static void add_model_tensor(packet_t *packet, choices_t *choices, const board_t *board,
                             const microrpc_model_tensor_t *tensor) {
    uint8_t choice = choose(choices);
    add(packet, board_heap_address(board) + choice % 32 * UINT64_C(8), 8);
    add(packet, 1, 8);
    add(packet, tensor->ndim, 4);
    add(packet, tensor->dtype.code, 1);
    add(packet, tensor->dtype.bits, 1);
    add(packet, choice > 250 ? choice : tensor->dtype.lanes, 2);
    for (unsigned i = 0; i < tensor->ndim; i++) add(packet, choice > 240 ? choice : tensor->extents[i], 8);
    add(packet, 0, 8);
}

/* A call of one of the four functions of models, with what it takes, or nearly. */
static void make_model_call(packet_t *packet, choices_t choices, const board_t *board) {
    static const char *const names[] = {"microrpc.model.run", "microrpc.model.profile", "microrpc.model.layer",
                                        "microrpc.models"};
    unsigned function = choose(&choices) % 4, number = choose(&choices) % 3, layer = choose(&choices) % 4;
    const microrpc_model_t *model = board_models[number % board_model_count];
    unsigned ints = function < 2 ? 1 : 2, tensors = function == 3 ? 0 : function == 2 ? 3 : 2, index = 0;
    while (!mrpc_text_is((microrpc_bytes_t){(const uint8_t *)names[function], mrpc_length(names[function])},
                         mrpc_runtime_functions[index].name))
        index++;
    packet->size = 0;
    add(packet, PACKET_CALL_FUNC, 4);
    add(packet, STATIC_HANDLE(REGISTRY_GLOBAL, index), 8);
    add(packet, ints + tensors, 4);
    for (unsigned i = 0; i < ints; i++) add(packet, MICRORPC_INT, 4);
    for (unsigned i = 0; i < tensors; i++) add(packet, MICRORPC_TENSOR, 4);
    add(packet, number, 8);
    if (ints == 2) add(packet, function == 3 ? choose_number(&choices) : layer, 8);
    if (tensors == 3) add_model_tensor(packet, &choices, board, &model->layers[layer % model->layer_count].output);
    if (tensors) add_model_tensor(packet, &choices, board, model->inputs);
    if (tensors) add_model_tensor(packet, &choices, board, model->outputs);
}
#endif

static uint16_t seq;

static void say_link(board_t *board, uint8_t *payload, uint16_t number, uint8_t kind, const uint8_t *bytes,
                     size_t size) {
    payload[2] = MESSAGE_LINK_REQUEST;
    put(payload + 3, number, 2);
    payload[5] = kind;
    memcpy(payload + 6, bytes, size);
    /* Near the heap, or else hardly any copy would hit it. */
    if (kind && size >= 8) put(payload + 6, board_heap_address(board) + bytes[0], 8);
    if (kind && size >= 12) put(payload + 14, bytes[8], 4);
    put(payload + 6 + size, mrpc_crc32(0, payload, 6 + size), 4);
    say_frame(board, payload, 10 + size);
}

static void say_normal(board_t *board, uint8_t *payload, const uint8_t *bytes, size_t size) {
    payload[2] = MESSAGE_NORMAL;
    put(payload + 3, size, 8);
    memcpy(payload + 11, bytes, size);
    say_frame(board, payload, 11 + size);
}

/* A message of the link that is no request, of the session or of none: its type and what it has, as it was chosen. */
static size_t make_sealed(uint8_t *payload, const uint8_t *bytes, size_t size) {
    payload[2] = (uint8_t)(MESSAGE_LINK_REQUEST + (size ? *bytes % 10 : 0));
    if (size) memcpy(payload + 3, bytes + 1, --size);
    /* The number that it is about, not far from what there is. */
    if (size >= 2) put(payload + 3, (uint16_t)(seq + bytes[1] % 4 - 2), 2);
    put(payload + 3 + size, mrpc_crc32(0, payload, 3 + size), 4);
    return 7 + size;
}

/* What the firmware says of its own accord. */
static void tell(board_t *board, const uint8_t *bytes, size_t size) {
#if MICRORPC_EVENTS
    microrpc_value_t values[3];
    values[0] = microrpc_value_float(0.5);
    values[1] = microrpc_value_text("text");
    values[2] = microrpc_value_bytes(bytes, size);
    microrpc_event(board_device(board), "plain", values, 1 + size % 3);
#if MICRORPC_RELIABLE_EVENTS
    microrpc_event_reliable(board_device(board), "reliable", values + 2, 1);
#endif
#endif
    (void)board, (void)bytes, (void)size;
}

static void say(board_t *board, unsigned kind, const uint8_t *bytes, size_t size) {
    uint8_t payload[PACKET_BYTES + 44];
    uint8_t nonce = (uint8_t)((NONCE << 5 | NONCE >> 5) + 1);
    choices_t choices = {bytes, size};
    packet_t packet;
    int ahead;
    put(payload, HOST_NONCE | (uint32_t)nonce << 8, 2); /* of the first session, which is the one that lasts mostly */
    switch (kind) {
    case SAY_BYTES:
        board_receive(board, bytes, size);
        break;
    case SAY_FRAME:
        say_frame(board, bytes, size);
        break;
    case SAY_INIT:
        payload[0] = HOST_NONCE;
        payload[1] = payload[2] = 0;
        payload[3] = 1;
        say_frame(board, payload, 4);
        break;
    case SAY_BODY:
        say_normal(board, payload, bytes, size);
        break;
    case SAY_SHUTDOWN:
        if (size) say_normal(board, payload, (const uint8_t *)"\1\0\0", 4);
        break;
    case SAY_MESSAGE:
        payload[2] = MESSAGE_NORMAL;
        memcpy(payload + 3, bytes, size);
        say_frame(board, payload, 3 + size);
        break;
    case SAY_LINK_BODY:
        say_link(board, payload, seq++, size % 8 == 7 ? 4 : 0, bytes, size); /* 4 is none */
        break;
    case SAY_COPY:
        ahead = size > 20 ? bytes[9] % 4 : 0;
        say_link(board, payload, (uint16_t)(seq++ + ahead), (uint8_t)(1 + size % 2), bytes, size);
        break;
    case SAY_PACKET:
        make_packet(&packet, choices, board);
        say_normal(board, payload, packet.data, packet.size);
        break;
    case SAY_LINK_PACKET:
    case SAY_OLD_PACKET:
        make_packet(&packet, choices, board);
        if (kind == SAY_OLD_PACKET) seq--;
        say_link(board, payload, seq++, 0, packet.data, packet.size);
        break;
    case SAY_CALL:
        make_packet(&packet, choices, board);
        say_link(board, payload, seq++, 3, packet.data, packet.size);
        break;
    case SAY_WORK:
        packet.size = 0;
        add(&packet, PACKET_CALL_FUNC, 4);
        add(&packet, STATIC_HANDLE(REGISTRY_SYSTEM, size % 2 ? WORK : EMIT), 8);
        add(&packet, size % 2 ? 2 : 4, 4);
        if (size % 2 == 0) add(&packet, MICRORPC_TEXT, 4);
        for (unsigned i = 0; i < 2 + (size % 2 == 0); i++) add(&packet, MICRORPC_INT, 4);
        if (size % 2 == 0) add_blob(&packet, &choices);
        for (unsigned i = 0; i < 2 + (size % 2 == 0); i++) add(&packet, choose(&choices) % 8u, 8);
        say_link(board, payload, seq++, 3, packet.data, packet.size);
        break;
    case SAY_SEALED:
        say_frame(board, payload, make_sealed(payload, bytes, size));
        break;
    case FEED_SEALED: {
        uint8_t wire[1024];
        feed(board, wire, make_frame(wire, payload, make_sealed(payload, bytes, size)));
        break;
    }
    case FEED_BYTES:
        feed(board, bytes, size);
        break;
    case TELL:
        tell(board, bytes, size);
        break;
    case SAY_MODEL:
#if MICRORPC_MODELS
        make_model_call(&packet, choices, board);
        say_normal(board, payload, packet.data, packet.size);
#endif
        break;
    case NEST:
        nested = choices;
        break;
    default:
        board_lose_bytes(board);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* The clock goes on in steps of more than any min_repeat_ms: no function takes long, whatever its arguments are. */
    board_t *board = board_new(PACKET_BYTES, PACKET_BYTES + 100, 60, 2048, NONCE, 2200000000);
    uint8_t output[512];
    if (!board) abort();
    seq = 0;
    nested.left = 0;
    board_on_write(board, on_write);
    say(board, SAY_INIT, NULL, 0);
    while (size >= 2) {
        unsigned kind = data[0] % KINDS;
        size_t length = data[1];
        data += 2;
        size -= 2;
        if (length > size) length = size;
        say(board, kind, data, length);
        data += length;
        size -= length;
        while (board_take(board, output, sizeof output)) continue;
    }
    board_free(board);
    return 0;
}
