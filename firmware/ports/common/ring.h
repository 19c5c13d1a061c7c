/* A ring between the interrupt, which puts, and the main loop, which takes. It remembers where bytes were lost, so that
 * the loss is told after the bytes that came before it.
 *
 * The indices run on and wrap at 2^32; each is written by one side only. */
#ifndef RING_H
#define RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef RING_BYTES
#define RING_BYTES 8192
#elif RING_BYTES < 2 || RING_BYTES > 0x1000000 || (RING_BYTES & (RING_BYTES - 1)) != 0
#error "RING_BYTES must be a power of 2 from 2 to 16777216"
#endif

/* What the host is told. It may send as much ahead besides the smallest request that it sends, which is no larger: a
 * ring of twice the size has room for all even if the main loop has not yet begun with the first. */
#define RING_WINDOW_BYTES (RING_BYTES / 2)

typedef struct {
    uint32_t put, losses, lost_at;
    uint32_t taken, told;
    uint8_t bytes[RING_BYTES];
} ring_t;

/* Not by __atomic_load_n and __atomic_store_n: a Cortex-M0 has no instructions that clang takes for atomic, though a word
 * is read and written at once there, too. The fences keep the order: the bytes are there before the index says so. */
static inline uint32_t ring_load(const uint32_t *word) {
    uint32_t value = *(const volatile uint32_t *)word;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return value;
}

static inline void ring_store(uint32_t *word, uint32_t value) {
    __atomic_thread_fence(__ATOMIC_RELEASE);
    *(volatile uint32_t *)word = value;
}

/* The interrupt's side. */

static inline void ring_lose(ring_t *ring) {
    ring_store(&ring->lost_at, ring->put);
    ring_store(&ring->losses, ring->losses + 1);
}

static inline void ring_put(ring_t *ring, uint8_t byte) {
    uint32_t put = ring->put;
    if (put - ring_load(&ring->taken) == RING_BYTES) {
        ring_lose(ring);
        return;
    }
    ring->bytes[put % RING_BYTES] = byte;
    ring_store(&ring->put, put + 1);
}

/* The main loop's side. */

/* The bytes that can be taken before a loss has to be told, or before the ring is empty. */
static inline uint32_t ring_available(const ring_t *ring) {
    /* First of all: if no loss is seen afterwards, there is none in front of what was put by now. */
    uint32_t put = ring_load(&ring->put);
    return (ring_load(&ring->losses) != ring->told ? ring_load(&ring->lost_at) : put) - ring->taken;
}

/* Whether there is nothing to do: no bytes, no loss. */
static inline bool ring_is_idle(const ring_t *ring) {
    return ring_load(&ring->put) == ring->taken && ring_load(&ring->losses) == ring->told;
}

/* Take at most `size` bytes. They are copied, so that their room is free while the main loop works on them. */
static inline size_t ring_take(ring_t *ring, uint8_t *bytes, size_t size) {
    uint32_t available = ring_available(ring);
    uint32_t count = available < size ? available : (uint32_t)size;
    for (uint32_t i = 0; i < count; i++) {
        bytes[i] = ring->bytes[(ring->taken + i) % RING_BYTES];
    }
    ring_store(&ring->taken, ring->taken + count);
    return count;
}

/* Whether bytes were lost right here: true once per loss. Of several losses the last one counts, which is the one that
 * nothing else may show; what came between them shows the others. */
static inline bool ring_take_loss(ring_t *ring) {
    uint32_t losses = ring_load(&ring->losses);
    if (losses == ring->told || ring_load(&ring->lost_at) != ring->taken) {
        return false;
    }
    ring->told = losses;
    return true;
}

#endif
