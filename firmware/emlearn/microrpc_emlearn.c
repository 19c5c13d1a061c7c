/* Networks of dense layers. It needs no library of mathematics: not every board has one. */
#include "microrpc_emlearn.h"

#if MICRORPC_MODELS

/* e^x to 2e-7 of it: 2^n e^r, where r is at most half of ln 2. Below 2^-126 it is 0, and above 2^127 no more than that. */
static float exponential(float x) {
    union {
        uint32_t bits;
        float number;
    } power;
    float r, series;
    int32_t n;
    if (x != x) return x; /* no number, which no integer stands for */
    if (x < -87.0f) return 0;
    if (x > 88.0f) x = 88.0f;
    n = (int32_t)(x * 1.44269504f + (x < 0 ? -0.5f : 0.5f));
    r = x - (float)n * 0.693359375f + (float)n * 2.12194440e-4f; /* ln 2, in two pieces */
    series = 1 + r * (1 + r * (0.5f + r * (1.0f / 6 + r * (1.0f / 24 + r * (1.0f / 120 + r * (1.0f / 720))))));
    power.bits = (uint32_t)(n + 127) << 23;
    return series * power.number;
}

static float hyperbolic_tangent(float x) {
    float e = exponential(x < 0 ? 2 * x : -2 * x), of_positive = (1 - e) / (1 + e);
    return x < 0 ? -of_positive : of_positive;
}

static void softmax(float *values, unsigned count) {
    float most = values[0], sum = 0;
    for (unsigned i = 1; i < count; i++)
        if (values[i] > most) most = values[i];
    for (unsigned i = 0; i < count; i++) sum += values[i] = exponential(values[i] - most);
    for (unsigned i = 0; i < count; i++) values[i] /= sum;
}

static float activated(microrpc_emlearn_activation_t activation, float x) {
    if (activation == MICRORPC_EMLEARN_RELU) return x < 0 ? 0 : x;
    if (activation == MICRORPC_EMLEARN_LOGISTIC) return 1 / (1 + exponential(-x));
    return activation == MICRORPC_EMLEARN_TANH ? hyperbolic_tangent(x) : x;
}

static void run_layer(const microrpc_emlearn_layer_t *layer, const float *x, float *y) {
    for (unsigned o = 0; o < layer->outputs; o++) {
        float sum = 0;
        for (unsigned i = 0; i < layer->inputs; i++) sum += layer->weights[(size_t)i * layer->outputs + o] * x[i];
        y[o] = activated(layer->activation, sum + layer->biases[o]);
    }
    if (layer->activation == MICRORPC_EMLEARN_SOFTMAX) softmax(y, layer->outputs);
}

const char *microrpc_emlearn_run(const microrpc_model_t *model, const void *const *inputs, void *const *outputs,
                                 microrpc_model_run_t *run) {
    const microrpc_emlearn_net_t *net = model->context;
    const float *x = inputs[0];
    for (uint16_t i = 0; i < model->layer_count; i++) {
        float *y = i + 1 < model->layer_count ? net->buffers[i & 1] : outputs[0];
        run_layer(&net->layers[i], x, y);
        microrpc_model_layer_done(run, i, y);
        x = y;
    }
    return NULL;
}

#endif
