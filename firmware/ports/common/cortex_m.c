#include "cortex_m.h"

#include "port.h"
#include "start.h"

#define SYST_CSR (*(volatile uint32_t *)0xE000E010)
#define SYST_RVR (*(volatile uint32_t *)0xE000E014)
#define SYST_CVR (*(volatile uint32_t *)0xE000E018)
#define NVIC_ISER (*(volatile uint32_t *)0xE000E100)
#define ICSR (*(volatile uint32_t *)0xE000ED04)
#define ICSR_PENDSTSET (1u << 26)
#define AIRCR (*(volatile uint32_t *)0xE000ED0C)
#define AIRCR_RESET 0x05FA0004u

/* The clock is SysTick over its full 24 bits: an interrupt in 0.3 s at 50 MHz, so the board can sleep in between. */
#define SYSTICK_PERIOD 0x1000000u

extern uint32_t stack_top[];
void _start(void);

static uint32_t clock_mhz;
static volatile uint32_t clock_wraps;

static void fault(void) {
    start_again();
}

static void systick(void) {
    clock_wraps++;
}

typedef union {
    void (*handler)(void);
    void *stack;
} vector_t;

#define I4 {port_interrupt}, {port_interrupt}, {port_interrupt}, {port_interrupt}

__attribute__((section(".start"), used)) static const vector_t vectors[] = {
    {.stack = stack_top}, {_start}, {fault}, {fault}, {fault}, {fault}, {fault}, {fault}, {fault}, {fault}, {fault},
    {fault}, {fault}, {fault}, {fault}, {systick}, I4, I4, I4, I4};

void _start(void) {
    start();
}

void start_again(void) {
    __asm__ volatile("dsb" ::: "memory");
    AIRCR = AIRCR_RESET;
    for (;;) {
    }
}

void cortex_m_start(uint32_t mhz) {
    clock_mhz = mhz;
    SYST_RVR = SYSTICK_PERIOD - 1;
    SYST_CVR = 0;
    SYST_CSR = 7;
    while (SYST_CVR == 0) { /* QEMU starts it when it finds the time: the noise */
    }
}

void cortex_m_enable(uint32_t number) {
    NVIC_ISER = 1u << number;
}

uint32_t port_noise(void) {
    return SYST_CVR;
}

uint32_t port_now_us(void *port) {
    (void)port;
    __asm__ volatile("cpsid i" ::: "memory");
    uint32_t wraps = clock_wraps;
    uint32_t left = SYST_CVR;
    if (ICSR & ICSR_PENDSTSET) { /* it has wrapped since the interrupts were closed, before `left` or after */
        wraps++;
        left = SYST_CVR;
    }
    __asm__ volatile("cpsie i" ::: "memory");
    /* It counts down, and wraps when it arrives at 0. */
    uint32_t ticks = left == 0 ? 0 : SYSTICK_PERIOD - left;
    return (uint32_t)(((uint64_t)wraps * SYSTICK_PERIOD + ticks) / clock_mhz);
}

void port_sleep(void) {
    /* A pending interrupt ends wfi even while they are closed: none can slip in between the question and the sleep. */
    __asm__ volatile("cpsid i" ::: "memory");
    if (ring_is_idle(&port_ring)) {
        __asm__ volatile("wfi" ::: "memory");
    }
    __asm__ volatile("cpsie i" ::: "memory");
}
