/* From the reset to main(), the part that is the same on all CPUs. */
#ifndef START_H
#define START_H

#include <stdint.h>

/* Lay out the RAM as C expects it and run main(). The stack must be there. With -flto it and main() would become part of
 * what calls it: where an FPU is still off, and of a stack that is still to be painted. */
__attribute__((noreturn, noinline)) void start(void);

/* Reset the board: its host learns of it by the boot message. */
__attribute__((noreturn)) void start_again(void);

/* The size of the stack, and the most that was ever used of it, in bytes (MICRORPC_MEMORY). */
void start_measure_stack(void *port, uint32_t *size_bytes, uint32_t *most_used_bytes);

int main(void);

#endif
