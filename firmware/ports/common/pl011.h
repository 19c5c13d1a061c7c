/* Arm's PL011, the UART of several chips: port_write, and the interrupt. */
#ifndef PL011_H
#define PL011_H

#include <stdint.h>

/* Start the one at `base`: its clock over 16 times the baud rate, in 64ths. */
void pl011_start(uint32_t base, uint32_t divisor_64ths);

/* Its interrupt. */
void pl011_receive(void);

#endif
