/* What the board tells of itself (docs/description.md). */
#include "microrpc_internal.h"

#if MICRORPC_DESCRIBE

/* Goes over the description: puts what lies in the page there, or without a page takes the crc32 of it all. */
typedef struct {
    mrpc_page_t page;
    uint32_t crc;
} teller_t;

static void tell_byte(teller_t *teller, char byte) {
    mrpc_page_put(&teller->page, (uint8_t)byte);
    if (!teller->page.page) teller->crc = mrpc_crc32(teller->crc, &byte, 1);
}

/* A field, and what ends it; or where that is 0, a text as it is. */
static void tell(teller_t *teller, const char *text, char end) {
    for (; text && *text; text++) tell_byte(teller, end && (*text == '\t' || *text == '\n') ? ' ' : *text);
    if (end) tell_byte(teller, end);
}

/* The same of a text of a table. */
#if MICRORPC_TABLES_IN_FLASH
static void tell_entry(teller_t *teller, const char *text, char end) {
    char byte;
    while ((byte = (char)flash8(text++)) != 0) tell_byte(teller, byte == '\t' || byte == '\n' ? ' ' : byte);
    tell_byte(teller, end);
}
#else
#define tell_entry tell
#endif

static void tell_functions(teller_t *teller, const microrpc_function_t *function, size_t count) {
    for (; count; function++, count--) {
        tell_entry(teller, function->name, '\t');
        tell_entry(teller, function->signature, '\t');
        tell_entry(teller, function->doc, '\n');
    }
}

/* All that the hash is of. */
static void tell_body(teller_t *teller, const microrpc_t *device) {
    const microrpc_config_t *config = device->config;
    tell(teller, config->board_name, '\t');
    tell(teller, config->firmware_name, '\t');
    tell(teller, config->firmware_version, '\n');
    tell_functions(teller, config->functions, config->function_count);
    tell_functions(teller, config->global_functions, config->global_function_count);
}

void mrpc_describe_start(microrpc_t *device) {
    teller_t teller;
    memset(&teller, 0, sizeof teller);
    tell_body(&teller, device);
    device->description_hash = teller.crc;
    device->description_bytes = teller.page.told;
}

void mrpc_describe(microrpc_call_t *call) {
    microrpc_t *device = call->device;
    teller_t teller;
    if (!mrpc_page_begin(call, &teller.page, 0)) return;
    tell(&teller, "microrpc\t1\t", 0);
    /* A 1 before the hash keeps its zeros. The text is no failure, but made as those are. */
    mrpc_fail_with(device, TEXT_OF_DESCRIPTION, UINT64_C(1) << 32 | device->description_hash,
                   device->description_bytes);
    tell(&teller, device->text + 1, 0);
    tell_body(&teller, device);
    mrpc_page_return(call, &teller.page);
}

#endif
