/* Lines of the log with a level and a time before them (docs/device.md 5). */
#include "microrpc_internal.h"

void microrpc_log_at(microrpc_t *device, microrpc_level_t level, const char *text) {
    static const char prefix[] = "[L ----.------] ";
    const microrpc_config_t *config = device->config;
    uint8_t header[HEADER_BYTES + sizeof prefix - 1] = {0, 0, MESSAGE_LOG};
    memcpy(header + HEADER_BYTES, prefix, sizeof prefix - 1);
    header[HEADER_BYTES + 1] = (uint8_t)"DIWE"[level & 3];
    if (config->now_us) {
        uint64_t us = config->now_us(config->port);
        for (uint8_t *at = header + sizeof header; --at > header + HEADER_BYTES + 2;)
            if (*at == '-') *at = (uint8_t)('0' + mrpc_divide(&us, 10));
    }
    mrpc_frame_send(device, header, sizeof header, text, mrpc_length(text));
}
