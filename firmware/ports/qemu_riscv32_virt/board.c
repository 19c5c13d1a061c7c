/* QEMU's machine "virt" with one rv32imac hart in machine mode: NS16550 UART, PLIC, CLINT. */
#include "port.h"
#include "start.h"

const char port_name[] = "qemu_riscv32_virt";

#define UART ((volatile uint8_t *)0x10000000)
#define UART_SOURCE 10

#define UART_DATA 0 /* and the divisor's low byte */
#define UART_IER 1  /* and the divisor's high byte */
#define UART_FCR 2
#define UART_LCR 3
#define UART_MCR 4
#define UART_LSR 5

#define IER_RX_AND_LINE_STATUS 5
#define FCR_FIFO_RESET_AT_8 0x87 /* interrupt at 8 bytes, or when no more come */
#define LCR_8N1 3
#define LCR_DIVISOR 0x80
#define MCR_DTR_RTS_OUT2 0xB
#define LSR_DATA 1
#define LSR_OVERRUN 2
#define LSR_TX_EMPTY 0x20

#define PLIC_PRIORITY ((volatile uint32_t *)0x0C000000)
#define PLIC_ENABLE (*(volatile uint32_t *)0x0C002000)
#define PLIC_THRESHOLD (*(volatile uint32_t *)0x0C200000)
#define PLIC_CLAIM (*(volatile uint32_t *)0x0C200004)

#define MTIME ((volatile uint32_t *)0x0200BFF8)
#define MTIME_MHZ 10

/* The time of day in ns: reading the low word holds the high one. */
#define RTC_LOW (*(volatile uint32_t *)0x00101000)

#define TEST (*(volatile uint32_t *)0x00100000)
#define TEST_RESET 0x7777u

#define MSTATUS_MIE 8
#define MIE_MEIE (1u << 11)
#define MCAUSE_EXTERNAL 0x8000000Bu

void _start(void);

__attribute__((section(".start"), naked)) void _start(void) {
    __asm__("la sp, stack_top\n\tj start");
}

/* Close interrupts; give what restore_interrupts takes. A section that is closed already stays so. */
static uint32_t close_interrupts(void) {
    uint32_t status;
    __asm__ volatile("csrrc %0, mstatus, %1" : "=r"(status) : "i"(MSTATUS_MIE) : "memory");
    return status & MSTATUS_MIE;
}

static void restore_interrupts(uint32_t enabled) {
    __asm__ volatile("csrs mstatus, %0" ::"r"(enabled) : "memory");
}

/* Empty the FIFO into the ring. `status` is what LSR said before: reading it makes it forget an overrun. */
static void receive(uint8_t status) {
    uint8_t seen = status;
    while ((status = UART[UART_LSR]) & LSR_DATA) {
        seen |= status;
        ring_put(&port_ring, UART[UART_DATA]);
    }
    seen |= status;
    if (seen & LSR_OVERRUN) { /* the bytes were lost behind those in the FIFO */
        ring_lose(&port_ring);
    }
}

__attribute__((interrupt("machine"), aligned(4))) static void trap(void) {
    uint32_t cause;
    __asm__ volatile("csrr %0, mcause" : "=r"(cause));
    if (cause != MCAUSE_EXTERNAL) {
        start_again();
    }
    uint32_t source = PLIC_CLAIM;
    receive(0);
    PLIC_CLAIM = source;
}

void start_again(void) {
    TEST = TEST_RESET;
    for (;;) {
    }
}

void port_start(void) {
    __asm__ volatile("csrw mtvec, %0" ::"r"(trap));
    UART[UART_IER] = 0;
    UART[UART_LCR] = LCR_DIVISOR;
    UART[UART_DATA] = 2; /* 3.6864 MHz / (16 * 2) = 115200 */
    UART[UART_IER] = 0;
    UART[UART_LCR] = LCR_8N1;
    receive(0); /* the reset of the FIFO would lose what came before it */
    UART[UART_FCR] = FCR_FIFO_RESET_AT_8;
    UART[UART_MCR] = MCR_DTR_RTS_OUT2;
    UART[UART_IER] = IER_RX_AND_LINE_STATUS;
    PLIC_PRIORITY[UART_SOURCE] = 1;
    PLIC_ENABLE = 1u << UART_SOURCE;
    PLIC_THRESHOLD = 0;
    __asm__ volatile("csrs mie, %0" ::"r"(MIE_MEIE));
    restore_interrupts(MSTATUS_MIE);
}

void port_write(void *port, const uint8_t *bytes, size_t size) {
    (void)port;
    for (size_t i = 0; i < size; i++) {
        uint8_t status;
        do {
            status = UART[UART_LSR];
            if (status & LSR_OVERRUN) {
                uint32_t enabled = close_interrupts();
                receive(status);
                restore_interrupts(enabled);
            }
        } while (!(status & LSR_TX_EMPTY));
        UART[UART_DATA] = bytes[i];
    }
}

uint32_t port_now_us(void *port) {
    (void)port;
    uint32_t high, low;
    do {
        high = MTIME[1];
        low = MTIME[0];
    } while (high != MTIME[1]);
    return (uint32_t)(((uint64_t)high << 32 | low) / MTIME_MHZ);
}

uint32_t port_noise(void) {
    return RTC_LOW;
}

void port_sleep(void) {
    /* A pending interrupt ends wfi even while they are closed: none can slip in between the question and the sleep. */
    uint32_t enabled = close_interrupts();
    if (ring_is_idle(&port_ring)) {
        __asm__ volatile("wfi" ::: "memory");
    }
    restore_interrupts(enabled);
}
