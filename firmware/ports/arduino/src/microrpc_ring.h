// What the serial port keeps while a function runs, in bytes: a host may send that much ahead, and no more. It is a fact of
// the core: what is between the UART's interrupt and the sketch. README.md has where each is from.
#ifndef MICRORPC_RING_H
#define MICRORPC_RING_H

#ifndef MICRORPC_RING_BYTES
#if defined ARDUINO_ARCH_MBED
#define MICRORPC_RING_BYTES 255 // its own ring; SERIAL_BUFFER_SIZE is that of others there
#elif defined ARDUINO_ARCH_ESP32
#define MICRORPC_RING_BYTES 256
#elif defined ARDUINO_ARCH_ESP8266
#define MICRORPC_RING_BYTES 255
#elif defined ARDUINO_ARCH_RP2040 // arduino-pico, unless setFIFOSize() was told another
#define MICRORPC_RING_BYTES 31
#elif defined SERIAL_RX_BUFFER_SIZE // AVR, STM32
#define MICRORPC_RING_BYTES (SERIAL_RX_BUFFER_SIZE - 1)
#elif defined SERIAL_BUFFER_SIZE // SAM, SAMD, Renesas, nRF52
#define MICRORPC_RING_BYTES (SERIAL_BUFFER_SIZE - 1)
#else
#define MICRORPC_RING_BYTES 63
#endif
#endif

#endif
