/* Models: what a host sees of a neural network, a tree, or whatever takes tensors and gives tensors (docs/models.md).
 *
 * A table says what a model takes and gives, and `run` runs it. Whatever runtime made the model fills the table: TVM's
 * build and the adapter of emlearn do, or a function that was written by hand:
 *
 *     static const uint32_t shape[] = {1, 4};
 *     static const microrpc_model_tensor_t input = {"x", {MICRORPC_DTYPE_FLOAT, 32, 1}, 2, shape, 0, 0};
 *     static const microrpc_model_tensor_t output = {"y", {MICRORPC_DTYPE_FLOAT, 32, 1}, 2, shape, 0, 0};
 *
 *     static const char *run(const microrpc_model_t *model, const void *const *inputs, void *const *outputs,
 *                            microrpc_model_run_t *run) {
 *         double_all(inputs[0], outputs[0]);
 *         return NULL;
 *     }
 *     static const microrpc_model_t doubling = {.name = "doubling", .hash = 1, .inputs = &input, .outputs = &output,
 *                                               .input_count = 1, .output_count = 1, .run = run};
 *
 *     const microrpc_model_t *const board_models[] = {&doubling};
 *     const size_t board_model_count = 1;
 *
 * The library serves them where it is built with MICRORPC_MODELS=1.
 */
#ifndef MICRORPC_MODEL_H
#define MICRORPC_MODEL_H

#include "microrpc.h"

#ifdef __cplusplus
extern "C" {
#endif

/* An input, an output, or the output of a layer. */
typedef struct {
    const char *name;
    microrpc_dtype_t dtype;
    uint8_t ndim;
    const uint32_t *extents; /* NULL where ndim is 0 */
    /* A number x stands for (x - zero_point) * scale. 0: it is not quantised. */
    float scale;
    int32_t zero_point;
} microrpc_model_tensor_t;

/* A step whose time is told by itself. */
typedef struct {
    const char *name;
    microrpc_model_tensor_t output; /* dtype.bits 0: it cannot be had */
} microrpc_model_layer_t;

/* A run in progress. */
typedef struct microrpc_model_run microrpc_model_run_t;

/* A model. Like its runtime's constants it may lie in flash; it is not copied. */
typedef struct microrpc_model {
    const char *name;
    uint64_t hash; /* another one for other weights or another structure */
    const microrpc_model_tensor_t *inputs;
    const microrpc_model_tensor_t *outputs;
    const microrpc_model_layer_t *layers; /* NULL where there are none */
    uint16_t input_count;
    uint16_t output_count;
    uint16_t layer_count;
    uint32_t weights_bytes;   /* constants */
    uint32_t arena_bytes;     /* intermediate tensors */
    uint32_t workspace_bytes; /* what is needed besides */
    /* Compute `outputs` from `inputs`: their data, compact, each of the type and shape that the table says, aligned to
     * their elements and, where a host allocated them, to 8; no output shares memory with anything else. NULL: it is
     * done; else why it is not, a text that stays. It calls microrpc_model_layer_done(run, ...) after each layer. */
    const char *(*run)(const struct microrpc_model *model, const void *const *inputs, void *const *outputs,
                       microrpc_model_run_t *run);
    const void *context; /* the runtime's own */
} microrpc_model_t;

/* Tell that layer number `layer` is done: its time ends here. `output` is what it gave, in the type and shape of the
 * table, and may be NULL where that cannot be had. `run` is what `run` of the model was given; NULL does nothing. A layer
 * that is done several times counts all its times, and its last output. */
void microrpc_model_layer_done(microrpc_model_run_t *run, uint16_t layer, const void *output);

#ifdef __cplusplus
}
#endif

#endif
