/* UART0 on GP0 (from the board) and GP1 (to it), 115,200 baud: a PL011 (4.2). */
#include "cortex_m.h"
#include "port.h"
#include "rp2040.h"

const char port_name[] = "rpi_pico_uart";

typedef struct {
    volatile uint32_t dr, rsr, reserved[4], fr, reserved2, ilpr, ibrd, fbrd, lcr_h, cr, ifls, imsc, ris, mis, icr;
} uart_t;

#define UART ((uart_t *)0x40034000u)
#define UART_INTERRUPT 20

#define DR_OVERRUN (1u << 11)
#define FR_RX_EMPTY (1u << 4)
#define FR_TX_FULL (1u << 5)
#define LCR_H_FIFO_8N1 0x70u
#define CR_RX_TX_ON 0x301u
#define INTERRUPT_RX (1u << 4)
#define INTERRUPT_RX_TIMEOUT (1u << 6)
#define INTERRUPT_OVERRUN (1u << 10)
#define INTERRUPTS (INTERRUPT_RX | INTERRUPT_RX_TIMEOUT | INTERRUPT_OVERRUN)

/* 2.19 */
#define GPIO0_CTRL 0x40014004u
#define GPIO1_CTRL 0x4001400Cu
#define GPIO_UART 2u
#define PADS_GPIO1 0x4001C008u
#define PAD_PULL_DOWN (1u << 2)
#define PAD_PULL_UP (1u << 3)

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

void line_start(void) {
    rp2040_reset(RESETS_UART0);
    /* 125 MHz / (16 * 115200) = 67 + 52 / 64 */
    UART->ibrd = 67;
    UART->fbrd = 52;
    UART->lcr_h = LCR_H_FIFO_8N1;
    UART->ifls = 0; /* interrupt at 1/8 of the FIFO, which leaves the most time */
    UART->imsc = INTERRUPTS;
    UART->cr = CR_RX_TX_ON;
    /* A wire that nobody drives is no stream of breaks. */
    CLEAR(PADS_GPIO1) = PAD_PULL_DOWN;
    SET(PADS_GPIO1) = PAD_PULL_UP;
    REGISTER(GPIO0_CTRL) = GPIO_UART;
    REGISTER(GPIO1_CTRL) = GPIO_UART;
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

CORTEX_M_VECTORS(26, [UART_INTERRUPT] = receive);
