/* The least program around the core, so that the linker keeps what any program needs of it, and nothing else. */
#include "microrpc_internal.h"
#include "microrpc_model.h"

void _start(void);

/* All the RAM that the core takes for itself, with the least cache for a reply. */
char core_state[sizeof(microrpc_t) + 64];

#define PROGRAM __attribute__((section(".program")))
#define PROGRAM_DATA __attribute__((section(".program_data")))
#define MEMORY __attribute__((section(".memory")))

MEMORY static uint64_t memory[1024];
MEMORY static volatile uint8_t line;

PROGRAM static void write_line(void *port, const uint8_t *bytes, size_t size) {
    (void)port;
    while (size--) line = *bytes++;
}

/* It calls each function of what is not in every device, so that the linker keeps it. */
PROGRAM static void add(microrpc_call_t *call) {
#if MICRORPC_EVENTS
    microrpc_value_t value = microrpc_value_int(1);
    microrpc_event(microrpc_device(call), "add", &value, 1);
#endif
#if MICRORPC_RELIABLE_EVENTS
    microrpc_event_reliable(microrpc_device(call), "add", &value, 1);
#endif
#if MICRORPC_PROGRESS
    microrpc_progress(call, 1, 2);
    if (microrpc_is_cancelled(call)) microrpc_fail(call, MICRORPC_CANCELLED);
#endif
    microrpc_return_int(call, microrpc_int(call, 0) + microrpc_int(call, 1));
}

#if MICRORPC_PROGRESS
PROGRAM static size_t read_line(void *port, uint8_t *bytes, size_t size) {
    (void)port;
    *bytes = line;
    return size & 1;
}
#endif

#if MICRORPC_HOOKS && MICRORPC_LINK
PROGRAM static uint32_t now_us(void *port) {
    (void)port;
    return line;
}

PROGRAM static void on_session(void *port, bool begins) {
    (void)port;
    line = begins;
}
#endif

#if MICRORPC_MODELS
PROGRAM static const char *run_model(const microrpc_model_t *model, const void *const *inputs, void *const *outputs,
                                     microrpc_model_run_t *run) {
    (void)model;
    *(uint8_t *)outputs[0] = *(const uint8_t *)inputs[0];
    microrpc_model_layer_done(run, 0, outputs[0]);
    return NULL;
}

PROGRAM_DATA static const microrpc_model_tensor_t byte = {"x", {MICRORPC_DTYPE_UINT, 8, 1}, 0, NULL, 0, 0};
PROGRAM_DATA static const microrpc_model_t model = {
    .inputs = &byte, .outputs = &byte, .input_count = 1, .output_count = 1, .run = run_model};
PROGRAM_DATA static const microrpc_model_t *const models[] = {&model};
#endif

PROGRAM void _start(void) {
    PROGRAM_DATA static const microrpc_function_t functions[] = {MICRORPC_FUNCTION(add)};
    PROGRAM_DATA static const microrpc_config_t config = {
        .write = write_line,
        MICRORPC_FUNCTIONS(functions),
        .packet_bytes = 2048,
        .ring_bytes = 2148,
#if MICRORPC_RELIABLE_EVENTS
        .event_ring = memory,
        .event_ring_bytes = 256,
#endif
#if MICRORPC_PROGRESS
        .read = read_line,
#endif
#if MICRORPC_MODELS
        .models = models,
        .model_count = 1,
#endif
#if MICRORPC_HOOKS && MICRORPC_LINK
        .now_us = now_us,
        .on_session = on_session,
        .host_timeout_ms = 1000,
#endif
    };
    microrpc_t *device = microrpc_start(memory, sizeof memory, &config);
    core_state[0] = 1;
    for (;;) {
        uint8_t byte = line;
        microrpc_receive(device, &byte, 1);
    }
}
