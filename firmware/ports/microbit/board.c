/* The BBC micro:bit v1: nRF51822, Cortex-M0 at 16 MHz. Its UART goes to the interface chip, which is a serial port and a
 * drive on USB.
 *
 * Registers: nRF51 Series Reference Manual 3.0, the chapters 13 (clock), 14 (GPIO), 18 (timer), 22 (random numbers) and
 * 29 (UART). */
#include "cortex_m.h"
#include "port.h"

const char port_name[] = "microbit";

#define TXD_PIN 24u
#define RXD_PIN 25u
#define CHIP_INTERRUPTS 26
#define UART_INTERRUPT 2

#define CLOCK_START_CRYSTAL (*(volatile uint32_t *)0x40000000)
#define CLOCK_CRYSTAL_STARTED (*(volatile uint32_t *)0x40000100)

#define GPIO_OUT_SET (*(volatile uint32_t *)0x50000508)
#define GPIO_OUTPUT_SET (*(volatile uint32_t *)0x50000518)
#define GPIO_PIN_CONFIG ((volatile uint32_t *)0x50000700)
#define PIN_INPUT_PULLED_UP 0xCu

#define UART_START_RX (*(volatile uint32_t *)0x40002000)
#define UART_START_TX (*(volatile uint32_t *)0x40002008)
#define UART_RX_READY (*(volatile uint32_t *)0x40002108)
#define UART_TX_READY (*(volatile uint32_t *)0x4000211C)
#define UART_ERROR (*(volatile uint32_t *)0x40002124)
#define UART_INTERRUPTS_ON (*(volatile uint32_t *)0x40002304)
#define UART_ERROR_SOURCE (*(volatile uint32_t *)0x40002480)
#define UART_ENABLE (*(volatile uint32_t *)0x40002500)
#define UART_PIN_TXD (*(volatile uint32_t *)0x4000250C)
#define UART_PIN_RXD (*(volatile uint32_t *)0x40002514)
#define UART_RXD (*(volatile uint32_t *)0x40002518)
#define UART_TXD (*(volatile uint32_t *)0x4000251C)
#define UART_BAUD_RATE (*(volatile uint32_t *)0x40002524)
#define INTERRUPT_RX_READY (1u << 2)
#define INTERRUPT_ERROR (1u << 9)
#define ERROR_OVERRUN 1u
#define ENABLE_UART 4u
#define BAUD_115200 0x01D7E000u /* of 2^32 in 16 MHz */

/* The only timer of 32 bits: this core has no SysTick. */
#define TIMER_START (*(volatile uint32_t *)0x40008000)
#define TIMER_CAPTURE (*(volatile uint32_t *)0x40008040)
#define TIMER_BITS (*(volatile uint32_t *)0x40008508)
#define TIMER_PRESCALER (*(volatile uint32_t *)0x40008510)
#define TIMER_CAPTURED (*(volatile uint32_t *)0x40008540)
#define BITS_32 3u
#define PRESCALER_1_MHZ 4u /* 16 MHz / 2^4 */

#define RANDOM_START (*(volatile uint32_t *)0x4000D000)
#define RANDOM_STOP (*(volatile uint32_t *)0x4000D004)
#define RANDOM_READY (*(volatile uint32_t *)0x4000D100)
#define RANDOM_VALUE (*(volatile uint32_t *)0x4000D508)

#define MOST_POLLS 100000u /* more than 25 ms; the crystal takes 1, a random number less */

static void receive(void) {
    bool has_lost = false;
    if (UART_ERROR) {
        UART_ERROR = 0;
        uint32_t source = UART_ERROR_SOURCE;
        UART_ERROR_SOURCE = source;
        has_lost = (source & ERROR_OVERRUN) != 0;
    }
    while (UART_RX_READY) {
        /* Before the byte is read: with the next one of the FIFO it is ready again. */
        UART_RX_READY = 0;
        ring_put(&port_ring, (uint8_t)UART_RXD);
    }
    if (has_lost) { /* behind those in the FIFO */
        ring_lose(&port_ring);
    }
}

CORTEX_M_VECTORS(CHIP_INTERRUPTS, [UART_INTERRUPT] = receive);

static void wait_for(volatile uint32_t *event) {
    for (uint32_t polls = 0; *event == 0 && polls < MOST_POLLS; polls++) {
    }
}

void port_start(void) {
    /* Without a crystal it goes on with what it began with, the RC oscillator. */
    CLOCK_CRYSTAL_STARTED = 0;
    CLOCK_START_CRYSTAL = 1;
    wait_for(&CLOCK_CRYSTAL_STARTED);

    TIMER_BITS = BITS_32;
    TIMER_PRESCALER = PRESCALER_1_MHZ;
    TIMER_START = 1;

    GPIO_OUT_SET = 1u << TXD_PIN;
    GPIO_OUTPUT_SET = 1u << TXD_PIN;
    GPIO_PIN_CONFIG[RXD_PIN] = PIN_INPUT_PULLED_UP;
    UART_PIN_TXD = TXD_PIN;
    UART_PIN_RXD = RXD_PIN;
    UART_BAUD_RATE = BAUD_115200;
    UART_ENABLE = ENABLE_UART;
    UART_INTERRUPTS_ON = INTERRUPT_RX_READY | INTERRUPT_ERROR;
    UART_START_TX = 1;
    UART_START_RX = 1;
    cortex_m_enable(UART_INTERRUPT);
}

void port_write(void *port, const uint8_t *bytes, size_t size) {
    (void)port;
    for (size_t i = 0; i < size; i++) {
        UART_TX_READY = 0;
        UART_TXD = bytes[i];
        while (!UART_TX_READY) { /* there is no flow control: it comes */
        }
    }
}

uint32_t port_now_us(void *port) {
    (void)port;
    TIMER_CAPTURE = 1;
    return TIMER_CAPTURED;
}

uint32_t port_noise(void) {
    uint32_t noise = 0;
    RANDOM_START = 1;
    for (int i = 0; i < 4; i++) {
        RANDOM_READY = 0;
        wait_for(&RANDOM_READY);
        noise = noise << 8 | (RANDOM_VALUE & 0xFFu);
    }
    RANDOM_STOP = 1;
    return noise;
}
