/* Kernels that TVM has compiled, as functions of a board.
 *
 *     MICRORPC_TVM_KERNEL(__tvm_ffi_add)
 *     static const int32_t of_16[] = {16};
 *     static const microrpc_tvm_argument_t add_arguments[] = {
 *         {{MICRORPC_DTYPE_FLOAT, 32, 1}, 1, of_16}, {{MICRORPC_DTYPE_FLOAT, 32, 1}, 1, of_16}};
 *     static const microrpc_tvm_function_t add = {"add", __tvm_ffi_add, add_arguments, 2};
 *     static void call_add(microrpc_call_t *call) { microrpc_tvm_call(call, &add); }
 *
 * and `call_add` goes into a table of functions. Kernels need not check what they are given: this does, by the table. It
 * allocates nothing but of the workspace, which is static, and is no more reentrant than the library.
 */
#ifndef MICRORPC_TVM_H
#define MICRORPC_TVM_H

#include "microrpc.h"
#include "tvm_ffi_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What kernels have of memory besides what they are given, in bytes: their intermediate buffers, and while one is called
 * its arguments (of N with D dimensions in all: N * (16 + sizeof(DLTensor)) + 8 * D). A multiple of 16. */
#ifndef MICRORPC_TVM_WORKSPACE_BYTES
#define MICRORPC_TVM_WORKSPACE_BYTES 4096
#endif

/* What the data of every tensor must be aligned to, besides its elements: 16 where kernels were compiled to load vectors
 * with aligned instructions, as LLVM does for x86-64 where a schedule has vectors. */
#ifndef MICRORPC_TVM_ALIGNMENT_BYTES
#define MICRORPC_TVM_ALIGNMENT_BYTES 1
#endif

/* A kernel as TVM compiles it, whose symbol is __tvm_ffi_NAME: 0, or another number after it told why. */
typedef int32_t (*microrpc_tvm_kernel_t)(void *self, void *args, int32_t count, void *result);
#define MICRORPC_TVM_KERNEL(symbol) int32_t symbol(void *self, void *args, int32_t count, void *result);

/* What a kernel takes: a tensor of `ndim` dimensions, or where that is MICRORPC_TVM_NUMBER a number of the type `dtype`.
 * An extent that is negative stands for any; where it is less than -1 for the same in all arguments that have it. */
typedef struct {
    microrpc_dtype_t dtype;
    uint8_t ndim;
    const int32_t *extents;
} microrpc_tvm_argument_t;
#define MICRORPC_TVM_NUMBER 255u

typedef struct {
    const char *name; /* for what is told */
    microrpc_tvm_kernel_t kernel;
    const microrpc_tvm_argument_t *arguments;
    int16_t argument_count; /* -1: they are not known, and nothing is checked */
} microrpc_tvm_function_t;

/* Call `function` with the arguments of `call`, as its handler; give what it gives, a number or nothing. The call fails,
 * with a text that says what is wanted, where they are not what it takes, and with the kernel's own where that fails. */
void microrpc_tvm_call(microrpc_call_t *call, const microrpc_tvm_function_t *function);

/* Call it from C: `data` has for each argument of its table the address of a tensor's elements, or of an int64_t (for
 * int, uint and bool) or a double (for float) that is the number. No extent of the table may be negative. NULL, or why
 * it failed, until the next call. */
const char *microrpc_tvm_run(const microrpc_tvm_function_t *function, void *const *data);

/* The most that was used of the workspace since the start, in bytes. */
uint32_t microrpc_tvm_workspace_most_used_bytes(void);

#ifdef __cplusplus
}
#endif

#endif
