/* Numbers on the wire, and what would else come from a library: not every board has one. */
#include "microrpc_internal.h"

uint32_t mrpc_get32(const uint8_t *at) {
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

uint64_t mrpc_get64(const uint8_t *at) { return mrpc_get32(at) | (uint64_t)mrpc_get32(at + 4) << 32; }

void mrpc_put(uint8_t *at, unsigned size_bytes, uint64_t value) {
    for (unsigned i = 0; i < size_bytes; i++, value >>= 8) at[i] = (uint8_t)value;
}

size_t mrpc_length(const char *text) {
    size_t length = 0;
    while (text[length]) length++;
    return length;
}

uint32_t mrpc_divide(uint64_t *number, uint32_t divisor) {
    uint64_t remainder = 0;
    uint64_t quotient = *number;
    for (int bit = 0; bit < 64; bit++) {
        remainder = remainder << 1 | quotient >> 63;
        quotient <<= 1;
        if (remainder >= divisor) {
            remainder -= divisor;
            quotient |= 1;
        }
    }
    *number = quotient;
    return (uint32_t)remainder;
}

#if MICRORPC_LINK || MICRORPC_DESCRIBE
uint32_t mrpc_crc32(uint32_t crc, const void *bytes, size_t size) {
    static const uint32_t of_nibble[16] IN_FLASH = {0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4,
                                           0x4DB26158, 0x5005713C, 0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C,
                                           0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C};
    const uint8_t *at = bytes;
    crc = ~crc;
    for (; size; at++, size--) {
        crc ^= *at;
        crc = crc >> 4 ^ flash32(&of_nibble[crc & 15]);
        crc = crc >> 4 ^ flash32(&of_nibble[crc & 15]);
    }
    return ~crc;
}
#endif
