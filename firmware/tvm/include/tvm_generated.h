/* For C that TVM has generated: all that it includes of TVM, and what keeps such a file from warnings and clashes. */
#ifndef MICRORPC_TVM_GENERATED_H
#define MICRORPC_TVM_GENERATED_H

#include "tvm_ffi_abi.h"

#define TVM_DLL

/* It is not written by hand: what it does not use, converts and leaves open is the generator's affair. */
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wunknown-warning-option"
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wfloat-conversion"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wunused"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-variable"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#pragma GCC diagnostic ignored "-Wempty-body"
#pragma GCC diagnostic ignored "-Wtautological-compare"
#pragma GCC diagnostic ignored "-Wparentheses-equality"
#pragma GCC diagnostic ignored "-Wimplicit-int-float-conversion"
#pragma GCC diagnostic ignored "-Woverflow"
#pragma GCC diagnostic ignored "-Wliteral-range"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wsometimes-uninitialized"

/* float16, as the generator calls it; where the compiler has it, the processor need not. */
#if !defined(__cplusplus) && defined(__FLT16_MAX__)
typedef _Float16 half;
#endif

/* Numbers that the generator's own six digits after the point do not tell exactly, by their bits. */
static inline float tvm_float32(uint32_t bits) {
    union {
        uint32_t bits;
        float number;
    } same = {bits};
    return same.number;
}

static inline double tvm_float64(int64_t bits) {
    union {
        int64_t bits;
        double number;
    } same = {bits};
    return same.number;
}

/* Zeros before the first one of a number, and ones in it. */
static inline int32_t tvm_clz32(uint32_t number) { return number ? __builtin_clz(number) : 32; }
static inline int32_t tvm_clz64(uint64_t number) { return number ? __builtin_clzll(number) : 64; }
static inline int32_t tvm_popcount32(uint32_t number) { return __builtin_popcount(number); }
static inline int32_t tvm_popcount64(uint64_t number) { return __builtin_popcountll(number); }

/* How TVM prints what its own rules compare to. */
#define inff __builtin_inff()

/* Every generated file has these two of its own; what calls its functions does so by their names. */
#ifdef __cplusplus
extern "C"
#endif
__attribute__((weak)) extern void *__tvm_ffi__library_ctx;
#ifdef __cplusplus
extern "C"
#endif
__attribute__((weak)) int32_t __tvm_ffi_main(void *self, void *args, int32_t count, void *result);

#endif
