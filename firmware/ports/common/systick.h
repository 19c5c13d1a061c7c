/* The clock of Cortex-M boards that have SysTick: port_now_us and port_noise. */
#ifndef SYSTICK_H
#define SYSTICK_H

#include <stdint.h>

/* Start the clock; the CPU runs at `mhz`. */
void systick_start(uint32_t mhz);

#endif
