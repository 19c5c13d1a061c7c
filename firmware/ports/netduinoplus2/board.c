/* The Netduino Plus 2: STM32F405, Cortex-M4F at 168 MHz; its USART6 is at the pins D0 (RX) and D1 (TX).
 *
 * For another board with an STM32F405 or F407 change the parameters below, by the tables of its data sheet. */
#include "cortex_m.h"
#include "port.h"
#include "stm32.h"
#include "stm32_168mhz.h"
#include "systick.h"

const char port_name[] = "netduinoplus2";

#define CRYSTAL_MHZ 25

/* Of USART1 and USART6; the others are 0x40004400, 0x40004800, 0x40004C00, 0x40005000, switched on at RCC + 0x40, and
 * have the clock apb1_mhz. */
#define USART 0x40011400u
#define USART_INTERRUPT 71
#define USART_SWITCH STM32_REGISTER(RCC, 0x44)
#define USART_ON (1u << 5)
#define USART_MHZ apb2_mhz

/* Ports from A on are at 0x40020000, 0x40020400 and so on, and switched on by bit 0, 1 and so on. */
#define GPIO 0x40020800u
#define GPIO_ON (1u << 2)
#define TX_PIN 6
#define RX_PIN 7
#define ALTERNATE_FUNCTION 8

#define CHIP_INTERRUPTS 82

#define RCC 0x40023800u
#define RCC_AHB1ENR STM32_REGISTER(RCC, 0x30)

/* RM0090, chapter "Universal synchronous asynchronous receiver transmitter". */
#define USART_SR STM32_REGISTER(USART, 0x00)
#define SR_OVERRUN (1u << 3)
#define SR_RX_NOT_EMPTY (1u << 5)
#define SR_TX_EMPTY (1u << 7)
#define USART_DR STM32_REGISTER(USART, 0x04)
#define USART_BRR STM32_REGISTER(USART, 0x08)
#define USART_CR1 STM32_REGISTER(USART, 0x0C)
#define CR1_RX_ON (1u << 2)
#define CR1_TX_ON (1u << 3)
#define CR1_RX_INTERRUPT (1u << 5) /* of an overrun, too */
#define CR1_ON (1u << 13)

#define BAUD 115200u

/* One byte for each interrupt: it comes again for the next one. In QEMU each look at a register takes its time. */
static void receive(void) {
    uint32_t status = USART_SR;
    uint32_t data = USART_DR; /* forgets an overrun, too */
    if (status & SR_RX_NOT_EMPTY) {
        ring_put(&port_ring, (uint8_t)data);
    }
    if (status & SR_OVERRUN) { /* the byte behind this one */
        ring_lose(&port_ring);
    }
}

CORTEX_M_VECTORS(CHIP_INTERRUPTS, [USART_INTERRUPT] = receive);

void port_start(void) {
    stm32_clocks_t clocks = stm32_start_168mhz(CRYSTAL_MHZ, false, STM32F4_CACHES);
    systick_start(clocks.cpu_mhz);
    RCC_AHB1ENR |= GPIO_ON;
    USART_SWITCH |= USART_ON;
    (void)USART_SWITCH; /* a peripheral takes two cycles to get its clock */
    stm32_connect(GPIO, TX_PIN, ALTERNATE_FUNCTION);
    stm32_connect(GPIO, RX_PIN, ALTERNATE_FUNCTION);
    USART_BRR = (clocks.USART_MHZ * 1000000u + BAUD / 2) / BAUD;
    USART_CR1 = CR1_ON | CR1_TX_ON | CR1_RX_ON | CR1_RX_INTERRUPT;
    cortex_m_enable(USART_INTERRUPT);
}

void port_write(void *port, const uint8_t *bytes, size_t size) {
    (void)port;
    for (size_t i = 0; i < size; i++) {
        while (!(USART_SR & SR_TX_EMPTY)) {
        }
        USART_DR = bytes[i];
    }
}
