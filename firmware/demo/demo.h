/* Demonstration functions, the same as the simulator's (firmware_sim/demo.py). */
#ifndef MICRORPC_DEMO_H
#define MICRORPC_DEMO_H

#include "microrpc.h"

extern const microrpc_function_t microrpc_demo_functions[];
extern const size_t microrpc_demo_function_count;
extern const microrpc_function_t microrpc_demo_global_functions[];
extern const size_t microrpc_demo_global_function_count;

#endif
