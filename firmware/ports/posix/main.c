/* A board that is a process, on a pseudo terminal: serves the functions of firmware/demo. */
#define _DEFAULT_SOURCE /* cfmakeraw */
#define _XOPEN_SOURCE 700

#include "functions.h"
#include "microrpc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

/* What the device says while it handles one piece of input goes out in one write. */
typedef struct {
    int terminal;
    size_t waiting;
    uint8_t bytes[65536];
} port_t;

typedef struct {
    const char *name;
    unsigned long value, least, most;
} option_t;

enum {
    OPTION_PACKET,
    OPTION_RING,
    OPTION_REPLY,
    OPTION_HEAP,
    OPTION_EVENT_RING,
    OPTION_HOST_TIMEOUT,
    OPTION_NONCE,
    OPTIONS
};

/* What the options are by default. */
#ifndef PACKET_BYTES
#define PACKET_BYTES 2048
#elif PACKET_BYTES < 128 || PACKET_BYTES > 0xFFFFFF
#error "PACKET_BYTES must be a number from 128 to 16777215"
#endif
#ifndef RING_BYTES
#define RING_BYTES 16384
#elif RING_BYTES < 1 || RING_BYTES > 0xFFFFFF
#error "RING_BYTES must be a number from 1 to 16777215"
#endif
#ifndef HEAP_BYTES
#define HEAP_BYTES 4194304
#elif HEAP_BYTES < 64 || HEAP_BYTES > 0x7FFFFFFF
#error "HEAP_BYTES must be a number from 64 to 2147483647"
#endif
#ifndef EVENT_RING_BYTES
#define EVENT_RING_BYTES 1024
#elif EVENT_RING_BYTES < 1 || EVENT_RING_BYTES > 0xFFFFFF
#error "EVENT_RING_BYTES must be a number from 1 to 16777215"
#endif

static option_t options[OPTIONS] = {
    [OPTION_PACKET] = {"--packet-bytes", PACKET_BYTES, 128, 0xFFFFFF},
    [OPTION_RING] = {"--ring-bytes", RING_BYTES, 0, 0xFFFFFF},
    [OPTION_REPLY] = {"--reply-bytes", 64, 1, 0xFFFFFF},
    [OPTION_HEAP] = {"--heap-bytes", HEAP_BYTES, 64, 0x7FFFFFFF},
    [OPTION_EVENT_RING] = {"--event-ring-bytes", EVENT_RING_BYTES, 1, 0xFFFFFF},
    [OPTION_HOST_TIMEOUT] = {"--host-timeout-ms", 0, 0, 0xFFFF},
    [OPTION_NONCE] = {"--nonce", 0, 0, 255},
};

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
    va_list values;
    va_start(values, format);
    fputs("error: ", stderr);
    vfprintf(stderr, format, values);
    fputs("\n", stderr);
    va_end(values);
    exit(2);
}

static void stop(int number) {
    (void)number;
    _exit(0);
}

static uint32_t now_us(void *port) {
    struct timespec now;
    (void)port;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)((uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u);
}

static void flush(port_t *port) {
    size_t sent = 0;
    while (sent < port->waiting) {
        ssize_t count = write(port->terminal, port->bytes + sent, port->waiting - sent);
        if (count < 0 && errno != EINTR) {
            fail("the terminal takes nothing: %s", strerror(errno));
        }
        sent += count < 0 ? 0 : (size_t)count;
    }
    port->waiting = 0;
}

static void port_write(void *context, const uint8_t *bytes, size_t size) {
    port_t *port = context;
    while (size > 0) {
        size_t room = sizeof port->bytes - port->waiting;
        size_t count = size < room ? size : room;
        memcpy(port->bytes + port->waiting, bytes, count);
        port->waiting += count;
        bytes += count;
        size -= count;
        if (port->waiting == sizeof port->bytes) {
            flush(port);
        }
    }
}

#if MICRORPC_HOOKS
/* What a function logs is not to wait until it has returned. */
static void port_flush(void *context) {
    flush(context);
}
#endif

/* Whether there is something to read within so many milliseconds, -1 for whenever that is. */
static bool can_read(const port_t *port, int timeout_ms) {
    struct pollfd terminal = {.fd = port->terminal, .events = POLLIN};
    return poll(&terminal, 1, timeout_ms) > 0;
}

static size_t read_terminal(const port_t *port, uint8_t *bytes, size_t size) {
    ssize_t count = read(port->terminal, bytes, size);
    if (count < 0 && errno != EINTR) {
        fail("the terminal gives nothing: %s", strerror(errno));
    }
    return count < 0 ? 0 : (size_t)count;
}

#if MICRORPC_PROGRESS
/* While a function runs. */
static size_t port_read(void *context, uint8_t *bytes, size_t size) {
    port_t *port = context;
    flush(port);
    return can_read(port, 0) ? read_terminal(port, bytes, size) : 0;
}
#endif

#if MICRORPC_HOOKS && MICRORPC_LINK
static void on_session(void *port, bool begins) {
    (void)port;
    fputs(begins ? "the host is there\n" : "the host is gone\n", stderr);
}
#endif

/* Give the master of a new pseudo terminal. The slave stays open: the master could not be read without. */
static int open_terminal(void) {
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    if (terminal < 0 || grantpt(terminal) < 0 || unlockpt(terminal) < 0) {
        fail("no pseudo terminal can be opened: %s", strerror(errno));
    }
    const char *path = ptsname(terminal);
    int slave = path == NULL ? -1 : open(path, O_RDWR | O_NOCTTY);
    struct termios settings;
    if (slave < 0 || tcgetattr(slave, &settings) < 0) {
        fail("the pseudo terminal cannot be opened: %s", strerror(errno));
    }
    cfmakeraw(&settings);
    if (tcsetattr(slave, TCSANOW, &settings) < 0) {
        fail("the pseudo terminal cannot be made raw: %s", strerror(errno));
    }
    printf("port: %s\n", path);
    fflush(stdout);
    /* Whoever started it may have read this line and closed the pipe: what functions print goes elsewhere. */
    (void)dup2(STDERR_FILENO, STDOUT_FILENO);
    return terminal;
}

static void read_options(int count, char **words) {
    options[OPTION_NONCE].value = now_us(NULL) & 0xFF;
    for (int i = 1; i < count; i += 2) {
        option_t *option = options;
        while (option < options + OPTIONS && strcmp(words[i], option->name) != 0) {
            option++;
        }
        if (option == options + OPTIONS) {
            fail("unknown option %s (there are --packet-bytes, --ring-bytes, --reply-bytes, --heap-bytes,"
                 " --event-ring-bytes, --host-timeout-ms, --nonce)",
                 words[i]);
        }
        if (i + 1 == count) {
            fail("%s needs a number", words[i]);
        }
        const char *word = words[i + 1];
        char *end;
        errno = 0;
        option->value = strtoul(word, &end, 10);
        if (word[0] < '0' || word[0] > '9' || *end != '\0' || errno != 0 || option->value < option->least ||
            option->value > option->most) {
            fail("%s must be a number from %lu to %lu, not %s", option->name, option->least, option->most, word);
        }
    }
}

/* Where functions.c has none. */
__attribute__((weak)) bool board_loop(microrpc_t *device, uint32_t now_us) {
    (void)device;
    (void)now_us;
    return false;
}

#if MICRORPC_MODELS
/* They need not be there; a definition here that goes behind another one is too much for GCC with -flto. */
__attribute__((weak)) extern const microrpc_model_t *const board_models[];
__attribute__((weak)) extern const size_t board_model_count;
#endif

int main(int count, char **words) {
    static port_t port;
    static microrpc_config_t config;

    read_options(count, words);
    config = (microrpc_config_t){
        .write = port_write,
        .now_us = now_us,
        .port = &port,
        .functions = board_functions,
        .function_count = board_function_count,
        .global_functions = board_global_functions,
        .global_function_count = board_global_function_count,
        .packet_bytes = (uint32_t)options[OPTION_PACKET].value,
        .ring_bytes = (uint32_t)options[OPTION_RING].value,
        .reply_bytes = (uint32_t)options[OPTION_REPLY].value,
        .nonce = (uint8_t)options[OPTION_NONCE].value,
#if MICRORPC_HOOKS
        .flush = port_flush,
#endif
#if MICRORPC_DESCRIBE
        .board_name = "posix",
        .firmware_name = board_firmware_name,
        .firmware_version = board_firmware_version,
#endif
#if MICRORPC_EVENTS
        .boot_id = now_us(NULL),
#endif
#if MICRORPC_RELIABLE_EVENTS
        .event_ring = malloc(options[OPTION_EVENT_RING].value),
        .event_ring_bytes = options[OPTION_EVENT_RING].value,
#endif
#if MICRORPC_PROGRESS
        .read = port_read,
#endif
#if MICRORPC_MODELS
        .models = board_models,
        .model_count = board_models == NULL ? 0 : board_model_count,
#endif
#if MICRORPC_HOOKS && MICRORPC_LINK
        .on_session = on_session,
        .host_timeout_ms = (uint16_t)options[OPTION_HOST_TIMEOUT].value,
#endif
    };
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    size_t memory_bytes = microrpc_overhead_bytes(&config) + options[OPTION_HEAP].value;
    void *memory = malloc(memory_bytes);
    if (memory == NULL) {
        fail("there is no memory of %zu bytes", memory_bytes);
    }
    port.terminal = open_terminal();
    microrpc_t *device = microrpc_start(memory, memory_bytes, &config);
    if (device == NULL) {
        fail("the device does not start with these numbers");
    }
    /* A host is noticed to be gone only while this goes round. */
    int timeout_ms = options[OPTION_HOST_TIMEOUT].value == 0 ? -1 : (int)options[OPTION_HOST_TIMEOUT].value / 8 + 1;
    for (;;) {
        uint8_t bytes[4096];
        bool is_awake = board_loop(device, now_us(NULL));
        flush(&port);
        bool has_input = can_read(&port, is_awake ? 1 : timeout_ms);
        microrpc_receive(device, bytes, has_input ? read_terminal(&port, bytes, sizeof bytes) : 0);
    }
}
