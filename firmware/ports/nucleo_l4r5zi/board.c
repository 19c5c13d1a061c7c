/* The Nucleo-144 with the STM32L4R5ZI: Cortex-M4F at 80 MHz; its LPUART1 goes to the ST-LINK, which is a serial port on
 * USB. UM2179, the section about the LPUART; the data sheet's table of alternate functions; RM0432. */
#include "cortex_m.h"
#include "port.h"
#include "stm32.h"
#include "stm32_usart.h"
#include "systick.h"

const char port_name[] = "nucleo_l4r5zi";

#define RCC 0x40021000u
#define RCC_CR STM32_REGISTER(RCC, 0x00)
#define CR_HSI_ON (1u << 8)
#define CR_HSI_READY (1u << 10)
#define CR_PLL_ON (1u << 24)
#define CR_PLL_READY (1u << 25)
#define RCC_CFGR STM32_REGISTER(RCC, 0x08)
#define CFGR_HSI 1u
#define CFGR_PLL 3u
#define CFGR_USED_MASK (3u << 2)
#define CFGR_USED_HSI (1u << 2)
#define CFGR_USED_PLL (3u << 2)
#define RCC_PLLCFGR STM32_REGISTER(RCC, 0x0C)
/* HSI of 16 MHz / 2 * 20 / 2 = 80 MHz */
#define PLL_80_MHZ (2u | (2u - 1) << 4 | 20u << 8 | 1u << 24)
#define RCC_AHB2ENR STM32_REGISTER(RCC, 0x4C)
#define AHB2ENR_GPIOG (1u << 6)
#define RCC_APB1ENR1 STM32_REGISTER(RCC, 0x58)
#define APB1ENR1_PWR (1u << 28)
#define RCC_APB1ENR2 STM32_REGISTER(RCC, 0x5C)
#define APB1ENR2_LPUART1 1u

#define FLASH_ACR STM32_REGISTER(0x40022000u, 0x00)
#define ACR_LATENCY_MASK 0xFu
#define ACR_3_WAIT_STATES 3u /* 61 to 80 MHz in range 1, in which the chip is after a reset */
#define ACR_PREFETCH (1u << 8)
#define ACR_CACHES (3u << 9)

#define PWR_CR2 STM32_REGISTER(0x40007000u, 0x04)
#define CR2_VDDIO2_IS_VALID (1u << 9) /* without it the pins 2 to 15 of port G are dead */

#define GPIOG 0x48001800u
#define TX_PIN 7
#define RX_PIN 8
#define ALTERNATE_FUNCTION 8

#define LPUART1 0x40008000u
#define LPUART1_INTERRUPT 70
#define CHIP_INTERRUPTS 95

#define BAUD 115200u

CORTEX_M_VECTORS(CHIP_INTERRUPTS, [LPUART1_INTERRUPT] = stm32_usart_receive);

/* Give in MHz what the CPU and the busses run at: 80, or what it came to. */
static uint32_t start_clock(void) {
    RCC_CR |= CR_HSI_ON;
    if (!stm32_wait(&RCC_CR, CR_HSI_READY, CR_HSI_READY)) return 4; /* the MSI, as after a reset */
    RCC_CFGR = CFGR_HSI;
    if (!stm32_wait(&RCC_CFGR, CFGR_USED_MASK, CFGR_USED_HSI)) return 4;
    RCC_CR &= ~CR_PLL_ON; /* a boot loader may have left it running, and then it takes no other numbers */
    if (!stm32_wait(&RCC_CR, CR_PLL_READY, 0)) return 16;
    RCC_PLLCFGR = PLL_80_MHZ;
    RCC_CR |= CR_PLL_ON;
    FLASH_ACR = ACR_3_WAIT_STATES | ACR_PREFETCH | ACR_CACHES;
    if (!stm32_wait(&RCC_CR, CR_PLL_READY, CR_PLL_READY)) return 16;
    if (!stm32_wait(&FLASH_ACR, ACR_LATENCY_MASK, ACR_3_WAIT_STATES)) return 16;
    RCC_CFGR = CFGR_PLL;
    return stm32_wait(&RCC_CFGR, CFGR_USED_MASK, CFGR_USED_PLL) ? 80 : 16;
}

void port_start(void) {
    uint32_t mhz = start_clock();
    systick_start(mhz);
    RCC_APB1ENR1 |= APB1ENR1_PWR;
    RCC_APB1ENR2 |= APB1ENR2_LPUART1;
    RCC_AHB2ENR |= AHB2ENR_GPIOG;
    (void)RCC_AHB2ENR; /* a peripheral takes two cycles to get its clock */
    PWR_CR2 |= CR2_VDDIO2_IS_VALID;
    stm32_connect(GPIOG, TX_PIN, ALTERNATE_FUNCTION);
    stm32_connect(GPIOG, RX_PIN, ALTERNATE_FUNCTION);
    stm32_usart_start(LPUART1, (uint32_t)((mhz * 256000000ull + BAUD / 2) / BAUD));
    cortex_m_enable(LPUART1_INTERRUPT);
}
