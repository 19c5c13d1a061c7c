#include "cortex_m.h"

#include "port.h"
#include "start.h"

#define NVIC_ISER ((volatile uint32_t *)0xE000E100)
#define AIRCR (*(volatile uint32_t *)0xE000ED0C)
#define AIRCR_RESET 0x05FA0004u
#define VTOR (*(volatile uint32_t *)0xE000ED08)
#define CPACR (*(volatile uint32_t *)0xE000ED88)
#define CPACR_FPU (0xFu << 20)

/* The linker script's: the vectors are the first of it. */
extern uint32_t text_start[];

/* The FPU is off after a reset, and its first instruction a fault. An interrupt puts its registers on the stack only
 * when its handler uses them (the reset value of FPCCR): those of the ports do not, but room for them is left there. */
static void start_fpu(void) {
#ifdef __ARM_FP /* what the compiler was told that the CPU has */
    CPACR |= CPACR_FPU;
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
}

/* After a reset they are at 0, where a chip has the beginning of its flash; but where a boot loader is what has started
 * this program, they and what lies at 0 are still its own. A Cortex-M0 cannot have them elsewhere. */
static void use_vectors(void) {
#if __ARM_ARCH >= 7
    VTOR = (uint32_t)(uintptr_t)text_start;
    __asm__ volatile("dsb" ::: "memory");
#endif
}

void _start(void) {
    use_vectors();
    start_fpu();
    start();
}

void start_again(void) {
    __asm__ volatile("dsb" ::: "memory");
    AIRCR = AIRCR_RESET;
    for (;;) {
    }
}

void cortex_m_fault(void) {
    start_again();
}

__attribute__((weak)) void cortex_m_systick(void) {
    start_again();
}

void cortex_m_enable(uint32_t number) {
    NVIC_ISER[number / 32] = 1u << number % 32;
}

void port_sleep(void) {
    /* A pending interrupt ends wfi even while they are closed: none can slip in between the question and the sleep. */
    uint32_t primask = cortex_m_close();
    if (ring_is_idle(&port_ring)) {
        __asm__ volatile("dsb\n\twfi" ::: "memory");
    }
    cortex_m_restore(primask);
}
