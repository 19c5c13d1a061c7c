/* Whether the host is there (docs/link.md 10). */
#include "microrpc_internal.h"

#if HAS_PRESENCE

static void tell(microrpc_t *device, bool is_there) {
    const microrpc_config_t *config = device->config;
    device->presence.is_there = is_there;
    if (config->on_session) config->on_session(config->port, is_there);
}

uint16_t mrpc_host_timeout_ms(const microrpc_t *device) {
    const microrpc_config_t *config = device->config;
    return config->now_us && config->on_session ? config->host_timeout_ms : 0;
}

void mrpc_presence_session(microrpc_t *device, bool begins) {
    device->presence.silent_us = 0;
    if (device->presence.is_there) tell(device, false);
    if (begins) tell(device, true);
}

void mrpc_presence_heard(microrpc_t *device) {
    device->presence.silent_us = 0;
    if (!device->presence.is_there) tell(device, true);
}

static uint32_t now_us(const microrpc_t *device) { return device->config->now_us(device->config->port); }

/* From the last time on; a longer pause was one of the firmware, which did not read its port. */
void mrpc_presence_before(microrpc_t *device) {
    mrpc_presence_t *presence = &device->presence;
    uint32_t most_us = mrpc_host_timeout_ms(device) * UINT32_C(250), waited_us;
    if (!most_us) return;
    waited_us = now_us(device) - presence->read_us;
    presence->silent_us += waited_us < most_us ? waited_us : most_us;
}

/* What came may have been a message, and what it asked for may have taken long. */
void mrpc_presence_after(microrpc_t *device) {
    mrpc_presence_t *presence = &device->presence;
    uint32_t timeout_us = mrpc_host_timeout_ms(device) * UINT32_C(1000);
    if (!timeout_us) return;
    if (presence->is_there && presence->silent_us >= timeout_us) tell(device, false);
    presence->read_us = now_us(device);
}

#endif
