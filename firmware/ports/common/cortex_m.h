/* What all Cortex-M boards share: from the reset to main(), the vector table, interrupts and the sleep. A clock is
 * brought by systick.c, or by a board that has no SysTick. */
#ifndef CORTEX_M_H
#define CORTEX_M_H

#include <stdbool.h>
#include <stdint.h>

typedef void (*cortex_m_handler_t)(void);

/* The vector table of a chip with `count` interrupts, once in each board.c: the handlers by the numbers of their
 * interrupts, as CORTEX_M_VECTORS(82, [37] = receive). What is not listed resets the board. */
#define CORTEX_M_VECTORS(count, ...)                                                                              \
    __attribute__((section(".start"), used)) static const struct {                                                \
        uint32_t *stack;                                                                                          \
        cortex_m_handler_t exceptions[15], interrupts[count];                                                     \
    } cortex_m_vectors = {stack_top,                                                                              \
                          {_start, cortex_m_fault, cortex_m_fault, cortex_m_fault, cortex_m_fault, cortex_m_fault, \
                           cortex_m_fault, cortex_m_fault, cortex_m_fault, cortex_m_fault, cortex_m_fault,         \
                           cortex_m_fault, cortex_m_fault, cortex_m_fault, cortex_m_systick},                      \
                          {__VA_ARGS__}}

extern uint32_t stack_top[];
void _start(void);
void cortex_m_fault(void);

/* The interrupt of SysTick: systick.c has it, where it is built. */
void cortex_m_systick(void);

/* Let interrupt `number` come. */
void cortex_m_enable(uint32_t number);

/* Close interrupts; give what cortex_m_restore takes. A section that is closed already stays so. */
static inline uint32_t cortex_m_close(void) {
    uint32_t primask;
    __asm__ volatile("mrs %0, primask\n\tcpsid i" : "=r"(primask)::"memory");
    return primask;
}

static inline void cortex_m_restore(uint32_t primask) {
    __asm__ volatile("msr primask, %0" ::"r"(primask) : "memory");
}

/* Whether another interrupt can come now: they are not closed, and this is not within one. */
static inline bool cortex_m_is_open(void) {
    uint32_t primask, exception;
    __asm__ volatile("mrs %0, primask\n\tmrs %1, ipsr" : "=&r"(primask), "=r"(exception)::"memory");
    return primask == 0 && exception == 0;
}

#endif
