/* bfloat16: the upper half of an f32 (1 sign, 8 exponent, 7 fraction bits), stored as its 16 bits. Conversion
 * rounds to nearest, ties to even; NaN stays a (quiet) NaN, and overflow goes to infinity. Pure functions. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t sl_bf16;

static inline sl_bf16 sl_bf16_round(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u)
        return (sl_bf16)(u >> 16 | 0x40u);
    return (sl_bf16)((u + 0x7FFFu + (u >> 16 & 1u)) >> 16);
}

static inline float sl_bf16_widen(sl_bf16 x)
{
    uint32_t u = (uint32_t)x << 16;
    float y;
    memcpy(&y, &u, sizeof y);
    return y;
}

/* Arrays, with the CPU's widest instructions. Subnormals, of f32 and of bf16 alike, may become zero
 * (VCVTNEPS2BF16 flushes them; the plain loop keeps them). x and y do not overlap. */
void sl_bf16_from_f32(const float *x, size_t n, sl_bf16 *y);
void sl_bf16_to_f32(const sl_bf16 *x, size_t n, float *y);
