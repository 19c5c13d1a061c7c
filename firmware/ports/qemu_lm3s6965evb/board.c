/* The Stellaris LM3S6965 evaluation board: Cortex-M3 at 50 MHz, PL011 UART 0. */
#include "cortex_m.h"
#include "pl011.h"
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

#define UART0 0x4000C000u
#define UART0_INTERRUPT 5
#define DIVISOR_64THS (27 * 64 + 8) /* 50 MHz / (16 * 115200) */

CORTEX_M_VECTORS(44, [UART0_INTERRUPT] = pl011_receive);

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
    pl011_start(UART0, DIVISOR_64THS);
    cortex_m_enable(UART0_INTERRUPT);
}
