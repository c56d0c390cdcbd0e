/* The one pool of threads of all kernels. Work is cut into static ranges, so a result depends on the number
 * of threads at most, never on their timing (rules L7). Threads without work spin for some 20 µs and then
 * sleep: OpenMP's, which spin far longer, made a step on a shared host three times as slow as one thread
 * (docs/decisions.md).
 *
 * The helpers inherit the affinity of the thread that first runs a parallel range with more than one thread
 * (rules T17): a caller that is pinned to one core pins the pool there. A second caller at the same time does
 * its ranges itself, one after another. With one thread there is no pool at all. */
#pragma once

#include <stdint.h>

/* Threads of every later range in this process: 1 until called. Kernels size their scratch for the number at
 * that time: whatever asked for scratch before must not be used with more. */
void sl_parallel_set_threads(uint32_t n);
uint32_t sl_parallel_threads(void);

/* One call does [first, first + n). `thread` is below sl_parallel_threads(): for scratch of its own. */
typedef void sl_range_fn(void *ctx, uint32_t thread, uint32_t first, uint32_t n);
/* Runs f over [0, total), one range per thread, cut at multiples of `grain` (1 or more); a thread without
 * work is not called. Inside a range it runs everything in the calling thread. */
void sl_parallel(uint32_t total, uint32_t grain, sl_range_fn *f, void *ctx);
