/* Events: what the board says without being asked (docs/link.md 8). */
#include "microrpc_internal.h"

#if MICRORPC_EVENTS

#define FLAG_RELIABLE 1u
#define FLAG_LOST 1u
#define LONGEST_NAME 255u
#define CRC_BYTES 4u

/* What an EVENT has between its message type and its crc32, which the credit counts, too. */
typedef struct {
    size_t size;
    bool is_too_long;
    uint8_t body[MICRORPC_EVENT_BYTES];
} event_t;
#define MOST_BYTES 4096u /* of its frame payload, which the credit of any host covers */
typedef char an_event_fits_the_credit[MICRORPC_EVENT_BYTES + HEADER_BYTES + CRC_BYTES <= MOST_BYTES ? 1 : -1];

#if __SIZEOF_DOUBLE__ == 8
#define bits_of(value) ((value)->as.bits)
#else
#define bits_of(value) ((value)->type == MICRORPC_FLOAT ? mrpc_real_bits((value)->as.real) : (value)->as.bits)
#endif

static void add(event_t *event, const void *bytes, size_t size) {
    if (size > sizeof event->body - event->size) event->is_too_long = true;
    if (event->is_too_long || !size) return;
    memcpy(event->body + event->size, bytes, size);
    event->size += size;
}

static void add_number(event_t *event, unsigned size_bytes, uint64_t number) {
    uint8_t bytes[8];
    mrpc_put(bytes, size_bytes, number);
    add(event, bytes, size_bytes);
}

static bool make(const microrpc_t *device, event_t *event, uint32_t number, uint8_t flags, const char *name,
                 const microrpc_value_t *values, size_t count) {
    const microrpc_config_t *config = device->config;
    size_t name_bytes = mrpc_length(name);
    event->size = 0;
    event->is_too_long = name_bytes > LONGEST_NAME;
    add_number(event, 4, number);
    add_number(event, 1, flags);
    add_number(event, 4, config->now_us ? config->now_us(config->port) : 0);
    add_number(event, 1, name_bytes);
    add(event, name, name_bytes);
    for (; count; values++, count--) {
        add_number(event, 1, values->type);
        if (values->type == MICRORPC_TEXT || values->type == MICRORPC_BYTES) {
            add_number(event, 2, values->as.bytes.size);
            add(event, values->as.bytes.data, values->as.bytes.size);
        } else {
            add_number(event, 8, bits_of(values));
        }
    }
    return !event->is_too_long && HEADER_BYTES + event->size + CRC_BYTES <= config->packet_bytes;
}

/* Send it, if the credit covers it. */
static bool send(microrpc_t *device, const uint8_t *body, size_t size) {
    uint32_t cost_bytes = HEADER_BYTES + (uint32_t)size + CRC_BYTES;
    if (device->is_sending || device->link.credit_bytes < cost_bytes) return false;
    device->link.credit_bytes = (uint16_t)(device->link.credit_bytes - cost_bytes);
    mrpc_session_tell(device, MESSAGE_EVENT, body, size);
    return true;
}

bool microrpc_event(microrpc_t *device, const char *name, const microrpc_value_t *values, size_t count) {
    event_t event;
    if (!make(device, &event, device->events.next, 0, name, values, count)) return false;
    device->events.next++;
    return send(device, event.body, event.size);
}

/* --- reliable ones --------------------------------------------------------------------------------------------- */

#if MICRORPC_RELIABLE_EVENTS
#define SIZE_BYTES 2u

/* Send what is kept and was not sent, as far as the credit goes. */
static void send_kept(microrpc_t *device) {
    const uint8_t *ring = device->config->event_ring;
    mrpc_link_t *link = &device->link;
    while (link->sent < device->events.kept) {
        const uint8_t *at = ring + link->sent_bytes;
        size_t size = mrpc_get16(at);
        if (!send(device, at + SIZE_BYTES, size)) return;
        link->sent_bytes += SIZE_BYTES + size;
        link->sent++;
    }
}

bool microrpc_event_reliable(microrpc_t *device, const char *name, const microrpc_value_t *values, size_t count) {
    const microrpc_config_t *config = device->config;
    mrpc_events_t *events = &device->events;
    event_t event;
    size_t size;
    uint8_t *at;
    if (!make(device, &event, events->oldest + events->kept, FLAG_RELIABLE, name, values, count)) return false;
    size = SIZE_BYTES + event.size;
    if (!config->event_ring || config->event_ring_bytes - events->kept_bytes < size) return false;
    at = (uint8_t *)config->event_ring + events->kept_bytes;
    mrpc_put(at, SIZE_BYTES, event.size);
    memcpy(at + SIZE_BYTES, event.body, event.size);
    events->kept_bytes += size;
    events->kept++;
    send_kept(device);
    return true;
}

/* Forget those before `wanted`, where that makes sense, and send it again if it was lost. */
static void acknowledge(microrpc_t *device, uint32_t wanted, bool is_lost) {
    mrpc_events_t *events = &device->events;
    mrpc_link_t *link = &device->link;
    uint8_t *ring = device->config->event_ring;
    uint32_t count = wanted - events->oldest;
    size_t size = 0;
    if (count > events->kept) return;
    for (uint32_t i = 0; i < count; i++) size += SIZE_BYTES + (size_t)mrpc_get16(ring + size);
    events->oldest = wanted;
    events->kept -= count;
    events->kept_bytes -= size;
    if (size) memmove(ring, ring + size, events->kept_bytes);
    if (is_lost || link->sent < count) {
        link->sent = 0;
        link->sent_bytes = 0;
    } else {
        link->sent -= count;
        link->sent_bytes -= size;
    }
}
#endif

/* --- the host's side ------------------------------------------------------------------------------------------- */

void mrpc_events_acknowledge(microrpc_t *device, const uint8_t *ack) {
    const microrpc_config_t *config = device->config;
    uint32_t state[3], next_reliable = 0; /* little-endian, as on the wire */
    device->link.credit_bytes = mrpc_get16(ack + 4);
#if MICRORPC_RELIABLE_EVENTS
    if (device->link.credit_bytes) acknowledge(device, mrpc_get32(ack), ack[6] & FLAG_LOST);
    next_reliable = device->events.oldest + device->link.sent;
#endif
    state[0] = config->boot_id ? config->boot_id : config->nonce;
    state[1] = device->events.next;
    state[2] = next_reliable;
    mrpc_session_tell(device, MESSAGE_EVENT_STATE, state, sizeof state);
#if MICRORPC_RELIABLE_EVENTS
    send_kept(device);
#endif
}

#endif
