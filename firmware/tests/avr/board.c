/* A board whose int and size_t have 16 bits: the core, a UART that is polled, and what no library brings here. */
#include <avr/io.h>

#include "microrpc_internal.h"

#define RECEIVED 0x80u
#define CAN_SEND 0x20u

static void write_line(void *port, const uint8_t *bytes, size_t size) {
    (void)port;
    for (; size; bytes++, size--) {
        while (!(UCSR0A & CAN_SEND)) continue;
        UDR0 = *bytes;
    }
}

/* 1 ms later whenever it is read. */
static uint32_t now_us(void *port) {
    static uint32_t us;
    (void)port;
    return us += 1000;
}

static void sum(microrpc_call_t *call) {
    microrpc_return_int(call, (int64_t)((uint64_t)microrpc_int(call, 0) + (uint64_t)microrpc_int(call, 1)));
}

static void real(microrpc_call_t *call) { microrpc_return_float(call, microrpc_float(call, 0)); }

static void echo(microrpc_call_t *call) {
    microrpc_bytes_t bytes = microrpc_bytes(call, 0);
    microrpc_return_bytes(call, bytes.data, bytes.size);
}

/* The size in bytes, the count of elements and the first extent, as this CPU can say them. */
static void measure(microrpc_call_t *call) {
    microrpc_tensor_t tensor = microrpc_tensor(call, 0);
    uint64_t sizes = tensor.size_bytes | (uint64_t)tensor.count << 16 | (uint64_t)microrpc_extent(&tensor, 0) << 32;
    microrpc_return_int(call, (int64_t)sizes);
}

static size_t read_line(void *port, uint8_t *bytes, size_t size) {
    (void)port;
    if (!size || !(UCSR0A & RECEIVED)) return 0;
    *bytes = UDR0;
    return 1;
}

/* Tell of an Int, plain and reliable, and of its eighth; give how many of the two were taken. */
static void tell(microrpc_call_t *call) {
    microrpc_value_t values[2] = {microrpc_value_int(microrpc_int(call, 0)),
                                  microrpc_value_float(microrpc_float(call, 0) / 8)};
    int taken = microrpc_event(microrpc_device(call), "plain", values, 2);
    taken += microrpc_event_reliable(microrpc_device(call), "kept", values, 2);
    microrpc_return_int(call, taken);
}

/* Wait to be cancelled, and say so once. */
static void wait(microrpc_call_t *call) {
    microrpc_progress(call, 0x12345678, 0x9ABCDEF0);
    while (!microrpc_is_cancelled(call)) continue;
    microrpc_fail(call, MICRORPC_CANCELLED);
}

/* What microrpc_overhead_bytes() says of a receive buffer, and whether a device can be begun with it. */
static void plan(microrpc_call_t *call) {
    static uint64_t memory[8] __attribute__((aligned(8)));
    microrpc_config_t config = {.write = write_line};
    config.packet_bytes = (uint32_t)microrpc_int(call, 0);
    if (microrpc_start(memory, sizeof memory, &config)) microrpc_fail(call, "it began");
    microrpc_return_int(call, (int64_t)microrpc_overhead_bytes(&config));
}

int main(void) {
    static const microrpc_function_t functions[] = {MICRORPC_FUNCTION(sum), MICRORPC_FUNCTION(echo),
                                                    MICRORPC_FUNCTION(measure), MICRORPC_FUNCTION(plan),
                                                    MICRORPC_FUNCTION(tell), MICRORPC_FUNCTION(wait),
                                                    MICRORPC_FUNCTION(real)};
    static uint8_t event_ring[64];
    static const microrpc_config_t config = {
        .write = write_line, .now_us = now_us, MICRORPC_FUNCTIONS(functions), .packet_bytes = 512, .nonce = 0x33,
        .event_ring = event_ring, .event_ring_bytes = sizeof event_ring, .read = read_line};
    static uint64_t memory[384] __attribute__((aligned(8)));
    microrpc_t *device;
    UCSR0B = 0x18; /* receive and send */
    device = microrpc_start(memory, sizeof memory, &config);
    for (;;) {
        uint8_t byte;
        if (!(UCSR0A & RECEIVED)) continue;
        byte = UDR0;
        microrpc_receive(device, &byte, 1);
    }
}
