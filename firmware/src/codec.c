/* Packets: every length in one is compared with the bytes that are there before anything is done (docs/protocol.md 3). */
#include "microrpc_internal.h"

#define TENSOR_HEAD_BYTES 24u
#define LARGEST_LOCAL_DEVICE 127 /* more carry an RPC session mask */

static int32_t get_i32(const uint8_t *at) { return (int32_t)mrpc_get32(at); }

const uint8_t *mrpc_take(mrpc_cursor_t *cursor, uint64_t size) {
    const uint8_t *taken = cursor->at;
    if (size > cursor->left) return NULL;
    cursor->at += (size_t)size;
    cursor->left -= (size_t)size;
    return taken;
}

bool mrpc_take_blob(mrpc_cursor_t *cursor, microrpc_bytes_t *blob) {
    const uint8_t *size = mrpc_take(cursor, 8);
    if (!size) return false;
    blob->data = mrpc_take(cursor, mrpc_get64(size));
    blob->size = (size_t)mrpc_get64(size);
    return blob->data != NULL;
}

static bool is_local(const uint8_t *device) { return get_i32(device) <= LARGEST_LOCAL_DEVICE; }

uint32_t mrpc_multiply(uint32_t a, uint64_t b) {
    uint64_t product = a * (uint64_t)(uint32_t)b;
    return (a && b >> 32) || product >> 32 ? UINT32_MAX : (uint32_t)product;
}

void mrpc_read_tensor(const uint8_t *value, mrpc_tensor_t *tensor) {
    uint32_t dtype = mrpc_get32(value + 20);
    tensor->ndim = mrpc_get32(value + 16);
    tensor->dtype.code = (uint8_t)dtype;
    tensor->dtype.bits = (uint8_t)(dtype >> 8);
    tensor->dtype.lanes = (uint16_t)(dtype >> 16);
    tensor->extents = value + TENSOR_HEAD_BYTES;
    tensor->size_bytes = ((uint32_t)tensor->dtype.bits * tensor->dtype.lanes + 7) / 8;
    for (uint32_t i = 0; i < tensor->ndim; i++) {
        tensor->size_bytes = mrpc_multiply(tensor->size_bytes, mrpc_get64(tensor->extents + 8 * i));
    }
    tensor->address = mrpc_get64(value) + mrpc_get64(tensor->extents + 8 * tensor->ndim);
}

static bool skip_tensor(mrpc_cursor_t *cursor) {
    const uint8_t *head = mrpc_take(cursor, TENSOR_HEAD_BYTES);
    uint32_t ndim = head ? mrpc_get32(head + 16) : 0;
    if (!head || !is_local(head + 8) || !mrpc_take(cursor, 8 * ((uint64_t)ndim + 1))) return false;
    for (uint32_t i = 0; i < ndim; i++) {
        if (head[TENSOR_HEAD_BYTES + 8 * i + 7] >> 7) return false; /* a negative extent */
    }
    return true;
}

bool mrpc_take_tensor(mrpc_cursor_t *cursor, mrpc_tensor_t *tensor) {
    const uint8_t *value = cursor->at;
    if (!skip_tensor(cursor)) return false;
    mrpc_read_tensor(value, tensor);
    return true;
}

bool mrpc_skip_value(mrpc_cursor_t *cursor, uint32_t type) {
    microrpc_bytes_t blob;
    const uint8_t *device;
    switch (type) {
    case MICRORPC_NULL:
        return true;
    case MICRORPC_INT:
    case MICRORPC_UINT:
    case MICRORPC_FLOAT:
    case MICRORPC_HANDLE:
    case MICRORPC_DATA_TYPE:
    case MICRORPC_MODULE:
    case MICRORPC_FUNCTION_HANDLE:
        return mrpc_take(cursor, 8) != NULL;
    case MICRORPC_DEVICE:
        device = mrpc_take(cursor, 8);
        return device && is_local(device);
    case MICRORPC_TENSOR:
        return skip_tensor(cursor);
    case MICRORPC_TEXT:
    case MICRORPC_BYTES:
        return mrpc_take_blob(cursor, &blob);
    default:
        return false;
    }
}

uint32_t mrpc_type_at(const mrpc_sequence_t *sequence, uint32_t index) {
    return mrpc_get32(sequence->codes + 4 * index);
}

bool mrpc_take_sequence(mrpc_cursor_t *cursor, mrpc_sequence_t *sequence) {
    const uint8_t *count = mrpc_take(cursor, 4);
    if (!count) return false;
    sequence->count = mrpc_get32(count);
    sequence->codes = mrpc_take(cursor, 4 * (uint64_t)sequence->count);
    sequence->values = cursor->at;
    if (!sequence->codes) return false;
    for (uint32_t i = 0; i < sequence->count; i++) {
        if (!mrpc_skip_value(cursor, mrpc_type_at(sequence, i))) return false;
    }
    return true;
}

const uint8_t *mrpc_value_at(const mrpc_sequence_t *sequence, uint32_t index) {
    mrpc_cursor_t cursor;
    cursor.at = sequence->values;
    cursor.left = SIZE_MAX; /* it was checked */
    for (uint32_t i = 0; i < index; i++) mrpc_skip_value(&cursor, mrpc_type_at(sequence, i));
    return cursor.at;
}

microrpc_bytes_t mrpc_bytes_at(const uint8_t *value) {
    microrpc_bytes_t bytes;
    bytes.data = value + 8;
    bytes.size = (size_t)mrpc_get64(value);
    return bytes;
}

microrpc_bytes_t mrpc_text_at(const uint8_t *value) {
    microrpc_bytes_t bytes = mrpc_bytes_at(value), text = bytes;
    for (text.size = 0; text.size < bytes.size && text.data[text.size]; text.size++) continue;
    return text;
}

#if MICRORPC_TABLES_IN_FLASH
bool mrpc_text_is(microrpc_bytes_t text, const char *name) {
    return strlen_P(name) == text.size && !memcmp_P(text.data, name, text.size);
}
#else
bool mrpc_text_is(microrpc_bytes_t text, const char *name) {
    return mrpc_length(name) == text.size && !memcmp(text.data, name, text.size);
}
#endif
