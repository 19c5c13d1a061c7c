/* Runs the tests: all of them, or those whose names contain the first argument. */
#include "check.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

extern const test_t framing_tests[], session_tests[], server_tests[], heap_tests[], call_tests[], runtime_tests[],
    link_tests[], describe_tests[], report_tests[], event_tests[], long_call_tests[],
    presence_tests[], model_tests[], reentry_tests[], tvm_tests[];

static unsigned failures;

static void complain(const char *expression, const char *file, int line) {
    failures++;
    printf("%s:%d: %s\n", file, line, expression);
}

void check_that(bool is_good, const char *expression, const char *file, int line) {
    if (!is_good) complain(expression, file, line);
}

void check_number(uint64_t actual, uint64_t expected, const char *expression, const char *file, int line) {
    if (actual == expected) return;
    complain(expression, file, line);
    printf("  is      %" PRId64 " (0x%" PRIx64 ")\n", (int64_t)actual, actual);
    printf("  want    %" PRId64 " (0x%" PRIx64 ")\n", (int64_t)expected, expected);
}

static void print_hex(const char *what, const void *bytes, size_t size) {
    printf("  %s", what);
    for (size_t i = 0; i < size; i++) printf(" %02X", ((const uint8_t *)bytes)[i]);
    printf("\n");
}

static void check_bytes(const void *bytes, size_t size, const void *want, size_t want_bytes, const char *expression,
                        const char *file, int line) {
    if (size == want_bytes && !(size && memcmp(bytes, want, size))) return;
    complain(expression, file, line);
    print_hex("is     ", bytes, size);
    print_hex("want   ", want, want_bytes);
}

void check_hex(const void *bytes, size_t size, const char *hex, const char *expression, const char *file, int line) {
    uint8_t want[256];
    size_t want_bytes = 0;
    for (unsigned byte; *hex; hex += 2) {
        while (*hex == ' ') hex++;
        if (want_bytes == sizeof want || sscanf(hex, "%2x", &byte) != 1) {
            complain("this is no hex, or too much of it", file, line);
            return;
        }
        want[want_bytes++] = (uint8_t)byte;
    }
    check_bytes(bytes, size, want, want_bytes, expression, file, line);
}

void check_text(const void *bytes, size_t size, const char *text, const char *expression, const char *file, int line) {
    if (size == strlen(text) && !(size && memcmp(bytes, text, size))) return;
    complain(expression, file, line);
    printf("  is      %.*s\n  want    %s\n", (int)size, size ? (const char *)bytes : "", text);
}

int main(int count, char **arguments) {
    const test_t *const tables[] = {framing_tests, session_tests, server_tests, heap_tests,
                                    call_tests,    runtime_tests, link_tests,   describe_tests,
                                    report_tests,  event_tests,   long_call_tests, presence_tests,
                                    model_tests,   reentry_tests, tvm_tests};
    unsigned failed = 0;
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        for (const test_t *test = tables[i]; test->name; test++) {
            unsigned failures_before = failures;
            if (count > 1 && !strstr(test->name, arguments[1])) continue;
            test->run();
            printf("%s %s\n", failures == failures_before ? "ok" : "FAILED", test->name);
            fflush(stdout);
            failed += failures != failures_before;
        }
    }
    return failed ? 1 : 0;
}
