/* An AVR board in simavr: its UART 0 is the standard input and output, byte for byte, in real time.
 *
 *     simavr atmega328p 16000000 FILE.elf
 *
 * It ends with its standard input, or when nobody takes what it says any more. */
#define _POSIX_C_SOURCE 200809L /* nanosleep */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <simavr/avr_uart.h>
#include <simavr/sim_avr.h>
#include <simavr/sim_elf.h>

#define SLICE_US 100u       /* what is simulated at once: bytes come and go between two of them */
#define IDLE_SLICE_US 1000u /* where nothing has come or gone for QUIET_US */
#define QUIET_US 20000u
#define MOST_BEHIND_NS 100000000 /* a computer that was busy for longer does not catch up */

typedef struct {
    avr_irq_t *input;
    bool may_send; /* UART 0 has room */
    uint8_t in[256], out[4096];
    size_t in_at, in_end, out_bytes;
    avr_cycle_count_t moved; /* when a byte came or went last */
} line_t;

static void fail(const char *what, const char *name) {
    fprintf(stderr, "simavr: %s %s\n", what, name);
    exit(1);
}

/* simavr itself would say it on the standard output, where the board's bytes are. */
static void tell(avr_t *avr, const int level, const char *format, va_list arguments) {
    (void)avr;
    if (level <= LOG_ERROR) vfprintf(stderr, format, arguments);
}

/* --- the UART ------------------------------------------------------------------------------------------------- */

static void on_output(avr_irq_t *irq, uint32_t value, void *param) {
    line_t *line = param;
    (void)irq;
    if (line->out_bytes < sizeof line->out) line->out[line->out_bytes++] = (uint8_t)value; /* a slice says less */
}

static void on_xon(avr_irq_t *irq, uint32_t value, void *param) {
    (void)irq;
    (void)value;
    ((line_t *)param)->may_send = true;
}

static void on_xoff(avr_irq_t *irq, uint32_t value, void *param) {
    (void)irq;
    (void)value;
    ((line_t *)param)->may_send = false;
}

static void connect_uart(avr_t *avr, line_t *line) {
    uint32_t flags = 0; /* no lines on the console, no sleep of its own */
    avr_ioctl(avr, AVR_IOCTL_UART_SET_FLAGS('0'), &flags);
    line->input = avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_INPUT);
    if (!line->input) fail("has no UART 0:", avr->mmcu);
    avr_irq_register_notify(line->input + UART_IRQ_OUTPUT, on_output, line);
    avr_irq_register_notify(line->input + UART_IRQ_OUT_XON, on_xon, line);
    avr_irq_register_notify(line->input + UART_IRQ_OUT_XOFF, on_xoff, line);
    line->may_send = true;
}

/* --- the standard streams -------------------------------------------------------------------------------------- */

static bool is_later(void) { return errno == EAGAIN || errno == EINTR; }

/* Hand on what the board has said; where that is not taken, its time stands still. */
static void flush_output(line_t *line) {
    struct pollfd fds[] = {{STDOUT_FILENO, POLLOUT, 0}, {STDIN_FILENO, 0, 0}};
    size_t done = 0;
    while (done < line->out_bytes) {
        ssize_t count = write(STDOUT_FILENO, line->out + done, line->out_bytes - done);
        if (count < 0 && !is_later()) exit(0);
        if (count > 0) done += (size_t)count;
        if (count < 0 && poll(fds, 2, -1) > 0 && (fds[1].revents & (POLLHUP | POLLERR))) exit(0);
    }
    line->out_bytes = 0;
}

static void take_input(line_t *line) {
    if (line->in_at == line->in_end) {
        ssize_t count = read(STDIN_FILENO, line->in, sizeof line->in);
        if (!count || (count < 0 && !is_later())) exit(0);
        line->in_at = 0;
        line->in_end = count > 0 ? (size_t)count : 0;
    }
    while (line->may_send && line->in_at < line->in_end) avr_raise_irq(line->input, line->in[line->in_at++]);
}

/* --- time ------------------------------------------------------------------------------------------------------ */

/* A CPU that sleeps lets its cycles pass; real time is waited for between slices. */
static void pass(avr_t *avr, avr_cycle_count_t cycles) {
    (void)avr;
    (void)cycles;
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Wait until `due_ns`; give how far past it is. */
static int64_t wait_until(int64_t due_ns) {
    int64_t left_ns = due_ns - now_ns();
    if (left_ns > 0) {
        struct timespec left = {(time_t)(left_ns / 1000000000), (long)(left_ns % 1000000000)};
        nanosleep(&left, NULL);
    }
    return -left_ns;
}

static void run(avr_t *avr, line_t *line) {
    avr_cycle_count_t per_us = avr->frequency / 1000000u;
    int64_t start_ns = now_ns();
    for (;;) {
        bool is_quiet = avr->cycle - line->moved > QUIET_US * per_us;
        avr_cycle_count_t end = avr->cycle + (is_quiet ? IDLE_SLICE_US : SLICE_US) * per_us;
        int64_t behind_ns;
        while (avr->cycle < end) {
            int state = avr_run(avr);
            if (state == cpu_Done || state == cpu_Crashed) fail("has stopped:", avr->mmcu);
        }
        if (line->out_bytes || line->in_at < line->in_end) line->moved = avr->cycle;
        flush_output(line);
        behind_ns = wait_until(start_ns + (int64_t)(avr->cycle * 1000 / per_us));
        if (behind_ns > MOST_BEHIND_NS) start_ns += behind_ns;
        take_input(line);
    }
}

static void set_nonblocking(int fd) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) fail("cannot be used:", "a standard stream");
}

int main(int argc, char **argv) {
    static line_t line;
    static elf_firmware_t firmware;
    unsigned long frequency;
    avr_t *avr;
    if (argc != 4 || (frequency = strtoul(argv[2], NULL, 10)) < 1000000) {
        fputs("usage: simavr MCU FREQUENCY FILE.elf, as atmega328p 16000000 (Hz, at least 1000000)\n", stderr);
        return 2;
    }
    avr_global_logger_set(tell);
    if (elf_read_firmware(argv[3], &firmware)) fail("cannot be read:", argv[3]);
    avr = avr_make_mcu_by_name(argv[1]);
    if (!avr) fail("does not know", argv[1]);
    avr_init(avr);
    firmware.frequency = (uint32_t)frequency;
    avr_load_firmware(avr, &firmware);
    avr->sleep = pass;
    connect_uart(avr, &line);
    set_nonblocking(STDIN_FILENO);
    set_nonblocking(STDOUT_FILENO);
    run(avr, &line);
}
