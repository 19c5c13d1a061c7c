/* Serves the functions of firmware/demo over the UART that the devicetree chose for the console. */
#include <zephyr/device.h>
#include <zephyr/drivers/uart.h>
#include <zephyr/kernel.h>
#include <zephyr/linker/section_tags.h>

#include "functions.h"
#include "microrpc.h"
#include "ring.h"

static const struct device *const uart = DEVICE_DT_GET(DT_CHOSEN(zephyr_console));

static ring_t ring;
K_SEM_DEFINE(arrived, 0, 1);

/* Goes on counting over a warm reset. */
static __noinit uint32_t boots;

static uint64_t memory[CONFIG_SAMPLE_MEMORY_BYTES / 8];

static void receive(const struct device *device, void *data) {
    ARG_UNUSED(data);
    while (uart_irq_update(device) && uart_irq_rx_ready(device)) {
        uint8_t bytes[16];
        int count = uart_fifo_read(device, bytes, sizeof(bytes));
        for (int i = 0; i < count; i++) {
            ring_put(&ring, bytes[i]);
        }
        if (count <= 0) {
            break;
        }
    }
    int errors = uart_err_check(device); /* negative where the driver cannot tell */
    if (errors > 0 && (errors & UART_ERROR_OVERRUN) != 0) {
        ring_lose(&ring);
    }
    k_sem_give(&arrived);
}

static void uart_write(void *port, const uint8_t *bytes, size_t size) {
    ARG_UNUSED(port);
    for (size_t i = 0; i < size; i++) {
        uart_poll_out(uart, bytes[i]);
    }
}

static uint32_t now_us(void *port) {
    ARG_UNUSED(port);
    return (uint32_t)k_ticks_to_us_floor64((uint64_t)k_uptime_ticks());
}

static microrpc_t *device;

#if MICRORPC_PROGRESS
/* While a function runs. */
static size_t read_ring(void *port, uint8_t *bytes, size_t size) {
    ARG_UNUSED(port);
    if (ring_take_loss(&ring)) {
        microrpc_lost_bytes(device);
    }
    return ring_take(&ring, bytes, size);
}
#endif

int main(void) {
    static microrpc_config_t config;
#if MICRORPC_RELIABLE_EVENTS
    static uint8_t event_ring[1024];
#endif

    boots++;
    config = (microrpc_config_t){
        .write = uart_write,
        .now_us = now_us,
        .functions = board_functions,
        .function_count = board_function_count,
        .global_functions = board_global_functions,
        .global_function_count = board_global_function_count,
        .packet_bytes = CONFIG_SAMPLE_PACKET_BYTES,
        .ring_bytes = RING_WINDOW_BYTES,
        .nonce = (uint8_t)(boots + k_cycle_get_32()),
#if MICRORPC_DESCRIBE
        .board_name = CONFIG_BOARD,
        .firmware_name = board_firmware_name,
        .firmware_version = board_firmware_version,
#endif
#if MICRORPC_MODELS
        .models = board_models,
        .model_count = board_model_count,
#endif
#if MICRORPC_EVENTS
        .boot_id = boots ^ k_cycle_get_32() << 16,
#endif
#if MICRORPC_RELIABLE_EVENTS
        .event_ring = event_ring,
        .event_ring_bytes = sizeof(event_ring),
#endif
#if MICRORPC_PROGRESS
        .read = read_ring,
#endif
    };
    if (!device_is_ready(uart) || uart_irq_callback_user_data_set(uart, receive, NULL) < 0) {
        return 0;
    }
    device = microrpc_start(memory, sizeof(memory), &config);
    if (device == NULL) {
        return 0;
    }
    uart_irq_rx_enable(uart);
    for (;;) {
        uint8_t bytes[64];
        size_t count = ring_take(&ring, bytes, sizeof(bytes));
        if (count > 0) {
            microrpc_receive(device, bytes, count);
        }
        if (ring_take_loss(&ring)) {
            microrpc_lost_bytes(device);
        }
        if (ring_is_idle(&ring)) {
            k_sem_take(&arrived, K_FOREVER);
        }
    }
}
