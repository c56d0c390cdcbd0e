/* One native vector of floats for the instruction set that this file is compiled for, with the loads and
 * stores that tails and bf16 need. Only for files compiled per instruction set: everything here is inlined,
 * so that no variant leaks into another. */
#pragma once

#include "trainer/tensor/bf16.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
#include <immintrin.h>
enum { VL = 16 };
#elif defined __AVX2__
#include <immintrin.h>
enum { VL = 8 };
#else
enum { VL = 4 };
#endif

#define SL_INLINE static inline __attribute__((always_inline, unused))

typedef float vf __attribute__((vector_size(VL * 4)));
typedef uint32_t vu __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef uint16_t vh __attribute__((vector_size(VL * 2)));
/* The same in memory: any alignment, any declared type. */
typedef float vf_mem __attribute__((vector_size(VL * 4), aligned(4), may_alias));
typedef uint16_t vh_mem __attribute__((vector_size(VL * 2), aligned(2), may_alias));

SL_INLINE vf v_set(float x)
{
    return x - (vf){0}; /* exact, -0 included */
}

SL_INLINE vf v_select(vi mask, vf yes, vf no)
{
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}

/* b where either is NaN. */
SL_INLINE vf v_max(vf a, vf b)
{
#ifdef __AVX512F__
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined __AVX2__
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return v_select(a > b, a, b);
#endif
}

SL_INLINE vf v_min(vf a, vf b)
{
#ifdef __AVX512F__
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined __AVX2__
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return v_select(a < b, a, b);
#endif
}

/* 0, 1, 2, ... */
SL_INLINE vi v_lanes(void)
{
    vi lanes;
    for (int i = 0; i < VL; i++)
        lanes[i] = i;
    return lanes;
}

/* Halves added to halves, so always in the same order. */
SL_INLINE float v_sum(vf x)
{
#ifdef __AVX512F__
    return _mm512_reduce_add_ps((__m512)x);
#else
    float part[VL];
    memcpy(part, &x, sizeof part);
    for (int n = VL / 2; n; n /= 2)
        for (int i = 0; i < n; i++)
            part[i] += part[i + n];
    return part[0];
#endif
}

SL_INLINE float v_highest(vf x)
{
#ifdef __AVX512F__
    return _mm512_reduce_max_ps((__m512)x);
#else
    float part[VL];
    memcpy(part, &x, sizeof part);
    for (int i = 1; i < VL; i++)
        part[0] = part[i] > part[0] ? part[i] : part[0];
    return part[0];
#endif
}

/* n < VL: the lanes beyond are zero, and their memory is not touched. */
SL_INLINE vf v_load(const float *p, uint32_t n)
{
    if (n == VL)
        return *(const vf_mem *)p;
#ifdef __AVX512F__
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#else
    vf x = {0};
    memcpy(&x, p, n * sizeof *p);
    return x;
#endif
}

SL_INLINE void v_store(float *p, vf x, uint32_t n)
{
    if (n == VL) {
        *(vf_mem *)p = x;
        return;
    }
#ifdef __AVX512F__
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)x);
#else
    memcpy(p, &x, n * sizeof *p);
#endif
}

SL_INLINE vf v_widen(vh x)
{
    return (vf)(__builtin_convertvector(x, vu) << 16);
}

/* As sl_bf16_round; AVX512_BF16 flushes subnormals. */
SL_INLINE vh v_round(vf x)
{
#ifdef __AVX512BF16__
    return (vh)_mm512_cvtneps_pbh((__m512)x);
#else
    vu u = (vu)x;
    vi nan = x != x;
    vu rounded = (u + 0x7FFFu + ((u >> 16) & 1u)) >> 16, quiet = u >> 16 | 0x40u;
    return __builtin_convertvector(((vu)nan & quiet) | (~(vu)nan & rounded), vh);
#endif
}

SL_INLINE vf v_load_bf16(const sl_bf16 *p, uint32_t n)
{
    if (n == VL)
        return v_widen(*(const vh_mem *)p);
#ifdef __AVX512F__
    return v_widen((vh)_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p));
#else
    vh x = {0};
    memcpy(&x, p, n * sizeof *p);
    return v_widen(x);
#endif
}

SL_INLINE void v_store_bf16(sl_bf16 *p, vf x, uint32_t n)
{
    vh h = v_round(x);
    if (n == VL) {
        *(vh_mem *)p = h;
        return;
    }
#ifdef __AVX512F__
    _mm256_mask_storeu_epi16(p, (__mmask16)((1u << n) - 1), (__m256i)h);
#else
    memcpy(p, &h, n * sizeof *p);
#endif
}

/* Elements [at, at + n) of a matrix in either storage. */
SL_INLINE vf v_get(const void *p, bool bf16, size_t at, uint32_t n)
{
    return bf16 ? v_load_bf16((const sl_bf16 *)p + at, n) : v_load((const float *)p + at, n);
}

SL_INLINE void v_put(void *p, bool bf16, size_t at, vf x, uint32_t n)
{
    if (bf16)
        v_store_bf16((sl_bf16 *)p + at, x, n);
    else
        v_store((float *)p + at, x, n);
}

static const float v_log2e = 1.44269504088896341f;

/* 2^x for x up to 127, within 2 ulp, or where `rough` within 3e-6, which is plenty for what is rounded to
 * bf16 next; 0 below -125 (or the subnormal, with AVX-512), NaN stays NaN. x = n + r, |r| <= 1/2, and
 * polynomials of degree 6 and 4 with the least relative error on that interval. */
SL_INLINE vf v_exp2(vf x, bool rough)
{
#ifdef __AVX512F__
    vf c = v_max(v_set(-151.0f), x);
    vf n = (vf)_mm512_roundscale_ps((__m512)c, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    const float round = 12582912.0f; /* 1.5·2^23: adding it leaves the integer in the low mantissa bits */
    vf c = v_min(v_set(127.0f), v_max(v_set(-125.0f), x));
    vf shifted = c + round;
    vf n = shifted - round;
#endif
    vf r = c - n, p;
    if (rough) {
        p = v_set(9.582852944731712e-3f);
        p = p * r + 5.5906426161527634e-2f;
        p = p * r + 0.24024099111557007f;
        p = p * r + 0.6931241750717163f;
    } else {
        p = v_set(1.5353361959569156e-4f);
        p = p * r + 1.3398873852565885e-3f;
        p = p * r + 9.61843691766262e-3f;
        p = p * r + 5.5503323674201965e-2f;
        p = p * r + 0.24022647738456726f;
        p = p * r + 0.6931471824645996f;
    }
    p = p * r + 1.0f;
#ifdef __AVX512F__
    return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    return v_select(x < -125.0f, (vf){0}, (vf)((vi)p + ((vi)shifted << 23)));
#endif
}

/* 1/x for x in [1, 2e38], within 2 ulp. */
SL_INLINE vf v_inverse(vf x)
{
#ifdef __AVX512F__
    vf y = (vf)_mm512_rcp14_ps((__m512)x);
    return y * (2.0f - x * y);
#else
    return 1.0f / x;
#endif
}

/* 1/(1 + 2^x). */
SL_INLINE vf v_logistic2(vf x, bool rough)
{
    return v_inverse(1.0f + v_exp2(v_min(v_set(126.0f), x), rough));
}
