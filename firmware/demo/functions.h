/* What a port's program serves: the system library, and more for the global registry. */
#ifndef FUNCTIONS_H
#define FUNCTIONS_H

#include "microrpc.h"

extern const microrpc_function_t board_functions[];
extern const size_t board_function_count;
extern const microrpc_function_t board_global_functions[];
extern const size_t board_global_function_count;

/* Who it is, as hosts show it where the library is built to describe itself. */
extern const char board_firmware_name[];
extern const char board_firmware_version[];

#endif
