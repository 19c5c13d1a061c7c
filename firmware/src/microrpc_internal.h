/* What the parts of the library know of each other. docs/device.md says what is answered to what. */
#ifndef MICRORPC_INTERNAL_H
#define MICRORPC_INTERNAL_H

#include "flash.h"
#include "microrpc.h"
#include "packets.h"

#if defined __BYTE_ORDER__ && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "microrpc is for little-endian CPUs: tensors cross the line as they lie in memory, and hosts take them for that"
#endif

/* A freestanding compiler has no string.h, but calls these four. */
void *memcpy(void *to, const void *from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);

/* What was asked for: whether the host's silence is noticed, whether the link has more messages, and whether there is
 * anything for the features to tell. */
#define HAS_PRESENCE (MICRORPC_LINK && MICRORPC_HOOKS)
#define HAS_MORE_MESSAGES (MICRORPC_EVENTS || MICRORPC_PROGRESS || HAS_PRESENCE)
#define HAS_FEATURES (HAS_MORE_MESSAGES || (MICRORPC_LINK && (MICRORPC_DESCRIBE || MICRORPC_MEMORY)))

/* --- numbers on the wire, little-endian and not aligned (bytes.c) ---------------------------------------------- */

void mrpc_put(uint8_t *at, unsigned size_bytes, uint64_t value);

static inline uint16_t mrpc_get16(const uint8_t *at) { return (uint16_t)(at[0] | (unsigned)at[1] << 8); }
uint32_t mrpc_get32(const uint8_t *at);
uint64_t mrpc_get64(const uint8_t *at);

size_t mrpc_length(const char *text);

/* The bits of an f64, which a `double` of 4 bytes becomes and is made of (real.c). */
#if __SIZEOF_DOUBLE__ == 8
static inline uint64_t mrpc_real_bits(double number) {
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits;
}

static inline double mrpc_real(uint64_t bits) {
    double number;
    memcpy(&number, &bits, sizeof number);
    return number;
}
#else
uint64_t mrpc_real_bits(double number);
double mrpc_real(uint64_t bits);
#endif

/* A size that was told, as a size_t: SIZE_MAX, which nothing has, where that is too short for it (an AVR's has 16 bits). */
static inline size_t mrpc_size(uint64_t size) { return size <= SIZE_MAX ? (size_t)size : SIZE_MAX; }

/* Divide *number; give the remainder. */
uint32_t mrpc_divide(uint64_t *number, uint32_t divisor);

/* --- frames (framing.c, protocol 1) ---------------------------------------------------------------------------- */

typedef enum { HUNTING, IN_LENGTH, IN_PAYLOAD, IN_CRC } mrpc_field_t;

typedef struct {
    uint32_t length; /* of the payload */
    uint32_t got;    /* bytes of the current field */
    uint16_t crc;
    uint16_t crc_got;
    uint8_t field;
    bool is_escaped;
} mrpc_reader_t;

void mrpc_frame_receive(microrpc_t *device, const uint8_t *bytes, size_t size);
/* Send a frame: `head`, which begins with the session's header, `tail`, and for a message of the link their crc32. */
void mrpc_frame_send(microrpc_t *device, const uint8_t *head, size_t head_bytes, const void *tail, size_t tail_bytes);

/* --- session messages (session.c, protocol 2) ------------------------------------------------------------------ */

enum {
    MESSAGE_INIT = 0x00,
    MESSAGE_REPLY = 0x01,
    MESSAGE_TERMINATE = 0x02,
    MESSAGE_LOG = 0x03,
    MESSAGE_NORMAL = 0x10,
    MESSAGE_LINK_REQUEST = 0x20,
    MESSAGE_LINK_REPLY = 0x21,
    MESSAGE_LINK_NAK = 0x22,
    MESSAGE_EVENT = 0x23,
    MESSAGE_EVENT_ACK = 0x24,
    MESSAGE_EVENT_STATE = 0x25,
    MESSAGE_CANCEL = 0x26,
    MESSAGE_PROGRESS = 0x27,
    MESSAGE_KEEP_ALIVE = 0x28
};
#define HEADER_BYTES 3u

typedef struct {
    uint16_t id; /* 0: there is none */
    uint8_t nonce;
    bool is_shut_down;
} mrpc_session_t;

/* A good frame came, whose payload is in the receive buffer. */
void mrpc_session_receive(microrpc_t *device, size_t size);
/* Send device->reply, with `before_bytes` of what is before it: they stand there; and the header before them. */
void mrpc_session_reply(microrpc_t *device, uint8_t message_type, unsigned before_bytes);
/* Send a message that is no reply to a packet: the one that is being made, if any, stays as it is. */
void mrpc_session_tell(microrpc_t *device, uint8_t message_type, const void *body, size_t size);
/* A damaged frame came, or bytes outside of any. */
void mrpc_session_damaged(microrpc_t *device);

/* --- the link (link.c, docs/link.md) --------------------------------------------------------------------------- */

#define LINK_FUNCTION "microrpc.link"
#define LINK_WINDOW_REQUESTS 8u
#define FEATURES_FUNCTION "microrpc.features"

typedef struct {
    uint32_t done; /* a bit for each seq from `base` on that was executed */
    uint32_t kept_bytes;
    uint16_t base;
    uint16_t last_seq;
    bool has_last;
    bool is_active;
    bool has_complained;
#if MICRORPC_EVENTS
    uint16_t credit_bytes;
#endif
#if MICRORPC_RELIABLE_EVENTS
    uint32_t sent; /* of the reliable events that are kept, the first ones */
    size_t sent_bytes;
#endif
} mrpc_link_t;

uint64_t mrpc_link_parameters(const microrpc_t *device);
void mrpc_link_receive(microrpc_t *device, size_t size);
void mrpc_link_damaged(microrpc_t *device);
/* With the description, too. */
uint32_t mrpc_crc32(uint32_t crc, const void *bytes, size_t size);
#if HAS_FEATURES
uint64_t mrpc_features(const microrpc_t *device);
#endif

/* --- events (events.c, docs/link.md 8) ------------------------------------------------------------------------- */

#if MICRORPC_EVENTS
/* What outlives a session. */
typedef struct {
    uint32_t next; /* the number of the next plain event */
#if MICRORPC_RELIABLE_EVENTS
    uint32_t oldest;   /* the number of the first event that is kept */
    uint32_t kept;     /* how many are */
    size_t kept_bytes; /* of the ring, from its beginning: for each its size as u16, and what EVENT has of it */
#endif
} mrpc_events_t;

#define EVENT_ACK_BYTES 7u
/* An EVENT_ACK of this session came. */
void mrpc_events_acknowledge(microrpc_t *device, const uint8_t *ack);
#endif

/* --- functions that take long (progress.c, docs/link.md 9) ----------------------------------------------------- */

#if MICRORPC_PROGRESS
/* What comes while a function runs: the reader goes on, with another receive buffer. */
typedef struct {
    bool is_on;         /* the receive buffer is `payload`, and has room for no more */
    uint8_t kind;       /* of the request last_seq, while its function runs: 0 unless it is a CALL */
    uint16_t cancelled; /* 0: the function that is running is not */
    bool is_quiet;      /* it is being timed, and does not tell how far it is */
    uint8_t payload[16];
    const uint8_t *rest; /* of what microrpc_receive() was given */
    size_t rest_bytes;
} mrpc_pull_t;
/* By CANCEL, and by the last INIT or TERMINATE that came, with the host's nonce or 0 in the lowest byte. */
#define CANCELLED_BY_CANCEL 0x100u
#define CANCELLED_BY_SESSION 0x200u

/* The message was served: act on what came meanwhile, and let the reader use the receive buffer again. */
void mrpc_pull_end(microrpc_t *device);
#endif

/* --- whether the host is there (presence.c, docs/link.md 10) --------------------------------------------------- */

#if HAS_PRESENCE
typedef struct {
    uint32_t read_us;   /* when it read its port last */
    uint32_t silent_us; /* in which it did so and heard nothing */
    bool is_there;
} mrpc_presence_t;

uint16_t mrpc_host_timeout_ms(const microrpc_t *device);
/* A session begins, or ends. */
void mrpc_presence_session(microrpc_t *device, bool begins);
/* A good message of the session came. */
void mrpc_presence_heard(microrpc_t *device);
/* Before and after the port's bytes are taken. */
void mrpc_presence_before(microrpc_t *device);
void mrpc_presence_after(microrpc_t *device);
#endif

/* --- the heap (heap.c, docs/device.md 3) ----------------------------------------------------------------------- */

typedef enum { BLOCK_DATA, BLOCK_ARRAY, BLOCK_OBJECT } mrpc_block_kind_t;

typedef struct {
    uint8_t *base;
    uint32_t size_bytes;
    uint32_t count; /* of blocks */
#if MICRORPC_MEMORY
    uint32_t most_used_bytes;
    uint32_t largest_bytes; /* of the gaps that the last allocation that failed has seen */
#endif
} mrpc_heap_t;

/* These give NULL, or false, and set the device's failure where it cannot be. */
void *mrpc_heap_alloc(microrpc_t *device, uint64_t size, uint64_t alignment, mrpc_block_kind_t kind);
bool mrpc_heap_free(microrpc_t *device, uint64_t address);
uint8_t *mrpc_heap_view(microrpc_t *device, uint64_t address, uint64_t size);
/* Free a block of this kind that begins there; false, without a failure, where there is none. */
bool mrpc_heap_release(microrpc_t *device, uint64_t address, mrpc_block_kind_t kind);
/* Free all blocks; give the bytes that they had. */
uint32_t mrpc_heap_free_all(microrpc_t *device);
#if MICRORPC_MEMORY
/* The bytes of all blocks, and of their table. */
uint32_t mrpc_heap_used(const mrpc_heap_t *heap);
/* The most that can be allocated, aligned to 8. It sets the device's failure. */
uint32_t mrpc_heap_largest(microrpc_t *device);
#endif
/* The block of this kind that begins there, or NULL. */
void *mrpc_heap_block(const microrpc_t *device, uint64_t address, mrpc_block_kind_t kind);

/* --- serving (server.c, call.c, runtime.c) --------------------------------------------------------------------- */

/* Serve a packet, from its code on; the reply is in device->reply. False for Shutdown, which has none. */
bool mrpc_serve(microrpc_t *device, const uint8_t *packet, size_t size);

/* Execute CallFunc; false where it failed. */
bool mrpc_call(microrpc_t *device, uint64_t handle, const mrpc_sequence_t *arguments);

struct microrpc_call {
    microrpc_t *device;
    const mrpc_sequence_t *arguments;
    const void *state;
    void *created; /* the array or object that is its result so far, or NULL */
    mrpc_block_kind_t created_kind;
    bool has_failed;
};

/* What a function that was returned is, in the heap. */
typedef struct {
    microrpc_handler_t handler;
    uint64_t state[MICRORPC_STATE_BYTES / 8];
} mrpc_object_t;
#define OBJECT_BYTES 64

typedef enum { REGISTRY_GLOBAL, REGISTRY_SYSTEM, REGISTRY_MODULE } mrpc_registry_t;
#define STATIC_HANDLE(registry, index) (UINT64_C(1) << 63 | (uint64_t)(registry) << 32 | (uint32_t)(index))

#define RUNTIME_FUNCTIONS                                                                                    \
    (5u + !!MICRORPC_LINK + !!MICRORPC_RELEASE_ALL + !!MICRORPC_DESCRIBE + !!MICRORPC_MEMORY + 4 * !!MICRORPC_MODELS)
extern const mrpc_entry_t mrpc_runtime_functions[RUNTIME_FUNCTIONS];

void mrpc_drop_result(microrpc_call_t *call);

/* The call fails, if it has not yet. */
void mrpc_call_fails(microrpc_call_t *call, mrpc_failure_t failure);

/* How many calls are timed next where `calls` took `taken_us`, less than `least_us`: as many as should do, but 1.618
 * times as many at least (docs/protocol.md 6); UINT32_MAX if that is more. */
uint32_t mrpc_more_calls(uint32_t calls, uint32_t least_us, uint32_t taken_us);

/* The function `index` of a registry, NULL past the last one. The global one has the runtime's own first. */
const mrpc_entry_t *mrpc_function_at(const microrpc_t *device, uint32_t registry, uint32_t index);
/* The handle of the function of that name, 0 where there is none. */
uint64_t mrpc_look_up(const microrpc_t *device, mrpc_registry_t registry, microrpc_bytes_t name);
/* What to call for a handle, NULL for none. */
microrpc_handler_t mrpc_handler(const microrpc_t *device, uint64_t handle);
bool mrpc_is_module(uint64_t handle);

/* Argument `index` if it is of this type; else the call fails with "argument I: `kind`, a text in flash, expected", and
 * NULL. */
const uint8_t *mrpc_argument(microrpc_call_t *call, uint32_t index, microrpc_type_t type, const char *kind);
void mrpc_return_handle(microrpc_call_t *call, microrpc_type_t type, uint64_t handle);

/* --- the description (describe.c, docs/description.md) ---------------------------------------------------------- */

#if MICRORPC_DESCRIBE
/* Take note of what the tables are: they stay as they are. */
void mrpc_describe_start(microrpc_t *device);
void mrpc_describe(microrpc_call_t *call);
#endif

/* --- models (model.c, docs/models.md) --------------------------------------------------------------------------- */

#if MICRORPC_MODELS
void mrpc_models(microrpc_call_t *call);
void mrpc_model_run(microrpc_call_t *call);
void mrpc_model_profile(microrpc_call_t *call);
void mrpc_model_layer(microrpc_call_t *call);
#endif

/* --- the device ------------------------------------------------------------------------------------------------ */

struct microrpc {
    const microrpc_config_t *config;
    uint8_t *buffer; /* config->packet_bytes: the payload that comes in */
    mrpc_reader_t reader;
    mrpc_session_t session;
#if MICRORPC_PROGRESS
    mrpc_pull_t pull;
#endif
    bool is_receiving;        /* microrpc_receive() runs */
    volatile bool is_sending; /* a frame; volatile, since a line of the log may come from an interrupt */
    bool has_sent;     /* a frame; the first one has a lone FE before it */
    uint16_t crc_sent; /* of the frame that is being sent */
#if MICRORPC_LINK
    mrpc_link_t link;
    uint8_t *kept; /* mrpc_reply_bytes(): the last PACKET's reply */
#endif
#if MICRORPC_EVENTS
    mrpc_events_t events;
#endif
#if HAS_PRESENCE
    mrpc_presence_t presence;
#endif
    mrpc_heap_t heap;
    size_t received_bytes; /* of the buffer: the message that is being served */
    const char *failure;
#if MICRORPC_DESCRIBE
    uint32_t description_hash; /* its crc32 */
    uint32_t description_bytes; /* that the hash is of */
#endif
    uint32_t random_words; /* that random_fill drew */
    mrpc_reply_t reply;
    char text[sizeof(mrpc_failure_text_t)];
};

uint32_t mrpc_reply_bytes(const microrpc_config_t *config);

/* --- what is told in pages (describe.c, model.c) ---------------------------------------------------------------- */

#if MICRORPC_DESCRIBE || MICRORPC_MODELS
#define LEAST_PAGE_BYTES 32u

/* A part of something that is gone over from its beginning: what lies in it is put where the result is made. */
typedef struct {
    uint8_t *page; /* NULL: nothing is put anywhere */
    uint32_t offset, size;
    uint32_t told; /* bytes so far, of the whole */
} mrpc_page_t;

/* Begin with the one at the offset that argument `index` is; false where the call has failed. */
static inline bool mrpc_page_begin(microrpc_call_t *call, mrpc_page_t *page, uint32_t index) {
    const microrpc_t *device = call->device;
    uint64_t offset = (uint64_t)microrpc_int(call, index); /* a negative one is past the end */
    uint8_t *at = microrpc_result_buffer(call, 0);
    if (call->has_failed) return false;
    page->page = at;
    page->offset = offset >> 32 ? UINT32_MAX : (uint32_t)offset;
    page->size = (uint32_t)(device->buffer + device->config->packet_bytes - at);
    page->told = 0;
    return true;
}

static inline void mrpc_page_put(mrpc_page_t *page, uint8_t byte) {
    uint32_t at = page->told++ - page->offset;
    if (at < page->size) page->page[at] = byte;
}

/* Return what lies in it. There must be room for a page of the least size, or for all that is left. */
static inline void mrpc_page_return(microrpc_call_t *call, const mrpc_page_t *page) {
    uint32_t left = page->offset < page->told ? page->told - page->offset : 0;
    microrpc_result_buffer(call, (size_t)(left < LEAST_PAGE_BYTES ? left : LEAST_PAGE_BYTES));
    microrpc_return_bytes(call, page->page, (size_t)(left < page->size ? left : page->size));
}
#endif

#endif
