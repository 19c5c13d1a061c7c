/* The USARTs and LPUARTs of STM32 families from F0, F3, F7 and L0, L4 on: port_write, and the interrupt. */
#ifndef STM32_USART_H
#define STM32_USART_H

#include <stdint.h>

/* Start the one at `base`: its clock over the baud rate, for an LPUART 256 times that. */
void stm32_usart_start(uint32_t base, uint32_t divisor);

/* Its interrupt. */
void stm32_usart_receive(void);

#endif
