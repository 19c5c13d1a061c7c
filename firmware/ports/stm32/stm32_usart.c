/* RM0385 (F746), chapter "Universal synchronous asynchronous receiver transmitter", and RM0432 (L4R5), that one and
 * "Low-power universal asynchronous receiver transmitter". */
#include "stm32_usart.h"

#include "port.h"
#include "stm32.h"

#define USART_CR1 STM32_REGISTER(usart, 0x00)
#define CR1_ON 1u
#define CR1_RX_ON (1u << 2)
#define CR1_TX_ON (1u << 3)
#define CR1_RX_INTERRUPT (1u << 5) /* of an overrun, too */
#define USART_BRR STM32_REGISTER(usart, 0x0C)
#define USART_ISR STM32_REGISTER(usart, 0x1C)
#define ISR_OVERRUN (1u << 3)
#define ISR_RX_NOT_EMPTY (1u << 5)
#define ISR_TX_EMPTY (1u << 7)
#define USART_ICR STM32_REGISTER(usart, 0x20)
#define USART_RDR STM32_REGISTER(usart, 0x24)
#define USART_TDR STM32_REGISTER(usart, 0x28)

static uint32_t usart;

void stm32_usart_start(uint32_t base, uint32_t divisor) {
    usart = base;
    USART_BRR = divisor;
    USART_CR1 = CR1_ON | CR1_TX_ON | CR1_RX_ON | CR1_RX_INTERRUPT;
}

void stm32_usart_receive(void) {
    uint32_t status = USART_ISR;
    if (status & ISR_RX_NOT_EMPTY) {
        ring_put(&port_ring, (uint8_t)USART_RDR);
    }
    if (status & ISR_OVERRUN) { /* the byte behind this one */
        USART_ICR = ISR_OVERRUN;
        ring_lose(&port_ring);
    }
}

void port_write(void *port, const uint8_t *bytes, size_t size) {
    (void)port;
    for (size_t i = 0; i < size; i++) {
        while (!(USART_ISR & ISR_TX_EMPTY)) {
        }
        USART_TDR = bytes[i];
    }
}
