/* Packets: what is malformed, and what each request does (docs/protocol.md 3, docs/device.md 2). */
#include "host.h"

static host_t host;

static const microrpc_dtype_t uint8 = {MICRORPC_DTYPE_UINT, 8, 1};

#define CHECK_MALFORMED(packet) CHECK_EXCEPTION(ask(&host, (packet)), "malformed packet")

static blob_t init_server(const char *version, const char *kinds) {
    blob_t packet = blob_of("\2\0\0\0", 4);
    add_number(&packet, mrpc_length(version), 8);
    add_bytes(&packet, version, mrpc_length(version));
    add_sequence(&packet, kinds, 1);
    return packet;
}

static blob_t copy_packet(uint32_t code, const tensor_t *tensor, const void *data, uint64_t size) {
    blob_t packet = blob_of(NULL, 0);
    add_number(&packet, code, 4);
    add_tensor(&packet, tensor);
    add_number(&packet, size, 8);
    if (code == PACKET_COPY_TO_REMOTE) add_bytes(&packet, data, (size_t)size);
    return packet;
}

static void a_reply_is_exact(void) {
    blob_t reply;
    host_open(&host, 1024);
    reply = ask(&host, packet_of(PACKET_GET_GLOBAL_FUNC, "s", "tvm.rpc.server.ModuleGetFunction"));
    CHECK_HEX(reply.data, reply.size, "04000000 01000000 03000000 01000000 00000080");
    reply = ask(&host, packet_of(PACKET_DEV_STREAM_SYNC, "dh", 1, 0, UINT64_C(0)));
    CHECK_HEX(reply.data, reply.size, "04000000 01000000 04000000");
    reply = ask(&host, packet_of(PACKET_DEV_GET_ATTR, "di", 1, 0, 0));
    CHECK_HEX(reply.data, reply.size,
              "05000000 01000000 0B000000 15000000 00000000 4765744174747220 6E6F7420 737570706F72746564");
    host_close(&host);
}

static void every_packet_that_is_cut_or_longer_is_malformed(void) {
    blob_t packets[6], reply;
    tensor_t tensor;
    host_open(&host, 1024);
    tensor = tensor_1d(allocate(&host, 8), MICRORPC_DTYPE_UINT, 8, 8);
    packets[0] = packet_of(PACKET_DEV_ALLOC_DATA, "diiy", 1, 0, 8, 8, uint8);
    packets[1] = call_packet(STATIC_HANDLE(REGISTRY_SYSTEM, 5), "iufhnydtmFsb", 1, 2, 3.0, UINT64_C(0), uint8, 1, 0,
                             &tensor, SYSTEM_LIB, STATIC_HANDLE(REGISTRY_SYSTEM, 0), "text", &packets[0]);
    packets[2] = init_server("0.8.0", "");
    packets[3] = copy_packet(PACKET_COPY_TO_REMOTE, &tensor, "12345678", 8);
    packets[4] = copy_packet(PACKET_COPY_FROM_REMOTE, &tensor, NULL, 8);
    packets[5] = packet_of(PACKET_COPY_AMONG_REMOTE, "tth", &tensor, &tensor, UINT64_C(0));
    for (size_t i = 0; i < 6; i++) {
        blob_t packet = packets[i];
        reply = ask(&host, packet);
        CHECK(reply.data[0] == PACKET_RETURN || reply.data[0] == PACKET_COPY_ACK);
        add_number(&packet, 0, 1);
        CHECK_MALFORMED(packet);
        for (size_t size = 1; size < packets[i].size; size++) CHECK_MALFORMED(blob_of(packets[i].data, size));
    }
    host_close(&host);
}

static void codes_that_are_no_request_are_malformed(void) {
    static const uint32_t codes[] = {0, 4, 5, 8, UINT32_MAX, 0x80000000, 0x80000009};
    host_open(&host, 1024);
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) CHECK_MALFORMED(packet_of(codes[i], ""));
    CHECK_EXCEPTION(ask(&host, packet_of(21, "")), "unknown packet code 21");
    CHECK_EXCEPTION(ask(&host, packet_of(INT32_MAX, "ii", 1, 2)), "unknown packet code 2147483647");
    host_close(&host);
}

static void types_that_are_refused_are_malformed(void) {
    static const uint32_t types[] = {8, 13, 14, 15, 16, 255, UINT32_MAX, 0x80000000};
    host_open(&host, 1024);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        blob_t packet = call_packet(STATIC_HANDLE(REGISTRY_SYSTEM, 5), "");
        packet.size -= 4;
        add_number(&packet, 1, 4);
        add_number(&packet, types[i], 4);
        add_number(&packet, 0, 8);
        CHECK_MALFORMED(packet);
    }
    host_close(&host);
}

static void counts_that_do_not_fit_are_malformed(void) {
    static const uint32_t counts[] = {1, 0x40000000, 0x7FFFFFFF, 0x80000000, UINT32_MAX};
    host_open(&host, 1024);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        blob_t packet = blob_of("\x0B\0\0\0", 4);
        add_number(&packet, counts[i], 4);
        CHECK_MALFORMED(packet);
    }
    for (size_t i = 0; i < 3; i++) { /* dimensions of a tensor, and lengths of a text */
        static const uint64_t many[] = {2, 0x1FFFFFFF, 0xFFFFFFFF};
        static const uint64_t lengths[] = {1, UINT64_MAX, UINT64_C(0x100000000)};
        tensor_t tensor = tensor_1d(0, MICRORPC_DTYPE_UINT, 8, 1);
        blob_t packet = call_packet(STATIC_HANDLE(REGISTRY_SYSTEM, 5), "t", &tensor);
        set_number(packet.data + 12 + 8 + 16, many[i], 4);
        CHECK_MALFORMED(packet);
        packet = call_packet(STATIC_HANDLE(REGISTRY_SYSTEM, 5), "s", "");
        set_number(packet.data + packet.size - 8, lengths[i], 8);
        CHECK_MALFORMED(packet);
    }
    host_close(&host);
}

static void a_negative_extent_is_malformed(void) {
    tensor_t tensor = tensor_1d(0, MICRORPC_DTYPE_UINT, 8, -1);
    host_open(&host, 1024);
    CHECK_MALFORMED(copy_packet(PACKET_COPY_FROM_REMOTE, &tensor, NULL, 0));
    CHECK_MALFORMED(packet_of(PACKET_DEV_ALLOC_DATA_WITH_SCOPE, "tn", &tensor));
    tensor.extents[0] = INT64_MIN;
    CHECK_MALFORMED(copy_packet(PACKET_COPY_TO_REMOTE, &tensor, "", 0));
    host_close(&host);
}

static void a_session_mask_is_malformed(void) {
    host_open(&host, 1024);
    CHECK_MALFORMED(packet_of(PACKET_DEV_SET_DEVICE, "d", 128 + 1, 0));
    CHECK_EXCEPTION(ask(&host, packet_of(PACKET_DEV_SET_DEVICE, "d", 127, 0)), "SetDevice not supported");
    CHECK_EXCEPTION(ask(&host, packet_of(PACKET_DEV_SET_DEVICE, "d", -1, 0)), "SetDevice not supported");
    host_close(&host);
}

static void a_syscall_takes_its_own_arguments_only(void) {
    static const struct {
        uint32_t code;
        const char *right;
    } calls[] = {{9, "s"},     {10, "hi"}, {11, "d"},   {12, "di"}, {13, "diiy"}, {14, "dh"},
                 {15, "dh"},   {16, "tth"}, {17, "ts"}, {18, "d"},  {19, "dh"},   {20, "dh"}};
    host_open(&host, 1024);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        char text[] = "wrong arguments of packet code NN";
        text[31] = (char)('0' + calls[i].code / 10);
        text[32] = (char)('0' + calls[i].code % 10);
        if (calls[i].code == 9) {
            text[31] = '9';
            text[32] = 0;
        }
        CHECK_EXCEPTION(ask(&host, packet_of(calls[i].code, "")), text);
        CHECK_EXCEPTION(ask(&host, packet_of(calls[i].code, "n")), text);
        CHECK_EXCEPTION(ask(&host, packet_of(calls[i].code, "nn")), text);
        CHECK_EXCEPTION(ask(&host, packet_of(calls[i].code, "uuuuu", 1, 0, 8, 8, 0)), text);
    }
    CHECK_EXCEPTION(ask(&host, packet_of(14, "dhn", 1, 0, UINT64_C(0))), "wrong arguments of packet code 14");
    CHECK_EXCEPTION(ask(&host, packet_of(14, "di", 1, 0, 0)), "wrong arguments of packet code 14");
    host_close(&host);
}

static void init_server_is_for_nothing_but_the_version(void) {
    host_open(&host, 1024);
    CHECK_NONE(ask(&host, init_server("0.8.0", "")));
    CHECK_EXCEPTION(ask(&host, init_server("0.8.1", "")), "protocol version mismatch: this device speaks 0.8.0");
    CHECK_EXCEPTION(ask(&host, init_server("", "")), "protocol version mismatch: this device speaks 0.8.0");
    CHECK_EXCEPTION(ask(&host, init_server("0.8.0", "i")), "Server has already been initialized");
    CHECK_EXCEPTION(ask(&host, init_server("0.8", "i")), "Server has already been initialized");
    host_close(&host);
}

static void there_is_one_device(void) {
    uint64_t none = 0;
    host_open(&host, 1024);
    CHECK_EXCEPTION(ask(&host, packet_of(PACKET_DEV_ALLOC_DATA, "diiy", 2, 0, 8, 8, uint8)),
                    "there is no device (2, 0) here, only the CPU (1, 0)");
    CHECK_EXCEPTION(ask(&host, packet_of(PACKET_DEV_FREE_DATA, "dh", -3, 0, none)),
                    "there is no device (-3, 0) here, only the CPU (1, 0)");
    CHECK_EXCEPTION(ask(&host, packet_of(PACKET_DEV_STREAM_SYNC, "dh", 1, -2147483647, none)),
                    "there is no device (1, -2147483647) here, only the CPU (1, 0)");
    CHECK_EXCEPTION(ask(&host, packet_of(PACKET_DEV_CREATE_STREAM, "d", 1, 1)),
                    "there is no device (1, 1) here, only the CPU (1, 0)");
    CHECK_EXCEPTION(ask(&host, packet_of(PACKET_DEV_ALLOC_DATA, "diiy", 2, 0, -1, 3, uint8)),
                    "there is no device (2, 0) here, only the CPU (1, 0)"); /* before its other values */
    host_close(&host);
}

static void streams_do_nothing(void) {
    uint64_t stream = 5;
    host_open(&host, 1024);
    CHECK_HANDLE(ask(&host, packet_of(PACKET_DEV_CREATE_STREAM, "d", 1, 0)), 0);
    CHECK_NONE(ask(&host, packet_of(PACKET_DEV_STREAM_SYNC, "dh", 1, 0, stream)));
    CHECK_NONE(ask(&host, packet_of(PACKET_DEV_SET_STREAM, "dh", 1, 0, stream)));
    CHECK_NONE(ask(&host, packet_of(PACKET_DEV_FREE_STREAM, "dh", 1, 0, stream)));
    host_close(&host);
}

static void copies_move_bytes(void) {
    tensor_t tensor;
    blob_t reply;
    uint64_t address;
    host_open(&host, 1024);
    address = allocate(&host, 16);
    tensor = tensor_1d(address, MICRORPC_DTYPE_UINT, 8, 4);
    tensor.byte_offset = 3;
    CHECK_NONE(ask(&host, copy_packet(PACKET_COPY_TO_REMOTE, &tensor, "\xFF\xFD\xFE\x01", 4)));
    tensor.byte_offset = 0;
    /* The tensor's shape is nothing to it. */
    reply = ask(&host, copy_packet(PACKET_COPY_FROM_REMOTE, &tensor, NULL, 8));
    CHECK_HEX(reply.data, reply.size, "08000000 000000 FF FD FE 01 00");
    tensor.address = address + 100; /* modulo 2^64 */
    tensor.byte_offset = 0 - UINT64_C(97);
    reply = ask(&host, copy_packet(PACKET_COPY_FROM_REMOTE, &tensor, NULL, 2));
    CHECK_HEX(reply.data, reply.size, "08000000 FF FD");
    reply = ask(&host, copy_packet(PACKET_COPY_FROM_REMOTE, &tensor, NULL, 0));
    CHECK_HEX(reply.data, reply.size, "08000000");
    host_close(&host);
}

static void copies_outside_of_blocks_are_refused(void) {
    static const uint64_t sizes[] = {17, 0x80000000, 0x100000000, UINT64_MAX};
    uint64_t address;
    host_open(&host, 1024);
    address = allocate(&host, 16);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        tensor_t tensor = tensor_1d(address, MICRORPC_DTYPE_UINT, 8, 4);
        blob_t reply = ask(&host, copy_packet(PACKET_COPY_FROM_REMOTE, &tensor, NULL, sizes[i]));
        CHECK_IS(reply.data[0], PACKET_EXCEPTION);
    }
    {
        tensor_t tensor = tensor_1d(16, MICRORPC_DTYPE_UINT, 8, 4);
        CHECK_EXCEPTION(ask(&host, copy_packet(PACKET_COPY_TO_REMOTE, &tensor, "1", 1)),
                        "1 bytes at 0x10 are not inside an allocated block");
        tensor.address = UINT64_MAX;
        CHECK_EXCEPTION(ask(&host, copy_packet(PACKET_COPY_FROM_REMOTE, &tensor, NULL, UINT64_MAX)),
                        "18446744073709551615 bytes at 0xffffffffffffffff are not inside an allocated block");
    }
    host_close(&host);
}

static void copies_on_the_board_may_overlap(void) {
    uint64_t address;
    tensor_t from, to;
    blob_t reply, data = blob_of("abcdefgh", 8);
    host_open(&host, 1024);
    address = allocate(&host, 8);
    from = to = tensor_1d(address, MICRORPC_DTYPE_UINT, 8, 8);
    ask(&host, copy_packet(PACKET_COPY_TO_REMOTE, &from, data.data, 8));
    from.extents[0] = to.extents[0] = 6;
    to.byte_offset = 2;
    CHECK_NONE(ask(&host, packet_of(PACKET_COPY_AMONG_REMOTE, "tth", &from, &to, UINT64_C(0))));
    reply = ask(&host, copy_packet(PACKET_COPY_FROM_REMOTE, &from, NULL, 8));
    CHECK_TEXT(reply.data + 4, reply.size - 4, "ababcdef");
    CHECK_NONE(ask(&host, packet_of(PACKET_COPY_AMONG_REMOTE, "tth", &to, &from, UINT64_C(0))));
    reply = ask(&host, copy_packet(PACKET_COPY_FROM_REMOTE, &from, NULL, 8));
    CHECK_TEXT(reply.data + 4, reply.size - 4, "abcdefef");
    to.extents[0] = 5;
    CHECK_EXCEPTION(ask(&host, packet_of(PACKET_COPY_AMONG_REMOTE, "tth", &from, &to, UINT64_C(0))),
                    "the tensors have different sizes");
    to.extents[0] = 6;
    to.byte_offset = 3;
    CHECK_IS(ask(&host, packet_of(PACKET_COPY_AMONG_REMOTE, "tth", &from, &to, UINT64_C(0))).data[0], PACKET_EXCEPTION);
    CHECK_IS(ask(&host, packet_of(PACKET_COPY_AMONG_REMOTE, "tth", &to, &from, UINT64_C(0))).data[0], PACKET_EXCEPTION);
    host_close(&host);
}

static void an_allocation_may_name_the_global_scope(void) {
    tensor_t tensor = tensor_1d(0, MICRORPC_DTYPE_FLOAT, 32, 3);
    host_open(&host, 1024);
    CHECK_HANDLE(ask(&host, packet_of(PACKET_DEV_ALLOC_DATA_WITH_SCOPE, "tn", &tensor)),
                 board_heap_address(host.board));
    CHECK_HANDLE(ask(&host, packet_of(PACKET_DEV_ALLOC_DATA_WITH_SCOPE, "ts", &tensor, "")),
                 board_heap_address(host.board) + 16);
    CHECK_HANDLE(ask(&host, packet_of(PACKET_DEV_ALLOC_DATA_WITH_SCOPE, "ts", &tensor, "global")),
                 board_heap_address(host.board) + 32);
    CHECK_EXCEPTION(ask(&host, packet_of(PACKET_DEV_ALLOC_DATA_WITH_SCOPE, "ts", &tensor, "texture")),
                    "there is no such memory scope here");
    host_close(&host);
}

static void an_allocation_is_aligned_to_its_element(void) {
    tensor_t tensor = tensor_1d(0, MICRORPC_DTYPE_FLOAT, 32, 1);
    blob_t reply;
    host_open(&host, 4096);
    allocate(&host, 1);
    tensor.dtype.lanes = 16;
    reply = ask(&host, packet_of(PACKET_DEV_ALLOC_DATA_WITH_SCOPE, "tn", &tensor));
    CHECK_IS(word_of(&reply) % 64, 0);
    CHECK_IS(host.device->heap.count, 2);
    tensor.extents[0] = INT64_MAX;
    reply = ask(&host, packet_of(PACKET_DEV_ALLOC_DATA_WITH_SCOPE, "tn", &tensor));
    CHECK_TEXT(reply.data + 20, 38, "out of memory: 4294967295 bytes asked ");
    host_close(&host);
}

static void what_is_freed_must_be_of_its_type(void) {
    uint64_t address, text_handle = UINT64_C(0x123);
    host_open(&host, 1024);
    address = allocate(&host, 8);
    CHECK_NONE(ask(&host, packet_of(PACKET_FREE_HANDLE, "hi", SYSTEM_LIB, MICRORPC_MODULE)));
    CHECK_NONE(ask(&host, packet_of(PACKET_FREE_HANDLE, "hi", STATIC_HANDLE(REGISTRY_GLOBAL, 0), 10)));
    CHECK_EXCEPTION(ask(&host, packet_of(PACKET_FREE_HANDLE, "hi", SYSTEM_LIB, 10)),
                    "no object of type 10 has the handle 0x8000000200000000");
    CHECK_EXCEPTION(ask(&host, packet_of(PACKET_FREE_HANDLE, "hi", STATIC_HANDLE(REGISTRY_GLOBAL, 99), 10)),
                    "no object of type 10 has the handle 0x8000000000000063");
    CHECK_EXCEPTION(ask(&host, packet_of(PACKET_FREE_HANDLE, "hI", text_handle, INT64_MIN)),
                    "no object of type -9223372036854775808 has the handle 0x123");
    CHECK_IS(ask(&host, packet_of(PACKET_FREE_HANDLE, "hi", address, MICRORPC_NDARRAY)).data[0], PACKET_EXCEPTION);
    CHECK_NONE(ask(&host, packet_of(PACKET_DEV_FREE_DATA, "dh", 1, 0, address)));
    CHECK_IS(ask(&host, packet_of(PACKET_DEV_FREE_DATA, "dh", 1, 0, address)).data[0], PACKET_EXCEPTION);
    host_close(&host);
}

static void a_name_ends_at_its_nul(void) {
    blob_t name = blob_of("runtime.SystemLib\0more", 22), packet = packet_of(PACKET_GET_GLOBAL_FUNC, "b", &name);
    host_open(&host, 1024);
    packet.data[8] = MICRORPC_TEXT;
    CHECK_HANDLE(ask(&host, packet), UINT64_C(1) << 63);
    CHECK_IS(find_global(&host, "runtime.SystemLi"), 0);
    CHECK_IS(find_global(&host, ""), 0);
    CHECK_IS(find_global(&host, "echo_str"), 0); /* of the system library */
    host_close(&host);
}

const test_t server_tests[] = {
    TEST(a_reply_is_exact),
    TEST(every_packet_that_is_cut_or_longer_is_malformed),
    TEST(codes_that_are_no_request_are_malformed),
    TEST(types_that_are_refused_are_malformed),
    TEST(counts_that_do_not_fit_are_malformed),
    TEST(a_negative_extent_is_malformed),
    TEST(a_session_mask_is_malformed),
    TEST(a_syscall_takes_its_own_arguments_only),
    TEST(init_server_is_for_nothing_but_the_version),
    TEST(there_is_one_device),
    TEST(streams_do_nothing),
    TEST(copies_move_bytes),
    TEST(copies_outside_of_blocks_are_refused),
    TEST(copies_on_the_board_may_overlap),
    TEST(an_allocation_may_name_the_global_scope),
    TEST(an_allocation_is_aligned_to_its_element),
    TEST(what_is_freed_must_be_of_its_type),
    TEST(a_name_ends_at_its_nul),
    TESTS_END,
};
