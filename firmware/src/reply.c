/* The reply to a packet, as it is made (docs/protocol.md 3). */
#include "microrpc_internal.h"

void mrpc_reply_number(microrpc_t *device, unsigned size_bytes, uint64_t value) {
    mrpc_reply_t *reply = &device->reply;
    mrpc_put(reply->head + ENVELOPE_BYTES + reply->head_bytes, size_bytes, value);
    reply->head_bytes = (uint8_t)(reply->head_bytes + size_bytes);
}

void mrpc_reply_tail(microrpc_t *device, const void *tail, size_t size) {
    device->reply.tail = tail;
    device->reply.tail_bytes = size;
}

void mrpc_reply_clear(microrpc_t *device, const void *tail, size_t size) {
    device->reply.head_bytes = 0;
    mrpc_reply_tail(device, tail, size);
}

void mrpc_reply_begin(microrpc_t *device, int32_t code) {
    mrpc_reply_clear(device, NULL, 0);
    mrpc_reply_number(device, 4, (uint32_t)code);
}

static void begin_sequence(microrpc_t *device, int32_t code, unsigned count, unsigned types) {
    mrpc_reply_begin(device, code);
    mrpc_reply_number(device, 4, count);
    for (; count; count--, types >>= 4) mrpc_reply_number(device, 4, types & 15);
}

void mrpc_reply_return(microrpc_t *device, unsigned count, unsigned types) {
    begin_sequence(device, PACKET_RETURN, count, types);
}

void mrpc_reply_none(microrpc_t *device) { mrpc_reply_return(device, 1, MICRORPC_NULL); }

void mrpc_reply_handle(microrpc_t *device, uint64_t handle) {
    mrpc_reply_return(device, 1, MICRORPC_HANDLE);
    mrpc_reply_number(device, 8, handle);
}

void mrpc_reply_failure(microrpc_t *device) {
    size_t size = mrpc_length(device->failure);
    begin_sequence(device, PACKET_EXCEPTION, 1, MICRORPC_TEXT);
    mrpc_reply_number(device, 8, size);
    mrpc_reply_tail(device, device->failure, size);
}
