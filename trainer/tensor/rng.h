/* Counter-based random numbers: value i of a stream is a pure function of (seed, name, i), never of call
 * order (rules L5). The mixer is SplitMix64's finaliser (Steele, Lea, Flood 2014) over key + (i+1)·2^64/φ;
 * names are hashed by FNV-1a (64 bit). tests/model/reference.py has the same functions. No state, any thread.
 */
#pragma once

#include <stdint.h>

static inline uint64_t sl_rng_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static inline uint64_t sl_rng_key(uint64_t seed, const char *name)
{
    uint64_t hash = 0xCBF29CE484222325u;
    for (const unsigned char *c = (const unsigned char *)name; *c; c++)
        hash = (hash ^ *c) * 0x100000001B3u;
    return sl_rng_mix(sl_rng_mix(seed) ^ hash);
}

static inline uint64_t sl_rng_u64(uint64_t key, uint64_t i)
{
    return sl_rng_mix(key + (i + 1) * 0x9E3779B97F4A7C15u);
}

/* Uniform in [-1, 1), a multiple of 2^-23, so exact in f32. */
static inline float sl_rng_uniform(uint64_t key, uint64_t i)
{
    return (float)((int32_t)(sl_rng_u64(key, i) >> 40) - (1 << 23)) * 0x1p-23f;
}

/* Uniform in (0, 1): the middles of 2^52 equal parts, so neither end comes, and its logarithm is finite. */
static inline double sl_rng_open(uint64_t key, uint64_t i)
{
    return ((double)(sl_rng_u64(key, i) >> 12) + 0.5) * 0x1p-52;
}

/* Standard normal (Box-Muller in double, rounded once). */
float sl_rng_normal(uint64_t key, uint64_t i);
