/* The Nucleo-144 with the STM32F746ZG: Cortex-M7 at 168 MHz; its USART3 goes to the ST-LINK, which is a serial port on
 * USB, and gives the chip its clock of 8 MHz. UM1974, the sections about the clock and the USART; the data sheet's table
 * of alternate functions; RM0385. */
#include "cortex_m.h"
#include "port.h"
#include "stm32.h"
#include "stm32_168mhz.h"
#include "stm32_usart.h"
#include "systick.h"

const char port_name[] = "nucleo_f746zg";

#define HSE_MHZ 8

#define RCC_AHB1ENR STM32_REGISTER(0x40023800u, 0x30)
#define AHB1ENR_GPIOD (1u << 3)
#define RCC_APB1ENR STM32_REGISTER(0x40023800u, 0x40)
#define APB1ENR_USART3 (1u << 18)

#define GPIOD 0x40020C00u
#define TX_PIN 8
#define RX_PIN 9
#define ALTERNATE_FUNCTION 7

#define USART3 0x40004800u
#define USART3_INTERRUPT 39
#define CHIP_INTERRUPTS 98

#define BAUD 115200u

CORTEX_M_VECTORS(CHIP_INTERRUPTS, [USART3_INTERRUPT] = stm32_usart_receive);

void port_start(void) {
    stm32_clocks_t clocks = stm32_start_168mhz(HSE_MHZ, true, STM32F7_ART);
    systick_start(clocks.cpu_mhz);
    RCC_AHB1ENR |= AHB1ENR_GPIOD;
    RCC_APB1ENR |= APB1ENR_USART3;
    (void)RCC_APB1ENR; /* a peripheral takes two cycles to get its clock */
    stm32_connect(GPIOD, TX_PIN, ALTERNATE_FUNCTION);
    stm32_connect(GPIOD, RX_PIN, ALTERNATE_FUNCTION);
    stm32_usart_start(USART3, (clocks.apb1_mhz * 1000000u + BAUD / 2) / BAUD);
    cortex_m_enable(USART3_INTERRUPT);
}
