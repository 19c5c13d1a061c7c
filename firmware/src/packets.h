/* Packets, what they fail with, and replies: what the parts of the library that serve requests have in common. */
#ifndef MICRORPC_PACKETS_H
#define MICRORPC_PACKETS_H

#include "microrpc.h"

/* --- packets (codec.c, protocol 3) ----------------------------------------------------------------------------- */

enum {
    PACKET_SHUTDOWN = 1,
    PACKET_INIT_SERVER = 2,
    PACKET_CALL_FUNC = 3,
    PACKET_RETURN = 4,
    PACKET_EXCEPTION = 5,
    PACKET_COPY_FROM_REMOTE = 6,
    PACKET_COPY_TO_REMOTE = 7,
    PACKET_COPY_ACK = 8,
    PACKET_GET_GLOBAL_FUNC = 9,
    PACKET_FREE_HANDLE = 10,
    PACKET_DEV_SET_DEVICE = 11,
    PACKET_DEV_GET_ATTR = 12,
    PACKET_DEV_ALLOC_DATA = 13,
    PACKET_DEV_FREE_DATA = 14,
    PACKET_DEV_STREAM_SYNC = 15,
    PACKET_COPY_AMONG_REMOTE = 16,
    PACKET_DEV_ALLOC_DATA_WITH_SCOPE = 17,
    PACKET_DEV_CREATE_STREAM = 18,
    PACKET_DEV_FREE_STREAM = 19,
    PACKET_DEV_SET_STREAM = 20
};

/* What of a packet is still to be read. */
typedef struct {
    const uint8_t *at;
    size_t left;
} mrpc_cursor_t;

/* A packed sequence that was checked. */
typedef struct {
    const uint8_t *codes;
    const uint8_t *values;
    uint32_t count;
} mrpc_sequence_t;

/* A tensor as it stands in a packet. */
typedef struct {
    uint64_t address;    /* of its first element */
    uint32_t size_bytes; /* UINT32_MAX if it is that or more */
    microrpc_dtype_t dtype;
    uint32_t ndim;
    const uint8_t *extents;
} mrpc_tensor_t;

/* Go over `size` bytes; give where they begin, NULL where there are fewer. */
const uint8_t *mrpc_take(mrpc_cursor_t *cursor, uint64_t size);
/* Go over a u64 length and that many bytes. */
bool mrpc_take_blob(mrpc_cursor_t *cursor, microrpc_bytes_t *blob);
bool mrpc_take_tensor(mrpc_cursor_t *cursor, mrpc_tensor_t *tensor);
bool mrpc_take_sequence(mrpc_cursor_t *cursor, mrpc_sequence_t *sequence);
uint32_t mrpc_type_at(const mrpc_sequence_t *sequence, uint32_t index);
/* Go over a value of this type. */
bool mrpc_skip_value(mrpc_cursor_t *cursor, uint32_t type);
/* The value `index` (one of them) of a sequence that was checked. */
const uint8_t *mrpc_value_at(const mrpc_sequence_t *sequence, uint32_t index);
/* a * b, UINT32_MAX if it is that or more. */
uint32_t mrpc_multiply(uint32_t a, uint64_t b);
void mrpc_read_tensor(const uint8_t *value, mrpc_tensor_t *tensor);
microrpc_bytes_t mrpc_bytes_at(const uint8_t *value);
/* As far as its first NUL. */
microrpc_bytes_t mrpc_text_at(const uint8_t *value);
/* `name` is in flash. */
bool mrpc_text_is(microrpc_bytes_t text, const char *name);

/* --- failures (failures.c, docs/device.md) ---------------------------------------------------------------------- */

/* In the order of their texts. */
typedef enum {
    FAILURE_MALFORMED,
    FAILURE_UNKNOWN_CODE,
    FAILURE_WRONG_ARGUMENTS,
    FAILURE_INITIALIZED,
    FAILURE_VERSION,
    FAILURE_SET_DEVICE,
    FAILURE_GET_ATTR,
    FAILURE_NO_DEVICE,
    FAILURE_NO_SCOPE,
    FAILURE_SIZES_DIFFER,
    FAILURE_CANNOT_ALLOCATE,
    FAILURE_OUT_OF_MEMORY,
    FAILURE_CANNOT_FREE,
    FAILURE_NOT_INSIDE,
    FAILURE_NO_FUNCTION,
    FAILURE_NO_OBJECT,
    FAILURE_NO_DTYPE,
    FAILURE_NOT_ALIGNED,
    FAILURE_EXPECTED,
    FAILURE_TOO_LONG_A_RESULT,
    FAILURE_NO_TIMED_FUNCTION,
    FAILURE_NOT_POSITIVE,
    FAILURE_REFUSED,
#if MICRORPC_DESCRIBE
    TEXT_OF_DESCRIPTION, /* no failure, but made in the same way */
#endif
#if MICRORPC_MODELS
    FAILURE_NOT_THERE,
    FAILURE_NO_OUTPUT,
    FAILURE_NO_CLOCK,
    FAILURE_ARGUMENT_COUNT,
    FAILURE_SHARED_MEMORY,
    TEXT_OF_NUMBER, /* nor is this one */
#endif
} mrpc_failure_t;

/* Set the failure, from which mrpc_reply_failure() makes an Exception. Give false. */
bool mrpc_fail(microrpc_t *device, mrpc_failure_t failure);
bool mrpc_fail_with(microrpc_t *device, mrpc_failure_t failure, uint64_t first, uint64_t second);

/* --- replies (reply.c) ----------------------------------------------------------------------------------------- */

/* The reply that is being made: its code and what else is small in `head`, and the rest where it is. */
typedef struct {
    const void *tail;
    size_t tail_bytes;
    uint8_t head_bytes;
    uint8_t head[100];
} mrpc_reply_t;

/* Make it nothing but `tail`. */
void mrpc_reply_clear(microrpc_t *device, const void *tail, size_t size);
void mrpc_reply_begin(microrpc_t *device, int32_t code);
void mrpc_reply_number(microrpc_t *device, unsigned size_bytes, uint64_t value);
void mrpc_reply_tail(microrpc_t *device, const void *tail, size_t size);
/* Return, of `count` values that are to follow: their types, 4 bits each, the first one lowest. */
void mrpc_reply_return(microrpc_t *device, unsigned count, unsigned types);
void mrpc_reply_none(microrpc_t *device);
void mrpc_reply_handle(microrpc_t *device, uint64_t handle);
/* Exception(the device's failure). */
void mrpc_reply_failure(microrpc_t *device);

#endif
