/* Session messages: handshake, logs, and whom a message is for (docs/protocol.md 2). */
#include "microrpc_internal.h"

#define SESSION_VERSION 1u

void mrpc_session_tell(microrpc_t *device, uint8_t message_type, const void *body, size_t size) {
    bool has_no_session = message_type == MESSAGE_LOG || message_type == MESSAGE_TERMINATE;
    uint32_t header = (has_no_session ? 0 : device->session.id) | (uint32_t)message_type << 16; /* little-endian */
    mrpc_frame_send(device, (const uint8_t *)&header, HEADER_BYTES, body, size);
}

void mrpc_session_reply(microrpc_t *device, uint8_t message_type, unsigned before_bytes) {
    mrpc_reply_t *reply = &device->reply;
    uint8_t *at = reply->head + ENVELOPE_BYTES - HEADER_BYTES - before_bytes;
    mrpc_put(at, HEADER_BYTES, device->session.id | (uint32_t)message_type << 16);
    mrpc_frame_send(device, at, HEADER_BYTES + before_bytes + reply->head_bytes, reply->tail, reply->tail_bytes);
}

static void send_terminate(microrpc_t *device) { mrpc_session_tell(device, MESSAGE_TERMINATE, NULL, 0); }

void microrpc_log(microrpc_t *device, const char *text) {
    mrpc_session_tell(device, MESSAGE_LOG, text, mrpc_length(text));
}

static void begin_session(microrpc_t *device, uint16_t id) {
    device->session.id = id;
    device->session.is_shut_down = false;
#if MICRORPC_LINK
    memset(&device->link, 0, sizeof device->link);
#endif
#if HAS_PRESENCE
    mrpc_presence_session(device, id != 0);
#endif
}

static void on_init(microrpc_t *device, unsigned initiator) {
    static const uint8_t own_version = SESSION_VERSION;
    uint8_t nonce = device->session.nonce;
    nonce = (uint8_t)((nonce << 5 | nonce >> 5) + 1); /* never 0 */
    device->session.nonce = nonce;
    begin_session(device, (uint16_t)(initiator | (unsigned)nonce << 8));
    mrpc_session_tell(device, MESSAGE_REPLY, &own_version, 1);
}

static void on_normal(microrpc_t *device, const uint8_t *body, size_t size) {
    mrpc_cursor_t cursor;
    cursor.at = body;
    cursor.left = size;
    while (cursor.left && !device->session.is_shut_down) {
        microrpc_bytes_t packet;
        if (!mrpc_take_blob(&cursor, &packet)) {
            mrpc_fail(device, FAILURE_MALFORMED);
            mrpc_reply_failure(device);
            cursor.left = 0;
        } else if (!packet.size) {
            continue;
        } else if (!mrpc_serve(device, packet.data, packet.size)) {
            device->session.is_shut_down = true;
            return;
        }
        mrpc_put(device->reply.head + HEADER_BYTES, 8, device->reply.head_bytes + (uint32_t)device->reply.tail_bytes);
        mrpc_session_reply(device, MESSAGE_NORMAL, 8);
    }
}

/* A session begins, with this nonce of the host, or the last one ends: 0. */
#define change_session(device, initiator) ((initiator) ? on_init(device, initiator) : begin_session(device, 0))

#if MICRORPC_PROGRESS
/* When no function runs any more; one that does is cancelled by it. */
static void change_session_later(microrpc_t *device, unsigned initiator) {
    device->pull.cancelled = (uint16_t)(CANCELLED_BY_SESSION | initiator);
}

void mrpc_pull_end(microrpc_t *device) {
    mrpc_pull_t *pull = &device->pull;
    unsigned cancelled = pull->cancelled;
    if (pull->is_on) return;
    pull->kind = 0;
    pull->cancelled = 0;
    if (cancelled & CANCELLED_BY_SESSION) change_session(device, cancelled & 0xFF);
    memcpy(device->buffer, pull->payload, sizeof pull->payload); /* where a frame that has begun goes on */
}
#else
#define change_session_later change_session
#endif

void mrpc_session_receive(microrpc_t *device, size_t size) {
    const uint8_t *payload = device->buffer;
    uint16_t id;
    if (size < HEADER_BYTES) return;
    id = mrpc_get16(payload);
    device->received_bytes = size;
    switch (payload[2]) {
    case MESSAGE_INIT: /* its id is a nonce, and nothing comes after the version */
        if (id && id <= 0xFF && size == HEADER_BYTES + 1 && payload[HEADER_BYTES] == SESSION_VERSION)
            change_session_later(device, id);
        break;
    case MESSAGE_TERMINATE:
        if (size == HEADER_BYTES && (!id || id == device->session.id)) change_session_later(device, 0);
        break;
    case MESSAGE_NORMAL:
        if (id && id == device->session.id) {
#if MICRORPC_PROGRESS
            if (device->pull.is_on) return;
#endif
#if HAS_PRESENCE
            mrpc_presence_heard(device);
#endif
            on_normal(device, payload + HEADER_BYTES, size - HEADER_BYTES);
        }
        break;
#if MICRORPC_LINK
#if MICRORPC_EVENTS
    case MESSAGE_EVENT_ACK:
#endif
#if MICRORPC_PROGRESS
    case MESSAGE_CANCEL:
#endif
#if HAS_PRESENCE
    case MESSAGE_KEEP_ALIVE:
#endif
    case MESSAGE_LINK_REQUEST:
        if (!device->session.id)
            send_terminate(device); /* the host has missed the boot */
        else if (id == device->session.id)
            mrpc_link_receive(device, size);
        break;
#endif
    default:
        break;
    }
}

void mrpc_session_damaged(microrpc_t *device) {
#if MICRORPC_LINK
    mrpc_link_damaged(device);
#else
    (void)device;
#endif
}

/* --- the beginning --------------------------------------------------------------------------------------------- */

#define ALIGNED(size) (((uint32_t)(size) + 7) & ~UINT32_C(7))

uint32_t mrpc_reply_bytes(const microrpc_config_t *config) {
    return MICRORPC_LINK ? (config->reply_bytes ? config->reply_bytes : 64) : 0;
}

/* As mrpc_size() has it: then no memory is large enough. */
size_t microrpc_overhead_bytes(const microrpc_config_t *config) {
    return mrpc_size(ALIGNED(sizeof(microrpc_t)) + ALIGNED(config->packet_bytes) + ALIGNED(mrpc_reply_bytes(config)));
}

microrpc_t *microrpc_start(void *memory, size_t memory_bytes, const microrpc_config_t *config) {
    microrpc_t *device = memory;
    uint8_t *at = memory;
    size_t overhead_bytes;
    uint64_t heap_bytes;
    if (!config->write || config->packet_bytes < 128 || config->packet_bytes > 0xFFFFFF) return NULL;
    if ((config->reply_bytes | config->ring_bytes) > 0xFFFFFF || (uintptr_t)memory % 8) return NULL;
    overhead_bytes = microrpc_overhead_bytes(config);
    if (memory_bytes < overhead_bytes || overhead_bytes == SIZE_MAX) return NULL;
    memset(device, 0, sizeof *device);
    device->config = config;
    device->session.nonce = config->nonce;
    device->buffer = at + ALIGNED(sizeof *device);
#if MICRORPC_LINK
    device->kept = device->buffer + ALIGNED(config->packet_bytes);
#endif
    heap_bytes = (memory_bytes - overhead_bytes) & ~(size_t)7;
    device->heap.base = at + overhead_bytes;
    device->heap.size_bytes = heap_bytes < 0x3FFFFFF8 ? (uint32_t)heap_bytes : 0x3FFFFFF8;
#if MICRORPC_DESCRIBE
    mrpc_describe_start(device);
#endif
    send_terminate(device);
    return device;
}

void microrpc_receive(microrpc_t *device, const uint8_t *bytes, size_t size) {
    /* It is called from within: a message is being served, or what they would change is being sent. */
    if (device->is_receiving | device->is_sending) {
        if (size) microrpc_lost_bytes(device);
        return;
    }
    device->is_receiving = true;
#if HAS_PRESENCE
    mrpc_presence_before(device);
#endif
    mrpc_frame_receive(device, bytes, size);
#if HAS_PRESENCE
    mrpc_presence_after(device);
#endif
    device->is_receiving = false;
}
