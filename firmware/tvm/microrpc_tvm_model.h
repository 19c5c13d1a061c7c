/* Whole models: kernels that TVM has compiled, run one after the other. Tables say which, and where their tensors lie;
 * `microrpc tvm build` writes them.
 *
 *     static const microrpc_tvm_place_t dense_places[] = {
 *         {MICRORPC_TVM_INPUT, 0}, {MICRORPC_TVM_CONSTANT, 0}, {MICRORPC_TVM_ARENA, 0}};
 *     static const microrpc_tvm_step_t steps[] = {{&dense, dense_places, 0, 2}, ...};
 *
 * The plan of these is the `context` of a model whose `run` is microrpc_tvm_run_model.
 */
#ifndef MICRORPC_TVM_MODEL_H
#define MICRORPC_TVM_MODEL_H

#include "microrpc_model.h"
#include "microrpc_tvm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where a tensor lies: it is the input, output or constant of a number, or in the arena at an offset in bytes. */
typedef enum {
    MICRORPC_TVM_INPUT,
    MICRORPC_TVM_OUTPUT,
    MICRORPC_TVM_CONSTANT,
    MICRORPC_TVM_ARENA
} microrpc_tvm_where_t;

typedef struct {
    uint8_t where;
    uint32_t index;
} microrpc_tvm_place_t;

/* A kernel with a place for each of its arguments, all of them tensors. NULL: the first is copied into the second. */
typedef struct {
    const microrpc_tvm_function_t *function;
    const microrpc_tvm_place_t *places;
    uint32_t copied_bytes;
    uint16_t output; /* which argument the layer gives */
} microrpc_tvm_step_t;

typedef struct {
    const microrpc_tvm_step_t *steps;
    uint16_t step_count;
    const void *const *constants;
    uint8_t *arena;
    void **data; /* room for the addresses of a step's arguments */
} microrpc_tvm_plan_t;

/* The `run` of a model: each step is a layer. */
const char *microrpc_tvm_run_model(const microrpc_model_t *model, const void *const *inputs, void *const *outputs,
                                   microrpc_model_run_t *run);

/* The same as a kernel, whose arguments are the inputs, then the outputs; its table of arguments has checked them.
 * Outputs must share no bytes with what else it is given. `room` has a pointer for each argument. */
int32_t microrpc_tvm_model_kernel(const microrpc_model_t *model, void **room, const void *args, int32_t count);

#ifdef __cplusplus
}
#endif

#endif
