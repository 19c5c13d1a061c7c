/* UART0 on GP0 (from the board) and GP1 (to it), 115,200 baud: a PL011 (4.2). */
#include "cortex_m.h"
#include "pl011.h"
#include "port.h"
#include "rp2040.h"

const char port_name[] = "rpi_pico_uart";

#define UART0 0x40034000u
#define UART0_INTERRUPT 20
#define DIVISOR_64THS (67 * 64 + 52) /* 125 MHz / (16 * 115200) */

/* 2.19 */
#define GPIO0_CTRL 0x40014004u
#define GPIO1_CTRL 0x4001400Cu
#define GPIO_UART 2u
#define PADS_GPIO1 0x4001C008u
#define PAD_PULL_DOWN (1u << 2)
#define PAD_PULL_UP (1u << 3)

void line_start(void) {
    rp2040_reset(RESETS_UART0);
    pl011_start(UART0, DIVISOR_64THS);
    /* A wire that nobody drives is no stream of breaks. */
    CLEAR(PADS_GPIO1) = PAD_PULL_DOWN;
    SET(PADS_GPIO1) = PAD_PULL_UP;
    REGISTER(GPIO0_CTRL) = GPIO_UART;
    REGISTER(GPIO1_CTRL) = GPIO_UART;
    cortex_m_enable(UART0_INTERRUPT);
}

CORTEX_M_VECTORS(26, [UART0_INTERRUPT] = pl011_receive);
