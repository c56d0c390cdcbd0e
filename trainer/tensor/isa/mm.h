/* Small matrix products in registers, the inner loops of attention, compiled per instruction set.
 *
 *   c[m][v] (+)= sum over k of a(m, k) · b[v][k]      m < MM_ROWS, v: vectors of VL columns
 *
 * b lies in panels of one vector: panel v is [k][VL], b_v floats after panel v - 1, so that a product reads a
 * few contiguous streams whatever the matrix' width. a is read one element at a time and broadcast: by rows
 * (a + m lda + k) or by columns (a + k lda + m).
 * In bf16 an "element" of a and b is a pair of values, consecutive in k, in 32 bits (VDPBF16PS). */
#pragma once

#include "trainer/tensor/isa/vec.h"

enum { MM_ROWS = 8 };
/* Vectors side by side: 8 x 3 sums of 32 registers; 8 of 16. */
#ifdef __AVX512F__
enum { MM_VECTORS = 3 };
#else
enum { MM_VECTORS = 1 };
#endif

SL_INLINE vf mm_step(bool bf16, vf sum, float a, vf b)
{
#ifdef __AVX512BF16__
    if (bf16)
        return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)(vf)_mm512_set1_ps(a), (__m512bh)b);
#endif
    return sum + a * b;
}

SL_INLINE void mm_block(bool bf16, bool columns, bool add, int nv, uint32_t depth, const float *a, size_t lda,
    const float *b, size_t b_v, float *c, size_t ldc)
{
    vf sum[MM_ROWS][MM_VECTORS];
#pragma GCC unroll 8
    for (int m = 0; m < MM_ROWS; m++)
#pragma GCC unroll 3
        for (int v = 0; v < nv; v++)
            sum[m][v] = add ? v_load(c + (size_t)m * ldc + v * VL, VL) : (vf){0};
    for (uint32_t k = 0; k < depth; k++, b += VL, a += columns ? lda : 1) {
        vf x[MM_VECTORS];
#pragma GCC unroll 3
        for (int v = 0; v < nv; v++)
            x[v] = v_load(b + (size_t)v * b_v, VL);
#pragma GCC unroll 8
        for (int m = 0; m < MM_ROWS; m++) {
            float from = a[columns ? (size_t)m : (size_t)m * lda];
#pragma GCC unroll 3
            for (int v = 0; v < nv; v++)
                sum[m][v] = mm_step(bf16, sum[m][v], from, x[v]);
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < MM_ROWS; m++)
#pragma GCC unroll 3
        for (int v = 0; v < nv; v++)
            v_store(c + (size_t)m * ldc + v * VL, sum[m][v], VL);
}

/* MM_ROWS rows by `vectors` vectors. */
SL_INLINE void mm(bool bf16, bool columns, bool add, uint32_t vectors, uint32_t depth, const float *a,
    size_t lda, const float *b, size_t b_v, float *c, size_t ldc)
{
    while (vectors) {
        uint32_t nv = vectors == 2 || vectors == 4 ? 2 : vectors < MM_VECTORS ? vectors : MM_VECTORS;
#ifdef __AVX512F__
        if (nv == 3)
            mm_block(bf16, columns, add, 3, depth, a, lda, b, b_v, c, ldc);
        else if (nv == 2)
            mm_block(bf16, columns, add, 2, depth, a, lda, b, b_v, c, ldc);
        else
#endif
        {
            nv = 1;
            mm_block(bf16, columns, add, 1, depth, a, lda, b, b_v, c, ldc);
        }
        b += nv * b_v;
        c += nv * VL;
        vectors -= nv;
    }
}
