#ifndef ZEPHYR_KERNEL_H
#define ZEPHYR_KERNEL_H

#include <semaphore.h>
#include <stddef.h>
#include <stdint.h>

#define ARG_UNUSED(name) (void)(name)

struct k_sem {
    sem_t semaphore;
};

typedef struct {
    int64_t ticks;
} k_timeout_t;

#define K_FOREVER ((k_timeout_t){-1})

/* They begin with a count of 0 here. */
#define K_SEM_DEFINE(name, count, limit) struct k_sem name

void k_sem_give(struct k_sem *semaphore);
int k_sem_take(struct k_sem *semaphore, k_timeout_t timeout);
int32_t k_msleep(int32_t ms);

int64_t k_uptime_ticks(void);
uint32_t k_cycle_get_32(void);
int sys_clock_hw_cycles_per_sec(void); /* unsigned in newer versions */
uint64_t k_ticks_to_cyc_floor64(uint64_t ticks);

#endif
