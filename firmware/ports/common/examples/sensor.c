/* A sensor that reports: a functions.c for any board that has one. Each value that differs enough from the last one is
 * told as an event, and nobody has to ask:
 *
 *     import microrpc
 *     board = microrpc.connect("/dev/ttyACM0")
 *     for event in board.events("sample"):
 *         if not event.is_gap:
 *             print(event.time_us, *event.values)
 */
#include "functions.h"

#define PERIOD_US 100000u

static int64_t threshold = 20;

/* In the place of what reads your sensor. */
static int64_t read_millivolts(uint32_t now_us) { return now_us / 1000000 % 10 * 100; }

static void set_threshold(microrpc_call_t *call) {
    int64_t wanted = microrpc_int(call, 0);
    if (!microrpc_has_failed(call)) threshold = wanted;
}

bool board_loop(microrpc_t *device, uint32_t now_us) {
    static uint32_t read_us;
    static int64_t last;
    if (now_us - read_us >= PERIOD_US) {
        int64_t value = read_millivolts(now_us);
        read_us = now_us;
        if (value - last >= threshold || last - value >= threshold) {
            last = value;
#if MICRORPC_EVENTS
            /* Without a host that listens it is not sent, and a host that comes later knows that it has missed it. */
            microrpc_value_t values[] = {microrpc_value_int(value), microrpc_value_text("A0")};
            microrpc_event(device, "sample", values, sizeof values / sizeof values[0]);
#else
            (void)device;
#endif
        }
    }
    return true; /* again soon: a board that sleeps sees no sensor */
}

const microrpc_function_t board_functions[] = {
    MICRORPC_FUNCTION_DOC(set_threshold, "millivolts: int [mV] -> None", "Report what differs by so much."),
};
const size_t board_function_count = sizeof board_functions / sizeof board_functions[0];

const microrpc_function_t board_global_functions[] = {MICRORPC_FUNCTION(set_threshold)};
const size_t board_global_function_count = 0;

const char board_firmware_name[] = "sensor";
const char board_firmware_version[] = "1.0";
