/* Serves functions over a UART: the one that the devicetree chose as microrpc,uart, else that of the console. */
#include <zephyr/device.h>
#include <zephyr/drivers/uart.h>
#include <zephyr/kernel.h>
#include <zephyr/linker/section_tags.h>

#include "clock.h"
#include "functions.h"
#include "microrpc.h"
#include "ring.h"

#if DT_HAS_CHOSEN(microrpc_uart)
#define UART_NODE DT_CHOSEN(microrpc_uart)
#else
#define UART_NODE DT_CHOSEN(zephyr_console)
#endif

#define POLL_MS 1

static const struct device *const uart = DEVICE_DT_GET(UART_NODE);

static ring_t ring;
static board_clock_t uptime;

/* Goes on counting over a warm reset. */
static __noinit uint32_t boots;

/* What the device itself takes, generously. */
#define STATE_BYTES 1024
#define HAS_MEMORY (CONFIG_SAMPLE_MEMORY_BYTES >= CONFIG_SAMPLE_PACKET_BYTES + STATE_BYTES)
typedef char there_is_memory_for_the_largest_message[HAS_MEMORY ? 1 : -1];
static uint64_t memory[CONFIG_SAMPLE_MEMORY_BYTES / 8];
static microrpc_t *device;

/* Where functions.c has none. */
__attribute__((weak)) bool board_loop(microrpc_t *of, uint32_t now_us) {
    ARG_UNUSED(of);
    ARG_UNUSED(now_us);
    return false;
}

#if MICRORPC_MODELS
/* They need not be there; a definition here that goes behind another one is too much for GCC with -flto. */
__attribute__((weak)) extern const microrpc_model_t *const board_models[];
__attribute__((weak)) extern const size_t board_model_count;
#endif

static void note_errors(const struct device *from) {
    int errors = uart_err_check(from); /* negative where the driver cannot tell */
    if (errors > 0 && (errors & UART_ERROR_OVERRUN) != 0) {
        ring_lose(&ring);
    }
}

#if defined(CONFIG_UART_INTERRUPT_DRIVEN)
static K_SEM_DEFINE(arrived, 0, 1);

static void receive(const struct device *from, void *data) {
    ARG_UNUSED(data);
    while (uart_irq_update(from) && uart_irq_rx_ready(from)) {
        uint8_t bytes[16];
        int count = uart_fifo_read(from, bytes, sizeof(bytes));
        for (int i = 0; i < count; i++) {
            ring_put(&ring, bytes[i]);
        }
        if (count <= 0) {
            break;
        }
    }
    note_errors(from);
    k_sem_give(&arrived);
}

static bool begin(void) {
    if (uart_irq_callback_user_data_set(uart, receive, NULL) < 0) {
        return false;
    }
    uart_irq_rx_enable(uart);
    return true;
}

/* The interrupt does it. */
static void look(void) {}

static void wait_for_more(void) {
    k_sem_take(&arrived, K_FOREVER);
}
#else
/* Without interrupts, as on native_sim: what came is taken when it is asked for. */
static bool begin(void) {
    return true;
}

static void look(void) {
    uint8_t byte;
    while (ring.put - ring.taken < RING_BYTES && uart_poll_in(uart, &byte) == 0) {
        ring_put(&ring, byte);
    }
    note_errors(uart);
}

static void wait_for_more(void) {
    k_msleep(POLL_MS);
}
#endif

static void uart_write(void *port, const uint8_t *bytes, size_t size) {
    ARG_UNUSED(port);
    for (size_t i = 0; i < size; i++) {
        uart_poll_out(uart, bytes[i]);
    }
}

static uint32_t now_us(void *port) {
    ARG_UNUSED(port);
    return (uint32_t)clock_read_us(&uptime);
}

#if MICRORPC_HOOKS
/* While the time evaluator waits: other threads go on, and on native_sim, where time passes in sleep only, the time. */
static void idle(void *port) {
    ARG_UNUSED(port);
    k_msleep(POLL_MS);
}
#endif

static size_t take(uint8_t *bytes, size_t size) {
    look();
    if (ring_take_loss(&ring)) {
        microrpc_lost_bytes(device);
    }
    return ring_take(&ring, bytes, size);
}

#if MICRORPC_PROGRESS
/* While a function runs. */
static size_t read_ring(void *port, uint8_t *bytes, size_t size) {
    ARG_UNUSED(port);
    return take(bytes, size);
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
#if MICRORPC_HOOKS
        .idle = idle,
#endif
#if MICRORPC_DESCRIBE
        .board_name = CONFIG_BOARD,
        .firmware_name = board_firmware_name,
        .firmware_version = board_firmware_version,
#endif
#if MICRORPC_MODELS
        .models = board_models,
        .model_count = board_models == NULL ? 0 : board_model_count,
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
    if (!device_is_ready(uart)) {
        return 0;
    }
    device = microrpc_start(memory, sizeof(memory), &config);
    if (device == NULL || !begin()) {
        return 0;
    }
    for (;;) {
        uint8_t bytes[64];
        size_t count = take(bytes, sizeof(bytes));
        if (count > 0) {
            microrpc_receive(device, bytes, count);
        }
        if (!board_loop(device, now_us(NULL)) && ring_is_idle(&ring)) {
            wait_for_more();
        }
    }
}
