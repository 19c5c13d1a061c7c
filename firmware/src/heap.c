/* The heap: first fit, with the table of blocks at its end, so that nothing lies between the blocks that a function
 * could overwrite (docs/device.md 3). */
#include "microrpc_internal.h"

#define ENTRY_BYTES 8u
#define KIND_SHIFT 30
#define SIZE_MASK 0x3FFFFFFFu

typedef struct {
    uint32_t offset;
    uint32_t size_and_kind;
} entry_t;

/* The table grows downwards; entry 0, of the lowest block, is the highest. */
static entry_t *entry(const mrpc_heap_t *heap, uint32_t index) {
    return (entry_t *)(void *)(heap->base + heap->size_bytes) - 1 - index;
}

static uint32_t size_of(const entry_t *block) { return block->size_and_kind & SIZE_MASK; }

static uint32_t end_of(const entry_t *block) { return block->offset + size_of(block); }

static mrpc_block_kind_t kind_of(const entry_t *block) {
    return (mrpc_block_kind_t)(block->size_and_kind >> KIND_SHIFT);
}

/* The block with the highest address that is not above `address`, NULL where there is none or no heap; how far the
 * address is past its beginning in `skipped`. */
static entry_t *find(const mrpc_heap_t *heap, uint64_t address, uint32_t *skipped) {
    uint64_t offset = address - (uintptr_t)heap->base;
    if (offset >> 32) return NULL;
    for (uint32_t i = heap->count; i--;) {
        entry_t *block = entry(heap, i);
        *skipped = (uint32_t)offset - block->offset;
        if (block->offset <= (uint32_t)offset) return block;
    }
    return NULL;
}

#if MICRORPC_MEMORY
uint32_t mrpc_heap_used(const mrpc_heap_t *heap) {
    uint32_t used_bytes = ENTRY_BYTES * heap->count;
    for (uint32_t i = heap->count; i--;) used_bytes += size_of(entry(heap, i));
    return used_bytes;
}

uint32_t mrpc_heap_largest(microrpc_t *device) {
    mrpc_heap_alloc(device, INT64_MAX, 8, BLOCK_DATA); /* never there: so it looks at every gap */
    return device->heap.largest_bytes;
}
#endif

static void insert(mrpc_heap_t *heap, uint32_t index, uint32_t offset, uint32_t size, mrpc_block_kind_t kind) {
    uint32_t moved = heap->count++ - index;
    entry_t *last = entry(heap, heap->count - 1);
    memmove(last, last + 1, (size_t)moved * ENTRY_BYTES);
    entry(heap, index)->offset = offset;
    entry(heap, index)->size_and_kind = size | (uint32_t)kind << KIND_SHIFT;
#if MICRORPC_MEMORY
    if (mrpc_heap_used(heap) > heap->most_used_bytes) heap->most_used_bytes = mrpc_heap_used(heap);
#endif
}

void *mrpc_heap_alloc(microrpc_t *device, uint64_t size, uint64_t alignment, mrpc_block_kind_t kind) {
    mrpc_heap_t *heap = &device->heap;
    uint32_t taken = size >> KIND_SHIFT ? UINT32_MAX : size ? (uint32_t)size : 1, mask = (uint32_t)alignment - 1;
    uint32_t base = (uint32_t)(uintptr_t)heap->base, start = 0, largest = 0;
    uint32_t table_bytes = ENTRY_BYTES * (heap->count + 1), limit = heap->size_bytes - table_bytes;
    if (size >> 63 || (alignment - 1) >> KIND_SHIFT || alignment & mask) {
        mrpc_fail_with(device, FAILURE_CANNOT_ALLOCATE, size, alignment);
        return NULL;
    }
    if (table_bytes <= heap->size_bytes && !(heap->count && end_of(entry(heap, heap->count - 1)) > limit)) {
        for (uint32_t i = 0; i <= heap->count; i++) {
            const entry_t *block = entry(heap, i);
            uint32_t end = i < heap->count ? block->offset : limit;
            uint32_t offset = start + ((0 - base - start) & mask);
            if (offset <= end && taken <= end - offset) {
                insert(heap, i, offset, taken, kind);
                return memset(heap->base + offset, 0, (size_t)taken);
            }
            if (offset <= end && end - offset > largest) largest = end - offset;
            start = i < heap->count ? end_of(block) : 0;
        }
    }
#if MICRORPC_MEMORY
    heap->largest_bytes = largest;
#endif
    mrpc_fail_with(device, FAILURE_OUT_OF_MEMORY, size, largest);
    return NULL;
}

static entry_t *block_at(const mrpc_heap_t *heap, uint64_t address, mrpc_block_kind_t kind) {
    uint32_t skipped;
    entry_t *block = find(heap, address, &skipped);
    return block && !skipped && kind_of(block) == kind ? block : NULL;
}

void *mrpc_heap_block(const microrpc_t *device, uint64_t address, mrpc_block_kind_t kind) {
    return block_at(&device->heap, address, kind) ? (void *)(uintptr_t)address : NULL;
}

bool mrpc_heap_release(microrpc_t *device, uint64_t address, mrpc_block_kind_t kind) {
    mrpc_heap_t *heap = &device->heap;
    const entry_t *block = block_at(heap, address, kind);
    entry_t *last;
    if (!block) return false;
    last = entry(heap, --heap->count);
    memmove(last + 1, last, (size_t)(block - last) * ENTRY_BYTES);
    return true;
}

uint32_t mrpc_heap_free_all(microrpc_t *device) {
    mrpc_heap_t *heap = &device->heap;
    uint32_t freed_bytes = 0;
    while (heap->count) freed_bytes += size_of(entry(heap, --heap->count));
    return freed_bytes;
}

bool mrpc_heap_free(microrpc_t *device, uint64_t address) {
    return mrpc_heap_release(device, address, BLOCK_DATA) ||
           mrpc_fail_with(device, FAILURE_CANNOT_FREE, address, 0);
}

uint8_t *mrpc_heap_view(microrpc_t *device, uint64_t address, uint64_t size) {
    uint32_t skipped;
    const entry_t *block = find(&device->heap, address, &skipped);
    if (block && kind_of(block) != BLOCK_OBJECT && skipped <= size_of(block) && size <= size_of(block) - skipped)
        return (uint8_t *)(uintptr_t)address;
    mrpc_fail_with(device, FAILURE_NOT_INSIDE, size, address);
    return NULL;
}
