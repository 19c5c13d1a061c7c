/* The four functions that compilers call of their own accord, for toolchains that bring no C library. */
#include <stddef.h>
#include <stdint.h>

/* GCC would make a call of memcpy of the loop in memcpy; and with -flto it drops them before it knows that it calls them,
 * unless they are `used`. */
#if defined(__GNUC__) && !defined(__clang__)
#define LOOP __attribute__((weak, used, optimize("no-tree-loop-distribute-patterns")))
#else
#define LOOP __attribute__((weak))
#endif

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *left, const void *right, size_t size);

LOOP void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    uint8_t *t = to;
    const uint8_t *f = from;
    while (size-- > 0) {
        *t++ = *f++;
    }
    return to;
}

LOOP void *memmove(void *to, const void *from, size_t size) {
    uint8_t *t = to;
    const uint8_t *f = from;
    if ((uintptr_t)t - (uintptr_t)f >= size) {
        for (size_t i = 0; i < size; i++) {
            t[i] = f[i];
        }
    } else {
        while (size-- > 0) {
            t[size] = f[size];
        }
    }
    return to;
}

LOOP void *memset(void *to, int byte, size_t size) {
    uint8_t *t = to;
    while (size-- > 0) {
        *t++ = (uint8_t)byte;
    }
    return to;
}

LOOP int memcmp(const void *left, const void *right, size_t size) {
    const uint8_t *l = left, *r = right;
    for (; size > 0; size--, l++, r++) {
        if (*l != *r) {
            return *l < *r ? -1 : 1;
        }
    }
    return 0;
}
