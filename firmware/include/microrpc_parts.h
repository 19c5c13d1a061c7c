/* Which parts the library has: each is a flag, given to the compiler or changed here. */
#ifndef MICRORPC_PARTS_H
#define MICRORPC_PARTS_H

/* 0 leaves the link extension out: smaller, and as careful as the stock protocol permits. */
#ifndef MICRORPC_LINK
#define MICRORPC_LINK 1
#endif

/* 0 leaves the function microrpc.release_all out, with which a host frees what a killed one has left. */
#ifndef MICRORPC_RELEASE_ALL
#define MICRORPC_RELEASE_ALL 1
#endif

/* 0 leaves out the argument lists that the time evaluator had before TVM 0.10: it takes 11 and 12 then, not 8 and 10. */
#ifndef MICRORPC_OLD_TIME_EVALUATORS
#define MICRORPC_OLD_TIME_EVALUATORS 1
#endif

/* What follows is left out unless it is 1 (docs/firmware.md has the size of each). All but the description, the memory
 * report, the models and the hooks need the link. `microrpc firmware new` switches on what MICRORPC_BY_DEFAULT has here, where the
 * board has 64 KiB of flash; a sketch has no other place for flags than this one, and has them but on an AVR with less
 * than 4 KiB of RAM. */
#if defined ARDUINO && defined __AVR__
#include <avr/io.h>
#define MICRORPC_BY_DEFAULT (RAMEND - RAMSTART >= 4096)
#elif defined ARDUINO
#define MICRORPC_BY_DEFAULT 1
#else
#define MICRORPC_BY_DEFAULT 0
#endif

/* The function microrpc.describe: what functions there are, what they take, and what they do (docs/description.md). */
#ifndef MICRORPC_DESCRIBE
#define MICRORPC_DESCRIBE MICRORPC_BY_DEFAULT
#endif

/* microrpc_event(): what the board says without being asked (docs/link.md 8). */
#ifndef MICRORPC_EVENTS
#define MICRORPC_EVENTS MICRORPC_BY_DEFAULT
#endif

/* Events that are kept until the host has them; needs MICRORPC_EVENTS. */
#ifndef MICRORPC_RELIABLE_EVENTS
#define MICRORPC_RELIABLE_EVENTS 0
#endif

/* microrpc_progress() and microrpc_is_cancelled(), for functions that take long (docs/link.md 9). */
#ifndef MICRORPC_PROGRESS
#define MICRORPC_PROGRESS MICRORPC_BY_DEFAULT
#endif

/* The function microrpc.memory: what is used of the heap and of the stack. */
#ifndef MICRORPC_MEMORY
#define MICRORPC_MEMORY 0
#endif

/* Models, and the functions that tell of them and run them (microrpc_model.h, docs/models.md). */
#ifndef MICRORPC_MODELS
#define MICRORPC_MODELS 0
#endif

/* What the port is told: `idle`, `flush`, and with the link `on_session` and a host that is gone (docs/link.md 10). */
#ifndef MICRORPC_HOOKS
#define MICRORPC_HOOKS 0
#endif

/* What needs another part is left out with it. */
#if !MICRORPC_LINK
#undef MICRORPC_EVENTS
#define MICRORPC_EVENTS 0
#undef MICRORPC_PROGRESS
#define MICRORPC_PROGRESS 0
#endif
#if !MICRORPC_EVENTS
#undef MICRORPC_RELIABLE_EVENTS
#define MICRORPC_RELIABLE_EVENTS 0
#endif

/* The longest event, in bytes: 10, its name, and for each value 9, or 3 and the bytes of a text or of bytes. At most 4089,
 * and 7 less than `packet_bytes`. It is put together on the stack. */
#ifndef MICRORPC_EVENT_BYTES
#define MICRORPC_EVENT_BYTES 128
#endif

/* On an AVR: the room for each text in a table of functions, with a NUL at its end. */
#ifndef MICRORPC_NAME_BYTES
#define MICRORPC_NAME_BYTES 36
#endif
#ifndef MICRORPC_SIGNATURE_BYTES
#define MICRORPC_SIGNATURE_BYTES 72
#endif
#ifndef MICRORPC_DOC_BYTES
#define MICRORPC_DOC_BYTES 112
#endif

#endif
