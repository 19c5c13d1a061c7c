/* The MPS2 board with an image that has one Cortex-M core at 25 MHz: CMSDK APB UART 0. A board.c has the name. */
#include "cortex_m.h"
#include "port.h"
#include "systick.h"

#define MHZ 25

typedef struct {
    volatile uint32_t data, state, ctrl, intstatus, bauddiv;
} uart_t;

#define UART ((uart_t *)0x40004000)
#define UART_RX_INTERRUPT 0

#define STATE_TX_FULL 1u
#define STATE_RX_FULL 2u
#define STATE_RX_OVERRUN 8u
#define CTRL_TX 1u
#define CTRL_RX 2u
#define CTRL_RX_INTERRUPT 8u
#define INTSTATUS_RX 2u

static void receive(void) {
    uint32_t state;
    while ((state = UART->state) & STATE_RX_FULL) {
        if (state & STATE_RX_OVERRUN) {
            UART->state = STATE_RX_OVERRUN;
            ring_lose(&port_ring);
        }
        /* Before the byte is read: it may be that of the next one afterwards. */
        UART->intstatus = INTSTATUS_RX;
        ring_put(&port_ring, (uint8_t)UART->data);
    }
    UART->intstatus = INTSTATUS_RX;
}

CORTEX_M_VECTORS(32, [UART_RX_INTERRUPT] = receive);

void port_start(void) {
    systick_start(MHZ);
    UART->bauddiv = MHZ * 1000000 / 115200;
    UART->ctrl = CTRL_TX | CTRL_RX | CTRL_RX_INTERRUPT;
    /* QEMU asks its character device for input when DATA is read. Without this it can keep the first byte back. */
    (void)UART->data;
    cortex_m_enable(UART_RX_INTERRUPT);
}

void port_write(void *port, const uint8_t *bytes, size_t size) {
    (void)port;
    for (size_t i = 0; i < size; i++) {
        while (UART->state & STATE_TX_FULL) {
        }
        UART->data = bytes[i];
    }
}
