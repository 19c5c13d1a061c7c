/* The least program around the core, so that the linker keeps what any program needs of it, and nothing else. */
#include "microrpc_internal.h"

void _start(void);

/* All the RAM that the core takes for itself, with the least cache for a reply. */
char core_state[sizeof(microrpc_t) + 64];

#define PROGRAM __attribute__((section(".program")))
#define PROGRAM_DATA __attribute__((section(".program_data")))
#define MEMORY __attribute__((section(".memory")))

MEMORY static uint64_t memory[1024];
MEMORY static volatile uint8_t line;

PROGRAM static void write_line(void *port, const uint8_t *bytes, size_t size) {
    (void)port;
    while (size--) line = *bytes++;
}

PROGRAM static void add(microrpc_call_t *call) {
    microrpc_return_int(call, microrpc_int(call, 0) + microrpc_int(call, 1));
}

PROGRAM void _start(void) {
    PROGRAM_DATA static const microrpc_function_t functions[] = {MICRORPC_FUNCTION(add)};
    PROGRAM_DATA static const microrpc_config_t config = {
        .write = write_line, MICRORPC_FUNCTIONS(functions), .packet_bytes = 2048, .ring_bytes = 2148};
    microrpc_t *device = microrpc_start(memory, sizeof memory, &config);
    core_state[0] = 1;
    for (;;) {
        uint8_t byte = line;
        microrpc_receive(device, &byte, 1);
    }
}
