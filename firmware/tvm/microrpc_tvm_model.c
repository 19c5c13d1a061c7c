#include "microrpc_tvm_model.h"

/* A freestanding compiler has no string.h. */
void *memcpy(void *to, const void *from, size_t size);

static void *address_of(const microrpc_tvm_plan_t *plan, microrpc_tvm_place_t place, const void *const *inputs,
                        void *const *outputs) {
    switch ((microrpc_tvm_where_t)place.where) {
        case MICRORPC_TVM_INPUT: return (void *)(uintptr_t)inputs[place.index];
        case MICRORPC_TVM_OUTPUT: return outputs[place.index];
        case MICRORPC_TVM_CONSTANT: return (void *)(uintptr_t)plan->constants[place.index];
        case MICRORPC_TVM_ARENA: return plan->arena + place.index;
    }
    return NULL;
}

static const char *run_step(const microrpc_tvm_plan_t *plan, const microrpc_tvm_step_t *step, const void *const *inputs,
                            void *const *outputs) {
    int16_t count = step->function ? step->function->argument_count : 2;
    for (int16_t i = 0; i < count; i++) plan->data[i] = address_of(plan, step->places[i], inputs, outputs);
    if (step->function) return microrpc_tvm_run(step->function, plan->data);
    memcpy(plan->data[1], plan->data[0], step->copied_bytes);
    return NULL;
}

const char *microrpc_tvm_run_model(const microrpc_model_t *model, const void *const *inputs, void *const *outputs,
                                   microrpc_model_run_t *run) {
    const microrpc_tvm_plan_t *plan = model->context;
    for (uint16_t i = 0; i < plan->step_count; i++) {
        const char *failure = run_step(plan, &plan->steps[i], inputs, outputs);
        if (failure) return failure;
#if MICRORPC_MODELS
        microrpc_model_layer_done(run, i, plan->data[plan->steps[i].output]);
#else
        (void)run;
#endif
    }
    return NULL;
}

static size_t size_bytes_of(const DLTensor *tensor) {
    size_t size = (size_t)((tensor->dtype.bits * tensor->dtype.lanes + 7) / 8);
    for (int32_t i = 0; i < tensor->ndim; i++) size *= (size_t)tensor->shape[i];
    return size;
}

static bool overlap(const DLTensor *a, const DLTensor *b) {
    uintptr_t begin_a = (uintptr_t)a->data, begin_b = (uintptr_t)b->data;
    size_t size_a = size_bytes_of(a), size_b = size_bytes_of(b);
    return size_a && size_b && begin_a < begin_b + size_b && begin_b < begin_a + size_a;
}

int32_t microrpc_tvm_model_kernel(const microrpc_model_t *model, void **room, const void *args, int32_t count) {
    const TVMFFIAny *values = args;
    int32_t inputs = model->input_count;
    const char *failure;
    for (int32_t i = 0; i < count; i++) {
        room[i] = ((const DLTensor *)values[i].v_ptr)->data;
        for (int32_t j = 0; i >= inputs && j < i; j++) {
            if (!overlap(values[i].v_ptr, values[j].v_ptr)) continue;
            TVMFFIErrorSetRaisedFromCStr("ValueError", "an output shares memory with another argument: give it its own");
            return -1;
        }
    }
    failure = microrpc_tvm_run_model(model, (const void *const *)room, room + inputs, NULL);
    /* It is the adapter's text, which the caller gives on. */
    return failure ? -1 : 0;
}
