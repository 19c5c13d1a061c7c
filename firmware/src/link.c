/* The device's side of the reliable link (docs/link.md 3). */
#include "microrpc_internal.h"

#if MICRORPC_LINK

#define LINK_VERSION 1u
#define HEAD_BYTES 5u /* session header and seq */
#define CRC_BYTES 4u

enum { REQUEST_PACKET = 0, REQUEST_WRITE = 1, REQUEST_READ = 2, REQUEST_CALL = 3 };
#define LAST_KIND (MICRORPC_PROGRESS ? REQUEST_CALL : REQUEST_READ)
enum { REPLY_PACKET = 0, REPLY_DONE = 1, REPLY_DATA = 2, REPLY_FORGOTTEN = 3 };

uint64_t mrpc_link_parameters(const microrpc_t *device) {
    const microrpc_config_t *config = device->config;
    return LINK_VERSION | LINK_WINDOW_REQUESTS << 8 | (uint64_t)config->packet_bytes << 16 |
           (uint64_t)config->ring_bytes << 40;
}

#if HAS_FEATURES
#define FEATURES_VERSION 1u
enum { EVENTS = 1, RELIABLE = 2, PROGRESS = 4, CANCEL = 8, DESCRIBE = 16, MEMORY = 32 };

uint64_t mrpc_features(const microrpc_t *device) {
    unsigned known = (MICRORPC_EVENTS ? EVENTS : 0) | (MICRORPC_PROGRESS ? PROGRESS : 0) |
                     (MICRORPC_DESCRIBE ? DESCRIBE : 0) | (MICRORPC_MEMORY ? MEMORY : 0);
    uint64_t others = 0;
#if MICRORPC_RELIABLE_EVENTS
    if (device->config->event_ring) known |= RELIABLE;
#endif
#if MICRORPC_PROGRESS
    if (device->config->read) known |= CANCEL;
#endif
#if HAS_PRESENCE
    others = mrpc_host_timeout_ms(device);
#endif
#if MICRORPC_DESCRIBE
    others |= (uint64_t)device->description_hash << 16;
#endif
    (void)device;
    return FEATURES_VERSION | known << 8 | others << 16;
}
#endif

/* --- sending --------------------------------------------------------------------------------------------------- */

static void send_nak(microrpc_t *device) {
    mrpc_session_tell(device, MESSAGE_LINK_NAK, &device->link.base, sizeof device->link.base);
}

/* Send what is in device->reply. */
static void send_reply(microrpc_t *device, uint16_t seq, uint8_t kind) {
    mrpc_put(device->reply.head + ENVELOPE_BYTES - 3, 3, seq | (uint32_t)kind << 16);
    mrpc_session_reply(device, MESSAGE_LINK_REPLY, 3);
}

void mrpc_link_damaged(microrpc_t *device) {
#if MICRORPC_PROGRESS
    if (device->pull.is_on) return; /* the host repeats it as ever */
#endif
    if (!device->link.is_active || device->link.has_complained) return;
    device->link.has_complained = true;
    send_nak(device);
}

/* --- the last PACKET's reply ----------------------------------------------------------------------------------- */

/* Send the reply that was just made, and keep it if there is room. */
static void send_and_keep(microrpc_t *device, uint16_t seq) {
    mrpc_link_t *link = &device->link;
    const mrpc_reply_t *reply = &device->reply;
    uint32_t size = HEAD_BYTES + 1 + reply->head_bytes + (uint32_t)reply->tail_bytes + CRC_BYTES;
    if (size <= mrpc_reply_bytes(device->config)) {
        uint8_t *at = device->kept;
        memcpy(at, reply->head + ENVELOPE_BYTES, reply->head_bytes);
        if (reply->tail_bytes) memcpy(at + reply->head_bytes, reply->tail, reply->tail_bytes);
        link->kept_bytes = reply->head_bytes + (uint32_t)reply->tail_bytes;
    }
    send_reply(device, seq, REPLY_PACKET);
}

static void send_again(microrpc_t *device, uint16_t seq) {
    const mrpc_link_t *link = &device->link;
    if (!link->has_last || seq != link->last_seq) return;
    mrpc_reply_clear(device, device->kept, (size_t)link->kept_bytes);
    send_reply(device, seq, link->kept_bytes ? REPLY_PACKET : REPLY_FORGOTTEN);
}

/* --- requests -------------------------------------------------------------------------------------------------- */

static void mark(mrpc_link_t *link, unsigned ahead) {
    link->done |= UINT32_C(1) << ahead;
    for (; link->done & 1; link->done >>= 1) link->base++;
}

/* Without `packet` it is one that was cancelled. */
static void on_packet(microrpc_t *device, uint16_t seq, unsigned ahead, const uint8_t *packet, size_t size) {
    mrpc_link_t *link = &device->link;
    if (ahead) {
        send_nak(device);
        return;
    }
    /* Noted before it runs: whatever happens meanwhile, it must not run twice. */
    mark(link, 0);
    link->has_last = true;
    link->last_seq = seq;
    link->kept_bytes = 0;
#if MICRORPC_PROGRESS
    if (!packet) {
        mrpc_fail(device, FAILURE_CANCELLED);
        mrpc_reply_failure(device);
    } else
#endif
    if (!mrpc_serve(device, packet, size)) {
        mrpc_fail(device, FAILURE_MALFORMED);
        mrpc_reply_failure(device);
    }
    send_and_keep(device, seq);
}

/* The reply to a WRITE or READ; false where it is an Exception. */
static bool copy(microrpc_t *device, bool is_write, bool is_old, const uint8_t *body, size_t size) {
    uint32_t data_bytes;
    uint8_t *memory;
    if (is_write ? size < 8 : size != 12) return mrpc_fail(device, FAILURE_MALFORMED);
    data_bytes = is_write ? (uint32_t)size - 8 : mrpc_get32(body + 8);
    memory = mrpc_heap_view(device, mrpc_get64(body), data_bytes);
    if (!memory) return false;
    if (is_write && !is_old) memcpy(memory, body + 8, (size_t)data_bytes);
    mrpc_reply_clear(device, memory, is_write ? 0 : (size_t)data_bytes);
    return true;
}

#if HAS_MORE_MESSAGES
/* Whether a message of this type, other than a LINK_REQUEST, has its size. */
static bool has_its_size(uint8_t message_type, size_t size) {
    size_t body_bytes = 2;
#if MICRORPC_EVENTS
    if (message_type == MESSAGE_EVENT_ACK) body_bytes = EVENT_ACK_BYTES;
#endif
    (void)message_type;
    return size == HEADER_BYTES + body_bytes + CRC_BYTES;
}
#else
#define has_its_size(message_type, size) false
#endif

void mrpc_link_receive(microrpc_t *device, size_t size) {
    mrpc_link_t *link = &device->link;
    const uint8_t *payload = device->buffer;
    uint8_t message_type = payload[2];
    bool is_request = !HAS_MORE_MESSAGES || message_type == MESSAGE_LINK_REQUEST;
    size_t body_bytes = size - HEAD_BYTES - 1 - CRC_BYTES;
    uint8_t kind = payload[HEAD_BYTES];
    const uint8_t *body = payload + HEAD_BYTES + 1;
    uint16_t seq = mrpc_get16(payload + HEADER_BYTES);
    int ahead = (int16_t)(uint16_t)(seq - link->base);
    bool is_old;
    if ((is_request ? size < HEAD_BYTES + 1 + CRC_BYTES || kind > LAST_KIND : !has_its_size(message_type, size)) ||
        mrpc_crc32(0, payload, size - CRC_BYTES) != mrpc_get32(payload + size - CRC_BYTES)) {
        mrpc_link_damaged(device);
        return;
    }
#if MICRORPC_PROGRESS
    if (device->pull.is_on) {
        if (message_type == MESSAGE_CANCEL && device->pull.kind && seq == link->last_seq)
            device->pull.cancelled |= CANCELLED_BY_CANCEL;
        return;
    }
#endif
    link->has_complained = false;
#if HAS_PRESENCE
    mrpc_presence_heard(device);
    if (message_type == MESSAGE_KEEP_ALIVE) {
        mrpc_session_tell(device, MESSAGE_KEEP_ALIVE, payload + HEADER_BYTES, 2);
        return;
    }
#endif
#if MICRORPC_EVENTS
    if (message_type == MESSAGE_EVENT_ACK) {
        mrpc_events_acknowledge(device, payload + HEADER_BYTES);
        return;
    }
#endif
#if MICRORPC_PROGRESS
    if (!is_request) { /* a CANCEL */
        body = NULL;
        kind = REQUEST_CALL;
    }
    device->pull.kind = kind;
#endif
    if (is_request) link->is_active = true;
    if (ahead >= (int)LINK_WINDOW_REQUESTS) return;
    is_old = ahead < 0 || (link->done >> ahead & 1);
    if (kind == REQUEST_PACKET || kind > REQUEST_READ) {
        if (device->session.is_shut_down) return;
        if (is_old)
            send_again(device, seq);
        else
            on_packet(device, seq, (unsigned)ahead, body, body_bytes);
        return;
    }
    if (copy(device, kind == REQUEST_WRITE, is_old, body, body_bytes)) {
        send_reply(device, seq, kind == REQUEST_WRITE ? REPLY_DONE : REPLY_DATA);
    } else {
        mrpc_reply_failure(device);
        send_reply(device, seq, REPLY_PACKET);
    }
    if (!is_old) mark(link, (unsigned)ahead);
}

#endif
