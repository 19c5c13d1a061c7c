#include "systick.h"

#include "cortex_m.h"
#include "port.h"

#define SYST_CSR (*(volatile uint32_t *)0xE000E010)
#define SYST_RVR (*(volatile uint32_t *)0xE000E014)
#define SYST_CVR (*(volatile uint32_t *)0xE000E018)
#define CSR_CPU_CLOCK_INTERRUPT_ON 7u
#define ICSR (*(volatile uint32_t *)0xE000ED04)
#define ICSR_PENDSTSET (1u << 26)

/* Its full 24 bits: an interrupt in 0.3 s at 50 MHz, so the board can sleep in between. */
#define PERIOD 0x1000000u

static uint32_t clock_mhz;
static volatile uint32_t wraps;

void cortex_m_systick(void) {
    wraps++;
}

void systick_start(uint32_t mhz) {
    clock_mhz = mhz;
    SYST_RVR = PERIOD - 1;
    SYST_CVR = 0;
    SYST_CSR = CSR_CPU_CLOCK_INTERRUPT_ON;
    while (SYST_CVR == 0) { /* QEMU starts it when it finds the time: the noise */
    }
}

uint32_t port_noise(void) {
    return SYST_CVR;
}

uint32_t port_now_us(void *port) {
    (void)port;
    uint32_t primask = cortex_m_close();
    uint32_t periods = wraps, left, wrapped;
    do { /* QEMU wraps it when it finds the time, and keeps it at 1 until then */
        left = SYST_CVR;
        wrapped = ICSR & ICSR_PENDSTSET;
    } while (left <= 1 && !wrapped);
    if (wrapped) { /* since the interrupts were closed, before `left` or after */
        periods++;
        left = SYST_CVR;
    }
    cortex_m_restore(primask);
    /* It counts down, and wraps when it arrives at 0. */
    uint32_t ticks = left == 0 ? 0 : PERIOD - left;
    return (uint32_t)(((uint64_t)periods * PERIOD + ticks) / clock_mhz);
}
