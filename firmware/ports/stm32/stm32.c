#include "stm32.h"

#define GPIO_MODER 0x00u
#define GPIO_PUPDR 0x0Cu
#define GPIO_AFR 0x20u /* two registers of eight pins each */
#define MODE_ALTERNATE 2u
#define PULL_UP 1u

#define MOST_POLLS 200000u

bool stm32_wait(volatile const uint32_t *of, uint32_t mask, uint32_t value) {
    for (uint32_t polls = 0; polls < MOST_POLLS; polls++) {
        if ((*of & mask) == value) return true;
    }
    return false;
}

static void set_bits(volatile uint32_t *of, uint32_t at, uint32_t count, uint32_t value) {
    uint32_t mask = ((1u << count) - 1) << at;
    *of = (*of & ~mask) | value << at;
}

void stm32_connect(uint32_t base, uint32_t pin, uint32_t alternate_function) {
    set_bits(&STM32_REGISTER(base, GPIO_AFR + 4 * (pin / 8)), 4 * (pin % 8), 4, alternate_function);
    set_bits(&STM32_REGISTER(base, GPIO_PUPDR), 2 * pin, 2, PULL_UP); /* a line that nobody drives is idle */
    set_bits(&STM32_REGISTER(base, GPIO_MODER), 2 * pin, 2, MODE_ALTERNATE);
}
