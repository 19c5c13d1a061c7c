/* A whole board in memory, for tests and fuzzers: bytes in, bytes out, and a clock that stands still until it is
 * read. */
#ifndef MICRORPC_TEST_BOARD_H
#define MICRORPC_TEST_BOARD_H

#include "microrpc.h"

typedef struct board board_t;

/* A board with the demonstration functions and a heap of `heap_bytes`, whose clock goes on by `step_us` whenever it is
 * read; NULL if it cannot be. */
board_t *board_new(uint32_t packet_bytes, uint32_t ring_bytes, uint32_t reply_bytes, uint32_t heap_bytes, uint8_t nonce,
                   uint32_t step_us);
/* The same of any configuration; what the port brings is the board's own, and so is the event ring, of the size that is
 * asked for. */
board_t *board_start(const microrpc_config_t *config, uint32_t heap_bytes, uint32_t step_us);
void board_free(board_t *board);

void board_receive(board_t *board, const uint8_t *bytes, size_t size);
void board_lose_bytes(board_t *board);
/* Bytes for a function that reads while it runs: at most so many each time. */
void board_feed(board_t *board, const uint8_t *bytes, size_t size, size_t most_bytes);
/* How many of them are left. */
size_t board_fed_bytes(const board_t *board);
/* Have this called whenever the library has written, before that ends; NULL: nothing. */
void board_on_write(board_t *board, void (*on_write)(board_t *board));
/* Take up to `room` bytes of the output; give how many. */
size_t board_take(board_t *board, uint8_t *bytes, size_t room);

microrpc_t *board_device(const board_t *board);
uint64_t board_heap_address(const board_t *board);
size_t board_overhead_bytes(const board_t *board);
/* What its clock shows; to look does not make it go on. */
uint32_t board_time_us(const board_t *board);
/* Let its clock go on. */
void board_wait(board_t *board, uint32_t us);

#endif
