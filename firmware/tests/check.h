/* Tests: functions in tables, which run one after the other (check.c). A check that fails says so, and the test goes
 * on. */
#ifndef MICRORPC_TEST_CHECK_H
#define MICRORPC_TEST_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *name;
    void (*run)(void);
} test_t;

/* An entry of a table, which ends with TESTS_END. */
#define TEST(name) {#name, name}
#define TESTS_END {NULL, NULL}

#define CHECK(condition) check_that((condition), #condition, __FILE__, __LINE__)
/* Two whole numbers. */
#define CHECK_IS(actual, expected) check_number((uint64_t)(actual), (uint64_t)(expected), #actual, __FILE__, __LINE__)
/* Bytes, and what they must be in hex, with blanks anywhere. */
#define CHECK_HEX(bytes, size, hex) check_hex((bytes), (size), (hex), #bytes, __FILE__, __LINE__)
/* Bytes, and the text that they must be. */
#define CHECK_TEXT(bytes, size, text) check_text((bytes), (size), (text), #bytes, __FILE__, __LINE__)

void check_that(bool is_good, const char *expression, const char *file, int line);
void check_number(uint64_t actual, uint64_t expected, const char *expression, const char *file, int line);
void check_hex(const void *bytes, size_t size, const char *hex, const char *expression, const char *file, int line);
void check_text(const void *bytes, size_t size, const char *text, const char *expression, const char *file, int line);

#endif
