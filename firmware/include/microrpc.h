/* microrpc: the device. A board that serves the RPC protocol of microTVM's C runtime over a serial line, and the
 * reliable link on top (docs/protocol.md, docs/link.md; docs/firmware.md is the guide to this library).
 *
 *     static void half(microrpc_call_t *call) {
 *         microrpc_return_int(call, microrpc_int(call, 0) / 2);
 *     }
 *     static const microrpc_function_t functions[] = {MICRORPC_FUNCTION(half)};
 *
 *     static uint64_t memory[2048];
 *     static const microrpc_config_t config = {
 *         .write = uart_write, MICRORPC_FUNCTIONS(functions), .packet_bytes = 2048, .ring_bytes = 2148};
 *
 *     microrpc_t *device = microrpc_start(memory, sizeof memory, &config);
 *     for (;;) microrpc_receive(device, bytes, how_many);   // whatever came over the line
 *
 * It allocates nothing and has no state but in the memory that it is given. Call it from one place, such as the main
 * loop, and let the interrupt fill a ring in front of it; docs/firmware.md says what may be called from where.
 */
#ifndef MICRORPC_H
#define MICRORPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "microrpc_parts.h"
#include "microrpc_table.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A device, at the beginning of the memory that it was given. */
typedef struct microrpc microrpc_t;

/* A call in progress: its arguments and its result. It ends when the function returns. */
typedef struct microrpc_call microrpc_call_t;

/* A function that a host can call. It takes its arguments from `call`, and gives a result at most once; without one it
 * returns nothing. An argument that is missing or of another type makes the call fail with a text that says so, and
 * reads as 0; what is returned then, does not count. */
typedef void (*microrpc_handler_t)(microrpc_call_t *call);

typedef struct MICRORPC_TABLE_TYPE {
    MICRORPC_TABLE_TEXT(name, MICRORPC_NAME_BYTES);
    microrpc_handler_t handler;
#if MICRORPC_DESCRIBE
    MICRORPC_TABLE_TEXT(signature, MICRORPC_SIGNATURE_BYTES);
    MICRORPC_TABLE_TEXT(doc, MICRORPC_DOC_BYTES);
#endif
} microrpc_function_t;

/* An entry of a table of functions: the C function `name` under its own name. MICRORPC_FUNCTION_AS("name", function,
 * signature, doc) is one under another name, a text. */
#define MICRORPC_FUNCTION(name) MICRORPC_FUNCTION_AS(#name, name, MICRORPC_NO_TEXT, MICRORPC_NO_TEXT)

/* The same with what hosts show of it: a signature as "x: float32[n], factor: float -> None", whose grammar is in
 * docs/description.md 3, and a sentence that says what it does. Either may be MICRORPC_NO_TEXT. Both are dropped, and take no
 * flash, where MICRORPC_DESCRIBE is 0. */
#define MICRORPC_FUNCTION_DOC(name, signature, doc) MICRORPC_FUNCTION_AS(#name, name, signature, doc)

/* The table `table` as the system library of a microrpc_config_t, among the initializers of C (or of C++20). */
#define MICRORPC_FUNCTIONS(table) .functions = (table), .function_count = sizeof(table) / sizeof((table)[0])

/* What a device is. It is not copied: it must stay where it is, in flash for instance. */
typedef struct {
    /* Send bytes; return when all are taken. Never NULL. */
    void (*write)(void *port, const uint8_t *bytes, size_t size);
    /* The time in microseconds since some moment; after 2^32 - 1 comes 0. NULL: the board has no clock. */
    uint32_t (*now_us)(void *port);
    /* Handed to `write`, `now_us` and all other functions of the port. */
    void *port;
    /* The system library, where hosts look first. */
    const microrpc_function_t *functions;
    size_t function_count;
    /* More functions of the global registry, which has the runtime's own. */
    const microrpc_function_t *global_functions;
    size_t global_function_count;
    /* The receive buffer: the largest frame payload that is taken. At least 128, at most 16777215. */
    uint32_t packet_bytes;
    /* What the port can keep while a function runs, in bytes of the wire; the link's window (docs/link.md 1). At most
     * 16777215. */
    uint32_t ring_bytes;
    /* The longest reply, in bytes of frame payload, that is kept to be sent again if it was lost: that of an int has 42.
     * 0: 64. Of a longer one the host learns only that it was executed. At most 16777215. */
    uint32_t reply_bytes;
    /* Where this boot's session nonces begin. Best another one at each boot (a clock, noise, a counter in flash): a
     * host knows a boot by it if the message that announces it is lost. */
    uint8_t nonce;
#if MICRORPC_MEMORY
    /* Tell the size of the stack and the most that was ever used of it, in bytes, for the memory report. NULL: the port
     * does not know, and the report says 0. */
    void (*stack)(void *port, uint32_t *size_bytes, uint32_t *most_used_bytes);
#endif
#if MICRORPC_HOOKS
    /* Called again and again while the time evaluator waits, and before each of its runs: feed a watchdog, let other
     * tasks go on. It must not call the library. NULL: nothing is to be done. */
    void (*idle)(void *port);
    /* Called when a frame was handed to `write` to its end: send what is kept to be sent together, as USB, TCP and BLE
     * do. It must not call the library, nor must `write`. NULL: nothing is kept. */
    void (*flush)(void *port);
#endif
#if MICRORPC_DESCRIBE
    /* Who it is, as hosts show it: the board, what runs on it, and which version of that. NULL: nothing. */
    const char *board_name;
    const char *firmware_name;
    const char *firmware_version;
#endif
#if MICRORPC_EVENTS
    /* Another number at each boot, as far as there is one: a host that knows it keeps events of two boots apart. 0: the
     * nonce. */
    uint32_t boot_id;
#endif
#if MICRORPC_RELIABLE_EVENTS
    /* Where reliable events are kept until the host has them; each takes 2 bytes besides its own. NULL: there are none. */
    void *event_ring;
    size_t event_ring_bytes;
#endif
#if MICRORPC_PROGRESS
    /* Give up to `size` bytes that came over the line, 0 where there is nothing: it does not wait. More than `size`, as
     * from a -1, is nothing, too. For microrpc_is_cancelled(), which takes them from where the main loop does. It may
     * call microrpc_lost_bytes() where bytes were lost between those that it gave before and those that it gives. NULL:
     * no function can be cancelled. */
    size_t (*read)(void *port, uint8_t *bytes, size_t size);
#endif
#if MICRORPC_MODELS
    /* What it has of models, by their numbers (microrpc_model.h). */
    const struct microrpc_model *const *models;
    size_t model_count;
#endif
#if MICRORPC_HOOKS && MICRORPC_LINK
    /* Called with true when a session begins, or a host that was gone speaks again; with false when that session ends,
     * by the host or by the next one, or the host is gone: time to stop a motor. It may log and send events. NULL: nobody
     * wants to know. */
    void (*on_session)(void *port, bool begins);
    /* After how many milliseconds of silence the host is taken for gone; 0: never. It needs a clock, and a main loop that
     * calls microrpc_receive() at least four times in that time, with 0 bytes where nothing came: the time that a
     * function takes does not count, and of any other pause no more than a quarter. */
    uint16_t host_timeout_ms;
#endif
} microrpc_config_t;

/* Begin: lay the device out in `memory` (aligned to 8), and tell the host that the board has booted.
 *
 * The memory holds the device, the receive buffer and the kept reply; what is left is the heap, where tensors live.
 * Gives NULL where it is too small, or misaligned, or `config` is senseless. */
microrpc_t *microrpc_start(void *memory, size_t memory_bytes, const microrpc_config_t *config);

/* What of the memory is not heap, in bytes; SIZE_MAX where that is more than a size_t can say. */
size_t microrpc_overhead_bytes(const microrpc_config_t *config);

/* Take bytes that came over the line, as many or as few as there are, and do what they ask for. Not from an interrupt.
 * From within a function, or anything else that the library calls, they are lost, as by microrpc_lost_bytes(). */
void microrpc_receive(microrpc_t *device, const uint8_t *bytes, size_t size);

/* Tell the host that bytes were lost before they could be given to microrpc_receive, as from a ring that ran over:
 * with the link, it sends again at once what would else wait for a timeout. */
void microrpc_lost_bytes(microrpc_t *device);

/* Send a line to the host's log, also from within a function. From an interrupt, if `write` works in one, or from
 * within `write` or `flush`, the line is lost where a frame is being sent. */
void microrpc_log(microrpc_t *device, const char *text);

typedef enum { MICRORPC_LOG_DEBUG, MICRORPC_LOG_INFO, MICRORPC_LOG_WARNING, MICRORPC_LOG_ERROR } microrpc_level_t;

/* The same with a level and, where the board has a clock, its time: the host files it so (docs/device.md 5). */
void microrpc_log_at(microrpc_t *device, microrpc_level_t level, const char *text);

/* --- arguments ------------------------------------------------------------------------------------------------- */

/* Type codes of arguments and results (docs/protocol.md 3). */
typedef enum {
    MICRORPC_INT = 0,
    MICRORPC_UINT = 1,
    MICRORPC_FLOAT = 2,
    MICRORPC_HANDLE = 3,
    MICRORPC_NULL = 4,
    MICRORPC_DATA_TYPE = 5,
    MICRORPC_DEVICE = 6,
    MICRORPC_TENSOR = 7,
    MICRORPC_MODULE = 9,
    MICRORPC_FUNCTION_HANDLE = 10,
    MICRORPC_TEXT = 11,
    MICRORPC_BYTES = 12,
    MICRORPC_NDARRAY = 13
} microrpc_type_t;

/* Bytes that lie somewhere, a text too: there is no NUL at the end. */
typedef struct {
    const uint8_t *data;
    size_t size;
} microrpc_bytes_t;

typedef enum {
    MICRORPC_DTYPE_INT = 0,
    MICRORPC_DTYPE_UINT = 1,
    MICRORPC_DTYPE_FLOAT = 2,
    MICRORPC_DTYPE_BFLOAT = 4,
    MICRORPC_DTYPE_BOOL = 6 /* of 8 bits; a bool of 1 bit is a MICRORPC_DTYPE_UINT */
} microrpc_dtype_code_t;

/* The type of a tensor's elements, bool is uint1. */
typedef struct {
    uint8_t code;
    uint8_t bits;
    uint16_t lanes;
} microrpc_dtype_t;

/* A tensor in the heap, compact, of `count` elements. Its data are inside one allocated block, and aligned to its
 * elements. */
typedef struct {
    void *data;
    size_t size_bytes;
    size_t count;
    microrpc_dtype_t dtype;
    uint32_t ndim;
    const uint8_t *extents; /* microrpc_extent() reads them */
} microrpc_tensor_t;

/* How many arguments there are. */
uint32_t microrpc_argument_count(const microrpc_call_t *call);

/* The type code of argument `index`; MICRORPC_NULL where there is none. */
microrpc_type_t microrpc_argument_type(const microrpc_call_t *call, uint32_t index);

/* Argument `index`, an Int. */
int64_t microrpc_int(microrpc_call_t *call, uint32_t index);

/* Argument `index`, a Float or an Int; the nearest one where a `double` has 4 bytes, as on an AVR. */
double microrpc_float(microrpc_call_t *call, uint32_t index);

/* Argument `index`, a Str. It lies in the receive buffer, until the call ends. */
microrpc_bytes_t microrpc_text(microrpc_call_t *call, uint32_t index);

/* Argument `index`, Bytes. They lie in the receive buffer, until the call ends. */
microrpc_bytes_t microrpc_bytes(microrpc_call_t *call, uint32_t index);

/* Argument `index`, a tensor of any type. */
microrpc_tensor_t microrpc_tensor(microrpc_call_t *call, uint32_t index);

/* Argument `index`, a tensor of float32, one lane. */
microrpc_tensor_t microrpc_float32(microrpc_call_t *call, uint32_t index);

/* The extent of dimension `dimension` of a tensor, counted from 0; 1 past its last one. */
size_t microrpc_extent(const microrpc_tensor_t *tensor, uint32_t dimension);

/* Whether the call has failed, by an argument that was not there or by microrpc_fail(). */
bool microrpc_has_failed(const microrpc_call_t *call);

/* --- results --------------------------------------------------------------------------------------------------- */

void microrpc_return_int(microrpc_call_t *call, int64_t value);
void microrpc_return_float(microrpc_call_t *call, double value);

/* Return a text or bytes. They are not copied: they must outlive the function. What microrpc_text(), microrpc_bytes()
 * and microrpc_result_buffer() gave does, and so do constants and the heap. */
void microrpc_return_text(microrpc_call_t *call, const void *text, size_t size);
void microrpc_return_bytes(microrpc_call_t *call, const void *data, size_t size);

/* Room for a text or bytes to return: what the request leaves free of the receive buffer, aligned to 8. It is the same
 * room each time.
 * NULL, and the call has failed, where that is less than `size`. */
void *microrpc_result_buffer(microrpc_call_t *call, size_t size);

/* Return a new tensor of `ndim` (at most 4) dimensions, which the host owns and frees; give its data, to be filled
 * in. NULL, and the call has failed, where the heap has no room, or for more dimensions. */
void *microrpc_return_tensor(microrpc_call_t *call, microrpc_dtype_t dtype, uint32_t ndim, const size_t *extents);

/* Return a new function, which the host owns and frees: `handler`, which finds a copy of `state` in
 * microrpc_state(). `state_bytes` is at most MICRORPC_STATE_BYTES. */
void microrpc_return_function(microrpc_call_t *call, microrpc_handler_t handler, const void *state, size_t state_bytes);
#define MICRORPC_STATE_BYTES 56

/* What the function that is running was returned with; aligned to 8. NULL for one of a table. */
const void *microrpc_state(const microrpc_call_t *call);

/* Fail: the host gets an exception with `text`. It is not copied: it must outlive the function, as a constant does, or
 * what was written into microrpc_result_buffer(). The first failure of a call counts. */
void microrpc_fail(microrpc_call_t *call, const char *text);

/* --- functions that take long (docs/link.md 9) ------------------------------------------------------------------ */

#if MICRORPC_PROGRESS
/* Tell the host how far the function has come, in whatever `done` and `total` count. The host then waits for as long as
 * it hears this at least once in its `call_s`; where it does not want to know, nothing is sent, nor by a function that
 * is being timed. */
void microrpc_progress(microrpc_call_t *call, uint32_t done, uint32_t total);

/* Whether the host wants the function to end: then leave all in order, microrpc_fail(call, MICRORPC_CANCELLED), and
 * return. What came over the line meanwhile is read, so ask often enough; false where the port has no `read`. */
bool microrpc_is_cancelled(microrpc_call_t *call);
#define MICRORPC_CANCELLED "cancelled"
#endif

/* The device that is called, for microrpc_log() and microrpc_event(). */
microrpc_t *microrpc_device(const microrpc_call_t *call);

/* Whether the port has a clock. */
bool microrpc_has_clock(const microrpc_call_t *call);

/* The port's clock: microseconds, after 2^32 - 1 comes 0. 0 where the board has none. */
uint32_t microrpc_now_us(const microrpc_call_t *call);

/* --- events (docs/link.md 8) ------------------------------------------------------------------------------------ */

#if MICRORPC_EVENTS
/* A value of an event; the functions below make one. */
typedef struct {
    uint8_t type; /* MICRORPC_INT, MICRORPC_FLOAT, MICRORPC_TEXT or MICRORPC_BYTES */
    union {
        int64_t whole;
        double real;
        uint64_t bits;
        microrpc_bytes_t bytes;
    } as;
} microrpc_value_t;

/* Tell the host that `name` has happened, with `count` values. From the main loop or a function, not from an interrupt.
 * A plain event is sent or lost: the host learns how many it has missed. True if it was sent: a host wants events, and
 * has given credit. */
bool microrpc_event(microrpc_t *device, const char *name, const microrpc_value_t *values, size_t count);

#if MICRORPC_RELIABLE_EVENTS
/* The same, but the event is kept, and sent again, until the host has it. False if there is no room to keep it, and then
 * it is as if nothing had happened: try again later. */
bool microrpc_event_reliable(microrpc_t *device, const char *name, const microrpc_value_t *values, size_t count);
#endif

static inline microrpc_value_t microrpc_value_int(int64_t value) {
    microrpc_value_t made;
    made.type = MICRORPC_INT;
    made.as.whole = value;
    return made;
}

static inline microrpc_value_t microrpc_value_float(double value) {
    microrpc_value_t made;
    made.type = MICRORPC_FLOAT;
    made.as.real = value;
    return made;
}

/* They are not copied: they must stay until the event was told. */
static inline microrpc_value_t microrpc_value_bytes(const void *data, size_t size) {
    microrpc_value_t made;
    made.type = MICRORPC_BYTES;
#ifdef __cplusplus
    made.as.bytes.data = static_cast<const uint8_t *>(data);
#else
    made.as.bytes.data = (const uint8_t *)data;
#endif
    made.as.bytes.size = size;
    return made;
}

/* As far as its NUL, of UTF-8. */
static inline microrpc_value_t microrpc_value_text(const char *text) {
    microrpc_value_t made = microrpc_value_bytes(text, 0);
    made.type = MICRORPC_TEXT;
    while (text[made.as.bytes.size]) made.as.bytes.size++;
    return made;
}

/* An event of bytes alone. */
static inline bool microrpc_event_bytes(microrpc_t *device, const char *name, const void *data, size_t size) {
    microrpc_value_t value = microrpc_value_bytes(data, size);
    return microrpc_event(device, name, &value, 1);
}
#endif

#ifdef __cplusplus
}
#endif
#endif
