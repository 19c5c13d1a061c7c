/* What zig lacks of math.h for floats, on a board without an operating system: it has exp, log, sqrt, sin, rounding by
 * floor. The rest is here, made of these, right to some units of the last place. Each is weak: a libm that has it goes
 * first. */
#include <stdint.h>

/* These the compiler has. */
float expf(float), logf(float), sqrtf(float), truncf(float);
double exp2(double), log2(double);

#define WEAK __attribute__((weak))
#define PI 3.14159274F
#define NOT_A_NUMBER __builtin_nanf("")
#define INFINITE __builtin_inff()
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

float copysignf(float, float), nearbyintf(float), rintf(float), ldexpf(float, int);
float expm1f(float), log1pf(float), powf(float, float), cbrtf(float), hypotf(float, float);
float sinhf(float), coshf(float), tanhf(float), asinhf(float), acoshf(float), atanhf(float);
float atanf(float), atan2f(float, float), asinf(float), acosf(float), erff(float), erfcf(float);

typedef union {
    float number;
    uint32_t bits;
} float_bits_t;

static float magnitude(float x) {
    float_bits_t same = {x};
    same.bits &= 0x7FFFFFFFu;
    return same.number;
}

static int is_nan(float x) { return x != x; }

static float polynomial(const float *coefficients, unsigned count, float x) {
    float sum = 0;
    while (count) sum = sum * x + coefficients[--count];
    return sum;
}

WEAK float copysignf(float x, float sign) {
    float_bits_t same = {x}, given = {sign};
    same.bits = (same.bits & 0x7FFFFFFFu) | (given.bits & 0x80000000u);
    return same.number;
}

/* To the even one of two that are as near. */
WEAK float nearbyintf(float x) {
    const float whole = 8388608; /* 2^23: from here on there are no halves */
    volatile float shifted;
    if (!(magnitude(x) < whole)) return x;
    shifted = magnitude(x) + whole;
    return copysignf(shifted - whole, x);
}

WEAK float rintf(float x) { return nearbyintf(x); }

WEAK float ldexpf(float x, int exponent) {
    while (exponent > 120) x *= 0x1p120F, exponent -= 120;
    while (exponent < -120) {
        x *= 0x1p-120F, exponent += 120;
        if (x == 0) return x;
    }
    return x * (float)exp2(exponent);
}

/* The error of exp(x) is that of its logarithm, too (Kahan). */
WEAK float expm1f(float x) {
    float grown;
    if (x > 89 || is_nan(x)) return x > 89 ? INFINITE : x;
    if (magnitude(x) < 1e-4F) return x + x * x / 2;
    if (magnitude(x) > 1) return expf(x) - 1;
    grown = expf(x);
    return (grown - 1) * x / logf(grown);
}

WEAK float log1pf(float x) {
    float whole = 1 + x;
    if (magnitude(x) < 1e-7F || x == INFINITE) return x;
    return whole == 1 ? x : logf(whole) * (x / (whole - 1));
}

/* x is positive. */
static float power(float x, float exponent) { return (float)exp2((double)exponent * log2((double)x)); }

WEAK float powf(float x, float exponent) {
    float size = magnitude(x), found;
    int is_whole = truncf(exponent) == exponent, is_odd;
    if (exponent == 0 || x == 1) return 1;
    if (is_nan(x) || is_nan(exponent)) return NOT_A_NUMBER;
    is_odd = is_whole && magnitude(exponent) < 16777216 && truncf(exponent / 2) * 2 != exponent;
    if (magnitude(exponent) == INFINITE) {
        if (size == 1) return 1;
        return (size > 1) == (exponent > 0) ? INFINITE : 0;
    }
    if (x < 0 && !is_whole && size != INFINITE) return NOT_A_NUMBER;
    if (size == 0 || size == INFINITE) {
        found = (size == 0) == (exponent < 0) ? INFINITE : 0;
    } else {
        found = power(size, exponent);
    }
    return is_odd ? copysignf(found, x) : found;
}

WEAK float cbrtf(float x) {
    float size = magnitude(x);
    if (!(size > 0) || size == INFINITE) return x;
    return copysignf((float)exp2(log2((double)size) / 3), x);
}

WEAK float hypotf(float x, float y) {
    float large = magnitude(x), small = magnitude(y), ratio;
    if (large == INFINITE || small == INFINITE) return INFINITE;
    if (large < small) ratio = large, large = small, small = ratio;
    if (!(large > 0)) return large + small;
    ratio = small / large;
    return large * sqrtf(1 + ratio * ratio);
}

WEAK float sinhf(float x) {
    float size = magnitude(x), grown, half;
    if (size > 80) {
        half = expf(size / 2);
        return copysignf(half / 2 * half, x);
    }
    grown = expm1f(size);
    return copysignf((grown + grown / (grown + 1)) / 2, x);
}

WEAK float coshf(float x) {
    float half = expf(magnitude(x) / 2), grown = half * half;
    return magnitude(x) > 80 ? half / 2 * half : (grown + 1 / grown) / 2;
}

WEAK float tanhf(float x) {
    float grown;
    if (is_nan(x)) return x;
    if (magnitude(x) > 10) return copysignf(1, x);
    grown = expm1f(2 * magnitude(x));
    return copysignf(grown / (grown + 2), x);
}

WEAK float asinhf(float x) {
    float size = magnitude(x);
    if (size > 1e9F) return copysignf(logf(size) + 0.693147182F, x);
    return copysignf(log1pf(size + size * size / (1 + sqrtf(size * size + 1))), x);
}

WEAK float acoshf(float x) {
    float more = x - 1;
    if (x < 1) return NOT_A_NUMBER;
    return x > 1e9F ? logf(x) + 0.693147182F : log1pf(more + sqrtf(more * (more + 2)));
}

WEAK float atanhf(float x) {
    float size = magnitude(x);
    return copysignf(log1pf(2 * size / (1 - size)) / 2, x);
}

/* Of x in 0 ... 1. */
static float small_atan(float x) {
    static const float of_square[] = {1, -0.333333075F, 0.199982107F, -0.142399833F, 0.105728142F, -0.0603324175F};
    float shift = 0;
    if (x > 0.414213568F) { /* the tangent of 22.5 degrees */
        x = (x - 1) / (x + 1);
        shift = PI / 4;
    }
    return shift + x * polynomial(of_square, COUNT(of_square), x * x);
}

WEAK float atanf(float x) {
    float size = magnitude(x);
    if (is_nan(x)) return x;
    return copysignf(size > 1 ? PI / 2 - small_atan(1 / size) : small_atan(size), x);
}

WEAK float atan2f(float y, float x) {
    float rise = magnitude(y), run = magnitude(x), angle;
    float_bits_t sign = {x};
    if (is_nan(x) || is_nan(y)) return NOT_A_NUMBER;
    if (rise == run) {
        angle = rise == 0 ? 0 : PI / 4;
    } else {
        angle = rise > run ? PI / 2 - small_atan(run / rise) : small_atan(rise / run);
    }
    return copysignf(sign.bits >> 31 ? PI - angle : angle, y);
}

WEAK float asinf(float x) {
    return magnitude(x) <= 1 ? atan2f(x, sqrtf((1 - x) * (1 + x))) : NOT_A_NUMBER;
}

WEAK float acosf(float x) {
    return magnitude(x) <= 1 ? 2 * atan2f(sqrtf(1 - x), sqrtf(1 + x)) : NOT_A_NUMBER;
}

/* erfc(x) of x from 1 on: a polynomial of 1 / (x + 1), fitted to erfc(x) exp(x^2) between 1 and 4.5. */
static float tail(float x) {
    static const float of_inverse[] = {3.11473232e-05F, 0.563143611F,   0.579688907F,  0.149380475F, 0.436966896F,
                                       -3.21906853F,    5.26221895F, -4.1092453F,   1.49869192F,  -0.154449582F};
    if (x > 10.1F) return 0;
    return expf(-x * x) * polynomial(of_inverse, COUNT(of_inverse), 1 / (x + 1));
}

WEAK float erff(float x) {
    /* Fitted to erf(x) / x between 0 and 1. */
    static const float of_square[] = {1.12837923F,    -0.376126379F,    0.112837829F,    -0.0268654376F,
                                      0.00522105349F, -0.000848439639F, 0.000112682537F, -9.67359028e-06F};
    float size = magnitude(x);
    if (is_nan(x)) return x;
    if (size < 1) return x * polynomial(of_square, COUNT(of_square), x * x);
    return copysignf(1 - tail(size), x);
}

WEAK float erfcf(float x) {
    if (is_nan(x)) return x;
    if (magnitude(x) < 1) return 1 - erff(x);
    return x > 0 ? tail(x) : 2 - tail(-x);
}
