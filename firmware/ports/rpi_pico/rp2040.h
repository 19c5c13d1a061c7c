/* The registers of the RP2040 that the port uses. Names, addresses and bits are those of its data sheet. */
#ifndef RP2040_H
#define RP2040_H

#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(address))

/* Each register of a peripheral has aliases that set and clear the bits which are written (2.1.2). */
#define SET(address) REGISTER((address) + 0x2000u)
#define CLEAR(address) REGISTER((address) + 0x3000u)

/* 2.14 */
#define RESETS_RESET 0x4000C000u
#define RESETS_RESET_DONE 0x4000C008u
#define RESETS_IO_BANK0 (1u << 5)
#define RESETS_PADS_BANK0 (1u << 8)
#define RESETS_PLL_SYS (1u << 12)
#define RESETS_PLL_USB (1u << 13)
#define RESETS_TIMER (1u << 21)
#define RESETS_UART0 (1u << 22)
#define RESETS_USBCTRL (1u << 24)

/* 4.6 */
#define TIMER_ALARM0 0x40054010u
#define TIMER_TIMERAWL 0x40054028u
#define TIMER_INTR 0x40054034u
#define TIMER_INTE 0x40054038u
#define TIMER_INTERRUPT 0

/* 2.8.3: what the boot ROM has for programs. */
#define ROM_FUNCTION_TABLE 0x14u
#define ROM_TABLE_LOOKUP 0x18u

/* Hold the peripherals of these bits in reset, and let them go. The board starts again if one does not come out. */
void rp2040_reset(uint32_t peripherals);

/* Wait until one of `bits` of the register is set. The board starts again if that takes too long. */
void rp2040_wait(uint32_t address, uint32_t bits);

/* Wait, with the clock running, for some ms at most. */
void rp2040_pause(uint32_t us);

/* What carries the bytes, uart.c or usb.c. It has port_write(), port_name and the vectors, too. */
void line_start(void);

#endif
