#include "microrpc.h"

#if MICRORPC_MEMORY && defined __AVR__

#include <avr/io.h>

#include "microrpc_avr_stack.h"

extern uint8_t __heap_start; /* of the linker: the first byte behind the variables */

#define PAINT 0xC5

/* Before there is anything on the stack: paint it. */
__attribute__((__naked__, __used__, __section__(".init3"))) static void paint(void) {
    __asm__ volatile("ldi r30, lo8(__heap_start)\n\t"
                     "ldi r31, hi8(__heap_start)\n\t"
                     "ldi r24, %0\n\t"
                     "ldi r25, hi8(%1)\n"
                     "1: st Z+, r24\n\t"
                     "cpi r30, lo8(%1)\n\t"
                     "cpc r31, r25\n\t"
                     "brne 1b"
                     :
                     : "n"(PAINT), "n"(RAMEND + 1));
}

void microrpc_avr_stack(void *port, uint32_t *size_bytes, uint32_t *most_used_bytes) {
    const uint8_t *at = &__heap_start;
    uint16_t end = RAMEND + 1;
    (void)port;
    *size_bytes = end - (uint16_t)(uintptr_t)at;
    while ((uint16_t)(uintptr_t)at < end && *at == PAINT) at++;
    *most_used_bytes = end - (uint16_t)(uintptr_t)at;
}

#endif
