#include "trainer/tensor/parallel.h"

#include <stdatomic.h>
/* ThreadSanitizer does not see gomp's barriers, and would report every range as a race. */
#if defined(_OPENMP) && !defined(__SANITIZE_THREAD__)
#define SL_TEAMS
#include <omp.h>
#endif

static _Atomic uint32_t n_threads = 1;

void sl_parallel_set_threads(uint32_t n)
{
#ifdef SL_TEAMS
    atomic_store_explicit(&n_threads, n ? n : 1, memory_order_relaxed);
#else
    (void)n; /* without OpenMP: one thread */
#endif
}

uint32_t sl_parallel_threads(void)
{
    return atomic_load_explicit(&n_threads, memory_order_relaxed);
}

#ifdef SL_TEAMS
static void team(uint32_t threads, uint32_t total, uint32_t grain, sl_range_fn *f, void *ctx)
{
    uint64_t units = (total + (uint64_t)grain - 1) / grain;
#pragma omp parallel num_threads(threads)
    {
        /* OpenMP may give fewer threads than asked for: every range is still done, by index modulo the team.
         */
        uint32_t got = (uint32_t)omp_get_num_threads();
        for (uint32_t t = (uint32_t)omp_get_thread_num(); t < threads; t += got) {
            uint64_t first = units * t / threads * grain, end = units * (t + 1) / threads * grain;
            if (end > total)
                end = total;
            if (first < end)
                f(ctx, t, (uint32_t)first, (uint32_t)(end - first));
        }
    }
}
#endif

void sl_parallel(uint32_t total, uint32_t grain, sl_range_fn *f, void *ctx)
{
    if (!total)
        return;
#ifdef SL_TEAMS
    uint32_t threads = sl_parallel_threads();
    if (threads > 1 && total > grain && !omp_in_parallel()) {
        team(threads, total, grain, f, ctx);
        return;
    }
#endif
    f(ctx, 0, 0, total);
}
