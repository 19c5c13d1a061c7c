#include "host.h"

#include <stdarg.h>
#include <stdlib.h>

#include "functions.h"

void add_bytes(blob_t *blob, const void *bytes, size_t size) {
    if (size > sizeof blob->data - blob->size) abort();
    if (size) memcpy(blob->data + blob->size, bytes, size);
    blob->size += size;
}

void set_number(uint8_t *at, uint64_t value, unsigned size_bytes) {
    for (; size_bytes; size_bytes--, value >>= 8) *at++ = (uint8_t)value;
}

void add_number(blob_t *blob, uint64_t value, unsigned size_bytes) {
    uint8_t bytes[8];
    set_number(bytes, value, size_bytes);
    add_bytes(blob, bytes, size_bytes);
}

blob_t blob_of(const void *bytes, size_t size) {
    blob_t blob;
    blob.size = 0;
    add_bytes(&blob, bytes, size);
    return blob;
}

blob_t text_blob(const char *text) { return blob_of(text, mrpc_length(text)); }

uint64_t number_at(const blob_t *blob, size_t at, unsigned size_bytes) {
    uint64_t value = 0;
    for (unsigned i = size_bytes; i--;) value = value << 8 | (at + i < blob->size ? blob->data[at + i] : 0);
    return value;
}

/* --- a board and its bytes ------------------------------------------------------------------------------------- */

void host_boot(host_t *host, microrpc_config_t config, uint32_t heap_bytes, uint32_t step_us) {
    if (!config.packet_bytes) config.packet_bytes = 512;
    if (!config.ring_bytes) config.ring_bytes = config.packet_bytes + 100;
    if (!config.functions) {
        config.functions = board_functions;
        config.function_count = board_function_count;
    }
    memset(host, 0, sizeof *host);
    host->board = board_start(&config, heap_bytes, step_us);
    if (!host->board) abort();
    host->device = board_device(host->board);
    CHECK_IS(hear_bytes(host).size, 12);
}

void host_open(host_t *host, uint32_t heap_bytes) {
    microrpc_config_t config = {.nonce = 1};
    host_boot(host, config, heap_bytes, 1000);
    host_begin(host);
}

void host_close(host_t *host) {
    CHECK_SILENT(host);
    board_free(host->board);
}

void say(host_t *host, const void *bytes, size_t size) {
    board_receive(host->board, bytes, size);
    host->heard_bytes +=
        board_take(host->board, host->heard + host->heard_bytes, sizeof host->heard - host->heard_bytes);
}

static void skip_heard(host_t *host, size_t size) {
    host->heard_bytes -= size;
    memmove(host->heard, host->heard + size, host->heard_bytes);
}

blob_t hear_bytes(host_t *host) {
    blob_t heard;
    say(host, NULL, 0);
    heard = blob_of(host->heard, host->heard_bytes);
    skip_heard(host, host->heard_bytes);
    return heard;
}

/* One bit after the other: nothing that the library has. */
static uint16_t crc16(const uint8_t *bytes, size_t size) {
    uint32_t crc = 0xFFFF;
    while (size--) {
        crc ^= (uint32_t)*bytes++ << 8;
        for (int bit = 0; bit < 8; bit++) crc = (crc << 1 ^ (crc & 0x8000 ? 0x1021u : 0)) & 0xFFFF;
    }
    return (uint16_t)crc;
}

static uint32_t crc32(const uint8_t *bytes, size_t size) {
    uint32_t crc = UINT32_MAX;
    while (size--) {
        crc ^= *bytes++;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static void add_escaped(blob_t *wire, const void *bytes, size_t size) {
    for (const uint8_t *at = bytes; size--; at++) {
        add_bytes(wire, at, 1);
        if (*at == 0xFF) add_bytes(wire, at, 1);
    }
}

blob_t frame_of(const void *payload, size_t size) {
    blob_t wire = blob_of("\xFF\xFD", 2), number = blob_of(NULL, 0);
    add_number(&number, size, 4);
    add_escaped(&wire, number.data, 4);
    add_escaped(&wire, payload, size);
    number.size = 0;
    add_number(&number, crc16(wire.data, wire.size), 2);
    add_escaped(&wire, number.data, 2);
    return wire;
}

void say_frame(host_t *host, const void *payload, size_t size) {
    blob_t wire = frame_of(payload, size);
    say(host, wire.data, wire.size);
}

/* Go over `size` bytes of a frame that has no restarts and no no-ops in it. */
static size_t unescape(const host_t *host, size_t at, blob_t *data, size_t size) {
    while (size-- && at < host->heard_bytes) {
        add_bytes(data, host->heard + at, 1);
        at += host->heard[at] == 0xFF ? 2 : 1;
    }
    return at;
}

blob_t hear_frame(host_t *host) {
    blob_t payload = blob_of(NULL, 0), number = payload, crc = payload;
    size_t at, end;
    say(host, NULL, 0);
    CHECK(host->heard_bytes >= 8 && host->heard[0] == 0xFF && host->heard[1] == 0xFD);
    at = unescape(host, 2, &number, 4);
    at = unescape(host, at, &payload, (size_t)number_at(&number, 0, 4));
    end = unescape(host, at, &crc, 2);
    CHECK_IS(payload.size, number_at(&number, 0, 4));
    if (host->heard_bytes) CHECK_IS(number_at(&crc, 0, 2), crc16(host->heard, at));
    skip_heard(host, end < host->heard_bytes ? end : host->heard_bytes);
    return payload;
}

/* --- messages -------------------------------------------------------------------------------------------------- */

void say_message(host_t *host, uint16_t session, uint8_t type, blob_t body) {
    blob_t payload = blob_of(NULL, 0);
    add_number(&payload, session, 2);
    add_number(&payload, type, 1);
    add_bytes(&payload, body.data, body.size);
    say_frame(host, payload.data, payload.size);
}

blob_t hear_message(host_t *host, uint16_t session, uint8_t type) {
    blob_t payload = hear_frame(host);
    CHECK_IS(number_at(&payload, 0, 2), session);
    CHECK_IS(number_at(&payload, 2, 1), type);
    if (payload.size < 3) return blob_of(NULL, 0);
    return blob_of(payload.data + 3, payload.size - 3);
}

void host_begin(host_t *host) {
    blob_t payload;
    say_message(host, HOST_NONCE, MESSAGE_INIT, blob_of("\1", 1));
    payload = hear_frame(host);
    CHECK_IS(payload.size, 4);
    CHECK_IS(payload.data[0], HOST_NONCE);
    CHECK_IS(payload.data[2], MESSAGE_REPLY);
    host->session = (uint16_t)number_at(&payload, 0, 2);
}

void say_packet(host_t *host, blob_t packet) {
    blob_t body = blob_of(NULL, 0);
    add_number(&body, packet.size, 8);
    add_bytes(&body, packet.data, packet.size);
    say_message(host, host->session, MESSAGE_NORMAL, body);
}

blob_t hear_packet(host_t *host) {
    blob_t body = hear_message(host, host->session, MESSAGE_NORMAL);
    CHECK_IS(number_at(&body, 0, 8) + 8, body.size);
    return body.size < 8 ? blob_of(NULL, 0) : blob_of(body.data + 8, body.size - 8);
}

blob_t ask(host_t *host, blob_t packet) {
    say_packet(host, packet);
    return hear_packet(host);
}

/* --- the link -------------------------------------------------------------------------------------------------- */

blob_t sealed(const host_t *host, uint8_t type, blob_t body) {
    blob_t payload = blob_of(NULL, 0);
    add_number(&payload, host->session, 2);
    add_number(&payload, type, 1);
    add_bytes(&payload, body.data, body.size);
    add_number(&payload, crc32(payload.data, payload.size), 4);
    return payload;
}

void say_sealed(host_t *host, uint8_t type, blob_t body) {
    blob_t payload = sealed(host, type, body);
    say_frame(host, payload.data, payload.size);
}

void say_link(host_t *host, uint16_t seq, uint8_t kind, blob_t body) {
    blob_t all = blob_of(NULL, 0);
    add_number(&all, seq, 2);
    add_number(&all, kind, 1);
    add_bytes(&all, body.data, body.size);
    say_sealed(host, MESSAGE_LINK_REQUEST, all);
}

blob_t hear_sealed(host_t *host, uint8_t type) {
    blob_t payload = hear_frame(host);
    CHECK(payload.size >= 7);
    if (payload.size < 7) return blob_of(NULL, 0);
    CHECK_IS(number_at(&payload, 0, 2), host->session);
    CHECK_IS(number_at(&payload, 2, 1), type);
    CHECK_IS(number_at(&payload, payload.size - 4, 4), crc32(payload.data, payload.size - 4));
    return blob_of(payload.data + 3, payload.size - 7);
}

blob_t hear_link(host_t *host, uint8_t type, uint16_t seq) {
    blob_t body = hear_sealed(host, type);
    CHECK(body.size >= 2);
    CHECK_IS(number_at(&body, 0, 2), seq);
    return body.size < 2 ? blob_of(NULL, 0) : blob_of(body.data + 2, body.size - 2);
}

/* --- packets --------------------------------------------------------------------------------------------------- */

tensor_t tensor_1d(uint64_t address, microrpc_dtype_code_t code, uint8_t bits, int64_t extent) {
    tensor_t tensor;
    memset(&tensor, 0, sizeof tensor);
    tensor.address = address;
    tensor.dtype.code = (uint8_t)code;
    tensor.dtype.bits = bits;
    tensor.dtype.lanes = 1;
    tensor.ndim = 1;
    tensor.extents[0] = extent;
    return tensor;
}

static void add_dtype(blob_t *blob, microrpc_dtype_t dtype) {
    add_number(blob, dtype.code, 1);
    add_number(blob, dtype.bits, 1);
    add_number(blob, dtype.lanes, 2);
}

void add_tensor(blob_t *blob, const tensor_t *tensor) {
    add_number(blob, tensor->address, 8);
    add_number(blob, 1, 8); /* CPU 0 */
    add_number(blob, tensor->ndim, 4);
    add_dtype(blob, tensor->dtype);
    for (uint32_t i = 0; i < tensor->ndim; i++) add_number(blob, (uint64_t)tensor->extents[i], 8);
    add_number(blob, tensor->byte_offset, 8);
}

static void add_text(blob_t *blob, const void *text, size_t size) {
    add_number(blob, size, 8);
    add_bytes(blob, text, size);
}

static void add_arguments(blob_t *blob, const char *kinds, va_list values) {
    static const char letters[] = "iIufhnydtmFsb";
    static const uint8_t types[] = {0, 0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12};
    add_number(blob, mrpc_length(kinds), 4);
    for (const char *kind = kinds; *kind; kind++) {
        size_t i = 0;
        while (letters[i] && letters[i] != *kind) i++;
        if (!letters[i]) abort();
        add_number(blob, types[i], 4);
    }
    for (; *kinds; kinds++) {
        double real;
        const char *text;
        const blob_t *bytes;
        switch (*kinds) {
        case 'i':
        case 'u':
            add_number(blob, (uint64_t)(int64_t)va_arg(values, int), 8);
            break;
        case 'I':
            add_number(blob, (uint64_t)va_arg(values, int64_t), 8);
            break;
        case 'f':
            real = va_arg(values, double);
            add_bytes(blob, &real, 8);
            break;
        case 'h':
        case 'm':
        case 'F':
            add_number(blob, va_arg(values, uint64_t), 8);
            break;
        case 'y':
            add_dtype(blob, va_arg(values, microrpc_dtype_t));
            add_number(blob, 0, 4);
            break;
        case 'd':
            add_number(blob, (uint64_t)va_arg(values, int), 4);
            add_number(blob, (uint64_t)va_arg(values, int), 4);
            break;
        case 't':
            add_tensor(blob, va_arg(values, const tensor_t *));
            break;
        case 's':
            text = va_arg(values, const char *);
            add_text(blob, text, mrpc_length(text));
            break;
        case 'b':
            bytes = va_arg(values, const blob_t *);
            add_text(blob, bytes->data, bytes->size);
            break;
        default:
            break;
        }
    }
}

void add_sequence(blob_t *blob, const char *kinds, ...) {
    va_list values;
    va_start(values, kinds);
    add_arguments(blob, kinds, values);
    va_end(values);
}

blob_t packet_of(uint32_t code, const char *kinds, ...) {
    blob_t packet = blob_of(NULL, 0);
    va_list values;
    add_number(&packet, code, 4);
    va_start(values, kinds);
    add_arguments(&packet, kinds, values);
    va_end(values);
    return packet;
}

static blob_t begin_call(uint64_t function) {
    blob_t packet = blob_of(NULL, 0);
    add_number(&packet, PACKET_CALL_FUNC, 4);
    add_number(&packet, function, 8);
    return packet;
}

blob_t call_packet(uint64_t function, const char *kinds, ...) {
    blob_t packet = begin_call(function);
    va_list values;
    va_start(values, kinds);
    add_arguments(&packet, kinds, values);
    va_end(values);
    return packet;
}

blob_t call(host_t *host, uint64_t function, const char *kinds, ...) {
    blob_t packet = begin_call(function);
    va_list values;
    va_start(values, kinds);
    add_arguments(&packet, kinds, values);
    va_end(values);
    return ask(host, packet);
}

uint64_t word_of(const blob_t *packet) {
    /* Return, count, codes, the type as a number, the value; or Return of one. */
    uint64_t count = number_at(packet, 4, 4);
    return number_at(packet, (size_t)(8 + 4 * count + (count > 1 ? 8 : 0)), 8);
}

uint64_t find_global(host_t *host, const char *name) {
    blob_t reply = ask(host, packet_of(PACKET_GET_GLOBAL_FUNC, "s", name));
    return word_of(&reply);
}

uint64_t find(host_t *host, const char *name) {
    blob_t reply = call(host, find_global(host, "tvm.rpc.server.ModuleGetFunction"), "msi", SYSTEM_LIB, name, 0);
    CHECK_IS(number_at(&reply, 16, 8), MICRORPC_FUNCTION_HANDLE);
    return word_of(&reply);
}

uint64_t allocate(host_t *host, uint64_t size) {
    microrpc_dtype_t hint = {MICRORPC_DTYPE_UINT, 8, 1};
    blob_t reply = ask(host, packet_of(PACKET_DEV_ALLOC_DATA, "dIiy", 1, 0, (int64_t)size, 8, hint));
    CHECK_IS(number_at(&reply, 8, 4), MICRORPC_HANDLE);
    return word_of(&reply);
}

/* --- what came back -------------------------------------------------------------------------------------------- */

void check_exception(blob_t packet, const char *text, const char *expression, const char *file, int line) {
    check_number(number_at(&packet, 0, 4), PACKET_EXCEPTION, expression, file, line);
    check_number(number_at(&packet, 4, 8), 1 | (uint64_t)MICRORPC_TEXT << 32, expression, file, line);
    if (packet.size < 20) packet.size = 20;
    check_number(number_at(&packet, 12, 8), packet.size - 20, expression, file, line);
    check_text(packet.data + 20, packet.size - 20, text, expression, file, line);
}

/* Return of `count` values, whose types are 4 bits each, in `size` bytes. */
static void check_return(const blob_t *packet, unsigned count, unsigned types, size_t size, const char *expression,
                         const char *file, int line) {
    check_number(number_at(packet, 0, 4), PACKET_RETURN, expression, file, line);
    check_number(number_at(packet, 4, 4), count, expression, file, line);
    for (unsigned i = 0; i < count; i++, types >>= 4)
        check_number(number_at(packet, 8 + 4 * i, 4), types & 15, expression, file, line);
    check_number(packet->size, size, expression, file, line);
}

void check_word(blob_t packet, uint32_t type, uint64_t value, const char *expression, const char *file, int line) {
    unsigned is_handle = type == MICRORPC_MODULE || type == MICRORPC_FUNCTION_HANDLE;
    check_return(&packet, 2, (is_handle ? MICRORPC_HANDLE : type) << 4, 32, expression, file, line);
    check_number(number_at(&packet, 16, 8), type, expression, file, line);
    check_number(number_at(&packet, 24, 8), value, expression, file, line);
}

void check_handle(blob_t packet, uint64_t handle, const char *expression, const char *file, int line) {
    check_return(&packet, 1, MICRORPC_HANDLE, 20, expression, file, line);
    check_number(number_at(&packet, 12, 8), handle, expression, file, line);
}

void check_none(blob_t packet, const char *expression, const char *file, int line) {
    check_return(&packet, 1, MICRORPC_NULL, 12, expression, file, line);
}

void check_void(blob_t packet, const char *expression, const char *file, int line) {
    check_return(&packet, 2, MICRORPC_NULL << 4, 24, expression, file, line);
    check_number(number_at(&packet, 16, 8), MICRORPC_NULL, expression, file, line);
}

void check_string(blob_t packet, uint32_t type, const char *text, const char *expression, const char *file, int line) {
    check_return(&packet, 2, type << 4, 32 + mrpc_length(text), expression, file, line);
    check_number(number_at(&packet, 16, 8), type, expression, file, line);
    check_number(number_at(&packet, 24, 8), mrpc_length(text), expression, file, line);
    if (packet.size >= 32) check_text(packet.data + 32, packet.size - 32, text, expression, file, line);
}
