/* The CPU's time stamp counter: for accounts of where time goes, not for protocol clocks. */
#pragma once

#include <stdint.h>

#if defined(__x86_64__)
#include <x86intrin.h>
static inline uint64_t sl_cycles(void)
{
    return __rdtsc();
}
#elif defined(__aarch64__)
static inline uint64_t sl_cycles(void)
{
    uint64_t v;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(v));
    return v;
}
#else
#error "no time stamp counter known for this CPU"
#endif
