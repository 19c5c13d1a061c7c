// What the serial port keeps while a function runs: without knowing it the host could send more than that.
#ifndef MICRORPC_RING_H
#define MICRORPC_RING_H

#ifndef MICRORPC_RING_BYTES
#ifdef SERIAL_RX_BUFFER_SIZE
#define MICRORPC_RING_BYTES (SERIAL_RX_BUFFER_SIZE - 1)
#else
#define MICRORPC_RING_BYTES 63
#endif
#endif

#endif
