/* What a fuzzer (libFuzzer) feeds the board: a list of things to say. Each is a byte that tells what it is, a length,
 * and that many bytes, which are put into as much of a proper envelope as that kind has: so the fuzzer need not guess
 * checksums to get at what is behind them. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

typedef struct board board_t;
board_t *board_new(uint32_t packet_bytes, uint32_t ring_bytes, uint32_t reply_bytes, uint32_t heap_bytes, uint8_t nonce,
                   uint32_t step_us);
void board_free(board_t *board);
void board_receive(board_t *board, const uint8_t *bytes, size_t size);
void board_lose_bytes(board_t *board);
uint64_t board_heap_address(const board_t *board);
size_t board_take(board_t *board, uint8_t *bytes, size_t room);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PACKET_BYTES 256u
#define NONCE 1u
#define HOST_NONCE 7u

static uint16_t crc16(const uint8_t *bytes, size_t size) {
    uint32_t crc = 0xFFFF;
    while (size--) {
        crc ^= (uint32_t)*bytes++ << 8;
        for (int bit = 0; bit < 8; bit++) crc = (crc << 1 ^ (crc & 0x8000 ? 0x1021u : 0)) & 0xFFFF;
    }
    return (uint16_t)crc;
}

static size_t escape(uint8_t *to, const uint8_t *from, size_t size) {
    size_t used = 0;
    for (size_t i = 0; i < size; i++) {
        to[used++] = from[i];
        if (from[i] == 0xFF) to[used++] = 0xFF;
    }
    return used;
}

static void say_frame(board_t *board, const uint8_t *payload, size_t size) {
    uint8_t wire[1024] = {0xFF, 0xFD}, number[4];
    size_t used = 2;
    mrpc_put(number, 4, size);
    used += escape(wire + used, number, 4);
    used += escape(wire + used, payload, size);
    mrpc_put(number, 2, crc16(wire, used));
    used += escape(wire + used, number, 2);
    board_receive(board, wire, used);
}

enum { SAY_BYTES, SAY_FRAME, SAY_PACKET, SAY_PACKETS, SAY_LINK, SAY_COPY, LOSE_BYTES, SAY_INIT, KINDS };

static uint16_t seq;

static void say(board_t *board, unsigned kind, const uint8_t *bytes, size_t size) {
    uint8_t payload[300];
    uint8_t nonce = (uint8_t)((NONCE << 5 | NONCE >> 5) + 1);
    mrpc_put(payload, 2, HOST_NONCE | (uint32_t)nonce << 8); /* of the first session, which is the one that lasts mostly */
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
    case SAY_PACKET:
        payload[2] = MESSAGE_NORMAL;
        mrpc_put(payload + 3, 8, size);
        memcpy(payload + 11, bytes, size);
        say_frame(board, payload, 11 + size);
        break;
    case SAY_PACKETS:
        payload[2] = MESSAGE_NORMAL;
        memcpy(payload + 3, bytes, size);
        say_frame(board, payload, 3 + size);
        break;
    case SAY_LINK:
    case SAY_COPY:
        payload[2] = MESSAGE_LINK_REQUEST;
        mrpc_put(payload + 3, 2, seq++);
        payload[5] = kind == SAY_LINK ? 0 : (uint8_t)(1 + size % 2);
        memcpy(payload + 6, bytes, size);
        /* Near the heap, or else hardly any copy would hit it. */
        if (kind == SAY_COPY && size >= 8) mrpc_put(payload + 6, 8, board_heap_address(board) + bytes[0]);
        mrpc_put(payload + 6 + size, 4, mrpc_crc32(0, payload, 6 + size));
        say_frame(board, payload, 10 + size);
        break;
    default:
        board_lose_bytes(board);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* The clock goes on in large steps: no function takes long, whatever its arguments are. */
    board_t *board = board_new(PACKET_BYTES, 356, 32, 2048, NONCE, 100000000);
    uint8_t output[512];
    if (!board) abort();
    seq = 0;
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
