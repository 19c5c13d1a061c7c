/* What zig lacks of string.h for a board without an operating system. Each is weak: another library's goes first. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define WEAK __attribute__((weak))

/* The standard has it so: what is looked for in constant bytes is given as if they were not. */
static void *without_const(const void *at) { return (void *)(uintptr_t)at; }

WEAK void *memchr(const void *bytes, int byte, size_t size) {
    for (const unsigned char *at = bytes; size; at++, size--)
        if (*at == (unsigned char)byte) return without_const(at);
    return NULL;
}

WEAK size_t strnlen(const char *text, size_t most) {
    size_t length = 0;
    while (length < most && text[length]) length++;
    return length;
}

WEAK int strncmp(const char *left, const char *right, size_t most) {
    for (; most; left++, right++, most--) {
        unsigned char l = (unsigned char)*left, r = (unsigned char)*right;
        if (l != r) return l < r ? -1 : 1;
        if (!l) break;
    }
    return 0;
}

WEAK int strcmp(const char *left, const char *right) { return strncmp(left, right, SIZE_MAX); }

/* The NUL is a letter, too. */
WEAK char *strchr(const char *text, int letter) { return memchr(text, letter, strlen(text) + 1); }

WEAK char *strrchr(const char *text, int letter) {
    for (size_t left = strlen(text) + 1; left--;)
        if (text[left] == (char)letter) return without_const(text + left);
    return NULL;
}

WEAK char *strstr(const char *text, const char *wanted) {
    size_t size = strlen(wanted);
    for (; strncmp(text, wanted, size); text++)
        if (!*text) return NULL;
    return without_const(text);
}

/* How many letters at the beginning of `text` are of those, or are not. */
static size_t span(const char *text, const char *letters, int are_wanted) {
    size_t size = strlen(letters), length = 0;
    while (text[length] && (memchr(letters, text[length], size) != NULL) == are_wanted) length++;
    return length;
}

WEAK size_t strspn(const char *text, const char *letters) { return span(text, letters, 1); }

WEAK size_t strcspn(const char *text, const char *letters) { return span(text, letters, 0); }

WEAK char *strpbrk(const char *text, const char *letters) {
    text += span(text, letters, 0);
    return *text ? without_const(text) : NULL;
}

/* At most `most` letters, and a NUL. */
static void append(char *to, const char *from, size_t most) {
    while (most-- && *from) *to++ = *from++;
    *to = 0;
}

WEAK char *strcpy(char *restrict to, const char *restrict from) {
    append(to, from, SIZE_MAX);
    return to;
}

WEAK char *strncpy(char *restrict to, const char *restrict from, size_t size) {
    size_t length = strnlen(from, size);
    for (size_t i = 0; i < size; i++) to[i] = i < length ? from[i] : 0;
    return to;
}

WEAK char *strcat(char *restrict to, const char *restrict from) {
    append(to + strlen(to), from, SIZE_MAX);
    return to;
}

WEAK char *strncat(char *restrict to, const char *restrict from, size_t most) {
    append(to + strlen(to), from, most);
    return to;
}
