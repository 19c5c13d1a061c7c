/* Arm DDI 0183, chapter 3. */
#include "pl011.h"

#include "port.h"

typedef struct {
    volatile uint32_t dr, rsr, reserved[4], fr, reserved2, ilpr, ibrd, fbrd, lcr_h, cr, ifls, imsc, ris, mis, icr;
} uart_t;

#define DR_OVERRUN (1u << 11)
#define FR_RX_EMPTY (1u << 4)
#define FR_TX_FULL (1u << 5)
#define LCR_H_FIFO_8N1 0x70u
#define CR_RX_TX_ON 0x301u
#define INTERRUPT_RX (1u << 4)
#define INTERRUPT_RX_TIMEOUT (1u << 6)
#define INTERRUPT_OVERRUN (1u << 10)
#define INTERRUPTS (INTERRUPT_RX | INTERRUPT_RX_TIMEOUT | INTERRUPT_OVERRUN)

static uart_t *uart;

void pl011_start(uint32_t base, uint32_t divisor_64ths) {
    uart = (uart_t *)(uintptr_t)base;
    uart->cr = 0;
    uart->ibrd = divisor_64ths / 64;
    uart->fbrd = divisor_64ths % 64;
    uart->lcr_h = LCR_H_FIFO_8N1;
    uart->ifls = 0; /* interrupt at 1/8 of the FIFO, which leaves the most time */
    uart->imsc = INTERRUPTS;
    uart->cr = CR_RX_TX_ON;
}

void pl011_receive(void) {
    /* Before the FIFO is emptied: what comes afterwards interrupts again. */
    uart->icr = INTERRUPTS;
    while (!(uart->fr & FR_RX_EMPTY)) {
        uint32_t data = uart->dr;
        if (data & DR_OVERRUN) {
            ring_lose(&port_ring);
        }
        ring_put(&port_ring, (uint8_t)data);
    }
}

void port_write(void *port, const uint8_t *bytes, size_t size) {
    (void)port;
    for (size_t i = 0; i < size; i++) {
        while (uart->fr & FR_TX_FULL) {
        }
        uart->dr = bytes[i];
    }
}
