/* The heap: where blocks are put, and what is refused (docs/device.md 3). */
#include "host.h"

static host_t host;

static void open(uint32_t heap_bytes) { host_open(&host, heap_bytes); }

static uint64_t base(void) { return board_heap_address(host.board); }

/* Allocate data; its offset in the heap, or -1. */
static int64_t take(uint64_t size, uint64_t alignment) {
    const uint8_t *block = mrpc_heap_alloc(host.device, size, alignment, BLOCK_DATA);
    return block ? (int64_t)((uintptr_t)block - base()) : -1;
}

static bool give(int64_t offset) { return mrpc_heap_free(host.device, base() + (uint64_t)offset); }

#define CHECK_FAILURE(text) CHECK_TEXT(host.device->failure, mrpc_length(host.device->failure), (text))

static void blocks_are_put_first_fit(void) {
    open(1024);
    CHECK_IS(take(10, 1), 0);
    CHECK_IS(take(20, 1), 10);
    CHECK_IS(take(30, 1), 30);
    CHECK(give(10));
    CHECK_IS(take(21, 1), 60);
    CHECK_IS(take(8, 8), 16); /* into the gap, from its first aligned address on */
    CHECK_IS(take(6, 1), 10);
    CHECK_IS(take(6, 1), 24);
    CHECK_IS(take(1, 1), 81);
    CHECK(give(0));
    CHECK_IS(take(11, 1), 82);
    CHECK_IS(take(10, 1), 0);
    host_close(&host);
}

static void blocks_are_aligned_as_addresses(void) {
    open(20000);
    for (uint64_t alignment = 1; alignment <= 4096; alignment *= 2) {
        int64_t offset = take(3, alignment);
        CHECK(offset >= 0 && !((base() + (uint64_t)offset) & (alignment - 1)));
    }
    CHECK_IS(take(1, UINT64_C(1) << 30), -1);
    CHECK(host.device->failure[0] == 'o'); /* out of memory, and not refused */
    host_close(&host);
}

static void senseless_sizes_and_alignments_are_refused(void) {
    static const struct {
        int64_t size, alignment;
        const char *text;
    } cases[] = {
        {8, 0, "cannot allocate 8 bytes aligned to 0"},
        {8, 3, "cannot allocate 8 bytes aligned to 3"},
        {8, -8, "cannot allocate 8 bytes aligned to -8"},
        {8, INT64_MIN, "cannot allocate 8 bytes aligned to -9223372036854775808"},
        {8, INT64_C(1) << 31, "cannot allocate 8 bytes aligned to 2147483648"},
        {8, INT64_C(0x100000001), "cannot allocate 8 bytes aligned to 4294967297"},
        {-1, 8, "cannot allocate -1 bytes aligned to 8"},
        {INT64_MIN, INT64_MIN, "cannot allocate -9223372036854775808 bytes aligned to -9223372036854775808"},
        {INT64_MAX, 1, "out of memory: 9223372036854775807 bytes asked for, the largest free block has 1016"},
        {0x40000000, 1, "out of memory: 1073741824 bytes asked for, the largest free block has 1016"},
        {INT64_C(0x100000000), 1, "out of memory: 4294967296 bytes asked for, the largest free block has 1016"},
        {1017, 1, "out of memory: 1017 bytes asked for, the largest free block has 1016"},
    };
    microrpc_dtype_t hint = {MICRORPC_DTYPE_UINT, 8, 1};
    open(1024);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_EXCEPTION(ask(&host, packet_of(PACKET_DEV_ALLOC_DATA, "dIIy", 1, 0, cases[i].size, cases[i].alignment,
                                             hint)),
                        cases[i].text);
    }
    CHECK_IS(take(1016, 1), 0);
    host_close(&host);
}

static void the_largest_gap_counts_from_its_aligned_address(void) {
    open(1024);
    CHECK_IS(take(100, 1), 0);
    CHECK_IS(take(100, 1), 100);
    CHECK_IS(take(700, 1), 200);
    CHECK(give(100));
    CHECK_IS(take(101, 8), -1);
    CHECK_FAILURE("out of memory: 101 bytes asked for, the largest free block has 96"); /* 904 to 1000 */
    host_close(&host);
}

static void a_new_block_is_zero(void) {
    uint8_t *block;
    open(1024);
    for (int times = 0; times < 2; times++) {
        block = mrpc_heap_alloc(host.device, 64, 8, BLOCK_DATA);
        for (int i = 0; i < 64; i++) CHECK_IS(block[i], 0);
        memset(block, 0xA5, 64);
        CHECK(give(0));
    }
    host_close(&host);
}

static void no_bytes_take_one(void) {
    open(1024);
    CHECK_IS(take(0, 1), 0);
    CHECK_IS(take(0, 1), 1);
    CHECK_IS(take(0, 8), 8);
    CHECK(mrpc_heap_view(host.device, base(), 1) != NULL);
    CHECK(give(0) && give(1) && give(8));
    host_close(&host);
}

static void it_is_filled_and_emptied_and_filled_again(void) {
    enum { BYTES = 1024 };
    int64_t most = 0;
    open(BYTES);
    for (int times = 0; times < 3; times++) {
        int64_t count = 0;
        while (take(1, 1) == count) count++;
        /* With n blocks of 1 byte: n + 8 n <= 1024, the last one as far as it goes. */
        CHECK_IS(count, 1024 / 9);
        CHECK_FAILURE("out of memory: 1 bytes asked for, the largest free block has 0");
        if (!times) most = count;
        CHECK_IS(count, most);
        CHECK_IS(take(0, 1), -1);
        if (times == 1) { /* backwards, then in another order */
            for (int64_t i = count; i--;) CHECK(give(i));
        } else {
            for (int64_t i = 0; i < count; i += 2) CHECK(give(i));
            for (int64_t i = 1; i < count; i += 2) CHECK(give(i));
        }
        CHECK_IS(host.device->heap.count, 0);
        CHECK(!give(0));
    }
    CHECK_IS(take(BYTES - 8, 1), 0);
    CHECK_IS(take(1, 1), -1);
    CHECK_FAILURE("out of memory: 1 bytes asked for, the largest free block has 0");
    host_close(&host);
}

static void a_block_in_the_way_of_the_table_leaves_no_room(void) {
    open(64);
    CHECK_IS(take(24, 1), 0);
    CHECK_IS(take(25, 1), -1);
    CHECK_FAILURE("out of memory: 25 bytes asked for, the largest free block has 24");
    CHECK_IS(take(24, 1), 24); /* 48 bytes, and the table has 16 */
    CHECK(give(0));            /* the table has 8, but the next one would reach 48 */
    CHECK_IS(take(24, 1), 0);
    CHECK(give(24));
    CHECK_IS(take(23, 1), 24);
    CHECK(give(0));
    CHECK(give(24));
    CHECK_IS(take(50, 1), 0); /* 50 bytes end past 48: there is no room for another, though 6 bytes are free */
    CHECK_IS(take(1, 1), -1);
    CHECK_FAILURE("out of memory: 1 bytes asked for, the largest free block has 0");
    CHECK(give(0));
    host_close(&host);
}

static void there_may_be_no_heap(void) {
    static const uint32_t sizes[] = {0, 1, 7, 8};
    for (size_t i = 0; i < 4; i++) {
        open(sizes[i]);
        CHECK_IS(take(0, 1), -1);
        CHECK_FAILURE("out of memory: 0 bytes asked for, the largest free block has 0");
        CHECK(!mrpc_heap_view(host.device, base(), 0));
        CHECK(!give(0));
        host_close(&host);
    }
    open(16);
    CHECK_IS(take(8, 1), 0);
    host_close(&host);
}

static void what_is_looked_at_lies_in_one_block(void) {
    uint8_t *data;
    open(1024);
    CHECK(!mrpc_heap_view(host.device, base(), 0)); /* there is none yet */
    data = mrpc_heap_alloc(host.device, 10, 8, BLOCK_DATA);
    CHECK_IS(take(10, 1), 10);
    CHECK_IS(take(10, 1), 30 - 10);
    CHECK(give(10));
    CHECK(mrpc_heap_view(host.device, base(), 10) == data);
    CHECK(mrpc_heap_view(host.device, base() + 9, 1) == data + 9);
    CHECK(mrpc_heap_view(host.device, base() + 10, 0) == data + 10);
    CHECK(!mrpc_heap_view(host.device, base() + 9, 2));
    CHECK(!mrpc_heap_view(host.device, base() + 10, 1));
    CHECK(!mrpc_heap_view(host.device, base() + 11, 0));
    CHECK(!mrpc_heap_view(host.device, base() - 1, 1));
    CHECK(!mrpc_heap_view(host.device, base() - 1, 0));
    CHECK(!mrpc_heap_view(host.device, 0, 0));
    CHECK(!mrpc_heap_view(host.device, base(), UINT64_C(0x100000000)));
    CHECK(!mrpc_heap_view(host.device, base(), UINT64_MAX));
    CHECK(!mrpc_heap_view(host.device, base() + UINT64_C(0x100000000), 1));
    CHECK(mrpc_heap_view(host.device, base() + 29, 1) != NULL);
    CHECK(!mrpc_heap_view(host.device, base() + 29, 2));
    host_close(&host);
}

static void a_free_block_must_begin_there(void) {
    open(1024);
    CHECK_IS(take(16, 8), 0);
    CHECK(!give(1));
    CHECK(!give(16));
    CHECK(!give(-8));
    CHECK(!mrpc_heap_free(host.device, UINT64_C(0xABCDEF0123456789)));
    CHECK_FAILURE("cannot free 0xabcdef0123456789: no block begins there");
    CHECK(!mrpc_heap_free(host.device, base() + UINT64_C(0x100000000)));
    CHECK(give(0));
    CHECK(!give(0));
    host_close(&host);
}

static void kinds_are_kept_apart(void) {
    uint64_t address[3];
    open(1024);
    for (int kind = 0; kind < 3; kind++)
        address[kind] = (uintptr_t)mrpc_heap_alloc(host.device, 64, 8, (mrpc_block_kind_t)kind);
    for (int kind = 0; kind < 3; kind++) {
        for (int other = 0; other < 3; other++)
            CHECK((mrpc_heap_block(host.device, address[kind], (mrpc_block_kind_t)other) != NULL) == (kind == other));
        CHECK((mrpc_heap_view(host.device, address[kind], 64) != NULL) == (kind != BLOCK_OBJECT));
        CHECK(!mrpc_heap_block(host.device, address[kind] + 1, (mrpc_block_kind_t)kind));
    }
    CHECK(!mrpc_heap_view(host.device, address[2], 0));
    CHECK(!mrpc_heap_free(host.device, address[1]));
    CHECK(!mrpc_heap_free(host.device, address[2]));
    CHECK(!mrpc_heap_release(host.device, address[1], BLOCK_OBJECT));
    CHECK(mrpc_heap_release(host.device, address[1], BLOCK_ARRAY));
    CHECK(mrpc_heap_release(host.device, address[2], BLOCK_OBJECT));
    CHECK(mrpc_heap_free(host.device, address[0]));
    host_close(&host);
}

const test_t heap_tests[] = {
    TEST(blocks_are_put_first_fit),
    TEST(blocks_are_aligned_as_addresses),
    TEST(senseless_sizes_and_alignments_are_refused),
    TEST(the_largest_gap_counts_from_its_aligned_address),
    TEST(a_new_block_is_zero),
    TEST(no_bytes_take_one),
    TEST(it_is_filled_and_emptied_and_filled_again),
    TEST(a_block_in_the_way_of_the_table_leaves_no_room),
    TEST(there_may_be_no_heap),
    TEST(what_is_looked_at_lies_in_one_block),
    TEST(a_free_block_must_begin_there),
    TEST(kinds_are_kept_apart),
    TESTS_END,
};
