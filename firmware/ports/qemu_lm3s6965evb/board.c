/* The Stellaris LM3S6965 evaluation board: Cortex-M3 at 50 MHz, PL011 UART 0. */
#include "cortex_m.h"
#include "port.h"
#include "systick.h"

const char port_name[] = "qemu_lm3s6965evb";

#define MHZ 50

#define SYSCTL_RIS (*(volatile uint32_t *)0x400FE050)
#define SYSCTL_RIS_PLL_LOCKED (1u << 6)
#define SYSCTL_RCC (*(volatile uint32_t *)0x400FE060)
#define SYSCTL_RCGC1 (*(volatile uint32_t *)0x400FE104)
#define SYSCTL_RCGC1_UART0 1u
#define SYSCTL_RCGC2 (*(volatile uint32_t *)0x400FE108)
#define SYSCTL_RCGC2_GPIOA 1u

/* The PLL's 200 MHz from the crystal of 8 MHz, divided by 4. */
#define RCC_BYPASS (1u << 11)
#define RCC_50_MHZ (3u << 23 | 1u << 22 | 0xEu << 6 | 1u)

#define GPIOA_AFSEL (*(volatile uint32_t *)0x40004420)
#define GPIOA_DEN (*(volatile uint32_t *)0x4000451C)
#define GPIOA_UART0 3u

typedef struct {
    volatile uint32_t dr, rsr, reserved[4], fr, reserved2, ilpr, ibrd, fbrd, lcrh, ctl, ifls, im, ris, mis, icr;
} uart_t;

#define UART ((uart_t *)0x4000C000)
#define UART_INTERRUPT 5

#define DR_OVERRUN (1u << 11)
#define FR_RX_EMPTY (1u << 4)
#define FR_TX_FULL (1u << 5)
#define LCRH_FIFO_8N1 0x70u
#define CTL_RX_TX_ON 0x301u
#define INTERRUPT_RX (1u << 4)
#define INTERRUPT_RX_TIMEOUT (1u << 6)
#define INTERRUPT_OVERRUN (1u << 10)
#define INTERRUPTS (INTERRUPT_RX | INTERRUPT_RX_TIMEOUT | INTERRUPT_OVERRUN)

static void receive(void) {
    /* Before the FIFO is emptied: what comes afterwards interrupts again. */
    UART->icr = INTERRUPTS;
    while (!(UART->fr & FR_RX_EMPTY)) {
        uint32_t data = UART->dr;
        if (data & DR_OVERRUN) {
            ring_lose(&port_ring);
        }
        ring_put(&port_ring, (uint8_t)data);
    }
}

CORTEX_M_VECTORS(44, [UART_INTERRUPT] = receive);

static void start_pll(void) {
    uint32_t rcc = RCC_50_MHZ | RCC_BYPASS;
    SYSCTL_RCC = rcc;
    while (!(SYSCTL_RIS & SYSCTL_RIS_PLL_LOCKED)) {
    }
    SYSCTL_RCC = rcc & ~RCC_BYPASS;
}

void port_start(void) {
    start_pll();
    systick_start(MHZ);
    SYSCTL_RCGC1 |= SYSCTL_RCGC1_UART0;
    SYSCTL_RCGC2 |= SYSCTL_RCGC2_GPIOA;
    (void)SYSCTL_RCGC2; /* a peripheral takes 3 cycles to get its clock */
    (void)SYSCTL_RCGC2;
    GPIOA_AFSEL |= GPIOA_UART0;
    GPIOA_DEN |= GPIOA_UART0;
    /* 50 MHz / (16 * 115200) = 27 + 8 / 64 */
    UART->ctl = 0;
    UART->ibrd = 27;
    UART->fbrd = 8;
    UART->lcrh = LCRH_FIFO_8N1;
    UART->ifls = 0; /* interrupt at 1/8 of the FIFO, which leaves the most time */
    UART->im = INTERRUPTS;
    UART->ctl = CTL_RX_TX_ON;
    cortex_m_enable(UART_INTERRUPT);
}

void port_write(void *port, const uint8_t *bytes, size_t size) {
    (void)port;
    for (size_t i = 0; i < size; i++) {
        while (UART->fr & FR_TX_FULL) {
        }
        UART->dr = bytes[i];
    }
}
