/* Where a step's time goes, kernel by kernel: one counter, read between kernels. Whoever computes calls
 * sl_profile_mark AFTER a kernel; everything since the mark before it is that kernel's. With NULL a mark is
 * one branch that is never taken. One thread. */
#pragma once

#include <stdint.h>
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

enum sl_kernel {
    SL_KERNEL_LINEAR,    /* products with frozen weights; their biases, residuals and weight gradients */
    SL_KERNEL_LORA,      /* thin products */
    SL_KERNEL_ATTENTION, /* RoPE included */
    SL_KERNEL_NORM,
    SL_KERNEL_ACTIVATION, /* GELU, SwiGLU */
    SL_KERNEL_HEAD,       /* products with lm_head; the loss as well, where it is one pass with them */
    SL_KERNEL_LOSS,
    SL_KERNEL_ROWS, /* entering, leaving, widening, gathering */
    SL_KERNEL_OPTIMISER,
    SL_KERNEL_COUNT
};

struct sl_profile {
    uint64_t ticks[SL_KERNEL_COUNT], marks[SL_KERNEL_COUNT];
    uint64_t last;
};

/* A clock for shares: cycles of the time stamp counter, nanoseconds elsewhere. */
static inline uint64_t sl_profile_clock(void)
{
#if defined(__x86_64__)
    return __rdtsc();
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
#endif
}

/* What passed since the last mark is nobody's. */
static inline void sl_profile_start(struct sl_profile *p)
{
    if (p)
        p->last = sl_profile_clock();
}

static inline void sl_profile_mark(struct sl_profile *p, enum sl_kernel kernel)
{
    if (!p)
        return;
    uint64_t now = sl_profile_clock();
    p->ticks[kernel] += now - p->last;
    p->marks[kernel]++;
    p->last = now;
}

static inline const char *sl_kernel_name(enum sl_kernel k)
{
    static const char *const names[SL_KERNEL_COUNT] = {
        "linear", "lora", "attention", "norm", "activation", "head", "loss", "rows", "optimiser"};
    return names[k];
}
