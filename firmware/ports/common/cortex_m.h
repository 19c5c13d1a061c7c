/* What all Cortex-M boards share: the vector table, the clock and the sleep. The board brings port_interrupt(). */
#ifndef CORTEX_M_H
#define CORTEX_M_H

#include <stdint.h>

/* The board's only interrupt besides the clock, whatever its number. */
void port_interrupt(void);

/* Start the clock; the CPU runs at `mhz`. */
void cortex_m_start(uint32_t mhz);

/* Let interrupt `number` (0 to 15) come. */
void cortex_m_enable(uint32_t number);

#endif
