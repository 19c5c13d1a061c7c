/* What the host is told when something cannot be (docs/device.md). */
#include "microrpc_internal.h"

/* One after the other, as mrpc_failure_t counts them: a number is shorter than an address, wherever something fails. */
static const char texts[] IN_FLASH =
    "malformed packet\0"
    "unknown packet code %d\0"
    "wrong arguments of packet code %d\0"
    "Server has already been initialized\0"
    "protocol version mismatch: this device speaks " PROTOCOL_VERSION "\0"
    "SetDevice not supported\0"
    "GetAttr not supported\0"
    "there is no device (%d, %d) here, only the CPU (1, 0)\0"
    "there is no such memory scope here\0"
    "the tensors have different sizes\0"
    "cannot allocate %d bytes aligned to %d\0"
    "out of memory: %u bytes asked for, the largest free block has %u\0"
    "cannot free 0x%x: no block begins there\0"
    "%u bytes at 0x%x are not inside an allocated block\0"
    "no function or module has the handle 0x%x; look it up again\0"
    "no object of type %d has the handle 0x%x\0"
    "argument %d: the dtype is not supported\0"
    "argument %d: the tensor is not aligned\0"
    "argument %d: %s expected\0"
    "the result is too long\0"
    "RPCTimeEvaluator: no function has that name\0"
    "RPCTimeEvaluator: number and repeat must be positive\0"
    "a frame was refused: it announces %u bytes, and %u are accepted\0"
#if MICRORPC_DESCRIBE
    "%x\t%u\t\0"
#endif
#if MICRORPC_MODELS
    "there is no such %s: there are %u\0"
    "the output of this layer cannot be had\0"
    "this board has no clock\0"
    "%u arguments expected, not %u\0"
    "argument %u shares memory with another one\0"
    "%u\0"
#endif
    ;

static char *put_text(char *at, const char *text) {
    while (*text) *at++ = *text++;
    return at;
}

static char *put_number(char *at, uint64_t number, char kind) {
    char digits[20];
    unsigned count = 0;
    if (kind == 'd' && number >> 63) {
        *at++ = '-';
        number = 0 - number;
    }
    do {
        uint32_t digit = mrpc_divide(&number, kind == 'x' ? 16 : 10);
        digits[count++] = (char)(digit < 10 ? '0' + digit : 'a' - 10 + digit);
    } while (number);
    while (count) *at++ = digits[--count];
    return at;
}

static const char *text_of(mrpc_failure_t failure) {
    const char *text = texts;
    for (unsigned i = 0; i < (unsigned)failure; i++)
        while (flash8(text++)) continue;
    return text;
}

bool mrpc_fail(microrpc_t *device, mrpc_failure_t failure) {
#if MICRORPC_TABLES_IN_FLASH
    return mrpc_fail_with(device, failure, 0, 0);
#else
    device->failure = text_of(failure);
    return false;
#endif
}

/* %d, %u, %x and %s stand for the values: signed, unsigned, in hex, the address of a text. */
bool mrpc_fail_with(microrpc_t *device, mrpc_failure_t failure, uint64_t first, uint64_t second) {
    char *at = device->text;
    const char *format = text_of(failure);
    char byte;
    for (; (byte = (char)flash8(format)) != 0; format++) {
        if (byte != '%') {
            *at++ = byte;
            continue;
        }
        byte = (char)flash8(++format);
        at = byte == 's' ? put_text(at, (const char *)(uintptr_t)first) : put_number(at, first, byte);
        first = second;
    }
    *at = 0;
    device->failure = device->text;
    return false;
}
