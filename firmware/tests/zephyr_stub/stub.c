/* As much of Zephyr as the sample uses, on a computer: the UART is the standard input and output, and its interrupt a
 * thread. */
#define _DEFAULT_SOURCE

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <zephyr/drivers/uart.h>
#include <zephyr/kernel.h>

const struct device stub_zephyr_console = {"console"};

static uart_irq_callback_user_data_t callback;
static void *callback_data;

bool device_is_ready(const struct device *device) { return device == &stub_zephyr_console; }

int uart_irq_callback_user_data_set(const struct device *device, uart_irq_callback_user_data_t function, void *data) {
    (void)device;
    callback = function;
    callback_data = data;
    return 0;
}

static void *interrupt(void *unused) {
    struct pollfd input = {0, POLLIN, 0};
    while (poll(&input, 1, -1) > 0 && (input.revents & POLLIN)) {
        callback(&stub_zephyr_console, callback_data);
    }
    exit(0);
    return unused;
}

void uart_irq_rx_enable(const struct device *device) {
    pthread_t thread;
    (void)device;
    pthread_create(&thread, NULL, interrupt, NULL);
}

int uart_irq_update(const struct device *device) {
    (void)device;
    return 1;
}

int uart_irq_rx_ready(const struct device *device) {
    int count = 0;
    (void)device;
    return ioctl(0, FIONREAD, &count) == 0 && count > 0;
}

int uart_fifo_read(const struct device *device, uint8_t *bytes, const int size) {
    (void)device;
    return (int)read(0, bytes, (size_t)size);
}

int uart_err_check(const struct device *device) {
    (void)device;
    return -88; /* ENOSYS */
}

void uart_poll_out(const struct device *device, unsigned char byte) {
    (void)device;
    if (write(1, &byte, 1) != 1) {
        exit(1);
    }
}

/* The limit of the sample's semaphore is 1. */
void k_sem_give(struct k_sem *semaphore) {
    int count;
    if (sem_getvalue(&semaphore->semaphore, &count) == 0 && count == 0) {
        sem_post(&semaphore->semaphore);
    }
}

int k_sem_take(struct k_sem *semaphore, k_timeout_t timeout) {
    (void)timeout;
    return sem_wait(&semaphore->semaphore);
}

int64_t k_uptime_ticks(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

uint64_t k_ticks_to_us_floor64(uint64_t ticks) { return ticks; }

uint32_t k_cycle_get_32(void) { return (uint32_t)k_uptime_ticks(); }
