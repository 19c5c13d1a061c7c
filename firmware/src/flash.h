/* Constants in flash. On an AVR they are in RAM unless they are told to stay where they are, and are then read by other
 * instructions (MICRORPC_TABLES_IN_FLASH of microrpc.h). Elsewhere all of this is what it is without. */
#ifndef MICRORPC_FLASH_H
#define MICRORPC_FLASH_H

#include "microrpc.h"

/* What an entry of a table of functions begins with, and all that those of the runtime's own functions have: they are
 * not described. It is looked up in tables of either type. */
typedef struct MICRORPC_TABLE_TYPE __attribute__((__may_alias__)) {
    MICRORPC_TABLE_TEXT(name, MICRORPC_NAME_BYTES);
    microrpc_handler_t handler;
} mrpc_entry_t;

#if MICRORPC_TABLES_IN_FLASH

#include <avr/pgmspace.h>

#define IN_FLASH __attribute__((__progmem__))
/* The address of a text, within a function. */
#define FLASH_TEXT(text) (__extension__({static const char in_flash[] IN_FLASH = text; &in_flash[0]; }))
#define flash8(at) pgm_read_byte(at)
#define flash16(at) pgm_read_word(at)
#define flash32(at) pgm_read_dword(at)

static inline microrpc_handler_t flash_handler(const mrpc_entry_t *function) {
    microrpc_handler_t handler;
    memcpy_P(&handler, &function->handler, sizeof handler);
    return handler;
}

#else

#define IN_FLASH
#define FLASH_TEXT(text) text
#define flash8(at) (*(at))
#define flash16(at) (*(at))
#define flash32(at) (*(at))
#define flash_handler(function) ((function)->handler)

#endif

#endif
