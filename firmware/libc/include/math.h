/* The functions of math.h. zig brings some of them for a board without an operating system, math.c has more; a call of
 * one that nothing has is an error, which says what to do. */
#ifndef MICRORPC_MATH_H
#define MICRORPC_MATH_H

#define NAN __builtin_nanf("")
#define INFINITY __builtin_inff()
#define HUGE_VAL __builtin_huge_val()
#define HUGE_VALF __builtin_huge_valf()
#define isnan(x) __builtin_isnan(x)
#define isinf(x) __builtin_isinf(x)
#define isfinite(x) __builtin_isfinite(x)
#define isnormal(x) __builtin_isnormal(x)
#define signbit(x) __builtin_signbit(x)

#define MICRORPC_UNARY(name) \
    float name##f(float);    \
    double name(double);
#define MICRORPC_BINARY(name)     \
    float name##f(float, float); \
    double name(double, double);
MICRORPC_UNARY(ceil)
MICRORPC_UNARY(cos)
MICRORPC_UNARY(exp)
MICRORPC_UNARY(exp2)
MICRORPC_UNARY(fabs)
MICRORPC_UNARY(floor)
MICRORPC_UNARY(log)
MICRORPC_UNARY(log10)
MICRORPC_UNARY(log2)
MICRORPC_UNARY(round)
MICRORPC_UNARY(sin)
MICRORPC_UNARY(sqrt)
MICRORPC_UNARY(tan)
MICRORPC_UNARY(trunc)
MICRORPC_BINARY(fmax)
MICRORPC_BINARY(fmin)
MICRORPC_BINARY(fmod)
float fmaf(float, float, float);
double fma(double, double, double);
#undef MICRORPC_UNARY
#undef MICRORPC_BINARY

#define MICRORPC_NONE(name) __attribute__((error("zig has no " name " for a board: build with --compiler gcc")))
#define MICRORPC_FLOAT_ONLY(name) \
    __attribute__((error("zig has no " name " for a board: use " name "f, or build with --compiler gcc")))
#define MICRORPC_UNARY(name) \
    float name##f(float);    \
    MICRORPC_FLOAT_ONLY(#name) double name(double);
#define MICRORPC_BINARY(name)    \
    float name##f(float, float); \
    MICRORPC_FLOAT_ONLY(#name) double name(double, double);
MICRORPC_UNARY(acos)
MICRORPC_UNARY(acosh)
MICRORPC_UNARY(asin)
MICRORPC_UNARY(asinh)
MICRORPC_UNARY(atan)
MICRORPC_UNARY(atanh)
MICRORPC_UNARY(cbrt)
MICRORPC_UNARY(cosh)
MICRORPC_UNARY(erf)
MICRORPC_UNARY(erfc)
MICRORPC_UNARY(expm1)
MICRORPC_UNARY(log1p)
MICRORPC_UNARY(nearbyint)
MICRORPC_UNARY(rint)
MICRORPC_UNARY(sinh)
MICRORPC_UNARY(tanh)
MICRORPC_BINARY(atan2)
MICRORPC_BINARY(copysign)
MICRORPC_BINARY(hypot)
MICRORPC_BINARY(pow)
float ldexpf(float, int);
MICRORPC_FLOAT_ONLY("ldexp") double ldexp(double, int);
#undef MICRORPC_UNARY
#undef MICRORPC_BINARY

#define MICRORPC_UNARY(name)                       \
    MICRORPC_NONE(#name "f") float name##f(float); \
    MICRORPC_NONE(#name) double name(double);
#define MICRORPC_BINARY(name)                             \
    MICRORPC_NONE(#name "f") float name##f(float, float); \
    MICRORPC_NONE(#name) double name(double, double);
MICRORPC_UNARY(lgamma)
MICRORPC_UNARY(tgamma)
MICRORPC_UNARY(logb)
MICRORPC_BINARY(fdim)
MICRORPC_BINARY(nextafter)
MICRORPC_BINARY(remainder)
MICRORPC_NONE("modff") float modff(float, float *);
MICRORPC_NONE("modf") double modf(double, double *);
MICRORPC_NONE("frexpf") float frexpf(float, int *);
MICRORPC_NONE("frexp") double frexp(double, int *);
MICRORPC_NONE("lroundf") long lroundf(float);
MICRORPC_NONE("lround") long lround(double);
#undef MICRORPC_UNARY
#undef MICRORPC_BINARY
#undef MICRORPC_FLOAT_ONLY
#undef MICRORPC_NONE

#endif
