/* What the host is told when something cannot be (docs/device.md). */
#include "microrpc_internal.h"

/* One after the other, as mrpc_failure_t counts them: a number is shorter than an address, wherever something fails. */
static const char texts[] IN_FLASH =
#define X(name, text, more) text "\0"
    ALL_FAILURES(X)
#undef X
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
