/* The one clock of the data plane's I/O: the times that it gives to sans-IO code, and to deadlines of its
 * own. Any thread; through the vDSO, so not a syscall where the clock source allows it. */
#pragma once

#include <stdint.h>
#include <time.h>

static inline uint64_t sl_clock_ns(void) /* CLOCK_MONOTONIC */
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
