/* What a port's program serves: the system library, and more for the global registry. */
#ifndef FUNCTIONS_H
#define FUNCTIONS_H

#include "microrpc.h"
#include "microrpc_model.h"

extern const microrpc_function_t board_functions[];
extern const size_t board_function_count;
extern const microrpc_function_t board_global_functions[];
extern const size_t board_global_function_count;

#if MICRORPC_MODELS
/* What it has of models, by their numbers. They need not be there. */
extern const microrpc_model_t *const board_models[];
extern const size_t board_model_count;
#endif

/* Who it is, as hosts show it where the library is built to describe itself. */
extern const char board_firmware_name[];
extern const char board_firmware_version[];

/* What the board does besides serving, as looking at a sensor and telling events: called in each turn of the main loop of
 * the bare-metal boards and of `posix`, with the board's time in microseconds. True: again soon; false: it may sleep until
 * something comes. Nothing is answered while it runs. It need not be there. */
bool board_loop(microrpc_t *device, uint32_t now_us);

#endif
