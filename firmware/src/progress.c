/* Functions that take long: how far they have come, and whether the host still wants them (docs/link.md 9). */
#include "microrpc_internal.h"

#if MICRORPC_PROGRESS

#define MOST_READS 64u /* at once: however much the line brings, the function goes on */

void microrpc_progress(microrpc_call_t *call, uint32_t done, uint32_t total) {
    microrpc_t *device = call->device;
    uint32_t body[3];
    if (!device->pull.kind || device->pull.is_quiet) return;
    body[0] = (uint32_t)device->link.last_seq << 16; /* little-endian, as on the wire */
    body[1] = done;
    body[2] = total;
    mrpc_session_tell(device, MESSAGE_PROGRESS, (const uint8_t *)body + 2, sizeof body - 2);
}

bool microrpc_is_cancelled(microrpc_call_t *call) {
    microrpc_t *device = call->device;
    const microrpc_config_t *config = device->config;
    mrpc_pull_t *pull = &device->pull;
    uint8_t *buffer = device->buffer;
    size_t received_bytes = device->received_bytes, size = pull->rest_bytes;
    const uint8_t *at = pull->rest;
    unsigned reads = MOST_READS;
    uint8_t bytes[16];
    if (!config->read) return false;
    pull->is_on = true;
    device->buffer = pull->payload;
    do {
        mrpc_frame_receive(device, at, size);
        at = bytes;
        if (!reads--) break;
        size = config->read(config->port, bytes, sizeof bytes);
    } while (size - 1 < sizeof bytes); /* more than there is room for is an error of the port's: none came */
    device->received_bytes = received_bytes;
    device->buffer = buffer;
    pull->is_on = false;
    return pull->cancelled != 0;
}

#endif
