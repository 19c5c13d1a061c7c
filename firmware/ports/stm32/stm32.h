/* What chips of the STM32 families F4, F7 and L4 share. */
#ifndef STM32_H
#define STM32_H

#include <stdbool.h>
#include <stdint.h>

/* A register of a peripheral. */
#define STM32_REGISTER(base, offset) (*(volatile uint32_t *)((base) + (offset)))

/* Wait until the bits `mask` of a register are `value`, but not for ever; give whether they are. What a chip waits for
 * at its start comes within 2 ms, or never. */
bool stm32_wait(volatile const uint32_t *of, uint32_t mask, uint32_t value);

/* Give a pin of the GPIO port at `base` to a peripheral, by the number of the alternate function in the data sheet. */
void stm32_connect(uint32_t base, uint32_t pin, uint32_t alternate_function);

#endif
