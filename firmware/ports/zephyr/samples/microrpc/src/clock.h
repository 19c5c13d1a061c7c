/* The time in microseconds, as finely as the board's cycle counter has it, and over as many of its wraps as there are.
 *
 * The kernel's ticks may be as long as 10 ms, the cycle counter has 32 bits, which an STM32F7 counts in 20 s. So the ticks
 * say how often the counter went round since the last call, and the counter where it is. The two need not begin at the
 * same moment. How fast they go may differ a little: by less than half of a round from one call to the next.
 *
 * Not reentrant, and not for interrupts: only the thread that serves calls it. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <zephyr/kernel.h>

#define CLOCK_SECOND_US 1000000u

typedef struct {
    uint64_t us;
    uint64_t rest; /* of a microsecond: cycles, times CLOCK_SECOND_US */
    int64_t ticks;
    uint32_t cycles;
    bool is_running;
} board_clock_t;

/* The time since the first call. */
static inline uint64_t clock_read_us(board_clock_t *clock) {
    uint64_t hz = (uint32_t)sys_clock_hw_cycles_per_sec();
    int64_t ticks = k_uptime_ticks(); /* before the counter: then the counter is ahead, if anything */
    uint32_t cycles = k_cycle_get_32();
    if (!clock->is_running) {
        clock->is_running = true;
        clock->ticks = ticks;
        clock->cycles = cycles;
    }
    uint64_t passed = k_ticks_to_cyc_floor64((uint64_t)(ticks - clock->ticks));
    /* To the nearest number whose low half is how far the counter went. */
    uint32_t ahead = cycles - clock->cycles - (uint32_t)passed, behind = 0u - ahead;
    if (ahead < UINT32_C(0x80000000)) {
        passed += ahead;
    } else if (behind <= passed) {
        passed -= behind;
    } else {
        return clock->us; /* another core's counter, which is a little behind: time does not run backwards */
    }
    uint64_t part = passed % hz * CLOCK_SECOND_US + clock->rest;
    clock->us += passed / hz * CLOCK_SECOND_US + part / hz;
    clock->rest = part % hz;
    clock->ticks = ticks;
    clock->cycles = cycles;
    return clock->us;
}

#endif
