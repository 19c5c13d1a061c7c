/* What a table of functions is made of, which differs where constants are in RAM unless they are told to stay in flash. */
#ifndef MICRORPC_TABLE_H
#define MICRORPC_TABLE_H

#include "microrpc_parts.h"

/* An AVR has all constants in RAM that are not told to stay in flash. A table of functions is, by its type: its texts
 * lie inside of it, and are shorter than MICRORPC_NAME_BYTES, _SIGNATURE_BYTES and _DOC_BYTES (microrpc_parts.h), or the
 * compiler complains. MICRORPC_NO_TEXT in the place of one says that there is none; elsewhere NULL does, too. */
#if defined __AVR__ && !defined __clang__
#define MICRORPC_TABLES_IN_FLASH 1
#define MICRORPC_TABLE_TYPE __attribute__((__progmem__))
#define MICRORPC_TABLE_TEXT(name, size_bytes) char name[size_bytes]
#define MICRORPC_NO_TEXT ""
#else
#define MICRORPC_TABLES_IN_FLASH 0
#define MICRORPC_TABLE_TYPE
#define MICRORPC_TABLE_TEXT(name, size_bytes) const char *name
#define MICRORPC_NO_TEXT NULL
#endif

#if MICRORPC_TABLES_IN_FLASH
#define MICRORPC_FITS(text, size_bytes) sizeof(char[sizeof(text) <= (size_bytes) ? 1 : -1])
#define MICRORPC_NAMED(name, function) name, (MICRORPC_FITS(name, MICRORPC_NAME_BYTES) ? (function) : (function))
#if MICRORPC_DESCRIBE
#define MICRORPC_FUNCTION_AS(name, function, signature, doc)                                                       \
    {MICRORPC_NAMED(name, (MICRORPC_FITS(signature, MICRORPC_SIGNATURE_BYTES) &&                                    \
                           MICRORPC_FITS(doc, MICRORPC_DOC_BYTES) ? (function) : (function))), signature, doc}
#else
#define MICRORPC_FUNCTION_AS(name, function, signature, doc) {MICRORPC_NAMED(name, function)}
#endif
#else
#define MICRORPC_NAMED(name, function) name, function
#if MICRORPC_DESCRIBE
#define MICRORPC_FUNCTION_AS(name, function, signature, doc) {MICRORPC_NAMED(name, function), signature, doc}
#else
#define MICRORPC_FUNCTION_AS(name, function, signature, doc) {MICRORPC_NAMED(name, function)}
#endif
#endif

#endif
