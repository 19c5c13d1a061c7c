/* Packets, what they fail with, and replies: what the parts of the library that serve requests have in common. */
#ifndef MICRORPC_PACKETS_H
#define MICRORPC_PACKETS_H

#include "microrpc.h"

#define PROTOCOL_VERSION "0.8.0"

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

/* Each with its text, and how much longer than `%d` and the like the values in it can be: signed and unsigned numbers of
 * 32 and 64 bits, hex, and texts. The lists make the enum, the texts one after the other, and the buffer they fit. */
#define D32 (11 - 2)
#define U32 (10 - 2)
#define D64 (20 - 2)
#define U64 (20 - 2)
#define X64 (16 - 2)
#define FAILURES(X)                                                                                                   \
    X(FAILURE_MALFORMED, "malformed packet", 0)                                                                       \
    X(FAILURE_UNKNOWN_CODE, "unknown packet code %d", U32)                                                            \
    X(FAILURE_WRONG_ARGUMENTS, "wrong arguments of packet code %d", U32)                                              \
    X(FAILURE_INITIALIZED, "Server has already been initialized", 0)                                                  \
    X(FAILURE_VERSION, "protocol version mismatch: this device speaks " PROTOCOL_VERSION, 0)                          \
    X(FAILURE_SET_DEVICE, "SetDevice not supported", 0)                                                               \
    X(FAILURE_GET_ATTR, "GetAttr not supported", 0)                                                                   \
    X(FAILURE_NO_DEVICE, "there is no device (%d, %d) here, only the CPU (1, 0)", D32 + D32)                          \
    X(FAILURE_NO_SCOPE, "there is no such memory scope here", 0)                                                      \
    X(FAILURE_SIZES_DIFFER, "the tensors have different sizes", 0)                                                    \
    X(FAILURE_CANNOT_ALLOCATE, "cannot allocate %d bytes aligned to %d", D64 + D64)                                   \
    X(FAILURE_OUT_OF_MEMORY, "out of memory: %u bytes asked for, the largest free block has %u", U64 + U32)           \
    X(FAILURE_CANNOT_FREE, "cannot free 0x%x: no block begins there", X64)                                            \
    X(FAILURE_NOT_INSIDE, "%u bytes at 0x%x are not inside an allocated block", U64 + X64)                            \
    X(FAILURE_NO_FUNCTION, "no function or module has the handle 0x%x; look it up again", X64)                        \
    X(FAILURE_NO_OBJECT, "no object of type %d has the handle 0x%x", D64 + X64)                                       \
    X(FAILURE_NO_DTYPE, "argument %d: the dtype is not supported", U32)                                               \
    X(FAILURE_NOT_ALIGNED, "argument %d: the tensor is not aligned", U32)                                             \
    X(FAILURE_EXPECTED, "argument %d: %s expected", U32 + MOST_EXPECTED_BYTES - 2)                                    \
    X(FAILURE_TOO_LONG_A_RESULT, "the result is too long", 0)                                                         \
    X(FAILURE_NO_TIMED_FUNCTION, "RPCTimeEvaluator: no function has that name", 0)                                    \
    X(FAILURE_NOT_POSITIVE, "RPCTimeEvaluator: number and repeat must be positive", 0)                                \
    X(FAILURE_REFUSED, "a frame was refused: it announces %u bytes, and %u are accepted", U32 + U32)
#if MICRORPC_DESCRIBE /* no failure, but made in the same way */
#define DESCRIPTION_TEXTS(X) X(TEXT_OF_DESCRIPTION, "%x\t%u\t", 9 - 2 + U32)
#else
#define DESCRIPTION_TEXTS(X)
#endif
#if MICRORPC_PROGRESS
#define PROGRESS_FAILURES(X) X(FAILURE_CANCELLED, "cancelled before it began", 0)
#else
#define PROGRESS_FAILURES(X)
#endif
#if MICRORPC_MODELS /* the last one is no failure, either */
#define MODEL_FAILURES(X)                                                                                             \
    X(FAILURE_NOT_THERE, "there is no such %s: there are %u", 5 - 2 + U64)                                            \
    X(FAILURE_NO_OUTPUT, "the output of this layer cannot be had", 0)                                                 \
    X(FAILURE_NO_CLOCK, "this board has no clock", 0)                                                                 \
    X(FAILURE_ARGUMENT_COUNT, "%u arguments expected, not %u", U64 + U64)                                             \
    X(FAILURE_SHARED_MEMORY, "argument %u shares memory with another one", U64)                                       \
    X(TEXT_OF_NUMBER, "%u", U32)
#define MOST_EXPECTED_BYTES 63 /* model.c cuts what is longer */
#else
#define MODEL_FAILURES(X)
#define MOST_EXPECTED_BYTES 7 /* "float32" */
#endif
#define ALL_FAILURES(X) FAILURES(X) DESCRIPTION_TEXTS(X) PROGRESS_FAILURES(X) MODEL_FAILURES(X)

typedef enum {
#define X(name, text, more) name,
    ALL_FAILURES(X)
#undef X
} mrpc_failure_t;

/* As long as the longest of them. */
typedef union {
#define X(name, text, more) char name[sizeof(text) + (more)];
    ALL_FAILURES(X)
#undef X
} mrpc_failure_text_t;

/* Set the failure, from which mrpc_reply_failure() makes an Exception. Give false. */
bool mrpc_fail(microrpc_t *device, mrpc_failure_t failure);
bool mrpc_fail_with(microrpc_t *device, mrpc_failure_t failure, uint64_t first, uint64_t second);

/* --- replies (reply.c) ----------------------------------------------------------------------------------------- */

#define ENVELOPE_BYTES 11u /* session header and packet_nbytes, which are not part of GetCRTMaxPacketSize's limit */

/* The reply that is being made: its code and what else is small in `head`, and the rest where it is. */
typedef struct {
    const void *tail;
    size_t tail_bytes;
    uint8_t head_bytes;
    uint8_t head[ENVELOPE_BYTES + 100]; /* from ENVELOPE_BYTES on: before it is room for what its message begins with */
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
