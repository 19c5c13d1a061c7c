/* What the fuzzer says of an input (stdin), as bytes (stdout), to a board whose heap is at the address that is the argument.
 * It ends with 3 where the input wants what a host on a line cannot do: bytes for a function that is running, a loss, or what
 * the firmware says of its own accord. */
#include "board.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct board {
    int nothing;
};

static board_t only;
static uint64_t heap_address;

board_t *board_new(uint32_t packet_bytes, uint32_t ring_bytes, uint32_t reply_bytes, uint32_t heap_bytes, uint8_t nonce,
                   uint32_t step_us) {
    (void)packet_bytes, (void)ring_bytes, (void)reply_bytes, (void)heap_bytes, (void)nonce, (void)step_us;
    return &only;
}

void board_free(board_t *board) { (void)board; }

void board_receive(board_t *board, const uint8_t *bytes, size_t size) {
    (void)board;
    fwrite(bytes, 1, size, stdout);
}

void board_lose_bytes(board_t *board) {
    (void)board;
    exit(3);
}

void board_feed(board_t *board, const uint8_t *bytes, size_t size, size_t most_bytes) {
    (void)board, (void)bytes, (void)size, (void)most_bytes;
    exit(3);
}

size_t board_fed_bytes(const board_t *board) {
    (void)board;
    return 0;
}

void board_on_write(board_t *board, void (*on_write)(board_t *board)) { (void)board, (void)on_write; }

size_t board_take(board_t *board, uint8_t *bytes, size_t room) {
    (void)board, (void)bytes, (void)room;
    return 0;
}

microrpc_t *board_device(const board_t *board) {
    (void)board;
    exit(3);
}

uint64_t board_heap_address(const board_t *board) {
    (void)board;
    return heap_address;
}

int main(int count, char **arguments) {
    static uint8_t input[1 << 16];
    if (count < 2) return 2;
    heap_address = strtoull(arguments[1], NULL, 0);
    LLVMFuzzerTestOneInput(input, fread(input, 1, sizeof input, stdin));
    return 0;
}
