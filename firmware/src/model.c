/* Models: what they are, and running them (docs/models.md 1). */
#include "microrpc_internal.h"
#include "microrpc_model.h"

#if MICRORPC_MODELS

#define MODEL_VERSION 1
#define TOLD_BYTES (MOST_EXPECTED_BYTES + 1u)

/* Where the data of an argument lie. */
typedef struct {
    uint8_t *begin;
    uint8_t *end;
} span_t;

struct microrpc_model_run {
    microrpc_call_t *call;
    uint8_t *times_us; /* u32 of all, and of each layer; or NULL */
    uint32_t start_us;
    uint32_t began_us; /* the layer that is under way */
    uint16_t layer_count;
    uint16_t wanted;
    const span_t *out; /* where the output of the layer `wanted` goes, or NULL */
    bool is_copied;
};

static const microrpc_model_t *model_at(const microrpc_t *device, int64_t index) {
    const microrpc_config_t *config = device->config;
    return (uint64_t)index < config->model_count ? config->models[index] : NULL;
}

/* --- the table -------------------------------------------------------------------------------------------------- */

static void tell(mrpc_page_t *page, unsigned size_bytes, uint32_t value) {
    for (; size_bytes; size_bytes--, value >>= 8) mrpc_page_put(page, (uint8_t)value);
}

static void tell_text(mrpc_page_t *page, const char *text) {
    if (!text) text = "";
    tell(page, 2, (uint32_t)mrpc_length(text));
    while (*text) tell(page, 1, (uint8_t)*text++);
}

static void tell_tensors(mrpc_page_t *page, const microrpc_model_tensor_t *tensor, unsigned count) {
    for (; count; count--, tensor++) {
        uint32_t scale_bits;
        memcpy(&scale_bits, &tensor->scale, sizeof scale_bits);
        tell_text(page, tensor->name);
        tell(page, 4, tensor->dtype.code | (uint32_t)tensor->dtype.bits << 8 | (uint32_t)tensor->dtype.lanes << 16);
        tell(page, 1, tensor->ndim);
        for (unsigned i = 0; i < tensor->ndim; i++) tell(page, 4, tensor->extents[i]);
        tell(page, 4, scale_bits);
        tell(page, 4, (uint32_t)tensor->zero_point);
    }
}

void mrpc_models(microrpc_call_t *call) {
    const microrpc_model_t *model = model_at(call->device, microrpc_int(call, 0));
    mrpc_page_t page;
    if (!mrpc_page_begin(call, &page, 1) || !model) return;
    tell(&page, 1, MODEL_VERSION);
    tell_text(&page, model->name);
    tell(&page, 4, (uint32_t)model->hash);
    tell(&page, 4, (uint32_t)(model->hash >> 32));
    tell(&page, 4, model->weights_bytes);
    tell(&page, 4, model->arena_bytes);
    tell(&page, 4, model->workspace_bytes);
    tell(&page, 2, model->input_count);
    tell(&page, 2, model->output_count);
    tell(&page, 2, model->layer_count);
    tell_tensors(&page, model->inputs, model->input_count);
    tell_tensors(&page, model->outputs, model->output_count);
    for (unsigned i = 0; i < model->layer_count; i++) {
        tell_text(&page, model->layers[i].name);
        tell_tensors(&page, &model->layers[i].output, 1);
    }
    mrpc_page_return(call, &page);
}

/* --- arguments -------------------------------------------------------------------------------------------------- */

static void fails(microrpc_call_t *call, mrpc_failure_t failure, uintptr_t first, size_t second) {
    if (!call->has_failed) mrpc_fail_with(call->device, failure, first, second);
    call->has_failed = true;
}

typedef struct {
    microrpc_t *device;
    size_t size;
    char text[TOLD_BYTES];
} told_t;

/* What is longer than there is room for ends with "...". */
static void put(told_t *told, const char *text) {
    for (; text && *text; text++) {
        if (told->size < TOLD_BYTES - 1)
            told->text[told->size++] = *text;
        else
            memcpy(told->text + TOLD_BYTES - 4, "...", 3);
    }
    told->text[told->size] = 0;
}

static void put_number(told_t *told, const char *before, uint32_t number) {
    put(told, before);
    mrpc_fail_with(told->device, TEXT_OF_NUMBER, number, 0);
    put(told, told->device->text);
}

/* The call fails: "argument I: x: float32[1, 4] expected". */
static void expected(microrpc_call_t *call, uint32_t index, const microrpc_model_tensor_t *tensor) {
    static const char kinds[][7] = {"int", "uint", "float", "handle", "bfloat", "custom"};
    microrpc_dtype_t dtype = tensor->dtype;
    told_t told;
    told.device = call->device;
    told.size = 0;
    put(&told, tensor->name);
    put(&told, ": ");
    if (dtype.code == MICRORPC_DTYPE_UINT && dtype.bits == 1)
        put(&told, "bool");
    else
        put_number(&told, kinds[dtype.code < 5 ? dtype.code : 5], dtype.bits);
    if (dtype.lanes != 1) put_number(&told, "x", dtype.lanes);
    put(&told, "[");
    for (unsigned i = 0; i < tensor->ndim; i++) put_number(&told, i ? ", " : "", tensor->extents[i]);
    put(&told, "]");
    fails(call, FAILURE_EXPECTED, (uintptr_t)index, (uintptr_t)told.text);
}

/* Whether argument `index`, a tensor, is of the type and the shape of `wanted`. */
static bool is(const microrpc_tensor_t *tensor, const microrpc_model_tensor_t *wanted) {
    if (memcmp(&tensor->dtype, &wanted->dtype, sizeof wanted->dtype) || tensor->ndim != wanted->ndim) return false;
    for (uint32_t i = 0; i < wanted->ndim; i++)
        if (microrpc_extent(tensor, i) != wanted->extents[i]) return false;
    return true;
}

/* Where argument `index` lies, which must be a tensor as `wanted`. */
static span_t take(microrpc_call_t *call, uint32_t index, const microrpc_model_tensor_t *wanted) {
    span_t span = {NULL, NULL};
    if (microrpc_argument_type(call, index) == MICRORPC_TENSOR) {
        microrpc_tensor_t tensor = microrpc_tensor(call, index);
        span.begin = tensor.data;
        span.end = span.begin + tensor.size_bytes;
        if (is(&tensor, wanted)) return span;
    }
    expected(call, index, wanted);
    return span;
}

/* --- running ---------------------------------------------------------------------------------------------------- */

void microrpc_model_layer_done(microrpc_model_run_t *run, uint16_t layer, const void *output) {
    uint32_t now_us;
    if (!run || layer >= run->layer_count) return;
    now_us = microrpc_now_us(run->call);
    if (run->times_us) {
        uint8_t *time_us = run->times_us + 4 * (1 + (size_t)layer);
        mrpc_put(time_us, 4, mrpc_get32(time_us) + (now_us - run->began_us));
    }
    if (run->out && output && layer == run->wanted) {
        memcpy(run->out->begin, output, (size_t)(run->out->end - run->out->begin));
        run->is_copied = true;
    }
    run->began_us = microrpc_now_us(run->call);
}

/* The lesser of the ends behind the greater of the beginnings: an empty span shares nothing. */
static bool share(const span_t *a, const span_t *b) {
    return (a->begin > b->begin ? a->begin : b->begin) < (a->end < b->end ? a->end : b->end);
}

/* Take the tensors of the model, from argument `first` on: for a layer where its output goes, then inputs and outputs.
 * What is written to must be nothing else's: what a model computes would depend on the order in which it does. */
static void take_all(microrpc_call_t *call, const microrpc_model_t *model, uint32_t first,
                     const microrpc_model_tensor_t *layer, span_t *spans, void **data) {
    const microrpc_model_tensor_t *wanted = layer ? layer : model->inputs;
    uint32_t begin = layer != NULL, middle = begin + model->input_count, end = middle + model->output_count;
    for (uint32_t i = 0; i < end; i++, wanted++) {
        if (i == begin) wanted = model->inputs;
        if (i == middle) wanted = model->outputs;
        spans[i] = take(call, first + i, wanted);
        data[i] = spans[i].begin;
        for (uint32_t k = 0; k < i; k++)
            if ((i >= middle || k < begin) && share(&spans[i], &spans[k]))
                fails(call, FAILURE_SHARED_MEMORY, (uintptr_t)(first + i), 0);
        if (call->has_failed) return;
    }
}

/* Arguments: the model, where `first` is 2 the layer whose output is wanted, and from `first` on the tensors. */
static void execute(microrpc_call_t *call, uint32_t first, bool is_timed) {
    const microrpc_config_t *config = call->device->config;
    int64_t number = microrpc_int(call, 0);
    const microrpc_model_t *model = model_at(call->device, number);
    const microrpc_model_tensor_t *layer_output = NULL;
    uint32_t count, begin = first - 1;
    microrpc_model_run_t run;
    size_t times_bytes;
    const char *failure;
    span_t *spans;
    void **data;
    memset(&run, 0, sizeof run);
    if (!model) fails(call, FAILURE_NOT_THERE, (uintptr_t)"model", config->model_count);
    if (begin && !call->has_failed) {
        uint64_t wanted = (uint64_t)microrpc_int(call, 1);
        run.wanted = (uint16_t)wanted;
        if (wanted >= model->layer_count)
            fails(call, FAILURE_NOT_THERE, (uintptr_t)"layer", model->layer_count);
        else if (!(layer_output = &model->layers[run.wanted].output)->dtype.bits)
            fails(call, FAILURE_NO_OUTPUT, 0, 0);
    }
    if (is_timed && !config->now_us) fails(call, FAILURE_NO_CLOCK, 0, 0);
    if (call->has_failed) return;
    count = begin + model->input_count + model->output_count;
    if (call->arguments->count != first + count)
        fails(call, FAILURE_ARGUMENT_COUNT, (uintptr_t)(first + count), (size_t)call->arguments->count);
    times_bytes = is_timed ? 4 * (1 + (size_t)model->layer_count) : 0;
    spans = microrpc_result_buffer(call, (size_t)count * (sizeof *spans + sizeof *data) + times_bytes);
    if (call->has_failed) return;
    data = (void **)(spans + count);
    take_all(call, model, first, layer_output, spans, data);
    if (call->has_failed) return;
    run.call = call;
    run.layer_count = model->layer_count;
    run.times_us = is_timed ? memset(data + count, 0, times_bytes) : NULL;
    run.out = begin ? spans : NULL;
    run.start_us = run.began_us = microrpc_now_us(call);
    failure = model->run(model, (const void *const *)(data + begin), data + begin + model->input_count, &run);
    if (failure) {
        microrpc_fail(call, failure);
    } else if (begin && !run.is_copied) {
        fails(call, FAILURE_NO_OUTPUT, 0, 0);
    } else if (is_timed) {
        mrpc_put(run.times_us, 4, microrpc_now_us(call) - run.start_us);
        microrpc_return_bytes(call, run.times_us, times_bytes);
    }
}

void mrpc_model_run(microrpc_call_t *call) { execute(call, 1, false); }
void mrpc_model_profile(microrpc_call_t *call) { execute(call, 1, true); }
void mrpc_model_layer(microrpc_call_t *call) { execute(call, 2, false); }

#endif
