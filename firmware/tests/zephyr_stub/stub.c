/* As much of Zephyr as the sample uses, on a computer: the UART is the standard input and output, and its interrupt a
 * thread. A tick takes 10 ms, as in QEMU, and the counter of cycles soon begins anew. */
#define _DEFAULT_SOURCE

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <zephyr/drivers/uart.h>
#include <zephyr/kernel.h>

#define CYCLES_PER_S 12000000
#define TICKS_PER_S 100
#define FIRST_CYCLES 0xFFF00000u /* 87 ms before it wraps */

const struct device stub_zephyr_console = {"console"}, stub_microrpc_uart = {"uart"};

#if DT_HAS_CHOSEN(microrpc_uart)
static const struct device *const uart = &stub_microrpc_uart;
#else
static const struct device *const uart = &stub_zephyr_console;
#endif

/* That it is the right one. */
static void check(const struct device *device) {
    if (device != uart) {
        exit(1);
    }
}

bool device_is_ready(const struct device *device) { return device == uart; }

static int available(void) {
    int count = 0;
    return ioctl(0, FIONREAD, &count) == 0 && count > 0;
}

/* SIGUSR1: a byte has just been lost. */
static volatile sig_atomic_t lost;

static void lose(int signal) {
    (void)signal;
    lost = 1;
}

__attribute__((constructor)) static void set_up(void) { signal(SIGUSR1, lose); }

#ifdef CONFIG_UART_INTERRUPT_DRIVEN
static uart_irq_callback_user_data_t callback;
static void *callback_data;

int uart_irq_callback_user_data_set(const struct device *device, uart_irq_callback_user_data_t function, void *data) {
    check(device);
    callback = function;
    callback_data = data;
    return 0;
}

static void *interrupt(void *unused) {
    struct pollfd input = {0, POLLIN, 0};
    do {
        if (poll(&input, 1, 5) > 0 || lost) {
            callback(uart, callback_data);
        }
    } while ((input.revents & ~POLLIN) == 0);
    exit(0);
    return unused;
}

void uart_irq_rx_enable(const struct device *device) {
    pthread_t thread;
    check(device);
    pthread_create(&thread, NULL, interrupt, NULL);
}

int uart_irq_update(const struct device *device) {
    check(device);
    return 1;
}

int uart_irq_rx_ready(const struct device *device) {
    check(device);
    return available();
}

int uart_fifo_read(const struct device *device, uint8_t *bytes, const int size) {
    check(device);
    return (int)read(0, bytes, (size_t)size);
}
#endif

int uart_poll_in(const struct device *device, unsigned char *byte) {
    check(device);
    return available() && read(0, byte, 1) == 1 ? 0 : -1;
}

int uart_err_check(const struct device *device) {
    int errors = lost ? UART_ERROR_OVERRUN | UART_ERROR_FRAMING : 0;
    check(device);
    lost = 0;
    return errors;
}

void uart_poll_out(const struct device *device, unsigned char byte) {
    check(device);
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

int32_t k_msleep(int32_t ms) {
    usleep((useconds_t)ms * 1000);
    return 0;
}

static uint64_t cycles_since_boot(void) {
    static struct timespec boot;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (boot.tv_sec == 0) {
        boot = now;
    }
    int64_t ns = (int64_t)(now.tv_sec - boot.tv_sec) * 1000000000 + (now.tv_nsec - boot.tv_nsec);
    return (uint64_t)ns * (CYCLES_PER_S / 1000000) / 1000;
}

int64_t k_uptime_ticks(void) { return (int64_t)(cycles_since_boot() * TICKS_PER_S / CYCLES_PER_S); }

uint64_t k_ticks_to_cyc_floor64(uint64_t ticks) { return ticks * (CYCLES_PER_S / TICKS_PER_S); }

uint32_t k_cycle_get_32(void) { return FIRST_CYCLES + (uint32_t)cycles_since_boot(); }

int sys_clock_hw_cycles_per_sec(void) { return CYCLES_PER_S; }
