/* Networks of dense layers, as emlearn converts them, as models (docs/models.md 3). */
#ifndef MICRORPC_EMLEARN_H
#define MICRORPC_EMLEARN_H

#include "microrpc_model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    MICRORPC_EMLEARN_IDENTITY,
    MICRORPC_EMLEARN_RELU,
    MICRORPC_EMLEARN_LOGISTIC,
    MICRORPC_EMLEARN_SOFTMAX,
    MICRORPC_EMLEARN_TANH
} microrpc_emlearn_activation_t;

typedef struct {
    uint16_t inputs;
    uint16_t outputs;
    const float *weights; /* of input i and output o at [i * outputs + o] */
    const float *biases;
    microrpc_emlearn_activation_t activation;
} microrpc_emlearn_layer_t;

/* The `context` of its model, which has a layer for each of these. */
typedef struct {
    const microrpc_emlearn_layer_t *layers;
    float *buffers[2]; /* what the layers but the last one give, by turns; as much as the largest of them */
} microrpc_emlearn_net_t;

/* The `run` of such a model: float32 in, float32 out. */
const char *microrpc_emlearn_run(const microrpc_model_t *model, const void *const *inputs, void *const *outputs,
                                 microrpc_model_run_t *run);

#ifdef __cplusplus
}
#endif

#endif
