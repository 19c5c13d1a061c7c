/* What the board tells of itself (docs/description.md). */
#include "microrpc_internal.h"

#if MICRORPC_DESCRIBE

#define LEAST_PAGE_BYTES 32u

/* Goes over the description: puts what lies in the page there, or without a page takes the crc32 of it all. */
typedef struct {
    uint8_t *page;
    uint32_t offset, size; /* of the page */
    uint32_t told;         /* bytes so far */
    uint32_t crc;
} teller_t;

static void tell_byte(teller_t *teller, char byte) {
    uint32_t at = teller->told++ - teller->offset;
    if (!teller->page)
        teller->crc = mrpc_crc32(teller->crc, &byte, 1);
    else if (at < teller->size)
        teller->page[at] = (uint8_t)byte;
}

/* A field, and what ends it; or where that is 0, a text as it is. */
static void tell(teller_t *teller, const char *text, char end) {
    for (; text && *text; text++) tell_byte(teller, end && (*text == '\t' || *text == '\n') ? ' ' : *text);
    if (end) tell_byte(teller, end);
}

/* All that the hash is of. */
static void tell_body(teller_t *teller, const microrpc_t *device) {
    const microrpc_config_t *config = device->config;
    const microrpc_function_t *function;
    uint32_t registry = REGISTRY_SYSTEM, index = 0;
    tell(teller, config->board_name, '\t');
    tell(teller, config->firmware_name, '\t');
    tell(teller, config->firmware_version, '\n');
    for (;;) {
        if ((function = mrpc_function_at(device, registry, index++)) != NULL) {
            tell(teller, function->name, '\t');
            tell(teller, function->signature, '\t');
            tell(teller, function->doc, '\n');
        } else if (registry == REGISTRY_SYSTEM) {
            registry = REGISTRY_GLOBAL;
            index = RUNTIME_FUNCTIONS;
        } else {
            break;
        }
    }
}

void mrpc_describe_start(microrpc_t *device) {
    teller_t teller;
    memset(&teller, 0, sizeof teller);
    tell_body(&teller, device);
    device->description_hash = teller.crc;
    device->description_bytes = teller.told;
}

void mrpc_describe(microrpc_call_t *call) {
    microrpc_t *device = call->device;
    uint64_t offset = (uint64_t)microrpc_int(call, 0); /* a negative one is past the end */
    uint8_t *page = microrpc_result_buffer(call, 0);
    uint32_t left;
    teller_t teller;
    if (call->has_failed) return;
    teller.page = page;
    teller.offset = offset >> 32 ? UINT32_MAX : (uint32_t)offset;
    teller.size = (uint32_t)(device->buffer + device->config->packet_bytes - page);
    teller.told = 0;
    tell(&teller, "microrpc\t1\t", 0);
    /* A 1 before the hash keeps its zeros. The text is no failure, but made as those are. */
    mrpc_fail_with(device, TEXT_OF_DESCRIPTION, UINT64_C(1) << 32 | device->description_hash,
                   device->description_bytes);
    tell(&teller, device->text + 1, 0);
    tell_body(&teller, device);
    left = teller.offset < teller.told ? teller.told - teller.offset : 0;
    /* There must be room for as much as this. */
    microrpc_result_buffer(call, (size_t)(left < LEAST_PAGE_BYTES ? left : LEAST_PAGE_BYTES));
    microrpc_return_bytes(call, page, (size_t)(left < teller.size ? left : teller.size));
}

#endif
