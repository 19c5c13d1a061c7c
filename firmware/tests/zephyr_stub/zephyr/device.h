#ifndef ZEPHYR_DEVICE_H
#define ZEPHYR_DEVICE_H

#include <stdbool.h>

struct device {
    const char *name;
};

/* -D STUB_HAS_microrpc_uart=1: the devicetree chooses one. */
#define DT_HAS_CHOSEN(name) STUB_HAS_##name
#define DT_CHOSEN(name) stub_##name
#define DEVICE_DT_GET(node) (&node)

extern const struct device stub_zephyr_console, stub_microrpc_uart;

bool device_is_ready(const struct device *device);

#endif
