/* The fuzzer's board with a line: on an AVR its UART, elsewhere stdin and stdout. Its heap is at a fixed address, which is
 * the same modulo 2^30, so that both allocate alike. */
#ifndef __AVR__
#define _GNU_SOURCE /* mmap */
#endif

#include "functions.h"
#include "microrpc.h"

#define NONCE 1u /* these are the fuzzer's */
#define PACKET_BYTES 320u
#define REPLY_BYTES 60u
#define HEAP_BYTES 2048u
#define STEP_US 2200000000u

#ifdef __AVR__
#include <avr/io.h>

#define HEAP_ADDRESS 0x1400u

static void write_line(void *port, const uint8_t *bytes, size_t size) {
    (void)port;
    for (; size; bytes++, size--) {
        while (!(UCSR0A & 0x20)) continue;
        UDR0 = *bytes;
    }
}

static void open_line(void) { UCSR0B = 0x18; /* receive and send */ }

static bool read_line(uint8_t *byte) {
    while (!(UCSR0A & 0x80)) continue;
    *byte = UDR0;
    return true;
}
#else
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define HEAP_ADDRESS 0x40001400u

static void write_line(void *port, const uint8_t *bytes, size_t size) {
    (void)port;
    fwrite(bytes, 1, size, stdout);
}

static void open_line(void) {
    void *wanted = (void *)0x40000000;
    if (mmap(wanted, 0x4000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != wanted) abort();
}

static bool read_line(uint8_t *byte) {
    int got = getchar();
    *byte = (uint8_t)got;
    return got != EOF;
}
#endif

static uint32_t now_us(void *port) {
    static uint32_t us;
    (void)port;
    return us += STEP_US;
}

/* Nothing comes for a function that is running. */
static size_t read_nothing(void *port, uint8_t *bytes, size_t size) {
    (void)port, (void)bytes, (void)size;
    return 0;
}

int main(void) {
    static uint8_t event_ring[1024];
    static microrpc_config_t config;
    size_t overhead_bytes;
    microrpc_t *device;
    uint8_t byte;
    config.write = write_line;
    config.now_us = now_us;
    config.functions = board_functions;
    config.function_count = board_function_count;
    config.global_functions = board_global_functions;
    config.global_function_count = board_global_function_count;
    config.packet_bytes = PACKET_BYTES;
    config.ring_bytes = PACKET_BYTES + 100;
    config.reply_bytes = REPLY_BYTES;
    config.nonce = NONCE;
    config.board_name = "test";
    config.firmware_name = board_firmware_name;
    config.firmware_version = board_firmware_version;
    config.models = board_models;
    config.model_count = board_model_count;
    config.boot_id = NONCE * UINT32_C(0x9E3779B9);
    config.event_ring = event_ring;
    config.event_ring_bytes = sizeof event_ring;
    config.read = read_nothing;
    open_line();
    overhead_bytes = microrpc_overhead_bytes(&config);
    device = microrpc_start((void *)((uintptr_t)HEAP_ADDRESS - overhead_bytes), overhead_bytes + HEAP_BYTES, &config);
    while (device && read_line(&byte)) microrpc_receive(device, &byte, 1);
    return 0;
}
