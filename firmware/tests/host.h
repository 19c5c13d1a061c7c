/* The host's end of a board in memory: makes what is sent to it, and takes apart what it says. */
#ifndef MICRORPC_TEST_HOST_H
#define MICRORPC_TEST_HOST_H

#include "board.h"
#include "check.h"
#include "microrpc_internal.h"

#define HOST_NONCE 7u

typedef struct {
    size_t size;
    uint8_t data[3000];
} blob_t;

typedef struct {
    board_t *board;
    microrpc_t *device;
    uint16_t session;
    size_t heard_bytes; /* that were taken from the board, and not yet used */
    uint8_t heard[20000];
} host_t;

void set_number(uint8_t *at, uint64_t value, unsigned size_bytes);
void add_number(blob_t *blob, uint64_t value, unsigned size_bytes);
void add_bytes(blob_t *blob, const void *bytes, size_t size);
blob_t blob_of(const void *bytes, size_t size);
blob_t text_blob(const char *text);

/* --- a board and its bytes ------------------------------------------------------------------------------------- */

/* A board that has said that it boots, which was taken. What is 0 in `config` and cannot be is 512 bytes of packet and
 * the demonstration functions. */
void host_boot(host_t *host, microrpc_config_t config, uint32_t heap_bytes, uint32_t step_us);
/* The same, of a plain board with `heap_bytes`, and then the handshake. */
void host_open(host_t *host, uint32_t heap_bytes);
void host_close(host_t *host);

void say(host_t *host, const void *bytes, size_t size);
/* All that the board has said. */
blob_t hear_bytes(host_t *host);
blob_t frame_of(const void *payload, size_t size);
void say_frame(host_t *host, const void *payload, size_t size);
/* The payload of the next frame; with none, or a wrong one, a check fails. */
blob_t hear_frame(host_t *host);
/* Check that there is nothing to hear. */
#define CHECK_SILENT(host) CHECK_IS(hear_bytes(host).size, 0)

/* --- messages -------------------------------------------------------------------------------------------------- */

void say_message(host_t *host, uint16_t session, uint8_t type, blob_t body);
/* The body of the next message, whose header must be this. */
blob_t hear_message(host_t *host, uint16_t session, uint8_t type);
/* Begin a session. */
void host_begin(host_t *host);

/* Say a packet, which begins with its code. */
void say_packet(host_t *host, blob_t packet);
blob_t hear_packet(host_t *host);
blob_t ask(host_t *host, blob_t packet);

/* --- the link -------------------------------------------------------------------------------------------------- */

/* The payload of a message of this session, with its crc32. */
blob_t sealed(const host_t *host, uint8_t type, blob_t body);
void say_sealed(host_t *host, uint8_t type, blob_t body);
/* What is between the type and the crc32 of the next message, which must be of the session and of this type. */
blob_t hear_sealed(host_t *host, uint8_t type);
void say_link(host_t *host, uint16_t seq, uint8_t kind, blob_t body);
/* Kind and body of the next message of the link, whose type and seq must be this. */
blob_t hear_link(host_t *host, uint8_t type, uint16_t seq);

/* --- packets --------------------------------------------------------------------------------------------------- */

typedef struct {
    uint64_t address, byte_offset;
    microrpc_dtype_t dtype;
    uint32_t ndim;
    int64_t extents[6];
} tensor_t;

/* A tensor of one dimension. */
tensor_t tensor_1d(uint64_t address, microrpc_dtype_code_t code, uint8_t bits, int64_t extent);
void add_tensor(blob_t *blob, const tensor_t *tensor);

/* Add a sequence. `kinds` has a character for each value: i int, I int64_t, u UInt as an int, f double, h handle as
 * uint64_t, n Null, y data type, d Device as two ints, t const tensor_t *, m module and F function as uint64_t,
 * s text as const char *, b bytes as const blob_t *. */
void add_sequence(blob_t *blob, const char *kinds, ...);
/* A packet of a code and a sequence. */
blob_t packet_of(uint32_t code, const char *kinds, ...);

/* The handle of a function of the system library. */
uint64_t find(host_t *host, const char *name);
uint64_t number_at(const blob_t *blob, size_t at, unsigned size_bytes);
uint64_t find_global(host_t *host, const char *name);
/* Call a function: the packet that comes back. */
blob_t call(host_t *host, uint64_t function, const char *kinds, ...);
blob_t call_packet(uint64_t function, const char *kinds, ...);
uint64_t allocate(host_t *host, uint64_t size);
/* The value of a Return(type, value), or of a Return of one. */
uint64_t word_of(const blob_t *packet);

#define SYSTEM_LIB STATIC_HANDLE(REGISTRY_MODULE, 0)

/* --- what came back -------------------------------------------------------------------------------------------- */

#define CHECK_EXCEPTION(packet, text) check_exception((packet), (text), #packet, __FILE__, __LINE__)
/* The result of a function, of `type` with 8 bytes of value. */
#define CHECK_WORD(packet, type, value) check_word((packet), (type), (uint64_t)(value), #packet, __FILE__, __LINE__)
/* A Return of one handle, or of None. */
#define CHECK_HANDLE(packet, value) check_handle((packet), (value), #packet, __FILE__, __LINE__)
#define CHECK_NONE(packet) check_none((packet), #packet, __FILE__, __LINE__)
/* The result of a function that returned nothing. */
#define CHECK_VOID(packet) check_void((packet), #packet, __FILE__, __LINE__)
/* The result of a function, Str or Bytes. */
#define CHECK_STRING(packet, type, text) check_string((packet), (type), (text), #packet, __FILE__, __LINE__)

void check_exception(blob_t packet, const char *text, const char *expression, const char *file, int line);
void check_word(blob_t packet, uint32_t type, uint64_t value, const char *expression, const char *file, int line);
void check_handle(blob_t packet, uint64_t handle, const char *expression, const char *file, int line);
void check_none(blob_t packet, const char *expression, const char *file, int line);
void check_void(blob_t packet, const char *expression, const char *file, int line);
void check_string(blob_t packet, uint32_t type, const char *text, const char *expression, const char *file, int line);

#endif
