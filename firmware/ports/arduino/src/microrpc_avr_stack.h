/* How much of an AVR's stack was ever used, for the memory report. */
#ifndef MICRORPC_AVR_STACK_H
#define MICRORPC_AVR_STACK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* `stack` of a microrpc_config_t. What lies between the variables and the end of RAM is the stack's, but for what the
 * sketch takes of it by malloc(). */
void microrpc_avr_stack(void *port, uint32_t *size_bytes, uint32_t *most_used_bytes);

#ifdef __cplusplus
}
#endif

#endif
