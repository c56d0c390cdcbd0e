#include "trainer/tensor/bf16.h"
#include "trainer/tensor/simd.h"

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) static void from_f32_bf16(
    const float *x, size_t n, sl_bf16 *y)
{
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        _mm512_storeu_si512(
            y + i, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + i + 16), _mm512_loadu_ps(x + i)));
    for (; i < n; i += 16) {
        __mmask16 m = n - i >= 16 ? 0xFFFF : (__mmask16)((1u << (n - i)) - 1);
        _mm256_mask_storeu_epi16(y + i, m, (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(m, x + i)));
    }
}
#endif

SL_CLONES static void from_f32(const float *x, size_t n, sl_bf16 *y)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        y[i] = sl_bf16_round(x[i]);
}

void sl_bf16_from_f32(const float *x, size_t n, sl_bf16 *y)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vl")) {
        from_f32_bf16(x, n, y);
        return;
    }
#endif
    from_f32(x, n, y);
}

SL_CLONES void sl_bf16_to_f32(const sl_bf16 *x, size_t n, float *y)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        y[i] = sl_bf16_widen(x[i]);
}
