/* RM0090 (F405) and RM0385 (F746): the chapters "Reset and clock control" and "Embedded Flash memory interface". */
#include "stm32_168mhz.h"

#include "stm32.h"

#define RCC 0x40023800u
#define RCC_CR STM32_REGISTER(RCC, 0x00)
#define CR_HSI_READY (1u << 1)
#define CR_HSE_ON (1u << 16)
#define CR_HSE_READY (1u << 17)
#define CR_HSE_IS_SIGNAL (1u << 18)
#define CR_PLL_ON (1u << 24)
#define CR_PLL_READY (1u << 25)
#define RCC_PLLCFGR STM32_REGISTER(RCC, 0x04)
#define PLL_FROM_HSE (1u << 22)
#define PLL_RESERVED_MASK 0xF0000000u
#define RCC_CFGR STM32_REGISTER(RCC, 0x08)
#define CFGR_PLL 2u
#define CFGR_SWITCH_MASK 3u
#define CFGR_USED_MASK (3u << 2)
#define CFGR_USED_HSI 0u
#define CFGR_USED_PLL (2u << 2)
#define CFGR_APB1_QUARTER (5u << 10)
#define CFGR_APB2_HALF (4u << 13)

#define FLASH_ACR STM32_REGISTER(0x40023C00u, 0x00)
#define ACR_LATENCY_MASK 0xFu
#define ACR_5_WAIT_STATES 5u /* 151 to 168 MHz at 2.7 to 3.6 V; an F7 has as many up to 180 MHz */
#define ACR_PREFETCH (1u << 8)

#define HSI_MHZ 16u

/* 1 MHz * 336 / 2 = 168 MHz, and / 7 = 48 MHz for USB. */
#define PLL_OF_MHZ(mhz) ((mhz) | 336u << 6 | 0u << 16 | 7u << 24)

stm32_clocks_t stm32_start_168mhz(uint32_t hse_mhz, bool is_signal, uint32_t acr_accelerators) {
    static const stm32_clocks_t slow = {HSI_MHZ, HSI_MHZ, HSI_MHZ}, fast = {168, 42, 84};

    /* A chip's HSI runs now. Where even that is not so, it is an emulator without an RCC, which always runs fast. */
    if (!(RCC_CR & CR_HSI_READY)) return fast;

    /* A boot loader may have left the chip running by the PLL, which takes no other numbers then. */
    RCC_CFGR &= ~CFGR_SWITCH_MASK;
    if (!stm32_wait(&RCC_CFGR, CFGR_USED_MASK, CFGR_USED_HSI)) return slow;
    RCC_CR &= ~(CR_PLL_ON | CR_HSE_ON);
    if (!stm32_wait(&RCC_CR, CR_PLL_READY | CR_HSE_READY, 0)) return slow;

    uint32_t pll = PLL_OF_MHZ(hse_mhz) | PLL_FROM_HSE;
    if (is_signal) RCC_CR |= CR_HSE_IS_SIGNAL; /* which is read when it is switched on */
    RCC_CR |= CR_HSE_ON;
    if (!stm32_wait(&RCC_CR, CR_HSE_READY, CR_HSE_READY)) {
        RCC_CR &= ~CR_HSE_ON;
        pll = PLL_OF_MHZ(HSI_MHZ);
    }
    RCC_PLLCFGR = (RCC_PLLCFGR & PLL_RESERVED_MASK) | pll;
    RCC_CR |= CR_PLL_ON;
    if (!stm32_wait(&RCC_CR, CR_PLL_READY, CR_PLL_READY)) return slow;

    FLASH_ACR = ACR_5_WAIT_STATES | ACR_PREFETCH | acr_accelerators;
    if (!stm32_wait(&FLASH_ACR, ACR_LATENCY_MASK, ACR_5_WAIT_STATES)) return slow;
    /* The busses first: they must not be too fast for a moment. */
    RCC_CFGR = CFGR_APB1_QUARTER | CFGR_APB2_HALF;
    RCC_CFGR = CFGR_APB1_QUARTER | CFGR_APB2_HALF | CFGR_PLL;
    if (!stm32_wait(&RCC_CFGR, CFGR_USED_MASK, CFGR_USED_PLL)) {
        RCC_CFGR = 0;
        return slow;
    }
    return fast;
}
