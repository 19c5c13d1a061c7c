/* Calls: finding the function, checking its arguments, and the functions' view of arguments and results. */
#include "microrpc_internal.h"

/* The longest reply but for its tail: a tensor of as many dimensions as microrpc_return_tensor() takes. */
typedef char a_tensor_fits_the_reply[sizeof(((mrpc_reply_t *)0)->head) - ENVELOPE_BYTES >= 2 * 4 + 3 * 4 + 8 + 8 + 8 + 4 + 4 + 4 * 8 + 8 + 8 ? 1 : -1];
typedef char object_fits_its_block[sizeof(mrpc_object_t) <= OBJECT_BYTES ? 1 : -1];

/* --- handles (docs/device.md 4) -------------------------------------------------------------------------------- */

/* What any entry of a table begins with. */
#define ENTRY(function) ((const mrpc_entry_t *)(const void *)(function))
typedef char entries_begin_alike[offsetof(mrpc_entry_t, handler) == offsetof(microrpc_function_t, handler) ? 1 : -1];

const mrpc_entry_t *mrpc_function_at(const microrpc_t *device, uint32_t registry, uint32_t index) {
    const microrpc_config_t *config = device->config;
    if (registry == REGISTRY_SYSTEM) return index < config->function_count ? ENTRY(&config->functions[index]) : NULL;
    if (registry != REGISTRY_GLOBAL) return NULL;
    if (index < RUNTIME_FUNCTIONS) return &mrpc_runtime_functions[index];
    index -= RUNTIME_FUNCTIONS;
    return index < config->global_function_count ? ENTRY(&config->global_functions[index]) : NULL;
}

uint64_t mrpc_look_up(const microrpc_t *device, mrpc_registry_t registry, microrpc_bytes_t name) {
    const mrpc_entry_t *function;
    for (uint32_t i = 0; (function = mrpc_function_at(device, registry, i)) != NULL; i++) {
        if (mrpc_text_is(name, function->name)) return STATIC_HANDLE(registry, i);
    }
    return 0;
}

microrpc_handler_t mrpc_handler(const microrpc_t *device, uint64_t handle) {
    const mrpc_entry_t *function;
    const mrpc_object_t *object;
    if (!(handle >> 63)) {
        object = mrpc_heap_block(device, handle, BLOCK_OBJECT);
        return object ? object->handler : NULL;
    }
    function = mrpc_function_at(device, (uint32_t)(handle >> 32) & 0x7FFFFFFF, (uint32_t)handle);
    return function ? flash_handler(function) : NULL;
}

bool mrpc_is_module(uint64_t handle) { return handle == STATIC_HANDLE(REGISTRY_MODULE, 0); }

/* --- calls ----------------------------------------------------------------------------------------------------- */

static bool is_supported(microrpc_dtype_t dtype) {
    static const uint8_t bits_of[] IN_FLASH = {8 | 16 | 32 | 64, 1 | 8 | 16 | 32 | 64, 16 | 32 | 64, 0, 16, 0, 8}; /* by code */
    uint8_t bits = dtype.bits;
    return dtype.code < sizeof bits_of && (flash8(&bits_of[dtype.code]) & bits) && !(bits & (bits - 1)) && dtype.lanes &&
           (bits > 1 || dtype.lanes == 1);
}

static uint32_t lane_bytes(microrpc_dtype_t dtype) { return (dtype.bits + 7u) / 8; }

static bool is_something(microrpc_t *device, uint64_t handle, bool is_known) {
    return is_known || mrpc_fail_with(device, FAILURE_NO_FUNCTION, handle, 0);
}

static bool check_tensor(microrpc_t *device, uint32_t index, const uint8_t *value) {
    mrpc_tensor_t tensor;
    mrpc_read_tensor(value, &tensor);
    if (!mrpc_heap_view(device, tensor.address, tensor.size_bytes)) return false;
    if (!is_supported(tensor.dtype)) return mrpc_fail_with(device, FAILURE_NO_DTYPE, index, 0);
    return !(tensor.address & (lane_bytes(tensor.dtype) - 1)) ||
           mrpc_fail_with(device, FAILURE_NOT_ALIGNED, index, 0);
}

static bool check_arguments(microrpc_t *device, const mrpc_sequence_t *arguments) {
    mrpc_cursor_t rest = {arguments->values, SIZE_MAX};
    bool is_good = true;
    for (uint32_t i = 0; i < arguments->count && is_good; i++) {
        uint32_t type = mrpc_type_at(arguments, i);
        const uint8_t *value = rest.at;
        mrpc_skip_value(&rest, type);
        if (type == MICRORPC_TENSOR) {
            is_good = check_tensor(device, i, value);
        } else if (type == MICRORPC_MODULE || type == MICRORPC_FUNCTION_HANDLE) {
            uint64_t handle = mrpc_get64(value);
            bool is_known = type == MICRORPC_MODULE ? mrpc_is_module(handle) : mrpc_handler(device, handle) != NULL;
            is_good = is_something(device, handle, is_known);
        }
    }
    return is_good;
}

void mrpc_drop_result(microrpc_call_t *call) {
    if (call->created) mrpc_heap_release(call->device, (uintptr_t)call->created, call->created_kind);
    call->created = NULL;
}

bool mrpc_call(microrpc_t *device, uint64_t handle, const mrpc_sequence_t *arguments) {
    microrpc_call_t call;
    microrpc_handler_t handler = mrpc_handler(device, handle);
    call.device = device;
    call.arguments = arguments;
    call.created = NULL;
    call.has_failed = !is_something(device, handle, handler != NULL) || !check_arguments(device, arguments);
    if (!call.has_failed) {
        call.state = handle >> 63 ? NULL : ((const mrpc_object_t *)(uintptr_t)handle)->state;
        mrpc_return_handle(&call, MICRORPC_NULL, 0);
        handler(&call);
    }
    if (call.has_failed) mrpc_drop_result(&call);
    return !call.has_failed;
}

/* --- arguments ------------------------------------------------------------------------------------------------- */

void mrpc_call_fails(microrpc_call_t *call, mrpc_failure_t failure) {
    if (!call->has_failed) mrpc_fail(call->device, failure);
    call->has_failed = true;
}

static void too_long(microrpc_call_t *call) { mrpc_call_fails(call, FAILURE_TOO_LONG_A_RESULT); }

/* `kind` is in flash. */
static void expected(microrpc_call_t *call, uint32_t index, const char *kind) {
    microrpc_t *device = call->device;
#if MICRORPC_TABLES_IN_FLASH
    char in_ram[sizeof "float32"]; /* none is longer */
    kind = strcpy_P(in_ram, kind);
#endif
    if (call->has_failed) return;
    mrpc_fail_with(device, FAILURE_EXPECTED, index, (uintptr_t)kind);
    call->has_failed = true;
}

const uint8_t *mrpc_argument(microrpc_call_t *call, uint32_t index, microrpc_type_t type, const char *kind) {
    const mrpc_sequence_t *arguments = call->arguments;
    if (index < arguments->count && mrpc_type_at(arguments, index) == (uint32_t)type)
        return mrpc_value_at(arguments, index);
    expected(call, index, kind);
    return NULL;
}

uint32_t microrpc_argument_count(const microrpc_call_t *call) { return call->arguments->count; }

microrpc_type_t microrpc_argument_type(const microrpc_call_t *call, uint32_t index) {
    return index < call->arguments->count ? (microrpc_type_t)mrpc_type_at(call->arguments, index) : MICRORPC_NULL;
}

int64_t microrpc_int(microrpc_call_t *call, uint32_t index) {
    const uint8_t *value = mrpc_argument(call, index, MICRORPC_INT, FLASH_TEXT("Int"));
    return value ? (int64_t)mrpc_get64(value) : 0;
}

double microrpc_float(microrpc_call_t *call, uint32_t index) {
    const uint8_t *value;
    if (index < call->arguments->count && mrpc_type_at(call->arguments, index) == MICRORPC_INT)
        return (double)microrpc_int(call, index);
    value = mrpc_argument(call, index, MICRORPC_FLOAT, FLASH_TEXT("Float"));
    return value ? mrpc_real(mrpc_get64(value)) : 0;
}

static microrpc_bytes_t no_bytes(void) {
    microrpc_bytes_t none = {NULL, 0};
    return none;
}

microrpc_bytes_t microrpc_text(microrpc_call_t *call, uint32_t index) {
    const uint8_t *value = mrpc_argument(call, index, MICRORPC_TEXT, FLASH_TEXT("Str"));
    return value ? mrpc_text_at(value) : no_bytes();
}

microrpc_bytes_t microrpc_bytes(microrpc_call_t *call, uint32_t index) {
    const uint8_t *value = mrpc_argument(call, index, MICRORPC_BYTES, FLASH_TEXT("Bytes"));
    return value ? mrpc_bytes_at(value) : no_bytes();
}

static microrpc_tensor_t get_tensor(microrpc_call_t *call, uint32_t index, const char *kind) {
    const uint8_t *value = mrpc_argument(call, index, MICRORPC_TENSOR, kind);
    microrpc_tensor_t tensor;
    mrpc_tensor_t sent;
    memset(&tensor, 0, sizeof tensor);
    if (!value) return tensor;
    mrpc_read_tensor(value, &sent);
    tensor.data = (void *)(uintptr_t)sent.address; /* mrpc_call checked it */
    tensor.size_bytes = (size_t)sent.size_bytes;
    tensor.dtype = sent.dtype;
    tensor.ndim = sent.ndim;
    tensor.extents = sent.extents;
    tensor.count = 1;
    for (uint32_t i = 0; i < tensor.ndim; i++) tensor.count *= microrpc_extent(&tensor, i);
    return tensor;
}

microrpc_tensor_t microrpc_tensor(microrpc_call_t *call, uint32_t index) {
    return get_tensor(call, index, FLASH_TEXT("Tensor"));
}

microrpc_tensor_t microrpc_float32(microrpc_call_t *call, uint32_t index) {
    microrpc_tensor_t tensor = get_tensor(call, index, FLASH_TEXT("float32"));
    microrpc_dtype_t dtype = tensor.dtype;
    if (tensor.data && (dtype.code != MICRORPC_DTYPE_FLOAT || dtype.bits != 32 || dtype.lanes != 1)) {
        expected(call, index, FLASH_TEXT("float32"));
        memset(&tensor, 0, sizeof tensor);
    }
    return tensor;
}

size_t microrpc_extent(const microrpc_tensor_t *tensor, uint32_t dimension) {
    return dimension < tensor->ndim ? mrpc_size(mrpc_get64(tensor->extents + 8 * dimension)) : 1;
}

bool microrpc_has_failed(const microrpc_call_t *call) { return call->has_failed; }

/* --- results --------------------------------------------------------------------------------------------------- */

/* Return(type code, value): the value's type on the wire, and its bits where it has 8 bytes. */
static void return_word(microrpc_call_t *call, microrpc_type_t type, microrpc_type_t wire_type, uint64_t value) {
    mrpc_reply_return(call->device, 2, MICRORPC_INT | (unsigned)wire_type << 4);
    mrpc_reply_number(call->device, 8, (uint64_t)type);
    if (wire_type != MICRORPC_NULL) mrpc_reply_number(call->device, 8, value);
}

void mrpc_return_handle(microrpc_call_t *call, microrpc_type_t type, uint64_t handle) {
    return_word(call, type, type == MICRORPC_NULL ? MICRORPC_NULL : MICRORPC_HANDLE, handle);
}

void microrpc_return_int(microrpc_call_t *call, int64_t value) {
    return_word(call, MICRORPC_INT, MICRORPC_INT, (uint64_t)value);
}

void microrpc_return_float(microrpc_call_t *call, double value) {
    return_word(call, MICRORPC_FLOAT, MICRORPC_FLOAT, mrpc_real_bits(value));
}

void microrpc_return_text(microrpc_call_t *call, const void *text, size_t size) {
    return_word(call, MICRORPC_TEXT, MICRORPC_TEXT, size);
    mrpc_reply_tail(call->device, text, size);
}

void microrpc_return_bytes(microrpc_call_t *call, const void *data, size_t size) {
    return_word(call, MICRORPC_BYTES, MICRORPC_BYTES, size);
    mrpc_reply_tail(call->device, data, size);
}

void *microrpc_result_buffer(microrpc_call_t *call, size_t size) {
    const microrpc_t *device = call->device;
    size_t used = (device->received_bytes + 7) & ~(size_t)7, most = (size_t)device->config->packet_bytes;
    if (used <= most && size <= most - used) return device->buffer + used;
    too_long(call);
    return NULL;
}

/* A new block, which is freed if the call fails. */
static void *create(microrpc_call_t *call, uint32_t size, mrpc_block_kind_t kind) {
    mrpc_drop_result(call);
    call->created_kind = kind;
    call->created = mrpc_heap_alloc(call->device, size, 8, kind);
    if (!call->created) call->has_failed = true;
    return call->created;
}

void *microrpc_return_tensor(microrpc_call_t *call, microrpc_dtype_t dtype, uint32_t ndim, const size_t *extents) {
    microrpc_t *device = call->device;
    uint32_t size = ((uint32_t)dtype.bits * dtype.lanes + 7) / 8;
    if (ndim > 4) too_long(call);
    if (call->has_failed) return NULL;
    for (uint32_t i = 0; i < ndim; i++) size = mrpc_multiply(size, extents[i]);
    if (!create(call, size, BLOCK_ARRAY)) return NULL;
    mrpc_reply_return(device, 3, MICRORPC_INT | MICRORPC_TENSOR << 4 | MICRORPC_HANDLE << 8);
    mrpc_reply_number(device, 8, MICRORPC_NDARRAY);
    mrpc_reply_number(device, 8, (uintptr_t)call->created);
    mrpc_reply_number(device, 8, 1); /* CPU 0 */
    mrpc_reply_number(device, 4, ndim);
    mrpc_reply_number(device, 4, (uint32_t)dtype.code | (uint32_t)dtype.bits << 8 | (uint32_t)dtype.lanes << 16);
    for (uint32_t i = 0; i < ndim; i++) mrpc_reply_number(device, 8, extents[i]);
    mrpc_reply_number(device, 8, 0); /* byte_offset */
    mrpc_reply_number(device, 8, (uintptr_t)call->created);
    return call->created;
}

void microrpc_return_function(microrpc_call_t *call, microrpc_handler_t handler, const void *state, size_t state_bytes) {
    mrpc_object_t *object;
    if (state_bytes > MICRORPC_STATE_BYTES) too_long(call);
    if (call->has_failed) return;
    object = create(call, OBJECT_BYTES, BLOCK_OBJECT);
    if (!object) return;
    object->handler = handler;
    if (state_bytes) memcpy(object->state, state, state_bytes);
    mrpc_return_handle(call, MICRORPC_FUNCTION_HANDLE, (uintptr_t)object);
}

const void *microrpc_state(const microrpc_call_t *call) { return call->state; }

void microrpc_fail(microrpc_call_t *call, const char *text) {
    if (!call->has_failed) call->device->failure = text;
    call->has_failed = true;
}

microrpc_t *microrpc_device(const microrpc_call_t *call) { return call->device; }

bool microrpc_has_clock(const microrpc_call_t *call) { return call->device->config->now_us != NULL; }

uint32_t microrpc_now_us(const microrpc_call_t *call) {
    const microrpc_config_t *config = call->device->config;
    return config->now_us ? config->now_us(config->port) : 0;
}
