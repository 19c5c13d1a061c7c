/* The program of all bare-metal boards: serve the functions of firmware/demo over the UART. */
#include "functions.h"
#include "microrpc.h"
#include "port.h"
#include "start.h"

#ifndef PACKET_BYTES
#define PACKET_BYTES 2048
#elif PACKET_BYTES < 128 || PACKET_BYTES > 0xFFFFFF
#error "PACKET_BYTES must be a number from 128 to 16777215"
#endif
#ifndef EVENT_RING_BYTES
#define EVENT_RING_BYTES 1024
#elif EVENT_RING_BYTES < 1 || EVENT_RING_BYTES > 0xFFFFFF
#error "EVENT_RING_BYTES must be a number from 1 to 16777215"
#endif

ring_t port_ring;

/* Neither zeroed nor loaded: it goes on counting over a reset, and begins with whatever the RAM has at power-up. */
static uint32_t boots __attribute__((section(".noinit")));

static microrpc_t *device;

/* Where functions.c has none. */
__attribute__((weak)) bool board_loop(microrpc_t *of, uint32_t now_us) {
    (void)of;
    (void)now_us;
    return false;
}

#if MICRORPC_MODELS
/* They need not be there; a definition here that goes behind another one is too much for GCC with -flto. */
__attribute__((weak)) extern const microrpc_model_t *const board_models[];
__attribute__((weak)) extern const size_t board_model_count;
#endif

#if MICRORPC_PROGRESS
/* While a function runs. */
static size_t read_ring(void *port, uint8_t *bytes, size_t size) {
    (void)port;
    if (ring_take_loss(&port_ring)) {
        microrpc_lost_bytes(device);
    }
    return ring_take(&port_ring, bytes, size);
}
#endif

int main(void) {
    static microrpc_config_t config;
#if MICRORPC_RELIABLE_EVENTS
    static uint8_t event_ring[EVENT_RING_BYTES];
#endif

    port_start();
    boots++;
    uint32_t noise = port_noise();
    noise ^= noise >> 16;
    config = (microrpc_config_t){
        .write = port_write,
        .now_us = port_now_us,
        .functions = board_functions,
        .function_count = board_function_count,
        .global_functions = board_global_functions,
        .global_function_count = board_global_function_count,
        .packet_bytes = PACKET_BYTES,
        .ring_bytes = RING_WINDOW_BYTES,
        .nonce = (uint8_t)(boots + (noise ^ noise >> 8)),
#if MICRORPC_MEMORY
        .stack = start_measure_stack,
#endif
#if MICRORPC_DESCRIBE
        .board_name = port_name,
        .firmware_name = board_firmware_name,
        .firmware_version = board_firmware_version,
#endif
#if MICRORPC_EVENTS
        .boot_id = boots ^ noise << 16,
#endif
#if MICRORPC_RELIABLE_EVENTS
        .event_ring = event_ring,
        .event_ring_bytes = sizeof event_ring,
#endif
#if MICRORPC_PROGRESS
        .read = read_ring,
#endif
#if MICRORPC_MODELS
        .models = board_models,
        .model_count = board_models == NULL ? 0 : board_model_count,
#endif
    };
    device = microrpc_start(port_memory, (size_t)((uintptr_t)port_memory_end - (uintptr_t)port_memory), &config);
    if (device == NULL) {
        start_again();
    }
    for (;;) {
        uint8_t bytes[64];
        size_t count = ring_take(&port_ring, bytes, sizeof bytes);
        if (count > 0) {
            microrpc_receive(device, bytes, count);
        }
        if (ring_take_loss(&port_ring)) {
            microrpc_lost_bytes(device);
        }
        if (!board_loop(device, port_now_us(NULL))) {
            port_sleep();
        }
    }
}
