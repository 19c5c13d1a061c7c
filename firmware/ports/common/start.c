#include "start.h"

#include "microrpc.h"

extern uint32_t data_start[], data_end[], data_load[], bss_start[], bss_end[];

#if MICRORPC_MEMORY
extern uint32_t stack_bottom[], stack_top[];

/* What is not used of the stack keeps this. */
#define PAINT 0xA5C3965Au
/* Of the stack, what start() may be using. */
#define UNPAINTED_BYTES 128u

/* A compiler is not to know that nothing of it is a variable. */
static void paint_stack(void) {
    volatile uint32_t *end = (volatile uint32_t *)__builtin_frame_address(0) - UNPAINTED_BYTES / 4;
    for (volatile uint32_t *at = stack_bottom; at < end; at++) {
        *at = PAINT;
    }
}

void start_measure_stack(void *port, uint32_t *size_bytes, uint32_t *most_used_bytes) {
    const volatile uint32_t *at = stack_bottom;
    (void)port;
    while (at < stack_top && *at == PAINT) {
        at++;
    }
    *size_bytes = (uint32_t)((uintptr_t)stack_top - (uintptr_t)stack_bottom);
    *most_used_bytes = (uint32_t)((uintptr_t)stack_top - (uintptr_t)at);
}
#endif

void start(void) {
#if MICRORPC_MEMORY
    paint_stack();
#endif
    const uint32_t *from = data_load;
    for (uint32_t *to = data_start; to < data_end; to++) {
        *to = *from++;
    }
    for (uint32_t *to = bss_start; to < bss_end; to++) {
        *to = 0;
    }
    main();
    start_again();
}
