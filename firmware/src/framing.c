/* Frames: escapes, lengths and crc16, a byte at a time both ways (docs/protocol.md 1). What comes in is unescaped into
 * the receive buffer; what goes out is escaped on its way. */
#include "microrpc_internal.h"

#define ESCAPE 0xFFu
#define START 0xFDu
#define NOP 0xFEu
#define CRC_OF_START 0x2042 /* of FF FD */

static uint16_t crc16(uint16_t crc, uint8_t byte) {
    static const uint16_t of_nibble[16] IN_FLASH = {0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50A5, 0x60C6, 0x70E7,
                                           0x8108, 0x9129, 0xA14A, 0xB16B, 0xC18C, 0xD1AD, 0xE1CE, 0xF1EF};
    crc = (uint16_t)(crc << 4 ^ flash16(&of_nibble[(crc >> 12) ^ (byte >> 4)]));
    return (uint16_t)(crc << 4 ^ flash16(&of_nibble[(crc >> 12) ^ (byte & 15)]));
}

/* --- receiving ------------------------------------------------------------------------------------------------- */

static void begin_packet(mrpc_reader_t *reader) {
    memset(reader, 0, sizeof *reader);
    reader->field = IN_LENGTH;
    reader->crc = CRC_OF_START;
}

static void damaged(microrpc_t *device) {
    device->reader.field = HUNTING;
    mrpc_session_damaged(device);
}

static void end_packet(microrpc_t *device) {
    mrpc_reader_t *reader = &device->reader;
    if (reader->crc_got != reader->crc) {
        damaged(device);
        return;
    }
    reader->field = HUNTING;
    mrpc_session_receive(device, (size_t)reader->length);
#if MICRORPC_PROGRESS
    mrpc_pull_end(device);
#endif
}

static void enter(mrpc_reader_t *reader, mrpc_field_t field) {
    reader->field = (uint8_t)field;
    reader->got = 0;
}

static void end_length(microrpc_t *device) {
    mrpc_reader_t *reader = &device->reader;
    uint32_t most = device->config->packet_bytes;
    if (reader->length > most) {
        damaged(device);
#if MICRORPC_PROGRESS
        if (device->pull.is_on) return;
#endif
        mrpc_fail_with(device, FAILURE_REFUSED, reader->length, most);
        microrpc_log(device, device->failure);
        return;
    }
#if MICRORPC_PROGRESS
    /* There is no room for it while a function runs: it is to end as damage. */
    if (device->pull.is_on && reader->length > sizeof device->pull.payload) reader->crc ^= 1;
#endif
    enter(reader, reader->length ? IN_PAYLOAD : IN_CRC);
}

/* Take a byte of a packet; an escape byte and the rest of a no-op are not data. */
static void take(microrpc_t *device, uint8_t byte, bool is_data) {
    mrpc_reader_t *reader = &device->reader;
    uint32_t got = reader->got;
    if (reader->field != IN_CRC) reader->crc = crc16(reader->crc, byte);
    if (!is_data) return;
    reader->got++;
    if (reader->field == IN_CRC) {
        reader->crc_got = (uint16_t)(reader->crc_got | (unsigned)byte << 8 * got);
        if (got) end_packet(device);
    } else if (reader->field == IN_PAYLOAD) {
#if MICRORPC_PROGRESS
        device->buffer[device->pull.is_on ? got % sizeof device->pull.payload : got] = byte;
#else
        device->buffer[got] = byte;
#endif
        if (reader->got == reader->length) enter(reader, IN_CRC);
    } else {
        reader->length |= (uint32_t)byte << 8 * got;
        if (got == 3) end_length(device);
    }
}

/* Take the byte after an FF. */
static void take_escaped(microrpc_t *device, uint8_t byte) {
    mrpc_reader_t *reader = &device->reader;
    bool was_hunting = reader->field == HUNTING;
    reader->is_escaped = false;
    if (byte == START) { /* in a packet too: the sender has started again */
        begin_packet(reader);
        if (!was_hunting) mrpc_session_damaged(device);
    } else if (was_hunting) {
        if (byte == NOP) return;
        reader->is_escaped = byte == ESCAPE;
        damaged(device);
    } else if (byte == ESCAPE || byte == NOP) {
        take(device, ESCAPE, false);
        take(device, byte, byte == ESCAPE);
    } else {
        damaged(device);
    }
}

static void take_raw(microrpc_t *device, uint8_t byte) {
    mrpc_reader_t *reader = &device->reader;
    if (reader->is_escaped)
        take_escaped(device, byte);
    else if (byte == ESCAPE)
        reader->is_escaped = true;
    else if (reader->field != HUNTING)
        take(device, byte, true);
    else if (byte != NOP)
        damaged(device);
}

#if MICRORPC_PROGRESS
/* A function that pulls takes the rest first, and then this ends. */
void mrpc_frame_receive(microrpc_t *device, const uint8_t *bytes, size_t size) {
    mrpc_pull_t *pull = &device->pull;
    pull->rest = bytes;
    pull->rest_bytes = size;
    while (pull->rest_bytes) {
        pull->rest_bytes--;
        take_raw(device, *pull->rest++);
    }
}
#else
void mrpc_frame_receive(microrpc_t *device, const uint8_t *bytes, size_t size) {
    for (; size; bytes++, size--) take_raw(device, *bytes);
}
#endif

void microrpc_lost_bytes(microrpc_t *device) {
    device->reader.is_escaped = false;
    damaged(device);
}

/* --- sending --------------------------------------------------------------------------------------------------- */

static void put(microrpc_t *device, const uint8_t *bytes, size_t size) {
    device->config->write(device->config->port, bytes, size);
}

static void put_escaped(microrpc_t *device, const void *bytes, size_t size) {
    const uint8_t *at = bytes;
    uint8_t escaped[32];
    while (size) {
        unsigned used = 0;
        for (; size && used < sizeof escaped - 1; at++, size--) {
            for (int times = *at == ESCAPE ? 2 : 1; times; times--) {
                escaped[used++] = *at;
                device->crc_sent = crc16(device->crc_sent, *at);
            }
        }
        put(device, escaped, used);
    }
}

static void put_number(microrpc_t *device, uint32_t value, unsigned size_bytes) {
    uint8_t bytes[4];
    mrpc_put(bytes, size_bytes, value);
    put_escaped(device, bytes, size_bytes);
}

void mrpc_frame_send(microrpc_t *device, const uint8_t *head, size_t head_bytes, const void *tail, size_t tail_bytes) {
    static const uint8_t start[] = {NOP, ESCAPE, START};
    unsigned skipped = device->has_sent;
    bool has_crc32 = MICRORPC_LINK && head[2] >= MESSAGE_LINK_REQUEST;
    if (device->is_sending) return; /* from within `write`, or from an interrupt: it would be within another frame */
    device->is_sending = true;
    put(device, start + skipped, sizeof start - skipped);
    device->has_sent = true;
    device->crc_sent = CRC_OF_START;
    put_number(device, (uint32_t)(head_bytes + tail_bytes) + (has_crc32 ? 4 : 0), 4);
    put_escaped(device, head, head_bytes);
    put_escaped(device, tail, tail_bytes);
#if MICRORPC_LINK
    if (has_crc32) put_number(device, mrpc_crc32(mrpc_crc32(0, head, head_bytes), tail, tail_bytes), 4);
#endif
    put_number(device, device->crc_sent, 2);
#if MICRORPC_HOOKS
    if (device->config->flush) device->config->flush(device->config->port);
#endif
    device->is_sending = false;
}
