/* Models: their tables, and running them (docs/models.md 1). */
#include "host.h"
#include "microrpc_model.h"

static host_t host;

#if MICRORPC_MODELS

/* a + b and, told as a layer, a - b; in a second layer nothing that can be had. */
static const uint32_t pair[] = {2}, none[] = {0};
static const microrpc_model_tensor_t inputs[] = {{"a", {MICRORPC_DTYPE_INT, 16, 1}, 1, pair, 0.5f, -1},
                                                 {"b", {MICRORPC_DTYPE_INT, 16, 1}, 1, pair, 0, 0}};
static const microrpc_model_tensor_t output = {"sum", {MICRORPC_DTYPE_INT, 16, 1}, 1, pair, 0, 0};
static const microrpc_model_layer_t layers[] = {
    {"subtract", {"difference", {MICRORPC_DTYPE_INT, 16, 1}, 1, pair, 0, 0}},
    {"add", {NULL, {0, 0, 0}, 0, NULL, 0, 0}},
    {"never", {"nothing", {MICRORPC_DTYPE_INT, 16, 1}, 1, pair, 0, 0}},
};

static const char *failure;

static const char *run_sum(const microrpc_model_t *model, const void *const *in, void *const *out,
                           microrpc_model_run_t *run) {
    const int16_t *a = in[0], *b = in[1];
    int16_t *sum = out[0], difference[2];
    CHECK(model->context == layers);
    for (int i = 0; i < 2; i++) difference[i] = (int16_t)(a[i] - b[i]);
    microrpc_model_layer_done(run, 0, difference);
    for (int i = 0; i < 2; i++) sum[i] = (int16_t)(a[i] + b[i]);
    microrpc_model_layer_done(run, 1, NULL);
    microrpc_model_layer_done(run, 3, sum); /* there is none */
    microrpc_model_layer_done(NULL, 0, sum);
    return failure;
}

static const microrpc_model_t sums = {
    .name = "sums",
    .hash = UINT64_C(0x0102030405060708),
    .inputs = inputs,
    .outputs = &output,
    .layers = layers,
    .input_count = 2,
    .output_count = 1,
    .layer_count = 3,
    .weights_bytes = 1,
    .arena_bytes = 2,
    .workspace_bytes = 3,
    .run = run_sum,
    .context = layers,
};

/* One whose layer is done twice, and that takes and gives what has no elements. */
static const char *run_empty(const microrpc_model_t *model, const void *const *in, void *const *out,
                             microrpc_model_run_t *run) {
    static const int16_t first[] = {1, 2}, second[] = {3, 4};
    (void)model, (void)in, (void)out;
    microrpc_model_layer_done(run, 0, first);
    microrpc_model_layer_done(run, 0, second);
    return NULL;
}

static const microrpc_model_tensor_t empty = {"a_name_that_is_so_long_that_it_leaves_no_room_for_its_shape",
                                              {MICRORPC_DTYPE_UINT, 1, 1}, 1, none, 0, 0};
static const microrpc_model_tensor_t odd[] = {{"s", {MICRORPC_DTYPE_BFLOAT, 16, 3}, 0, NULL, 0, 0},
                                              {"c", {9, 8, 1}, 1, pair, 0, 0}};
static const microrpc_model_t nothing = {.inputs = &empty,
                                         .outputs = &empty,
                                         .layers = layers,
                                         .input_count = 1,
                                         .output_count = 1,
                                         .layer_count = 1,
                                         .run = run_empty};
static const microrpc_model_t oddity = {
    .inputs = odd, .outputs = odd + 1, .input_count = 1, .output_count = 1, .run = run_empty};
static const microrpc_model_t *const models[] = {&sums, &nothing, &oddity, NULL};

static void open(uint32_t packet_bytes, uint32_t step_us) {
    microrpc_config_t config = {.packet_bytes = packet_bytes, .nonce = 1, .models = models, .model_count = 4};
    failure = NULL;
    host_boot(&host, config, 1024, step_us);
    host_begin(&host);
}

#define MODELS (STATIC_HANDLE(REGISTRY_GLOBAL, RUNTIME_FUNCTIONS) - 4)
#define RUN (MODELS + 1)
#define PROFILE (MODELS + 2)
#define LAYER (MODELS + 3)

static const uint8_t whole[] = {
    1,    4,    0,    's', 'u', 'm', 's', 8,   7,   6,   5,   4,   3,   2,   1,        /* version, name, hash */
    1,    0,    0,    0,   2,   0,   0,   0,   3,   0,   0,   0,                       /* weights, arena, workspace */
    2,    0,    1,    0,   3,   0,                                                     /* counts */
    1,    0,    'a',  0,   16,  1,   0,   1,   2,   0,   0,   0,   0,   0,   0,   0x3F, /* a: scale 0.5 */
    0xFF, 0xFF, 0xFF, 0xFF,                                                            /* zero point -1 */
    1,    0,    'b',  0,   16,  1,   0,   1,   2,   0,   0,   0,   0,   0,   0,   0,   0, 0, 0, 0,
    3,    0,    's',  'u', 'm', 0,   16,  1,   0,   1,   2,   0,   0,   0,   0,   0,   0, 0, 0, 0, 0, 0,
    8,    0,    's',  'u', 'b', 't', 'r', 'a', 'c', 't',
    10,   0,    'd',  'i', 'f', 'f', 'e', 'r', 'e', 'n', 'c', 'e',
    0,    16,   1,    0,   1,   2,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,
    3,    0,    'a',  'd', 'd', 0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0, 0, 0, 0,
    5,    0,    'n',  'e', 'v', 'e', 'r',
    7,    0,    'n',  'o', 't', 'h', 'i', 'n', 'g',
    0,    16,   1,    0,   1,   2,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,
};
#define WHOLE_BYTES (sizeof whole)
#define ENVELOPE 56u /* of a call with two Ints, as much as it takes of the receive buffer */

static void check_page(uint64_t offset, size_t most_bytes) {
    blob_t page = call(&host, MODELS, "iI", 0, (int64_t)offset);
    size_t size = offset < WHOLE_BYTES ? WHOLE_BYTES - (size_t)offset : 0;
    if (size > most_bytes) size = most_bytes;
    CHECK_IS(page.size, 32 + size);
    CHECK_IS(number_at(&page, 16, 8), MICRORPC_BYTES);
    CHECK_IS(number_at(&page, 24, 8), size);
    CHECK(!memcmp(page.data + 32, whole + (size ? offset : 0), size));
}

static void the_table_of_a_model_is_told_to_the_byte(void) {
    open(512, 0);
    CHECK_IS(find_global(&host, "microrpc.models"), MODELS);
    CHECK_IS(find_global(&host, "microrpc.model.layer"), LAYER);
    check_page(0, 512);
    host_close(&host);
}

static void a_page_of_a_table_begins_anywhere(void) {
    open(512, 0);
    for (uint64_t offset = 0; offset <= WHOLE_BYTES + 2; offset++) check_page(offset, 512);
    check_page(UINT32_MAX, 0);
    check_page(UINT64_C(1) << 32, 0);
    check_page((uint64_t)-1, 0);
    host_close(&host);
}

static void a_page_of_a_table_takes_what_the_request_leaves_of_the_buffer(void) {
    for (uint32_t packet_bytes = 128; packet_bytes < 300; packet_bytes++) {
        open(packet_bytes, 0);
        check_page(0, packet_bytes - ENVELOPE);
        check_page(packet_bytes - ENVELOPE, packet_bytes - ENVELOPE);
        host_close(&host);
    }
}

static void there_is_no_table_of_what_is_no_model(void) {
    open(512, 0);
    CHECK_VOID(call(&host, MODELS, "ii", 3, 0)); /* NULL stands there */
    CHECK_VOID(call(&host, MODELS, "ii", 4, 0));
    CHECK_VOID(call(&host, MODELS, "ii", -1, 0));
    CHECK_VOID(call(&host, MODELS, "Ii", (int64_t)1 << 32, 0));
    CHECK_EXCEPTION(call(&host, MODELS, ""), "argument 0: Int expected");
    CHECK_EXCEPTION(call(&host, MODELS, "is", 0, "x"), "argument 1: Int expected");
    host_close(&host);
}

/* --- running ---------------------------------------------------------------------------------------------------- */

static int16_t *memory_of(uint64_t address) { return (int16_t *)(uintptr_t)address; }

/* Four blocks of two int16, 8 bytes apart at least: a, b, where the sum goes, and more. */
static tensor_t tensors[4];

static void make_tensors(void) {
    for (int i = 0; i < 4; i++) {
        tensors[i] = tensor_1d(allocate(&host, 4), MICRORPC_DTYPE_INT, 16, 2);
        memory_of(tensors[i].address)[0] = (int16_t)(10 * (i + 1));
        memory_of(tensors[i].address)[1] = (int16_t)(i + 1);
    }
}

#define TENSORS tensors, tensors + 1, tensors + 2

static void check_pair(int index, int first, int second) {
    CHECK_IS(memory_of(tensors[index].address)[0], first);
    CHECK_IS(memory_of(tensors[index].address)[1], second);
}

static void a_model_runs(void) {
    open(512, 0);
    make_tensors();
    CHECK_VOID(call(&host, RUN, "ittt", 0, TENSORS));
    check_pair(0, 10, 1);
    check_pair(1, 20, 2);
    check_pair(2, 30, 3);
    host_close(&host);
}

static void a_profile_has_the_time_of_each_layer(void) {
    blob_t profile;
    open(512, 1000);
    make_tensors();
    board_wait(host.board, UINT32_MAX - board_time_us(host.board) - 1500); /* the clock runs over meanwhile */
    profile = call(&host, PROFILE, "ittt", 0, TENSORS);
    CHECK_IS(profile.size, 32 + 16);
    CHECK_IS(number_at(&profile, 16, 8), MICRORPC_BYTES);
    CHECK_IS(number_at(&profile, 32, 4), 5000); /* five looks at the clock after the first one */
    CHECK_IS(number_at(&profile, 36, 4), 1000);
    CHECK_IS(number_at(&profile, 40, 4), 1000);
    CHECK_IS(number_at(&profile, 44, 4), 0);
    check_pair(2, 30, 3);
    profile = call(&host, PROFILE, "ittt", 0, TENSORS);
    CHECK_IS(number_at(&profile, 32, 4), 5000);
    host_close(&host);
}

static void the_times_of_a_layer_that_is_done_twice_are_added_up(void) {
    tensor_t none_in, none_out;
    blob_t profile;
    open(512, 1000);
    make_tensors();
    none_in = none_out = tensor_1d(tensors[0].address, MICRORPC_DTYPE_UINT, 1, 0);
    profile = call(&host, PROFILE, "itt", 1, &none_in, &none_out); /* what is empty shares no memory */
    CHECK_IS(profile.size, 32 + 8);
    CHECK_IS(number_at(&profile, 36, 4), 2000);
    CHECK_VOID(call(&host, LAYER, "iittt", 1, 0, tensors + 3, &none_in, &none_out));
    check_pair(3, 3, 4);
    host_close(&host);
}

static void a_profile_needs_a_clock(void) {
    microrpc_config_t *config;
    open(512, 0);
    make_tensors();
    config = (microrpc_config_t *)(uintptr_t)host.device->config;
    config->now_us = NULL;
    CHECK_EXCEPTION(call(&host, PROFILE, "ittt", 0, TENSORS), "this board has no clock");
    CHECK_VOID(call(&host, RUN, "ittt", 0, TENSORS));
    check_pair(2, 30, 3);
    host_close(&host);
}

static void the_output_of_a_layer_is_copied(void) {
    open(512, 0);
    make_tensors();
    CHECK_VOID(call(&host, LAYER, "iitttt", 0, 0, tensors + 3, TENSORS));
    check_pair(3, -10, -1);
    check_pair(2, 30, 3);
    CHECK_EXCEPTION(call(&host, LAYER, "iitttt", 0, 1, tensors + 3, TENSORS), "the output of this layer cannot be had");
    CHECK_EXCEPTION(call(&host, LAYER, "iitttt", 0, 2, tensors + 3, TENSORS), "the output of this layer cannot be had");
    CHECK_EXCEPTION(call(&host, LAYER, "iitttt", 0, 3, tensors + 3, TENSORS), "there is no such layer: there are 3");
    CHECK_EXCEPTION(call(&host, LAYER, "iitttt", 0, -1, tensors + 3, TENSORS), "there is no such layer: there are 3");
    CHECK_EXCEPTION(call(&host, LAYER, "iItttt", 0, (int64_t)65536, tensors + 3, TENSORS),
                    "there is no such layer: there are 3");
    CHECK_EXCEPTION(call(&host, LAYER, "istttt", 0, "x", tensors + 3, TENSORS), "argument 1: Int expected");
    CHECK_EXCEPTION(call(&host, LAYER, "iitttt", 4, 0, tensors + 3, TENSORS), "there is no such model: there are 4");
    host_close(&host);
}

static void what_a_model_says_is_the_exception(void) {
    open(512, 0);
    make_tensors();
    failure = "the moon is not full";
    CHECK_EXCEPTION(call(&host, RUN, "ittt", 0, TENSORS), "the moon is not full");
    CHECK_EXCEPTION(call(&host, PROFILE, "ittt", 0, TENSORS), "the moon is not full");
    CHECK_EXCEPTION(call(&host, LAYER, "iitttt", 0, 0, tensors + 3, TENSORS), "the moon is not full");
    host_close(&host);
}

/* --- what is wrong ---------------------------------------------------------------------------------------------- */

static void a_wrong_tensor_is_told_with_what_is_expected(void) {
    tensor_t wrong;
    open(512, 0);
    make_tensors();
    wrong = tensors[0];
    wrong.extents[0] = 1;
    CHECK_EXCEPTION(call(&host, RUN, "ittt", 0, &wrong, tensors + 1, tensors + 2), "argument 1: a: int16[2] expected");
    wrong = tensors[1];
    wrong.dtype.code = MICRORPC_DTYPE_UINT;
    CHECK_EXCEPTION(call(&host, RUN, "ittt", 0, tensors, &wrong, tensors + 2), "argument 2: b: int16[2] expected");
    wrong = tensors[2];
    wrong.ndim = 2;
    wrong.extents[1] = 1;
    CHECK_EXCEPTION(call(&host, RUN, "ittt", 0, tensors, tensors + 1, &wrong), "argument 3: sum: int16[2] expected");
    wrong.ndim = 1;
    wrong.dtype.lanes = 2;
    wrong.extents[0] = 1;
    CHECK_EXCEPTION(call(&host, LAYER, "iitttt", 0, 0, &wrong, TENSORS), "argument 2: difference: int16[2] expected");
    CHECK_EXCEPTION(call(&host, RUN, "itit", 0, tensors, 5, tensors + 2), "argument 2: b: int16[2] expected");
    CHECK_EXCEPTION(call(&host, RUN, "itnt", 0, tensors, tensors + 2), "argument 2: b: int16[2] expected");
    CHECK_EXCEPTION(call(&host, RUN, "itt", 2, tensors, tensors + 1), "argument 1: s: bfloat16x3[] expected");
    host_close(&host);
}

static void what_is_expected_is_cut_where_it_is_long(void) {
    open(512, 0);
    make_tensors();
    CHECK_EXCEPTION(call(&host, RUN, "itt", 1, tensors, tensors + 1),
                    "argument 1: a_name_that_is_so_long_that_it_leaves_no_room_for_its_shape:... expected");
    host_close(&host);
}

static void a_model_has_so_many_arguments(void) {
    open(512, 0);
    make_tensors();
    CHECK_EXCEPTION(call(&host, RUN, "itt", 0, tensors, tensors + 1), "4 arguments expected, not 3");
    CHECK_EXCEPTION(call(&host, PROFILE, "itttt", 0, TENSORS, tensors + 3), "4 arguments expected, not 5");
    CHECK_EXCEPTION(call(&host, LAYER, "iittt", 0, 0, TENSORS), "6 arguments expected, not 5");
    CHECK_EXCEPTION(call(&host, RUN, ""), "argument 0: Int expected");
    CHECK_EXCEPTION(call(&host, RUN, "tttt", TENSORS, tensors + 3), "argument 0: Int expected");
    CHECK_EXCEPTION(call(&host, RUN, "ittt", 3, TENSORS), "there is no such model: there are 4");
    CHECK_EXCEPTION(call(&host, RUN, "ittt", -1, TENSORS), "there is no such model: there are 4");
    host_close(&host);
}

static void what_is_written_to_shares_no_memory(void) {
    tensor_t shifted;
    open(512, 0);
    make_tensors();
    CHECK_VOID(call(&host, RUN, "ittt", 0, tensors, tensors, tensors + 2)); /* inputs may */
    check_pair(2, 20, 2);
    CHECK_EXCEPTION(call(&host, RUN, "ittt", 0, tensors, tensors + 1, tensors),
                    "argument 3 shares memory with another one");
    CHECK_EXCEPTION(call(&host, LAYER, "iitttt", 0, 0, tensors + 1, TENSORS),
                    "argument 4 shares memory with another one");
    CHECK_EXCEPTION(call(&host, LAYER, "iitttt", 0, 0, tensors + 2, TENSORS),
                    "argument 5 shares memory with another one");
    tensors[0].address = allocate(&host, 8);
    shifted = tensors[0];
    shifted.byte_offset = 2;
    CHECK_EXCEPTION(call(&host, RUN, "ittt", 0, tensors, tensors + 1, &shifted),
                    "argument 3 shares memory with another one");
    shifted.byte_offset = 4;
    CHECK_VOID(call(&host, RUN, "ittt", 0, tensors, tensors + 1, &shifted));
    host_close(&host);
}

static void a_model_needs_room_behind_its_request(void) {
    open(256, 0);
    make_tensors();
    CHECK_VOID(call(&host, RUN, "ittt", 0, TENSORS)); /* which takes 192 bytes */
    host_close(&host);
    open(200, 0);
    make_tensors();
    CHECK_EXCEPTION(call(&host, RUN, "ittt", 0, TENSORS), "the result is too long");
    host_close(&host);
}

const test_t model_tests[] = {
    TEST(the_table_of_a_model_is_told_to_the_byte),
    TEST(a_page_of_a_table_begins_anywhere),
    TEST(a_page_of_a_table_takes_what_the_request_leaves_of_the_buffer),
    TEST(there_is_no_table_of_what_is_no_model),
    TEST(a_model_runs),
    TEST(a_profile_has_the_time_of_each_layer),
    TEST(the_times_of_a_layer_that_is_done_twice_are_added_up),
    TEST(a_profile_needs_a_clock),
    TEST(the_output_of_a_layer_is_copied),
    TEST(what_a_model_says_is_the_exception),
    TEST(a_wrong_tensor_is_told_with_what_is_expected),
    TEST(what_is_expected_is_cut_where_it_is_long),
    TEST(a_model_has_so_many_arguments),
    TEST(what_is_written_to_shares_no_memory),
    TEST(a_model_needs_room_behind_its_request),
    TESTS_END,
};

#else

static void models_are_left_out(void) {
    host_open(&host, 1024);
    CHECK_IS(find_global(&host, "microrpc.models"), 0);
    CHECK_IS(find_global(&host, "microrpc.model.run"), 0);
    host_close(&host);
}

const test_t model_tests[] = {
    TEST(models_are_left_out),
    TESTS_END,
};

#endif
