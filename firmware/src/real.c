/* Numbers with a point where `double` has 4 bytes, as on an AVR: on the wire they have 8 (docs/protocol.md 3). Such CPUs
 * have short registers: all of it is done in 32 bits. */
#include "microrpc_internal.h"

#if __SIZEOF_DOUBLE__ != 8

typedef char double_has_4_bytes[sizeof(double) == 4 ? 1 : -1];

#define F32_SIGN UINT32_C(0x80000000)
#define F32_INFINITY UINT32_C(0x7F800000)
#define F32_NAN UINT32_C(0x7FC00000)
#define F32_FRACTION UINT32_C(0x007FFFFF)
#define F32_ONE (F32_FRACTION + 1) /* what stands before the fraction */
#define F64_INFINITY_EXPONENT 0x7FF
#define BIASES_DIFFER 896 /* 1023 of an f64, 127 of an f32 */

uint64_t mrpc_real_bits(double number) {
    uint32_t bits, fraction, high;
    int exponent;
    memcpy(&bits, &number, sizeof bits);
    fraction = bits & F32_FRACTION;
    exponent = (int)(bits >> 23 & 0xFF);
    if (exponent == 0xFF) {
        exponent = F64_INFINITY_EXPONENT;
    } else if (exponent || fraction) {
        if (!exponent) { /* a small one: an f64 has it with a 1 before the fraction */
            for (exponent = 1; !(fraction & F32_ONE); fraction <<= 1) exponent--;
            fraction &= F32_FRACTION;
        }
        exponent += BIASES_DIFFER;
    }
    high = (bits & F32_SIGN) | (uint32_t)exponent << 20 | fraction >> 3;
    return (uint64_t)high << 32 | fraction << 29;
}

double mrpc_real(uint64_t wire_bits) {
    uint32_t high = (uint32_t)(wire_bits >> 32), low = (uint32_t)wire_bits, bits;
    /* The fraction, a bit more, and whether there is anything behind that. */
    uint32_t kept = (high & UINT32_C(0xFFFFF)) << 5 | (low >> 28) << 1 | (low << 4 != 0);
    int exponent = (int)(high >> 20 & 0x7FF) - BIASES_DIFFER;
    double number;
    if (exponent >= 0xFF) {
        bits = exponent == F64_INFINITY_EXPONENT - BIASES_DIFFER && kept ? F32_NAN : F32_INFINITY;
    } else {
        if (exponent <= 0) {
            int shift = exponent < -24 ? 25 : 1 - exponent;
            for (kept |= F32_ONE << 2; shift; shift--) kept = kept >> 1 | (kept & 1);
            exponent = 0;
        }
        /* To the nearest, a tie to the even one; what that carries goes into the exponent, up to infinity. */
        bits = ((uint32_t)exponent << 23) + (kept >> 2) + ((kept & 2) && (kept & 5));
    }
    bits |= high & F32_SIGN;
    memcpy(&number, &bits, sizeof number);
    return number;
}

#endif
