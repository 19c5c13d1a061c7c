/* The functions of string.h, but for those that need a locale or keep a state. zig brings some of them for a board
 * without an operating system, string.c has the others. */
#ifndef MICRORPC_STRING_H
#define MICRORPC_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *left, const void *right, size_t size);
size_t strlen(const char *text);

void *memchr(const void *bytes, int byte, size_t size);
size_t strnlen(const char *text, size_t most);
int strcmp(const char *left, const char *right);
int strncmp(const char *left, const char *right, size_t most);
char *strchr(const char *text, int letter);
char *strrchr(const char *text, int letter);
char *strstr(const char *text, const char *wanted);
size_t strspn(const char *text, const char *letters);
size_t strcspn(const char *text, const char *letters);
char *strpbrk(const char *text, const char *letters);
char *strcpy(char *restrict to, const char *restrict from);
char *strncpy(char *restrict to, const char *restrict from, size_t size);
char *strcat(char *restrict to, const char *restrict from);
char *strncat(char *restrict to, const char *restrict from, size_t most);

#endif
