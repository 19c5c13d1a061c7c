/* The Raspberry Pi Pico: RP2040 at 125 MHz. What carries the bytes is usb.c or uart.c. Numbers in comments are sections
 * of the RP2040 data sheet. */
#include "port.h"
#include "rp2040.h"
#include "start.h"

/* 2.15 */
#define CLK_REF_CTRL 0x40008030u
#define CLK_REF_SELECTED 0x40008038u
#define CLK_REF_XOSC 2u
#define CLK_SYS_CTRL 0x4000803Cu
#define CLK_SYS_SELECTED 0x40008044u
#define CLK_SYS_REF 0u
#define CLK_SYS_PLL_SYS 1u /* AUXSRC is 0 then, which is PLL_SYS */
#define CLK_PERI_CTRL 0x40008048u
#define CLK_USB_CTRL 0x40008054u
#define CLK_USB_DIV 0x40008058u
#define CLK_ENABLE (1u << 11)
#define CLK_RESUS_CTRL 0x40008078u

/* 2.16 */
#define XOSC_CTRL 0x40024000u
#define XOSC_STATUS 0x40024004u
#define XOSC_STARTUP 0x4002400Cu
#define XOSC_ON_1_TO_15_MHZ 0x00FABAA0u
#define XOSC_STABLE (1u << 31)
#define XOSC_MHZ 12u
#define XOSC_10_MS (XOSC_MHZ * 10000 / 256)

/* 2.17 */
#define ROSC_RANDOMBIT 0x4006001Cu
#define NOISE_BITS 512u

/* 2.18 */
#define PLL_SYS 0x40028000u
#define PLL_USB 0x4002C000u
#define PLL_CS 0x0u
#define PLL_PWR 0x4u
#define PLL_FBDIV_INT 0x8u
#define PLL_PRIM 0xCu
#define PLL_LOCK (1u << 31)
#define PLL_PWR_PD_VCOPD (1u << 0 | 1u << 5)
#define PLL_PWR_POSTDIVPD (1u << 3)

/* 4.7.2: what makes the timer count microseconds. */
#define WATCHDOG_TICK 0x4005802Cu
#define WATCHDOG_TICK_ON (1u << 9)

/* A second or more at the 6 MHz that it begins with, and some hundredths at 125 MHz: each wait is for microseconds, but for
 * the crystal's 10 ms, which are waited for at 6 MHz, or run already. */
#define MOST_TURNS 2000000u

void rp2040_wait(uint32_t address, uint32_t bits) {
    for (uint32_t turns = 0; !(REGISTER(address) & bits); turns++) {
        if (turns == MOST_TURNS) {
            start_again();
        }
    }
}

void rp2040_reset(uint32_t peripherals) {
    SET(RESETS_RESET) = peripherals;
    CLEAR(RESETS_RESET) = peripherals;
    for (uint32_t left = peripherals; left != 0; left &= left - 1) {
        rp2040_wait(RESETS_RESET_DONE, left & (0 - left));
    }
}

void rp2040_pause(uint32_t us) {
    uint32_t begun_us = port_now_us(0);
    for (uint32_t turns = 0; turns < MOST_TURNS && port_now_us(0) - begun_us < us; turns++) {
    }
}

/* 12 MHz * `times`, which must lie between 750 and 1,600 MHz, / `divisor_1` / `divisor_2`. */
static void start_pll(uint32_t pll, uint32_t times, uint32_t divisor_1, uint32_t divisor_2) {
    REGISTER(pll + PLL_CS) = 1;
    REGISTER(pll + PLL_FBDIV_INT) = times;
    CLEAR(pll + PLL_PWR) = PLL_PWR_PD_VCOPD;
    rp2040_wait(pll + PLL_CS, PLL_LOCK);
    REGISTER(pll + PLL_PRIM) = divisor_1 << 16 | divisor_2 << 12;
    CLEAR(pll + PLL_PWR) = PLL_PWR_POSTDIVPD;
}

/* The clocks are as the boot ROM leaves them, or still run as before a reset of the CPU alone. */
static void start_clocks(void) {
    REGISTER(CLK_RESUS_CTRL) = 0;
    REGISTER(XOSC_STARTUP) = XOSC_10_MS;
    REGISTER(XOSC_CTRL) = XOSC_ON_1_TO_15_MHZ;
    rp2040_wait(XOSC_STATUS, XOSC_STABLE);
    REGISTER(CLK_REF_CTRL) = CLK_REF_XOSC;
    rp2040_wait(CLK_REF_SELECTED, 1u << CLK_REF_XOSC);
    REGISTER(CLK_SYS_CTRL) = CLK_SYS_REF;
    rp2040_wait(CLK_SYS_SELECTED, 1u << CLK_SYS_REF);
    rp2040_reset(RESETS_PLL_SYS | RESETS_PLL_USB);
    start_pll(PLL_SYS, 125, 6, 2);
    start_pll(PLL_USB, 100, 5, 5);
    REGISTER(CLK_SYS_CTRL) = CLK_SYS_PLL_SYS;
    rp2040_wait(CLK_SYS_SELECTED, 1u << CLK_SYS_PLL_SYS);
    REGISTER(CLK_PERI_CTRL) = CLK_ENABLE;
    REGISTER(CLK_USB_DIV) = 1u << 8;
    REGISTER(CLK_USB_CTRL) = CLK_ENABLE;
    REGISTER(WATCHDOG_TICK) = WATCHDOG_TICK_ON | XOSC_MHZ;
}

void port_start(void) {
    start_clocks();
    rp2040_reset(RESETS_TIMER | RESETS_IO_BANK0 | RESETS_PADS_BANK0);
    line_start();
}

uint32_t port_now_us(void *port) {
    (void)port;
    return REGISTER(TIMER_TIMERAWL);
}

/* The ring oscillator runs beside the crystal, and drifts against it: which of its bits are met is chance. */
uint32_t port_noise(void) {
    uint32_t noise = 0;
    for (uint32_t bits = 0; bits < NOISE_BITS; bits++) {
        noise = (noise << 1 | noise >> 31) ^ (REGISTER(ROSC_RANDOMBIT) & 1u);
    }
    return noise;
}
