/* The functions of math.h that kernels call. zig brings them for every target, but has the header only where there is an
 * operating system, whose own this one then gives. */
#pragma GCC system_header
#if __STDC_HOSTED__
#include_next <math.h>
#elif !defined(MICRORPC_TVM_MATH_H)
#define MICRORPC_TVM_MATH_H

#define NAN __builtin_nanf("")
#define INFINITY __builtin_inff()
#define HUGE_VAL __builtin_huge_val()
#define isnan(x) __builtin_isnan(x)
#define isinf(x) __builtin_isinf(x)
#define isfinite(x) __builtin_isfinite(x)
#define signbit(x) __builtin_signbit(x)

#define MICRORPC_TVM_UNARY(name) \
    float name##f(float);        \
    double name(double);
#define MICRORPC_TVM_BINARY(name) \
    float name##f(float, float);  \
    double name(double, double);
MICRORPC_TVM_UNARY(acos)
MICRORPC_TVM_UNARY(acosh)
MICRORPC_TVM_UNARY(asin)
MICRORPC_TVM_UNARY(asinh)
MICRORPC_TVM_UNARY(atan)
MICRORPC_TVM_UNARY(atanh)
MICRORPC_TVM_UNARY(cbrt)
MICRORPC_TVM_UNARY(ceil)
MICRORPC_TVM_UNARY(cos)
MICRORPC_TVM_UNARY(cosh)
MICRORPC_TVM_UNARY(erf)
MICRORPC_TVM_UNARY(erfc)
MICRORPC_TVM_UNARY(exp)
MICRORPC_TVM_UNARY(exp2)
MICRORPC_TVM_UNARY(expm1)
MICRORPC_TVM_UNARY(fabs)
MICRORPC_TVM_UNARY(floor)
MICRORPC_TVM_UNARY(log)
MICRORPC_TVM_UNARY(log10)
MICRORPC_TVM_UNARY(log1p)
MICRORPC_TVM_UNARY(log2)
MICRORPC_TVM_UNARY(nearbyint)
MICRORPC_TVM_UNARY(rint)
MICRORPC_TVM_UNARY(round)
MICRORPC_TVM_UNARY(sin)
MICRORPC_TVM_UNARY(sinh)
MICRORPC_TVM_UNARY(sqrt)
MICRORPC_TVM_UNARY(tan)
MICRORPC_TVM_UNARY(tanh)
MICRORPC_TVM_UNARY(tgamma)
MICRORPC_TVM_UNARY(lgamma)
MICRORPC_TVM_UNARY(trunc)
MICRORPC_TVM_BINARY(atan2)
MICRORPC_TVM_BINARY(copysign)
MICRORPC_TVM_BINARY(fdim)
MICRORPC_TVM_BINARY(fmax)
MICRORPC_TVM_BINARY(fmin)
MICRORPC_TVM_BINARY(fmod)
MICRORPC_TVM_BINARY(hypot)
MICRORPC_TVM_BINARY(nextafter)
MICRORPC_TVM_BINARY(pow)
MICRORPC_TVM_BINARY(remainder)
float ldexpf(float, int);
double ldexp(double, int);
#undef MICRORPC_TVM_UNARY
#undef MICRORPC_TVM_BINARY
#endif
