/* What a table of functions is made of, which differs where constants are in RAM unless they are told to stay in flash. */
#ifndef MICRORPC_TABLE_H
#define MICRORPC_TABLE_H

#include "microrpc_parts.h"

/* An AVR has all constants in RAM that are not told to stay in flash. A table of functions is, by its type: its texts
 * lie inside of it, and are shorter than MICRORPC_NAME_BYTES, _SIGNATURE_BYTES and _DOC_BYTES (microrpc_parts.h), or the
 * compiler complains. It is a static constant of functions that have names: what is put together when the program runs, lies
 * in RAM, where nobody looks for it. MICRORPC_NO_TEXT in the place of one says that there is none; elsewhere NULL does, too. */
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
/* Before C++17 a lambda has its address only when the program runs: it would be written where no RAM is. `noexcept` takes
 * none, and says so. */
#if defined __cplusplus && __cplusplus < 201703L
#define MICRORPC_HANDLER(function) (noexcept(function) ? (function) : (function))
#else
#define MICRORPC_HANDLER(function) (function)
#endif
#define MICRORPC_FITS(text, size_bytes) sizeof(char[sizeof(text) <= (size_bytes) ? 1 : -1])
#define MICRORPC_CHECKED(name, function, fits)                                                                      \
    name, ((fits) && MICRORPC_FITS(name, MICRORPC_NAME_BYTES) ? MICRORPC_HANDLER(function) : NULL)
#define MICRORPC_NAMED(name, function) MICRORPC_CHECKED(name, function, true)
#define MICRORPC_DESCRIBED(name, function, signature, doc)                                                         \
    MICRORPC_CHECKED(name, function, MICRORPC_FITS(signature, MICRORPC_SIGNATURE_BYTES) &&                          \
                                         MICRORPC_FITS(doc, MICRORPC_DOC_BYTES)), signature, doc
#else
#define MICRORPC_NAMED(name, function) name, function
#define MICRORPC_DESCRIBED(name, function, signature, doc) MICRORPC_NAMED(name, function), signature, doc
#endif

#if MICRORPC_DESCRIBE
#define MICRORPC_FUNCTION_AS(name, function, signature, doc) {MICRORPC_DESCRIBED(name, function, signature, doc)}
#else
#define MICRORPC_FUNCTION_AS(name, function, signature, doc) {MICRORPC_NAMED(name, function)}
#endif

#endif
