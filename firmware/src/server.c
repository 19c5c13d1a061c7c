/* Requests: what each packet asks for (docs/protocol.md 3, docs/device.md 2). */
#include "microrpc_internal.h"

#define END 15u
#define TYPES(first, second, third, fourth) ((first) | (second) << 4 | (third) << 8 | (unsigned)(fourth) << 12)
/* The types of the arguments, from GetGlobalFunc on. */
static const uint16_t signatures[] IN_FLASH = {
    TYPES(MICRORPC_TEXT, END, END, END),
    TYPES(MICRORPC_HANDLE, MICRORPC_INT, END, END),
    TYPES(MICRORPC_DEVICE, END, END, END),
    TYPES(MICRORPC_DEVICE, MICRORPC_INT, END, END),
    TYPES(MICRORPC_DEVICE, MICRORPC_INT, MICRORPC_INT, MICRORPC_DATA_TYPE),
    TYPES(MICRORPC_DEVICE, MICRORPC_HANDLE, END, END),
    TYPES(MICRORPC_DEVICE, MICRORPC_HANDLE, END, END),
    TYPES(MICRORPC_TENSOR, MICRORPC_TENSOR, MICRORPC_HANDLE, END),
    TYPES(MICRORPC_TENSOR, MICRORPC_TEXT, END, END), /* or Null */
    TYPES(MICRORPC_DEVICE, END, END, END),
    TYPES(MICRORPC_DEVICE, MICRORPC_HANDLE, END, END),
    TYPES(MICRORPC_DEVICE, MICRORPC_HANDLE, END, END),
};

static bool fits(uint32_t code, const mrpc_sequence_t *arguments) {
    uint32_t types = flash16(&signatures[code - PACKET_GET_GLOBAL_FUNC]), i;
    for (i = 0; i < 4 && (types & 15) != END; i++, types >>= 4) {
        uint32_t type = i < arguments->count ? mrpc_type_at(arguments, i) : END;
        bool is_no_scope = code == PACKET_DEV_ALLOC_DATA_WITH_SCOPE && type == MICRORPC_NULL;
        if (type != (types & 15) && !(i && is_no_scope)) return false;
    }
    return i == arguments->count;
}

static bool is_cpu(microrpc_t *device, const uint8_t *value) {
    int64_t both = (int64_t)mrpc_get64(value); /* type 1, id 0 */
    return both == 1 || mrpc_fail_with(device, FAILURE_NO_DEVICE, (uint64_t)(int32_t)both, (uint64_t)(both >> 32));
}

static bool reply_address(microrpc_t *device, const void *address) {
    if (address) mrpc_reply_handle(device, (uintptr_t)address);
    return address != NULL;
}

static bool get_global_func(microrpc_t *device, microrpc_bytes_t name) {
    uint64_t handle = mrpc_look_up(device, REGISTRY_GLOBAL, name);
#if MICRORPC_LINK
    if (mrpc_text_is(name, FLASH_TEXT(LINK_FUNCTION))) handle = mrpc_link_parameters(device);
#endif
#if HAS_FEATURES
    if (mrpc_text_is(name, FLASH_TEXT(FEATURES_FUNCTION))) handle = mrpc_features(device);
#endif
    mrpc_reply_handle(device, handle);
    return true;
}

static bool free_handle(microrpc_t *device, uint64_t handle, uint64_t type) {
    bool is_static = handle >> 63;
    bool is_freed;
    if (type == MICRORPC_FUNCTION_HANDLE)
        is_freed = is_static ? mrpc_handler(device, handle) != NULL
                             : mrpc_heap_release(device, handle, BLOCK_OBJECT);
    else
        is_freed = (type == MICRORPC_MODULE && mrpc_is_module(handle)) ||
                   (type == MICRORPC_NDARRAY && mrpc_heap_release(device, handle, BLOCK_ARRAY));
    return is_freed || mrpc_fail_with(device, FAILURE_NO_OBJECT, type, handle);
}

static bool alloc_tensor(microrpc_t *device, const mrpc_sequence_t *arguments) {
    mrpc_tensor_t tensor;
    uint32_t alignment = 8;
    if (mrpc_type_at(arguments, 1) == MICRORPC_TEXT) {
        microrpc_bytes_t scope = mrpc_text_at(mrpc_value_at(arguments, 1));
        if (scope.size && !mrpc_text_is(scope, FLASH_TEXT("global")))
            return mrpc_fail(device, FAILURE_NO_SCOPE);
    }
    mrpc_read_tensor(arguments->values, &tensor);
    while (8 * alignment < (uint32_t)tensor.dtype.bits * tensor.dtype.lanes) alignment *= 2;
    return reply_address(device, mrpc_heap_alloc(device, tensor.size_bytes, alignment, BLOCK_DATA));
}

static bool copy_among(microrpc_t *device, const uint8_t *from_value, const uint8_t *to_value) {
    mrpc_tensor_t from, to;
    const uint8_t *source;
    uint8_t *target;
    mrpc_read_tensor(from_value, &from);
    mrpc_read_tensor(to_value, &to);
    if (from.size_bytes != to.size_bytes) return mrpc_fail(device, FAILURE_SIZES_DIFFER);
    if (!(source = mrpc_heap_view(device, from.address, from.size_bytes))) return false;
    if (!(target = mrpc_heap_view(device, to.address, to.size_bytes))) return false;
    memmove(target, source, (size_t)to.size_bytes);
    return true;
}

static bool syscall(microrpc_t *device, uint32_t code, const mrpc_sequence_t *arguments) {
    const uint8_t *values = arguments->values;
    if (code > PACKET_DEV_SET_STREAM) return mrpc_fail_with(device, FAILURE_UNKNOWN_CODE, code, 0);
    if (!fits(code, arguments)) return mrpc_fail_with(device, FAILURE_WRONG_ARGUMENTS, code, 0);
    switch (code) {
    case PACKET_GET_GLOBAL_FUNC:
        return get_global_func(device, mrpc_text_at(values));
    case PACKET_FREE_HANDLE:
        return free_handle(device, mrpc_get64(values), mrpc_get64(values + 8));
    case PACKET_DEV_SET_DEVICE:
        return mrpc_fail(device, FAILURE_SET_DEVICE);
    case PACKET_DEV_GET_ATTR:
        return mrpc_fail(device, FAILURE_GET_ATTR);
    case PACKET_COPY_AMONG_REMOTE:
        return copy_among(device, values, mrpc_value_at(arguments, 1));
    case PACKET_DEV_ALLOC_DATA_WITH_SCOPE:
        return is_cpu(device, values + 8) && alloc_tensor(device, arguments);
    default:
        break;
    }
    if (!is_cpu(device, values)) return false;
    if (code == PACKET_DEV_ALLOC_DATA)
        return reply_address(device, mrpc_heap_alloc(device, mrpc_get64(values + 8), mrpc_get64(values + 16), BLOCK_DATA));
    if (code == PACKET_DEV_FREE_DATA) return mrpc_heap_free(device, mrpc_get64(values + 8));
    /* Everything runs in order: there is the default stream only. */
    if (code == PACKET_DEV_CREATE_STREAM) mrpc_reply_handle(device, 0);
    return true;
}

static bool init_server(microrpc_t *device, microrpc_bytes_t version, uint32_t argument_count) {
    if (argument_count) return mrpc_fail(device, FAILURE_INITIALIZED);
    if (!mrpc_text_is(version, FLASH_TEXT(PROTOCOL_VERSION)))
        return mrpc_fail(device, FAILURE_VERSION);
    return true;
}

static bool copy_to(microrpc_t *device, const mrpc_tensor_t *tensor, microrpc_bytes_t data) {
    uint8_t *target = mrpc_heap_view(device, tensor->address, data.size);
    if (!target) return false;
    memcpy(target, data.data, data.size);
    return true;
}

static bool copy_from(microrpc_t *device, const mrpc_tensor_t *tensor, uint64_t size) {
    const uint8_t *source = mrpc_heap_view(device, tensor->address, size);
    if (!source) return false;
    mrpc_reply_begin(device, PACKET_COPY_ACK);
    mrpc_reply_tail(device, source, (size_t)size);
    return true;
}

/* What a packet has behind its code: some of these, in this order. */
typedef struct {
    mrpc_tensor_t tensor;
    uint64_t number;
    microrpc_bytes_t blob;
    mrpc_sequence_t arguments;
} packet_t;

static bool read_packet(int32_t code, mrpc_cursor_t *cursor, packet_t *packet) {
    bool is_copy = code == PACKET_COPY_FROM_REMOTE || code == PACKET_COPY_TO_REMOTE;
    const uint8_t *number;
    if (is_copy && !mrpc_take_tensor(cursor, &packet->tensor)) return false;
    if (code == PACKET_CALL_FUNC || code == PACKET_COPY_FROM_REMOTE) {
        if (!(number = mrpc_take(cursor, 8))) return false;
        packet->number = mrpc_get64(number);
    } else if (code == PACKET_INIT_SERVER || code == PACKET_COPY_TO_REMOTE) {
        if (!mrpc_take_blob(cursor, &packet->blob)) return false;
    } else if (code < PACKET_GET_GLOBAL_FUNC) {
        return false;
    }
    return (is_copy || mrpc_take_sequence(cursor, &packet->arguments)) && !cursor->left;
}

static bool execute(microrpc_t *device, int32_t code, mrpc_cursor_t *cursor) {
    packet_t packet;
    if (!read_packet(code, cursor, &packet)) return mrpc_fail(device, FAILURE_MALFORMED);
    mrpc_reply_none(device); /* for whatever has no other reply */
    switch (code) {
    case PACKET_INIT_SERVER:
        return init_server(device, packet.blob, packet.arguments.count);
    case PACKET_CALL_FUNC:
        return mrpc_call(device, packet.number, &packet.arguments);
    case PACKET_COPY_FROM_REMOTE:
        return copy_from(device, &packet.tensor, packet.number);
    case PACKET_COPY_TO_REMOTE:
        return copy_to(device, &packet.tensor, packet.blob);
    default:
        return syscall(device, (uint32_t)code, &packet.arguments);
    }
}

bool mrpc_serve(microrpc_t *device, const uint8_t *packet, size_t size) {
    mrpc_cursor_t cursor;
    const uint8_t *head;
    int32_t code;
    cursor.at = packet;
    cursor.left = size;
    head = mrpc_take(&cursor, 4);
    code = head ? (int32_t)mrpc_get32(head) : 0;
    if (code == PACKET_SHUTDOWN && !cursor.left) return false;
    if (!execute(device, code, &cursor)) mrpc_reply_failure(device);
    return true;
}
