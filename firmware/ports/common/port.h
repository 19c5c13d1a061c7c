/* What a bare-metal board brings to common/main.c, and what it gets from there. */
#ifndef PORT_H
#define PORT_H

#include "ring.h"

/* Where the UART's interrupt puts what comes. */
extern ring_t port_ring;

/* The RAM that the linker script left over. */
extern uint64_t port_memory[], port_memory_end[];

/* What hosts show as the name of the board. */
extern const char port_name[];

/* Set up the clock and the UART, and let interrupts come. */
void port_start(void);

/* Send, and wait until the UART has taken all of it. */
void port_write(void *port, const uint8_t *bytes, size_t size);

/* Microseconds; after 2^32 - 1 comes 0. */
uint32_t port_now_us(void *port);

/* A number that is hard to foretell when the board boots. */
uint32_t port_noise(void);

/* Sleep until an interrupt, unless port_ring has something already. */
void port_sleep(void);

#endif
