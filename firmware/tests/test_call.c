/* Calls: what functions see of their arguments, and what becomes of their results (docs/device.md 4). */
#include "host.h"

static host_t host;

/* --- functions ------------------------------------------------------------------------------------------------- */

static struct {
    uint32_t count;
    microrpc_type_t type;
    int64_t whole;
    double real;
    microrpc_bytes_t bytes;
    microrpc_tensor_t tensor;
    bool has_failed;
} seen;

static void see(const microrpc_call_t *call) {
    seen.count = microrpc_argument_count(call);
    seen.type = microrpc_argument_type(call, 0);
    seen.has_failed = microrpc_has_failed(call);
}

static void take_int(microrpc_call_t *call) {
    seen.whole = microrpc_int(call, 0);
    see(call);
}

static void take_float(microrpc_call_t *call) {
    seen.real = microrpc_float(call, 0);
    see(call);
}

static void take_text(microrpc_call_t *call) {
    seen.bytes = microrpc_text(call, 0);
    see(call);
}

static void take_bytes(microrpc_call_t *call) {
    seen.bytes = microrpc_bytes(call, 0);
    see(call);
}

static void take_tensor(microrpc_call_t *call) {
    seen.tensor = microrpc_tensor(call, 0);
    see(call);
}

static void take_float32(microrpc_call_t *call) {
    seen.tensor = microrpc_float32(call, 0);
    see(call);
}

static void take_two(microrpc_call_t *call) {
    microrpc_int(call, 1);
    microrpc_text(call, 0); /* the first failure counts */
    microrpc_fail(call, "another failure");
}

static void take_last(microrpc_call_t *call) { seen.whole = microrpc_int(call, microrpc_argument_count(call) - 1); }

static void give_nothing(microrpc_call_t *call) { (void)call; }

static void give_int(microrpc_call_t *call) { microrpc_return_int(call, INT64_MIN); }

static void give_float(microrpc_call_t *call) { microrpc_return_float(call, -0.5); }

static void give_text(microrpc_call_t *call) { microrpc_return_text(call, "text", 4); }

static void give_bytes(microrpc_call_t *call) { microrpc_return_bytes(call, "bytes", 5); }

static void give_no_text(microrpc_call_t *call) { microrpc_return_text(call, NULL, 0); }

/* A tensor of uint8, of as many dimensions as there are arguments; it fails afterwards if the last is negative. */
static void give_tensor(microrpc_call_t *call) {
    static const microrpc_dtype_t uint8 = {MICRORPC_DTYPE_UINT, 8, 1};
    size_t extents[6] = {0};
    uint32_t ndim = microrpc_argument_count(call);
    bool is_to_fail = false;
    uint8_t *data;
    for (uint32_t i = 0; i < ndim; i++) {
        int64_t extent = microrpc_int(call, i);
        is_to_fail = extent < 0;
        extents[i] = (size_t)(is_to_fail ? -extent : extent);
    }
    data = microrpc_return_tensor(call, uint8, ndim, extents);
    see(call);
    if (data) data[0] = 1;
    if (is_to_fail) microrpc_fail(call, "it failed later");
}

static void give_lanes(microrpc_call_t *call) {
    static const microrpc_dtype_t half4 = {MICRORPC_DTYPE_FLOAT, 16, 4};
    size_t extents[2] = {3, 5};
    microrpc_return_tensor(call, half4, 2, extents);
}

static void give_buffer(microrpc_call_t *call) {
    size_t size = (size_t)microrpc_int(call, 0);
    uint8_t *buffer = microrpc_result_buffer(call, size);
    see(call);
    if (!buffer) return;
    CHECK_IS((uintptr_t)buffer % 8, 0);
    memset(buffer, 'x', size);
    microrpc_return_bytes(call, buffer, size);
}

static void add_state(microrpc_call_t *call) {
    const int64_t *state = microrpc_state(call);
    CHECK(state != NULL);
    if (state) microrpc_return_int(call, state[0] + state[5]);
}

static void give_function(microrpc_call_t *call) {
    int64_t state[MICRORPC_STATE_BYTES / 8 + 1] = {40, 0, 0, 0, 0, 2};
    CHECK(microrpc_state(call) == NULL);
    microrpc_return_function(call, add_state, state, (size_t)microrpc_int(call, 0));
    if (microrpc_argument_count(call) > 1) microrpc_fail(call, "it failed later");
}

static void give_stateless(microrpc_call_t *call) { microrpc_return_function(call, give_int, NULL, 0); }

static void say_and_give(microrpc_call_t *call) {
    microrpc_return_text(call, "result", 6);
    microrpc_log(microrpc_device(call), "a line");
}

static void fail_twice(microrpc_call_t *call) {
    microrpc_return_int(call, 1);
    microrpc_fail(call, "first");
    microrpc_fail(call, "second");
}

static void fail_empty(microrpc_call_t *call) { microrpc_fail(call, ""); }

static const microrpc_function_t functions[] = {
    MICRORPC_FUNCTION(take_int),      MICRORPC_FUNCTION(take_float),     MICRORPC_FUNCTION(take_text),
    MICRORPC_FUNCTION(take_bytes),    MICRORPC_FUNCTION(take_tensor),    MICRORPC_FUNCTION(take_float32),
    MICRORPC_FUNCTION(take_two),      MICRORPC_FUNCTION(take_last),      MICRORPC_FUNCTION(give_nothing),
    MICRORPC_FUNCTION(give_int),      MICRORPC_FUNCTION(give_float),     MICRORPC_FUNCTION(give_text),
    MICRORPC_FUNCTION(give_bytes),    MICRORPC_FUNCTION(give_no_text),   MICRORPC_FUNCTION(give_tensor),
    MICRORPC_FUNCTION(give_lanes),    MICRORPC_FUNCTION(give_buffer),    MICRORPC_FUNCTION(give_function),
    MICRORPC_FUNCTION(give_stateless), MICRORPC_FUNCTION(say_and_give), MICRORPC_FUNCTION(fail_twice),
    MICRORPC_FUNCTION(fail_empty),
};

static void open(void) {
    microrpc_config_t config = {MICRORPC_FUNCTIONS(functions), .packet_bytes = 256, .nonce = 1};
    host_boot(&host, config, 1024, 0);
    host_begin(&host);
    memset(&seen, 0, sizeof seen);
}

static uint32_t blocks(void) { return host.device->heap.count; }

/* --- arguments ------------------------------------------------------------------------------------------------- */

static void an_int_is_an_int(void) {
    open();
    CHECK_VOID(call(&host, find(&host, "take_int"), "I", INT64_MIN));
    CHECK(seen.whole == INT64_MIN && seen.count == 1 && seen.type == MICRORPC_INT && !seen.has_failed);
    CHECK_EXCEPTION(call(&host, find(&host, "take_int"), "u", 1), "argument 0: Int expected");
    CHECK(seen.whole == 0 && seen.type == MICRORPC_UINT && seen.has_failed);
    CHECK_EXCEPTION(call(&host, find(&host, "take_int"), "f", 1.0), "argument 0: Int expected");
    CHECK_EXCEPTION(call(&host, find(&host, "take_int"), "n"), "argument 0: Int expected");
    CHECK_EXCEPTION(call(&host, find(&host, "take_int"), ""), "argument 0: Int expected");
    CHECK(seen.count == 0 && seen.type == MICRORPC_NULL);
    CHECK_VOID(call(&host, find(&host, "take_int"), "isn", 1, "more is no error"));
    host_close(&host);
}

static void a_float_may_be_an_int(void) {
    open();
    CHECK_VOID(call(&host, find(&host, "take_float"), "f", 0.1));
    CHECK(seen.real >= 0.1 && seen.real <= 0.1);
    CHECK_VOID(call(&host, find(&host, "take_float"), "i", -3));
    CHECK(seen.real >= -3 && seen.real <= -3);
    CHECK_EXCEPTION(call(&host, find(&host, "take_float"), "s", "1.0"), "argument 0: Float expected");
    CHECK_EXCEPTION(call(&host, find(&host, "take_float"), ""), "argument 0: Float expected");
    CHECK(seen.real >= 0 && seen.real <= 0);
    host_close(&host);
}

static void texts_and_bytes_are_two_things(void) {
    blob_t data = blob_of("a\0b", 3), packet;
    open();
    CHECK_VOID(call(&host, find(&host, "take_text"), "s", "text"));
    CHECK_IS(seen.bytes.size, 4);
    CHECK_VOID(call(&host, find(&host, "take_bytes"), "b", &data));
    CHECK_IS(seen.bytes.size, 3);
    CHECK_EXCEPTION(call(&host, find(&host, "take_text"), "b", &data), "argument 0: Str expected");
    CHECK(!seen.bytes.data && !seen.bytes.size);
    CHECK_EXCEPTION(call(&host, find(&host, "take_bytes"), "s", "text"), "argument 0: Bytes expected");
    packet = call_packet(find(&host, "take_text"), "b", &data);
    packet.data[16] = MICRORPC_TEXT;
    CHECK_VOID(ask(&host, packet));
    CHECK_IS(seen.bytes.size, 1); /* as far as its NUL */
    host_close(&host);
}

static void the_first_failure_counts(void) {
    open();
    CHECK_EXCEPTION(call(&host, find(&host, "take_two"), "ss", "text", "text"), "argument 1: Int expected");
    CHECK_EXCEPTION(call(&host, find(&host, "take_two"), "i", 1), "argument 1: Int expected");
    CHECK_EXCEPTION(call(&host, find(&host, "take_two"), "ii", 1, 2), "argument 0: Str expected");
    CHECK_EXCEPTION(call(&host, find(&host, "take_two"), "si", "text", 2), "another failure");
    CHECK_EXCEPTION(call(&host, find(&host, "fail_twice"), ""), "first");
    CHECK_EXCEPTION(call(&host, find(&host, "fail_empty"), ""), "");
    host_close(&host);
}

static void there_may_be_many_arguments_of_all_kinds(void) {
    microrpc_dtype_t dtype = {MICRORPC_DTYPE_INT, 8, 1};
    blob_t data = blob_of("abc", 3);
    tensor_t tensor;
    open();
    tensor = tensor_1d(allocate(&host, 4), MICRORPC_DTYPE_INT, 8, 4);
    CHECK_VOID(call(&host, find(&host, "take_last"), "iufhnydtmFsbi", 1, 2, 3.0, UINT64_C(4), dtype, 1, 0, &tensor,
                    SYSTEM_LIB, STATIC_HANDLE(REGISTRY_GLOBAL, 0), "text", &data, 99));
    CHECK_IS(seen.whole, 99);
    CHECK_VOID(call(&host, find(&host, "take_last"), "nnnnnnnnnnnnnnnnnnnnnnnnnnnnni", 77));
    CHECK_IS(seen.whole, 77);
    host_close(&host);
}

static void a_tensor_lies_in_the_heap(void) {
    uint64_t address;
    tensor_t tensor;
    open();
    address = allocate(&host, 48);
    tensor = tensor_1d(address, MICRORPC_DTYPE_FLOAT, 32, 2);
    tensor.ndim = 2;
    tensor.extents[1] = 3;
    tensor.byte_offset = 8;
    CHECK_VOID(call(&host, find(&host, "take_float32"), "t", &tensor));
    CHECK_IS((uintptr_t)seen.tensor.data, address + 8);
    CHECK_IS(seen.tensor.size_bytes, 24);
    CHECK_IS(seen.tensor.count, 6);
    CHECK_IS(seen.tensor.ndim, 2);
    tensor.extents[0] = 6; /* 72 bytes */
    CHECK_IS(call(&host, find(&host, "take_tensor"), "t", &tensor).data[0], PACKET_EXCEPTION);
    tensor.extents[0] = 0;
    tensor.extents[1] = INT64_MAX; /* none, though its size overflows */
    CHECK_VOID(call(&host, find(&host, "take_tensor"), "t", &tensor));
    CHECK_IS(seen.tensor.count, 0);
    CHECK_IS(seen.tensor.size_bytes, 0);
    tensor.ndim = 0;
    CHECK_VOID(call(&host, find(&host, "take_tensor"), "t", &tensor));
    CHECK_IS(seen.tensor.count, 1);
    CHECK_EXCEPTION(call(&host, find(&host, "take_tensor"), "h", address), "argument 0: Tensor expected");
    CHECK(!seen.tensor.data && !seen.tensor.count);
    CHECK_EXCEPTION(call(&host, find(&host, "take_float32"), ""), "argument 0: float32 expected");
    host_close(&host);
}

static void a_tensor_may_have_many_dimensions(void) {
    tensor_t tensor;
    microrpc_tensor_t view;
    uint8_t extents[16];
    open();
    tensor = tensor_1d(allocate(&host, 64), MICRORPC_DTYPE_INT, 8, 2);
    tensor.ndim = 6;
    for (int i = 0; i < 6; i++) tensor.extents[i] = 2;
    CHECK_VOID(call(&host, find(&host, "take_tensor"), "t", &tensor));
    CHECK_IS(seen.tensor.count, 64);
    tensor.extents[5] = 3;
    CHECK_IS(call(&host, find(&host, "take_tensor"), "t", &tensor).data[0], PACKET_EXCEPTION);
    for (int i = 0; i < 6; i++) tensor.extents[i] = INT64_C(1) << 32;
    CHECK_IS(call(&host, find(&host, "take_tensor"), "t", &tensor).data[0], PACKET_EXCEPTION);
    set_number(extents, 5, 8);
    set_number(extents + 8, 7, 8);
    memset(&view, 0, sizeof view);
    view.ndim = 2;
    view.extents = extents;
    CHECK_IS(microrpc_extent(&view, 0), 5);
    CHECK_IS(microrpc_extent(&view, 1), 7);
    CHECK_IS(microrpc_extent(&view, 2), 1);
    CHECK_IS(microrpc_extent(&view, UINT32_MAX), 1);
    host_close(&host);
}

static void dtypes_are_supported_or_not(void) {
    open();
    {
        uint64_t address = allocate(&host, 512), take = find(&host, "give_nothing");
        for (unsigned code = 0; code < 8; code++) {
            for (unsigned bits = 0; bits < 130; bits++) {
                bool is_whole = bits == 8 || bits == 16 || bits == 32 || bits == 64;
                for (uint16_t lanes = 0; lanes < 4; lanes++) {
                    tensor_t tensor = tensor_1d(address, (microrpc_dtype_code_t)code, (uint8_t)bits, 1);
                    bool is_good = lanes && ((code < 2 && is_whole) || (code == 1 && bits == 1 && lanes == 1) ||
                                             (code == 2 && is_whole && bits != 8) || (code == 4 && bits == 16) ||
                                             (code == 6 && bits == 8));
                    tensor.dtype.lanes = lanes;
                    if (is_good)
                        CHECK_VOID(call(&host, take, "nt", &tensor));
                    else
                        CHECK_EXCEPTION(call(&host, take, "nt", &tensor), "argument 1: the dtype is not supported");
                }
            }
        }
    }
    host_close(&host);
}

static void a_tensor_is_aligned_to_a_lane(void) {
    open();
    {
        uint64_t address = allocate(&host, 32), take = find(&host, "take_tensor");
        for (unsigned bits = 8; bits <= 64; bits *= 2) {
            for (unsigned offset = 0; offset < 16; offset++) {
                tensor_t tensor = tensor_1d(address, MICRORPC_DTYPE_INT, (uint8_t)bits, 1);
                tensor.byte_offset = offset;
                tensor.dtype.lanes = 2;
                if (offset % (bits / 8))
                    CHECK_EXCEPTION(call(&host, take, "t", &tensor), "argument 0: the tensor is not aligned");
                else
                    CHECK_VOID(call(&host, take, "t", &tensor));
            }
        }
    }
    host_close(&host);
}

static void float32_has_one_lane(void) {
    tensor_t tensor;
    open();
    tensor = tensor_1d(allocate(&host, 64), MICRORPC_DTYPE_FLOAT, 32, 2);
    CHECK_VOID(call(&host, find(&host, "take_float32"), "t", &tensor));
    tensor.dtype.lanes = 2;
    CHECK_EXCEPTION(call(&host, find(&host, "take_float32"), "t", &tensor), "argument 0: float32 expected");
    CHECK(!seen.tensor.data && !seen.tensor.count);
    tensor.dtype.lanes = 1;
    tensor.dtype.bits = 64;
    CHECK_EXCEPTION(call(&host, find(&host, "take_float32"), "t", &tensor), "argument 0: float32 expected");
    tensor.dtype.bits = 32;
    tensor.dtype.code = MICRORPC_DTYPE_INT;
    CHECK_EXCEPTION(call(&host, find(&host, "take_float32"), "t", &tensor), "argument 0: float32 expected");
    host_close(&host);
}

static void arguments_are_checked_first_to_last(void) {
    uint64_t bad = UINT64_C(0x8000000300000000);
    tensor_t tensor;
    open();
    tensor = tensor_1d(1, MICRORPC_DTYPE_INT, 8, 1);
    CHECK_EXCEPTION(call(&host, find(&host, "fail_empty"), "tF", &tensor, bad),
                    "1 bytes at 0x1 are not inside an allocated block");
    CHECK_EXCEPTION(call(&host, find(&host, "fail_empty"), "Ft", bad, &tensor),
                    "no function or module has the handle 0x8000000300000000; look it up again");
    CHECK_EXCEPTION(call(&host, find(&host, "fail_empty"), "m", UINT64_C(0)),
                    "no function or module has the handle 0x0; look it up again");
    CHECK_EXCEPTION(call(&host, find(&host, "fail_empty"), "mF", SYSTEM_LIB, STATIC_HANDLE(REGISTRY_GLOBAL, 0)), "");
    CHECK_EXCEPTION(call(&host, find(&host, "fail_empty"), "m", STATIC_HANDLE(REGISTRY_GLOBAL, 0)),
                    "no function or module has the handle 0x8000000000000000; look it up again");
    CHECK_EXCEPTION(call(&host, find(&host, "fail_empty"), "F", SYSTEM_LIB),
                    "no function or module has the handle 0x8000000200000000; look it up again");
    CHECK_EXCEPTION(call(&host, bad, "tF", &tensor, bad),
                    "no function or module has the handle 0x8000000300000000; look it up again");
    host_close(&host);
}

static void what_is_no_function_is_not_called(void) {
    static const uint64_t handles[] = {0, 1, UINT64_C(0x8000000200000000), UINT64_C(0x80000001000000FF),
                                       UINT64_C(0xFFFFFFFFFFFFFFFF), UINT64_C(0xC000000000000000),
                                       UINT64_C(0x8000010000000000)}; /* where an enum has one byte, that were the first */
    uint64_t data;
    open();
    for (size_t i = 0; i < sizeof handles / sizeof handles[0]; i++) {
        blob_t reply = call(&host, handles[i], "");
        CHECK_TEXT(reply.data + 20, 24, "no function or module ha");
    }
    data = allocate(&host, 64); /* data is no function, whatever it holds */
    CHECK_IS(call(&host, data, "").data[0], PACKET_EXCEPTION);
    host_close(&host);
}

/* --- results --------------------------------------------------------------------------------------------------- */

static void results_of_all_kinds_are_exact(void) {
    blob_t reply;
    open();
    reply = call(&host, find(&host, "give_nothing"), "");
    CHECK_HEX(reply.data, reply.size, "04000000 02000000 00000000 04000000 0400000000000000");
    reply = call(&host, find(&host, "give_int"), "");
    CHECK_HEX(reply.data, reply.size, "04000000 02000000 00000000 00000000 0000000000000000 0000000000000080");
    reply = call(&host, find(&host, "give_float"), "");
    CHECK_HEX(reply.data, reply.size, "04000000 02000000 00000000 02000000 0200000000000000 000000000000E0BF");
    reply = call(&host, find(&host, "give_text"), "");
    CHECK_HEX(reply.data, reply.size,
              "04000000 02000000 00000000 0B000000 0B00000000000000 0400000000000000 74657874");
    CHECK_STRING(call(&host, find(&host, "give_bytes"), ""), MICRORPC_BYTES, "bytes");
    CHECK_STRING(call(&host, find(&host, "give_no_text"), ""), MICRORPC_TEXT, "");
    host_close(&host);
}

static void a_tensor_is_returned_with_what_owns_it(void) {
    uint64_t address;
    blob_t reply, want = blob_of("\4\0\0\0\3\0\0\0\0\0\0\0\7\0\0\0\3\0\0\0\x0D\0\0\0\0\0\0\0", 28);
    tensor_t tensor;
    open();
    address = board_heap_address(host.board);
    tensor = tensor_1d(address, MICRORPC_DTYPE_UINT, 8, 2);
    tensor.ndim = 4;
    for (int i = 0; i < 4; i++) tensor.extents[i] = i + 1;
    add_tensor(&want, &tensor);
    add_number(&want, address, 8);
    reply = call(&host, find(&host, "give_tensor"), "iiii", 1, 2, 3, 4);
    CHECK_IS(reply.size, want.size);
    CHECK(!memcmp(reply.data, want.data, want.size));
    CHECK_VOID(call(&host, find(&host, "take_tensor"), "t", &tensor));
    CHECK_IS(((uint8_t *)seen.tensor.data)[0], 1);
    CHECK_IS(ask(&host, packet_of(PACKET_DEV_FREE_DATA, "dh", 1, 0, address)).data[0], PACKET_EXCEPTION);
    CHECK_NONE(ask(&host, packet_of(PACKET_FREE_HANDLE, "hi", address, MICRORPC_NDARRAY)));
    CHECK_IS(blocks(), 0);
    reply = call(&host, find(&host, "give_lanes"), "");
    CHECK_HEX(reply.data + 48, 4, "02 10 04 00");
    CHECK(mrpc_heap_view(host.device, address, 120) && !mrpc_heap_view(host.device, address, 121));
    host_close(&host);
}

static void a_tensor_has_four_dimensions_at_most(void) {
    open();
    CHECK_EXCEPTION(call(&host, find(&host, "give_tensor"), "iiiii", 1, 1, 1, 1, 1), "the result is too long");
    CHECK(seen.has_failed);
    CHECK_EXCEPTION(call(&host, find(&host, "give_tensor"), "is", 1, "x"), "argument 1: Int expected");
    CHECK_EXCEPTION(call(&host, find(&host, "give_tensor"), "iiiis", 1, 1, 1, 1, "x"), "argument 4: Int expected");
    CHECK_IS(blocks(), 0);
    CHECK_EXCEPTION(call(&host, find(&host, "give_tensor"), "i", 2000),
                    "out of memory: 2000 bytes asked for, the largest free block has 1016");
    CHECK_EXCEPTION(call(&host, find(&host, "give_tensor"), "ii", 65536, 65536),
                    "out of memory: 4294967295 bytes asked for, the largest free block has 1016");
    host_close(&host);
}

static void what_a_call_made_goes_if_it_fails(void) {
    open();
    CHECK_EXCEPTION(call(&host, find(&host, "give_tensor"), "i", -8), "it failed later");
    CHECK_IS(blocks(), 0);
    CHECK_EXCEPTION(call(&host, find(&host, "give_function"), "ii", MICRORPC_STATE_BYTES, 1), "it failed later");
    CHECK_IS(blocks(), 0);
    CHECK_IS(call(&host, find(&host, "give_tensor"), "i", 8).data[0], PACKET_RETURN);
    CHECK_IS(blocks(), 1);
    host_close(&host);
}

static void the_result_buffer_is_what_the_request_leaves(void) {
    size_t request = 3 + 8 + 4 + 8 + 4 + 4 + 8, room = 256 - ((request + 7) & ~(size_t)7);
    open();
    CHECK_IS(call(&host, find(&host, "give_buffer"), "i", (int)room).size, 32 + room);
    CHECK_EXCEPTION(call(&host, find(&host, "give_buffer"), "i", (int)room + 1), "the result is too long");
    CHECK(seen.has_failed);
    CHECK_EXCEPTION(call(&host, find(&host, "give_buffer"), "i", -1), "the result is too long");
    CHECK_STRING(call(&host, find(&host, "give_buffer"), "i", 3), MICRORPC_BYTES, "xxx");
    CHECK_STRING(call(&host, find(&host, "give_buffer"), "i", 0), MICRORPC_BYTES, "");
    CHECK_EXCEPTION(call(&host, find(&host, "give_buffer"), "s", "x"), "argument 0: Int expected");
    for (int more = 0; more < 12; more++) { /* aligned, whatever the request is */
        blob_t data = blob_of("123456789012", (size_t)more);
        CHECK_STRING(call(&host, find(&host, "give_buffer"), "ib", 2, &data), MICRORPC_BYTES, "xx");
    }
    host_close(&host);
}

static void a_function_is_returned_with_its_state(void) {
    uint64_t function, other;
    blob_t reply;
    open();
    reply = call(&host, find(&host, "give_function"), "i", MICRORPC_STATE_BYTES);
    function = word_of(&reply);
    CHECK_WORD(reply, MICRORPC_FUNCTION_HANDLE, board_heap_address(host.board));
    reply = call(&host, find(&host, "give_function"), "i", 40); /* the rest of the state is 0 */
    other = word_of(&reply);
    CHECK_WORD(call(&host, function, ""), MICRORPC_INT, 42);
    CHECK_WORD(call(&host, other, ""), MICRORPC_INT, 40);
    CHECK_VOID(call(&host, find(&host, "give_nothing"), "F", function));
    CHECK_EXCEPTION(call(&host, find(&host, "give_function"), "i", MICRORPC_STATE_BYTES + 1), "the result is too long");
    CHECK_IS(blocks(), 2);
    CHECK_NONE(ask(&host, packet_of(PACKET_FREE_HANDLE, "hi", function, MICRORPC_FUNCTION_HANDLE)));
    CHECK_IS(call(&host, function, "").data[0], PACKET_EXCEPTION);
    CHECK_IS(ask(&host, packet_of(PACKET_FREE_HANDLE, "hi", other, MICRORPC_NDARRAY)).data[0], PACKET_EXCEPTION);
    CHECK_IS(ask(&host, packet_of(PACKET_DEV_FREE_DATA, "dh", 1, 0, other)).data[0], PACKET_EXCEPTION);
    reply = call(&host, find(&host, "give_stateless"), "");
    CHECK_WORD(call(&host, word_of(&reply), ""), MICRORPC_INT, INT64_MIN);
    host_close(&host);
}

static void an_object_can_be_neither_read_nor_written(void) {
    uint64_t function;
    blob_t reply;
    tensor_t tensor;
    open();
    reply = call(&host, find(&host, "give_function"), "i", MICRORPC_STATE_BYTES);
    function = word_of(&reply);
    tensor = tensor_1d(function, MICRORPC_DTYPE_INT, 8, 1);
    CHECK_IS(call(&host, find(&host, "take_tensor"), "t", &tensor).data[0], PACKET_EXCEPTION);
    tensor.extents[0] = 0;
    CHECK_IS(call(&host, find(&host, "take_tensor"), "t", &tensor).data[0], PACKET_EXCEPTION);
    host_close(&host);
}

/* The demonstration functions: a loop over nothing ends. */
static void an_empty_product_is_done_at_once(void) {
    tensor_t tall, none;
    host_open(&host, 1024);
    tall = none = tensor_1d(allocate(&host, 4), MICRORPC_DTYPE_FLOAT, 32, 0);
    tall.ndim = none.ndim = 2;
    tall.extents[0] = INT64_C(1) << 31;
    CHECK_VOID(call(&host, find(&host, "matmul_f32"), "ttt", &tall, &none, &tall));
    host_close(&host);
}

static void a_log_does_not_touch_the_result(void) {
    blob_t log;
    open();
    say_packet(&host, call_packet(find(&host, "say_and_give"), ""));
    log = hear_message(&host, 0, MESSAGE_LOG);
    CHECK_TEXT(log.data, log.size, "a line");
    CHECK_STRING(hear_packet(&host), MICRORPC_TEXT, "result");
    host_close(&host);
}

const test_t call_tests[] = {
    TEST(an_int_is_an_int),
    TEST(a_float_may_be_an_int),
    TEST(texts_and_bytes_are_two_things),
    TEST(the_first_failure_counts),
    TEST(there_may_be_many_arguments_of_all_kinds),
    TEST(a_tensor_lies_in_the_heap),
    TEST(a_tensor_may_have_many_dimensions),
    TEST(dtypes_are_supported_or_not),
    TEST(a_tensor_is_aligned_to_a_lane),
    TEST(float32_has_one_lane),
    TEST(arguments_are_checked_first_to_last),
    TEST(what_is_no_function_is_not_called),
    TEST(results_of_all_kinds_are_exact),
    TEST(a_tensor_is_returned_with_what_owns_it),
    TEST(a_tensor_has_four_dimensions_at_most),
    TEST(what_a_call_made_goes_if_it_fails),
    TEST(the_result_buffer_is_what_the_request_leaves),
    TEST(a_function_is_returned_with_its_state),
    TEST(an_object_can_be_neither_read_nor_written),
    TEST(an_empty_product_is_done_at_once),
    TEST(a_log_does_not_touch_the_result),
    TESTS_END,
};
