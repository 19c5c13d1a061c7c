/* The clocks of an STM32F4 or F7 at 168 MHz: an F7 needs no over-drive for that, and both have the same registers. */
#ifndef STM32_168MHZ_H
#define STM32_168MHZ_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint32_t cpu_mhz, apb1_mhz, apb2_mhz;
} stm32_clocks_t;

/* What speeds up the flash: an F4 has caches for instructions and data, an F7 the ART. */
#define STM32F4_CACHES (3u << 9)
#define STM32F7_ART (1u << 9)

/* Run by the PLL, from `hse_mhz` at OSC_IN: of a crystal, or a signal. Where that does not come, from the RC oscillator,
 * which is right within 1 % at 25 degrees. Give what is running now. */
stm32_clocks_t stm32_start_168mhz(uint32_t hse_mhz, bool is_signal, uint32_t acr_accelerators);

#endif
