/* Demonstration models: a network of floats, and one of int8; the same as the simulator's
 * (firmware_sim/board/demo_models.py). A runtime's generated code takes their place in a real project. */
#include "functions.h"

#if MICRORPC_MODELS

#define FLOAT32 {MICRORPC_DTYPE_FLOAT, 32, 1}
#define INT32 {MICRORPC_DTYPE_INT, 32, 1}
#define INT8 {MICRORPC_DTYPE_INT, 8, 1}
#define COUNT(table) ((uint16_t)(sizeof(table) / sizeof((table)[0])))

static const uint32_t three[] = {1, 3}, four[] = {1, 4}, eight[] = {1, 8};

/* --- of floats: 4 numbers -> 8, relu -> 3 ------------------------------------------------------------------------ */

static const float hidden_weights[4][8] = {
    {0.25f, -0.5f, 0.5f, -0.875f, -0.75f, -0.625f, 0.375f, -0.875f},
    {1.0f, -0.25f, -0.875f, -0.75f, 0.625f, 0.625f, -0.75f, -0.125f},
    {-0.75f, 0.625f, -0.875f, -0.625f, -0.125f, -0.875f, 0.5f, -0.875f},
    {-0.125f, -0.875f, -0.5f, 0.125f, 0.625f, -0.5f, -0.625f, 0.125f},
};
static const float hidden_biases[8] = {-0.375f, -0.625f, -0.25f, 0.375f, -0.625f, -0.75f, -0.875f, -0.25f};
static const float weights[8][3] = {
    {0.875f, 0.625f, 0.25f}, {0.75f, 0.75f, 0.375f},  {0.125f, -0.125f, -0.375f}, {-0.125f, -0.75f, 0.125f},
    {1.0f, 0.875f, 0.25f},   {0.75f, 0.125f, -0.75f}, {-0.625f, 1.0f, 0.625f},    {-0.375f, 0.25f, -0.5f},
};
static const float biases[3] = {0.875f, 0.625f, -0.875f};

/* out = x @ weights + biases; the products of an element are added up in order, to its bias. */
static void dense(const float *x, unsigned rows, const float *of_weights, const float *of_biases, unsigned columns,
                  float *out) {
    for (unsigned column = 0; column < columns; column++) {
        float sum = of_biases[column];
        for (unsigned row = 0; row < rows; row++) sum += x[row] * of_weights[row * columns + column];
        out[column] = sum;
    }
}

static const char *run_mlp(const microrpc_model_t *model, const void *const *inputs, void *const *outputs,
                           microrpc_model_run_t *run) {
    static float hidden[8];
    (void)model;
    dense(inputs[0], 4, hidden_weights[0], hidden_biases, 8, hidden);
    microrpc_model_layer_done(run, 0, hidden);
    for (unsigned i = 0; i < 8; i++)
        if (hidden[i] < 0) hidden[i] = 0;
    microrpc_model_layer_done(run, 1, hidden);
    dense(hidden, 8, weights[0], biases, 3, outputs[0]);
    microrpc_model_layer_done(run, 2, outputs[0]);
    return NULL;
}

static const microrpc_model_tensor_t mlp_input = {"x", FLOAT32, 2, four, 0, 0};
static const microrpc_model_tensor_t mlp_output = {"y", FLOAT32, 2, three, 0, 0};
static const microrpc_model_layer_t mlp_layers[] = {
    {"dense_1", {"dense_1", FLOAT32, 2, eight, 0, 0}},
    {"relu_1", {"relu_1", FLOAT32, 2, eight, 0, 0}},
    {"dense_2", {"y", FLOAT32, 2, three, 0, 0}},
};
static const microrpc_model_t mlp = {
    .name = "mlp",
    .hash = UINT64_C(0x6D6C700000000001),
    .inputs = &mlp_input,
    .outputs = &mlp_output,
    .layers = mlp_layers,
    .input_count = 1,
    .output_count = 1,
    .layer_count = COUNT(mlp_layers),
    .weights_bytes = sizeof hidden_weights + sizeof hidden_biases + sizeof weights + sizeof biases,
    .arena_bytes = 32,
    .run = run_mlp,
};

/* --- of int8: 8 numbers -> 4 -------------------------------------------------------------------------------------- */

#define X_ZERO (-8)
#define Y_ZERO 4
#define SHIFT 9 /* 2^-4 * 2^-7, the scales of x and the weights, over 2^-2, that of y */

static const int8_t int8_weights[8][4] = {
    {119, 44, -108, 68},  {15, 19, 75, 97},    {82, -47, -40, 50},    {-38, 25, 0, 21},
    {77, -11, -110, 88}, {-104, 114, -58, -6}, {51, 43, -111, -112}, {60, 52, -48, 38},
};
static const int32_t int8_biases[4] = {367, 790, 1366, -175};

static const char *run_quantised(const microrpc_model_t *model, const void *const *inputs, void *const *outputs,
                                 microrpc_model_run_t *run) {
    static int32_t sums[4];
    const int8_t *x = inputs[0];
    int8_t *y = outputs[0];
    (void)model;
    for (unsigned i = 0; i < 4; i++) {
        sums[i] = int8_biases[i];
        for (unsigned k = 0; k < 8; k++) sums[i] += (x[k] - X_ZERO) * int8_weights[k][i];
    }
    microrpc_model_layer_done(run, 0, sums);
    for (unsigned i = 0; i < 4; i++) {
        int32_t scaled = Y_ZERO + ((sums[i] + (1 << (SHIFT - 1))) >> SHIFT); /* downwards, with every compiler here */
        y[i] = (int8_t)(scaled < -128 ? -128 : scaled > 127 ? 127 : scaled);
    }
    microrpc_model_layer_done(run, 1, NULL);
    return NULL;
}

static const microrpc_model_tensor_t quantised_input = {"x", INT8, 2, eight, 0.0625f, X_ZERO};
static const microrpc_model_tensor_t quantised_output = {"y", INT8, 2, four, 0.25f, Y_ZERO};
static const microrpc_model_layer_t quantised_layers[] = {
    {"dense", {"sums", INT32, 2, four, 0.00048828125f, 0}},
    {"requantise", {NULL, {0, 0, 0}, 0, NULL, 0, 0}}, /* its output is the model's, and cannot be had by itself */
};
static const microrpc_model_t quantised = {
    .name = "quantised",
    .hash = UINT64_C(0x7138000000000001),
    .inputs = &quantised_input,
    .outputs = &quantised_output,
    .layers = quantised_layers,
    .input_count = 1,
    .output_count = 1,
    .layer_count = COUNT(quantised_layers),
    .weights_bytes = sizeof int8_weights + sizeof int8_biases,
    .arena_bytes = 16,
    .run = run_quantised,
};

const microrpc_model_t *const board_models[] = {&mlp, &quantised};
const size_t board_model_count = COUNT(board_models);

#endif
