/* Numbers with a point where `double` has 4 bytes, as on an AVR: on the wire they have 8 (docs/protocol.md 3). */
#include "microrpc_internal.h"

#if __SIZEOF_DOUBLE__ != 8

typedef char double_has_4_bytes[sizeof(double) == 4 ? 1 : -1];

#define SIGN_SHIFT 32 /* of an f64's upper half, which lies where an f32 has it */
#define MORE_BITS 29  /* of the fraction of an f64 */
#define F32_INFINITY UINT32_C(0x7F800000)
#define F64_BIAS 1023
#define F32_BIAS 127

uint64_t mrpc_real_bits(double number) {
    uint32_t bits, fraction;
    int exponent;
    uint64_t sign;
    memcpy(&bits, &number, sizeof bits);
    sign = (uint64_t)(bits >> 31) << 63;
    fraction = bits & UINT32_C(0x007FFFFF);
    exponent = (int)(bits >> 23 & 0xFF);
    if (exponent == 0xFF) {
        exponent = 0x7FF;
    } else if (exponent || fraction) {
        if (!exponent) { /* a small one, which an f64 has with a leading 1 */
            for (exponent = 1; !(fraction >> 23); fraction <<= 1) exponent--;
            fraction &= UINT32_C(0x007FFFFF);
        }
        exponent += F64_BIAS - F32_BIAS;
    }
    return sign | (uint64_t)exponent << 52 | (uint64_t)fraction << MORE_BITS;
}

/* Shift to the right, and round to the nearest, a tie to the even one. */
static uint32_t rounded(uint64_t value, int shift) {
    uint64_t lost = value & ((UINT64_C(1) << shift) - 1), half = UINT64_C(1) << (shift - 1);
    uint32_t kept = (uint32_t)(value >> shift);
    return kept + (lost > half || (lost == half && (kept & 1)));
}

double mrpc_real(uint64_t wire_bits) {
    uint64_t fraction = wire_bits & ((UINT64_C(1) << 52) - 1);
    int exponent = (int)(wire_bits >> 52 & 0x7FF) - (F64_BIAS - F32_BIAS);
    uint32_t bits;
    double number;
    if (exponent == 0x7FF - (F64_BIAS - F32_BIAS) && fraction) {
        bits = UINT32_C(0x7FC00000) | (uint32_t)(fraction >> MORE_BITS); /* a NaN stays one */
    } else if (exponent >= 0xFF) {
        bits = F32_INFINITY;
    } else if (exponent > 0) { /* what is rounded up carries into the exponent, up to infinity */
        bits = ((uint32_t)exponent << 23) + rounded(fraction, MORE_BITS);
    } else if (exponent > -24) {
        bits = rounded(fraction | UINT64_C(1) << 52, MORE_BITS + 1 - exponent);
    } else {
        bits = 0;
    }
    bits |= (uint32_t)(wire_bits >> SIGN_SHIFT) & UINT32_C(0x80000000);
    memcpy(&number, &bits, sizeof number);
    return number;
}

#endif
