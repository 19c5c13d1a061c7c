#include "board.h"

#include <stdlib.h>
#include <string.h>

#include "functions.h"

struct board {
    microrpc_t *device;
    microrpc_config_t config;
    void *memory;
    void *event_ring;
    uint8_t *output;
    size_t output_bytes, output_room;
    uint8_t input[1024];
    size_t input_bytes, most_input_bytes;
    uint32_t now_us, step_us;
    void (*on_write)(board_t *board);
};

static void write_output(void *port, const uint8_t *bytes, size_t size) {
    board_t *board = port;
    while (board->output_room - board->output_bytes < size) {
        board->output_room = 2 * board->output_room + size;
        board->output = realloc(board->output, board->output_room);
    }
    memcpy(board->output + board->output_bytes, bytes, size);
    board->output_bytes += size;
    if (board->on_write) board->on_write(board);
}

void board_on_write(board_t *board, void (*on_write)(board_t *board)) { board->on_write = on_write; }

static uint32_t read_clock(void *port) {
    board_t *board = port;
    return board->now_us += board->step_us;
}

#if MICRORPC_PROGRESS
static size_t take_front(uint8_t *bytes, size_t room, uint8_t *from, size_t *size) {
    size_t taken = *size < room ? *size : room;
    if (!taken) return 0;
    memcpy(bytes, from, taken);
    *size -= taken;
    memmove(from, from + taken, *size);
    return taken;
}

static size_t read_input(void *port, uint8_t *bytes, size_t size) {
    board_t *board = port;
    return take_front(bytes, size < board->most_input_bytes ? size : board->most_input_bytes, board->input,
                      &board->input_bytes);
}
#endif

void board_feed(board_t *board, const uint8_t *bytes, size_t size, size_t most_bytes) {
    board->most_input_bytes = most_bytes;
    if (size > sizeof board->input - board->input_bytes) abort();
    if (size) memcpy(board->input + board->input_bytes, bytes, size);
    board->input_bytes += size;
}

size_t board_fed_bytes(const board_t *board) { return board->input_bytes; }

void board_free(board_t *board) {
    if (!board) return;
    free(board->event_ring);
    free(board->memory);
    free(board->output);
    free(board);
}

board_t *board_start(const microrpc_config_t *config, uint32_t heap_bytes, uint32_t step_us) {
    board_t *board = calloc(1, sizeof *board);
    size_t memory_bytes;
    board->config = *config;
    board->config.write = write_output;
    board->config.now_us = read_clock;
    board->config.port = board;
#if MICRORPC_PROGRESS
    board->config.read = read_input;
#endif
#if MICRORPC_RELIABLE_EVENTS
    if (config->event_ring_bytes) board->event_ring = malloc(config->event_ring_bytes);
    board->config.event_ring = board->event_ring;
#endif
    board->step_us = step_us;
    memory_bytes = microrpc_overhead_bytes(&board->config) + heap_bytes;
    board->memory = malloc(memory_bytes);
    board->device = microrpc_start(board->memory, memory_bytes, &board->config);
    if (board->device) return board;
    board_free(board);
    return NULL;
}

board_t *board_new(uint32_t packet_bytes, uint32_t ring_bytes, uint32_t reply_bytes, uint32_t heap_bytes, uint8_t nonce,
                   uint32_t step_us) {
    microrpc_config_t config = {
        .functions = board_functions,
        .function_count = board_function_count,
        .global_functions = board_global_functions,
        .global_function_count = board_global_function_count,
        .packet_bytes = packet_bytes,
        .ring_bytes = ring_bytes,
        .reply_bytes = reply_bytes,
        .nonce = nonce,
#if MICRORPC_DESCRIBE
        .board_name = "test",
        .firmware_name = board_firmware_name,
        .firmware_version = board_firmware_version,
#endif
#if MICRORPC_MODELS
        .models = board_models,
        .model_count = board_model_count,
#endif
#if MICRORPC_EVENTS
        .boot_id = nonce * UINT32_C(0x9E3779B9), /* as that of the simulator */
#endif
#if MICRORPC_RELIABLE_EVENTS
        .event_ring_bytes = 1024,
#endif
    };
    return board_start(&config, heap_bytes, step_us);
}

void board_receive(board_t *board, const uint8_t *bytes, size_t size) { microrpc_receive(board->device, bytes, size); }

void board_lose_bytes(board_t *board) { microrpc_lost_bytes(board->device); }

size_t board_take(board_t *board, uint8_t *bytes, size_t room) {
    size_t taken = board->output_bytes < room ? board->output_bytes : room;
    if (!taken) return 0;
    memcpy(bytes, board->output, taken);
    memmove(board->output, board->output + taken, board->output_bytes - taken);
    board->output_bytes -= taken;
    return taken;
}

microrpc_t *board_device(const board_t *board) { return board->device; }

uint64_t board_heap_address(const board_t *board) {
    return (uintptr_t)board->memory + microrpc_overhead_bytes(&board->config);
}

size_t board_overhead_bytes(const board_t *board) { return microrpc_overhead_bytes(&board->config); }

uint32_t board_time_us(const board_t *board) { return board->now_us; }

void board_wait(board_t *board, uint32_t us) { board->now_us += us; }
